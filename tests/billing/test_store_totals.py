"""Running totals come to what the records come to, to the last digit."""

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.billing.ingest.dating import Dated
from agent.billing.ingest.lines import lines
from agent.billing.ledger import Store, devices, totals
from agent.errors import BadInput
from agent.metering import report
from agent.metering.rollup import fold
from agent.sim.clock import SimulatedClock
from tests.billing.helpers import KEY, NAME, NOW, TENANT
from tests.metering.test_rollup import BODIES


def made(bodies: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return lines((one, Dated(one.get("time", "2026-11-30T"), exact=True)) for one in bodies)


def named(line: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(line.get(name, "") for name in (*totals.NAMES, "span"))


@settings(max_examples=200)
@given(BODIES)
def test_the_quick_way_to_lines_gives_what_folding_gives(bodies: list[dict[str, Any]]) -> None:
    dated = [one | {"time": one.get("time", "2026-11-30T")} for one in bodies]
    folded = [{"distinct": 0, "unresolved": 0} | line for line in fold(dated)]
    quick = [{name: value for name, value in line.items() if value != ""} for line in made(bodies)]
    for line in folded:
        if "amount" in line:
            line.setdefault("billed", line["quantity"])
    assert sorted(quick, key=named) == sorted(folded, key=named)


@settings(max_examples=40)
@given(st.lists(BODIES, max_size=4))
def test_totals_of_the_books_are_those_of_the_records(batches: list[list[dict[str, Any]]]) -> None:
    billable = [one for batch in batches for one in batch if one["data"]["role"] == "billable"]
    told = [one | {"data": one["data"] | {"turn_id": str(index)}} for index, one in enumerate(billable)]

    async def run(folder: Path) -> list[dict[str, Any]]:
        store = Store(folder, SimulatedClock(1))
        await store.write(lambda connection: devices.register(connection, TENANT, NAME, "hotel", KEY.public, NOW))
        for batch in batches:
            part = made([one for one in batch if one["data"]["role"] == "billable"])
            await store.write(lambda connection, part=part: totals.add(connection, 1, part))  # type: ignore[misc]
        held = await store.read(lambda connection: totals.usage_totals(connection, group_by=("stage", "model", "placement")))
        await store.aclose()
        return held

    with TemporaryDirectory() as folder:
        held = asyncio.run(run(Path(folder)))
    wanted = report.totals(told)
    names = ("stage", "model", "placement", "currency", "records", "billed_tokens", "amount")
    assert [{name: row[name] for name in names} for row in held] == [{name: row[name] for name in names} for row in wanted["stages"]]
    assert sum(row["unresolved"] for row in held) == wanted["unresolved"]


def test_totals_are_filtered_and_grouped_as_asked(tmp_path: Path) -> None:
    async def run() -> None:
        store = Store(tmp_path, SimulatedClock(1))
        for name, seed in ((NAME, b"1"), ("sim-2", b"2")):
            await store.write(lambda connection, name=name, seed=seed: devices.register(connection, TENANT, name, "a", seed * 32, NOW))  # type: ignore[misc]
        line = dict.fromkeys(totals.NAMES, "x") | {"class": "output", "currency": "CNY", "records": 1, "distinct": 1, "amount": "0.10"}
        days = [line | {"span": f"2026-11-2{day}", "quantity": str(day)} for day in range(4)]
        for device_id in (1, 2):
            await store.write(lambda connection, device_id=device_id: totals.add(connection, device_id, days))  # type: ignore[misc]

        async def asked(**wanted: Any) -> list[dict[str, Any]]:
            return await store.read(lambda connection: totals.usage_totals(connection, **wanted))

        assert [row["quantities"]["output"] for row in await asked(group_by=("device",))] == [6, 6]
        some = await asked(group_by=("day",), first_day="2026-11-21", last_day="2026-11-22")
        assert [row["day"] for row in some] == ["2026-11-21", "2026-11-22"]
        assert (await asked(group_by=(), device=NAME, model="x"))[0]["amount"] == "0.40"
        assert await asked(tenant="nobody") == []
        with pytest.raises(BadInput, match="shoe size"):
            await asked(group_by=("shoe size",))
        await store.aclose()

    asyncio.run(run())
