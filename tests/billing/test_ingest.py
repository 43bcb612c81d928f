"""What robots send reaches the books once, whatever the order, and what makes no sense is answered, never raised."""

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest

from agent.billing.ingest.window import Window
from agent.billing.ledger import devices
from agent.billing.ledger.tables import State, finding, quarantine, raw, record, unresolved
from agent.contract.batch import Batch, Row, build, sign
from agent.contract.canonical import genesis
from agent.contract.registration import NewKey
from agent.contract.signing import SigningKey, key_record_data, signed
from agent.values import StageUsage
from tests.billing.helpers import ACCOUNT, EPOCH, KEY, NAME, NEXT, NOW, TENANT, Backend, Robot, told, usage, with_backend

OTHER = SigningKey.from_seed(b"o" * 32)


def test_a_batch_is_acked_with_the_hash_both_sides_have(tmp_path: Path) -> None:
    async def run(backend: Backend) -> None:
        robot = Robot().begin().turns(5)
        answer = await backend.take(robot)
        assert (answer.cum_ack, answer.head_hash, answer.ranges, answer.rejects) == (6, robot.hashes[6].hex(), [], [])
        assert (answer.device, answer.epoch, answer.window_batches, answer.durable_through) == (NAME, EPOCH, 8, 0)
        assert answer.backend_id == backend.store.backend_id
        assert [body for (body,) in await backend.rows(record, "body")] == list(robot.bodies.values())
        assert await backend.billed() == 5
        assert await backend.found() == []

    with_backend(tmp_path, run)


def test_a_resent_batch_and_one_that_overlaps_count_once(tmp_path: Path) -> None:
    async def run(backend: Backend) -> None:
        robot = Robot().begin().turns(9)
        for first, last in ((1, 4), (1, 4), (3, 7), (2, 10), (9, 10)):
            answer = await backend.take(robot, robot.batch(first, last))
        assert (answer.cum_ack, await backend.billed()) == (10, 9)
        assert backend.ingest.counts["duplicates"] == 14

    with_backend(tmp_path, run)


def test_what_comes_too_early_waits_unbilled_in_a_range(tmp_path: Path) -> None:
    async def run(backend: Backend) -> None:
        robot = Robot().begin().turns(9)
        answer = await backend.take(robot, robot.batch(7, 9))
        assert (answer.cum_ack, answer.head_hash) == (0, genesis(EPOCH).hex())
        assert [(part.first, part.last) for part in answer.ranges] == [(7, 9)]
        assert (await backend.billed(), set((await backend.states(robot)).values())) == (0, {State.HELD})
        answer = await backend.take(robot, robot.batch(1, 6))
        assert (answer.cum_ack, answer.ranges, await backend.billed()) == (9, [], 8)

    with_backend(tmp_path, run)


@pytest.mark.parametrize("together", [True, False])
def test_a_hole_inside_a_batch_is_crossed_once_the_record_that_accounts_for_it_is_held(tmp_path: Path, together: bool) -> None:
    async def run(backend: Backend) -> None:
        robot = Robot().begin().turns(8)
        robot.fold(4, 6)
        if together:
            answer = await backend.take(robot, robot.batch(1, 10, without=[(4, 6)]))
        else:
            answer = await backend.take(robot, robot.batch(1, 8, without=[(4, 6)]))
            assert (answer.cum_ack, [(part.first, part.last) for part in answer.ranges]) == (3, [(7, 8)])
            answer = await backend.take(robot, robot.batch(9, 10))
        assert (answer.cum_ack, answer.ranges, await backend.billed()) == (10, [], 8)
        assert await backend.found() == []

    with_backend(tmp_path, run)


def test_a_gap_of_an_earlier_epoch_links_what_lies_above_it_there(tmp_path: Path) -> None:
    async def run(backend: Backend) -> None:
        old = Robot().begin().turns(9)
        await backend.take(old, old.batch(1, 3))
        answer = await backend.take(old, old.batch(7, 10))
        assert answer.cum_ack == 3
        new = Robot(NEXT).begin("damaged", previous=EPOCH)
        new.gap(4, 6, of=old, known=False)
        await backend.take(new)
        state = told(await backend.ingest.mark(TENANT, NAME, EPOCH, "n"))
        assert (state.cum_ack, state.head_hash, state.nonce) == (10, old.hashes[10].hex(), "n")
        assert await backend.found() == ["gap", "odometer", "unproven"] or await backend.found() == ["gap", "unproven"]
        assert await backend.billed() == 6

    with_backend(tmp_path, run)


def test_a_gap_with_totals_is_told_and_not_billed(tmp_path: Path) -> None:
    async def run(backend: Backend) -> None:
        robot = Robot().begin().turns(6)
        totals = robot.records[robot.fold(2, 3)]["data"]["totals"]
        again = Robot().begin().turns(6)
        hashes = {"h_before": again.hashes[1].hex(), "h_last": again.hashes[3].hex()}
        again.append("gap", {"epoch": EPOCH, "first": 2, "last": 3, "reason": "pruned", "totals": totals} | hashes)
        answer = await backend.take(again, again.batch(without=[(2, 3)]))
        assert (answer.cum_ack, await backend.billed(), await backend.found()) == (8, 4, ["gap"])
        assert [why for (why,) in await backend.rows(unresolved, "why")] == ["gap"]

    with_backend(tmp_path, run)


def test_a_gap_whose_totals_are_an_odometers_lines_moves_the_odometer_on(tmp_path: Path) -> None:
    async def run(backend: Backend) -> None:
        robot = Robot().begin().turns(6)
        await backend.take(robot, robot.batch(1, 2))
        names = ("stage", "model", "placement", "class")
        lost = robot.odometer(5) - robot.odometer(2)
        totals = [dict(zip(names, place, strict=True)) | {"quantity": quantity} for place, quantity in lost.items()]
        hashes = {"h_before": robot.hashes[2].hex(), "h_last": robot.hashes[5].hex()}
        robot.append("gap", {"epoch": EPOCH, "first": 3, "last": 5, "reason": "pruned", "totals": totals} | hashes)
        answer = await backend.take(robot, robot.batch(6, 8))
        assert (answer.cum_ack, answer.rejects, await backend.billed(), await backend.found()) == (8, [], 3, ["gap"])

    with_backend(tmp_path, run)


@pytest.mark.parametrize("kind", ["gap", "rollup"])
def test_what_accounts_for_itself_is_rejected_for_good(tmp_path: Path, kind: str) -> None:
    async def run(backend: Backend) -> None:
        robot = Robot().begin().turns(2)
        hashes = {"h_before": robot.hashes[1].hex(), "h_last": robot.hashes[2].hex()}
        robot.append(kind, {"epoch": EPOCH, "first": 2, "last": 4, "reason": "x", "totals": []} | hashes)
        answer = await backend.take(robot)
        assert (answer.cum_ack, [(one.sequence, one.final) for one in answer.rejects]) == (4, [(4, True)])

    with_backend(tmp_path, run)


def test_a_dropped_record_accounts_for_nothing_any_more(tmp_path: Path) -> None:
    async def run(backend: Backend) -> None:
        old = Robot().begin().turns(9)
        await backend.take(old, old.batch(1, 3))
        robot, clone = Robot(NEXT).begin("damaged", previous=EPOCH).turns(2), Robot(NEXT).begin("damaged", previous=EPOCH).turns(3, "c")
        clone.gap(4, 6, of=old)
        await backend.take(clone, clone.batch(4, 5))
        await backend.take(robot)
        assert await backend.found() == ["fork"]
        answer = await backend.take(old, old.batch(7, 10))
        assert (answer.cum_ack, [(part.first, part.last) for part in answer.ranges]) == (3, [(7, 10)])

    with_backend(tmp_path, run)


@pytest.mark.parametrize("together", [True, False])
def test_what_another_record_accounts_for_as_well_stays_accounted_for(tmp_path: Path, together: bool) -> None:
    async def run(backend: Backend) -> None:
        old = Robot().begin().turns(9)
        await backend.take(old, old.batch(1, 3))
        robot, clone = Robot(NEXT).begin("damaged", previous=EPOCH).turns(2), Robot(NEXT).begin("damaged", previous=EPOCH).turns(4, "c")
        clone.gap(4, 6, of=old)
        robot.gap(4, 6, of=old)
        await backend.take(clone, clone.batch(5, 6))
        if not together:
            robot.turns(1)
            await backend.take(robot, robot.batch(3, 4))
        await backend.take(robot)
        assert "fork" in await backend.found()
        assert (await backend.take(old, old.batch(7, 10))).cum_ack == 10

    with_backend(tmp_path, run)


def test_another_story_in_the_same_place_is_quarantined_and_the_robot_hears_of_it(tmp_path: Path) -> None:
    async def run(backend: Backend) -> None:
        robot, clone = Robot().begin().turns(4), Robot().begin().turns(4)
        robot.turns(3, "mine")
        clone.turns(3, "theirs")
        assert (await backend.take(robot)).cum_ack == 8
        answered = await backend.offer(clone, clone.batch(3, 8))
        answer = told(answered)
        assert (answered.fork, answer.cum_ack, answer.head_hash) == (True, 8, robot.hashes[8].hex())
        assert [(one.sequence, one.code, one.final) for one in answer.rejects] == [(6, "fork", False)]
        assert [sequence for (sequence,) in await backend.rows(quarantine, "sequence")] == [6, 7, 8]
        await backend.offer(clone, clone.batch(3, 8))
        assert (await backend.found(), await backend.billed(), len(await backend.rows(quarantine))) == (["fork"], 7, 3)

    with_backend(tmp_path, run)


def test_a_clone_that_is_ahead_is_found_when_its_range_meets_the_chain(tmp_path: Path) -> None:
    async def run(backend: Backend) -> None:
        robot, clone = Robot().begin().turns(4), Robot().begin().turns(4)
        robot.turns(1, "mine")
        clone.turns(3, "theirs")
        await backend.take(clone, clone.batch(7, 8))
        answer = await backend.take(robot)
        assert (answer.cum_ack, answer.ranges, answer.rejects) == (6, [], [])
        assert (await backend.found(), len(await backend.rows(quarantine)), await backend.billed()) == (["fork"], 2, 5)
        assert list(await backend.states(robot)) == [1, 2, 3, 4, 5, 6]
        robot.turns(2, "mine")
        assert ((await backend.take(robot, robot.batch(7))).cum_ack, await backend.billed()) == (8, 7)

    with_backend(tmp_path, run)


def test_what_is_issued_again_in_the_next_epoch_counts_once_whichever_comes_first(tmp_path: Path) -> None:
    async def run(backend: Backend) -> None:
        old = Robot().begin().turns(4)
        new = Robot(NEXT).begin("different", previous=EPOCH)
        for sequence in (4, 5):
            new.append("usage", old.records[sequence]["data"] | {"replaces": {"epoch": EPOCH, "sequence": sequence}})
        await backend.take(old, old.batch(1, 4))
        await backend.take(new)
        await backend.take(old)
        assert await backend.billed() == 4
        assert list((await backend.states(new)).values()) == [State.PLAIN, State.AGAIN, State.BILLED]
        assert (await backend.states(old))[5] == State.AGAIN

    with_backend(tmp_path, run)


def test_a_correction_or_roll_up_issued_again_counts_once(tmp_path: Path) -> None:
    async def run(backend: Backend) -> None:
        old = Robot().begin().turns(6)
        old.append("adjust", {"adjusts": {"epoch": EPOCH, "sequence": 3}, "deltas": {"gen_ai.usage.output_tokens": -5}, "reason": "late"})
        old.fold(5, 6)
        new = Robot(NEXT).begin("different", previous=EPOCH)
        for sequence in (8, 9):
            kind = old.records[sequence]["type"].split(".")[1]
            new.append(kind, old.records[sequence]["data"])
        batch = old.batch(without=[(5, 6)])
        await backend.take(old, batch)
        before = await backend.totals()
        await backend.take(new)
        assert await backend.totals() == before
        (llm,) = [one for one in before if one["stage"] == "llm"]
        assert llm["quantities"]["output"] == 2 * 30 - 5

    with_backend(tmp_path, run)


@pytest.mark.parametrize(
    "changes",
    [
        {"gen_ai.usage.output_tokens": -1},
        {"gen_ai.usage.cache_read.input_tokens": 10**6},
        {"attempt": 2**60},
        {"amount": "1" * 41},
        {"stage": ""},
        {"amount": None},
        {"raw": [None]},
        {"gen_ai.usage.input_tokens": 1.5},
        {"gen_ai.usage.input_tokens": True},
        {"outcome": "splendid"},
        {"charges": [{"class": "output"}]},
    ],
    ids=str,
)
def test_a_record_that_makes_no_sense_is_rejected_alone_and_for_good(tmp_path: Path, changes: dict[str, Any]) -> None:
    async def run(backend: Backend) -> None:
        robot = Robot().begin()
        bad = robot.append("usage", usage() | changes)
        robot.turns(1)
        batch = robot.batch(odometer={})
        for _ in range(2):
            answer = await backend.take(robot, batch)
            assert [(one.sequence, one.code, one.final) for one in answer.rejects] == [(bad, "invalid", True)]
            assert answer.cum_ack == 3
        assert (await backend.states(robot))[bad] == State.INVALID
        assert [row[:2] for row in await backend.rows(unresolved, "sequence", "why")] == [(bad, "invalid")]
        assert await backend.billed() == 1

    with_backend(tmp_path, run)


TOTAL = {
    "role": "billable",
    "subject": "hotel",
    "span": "2026-11-22",
    "stage": "llm",
    "model": "m",
    "placement": "device",
    "class": "output",
    "quantity": "8",
    "priority": "standard",
    "outcome": "completed",
    "origin": "counted",
    "records": 4,
}


@pytest.mark.parametrize(
    "changes",
    [{"quantity": "1.5"}, {"quantity": "9" * 40}, {"distinct": "many"}, {"records": 2**53}, {"unresolved": -1}, {"billed": "x"}],
    ids=str,
)
def test_a_roll_up_that_cannot_be_summed_accounts_for_nothing(tmp_path: Path, changes: dict[str, Any]) -> None:
    async def run(backend: Backend) -> None:
        robot = Robot().begin().turns(3)
        hashes = {"h_before": robot.hashes[1].hex(), "h_last": robot.hashes[2].hex()}
        bad = robot.append("rollup", {"epoch": EPOCH, "first": 2, "last": 2, "reason": "disk", "totals": [TOTAL | changes]} | hashes)
        answer = await backend.take(robot, robot.batch(without=[(2, 2)]))
        assert (answer.cum_ack, [one.sequence for one in answer.rejects]) == (1, [bad])
        assert await backend.billed() == 0

    with_backend(tmp_path, run)


def test_a_roll_up_of_records_that_are_billed_one_by_one_is_not_billed_again(tmp_path: Path) -> None:
    async def run(backend: Backend) -> None:
        robot = Robot().begin().turns(3)
        await backend.take(robot, robot.batch(1, 3))
        robot.fold(2, 3)
        await backend.take(robot)
        assert (await backend.billed(), (await backend.states(robot))[5]) == (3, State.AGAIN)
        assert [why for (why,) in await backend.rows(unresolved, "why")] == ["folded-twice"]

    with_backend(tmp_path, run)


def test_a_correction_of_nothing_stands_as_unresolved(tmp_path: Path) -> None:
    async def run(backend: Backend) -> None:
        robot = Robot().begin()
        robot.append("adjust", {"adjusts": {"epoch": NEXT, "sequence": 9}, "deltas": {"characters": 7}, "reason": "late"})
        assert (await backend.take(robot)).cum_ack == 2
        assert [why for (why,) in await backend.rows(unresolved, "why")] == ["adjusts-nothing"]

    with_backend(tmp_path, run)


def test_what_a_newer_robot_says_is_kept_and_acked(tmp_path: Path) -> None:
    async def run(backend: Backend) -> None:
        robot = Robot().begin()
        robot.append("usage", usage() | {"mood": {"joy": 3}}, weather="rain")
        robot.append("dream", {"of": "sheep"})
        answer = await backend.take(robot)
        assert (answer.cum_ack, answer.rejects, await backend.billed()) == (3, [], 1)

    with_backend(tmp_path, run)


@pytest.mark.parametrize("time", ["2099-01-01T00:00:00.000Z", "2020-01-01T00:00:00Z"])
def test_an_impossible_time_is_kept_flagged_and_billed_on_a_day_that_can_be(tmp_path: Path, time: str) -> None:
    async def run(backend: Backend) -> None:
        robot = Robot().begin()
        robot.append("usage", usage(), time=time)
        answer = await backend.take(robot)
        assert (answer.cum_ack, answer.rejects, await backend.found()) == (2, [], ["time"])
        assert [one["day"] for one in await backend.totals()] == ["2026-11-22"]  # by the anchor that the first record is

    with_backend(tmp_path, run)


def test_without_any_time_the_day_of_receipt_is_billed_and_flagged(tmp_path: Path) -> None:
    async def run(backend: Backend) -> None:
        robot = Robot()
        robot.append("epoch", {"reason": "first"}, time=None, clockquality="none")
        robot.append("usage", usage(), time=None, clockquality="none")
        await backend.take(robot)
        assert [one["day"] for one in await backend.totals()] == ["2026-11-23"]
        assert {exact for (exact,) in await backend.rows(record, "exact")} == {0}

    with_backend(tmp_path, run)


def test_anchors_of_a_batch_date_its_records(tmp_path: Path) -> None:
    async def run(backend: Backend) -> None:
        robot = Robot()
        robot.append("epoch", {"reason": "first"}, time=None, clockquality="none")
        robot.append("usage", usage(), time=None, clockquality="none")
        anchor = {"bootid": "ab" * 16, "boottimems": "5000", "time": "2026-11-21T12:00:05.000Z", "quality": "ntp"}
        await backend.take(robot, robot.batch(1, 2, anchors=[anchor]))
        robot.append("usage", usage("t2"), time=None, clockquality="none")
        await backend.take(robot, robot.batch(3))
        assert [(one["day"], one["records"]) for one in await backend.totals(group_by=("day",))] == [("2026-11-21", 2)]
        assert {exact for (exact,) in await backend.rows(record, "exact")} == {1}

    with_backend(tmp_path, run)


def test_usage_of_unknown_size_is_counted_and_stands_as_unresolved(tmp_path: Path) -> None:
    async def run(backend: Backend) -> None:
        robot = Robot().begin()
        robot.append("usage", usage(used=StageUsage(origin="unknown")))
        robot.append("usage", usage("t2", used=StageUsage(output_tokens=3)))
        await backend.take(robot)
        (line,) = await backend.totals()
        assert (line["quantities"], line["unresolved"]) == ({"output": 3, "unknown": 1}, 2)
        assert [why for (why,) in await backend.rows(unresolved, "why")] == ["unknown", "unpriced"]

    with_backend(tmp_path, run)


def test_evidence_of_a_call_that_another_party_bills_counts_nothing(tmp_path: Path) -> None:
    async def run(backend: Backend) -> None:
        robot = Robot().begin()
        robot.append("usage", usage(role="evidence"))
        await backend.take(robot)
        assert (await backend.totals(), await backend.found()) == ([], [])

    with_backend(tmp_path, run)


def test_an_odometer_that_differs_is_found_once_and_refuses_nothing(tmp_path: Path) -> None:
    async def run(backend: Backend) -> None:
        robot = Robot().begin().turns(2)
        more = robot.odometer(2) + robot.odometer(2)
        assert (await backend.take(robot, robot.batch(1, 2, odometer=more))).cum_ack == 2
        robot.turns(1)
        await backend.take(robot, robot.batch(3, odometer=more + robot.odometer(4) - robot.odometer(2)))
        (text,) = [text for (text,) in await backend.rows(finding, "told")]
        assert orjson.loads(text)["lines"][0] == {"line": ["asr", "script", "device", "audio_in_ms"], "ours": 4500, "theirs": 9000}

    with_backend(tmp_path, run)


def test_raw_usage_is_kept_beside_its_record(tmp_path: Path) -> None:
    async def run(backend: Backend) -> None:
        robot = Robot().begin()
        held = [Row(1, robot.hashes[1], robot.bodies[1], b'{"tokens":3}')]
        await backend.take(robot, build(device=NAME, epoch=EPOCH, h_before=genesis(EPOCH), rows=held, odometer={}, anchors=[]))
        assert await backend.rows(raw) == [(1, 1, b'{"tokens":3}')]

    with_backend(tmp_path, run)


def test_an_epoch_that_follows_none_although_there_is_another_is_found(tmp_path: Path) -> None:
    async def run(backend: Backend) -> None:
        await backend.take(Robot().begin())
        await backend.take(Robot(NEXT).begin())
        assert await backend.found() == ["begins-anew"]

    with_backend(tmp_path, run)


def altered(batch: Batch, **changes: Any) -> bytes:
    content: bytes = orjson.dumps(orjson.loads(batch.content) | changes)
    return content


def refusals(robot: Robot) -> dict[str, tuple[bytes, dict[str, str]]]:
    """What is refused whole, by what it is called."""
    batch, other = robot.batch(), Robot(name="sim-2").begin()
    deep = b'{"a":' * 5000 + b"1" + b"}" * 5000
    foreign = other.batch().content
    broken = altered(batch, h_last="00" * 32)
    return {
        "too-big": (big := b" " * 100_000, signed(big, KEY)),
        "unknown-key": (batch.content, sign(batch, OTHER)),
        "bad-signature": (batch.content + b" ", sign(batch, KEY)),
        "bad-signature unsigned": (batch.content, {}),
        "bad-batch not JSON": (b"nonsense", signed(b"nonsense", KEY)),
        "bad-batch deep": (deep, signed(deep, KEY)),
        "bad-batch broken": (broken, signed(broken, KEY)),
        "forbidden": (foreign, signed(foreign, KEY)),
    }


@pytest.mark.parametrize("name", list(refusals(Robot().begin())))
def test_a_batch_is_refused_whole_in_a_signed_word(tmp_path: Path, name: str) -> None:
    async def run(backend: Backend) -> None:
        content, marks = refusals(Robot().begin())[name]
        answered = await backend.ingest.take(TENANT, NAME, content, marks)
        assert answered.refusal is not None
        assert answered.refusal.code == name.split(maxsplit=1)[0]
        assert orjson.loads(answered.content)["code"] == answered.refusal.code
        assert len(answered.refusal.message.splitlines()) == 1
        assert await backend.rows(record) == []

    with_backend(tmp_path, run)


def test_another_devices_key_tenant_or_topic_is_forbidden(tmp_path: Path) -> None:
    async def run(backend: Backend) -> None:
        await backend.register("sim-2", OTHER)
        robot = Robot().begin()
        batch = robot.batch()
        for tenant, device, key in ((TENANT, "sim-2", KEY), ("elsewhere", NAME, KEY), (TENANT, "sim-2", OTHER), (TENANT, NAME, OTHER)):
            answered = await backend.ingest.take(tenant, device, batch.content, sign(batch, key))
            assert answered.refusal is not None
            assert answered.refusal.code == "forbidden"

    with_backend(tmp_path, run)


def test_a_body_of_another_tenant_is_forbidden(tmp_path: Path) -> None:
    async def run(backend: Backend) -> None:
        robot = Robot().begin()
        robot.append("usage", usage(), source=f"urn:voxmeter:elsewhere:{NAME}:{EPOCH}")
        assert await backend.refused(robot) == "forbidden"

    with_backend(tmp_path, run)


def test_a_mark_tells_what_is_held_and_nothing_of_an_epoch_nobody_knows(tmp_path: Path) -> None:
    async def run(backend: Backend) -> None:
        await backend.take(robot := Robot().begin())
        known = told(await backend.ingest.mark(TENANT, NAME, EPOCH, "n1"))
        assert (known.cum_ack, known.head_hash, known.nonce) == (1, robot.hashes[1].hex(), "n1")
        strange = told(await backend.ingest.mark(TENANT, NAME, NEXT, "n2"))
        assert (strange.cum_ack, strange.head_hash) == (0, genesis(NEXT).hex())
        for epoch, device, code in (("x", NAME, "bad-question"), (NEXT, "nobody", "unknown-device")):
            answered = await backend.ingest.mark(TENANT, device, epoch, "n")
            assert answered.refusal is not None
            assert answered.refusal.code == code

    with_backend(tmp_path, run)


def test_a_new_key_signs_from_its_record_on_and_ends_the_old_one_by_signing(tmp_path: Path) -> None:
    async def run(backend: Backend) -> None:
        robot = Robot().begin()
        assert await backend.refused(robot, key=OTHER) == "unknown-key"
        robot.append("key", key_record_data(EPOCH, KEY, OTHER))
        await backend.take(robot)
        await backend.take(robot)  # the ack was lost: the old key signs it again
        robot.turns(1)
        await backend.take(robot, robot.batch(3), key=OTHER)
        assert await backend.refused(robot, robot.batch(3)) == "unknown-key"

    with_backend(tmp_path, run)


def test_what_the_old_key_signed_before_the_change_is_taken_although_the_new_one_has_signed(tmp_path: Path) -> None:
    async def run(backend: Backend) -> None:
        old, robot = Robot().begin().turns(2), Robot(NEXT).begin("different", previous=EPOCH)
        await backend.take(old, old.batch(1, 1))
        robot.append("key", key_record_data(NEXT, KEY, OTHER))
        robot.turns(2)
        await backend.take(robot, robot.batch(1, 2))
        await backend.take(robot, robot.batch(3, 3), key=OTHER)
        assert (await backend.take(robot, robot.batch(1, 2))).cum_ack == 3
        assert (await backend.take(old)).cum_ack == 3
        assert await backend.refused(robot, robot.batch(2, 3)) == "unknown-key"
        backend.clock.advance(1)
        assert await backend.refused(Robot("e" * 32).begin("different", previous=NEXT)) == "unknown-key"
        assert await backend.billed() == 3

    with_backend(tmp_path, run)


def test_a_key_that_was_registered_first_is_known_before_its_record_comes(tmp_path: Path) -> None:
    async def run(backend: Backend) -> None:
        change = NewKey.model_validate(key_record_data(EPOCH, KEY, OTHER) | {"epoch": EPOCH})
        await backend.store.write(lambda connection: devices.add_key(connection, 1, change, NOW))
        robot = Robot().begin()
        robot.append("key", key_record_data(EPOCH, KEY, OTHER))
        assert (await backend.take(robot)).cum_ack == 2
        assert await backend.found() == []

    with_backend(tmp_path, run)


def test_whoever_watches_sees_what_was_billed_and_whoever_is_too_slow_is_dropped(tmp_path: Path) -> None:
    async def run(backend: Backend) -> None:
        watcher, slow = backend.ingest.watch(), backend.ingest.watch()
        robot = Robot().begin()
        for _ in range(300):
            robot.turns(1)
            await backend.take(robot, robot.batch(1 if robot.last == 2 else robot.last))
            seen = await anext(watcher)
        assert (seen[0]["device"], seen[0]["sequence"], seen[0]["amount"], seen[0]["figures"]["output"]) == (NAME, 301, "0.50", 50)
        assert slow.dropped
        assert [one async for one in slow] == []
        backend.ingest.close()
        assert [one async for one in watcher] == []

    with_backend(tmp_path, run)


def test_a_crowd_is_slowed_and_then_turned_away(tmp_path: Path) -> None:
    async def run(backend: Backend) -> None:
        robot = Robot().begin().turns(30)
        batches = [robot.batch(place, place) for place in range(1, 31)]
        answers = await asyncio.gather(*(backend.offer(robot, batch) for batch in batches))
        acks = [told(one) for one in answers if one.refusal is None]
        assert {one.refusal.code for one in answers if one.refusal} == {"busy"}
        assert min(one.window_batches for one in acks) < 8
        assert max(one.not_before_ms for one in acks) > 0
        assert all(one.refusal.retry_after_ms > 0 for one in answers if one.refusal)

    with_backend(tmp_path, run, window=Window(easy=5, full=20))


def test_two_devices_may_have_an_epoch_of_the_same_name(tmp_path: Path) -> None:
    async def run(backend: Backend) -> None:
        await backend.register("sim-2", OTHER)
        one, two = Robot().begin().turns(3), Robot(name="sim-2", key=OTHER).begin().turns(3)
        assert (await backend.take(one)).cum_ack == (await backend.take(two)).cum_ack == 4
        held = await backend.totals(group_by=("device",))
        assert [(row["device"], row["records"]) for row in held] == [(NAME, 3), ("sim-2", 3)]
        assert ACCOUNT == "hotel"

    with_backend(tmp_path, run)
