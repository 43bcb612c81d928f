"""What must not keep a robot from its guests: books that somebody else has for a while, and files that are damaged."""

import asyncio
import functools
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest

from agent import service
from agent.clock import SystemClock
from agent.contract.signing import SigningKey, encode
from agent.errors import LedgerBusy
from agent.log import Log
from agent.notify import Notifier
from agent.service import loop
from agent.service.running import Request, Running, Settings
from agent.service.watch import BLIND_SECONDS_MAX
from agent.sim.clock import SimulatedClock
from agent.steering import FromAfar
from agent.store import trust
from agent.store.state import Lock
from agent.talking.attending import Attending
from tests.service.test_loop import Script


class Hurried(SystemClock):
    """Whoever waits waits no longer than a moment, until it is calmed."""

    def __init__(self) -> None:
        super().__init__()
        self.ahead_s, self.calm = 0.0, False
        self.passes: Callable[[], None] = lambda: None

    async def sleep(self, seconds: float) -> None:
        if self.calm:
            await super().sleep(seconds)
            return
        self.ahead_s += seconds
        self.passes()
        await asyncio.sleep(0)

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead_s


def told(tmp_path: Path) -> Notifier:
    return Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")})


def test_under_systemd_the_books_are_waited_for_and_the_watchdog_is_fed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, held = Hurried(), Lock(tmp_path)
    fed, extended, said = [0.0], list[float](), list[str]()
    monkeypatch.setattr(loop, "SystemClock", lambda: clock)
    monkeypatch.setattr(Notifier, "alive", lambda _: fed.append(clock.ahead_s))
    monkeypatch.setattr(Notifier, "extend", lambda _, seconds: extended.append(clock.ahead_s + seconds))

    def passes() -> None:
        if clock.ahead_s > BLIND_SECONDS_MAX * 5 and not clock.calm:
            clock.calm = True
            held.release()

    clock.passes = passes
    script = Script([{}], [lambda one: one.request_restart("seen")])
    run = service.run("scripted", tmp_path, said.append, steers=lambda *_: script, notifier=told(tmp_path))
    assert asyncio.run(asyncio.wait_for(run, 60)) == Request("restart", "seen")
    assert max(later - before for before, later in pairwise([*fed, clock.ahead_s])) < BLIND_SECONDS_MAX
    assert extended[0] < 40
    assert extended[-1] > BLIND_SECONDS_MAX * 5
    assert len([line for line in said if "waits: the ledger in" in line]) == 1


def test_another_service_is_not_waited_for(tmp_path: Path) -> None:
    async def main() -> None:
        up = asyncio.Event()
        first = Script([{}], [lambda _: up.set()])
        serving = asyncio.create_task(service.run("scripted", tmp_path, lambda _: None, steers=lambda *_: first, notifier=Notifier({})))
        await up.wait()
        with pytest.raises(LedgerBusy, match="belongs to process"):
            await service.run("scripted", tmp_path, lambda _: None, notifier=told(tmp_path))
        serving.cancel()
        await asyncio.wait({serving})

    asyncio.run(asyncio.wait_for(main(), 60))


class Meanwhile(Script):
    """While it is closed to be opened anew, somebody asks one question of the books."""

    async def beside(self) -> Settings:
        if self.opened and self.asks:
            lock = Lock(self.folder)
            asyncio.get_running_loop().call_later(0.2, lock.release)
            self.opened = []
        return await super().beside()

    folder: Path


def test_a_robot_opened_anew_waits_for_the_books_without_systemd_too(tmp_path: Path) -> None:
    script = Meanwhile([{}], [lambda one: one.request_reopen("settings"), lambda one: one.request_restart("seen")])
    script.folder = tmp_path
    run = service.run("scripted", tmp_path, lambda _: None, steers=lambda *_: script, notifier=Notifier({}))
    assert asyncio.run(asyncio.wait_for(run, 60)).kind == "restart"


@pytest.mark.parametrize("damage", [b"\x00\xff garbage", b"", None, False])
def test_damaged_trust_costs_a_robot_its_links_and_not_its_voice(tmp_path: Path, damage: bytes | Literal[False] | None) -> None:
    """`None`: the keys are well, but the authority is none; `False`: as before its registration, nothing is wrong."""
    profile = tmp_path / "kiosk.toml"
    profile.write_text(Path("device_profiles/scripted.toml").read_text() + '[sync.mqtt]\nhost = "127.0.0.1"\nport = 1\n')
    key = '[[ack_key]]\nkid = "{}"\nx = "{}"\n'.format(*_key())
    if damage is not False:
        (tmp_path / trust.TRUST_FILE).write_bytes(damage if damage is not None else f'authority = "nobody"\n{key}'.encode())
    grave: list[str] = []

    async def main() -> None:
        ready = asyncio.Event()

        def say(line: str) -> None:
            if line.startswith("ready: "):
                ready.set()

        steers = functools.partial(FromAfar, str(profile), Log())
        run = service.run(str(profile), tmp_path, say, grave=grave.append, steers=steers, notifier=Notifier({}))
        serving = asyncio.create_task(run)
        waiting = asyncio.create_task(ready.wait())
        await asyncio.wait({serving, waiting}, return_when=asyncio.FIRST_COMPLETED)
        assert not serving.done(), serving.exception()
        serving.cancel()
        await asyncio.wait({serving})

    asyncio.run(asyncio.wait_for(main(), 60))
    assert [line.startswith("sync: nothing leaves this robot, its records stay here: ") for line in grave] == [True] * (damage is not False)


def _key() -> tuple[str, str]:
    key = SigningKey.from_seed(b"1" * 32)
    return key.key_id, encode(key.public)


class Guest:
    """Has the floor for so many looks."""

    def __init__(self, looks: float) -> None:
        self.left = looks
        self.meanwhile: tuple[int, Callable[[], None]] = -1, lambda: None
        """What happens when so many looks are left."""

    @property
    def busy(self) -> bool:
        self.left -= 1
        if self.left == self.meanwhile[0]:
            self.meanwhile[1]()
        return self.left > 0


def running(guest: Any, clock: SimulatedClock) -> Running:
    return Running(SimpleNamespace(clock=clock), None, guest, Path(), lambda _: None)  # type: ignore[arg-type]


def asked(guest: Guest, clock: SimulatedClock, *kinds: str) -> Request:
    one = running(guest, clock)
    for kind in kinds:
        one.asking.ask(Request(kind, kind))  # type: ignore[arg-type]
    return asyncio.run(asyncio.wait_for(loop._asked(one), 20))


def test_to_be_opened_anew_waits_for_whoever_has_the_floor() -> None:
    guest, clock = Guest(50), SimulatedClock(seed=1)
    assert asked(guest, clock, "reopen").kind == "reopen"
    assert guest.left == 0


def test_a_restart_does_not_wait_for_the_floor() -> None:
    guest = Guest(50)
    assert asked(guest, SimulatedClock(seed=1), "reopen", "restart").kind == "restart"
    assert guest.left == 50


def test_a_restart_that_comes_meanwhile_does_not_wait_either() -> None:
    guest = Guest(50)
    one = running(guest, SimulatedClock(seed=1))
    guest.meanwhile = (25, lambda: one.request_restart("now"))
    one.request_reopen("settings")
    assert asyncio.run(asyncio.wait_for(loop._asked(one), 20)).kind == "restart"
    assert guest.left == 25


def test_who_has_the_floor_for_ever_is_not_waited_for_for_ever() -> None:
    clock = SimulatedClock(seed=1)
    began = clock.monotonic()
    assert asked(Guest(1e9), clock, "reopen").kind == "reopen"
    assert clock.monotonic() - began == pytest.approx(loop.FLOOR_SECONDS_MAX, abs=1)


def test_a_robot_is_busy_while_somebody_speaks_or_asks() -> None:
    attending = Attending(SimpleNamespace(clock=SimulatedClock(seed=1)), lambda _: None)  # type: ignore[arg-type]
    told = [attending.busy]
    for idle in (False, True):
        attending._live = SimpleNamespace(idle=idle, conversation=SimpleNamespace(quiet_s=0.0))  # type: ignore[assignment]
        told.append(attending.busy)
    assert told == [False, True, False]

    async def main() -> None:
        async with attending._floor():
            assert attending.busy

    asyncio.run(main())
