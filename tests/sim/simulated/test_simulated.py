"""The scenarios in the simulated world, with fresh seeds; and that a seed repeats all of it."""

from pathlib import Path

import pytest

from agent.clock import SystemClock
from agent.sim.simulated.campaign import run_campaign, run_simulated
from agent.sim.simulated.world import SimulatedWorld
from agent.sim.world import loop, scenario
from agent.sim.world.evidence import Evidence
from tests.e2e.helpers import voxmeter

ROBOTS = 5


@pytest.mark.parametrize("name", scenario.names())
def test_a_scenario_ends_as_its_checks_say(name: str) -> None:
    seed = SystemClock().seed()
    report = run_simulated(scenario.load(name), ROBOTS, seed)
    assert report.ok, report.told()


def test_what_was_pruned_and_then_lost_by_the_backend_is_declared() -> None:
    seed = SystemClock().seed()
    report = run_simulated(scenario.load("backend-restored"), ROBOTS, seed)
    assert report.figures["declared"] > 0, report.told()
    assert report.figures["lost"] == 0, report.told()


def test_a_backend_that_is_restored_is_another_one_and_has_what_the_backup_had(tmp_path: Path) -> None:
    async def main() -> Evidence:
        world = SimulatedWorld(2, 1, tmp_path / "world")
        await world.start()
        for _ in range(3):  # backups 1 to 3; the last one can't be read, so the second counts
            for robot in world.robots:
                await world.turn(robot)
            await world.sleep(60)
            await world.backup_backend()
        await world.lose_backup()
        await world.restore_backend(0)
        await world.turn("sim-0001")
        await world.sleep(300)
        found = await world.evidence()
        await world.aclose()
        return found

    found = loop.run(main())
    heard = [one for one in found.heard if one.robot == "sim-0001"]
    assert len({one.backend_id for one in heard}) == 2
    marks = [one.cum_ack for one in heard if one.backend_id == heard[-1].backend_id and one.mark]
    before = max(one.cum_ack for one in heard if one.backend_id == heard[0].backend_id)
    assert 0 < marks[0] < before < heard[-1].cum_ack


def test_the_same_seed_has_the_same_digest_and_another_one_another() -> None:
    story = scenario.load("bad-link")
    first, again, other = (run_simulated(story, 3, seed) for seed in (7, 7, 8))
    assert first == again
    assert first.digest != other.digest


def test_a_campaign_counts_what_it_did_and_follows_from_its_seed() -> None:
    counts = [run_campaign(1, 0, SystemClock(), names=["quiet-day"], first_seed=3, devices=2) for _ in range(2)]
    assert counts[0] == counts[1]
    assert counts[0]["runs"] == 1
    assert counts[0]["calls"] > 0
    assert (counts[0]["lost"], counts[0]["billed_twice"], counts[0]["failed"]) == (0, 0, [])


def test_a_campaign_of_one_scenario_adds_up_its_commands() -> None:
    told = voxmeter("sim", "scenarios", "--only", "command-storm", "--seeds", "1", "--devices", "2", "--seed", "3", "--json").told
    assert told["runs"] == 1
    assert told["commands"] >= 2 * 25
    assert (told["commands_lost"], told["commands_twice"], told["failed"]) == (0, 0, [])


def test_a_campaign_of_a_scenario_that_is_not_there_is_told_in_one_line() -> None:
    ended = voxmeter("sim", "scenarios", "--only", "command-strom", "--seeds", "1")
    assert ended.status == 2
    assert "no scenario is called 'command-strom'" in ended.err


def test_in_a_winter_certificates_end_robots_are_struck_off_and_a_seed_repeats_it() -> None:
    story, seed = scenario.load("certificate-winter"), SystemClock().seed()
    first, again = (run_simulated(story, ROBOTS, seed) for _ in range(2))
    assert first.ok, first.told()
    assert first.figures["revoked"] == 1
    assert first.figures["withheld"] > 0
    assert first == again
