"""Reading the books: when a record was, as far as anchors tell, and the table that a finance desk opens."""

import csv
import datetime
import io
from pathlib import Path

from agent.metering.cards import period_of
from agent.metering.report import export_csv
from agent.sim.clock import SimulatedClock
from agent.store.reading import LedgerReader
from tests.store.test_ledger import append, ledger, usage

OCTOBER = datetime.datetime(2026, 12, 31, 23, 0, tzinfo=datetime.UTC)
"""Evening of a month's last day."""


def test_a_boot_without_a_clock_across_a_months_end_is_bounded_by_its_neighbours(tmp_path: Path) -> None:
    clock = SimulatedClock(1, start=OCTOBER)
    with ledger(tmp_path, clock) as books:
        append(books, usage(turn="before"))
        clock.reboot()
        clock.believed = "floor"
        clock.advance(600)
        append(books, usage(turn="between"))
        clock.reboot()
        clock.believed = "ntp"
        clock.step_wall(datetime.timedelta(hours=5))
        append(books, usage(turn="after"))
    when = {record["data"].get("turn_id"): when for record, when in LedgerReader(tmp_path).timed()}
    assert (when["before"].exact, when["between"].exact, when["after"].exact) == (True, False, True)
    earliest, latest = when["between"].earliest, when["between"].latest
    assert earliest is not None
    assert latest is not None
    assert OCTOBER <= earliest <= latest <= OCTOBER + datetime.timedelta(hours=5, seconds=1)
    assert (period_of(earliest, "UTC"), period_of(latest, "UTC")) == ("2026-12", "2027-01")


def test_a_clock_that_learns_the_time_later_places_what_came_before_it_in_the_same_boot(tmp_path: Path) -> None:
    clock = SimulatedClock(1, start=OCTOBER, quality="floor")
    with ledger(tmp_path, clock) as books:
        append(books, usage(turn="early"))
        clock.advance(3600)
        clock.believed = "ntp"
        append(books, usage(turn="late"))
    (when,) = (when for record, when in LedgerReader(tmp_path).timed() if record["data"].get("turn_id") == "early")
    assert when.exact
    assert when.billed is not None
    assert abs(when.billed - OCTOBER) < datetime.timedelta(seconds=3)


def test_a_wall_that_steps_by_ten_years_or_to_1970_blurs_and_breaks_nothing(tmp_path: Path) -> None:
    clock = SimulatedClock(1, start=OCTOBER)
    steps = [datetime.timedelta(days=3652), datetime.timedelta(days=-7305), datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC) - OCTOBER]
    with ledger(tmp_path, clock) as books:
        for step in steps:
            clock.advance(1200)
            append(books, usage())
            clock.step_wall(step)
            clock.advance(1200)
            append(books, usage())
            clock.step_wall(-step)
    timed = list(LedgerReader(tmp_path).timed())
    assert [int(record["sequence"]) for record, _ in timed] == list(range(1, 8))
    assert all(when.earliest is None or when.latest is None or when.earliest <= when.latest for _, when in timed)


def test_the_table_has_a_row_for_each_usage_record_and_its_money(tmp_path: Path, clock: SimulatedClock) -> None:
    with ledger(tmp_path, clock) as books:
        append(books, usage(3, turn="=1+1"), usage(4))
    table = io.StringIO()
    export_csv(LedgerReader(tmp_path).timed(), table)
    rows = list(csv.DictReader(io.StringIO(table.getvalue())))
    assert [(row["type"], row["amount"], row["gen_ai.usage.output_tokens"]) for row in rows] == [
        ("usage", "0.03", "3"),
        ("usage", "0.04", "4"),
    ]
    assert rows[0]["earliest"] == rows[0]["latest"] == "2026-11-01T00:00:00Z"
