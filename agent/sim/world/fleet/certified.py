"""A robot in a scenario whose certificate may end: the real driver that renews it, in whose hours only seconds pass."""

import datetime
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol, runtime_checkable

from agent import profile as profiles
from agent.clock import ClockQuality, Settable
from agent.enrolment.renewing import Around, Renewing, Roads
from agent.link.probe import word_of
from agent.ports import Link
from agent.profile import Endpoint, Profile, Sync
from agent.sim.world.robot import Robot
from agent.store.ledger.chain import Identity
from agent.store.pair import Pair

Say = Callable[[str], None]


@runtime_checkable
class Way(Protocol):
    """A link to the broker, as far as its certificate goes."""

    @property
    def up(self) -> bool: ...

    @property
    def problem(self) -> str:
        """Why it is away, in the other side's words."""
        ...

    def reconnect(self, why: str) -> None: ...


class Hasty:
    """A clock by which the driver's looks and waits are over `times` as soon; what time it is, and since when it runs, are as they are."""

    def __init__(self, clock: Settable, times: float) -> None:
        self._clock, self._times = clock, times

    def utc(self) -> datetime.datetime:
        return self._clock.utc()

    def quality(self) -> ClockQuality:
        return self._clock.quality()

    def monotonic(self) -> float:
        return self._clock.monotonic() * self._times

    def boottime_ms(self) -> int:
        return self._clock.boottime_ms()

    def boot_id(self) -> str:
        return self._clock.boot_id()

    async def sleep(self, seconds: float) -> None:
        await self._clock.sleep(seconds / self._times)

    def new_id(self) -> str:
        return self._clock.new_id()

    def new_epoch(self) -> str:
        return self._clock.new_epoch()

    def seed(self) -> int:
        return self._clock.seed()

    def secret(self, size: int) -> bytes:
        return self._clock.secret(size)

    def attest(self, moment: datetime.datetime) -> None:
        self._clock.attest(moment)


class Certified:
    """Keeps the certificate of one body of a robot, from start to power cut and again."""

    def __init__(  # noqa: PLR0917  all of it is the robot's
        self, profile: Profile, clock: Settable, times: float, say: Say, noted: Callable[[str], None], roads: Roads | None = None
    ) -> None:
        """`times`: how much faster its hours pass; `noted` hears each word of the broker's on its certificate."""
        self._profile, self._clock, self._say, self._roads = profile, Hasty(clock, times), say, roads
        self._noted = noted
        self._renewing: Renewing | None = None
        self.state = "none"
        """As of the last look of the last life."""

    def begin(self, robot: Robot, links: Iterable[Link]) -> None:
        """A life, in the robot's own tasks; one of the links leads to the broker."""
        link = next(one for one in links if isinstance(one, Way))

        def problem() -> str:
            told = "" if link.up else link.problem
            if word := word_of(told):
                self._noted(word)
            return told

        around = Around(lambda: link.up, problem, lambda: link.reconnect("another certificate is in use"))
        self._renewing = Renewing(self._profile, robot.state, self._clock, self._say, around, self._roads)
        robot.begin(self._renewing.run())

    def look(self) -> str:
        """How its certificate stands, as the driver sees it."""
        if self._renewing is not None:
            self.state = self._renewing.state
        return self.state


def halfway(state: Path) -> bool:
    """Whether a power cut has found this robot between one certificate and the next."""
    return Pair(state).stage != "nothing"


def shown(state: Path) -> bytes:
    """The certificate in use, PEM; nothing where there is none."""
    certificate, _ = Pair(state).files()
    return certificate.read_bytes() if certificate is not None else b""


def profile_of(identity: Identity, https: Endpoint, mqtt: Endpoint | None = None) -> Profile:
    """The simulated profile, for that robot and these ends."""
    given = profiles.load("simulated")
    device = given.device.model_copy(update={"tenant": identity.tenant, "id": identity.device})
    return given.model_copy(update={"device": device, "sync": Sync(mqtt=mqtt, https=https)})
