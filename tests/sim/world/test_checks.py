"""Each check finds what it is for, in books that were right before somebody altered them."""

import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from agent.sim.simulated.world import SimulatedWorld
from agent.sim.world import loop
from agent.sim.world.checks import CHECKS, Case, Report, judged
from agent.sim.world.evidence import Evidence
from agent.sim.world.scenario import Phase, Scenario

OF_THE_FLEET = {"commands", "attacks", "certificates"}
"""See tests/sim/world/fleet."""

STORY = Scenario(name="x", about="y", checks=tuple(name for name in CHECKS if name not in OF_THE_FLEET), phase=(Phase(seconds=1),))

BILLED = 1


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    """Three robots that have had turns, all of them billed; the second one's card was cloned."""

    async def main() -> Evidence:
        world = SimulatedWorld(3, 1, tmp_path_factory.mktemp("world"))
        await world.start()
        for _ in range(5):
            for robot in world.robots:
                await world.turn(robot)
        await world.clone_robot("sim-0002")
        for _ in range(3):
            for robot in world.robots:
                await world.turn(robot)
        await world.sleep(300)
        found = await world.evidence()
        await world.aclose()
        return found

    return loop.run(main())


@pytest.fixture
def found(ended: Evidence, tmp_path: Path) -> Evidence:
    """A copy to be spoilt."""
    shutil.copytree(ended.backend, tmp_path / "backend")
    return replace(ended, backend=tmp_path / "backend")


def alter(found: Evidence, statement: str, *values: object) -> None:
    with sqlite3.connect(found.backend / "billing.db") as connection:
        assert connection.execute(statement, values).rowcount > 0
    connection.close()


def wrong(found: Evidence, cloned: tuple[str, ...] = ("sim-0002",)) -> set[str]:
    report: Report = judged(STORY, found, set(cloned), 1)
    return {check.name for check in report.checks if not check.ok}


def test_nothing_is_wrong_where_nothing_is_wrong(found: Evidence) -> None:
    report = judged(STORY, found, {"sim-0002"}, 1)
    assert report.ok, report.told()
    assert report.figures["calls"] > 50
    assert report.told()["ok"] is True


A_USAGE = "(SELECT epoch_id, sequence FROM record WHERE type = 'voxmeter.usage.v1' AND state = 1 LIMIT 1)"


def test_a_record_that_is_not_billed_is_lost(found: Evidence) -> None:
    alter(found, f"UPDATE record SET state = 3 WHERE (epoch_id, sequence) = {A_USAGE}")
    assert {"units"} <= wrong(found) <= {"units", "money"}


def test_what_a_gap_covers_is_declared_and_not_lost(found: Evidence) -> None:
    """The backend loses a robot's last call; the robot's gap for it stands in place of another record of its."""
    with sqlite3.connect(found.backend / "billing.db") as connection:
        place = (
            "SELECT record.epoch_id, record.sequence, epoch.epoch FROM record JOIN epoch ON epoch.id = record.epoch_id"
            " JOIN device ON device.id = epoch.device_id WHERE device.name = 'sim-0001' AND type = ? ORDER BY sequence DESC LIMIT 1"
        )
        epoch_id, sequence, epoch = connection.execute(place, ("voxmeter.usage.v1",)).fetchone()
        _, other, _ = connection.execute(place, ("voxmeter.intent.v1",)).fetchone()
    connection.close()
    alter(found, "DELETE FROM record WHERE (epoch_id, sequence) = (?, ?)", epoch_id, sequence)
    case = Case(found, {"sim-0002"})
    assert (len(case.lost), case.declared, case.declared_records) == (1, [], 0)
    gap = orjson.dumps({"data": {"epoch": epoch, "first": sequence, "last": sequence}})
    alter(found, "UPDATE record SET type = 'voxmeter.gap.v1', body = ? WHERE (epoch_id, sequence) = (?, ?)", gap, epoch_id, other)
    case = Case(found, {"sim-0002"})
    assert (case.lost, len(case.declared), case.declared_records) == ([], 1, 1)
    assert len(case.appended) == len(case.own.attempts) - 1


def test_a_record_that_is_billed_twice_is_seen(found: Evidence) -> None:
    alter(
        found,
        f"UPDATE record SET body = (SELECT body FROM record WHERE (epoch_id, sequence) = {A_USAGE}) WHERE state = 1 AND sequence > 30",
    )
    assert "units" in wrong(found)


def test_units_that_no_robot_appended_are_seen(found: Evidence) -> None:
    altered = "CAST(replace(CAST(body AS TEXT), '\"completed\"', '\"interrupted\"') AS BLOB)"
    alter(found, f"UPDATE record SET body = {altered} WHERE state = 1 AND CAST(body AS TEXT) LIKE '%\"completed\"%'")
    assert "units" in wrong(found)


def test_a_running_total_that_is_off_is_seen(found: Evidence) -> None:
    alter(found, "UPDATE total SET amount = '1' || amount WHERE amount IS NOT NULL")
    assert wrong(found) == {"money"}
    alter(found, 'UPDATE total SET "distinct" = "distinct" + 1')
    assert wrong(found) == {"money", "units"}


def test_an_epoch_that_is_not_linked_to_its_end_has_a_gap(found: Evidence) -> None:
    alter(found, "UPDATE epoch SET cum = cum - 1 WHERE cum > 20")
    assert "gaps" in wrong(found)


def test_an_ack_that_is_not_in_the_books_was_not_durable(found: Evidence) -> None:
    alter(found, "UPDATE epoch SET cum = 1")
    assert "acks" in wrong(found)


def test_an_ack_that_a_mark_took_back_was_withdrawn(found: Evidence) -> None:
    first = found.heard[0]
    untrue = first._replace(cum_ack=10_000, standing="agreed", mark=False)
    assert wrong(replace(found, heard=[untrue])) == {"acks"}
    assert wrong(replace(found, heard=[untrue, first._replace(mark=True)])) == set()


def test_what_is_left_to_send_is_named(found: Evidence) -> None:
    assert wrong(replace(found, backlog={"sim-0001": 3})) == {"drained"}


def test_a_fork_must_be_found_where_it_was_planted_and_nowhere_else(found: Evidence) -> None:
    assert wrong(found, cloned=()) == {"forks"}
    assert wrong(found, cloned=("sim-0001", "sim-0002")) == {"forks"}


def test_more_on_their_way_than_a_window_are_seen(found: Evidence) -> None:
    assert wrong(replace(found, in_flight_max={"sim-0001": 9})) == {"window"}
    assert wrong(replace(found, over_window={"sim-0001": 1})) == {"window"}
