"""From a robot's books to the backend's on real parts: mosquitto, `billing serve`, both links; and everything that may go wrong between."""

import asyncio
import base64
import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from agent.billing.access.grants import AUDIENCE, ISSUER
from agent.contract import ack, jwt, wire
from agent.contract.ack import Ack
from agent.contract.batch import Batch, sign
from agent.contract.signing import SigningKey, encode, signed
from agent.link.mqtt import MqttLink
from agent.link.mqtt.message import publish_properties
from agent.link.mqtt.steady import Mqtt
from agent.ports import Acked, Answer, Draft, Refused
from agent.sim.real.broker import ANSWERS, free_port
from agent.store import trust
from tests.billing.helpers import TENANT, usage
from tests.billing.helpers import Robot as Made
from tests.conftest import tone
from tests.e2e.helpers import COMMAND, voxmeter
from tests.e2e.sync_helpers import CLOCK, WAYS, Between, Robot, World, append, drained, until
from tests.link.mqtt_helpers import MARKS, as_backend, live

STRANGER = SigningKey.from_seed(b"s" * 32)

TOPICS = (wire.BATCH, wire.MARK, "state/birth", "state/presence", "state/telemetry", "twin/reported", "cmd/res/1", "cmd/sync", "event/x")
"""Up; what a robot may write."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with World.running(tmp_path_factory.mktemp("world")) as running:
        yield running


@pytest.fixture(scope="module")
def robot(world: World) -> Robot:
    """One that is registered, for what leaves nothing behind."""
    return world.play(world.robot())


@pytest.fixture(scope="module")
def other(world: World) -> Robot:
    return world.play(world.robot())


async def settled(world: World, robot: Robot) -> None:
    """All of it has arrived as it is, and is billed once."""
    assert robot.waits["records"] == 0
    assert await world.billed(robot) == robot.bills()
    held = await world.stored(robot)
    assert {name: held[name] for name in robot.bodies()} == robot.bodies()


# What flows


@pytest.mark.parametrize("way", WAYS)
def test_what_is_appended_is_what_is_billed(world: World, way: str) -> None:
    async def story() -> None:
        robot = await world.robot()
        async with robot.sending(way) as (ledger, worker):
            await append(ledger, 400, "a")
            await drained(worker)
            await append(ledger, 1, "b")
            await drained(worker)
        await settled(world, robot)
        assert robot.said == []

    world.play(story())


def test_a_broker_that_forgets_its_queue_in_mid_flow_loses_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "ACK_WAIT_MS", 3_000)

    async def story() -> None:
        robot, unanswered = await world.robot(), list[Answer]()

        async def listen(what: str, answer: Answer) -> Answer:
            unanswered.extend([] if isinstance(answer, Acked) else [answer])
            return answer

        async with robot.sending("mqtt", through=lambda link: Between(link, listen)) as (ledger, worker):
            await append(ledger, 2000)
            draining = asyncio.ensure_future(drained(worker))
            await until(lambda: robot.waits["epochs"][-1]["acked"] > 100)
            os.kill(world.backend.process_id, signal.SIGSTOP)
            await until(lambda: worker.status()["in_flight"] > 1)
            await asyncio.sleep(0.3)  # so that the broker has them
            world.broker.forget()
            world.broker.start()
            os.kill(world.backend.process_id, signal.SIGCONT)
            await draining
        assert unanswered
        await settled(world, robot)

    try:
        world.play(story())
    finally:
        os.kill(world.backend.process_id, signal.SIGCONT)


@pytest.mark.parametrize("way", WAYS)
def test_what_was_acked_is_there_after_the_backend_was_killed(world: World, way: str) -> None:
    async def story() -> None:
        robot = await world.robot()
        async with robot.sending(way) as (ledger, worker):
            await append(ledger, 2000)
            draining = asyncio.ensure_future(drained(worker))
            await until(lambda: robot.waits["epochs"][-1]["acked"] > 100)
            await world.backend.kill()
            await asyncio.sleep(0.1)
            acked = robot.waits["epochs"][-1]["acked"]
            assert acked < 2000
            ours, held = robot.bodies()[ledger.epoch], (await world.stored(robot))[ledger.epoch]
            assert all(held[sequence] == ours[sequence] for sequence in range(1, acked + 1))
            await world.backend.start()
            await draining
        await settled(world, robot)

    world.play(story())


@pytest.mark.parametrize("way", WAYS)
def test_a_backend_restored_from_a_backup_is_sent_what_it_lacks_and_bills_it_once(world: World, way: str) -> None:
    async def story() -> None:
        robot = await world.robot()
        async with robot.sending(way) as (ledger, worker):
            await append(ledger, 100, "a")
            await drained(worker)
            await world.backend.backup()
            await append(ledger, 200, "b")
            await drained(worker)
            before = await world.billed(robot)
            await world.backend.kill()
            world.backend.restore()
            await world.backend.start()
            assert await world.billed(robot) != before
            await append(ledger, 1, "c")
            await drained(worker)
        await settled(world, robot)
        assert len(robot.bodies()) == 1

    world.play(story())


# What a robot may send


async def asked(robot: Robot, way: str, content: bytes, marks: dict[str, str]) -> Answer:
    async with robot.linked(way) as link:
        return await link.send(content, marks)


def made_by(robot: Robot, name: str = "", **changes: Any) -> Made:
    """An epoch of its own, not on its books, that begins."""
    epoch = hashlib.sha256(os.urandom(16)).hexdigest()[:32]
    return Made(changes.pop("epoch", epoch), name or robot.name, changes.pop("key", robot.key)).begin()


def altered(batch: Batch, **changes: Any) -> bytes:
    content: bytes = orjson.dumps(orjson.loads(batch.content) | changes)
    return content


def with_another_body(batch: Batch) -> bytes:
    bodies = orjson.loads(batch.content)["bodies"]
    told = base64.b64decode(bodies[1]).replace(b'"t1"', b'"t2"')
    return altered(batch, bodies=[bodies[0], base64.b64encode(told).decode(), *bodies[2:]])


Wrong = Callable[[Robot, Robot], tuple[bytes, dict[str, str]]]


def by(robot: Robot, content: bytes) -> tuple[bytes, dict[str, str]]:
    return content, signed(content, robot.key)


def of(robot: Robot, **changes: Any) -> Batch:
    return made_by(robot, **changes).turns(2).batch()


REFUSED: dict[str, tuple[str, Wrong]] = {
    "a bad signature": ("bad-signature", lambda us, them: (of(us).content + b" ", sign(of(us), us.key))),
    "no signature": ("bad-signature", lambda us, them: (of(us).content, {})),
    "a key nobody knows": ("unknown-key", lambda us, them: (of(us).content, signed(of(us).content, STRANGER))),
    "another device's key": ("forbidden", lambda us, them: by(them, of(us).content)),
    "another device's batch": ("forbidden", lambda us, them: by(them, of(them).content)),
    "another device's batch under our key": ("forbidden", lambda us, them: by(us, of(them).content)),
    "another device's records under our name": ("bad-batch", lambda us, them: by(us, altered(of(them), device=us.name))),
    "a chain broken inside": ("bad-batch", lambda us, them: by(us, with_another_body(of(us)))),
    "deep JSON": ("bad-batch", lambda us, them: by(us, b'{"a":' * 10_000 + b"1" + b"}" * 10_000)),
    "no JSON": ("bad-batch", lambda us, them: by(us, b"\xff\xfe")),
    "100 MB that pack well, a zip bomb": ("too-big", lambda us, them: by(us, bytes(100_000_000))),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("wrong", REFUSED)
def test_a_batch_is_refused_whole_and_by_its_code(world: World, robot: Robot, other: Robot, way: str, wrong: str) -> None:
    code, make = REFUSED[wrong]

    async def story() -> None:
        answer = await asked(robot, way, *make(robot, other))
        assert isinstance(answer, Refused), answer
        assert answer.code == code
        assert len(answer.why.splitlines()) == 1
        assert await world.stored(robot) == await world.stored(other) == {}

    world.play(story())


def test_100_mb_are_not_read_into_memory(world: World, robot: Robot) -> None:
    def peak_kb() -> int:
        status = Path(f"/proc/{world.backend.process_id}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0])

    async def story() -> None:
        before = peak_kb()
        async with world.web() as client:
            with contextlib.suppress(httpx.TransportError):  # it hangs up in the middle, and its last word may be lost
                key = trust.api_key_file(robot.state).read_text().strip()
                headers = {"Authorization": f"Bearer {key}"}
                answer = await client.post(f"/v1/devices/{robot.name}/usage-batches", content=bytes(100_000_000), headers=headers)
                assert answer.status_code == 413
        assert peak_kb() - before < 20_000
        assert isinstance(await asked(robot, "https", b"", {}), Refused)

    world.play(story())


@pytest.mark.parametrize("way", WAYS)
def test_records_that_make_no_sense_are_rejected_alone_and_others_are_kept(world: World, way: str) -> None:
    async def story() -> None:
        robot = await world.robot()
        made = made_by(robot)
        made.append("usage", usage("t1") | {"gen_ai.usage.output_tokens": -5})
        made.append("usage", usage("t2") | {"gen_ai.usage.cache_read.input_tokens": 10**6})
        made.append("usage", usage("t3"), time="2099-01-01T00:00:00.000Z")
        made.append("usage", usage("t4") | {"colour": "blue"}, mood="good")
        made.append("future", {"anything": "goes"})
        batch = made.batch(odometer={})
        newer = altered(batch, weather="fine")
        for content in (batch.content, newer):
            answer = await asked(robot, way, content, signed(content, robot.key))
            told = read(world, answer)
            assert [(one.sequence, one.final) for one in told.rejects] == [(2, True), (3, True)]
            assert (told.cum_ack, told.head_hash) == (6, made.hashes[6].hex())
        assert await world.stored(robot) == {made.epoch: made.bodies}
        assert (await world.billed(robot))["llm"][0] == 2

    world.play(story())


@pytest.mark.parametrize("way", WAYS)
def test_the_same_sequence_with_other_content_is_a_fork_and_not_billed(world: World, way: str) -> None:
    async def story() -> None:
        robot = await world.robot()
        one = made_by(robot).turns(3)
        two = made_by(robot, epoch=one.epoch).turns(3, "other")
        await asked(robot, way, one.batch().content, sign(one.batch(), robot.key))
        before = await world.billed(robot)
        told = read(world, await asked(robot, way, two.batch().content, sign(two.batch(), robot.key)))
        assert [(no.sequence, no.code, no.final) for no in told.rejects] == [(2, "fork", False)]
        assert told.head_hash == one.hashes[4].hex()
        assert (await world.billed(robot), await world.stored(robot)) == (before, {one.epoch: one.bodies})

    world.play(story())


@pytest.mark.parametrize("way", WAYS)
def test_another_devices_epoch_is_none_of_theirs(world: World, way: str) -> None:
    async def story() -> None:
        robots = [await world.robot(), await world.robot()]
        theirs = made_by(robots[0]).turns(3)
        ours = made_by(robots[1], epoch=theirs.epoch).turns(2, "ours")
        for robot, made in zip(robots, (theirs, ours), strict=True):
            told = read(world, await asked(robot, way, made.batch().content, sign(made.batch(), robot.key)))
            assert (told.device, told.cum_ack, told.rejects) == (robot.name, made.last, [])
            assert await world.stored(robot) == {made.epoch: made.bodies}

    world.play(story())


def read(world: World, answer: Answer) -> Ack:
    assert isinstance(answer, Acked), answer
    return ack.read(answer.content, answer.marks, {world.key.key_id: world.key.public})


def test_a_record_that_is_rejected_for_good_is_a_dead_letter_on_the_robot(world: World) -> None:
    async def story() -> None:
        robot = await world.robot()
        async with robot.sending("https") as (ledger, worker):
            await ledger.append([Draft("usage", usage() | {"gen_ai.usage.output_tokens": -5}, {})])
            await drained(worker)
        assert (robot.waits["records"], robot.waits["dead_letters"]) == (0, 1)
        assert await world.billed(robot) == {}

    world.play(story())


# Who it may not be


def test_another_devices_certificate_carries_nothing_and_https_goes_on(world: World, other: Robot) -> None:
    async def story() -> None:
        robot = await world.robot()
        shutil.copy(trust.tls_files(other.state)[0] or "", robot.state / "keys" / "tls.crt")
        shutil.copy(trust.tls_files(other.state)[1] or "", robot.state / "keys" / "tls.key")
        async with robot.sending("mqtt") as (ledger, worker):
            await append(ledger, 5)
            ended = await worker.drain(5)
            assert not ended.complete
            assert "Not authorized" in ended.why
            assert robot.waits["epochs"][-1]["acked"] == 0
        assert await world.stored(robot) == await world.stored(other) == {}
        async with robot.sending("mqtt", "https") as (_, worker):
            await drained(worker)
            assert worker.status()["link"] == "https"
        await settled(world, robot)

    world.play(story())


def test_another_devices_api_key_opens_nothing(world: World, robot: Robot, other: Robot) -> None:
    async def story() -> None:
        batch = of(robot)
        async with robot.linked("https", state=other.state) as link:
            for answer in (await link.send(batch.content, sign(batch, robot.key)), await link.mark("a" * 32, "n")):
                assert isinstance(answer, Refused)
                assert answer.code == "forbidden"
        assert await world.stored(robot) == await world.stored(other) == {}

    world.play(story())


@pytest.mark.parametrize("change", [{}, {"exp": 0}, {"aud": "others"}, {"iss": "them"}, {"alg": "none"}], ids=str)
def test_a_token_that_is_expired_of_another_audience_or_unsigned_opens_nothing(world: World, change: dict[str, Any]) -> None:
    async def story() -> int:
        made = await world.order({"op": "keys create", "name": "office", "scopes": ["admin"]})
        claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": made["id"], "exp": int(CLOCK.utc().timestamp()) + 60, "scope": "admin"}
        header, body, signature = jwt.issue(claims | change, world.key).split(".")
        if "alg" in change:
            header, signature = encode(f'{{"alg":"none","kid":"{world.key.key_id}"}}'.encode()), ""
        async with world.web() as client:
            return (await client.get("/v1/audit", headers={"Authorization": f"Bearer {header}.{body}.{signature}"})).status_code

    assert world.play(story()) == (401 if change else 200)


# What a robot may be told


BAD_ACKS: dict[str, Callable[[Ack, SigningKey], tuple[bytes, dict[str, str]]]] = {
    "isn't known here": lambda told, key: ack.write(told, STRANGER),
    "signature of the ack is wrong": lambda told, key: (
        ack.write(told, key)[0].replace(b'"ranges":[]', b'"ranges":[ ]'),
        ack.write(told, key)[1],
    ),
    "isn't signed": lambda told, key: (ack.write(told, key)[0], {}),
    "for another epoch": lambda told, key: ack.write(told.model_copy(update={"epoch": "f" * 32}), key),
    "for another robot": lambda told, key: ack.write(told.model_copy(update={"device": "robot-x"}), key),
    "answers another question": lambda told, key: ack.write(told.model_copy(update={"nonce": "not-asked"}), key),
    "is not JSON": lambda told, key: (b"{", signed(b"{", key)),
}


@pytest.mark.parametrize("why", BAD_ACKS)
@pytest.mark.parametrize("way", WAYS)
def test_a_bad_ack_moves_no_cursor(world: World, way: str, why: str) -> None:
    async def story() -> None:
        robot, spoilt = await world.robot(), {"send": 1, "mark": 1}

        async def spoil(what: str, answer: Answer) -> Answer:
            if not spoilt[what] or not isinstance(answer, Acked):
                assert what == "mark" or robot.waits["epochs"][-1]["acked"] == 0
                return answer
            spoilt[what] -= 1
            return Acked(*BAD_ACKS[why](read(world, answer), world.key))

        async with robot.sending(way, through=lambda link: Between(link, spoil)) as (ledger, worker):
            await append(ledger, 5)
            await drained(worker)
        assert spoilt == {"send": 0, "mark": 0}
        assert any(why in line for line in robot.said)
        await settled(world, robot)

    world.play(story())


def test_an_ack_with_another_hash_begins_a_new_epoch_and_all_is_billed_once(world: World) -> None:
    async def story() -> None:
        robot, lies = await world.robot(), [True]

        async def lie(what: str, answer: Answer) -> Answer:
            if what == "send" and lies and isinstance(answer, Acked):
                lies.clear()
                return Acked(*ack.write(read(world, answer).model_copy(update={"head_hash": "0" * 64}), world.key))
            return answer

        async with robot.sending("https", through=lambda link: Between(link, lie)) as (ledger, worker):
            await append(ledger, 30)
            first = ledger.epoch
            await drained(worker)
            assert ledger.epoch != first
        assert robot.waits["records"] == 0
        assert await world.billed(robot) == robot.bills()
        assert sum(records for records, _, _ in robot.bills().values()) == 30

    world.play(story())


def test_acks_that_come_twice_late_and_out_of_order_move_the_cursor_once_each(world: World) -> None:
    async def story() -> None:
        robot, late, heard = await world.robot(), [0.5, 0.4, 0.3, 0.2, 0.1], list[Acked]()

        async def dally(what: str, answer: Answer) -> Answer:
            if what == "send" and isinstance(answer, Acked):
                heard.append(answer)
                await asyncio.sleep(late.pop(0) if late else 0)
                workers[0].heard(answer)
            return answer

        workers = []
        async with robot.sending("https", through=lambda link: Between(link, dally)) as (ledger, worker):
            workers.append(worker)
            await append(ledger, 600)
            await drained(worker)
            for answer in [*reversed(heard), *heard]:
                worker.heard(answer)
            await drained(worker)
            assert ledger.epoch == robot.waits["epochs"][0]["epoch"]
        assert len(heard) > 5
        await settled(world, robot)

    world.play(story())


@contextlib.asynccontextmanager
async def speaking(world: World) -> Any:
    """The backend's certificate in other hands."""
    mqtt = Mqtt(as_backend(world.broker), "voice", CLOCK, [], lambda message: message.confirm())
    await mqtt.ready()
    yield mqtt
    await mqtt.aclose()


def test_old_and_forged_acks_that_the_broker_brings_again_move_nothing(world: World) -> None:
    async def story() -> None:
        robot, heard = await world.robot(), list[Acked]()

        async def keep(what: str, answer: Answer) -> Answer:
            heard.extend([answer] if isinstance(answer, Acked) else [])
            return answer

        topic = wire.topic(TENANT, robot.name, wire.ACK)
        async with robot.sending("mqtt", through=lambda link: Between(link, keep)) as (ledger, worker), speaking(world) as voice:
            for number in range(3):
                await append(ledger, 3, str(number))
                await drained(worker)
            far = read(world, heard[-1]).model_copy(update={"cum_ack": 9000, "durable_through": 9000})
            forged = Acked(*ack.write(far, STRANGER))
            for old in (*reversed(heard), forged, *heard, Acked(b"garbage", MARKS)):
                assert (await voice.publish(topic, old.content, b"of nothing asked", old.marks)).taken
            await append(ledger, 3, "more")
            await drained(worker)
            await until(lambda: any("ack is signed by a key that isn't known" in line for line in robot.said))
            assert robot.waits["epochs"] == [{"epoch": ledger.epoch, "acked": 13, "last": 13, "records": 0}]
        await settled(world, robot)

    world.play(story())


def test_retained_garbage_on_every_topic_stops_nobody(world: World) -> None:
    async def story() -> None:
        robot = await world.robot()
        made = made_by(robot).turns(2).batch()
        own = robot.link("mqtt")
        assert isinstance(own, MqttLink)
        await own.ready()
        async with speaking(world) as voice:
            for content in (b"garbage", made.content):
                signed_for = publish_properties(b"x", signed(content, robot.key), "")
                for mqtt, names in ((own._mqtt, TOPICS), (voice, ANSWERS)):
                    for what in names:
                        topic = wire.topic(TENANT, robot.name, what.replace("+", "1"))
                        live(mqtt)._client.publish(topic, content, qos=1, retain=True, properties=signed_for)
                assert (await own._mqtt.publish(wire.topic(TENANT, robot.name, "event/last"), b"x")).code < 0x80
                assert (await voice.publish(wire.topic(TENANT, robot.name, "usage/lease"), b"x")).code < 0x80
        await own.aclose()
        await world.backend.stop()
        await world.backend.start()
        async with robot.sending("mqtt") as (ledger, worker):
            await append(ledger, 5)
            await drained(worker)
        await settled(world, robot)
        assert list(await world.stored(robot)) == list(robot.bodies())

    world.play(story())


# The commands


def said(*words: object) -> Any:
    ended = voxmeter(*words, "--json")
    assert ended.status == 0, ended.err
    return ended.told


@contextlib.contextmanager
def running(robot: Robot, profile: Path) -> Iterator[None]:
    """`voxmeter run`, ready; ended by SIGTERM."""
    command = [*COMMAND, "run", "--profile", str(profile), "--state-dir", str(robot.state)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as service:
        assert service.stdout is not None
        assert service.stdout.readline().startswith("ready: ")
        try:
            yield
        finally:
            service.send_signal(signal.SIGTERM)
            service.communicate(timeout=30)


def test_the_service_sends_by_itself_at_once_when_told_and_says_how_it_stands(world: World, make_wav: Any) -> None:
    loud, robot = make_wav("loud.wav", tone(1.0)), world.play(world.robot())
    profile = robot.profile_file("mqtt", "https")
    where = ("--state-dir", robot.state)
    with running(robot, profile):
        said("ask", loud, *where, "--profile", profile)
        told = said("sync", "now", *where)
        assert (told["drained"], told["problem"], told["waiting"]["records"]) == (True, "", 0)
        said("ask", loud, *where, "--profile", profile)
        world.play(until(lambda: robot.waits["records"] == 0))
        status = said("status", *where)
        assert (status["running"], status["waiting"]["records"]) == (True, 0)
        assert (status["sync"]["link"], status["sync"]["up"], status["sync"]["problem"]) == ("mqtt", True, "")
        assert said("sync", "status", *where) == robot.waits == status["waiting"]
        assert status["waiting"]["last_ack"]
        busy = voxmeter("sync", "register", "A" * 43, *where, "--profile", profile)
        assert (busy.status, "belongs to process" in busy.line) == (2, True)
    world.play(settled(world, robot))


@pytest.mark.parametrize("served", [pytest.param(False, id="alone"), pytest.param(True, id="through the service")])
def test_without_a_backend_sync_now_ends_with_one_line(world: World, make_wav: Any, served: bool) -> None:
    robot = world.play(world.robot())
    profile = robot.profile_file("https", port=free_port())
    words = ("--state-dir", robot.state, "--profile", profile)
    with running(robot, profile) if served else contextlib.nullcontext():
        said("ask", make_wav("loud.wav", tone(1.0)), *words)
        ended = voxmeter("sync", "now", *words)
    assert ended.status == 1
    assert "records wait: " in ended.line
    assert said("sync", "status", *words)["records"] > 0


def test_a_token_that_is_wrong_used_or_expired_registers_nobody(world: World) -> None:
    ours, theirs = world.stranger(), world.stranger()
    profile, authority = ours.profile_file("https"), ours.state.parent / "ca.pem"
    authority.write_bytes(world.backend.authority)

    def register(robot: Robot, token: str) -> Any:
        words = ("--profile", robot.profile_file("https"), "--state-dir", robot.state, "--ca", authority)
        return voxmeter("sync", "register", token, *words, "--json")

    def token(robot: Robot, hours: float = 1) -> str:
        order = {"op": "token", "device": robot.name, "tenant": TENANT, "account": "hotel", "hours": hours}
        return str(world.play(world.order(order))["token"])

    expired, used, good = token(ours, 1e-6), token(theirs), token(ours)
    twice = [register(theirs, used) for _ in range(2)]
    assert [one.status for one in twice] == [0, 0], twice[0].err
    assert twice[0].told == twice[1].told
    pretender = Robot(world, theirs.name, world.folder / "pretender")
    for refused in (register(ours, "A" * 43), register(ours, expired), register(ours, used), register(pretender, used)):
        assert refused.status == 2
        assert "ask its operator for a new token" in refused.line
    assert trust.read(ours.state).ack_keys == {}
    assert not trust.api_key_file(ours.state).exists()
    strangers = world.folder / "broker" / "authority.pem"
    for file, status in ((strangers, 1), (authority.with_name("nowhere"), 2)):
        words = ("--profile", profile, "--state-dir", ours.state, "--ca", file)
        assert (refused := voxmeter("sync", "register", good, *words)).status == status
        assert refused.line
    assert not trust.api_key_file(ours.state).exists()
    unknown = voxmeter("sync", "now", "--state-dir", ours.state, "--profile", profile)
    assert (unknown.status, "not registered" in unknown.line) == (2, True)
    assert register(ours, good).status == 0
