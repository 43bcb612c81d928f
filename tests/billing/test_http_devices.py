"""Robots over HTTP: registered once, batches in, acks out, and a fitting status for all that isn't right."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
import zstandard

from agent.billing.access.audit import page
from agent.billing.access.registration import Minting
from agent.billing.http import gate
from agent.billing.http.gate import BODY_BYTES_MAX
from agent.contract import ack
from agent.contract.batch import BATCH_BYTES_MAX, sign
from agent.contract.registration import NewKey, Registered, registering, trusted_of
from agent.contract.signing import SigningKey, key_record_data
from tests.billing.helpers import BACKEND_KEY, EPOCH, KEY, NAME, NEXT, TENANT, Robot, usage
from tests.billing.serving import Web, batches, bearer, error, marks, marks_of, state, with_web

OTHER = SigningKey.from_seed(b"o" * 32)
TRUSTED = {BACKEND_KEY.key_id: BACKEND_KEY.public}


def told(answer: httpx.Response) -> ack.Ack:
    """The ack, its signature checked."""
    return ack.read(answer.content, marks_of(answer), TRUSTED)


def test_a_robot_registers_sends_and_is_acked(tmp_path: Path) -> None:
    async def run(web: Web) -> None:
        robot = Robot().begin().turns(6)
        headers = await web.robot()
        for packed in (False, True):
            answer = await web.send(robot, headers, packed=packed)
            assert answer.status_code == 200
            told = ack.read(answer.content, marks_of(answer), TRUSTED)
            assert (told.cum_ack, told.head_hash) == (7, robot.hashes[7].hex())
        assert web.backend.ingest.counts["duplicates"] == 7

    with_web(tmp_path, run)


def test_registering_tells_the_key_that_signs_acks_as_the_jwks_does(tmp_path: Path) -> None:
    async def run(web: Web) -> None:
        token = await web.access.mint(Minting(TENANT, "acme", "new-1"), 1)
        asked = registering(token, TENANT, "new-1", OTHER).model_dump()
        answers = [await web.client.post("/v1/devices", json=asked) for _ in range(2)]
        assert [one.status_code for one in answers] == [201, 201]
        told = Registered.model_validate(answers[0].json())
        assert answers[1].json() == answers[0].json()
        assert trusted_of(told.keys) == TRUSTED == trusted_of((await web.client.get("/.well-known/jwks.json")).json()["keys"])

    with_web(tmp_path, run)


def test_the_mark_carries_the_nonce(tmp_path: Path) -> None:
    async def run(web: Web) -> None:
        robot, headers = Robot().begin().turns(2), await web.robot()
        await web.send(robot, headers)
        for epoch, cum in ((EPOCH, 3), (NEXT, 0)):
            answer = await web.client.get(state(), params={"nonce": "n-1", "epoch": epoch}, headers=headers)
            told = ack.read(answer.content, marks_of(answer), TRUSTED)
            assert (told.nonce, told.epoch, told.cum_ack) == ("n-1", epoch, cum)

    with_web(tmp_path, run)


@pytest.mark.parametrize(
    "params",
    [{}, {"epoch": EPOCH}, {"nonce": "n", "epoch": "x"}] + [{"nonce": nonce, "epoch": EPOCH} for nonce in ("", "n" * 65, "\0", " ", "é")],
    ids=str,
)
def test_a_question_for_the_mark_that_makes_no_sense(tmp_path: Path, params: dict[str, str]) -> None:
    async def run(web: Web) -> None:
        answer = await web.client.get(state(), params=params, headers=await web.robot())
        assert (answer.status_code, error(answer)) == (422, "bad-request")

    with_web(tmp_path, run)


def test_without_an_epoch_the_mark_is_of_the_newest(tmp_path: Path) -> None:
    async def run(web: Web) -> None:
        headers = await web.robot()

        async def asked(device: str = NAME) -> httpx.Response:
            return await web.client.get(state(device), params={"nonce": "n-1"}, headers=headers)

        none = await asked()
        assert (none.status_code, error(none)) == (404, "unknown-epoch")
        await web.send(Robot(NEXT).begin(), headers)
        assert told(await asked()).epoch == NEXT
        web.clock.advance(1)
        await web.send(Robot(EPOCH).begin().turns(1), headers)
        web.clock.advance(1)
        await web.send(Robot(NEXT).begin().turns(1), headers)
        mark = told(await asked())
        assert (mark.epoch, mark.cum_ack, mark.nonce) == (EPOCH, 2, "n-1")
        headers = await web.key("usage:write", tenant=TENANT)
        unknown = await asked("nobody")
        assert (unknown.status_code, error(unknown)) == (404, "unknown-device")

    with_web(tmp_path, run)


def test_a_batch_packed_with_zstd_is_acked(tmp_path: Path) -> None:
    async def run(web: Web) -> None:
        headers, robot = await web.robot(), Robot().begin().turns(20)
        batch = robot.batch()
        more = marks(sign(batch, KEY)) | {"Content-Encoding": "zstd"}
        answer = await web.client.post(batches(), content=zstandard.compress(batch.content), headers=headers | more)
        assert told(answer).cum_ack == 21

    with_web(tmp_path, run)


def test_a_body_that_does_not_come_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "BODY_S", 0.05)

    async def run(web: Web) -> None:
        async def stuck() -> AsyncIterator[bytes]:
            yield b"{"
            await asyncio.Event().wait()

        headers = await web.robot()
        async with asyncio.timeout(20):
            answer = await web.client.post(batches(), content=stuck(), headers=headers)
        assert (answer.status_code, error(answer)) == (408, "too-slow")

    with_web(tmp_path, run)


def test_a_fork_is_409_with_the_ack_and_on_record(tmp_path: Path) -> None:
    async def run(web: Web) -> None:
        headers = await web.robot()
        await web.send(Robot().begin().turns(3), headers)
        answer = await web.send(Robot().begin().turns(3, prefix="other"), headers)
        assert answer.status_code == 409
        told = ack.read(answer.content, marks_of(answer), TRUSTED)
        assert [(one.code, one.final) for one in told.rejects] == [("fork", False)]
        assert "fork" in [line["action"] for line in (await web.store.read(page))["entries"]]
        assert web.backend.ingest.counts["forks"] > 0

    with_web(tmp_path, run)


def test_negative_tokens_are_rejected_alone(tmp_path: Path) -> None:
    async def run(web: Web) -> None:
        robot, headers = Robot().begin(), await web.robot()
        robot.append("usage", usage() | {"gen_ai.usage.output_tokens": -5})
        answer = await web.send(robot, headers)
        told = ack.read(answer.content, marks_of(answer), TRUSTED)
        assert (answer.status_code, told.cum_ack, [one.final for one in told.rejects]) == (200, 2, [True])

    with_web(tmp_path, run)


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"", 400, "bad-batch"),
        (b"null", 400, "bad-batch"),
        (b"{}", 400, "bad-batch"),
        (b"\xff\xfe", 400, "bad-batch"),
        (b"[" * 60_000, 400, "bad-batch"),
        (b'{"a":' * 10_000, 400, "bad-batch"),
        (b" " * (BATCH_BYTES_MAX + 1), 413, "too-big"),
        (b" " * (BODY_BYTES_MAX + 1), 413, "too-big"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_what_is_no_batch_is_refused_though_it_is_signed(tmp_path: Path, content: bytes, status: int, code: str) -> None:
    async def run(web: Web) -> None:
        from agent.contract.signing import signed

        headers = await web.robot() | marks(signed(content, KEY))
        answer = await web.client.post(batches(), content=content, headers=headers)
        assert (answer.status_code, error(answer)) == (status, code)

    with_web(tmp_path, run)


def test_a_batch_by_no_key_or_the_wrong_one(tmp_path: Path) -> None:
    async def run(web: Web) -> None:
        robot, headers = Robot().begin().turns(1), await web.robot()
        batch = robot.batch()
        good, others = marks(sign(batch, KEY)), marks(sign(batch, OTHER))
        wanted: list[tuple[dict[str, Any], int, str]] = [
            ({}, 400, "bad-signature"),
            (others, 422, "unknown-key"),
            (good | {"VX-Signature": others["VX-Signature"]}, 400, "bad-signature"),
            (good | {"VX-Signature": "é".encode()}, 400, "bad-signature"),
            (good | {"VX-Signature": "x" * 201}, 422, "bad-request"),
        ]
        for given, status, code in wanted:
            answer = await web.client.post(batches(), content=batch.content, headers=headers | given)
            assert (answer.status_code, error(answer)) == (status, code), given
        assert web.backend.ingest.counts["records"] == 0

    with_web(tmp_path, run)


def test_a_robot_speaks_for_itself_alone(tmp_path: Path) -> None:
    async def run(web: Web) -> None:
        headers = await web.robot()
        await web.robot("sim-2", OTHER)
        two = Robot(name="sim-2", key=OTHER).begin().turns(1)
        assert (await web.send(two, headers)).status_code == 403
        answer = await web.client.get(state("sim-2"), params={"nonce": "n", "epoch": EPOCH}, headers=headers)
        assert (answer.status_code, error(answer)) == (403, "forbidden")
        batch = two.batch()
        answer = await web.client.post(batches(), content=batch.content, headers=headers | marks(sign(batch, OTHER)))
        assert (answer.status_code, error(answer)) == (403, "forbidden")

    with_web(tmp_path, run)


def test_a_zip_bomb_is_refused_and_never_unpacked(tmp_path: Path) -> None:
    async def run(web: Web) -> None:
        headers = await web.robot()
        wanted = [
            (gzip.compress(b" " * 100_000_000), "gzip", 413, "too-big"),
            (gzip.compress(gzip.compress(b"x")), "gzip, gzip", 400, "bad-batch"),
            (b"not gzip", "gzip", 400, "bad-batch"),
            (gzip.compress(b"x")[:-4], "gzip", 400, "bad-batch"),
            (b"x", "zstd", 400, "bad-batch"),
        ]
        for content, encoding, status, code in wanted:
            answer = await web.client.post(batches(), content=content, headers=headers | {"Content-Encoding": encoding})
            assert (answer.status_code, error(answer)) == (status, code), encoding

    with_web(tmp_path, run)


def test_a_hundred_megabytes_are_not_read(tmp_path: Path) -> None:
    async def run(web: Web) -> None:
        headers = await web.robot()
        read = 0

        async def endless() -> AsyncIterator[bytes]:
            nonlocal read
            while read < 100_000_000:
                read += 10_000
                yield b" " * 10_000

        for path in (batches(), "/v1/devices", "/oauth2/token"):
            read = 0
            answer = await web.client.post(path, content=endless(), headers=headers)
            assert (answer.status_code, error(answer)) == (413, "too-big")
            assert read <= 2 * BODY_BYTES_MAX
            assert answer.headers["connection"] == "close"
            for length in ("100000000", "9" * 400, "-1", "x"):
                answer = await web.client.post(path, content=endless(), headers=headers | {"Content-Length": length})
                assert error(answer) == "too-big"

    with_web(tmp_path, run)


DEEP = b'{"a":' * 20_000 + b"1" + b"}" * 20_000


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'"x"', b"{}", b"[" * 100_000, DEEP, b'{"token":"\\ud800"}', b"\xff"], ids=lambda value: repr(value)[:20]
)
def test_a_registration_that_is_none(tmp_path: Path, content: bytes) -> None:
    async def run(web: Web) -> None:
        for kind in ("application/json", "text/plain", ""):
            answer = await web.client.post("/v1/devices", content=content, headers={"Content-Type": kind})
            assert answer.status_code in (400, 415, 422)
            assert error(answer)

    with_web(tmp_path, run)


def test_a_registration_refused_says_why(tmp_path: Path) -> None:
    async def run(web: Web) -> None:
        token = await web.access.mint(Minting(TENANT, "acme", "new-1"), 1)
        good = registering(token, TENANT, "new-1", OTHER).model_dump()
        wrong = [
            (registering("A" * 43, TENANT, "new-1", OTHER).model_dump(), 401, "unauthorized"),
            (registering(token, TENANT, "new-2", OTHER).model_dump(), 403, "forbidden"),
            (registering(token, TENANT, "a/b", OTHER).model_dump(), 400, "bad-input"),
            (good | {"key": registering(token, TENANT, "new-1", KEY).key}, 400, "bad-input"),
            (good | {"key": "short"}, 422, "bad-request"),
            (registering(token, TENANT, "new-1", KEY).model_dump(), 409, "conflict"),
        ]
        for asked, status, code in wrong:
            answer = await web.client.post("/v1/devices", json=asked)
            assert (answer.status_code, error(answer)) == (status, code), asked
        assert (await web.client.post("/v1/devices", json=good)).status_code == 201

    with_web(tmp_path, run)


def test_a_new_usage_key_is_signed_by_both(tmp_path: Path) -> None:
    async def run(web: Web) -> None:
        headers = await web.robot()
        path = f"/v1/devices/{NAME}/keys"
        good = NewKey.model_validate({"epoch": EPOCH, **key_record_data(EPOCH, KEY, OTHER)}).model_dump()
        third = SigningKey.from_seed(b"3" * 32)
        foreign = NewKey.model_validate({"epoch": EPOCH, **key_record_data(EPOCH, third, OTHER)}).model_dump()
        for wrong in (good | {"epoch": NEXT}, good | {"sig_new": good["sig_old"]}, foreign):
            answer = await web.client.post(path, json=wrong, headers=headers)
            assert (answer.status_code, error(answer)) == (400, "bad-input")
        for _ in range(2):
            answer = await web.client.post(path, json=good, headers=headers)
            assert (answer.status_code, answer.json()) == (201, {"key": OTHER.key_id})
        assert [line["action"] for line in (await web.store.read(page))["entries"]].count("key.added") == 1
        assert (await web.send(Robot(key=OTHER).begin().turns(1), headers)).status_code == 200

    with_web(tmp_path, run)


def test_a_robot_nobody_registered_is_404(tmp_path: Path) -> None:
    async def run(web: Web) -> None:
        office = await web.key("usage:write", tenant=TENANT)
        answer = await web.client.get(state("nobody"), params={"nonce": "n", "epoch": EPOCH}, headers=office)
        assert (answer.status_code, error(answer)) == (404, "unknown-device")
        told = NewKey.model_validate({"epoch": EPOCH, **key_record_data(EPOCH, KEY, OTHER)}).model_dump()
        answer = await web.client.post("/v1/devices/nobody/keys", json=told, headers=office)
        assert (answer.status_code, error(answer)) == (404, "unknown-device")
        everyones = await web.key("usage:write")
        assert (await web.send(Robot().begin(), everyones)).status_code == 403

    with_web(tmp_path, run)


def test_a_crowd_is_told_to_wait(tmp_path: Path) -> None:
    async def run(web: Web) -> None:
        headers = await web.robot()
        web.backend.ingest.waiting = 1_000_000
        answer = await web.send(Robot().begin(), headers)
        assert (answer.status_code, error(answer)) == (503, "busy")
        assert int(answer.headers["Retry-After"]) > 0

    with_web(tmp_path, run)


def test_an_unknown_field_and_an_unknown_type_are_kept_and_acked(tmp_path: Path) -> None:
    async def run(web: Web) -> None:
        robot, headers = Robot().begin(), await web.robot()
        robot.append("future", {"anything": "goes"})
        robot.append("usage", usage() | {"colour": "blue"}, mood="good")
        content = orjson.loads(robot.batch().content) | {"weather": "fine"}
        answer = await web.send(robot, headers)
        assert ack.read(answer.content, marks_of(answer), TRUSTED).cum_ack == 3
        from agent.contract.signing import signed

        again = orjson.dumps(content)
        answer = await web.client.post(batches(), content=again, headers=headers | marks(signed(again, KEY)))
        assert answer.status_code == 200

    with_web(tmp_path, run)


def test_a_token_of_the_office_does_what_its_scope_says(tmp_path: Path) -> None:
    async def run(web: Web) -> None:
        reader = await web.key("statements:read", tenant=TENANT)
        answer = await web.send(Robot().begin(), reader)
        assert (answer.status_code, error(answer)) == (403, "forbidden")
        assert (await web.send(Robot().begin(), bearer("vx_no_no"))).status_code == 401
        assert (await web.send(Robot().begin(), {})).status_code == 401

    with_web(tmp_path, run)
