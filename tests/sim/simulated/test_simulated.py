"""The eight scenarios in the simulated world, with fresh seeds; and that a seed repeats all of it."""

import pytest

from agent.clock import SystemClock
from agent.sim.simulated.campaign import run_campaign, run_simulated
from agent.sim.world import scenario

ROBOTS = 5


@pytest.mark.parametrize("name", scenario.names())
def test_a_scenario_ends_as_its_checks_say(name: str) -> None:
    seed = SystemClock().seed()
    report = run_simulated(scenario.load(name), ROBOTS, seed)
    assert report.ok, report.told()


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
