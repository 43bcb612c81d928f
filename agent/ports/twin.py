"""Where the robot's twin is kept and what it asks of the robot: the values of its state, the book they stand in."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:  # as in `books`
    from agent.contract.fleet.twin import Keys

Settings = dict[str, dict[str, Any]]
"""Table -> key -> value, as in the profile's TOML."""

Trust = dict[str, list[dict[str, Any]]]
"""`ack_keys`, `operator_keys`: lists as in a JWKS; one that is absent stays as it is."""


@dataclass(frozen=True, slots=True)
class Overlay:
    """What lies over the profile."""

    version: int = 0
    """Of the twin it came with; 0: none."""
    settings: Settings = field(default_factory=dict)
    """Groups included, in `[fleet]`."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What is to lie over the profile, if the robot holds with it."""

    overlay: Overlay
    source: Literal["twin", "command"]
    linked: bool
    """The broker was connected when it came, so it must be connected again."""
    trust: Trust = field(default_factory=dict)
    """Whom to believe once it is in force."""
    tries: int = 0
    """How often the robot has been opened with it."""
    heard: bool = False
    """The robot heard before it, so it must hear again: a start of the process doesn't forget that."""


@dataclass(frozen=True, slots=True)
class Standing:
    """All that is durable of the twin."""

    version: int = 0
    """Of the one looked at last; only grows."""
    state: Literal["applied", "trial", "refused", "failed", "none"] = "none"
    why: str = ""
    in_force: Overlay = Overlay()
    trial: Trial | None = None
    owed: Trust = field(default_factory=dict)
    """Came with what is in force and has not been written to its own file yet."""


class TwinBook(Protocol):
    """Durable memory of the twin. May be called from another thread, by one at a time."""

    @property
    def standing(self) -> Standing: ...

    def put(self, standing: Standing) -> None:
        """Whole, on the disk when it returns. Raises BadInput where the disk refuses; then it stands as before."""
        ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The robot, as the twin sees it."""

    audience: str
    """`{tenant}/{device}`."""
    fits: Callable[[Mapping[str, Mapping[str, Any]]], object]
    """Whether the profile is sound with these settings beside it; raises a VoxmeterError in one line. Loads no model."""
    trusted: Callable[[], Mapping[str, bytes]]
    """Key id -> raw public key, of who may sign twins."""
    believe: "Callable[[Keys], None]"
    """Writes whom to believe to its file, durably; the same again does nothing. Raises BadInput."""
    reopen: Callable[[str], None]
    """Asks for the robot to be closed when nobody has the floor, and opened anew; returns at once. Why, for whoever watches."""
    connected: Callable[[], bool]
    """Whether the broker is connected now."""
    hears: Callable[[], bool] = bool
    """Whether the robot hears now; while it is closed, whether it did."""
    ailing: Callable[[], str] = str
    """Why the robot is not as it should be; empty: it is well."""
    software: str = ""
