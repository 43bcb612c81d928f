"""Scenario files: those that come with the agent, and what is wrong with others."""

from pathlib import Path

import pytest

from agent.errors import BadInput
from agent.sim.world import scenario
from agent.sim.world.checks import CHECKS, check_names

SHIPPED = {
    "certificate-winter",
    "command-storm",
    "hijack",
    "quiet-day",
    "bad-link",
    "week-offline",
    "stampede",
    "broker-loses-memory",
    "backend-restarts",
    "backend-restored",
    "cloned-card",
}

GOOD = 'name = "x"\nabout = "y"\nchecks = ["units"]\n[[phase]]\nseconds = 5\n'


def written(folder: Path, text: str) -> str:
    path = folder / "a.toml"
    path.write_text(text)
    return str(path)


def test_all_are_there() -> None:
    assert set(scenario.names()) == SHIPPED


@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_each_names_itself_and_checks_that_exist(name: str) -> None:
    story = scenario.load(name)
    assert story.name == name
    assert story.seconds + story.drain_s_max <= scenario.SECONDS_MAX
    check_names(story)
    assert set(story.checks) <= set(CHECKS)


def test_only_a_clone_plants_forks() -> None:
    planting = {name for name in SHIPPED for phase in scenario.load(name).phase for one in phase.happens if one.what == "clone_robot"}
    assert planting == {"cloned-card"}


def test_a_weather_may_be_named_or_told(tmp_path: Path) -> None:
    told = scenario.load(written(tmp_path, GOOD + 'link = "none"\n[[phase]]\nseconds = 1\nlink = { cut = 0.5 }\n'))
    assert [phase.weather.up for phase in told.phase] == [False, True]
    assert told.phase[1].weather.cut == 0.5


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name =", "not TOML"),
        ("", "name"),
        (GOOD + "turn = 3\n", "turn"),
        (GOOD + "turns = -3\n", "turns"),
        (GOOD + 'link = "fair"\n', "link"),
        (GOOD + 'happens = [{ what = "earthquake" }]\n', "what"),
        (GOOD + 'happens = [{ what = "cut_power", at_s = 6 }]\n', "after the phase"),
        (GOOD + 'happens = [{ what = "kill_broker", share = 0.5 }]\n', "no share"),
        (GOOD.replace("seconds = 5", "seconds = 150"), "the most is 180"),
        ('name = "x"\nabout = "y"\nchecks = []\n[[phase]]\nseconds = 5\n', "checks"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(BadInput, match=said) as caught:
        scenario.load(written(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_a_scenario_that_is_not_there_and_one_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="quiet-day"):
        scenario.load("quite-day")
    with pytest.raises(BadInput, match="name a readable scenario"):
        scenario.load(str(tmp_path) + "/")


def test_a_check_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="luck"):
        check_names(scenario.load(written(tmp_path, GOOD.replace("units", "luck"))))
