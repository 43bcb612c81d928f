"""Decides who is there, of births, presences and whatever else robots say of themselves."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from agent.contract import wire
from agent.contract.fleet import presence
from agent.contract.fleet.presence import Birth, ConnId, Presence, Sync, Telemetry
from agent.contract.fleet.twin import Reported
from agent.desk.news import News

CLOCKLESS = ("none", "floor")
"""Qualities of a robot's clock by which it can't tell whether a command is fresh."""

PLACES = {
    wire.BIRTH: "birth",
    wire.PRESENCE: "presence",
    wire.REPORTED: "reported",
    wire.TELEMETRY: "telemetry",
    wire.SYNC: "sync",
}
"""Where it stands in a `Robot`."""


@dataclass(slots=True)
class Robot:
    """What is known of one."""

    device: str
    birth: Birth | None = None
    presence: Presence | None = None
    reported: Reported | None = None
    telemetry: Telemetry | None = None
    sync: Sync | None = None

    @property
    def present(self) -> bool:
        return presence.present(self.birth, self.presence)

    @property
    def latest(self) -> Birth | Sync | None:
        """What it said last of its connection."""
        if self.birth and self.sync:
            return self.sync if self.sync.conn_id.order > self.birth.conn_id.order else self.birth
        return self.birth or self.sync

    @property
    def connection(self) -> ConnId | None:
        return self.latest.conn_id if self.latest else None

    @property
    def nonce(self) -> str:
        return self.latest.nonce if self.latest else ""

    def taken(self, key_id: str) -> int:
        """The highest number of that key it has taken, as it said at its present connection; 0: it did not say."""
        current = self.sync and self.sync.conn_id == self.connection
        return self.sync.last.get(key_id, 0) if self.sync and current else 0

    @property
    def clockless(self) -> bool:
        """It takes a command only with the nonce of its present connection."""
        return self.birth is None or self.birth.clock in CLOCKLESS

    def row(self) -> dict[str, Any]:
        """As `fleet list` tells it. What is not known is absent."""
        told: dict[str, Any] = {"device": self.device, "present": self.present}
        if self.birth:
            told |= self.birth.model_dump(include={"software", "profile", "clock", "groups", "ops"})
        if self.presence and not self.present:
            told["why"] = self.presence.why
        if self.reported:
            told["twin"] = self.reported.model_dump(include={"in_force", "version", "state", "why"})
        if self.telemetry:
            told["telemetry"] = self.telemetry.model_dump(exclude_none=True, exclude={"device"})
        return told


class Roster:
    """All robots of a tenant that have ever been heard of here."""

    def __init__(self) -> None:
        self._robots: dict[str, Robot] = {}

    def take(self, news: News) -> bool:
        """Whether it says anything new: at each subscription the broker tells what it keeps."""
        name = PLACES.get(news.what)
        if name is None:
            return True
        robot = self._robots.setdefault(news.device, Robot(news.device))
        changed = bool(getattr(robot, name) != news.told)
        setattr(robot, name, news.told)
        if robot.birth is None and robot.presence is None and news.told is None:
            del self._robots[news.device]
        return changed

    def robot(self, device: str) -> Robot:
        """One that nothing is known of, too."""
        return self._robots.get(device) or Robot(device)

    @property
    def known(self) -> Sequence[Robot]:
        """Those with a birth, by name."""
        return sorted((robot for robot in self._robots.values() if robot.birth), key=lambda robot: robot.device)

    def members(self, group: str) -> Sequence[Robot]:
        return [robot for robot in self.known if robot.birth and group in robot.birth.groups]
