"""Whatever a robot puts into its records, ingest answers: taken, rejected or refused, and nothing raised."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.contract.batch import OdometerKey
from agent.contract.canonical import link
from agent.contract.record import DATA_MODELS
from agent.contract.signing import key_record_data
from agent.metering.rollup import fold
from tests.billing.helpers import EPOCH, KEY, NEXT, Backend, Robot, usage, with_backend
from tests.billing.test_ingest import OTHER

LINE = {"stage": "llm", "model": "m", "placement": "device", "class": "output", "quantity": 7}

Path_ = tuple[str | int, ...]


def sound() -> list[tuple[str, dict[str, Any]]]:
    """A record's data of every type, and of both forms a gap may have."""
    robot = Robot().begin().turns(3)
    span = {"epoch": EPOCH, "first": 2, "last": 3, "reason": "x", "h_before": robot.hashes[1].hex(), "h_last": robot.hashes[3].hex()}
    totals = fold([robot.records[place] for place in (2, 3)])
    call = {"stage": "llm", "attempt": 1, "placement": "device", "model": "m", "reserved": "1"}
    return [
        ("usage", usage("t1") | {"features": {"x": 1}}),
        ("usage", usage("t2", "asr") | {"replaces": {"epoch": NEXT, "sequence": 3}}),
        ("intent", {"turn_id": "t", "calls": [call]}),
        ("adjust", {"adjusts": {"epoch": EPOCH, "sequence": 2}, "deltas": {"characters": 3}, "reason": "late"}),
        ("epoch", {"reason": "different", "previous": NEXT, "odometer": [LINE]}),
        ("gap", span | {"totals": [LINE]}),
        ("gap", span | {"totals": totals}),
        ("rollup", span | {"totals": totals}),
        ("key", key_record_data(EPOCH, KEY, OTHER)),
        ("dream", {"of": "sheep"}),
    ]


DEEP = "~deep~"


class DeepRobot(Robot):
    """Writes what JSON writers here refuse to: lists 600 deep."""

    def append(self, type_: str, data: Mapping[str, Any], **changes: Any) -> int:
        sequence = super().append(type_, data, **changes)
        self.bodies[sequence] = self.bodies[sequence].replace(f'"{DEEP}"'.encode(), b"[" * 600 + b"]" * 600)
        self.hashes[-1] = link(self.hashes[-2], self.bodies[sequence])
        return sequence

    def odometer(self, last: int) -> Counter[OdometerKey]:
        """Of records that make no sense there is none."""
        del last
        return Counter()


FIELDS = sorted({name for model in DATA_MODELS.values() for name in model.model_fields} | {"class_", "request_model", "bootid", "totals"})

ODD = st.sampled_from(
    [
        *("null", "true", "0", "-1", "1.5", str(2**53), str(2**63), '""', '"x"', '"-1"', f'"{"9" * 31}"', '"1e5"', "[]", "{}", "[null]"),
        *('"\\u0000"', '"0001-01-01T00:00:00Z"', '"9999-12-31T23:59:59Z"', '{"a": null}', f'"{EPOCH}"', f'"{NEXT}"', f'"{"00" * 32}"'),
        *(f'"{DEEP}"', f'["{DEEP}", null]', f'{{"epoch": "{EPOCH}"}}', orjson.dumps(LINE).decode(), orjson.dumps([LINE]).decode()),
    ]
).map(orjson.loads)


def spots(value: Any, at: Path_ = ()) -> list[Path_]:
    """Every place in a JSON value that can be altered."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [spot for name, inner in items for spot in ((*at, name), *spots(inner, (*at, name)))]


@st.composite
def altered(draw: st.DrawFn, value: dict[str, Any]) -> dict[str, Any]:
    """With a few places removed, renamed, replaced or added to."""
    told = deepcopy(value)
    for _ in range(draw(st.integers(1, 3))):
        *way, name = draw(st.sampled_from(spots(told) or [("x",)]))
        held: Any = told
        for step in way:
            held = held[step]
        how = draw(st.sampled_from(["set", "remove", "rename", "add"]))
        if how == "set":
            held[name] = draw(ODD)
        elif how == "remove" or isinstance(held, list):
            held.pop(name, None) if isinstance(held, dict) else held.pop()
        else:
            held[draw(st.sampled_from(FIELDS))] = held.pop(name, 1) if how == "rename" else draw(ODD)
    return told


@st.composite
def batches(draw: st.DrawFn) -> Robot:
    robot = DeepRobot()
    robot.begin().turns(3)
    for kind, told in draw(st.lists(st.sampled_from(sound()), min_size=1, max_size=4)):
        changes = draw(st.dictionaries(st.sampled_from(["subject", "bootid", "boottimems", "clockquality", "time", "x"]), ODD, max_size=1))
        robot.append(kind, draw(altered(told)) if draw(st.integers(0, 4)) else told, **changes)
    return robot


@settings(max_examples=150)
@given(st.lists(batches(), min_size=1, max_size=3))
def test_nothing_in_a_record_makes_ingest_raise(robots: list[Robot]) -> None:
    async def run(folder: Path) -> None:
        backend = Backend(folder)
        await backend.register()
        for robot in robots:
            for first, last in ((5, robot.last), (1, robot.last)):
                answered = await backend.offer(robot, robot.batch(first, last))
                assert answered.refusal is None or answered.refusal.code in ("too-big", "bad-batch", "forbidden"), answered.refusal
        await backend.aclose()

    with TemporaryDirectory() as folder:
        asyncio.run(run(Path(folder)))


def usage_under_its_own_names(told: dict[str, Any]) -> None:
    told["request_model"] = told.pop("gen_ai.request.model")


def charges_under_their_own_names(told: dict[str, Any]) -> None:
    told["charges"][0]["class_"] = told["charges"][0].pop("class")


def too_deep(told: dict[str, Any]) -> None:
    told["mood"] = [DEEP, None]


@pytest.mark.parametrize("spoil", [usage_under_its_own_names, charges_under_their_own_names, too_deep])
def test_what_the_form_lets_through_and_the_books_cannot_hold_is_rejected_alone(
    tmp_path: Path, spoil: Callable[[dict[str, Any]], None]
) -> None:
    async def run(backend: Backend) -> None:
        robot = DeepRobot()
        robot.begin()
        spoil(told := usage())
        bad = robot.append("usage", told)
        robot.turns(1)
        answer = await backend.take(robot, robot.batch(odometer={}))
        assert (answer.cum_ack, [(one.sequence, one.final) for one in answer.rejects]) == (3, [(bad, True)])
        assert await backend.billed() == 1

    with_backend(tmp_path, run)


def test_a_record_that_is_wide_and_not_deep_is_kept(tmp_path: Path) -> None:
    async def run(backend: Backend) -> None:
        robot = Robot().begin()
        robot.append("dream", {"of": [{"sheep": number} for number in range(100)]})
        assert (await backend.take(robot)).rejects == []
        assert orjson.loads(robot.bodies[2])["data"]["of"][99] == {"sheep": 99}

    with_backend(tmp_path, run)
