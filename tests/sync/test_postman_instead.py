"""While the broker is away an alarm takes another way, after minutes; what only a broker carries waits for it."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from agent import profile as profiles
from agent import upload
from agent.clock import SystemClock
from agent.contract.registration import jwks
from agent.contract.signing import SigningKey
from agent.ports import Poster, Refused, Retry
from agent.sim.clock import SimulatedClock
from agent.store import trust
from agent.store.ledger import SqliteLedger
from agent.sync.postman import AWAY_SECONDS, Postman
from tests.store.ledger.world import ROBOT
from tests.sync.test_postman import carrying, until


class Way:
    """A link that is there when it is told to be, and takes everything then."""

    def __init__(self, clock: SimulatedClock, *, here: bool) -> None:
        self._clock = clock
        self.here, self.taking = asyncio.Event(), True
        self.taken: list[str] = []
        self.at_s: list[float] = []
        self.tries = 0
        if here:
            self.here.set()

    async def ready(self) -> None:
        await self.here.wait()
        await asyncio.sleep(0)

    async def post(self, topic: str, body: bytes, *, retained: bool = False) -> Retry | Refused | None:
        del body, retained
        self.tries += 1
        if not self.here.is_set() or not self.taking:
            return Retry("away")
        self.taken.append(topic)
        self.at_s.append(self._clock.monotonic())
        return None


class Slow(SimulatedClock):
    """Lets others run before time passes."""

    async def sleep(self, seconds: float) -> None:
        for _ in range(20):
            await asyncio.sleep(0)
        await super().sleep(seconds)


async def settled() -> None:
    await asyncio.sleep(0.1)


def test_without_the_broker_events_go_another_way_after_minutes_and_results_wait(tmp_path: Path) -> None:
    async def main() -> None:
        clock = Slow(seed=6)
        ledger, broker, https = SqliteLedger(tmp_path, ROBOT, SimulatedClock(seed=5)), Way(clock, here=False), Way(clock, here=True)
        for topic in ("cmd/res/1", "event/alarm"):
            await ledger.post(topic, b"{}")
        began_s = clock.monotonic()
        postman = Postman(ledger, broker, clock, instead=https)
        async with carrying(postman):
            await until(lambda: _is(https.taken == ["event/alarm"]))
            assert https.at_s[0] - began_s >= AWAY_SECONDS
            await settled()
            assert postman.problem == "the broker is away"
            await ledger.post("event/handoff", b"{}")
            await until(lambda: _is(https.taken == ["event/alarm", "event/handoff"]))
            assert https.at_s[1] - https.at_s[0] < AWAY_SECONDS
            assert broker.taken == []
            broker.here.set()
            await until(lambda: _is(broker.taken == ["cmd/res/1"]))
            await settled()
            await ledger.post("event/alarm", b"{}")
            await until(lambda: _is(len(broker.taken) == 2))
            assert postman.problem == ""
        assert https.tries == 2
        await ledger.aclose()

    asyncio.run(main())


def test_a_broker_that_is_there_carries_all(tmp_path: Path) -> None:
    async def main() -> None:
        clock = Slow(seed=6)
        ledger, broker, https = SqliteLedger(tmp_path, ROBOT, SimulatedClock(seed=5)), Way(clock, here=True), Way(clock, here=True)
        async with carrying(Postman(ledger, broker, clock, instead=https)):
            for topic in ("cmd/res/1", "event/alarm"):
                await ledger.post(topic, b"{}")
                await until(lambda topic=topic: _is(broker.taken[-1:] == [topic]))  # type: ignore[misc]
                clock.advance(10 * AWAY_SECONDS)
        assert https.tries == 0
        await ledger.aclose()

    asyncio.run(main())


class Endless(Slow):
    """A back-off takes for ever; only what is there on its own ends a wait."""

    async def sleep(self, seconds: float) -> None:
        if seconds < AWAY_SECONDS - 1 and seconds != 1.0:
            await asyncio.Event().wait()
        await super().sleep(seconds)


def test_where_both_were_away_the_broker_is_used_as_soon_as_it_is_back(tmp_path: Path) -> None:
    async def main() -> None:
        clock = Endless(seed=6)
        ledger, broker, https = SqliteLedger(tmp_path, ROBOT, SimulatedClock(seed=5)), Way(clock, here=False), Way(clock, here=True)
        https.taking = False
        await ledger.post("event/alarm", b"{}")
        async with carrying(Postman(ledger, broker, clock, instead=https)):
            await until(lambda: _is(https.tries == 1))
            await settled()
            broker.here.set()
            await until(lambda: _is(broker.taken == ["event/alarm"]))
        await ledger.aclose()

    asyncio.run(main())


@pytest.mark.parametrize("ways", [("mqtt", "https"), ("https",), ("mqtt",)])
def test_a_robot_s_postman_knows_the_next_link_of_its_profile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ways: tuple[str, ...]
) -> None:
    told: list[tuple[str, str]] = []

    class Noted(Postman):
        def __init__(self, outbox: SqliteLedger, link: Poster, *more: Any, instead: Poster | None) -> None:
            super().__init__(outbox, link, *more, instead=instead)
            told.append((link.name, instead.name if instead is not None else ""))  # type: ignore[attr-defined]  # both are links

    monkeypatch.setattr(upload, "Postman", Noted)
    text = profiles.find("scripted").read_text()
    for way in ways:
        text += f'\n[sync.{way}]\nhost = "127.0.0.1"\nport = 9\nplain = true\n'
    (tmp_path / "p.toml").write_text(text)
    trust.write(tmp_path, jwks([SigningKey.from_seed(b"b" * 32).public]), "")

    async def main() -> None:
        ledger = SqliteLedger(tmp_path, ROBOT, SimulatedClock(seed=5))
        async with upload.worker(profiles.load(str(tmp_path / "p.toml")), tmp_path, ledger, SystemClock(), lambda _: None):
            pass
        await ledger.aclose()

    asyncio.run(main())
    assert told == [(ways[0], ways[1] if ways[1:] else "")]


async def _is(true: bool) -> bool:
    return true
