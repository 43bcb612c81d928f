"""What happens when, in one file for both worlds: phases of a robot's day, the link's weather, and what breaks on the way.

Seconds are those of the scenario: real ones in the real world, virtual ones in the simulated. Between phases the robots' clocks
may leap, so that a week passes in half a minute.
"""

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from agent.contract.record import first_problem
from agent.errors import BadInput

SECONDS_MAX = 180
"""A scenario, its drain included, ends within three minutes of real time."""

Share = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(ge=0, le=SECONDS_MAX)]

What = Literal[
    "cut_power",
    "step_clock",
    "clone_robot",
    "prune_robot",
    "kill_backend",
    "backup_backend",
    "lose_backup",
    "restore_backend",
    "kill_broker",
    "broker_forgets",
    "hijack_robot",
    "hijack_broker",
    "revoke_robot",
]

OF_ROBOTS: tuple[What, ...] = ("cut_power", "step_clock", "clone_robot", "prune_robot", "hijack_robot", "revoke_robot")
"""Happen to a share of the robots, each of them drawn."""


class Told(BaseModel):
    """Read from a file: nothing unknown, nothing changed afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Weather(Told):
    """How good the link between all robots and the other side is."""

    up: bool = True
    """False: every connection is cut, no new one comes about."""
    drop: Share = 0
    """Of new connections, how many are refused."""
    half_open: Share = 0
    """Of new connections, how many come about and then carry nothing, without ever ending."""
    cut: Share = 0
    """The chance, each second, that a connection is cut."""
    delay_ms: Annotated[float, Field(ge=0, le=10_000)] = 0
    """One way, on the average; between nothing and twice as much."""


GOOD, NONE = Weather(), Weather(up=False)


class Happening(Told):
    """Something breaks, or is broken."""

    what: What
    at_s: Seconds = 0
    """After the phase began."""
    share: Share = 1
    """Of the robots; at least one of them. Only for what happens to robots."""
    down_s: Seconds = 0
    """How long what was cut or killed stays away."""
    hours: Annotated[float, Field(ge=-10_000, le=10_000)] = 0
    """By how much a wall clock is set forward, or back."""


class Phase(Told):
    """A part of the story."""

    about: str = ""
    seconds: Annotated[float, Field(gt=0, le=SECONDS_MAX)]
    turns: Annotated[int, Field(ge=0, le=1_000)] = 0
    """Of each robot, at moments drawn from the phase."""
    orders: Annotated[int, Field(ge=0, le=1_000)] = 0
    """Commands to each robot, likewise."""
    link: Literal["good", "none"] | Weather = "good"
    leap_hours: Annotated[float, Field(ge=0, le=10_000)] = 0
    """Passes on the robots' clocks before the phase begins."""
    happens: tuple[Happening, ...] = ()

    @property
    def weather(self) -> Weather:
        return self.link if isinstance(self.link, Weather) else {"good": GOOD, "none": NONE}[self.link]

    @model_validator(mode="after")
    def _happens_within(self) -> "Phase":
        if late := [one for one in self.happens if one.at_s > self.seconds]:
            raise ValueError(f"{late[0].what} at {late[0].at_s} s comes after the phase of {self.seconds} s")
        if whole := [one for one in self.happens if one.share < 1 and one.what not in OF_ROBOTS]:
            raise ValueError(f"{whole[0].what} has no share of the robots")
        return self


class Scenario(Told):
    """A story and what must be true in the end."""

    name: str
    about: str
    checks: Annotated[tuple[str, ...], Field(min_length=1)]
    """Names in `checks.CHECKS`."""
    untrusted_clocks: Share = 0
    """Of the robots, how many have a clock that nobody can trust."""
    certificates: bool = False
    """Robots enrol for certificates, and those end: some are months old already."""
    drain_s_max: Seconds = 60
    """After the last phase, with a good link: how long until nothing is left to send."""
    phase: Annotated[tuple[Phase, ...], Field(min_length=1)]

    @property
    def orders(self) -> bool:
        """Whether an operator steers the robots."""
        return any(phase.orders for phase in self.phase)

    @property
    def seconds(self) -> float:
        """Without the drain."""
        return sum(phase.seconds for phase in self.phase)

    @model_validator(mode="after")
    def _ends_in_time(self) -> "Scenario":
        if self.seconds + self.drain_s_max > SECONDS_MAX:
            raise ValueError(f"the phases and the drain take {self.seconds + self.drain_s_max} s; the most is {SECONDS_MAX}")
        return self


FOLDER = Path(__file__).parent.parent / "scenarios"


def names() -> list[str]:
    """Of the scenarios that come with the agent."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load(name: str) -> Scenario:
    """A scenario by its name, or by the path of its file. Raises BadInput in one line."""
    path = Path(name) if "/" in name or name.endswith(".toml") else FOLDER / f"{name}.toml"
    try:
        told: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BadInput(f"no scenario is called {name!r}", f"there are: {', '.join(names())}") from error
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}", "name a readable scenario") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: not TOML: {error}") from error
    try:
        return Scenario.model_validate(told)
    except ValidationError as error:
        raise BadInput(f"{path}: {first_problem(error)}") from error
