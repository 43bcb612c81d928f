"""A broker and a backend in processes of their own, and robots that enrol with them."""

import asyncio
import contextlib
import datetime
import itertools
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

from agent import enrolment
from agent import profile as profiles
from agent.billing.access.robots.authority import CERTIFICATE_FILE, LIST_FILE
from agent.billing.operate import ordered
from agent.clock import Settable, SystemClock
from agent.contract import certificates
from agent.contract.certificates import Certificate
from agent.files import write_durably
from agent.link.probe import Told, tried
from agent.profile import Endpoint, Profile, Sync
from agent.sim.real.backend import Backend
from agent.sim.real.broker import HOST, Broker
from agent.store import trust
from agent.upload import settings_of

T = TypeVar("T")

CLOCK = SystemClock()
TENANT, ACCOUNT = "demo", "hotel"
STORY_S = 60
"""A test that takes longer hangs."""


def profile_of(name: str, sync: Sync) -> Profile:
    held = profiles.load("simulated")
    return held.model_copy(update={"device": held.device.model_copy(update={"tenant": TENANT, "id": name}), "sync": sync})


class House:
    """Everything asynchronous runs in one loop, which the backend's process belongs to."""

    def __init__(self, folder: Path, broker: Broker, runner: asyncio.Runner) -> None:
        self.folder, self.broker, self._runner = folder, broker, runner
        self.backend = Backend(folder / "backend", broker)
        self.bundle = folder / "bundle.pem"
        write_durably(self.bundle, self.backend.authority + broker.authority)
        self._names = itertools.count(1)

    @classmethod
    @contextlib.contextmanager
    def open(cls, folder: Path) -> "Iterator[House]":
        with Broker(folder / "broker", operators=["operator/alice"]) as broker, asyncio.Runner() as runner:
            house = cls(folder, broker, runner)
            try:
                house.play(house.backend.start())
                broker.believe((house.backend.state / CERTIFICATE_FILE).read_bytes(), house.list)
                broker.restart()
                yield house
            finally:
                house.play(house.backend.stop())

    @property
    def list(self) -> Path:
        return self.backend.state / LIST_FILE

    def play(self, story: Coroutine[Any, Any, T]) -> T:
        async def within() -> T:
            async with asyncio.timeout(STORY_S):
                return await story

        return self._runner.run(within())

    def order(self, op: str, **told: Any) -> Any:
        return self.play(ordered(self.backend.state, {"op": op, **told}, CLOCK))

    def token(self, name: str, hours: float = 1) -> str:
        return str(self.order("token", tenant=TENANT, device=name, account=ACCOUNT, hours=hours)["token"])

    def robot(self) -> "Robot":
        name = f"robot-{next(self._names)}"
        return Robot(self, name, self.folder / name)

    def enrolled(self) -> "Robot":
        robot = self.robot()
        robot.enroll(self.token(robot.name))
        return robot

    def issue(self, name: str, days: int, *, ago: int = 0) -> Certificate:
        """By the backend's authority, made so many days ago."""
        folder = self.backend.state / CERTIFICATE_FILE
        by = Certificate(folder.read_bytes(), folder.with_suffix(".key").read_bytes())
        return certificates.issue(by, name, CLOCK.utc() - datetime.timedelta(days=ago), days)


class Robot:
    """A state folder and a profile that names broker and backend."""

    def __init__(self, house: House, name: str, state: Path) -> None:
        self.house, self.name, self.state = house, name, state
        self.said: list[str] = []
        self.ways: tuple[str, ...] = ("mqtt", "https")

    @property
    def profile(self) -> Profile:
        ports = {"mqtt": self.house.broker.robots_port, "https": self.house.backend.port}
        return profile_of(self.name, Sync(**{way: Endpoint(host=HOST, port=ports[way]) for way in self.ways}))

    def enroll(self, token: str, clock: Settable = CLOCK, authority: Path | None = None) -> dict[str, Any]:
        bundle = authority or self.house.bundle
        return self.house.play(enrolment.enroll(self.profile, self.state, token, bundle, clock, self.said.append))

    def connects_until(self, result: str, pair: Path) -> Told:
        """When the broker has been started anew."""
        for _ in range(1000):
            if (told := self.connects(pair)).result == result:
                return told
        raise AssertionError(told)

    def connects(self, pair: Path) -> Told:
        """With that certificate and key."""
        endpoint = self.profile.sync.mqtt
        assert endpoint is not None
        settings = settings_of(self.profile, endpoint, self.state, self.house.bundle.read_text(), CLOCK)
        return self.house.play(tried(settings, pair))

    @property
    def pair(self) -> Path:
        found = trust.tls_files(self.state)[0]
        assert found is not None
        return found
