"""Twins on a real mosquitto: published when they are set, kept for robots that are away, tried again until the broker has them."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from agent.billing.ledger import Store, devices
from agent.billing.mqtt.publishing import Publishing
from agent.billing.twins import Twins, Wish
from agent.contract import wire
from agent.contract.fleet import twin
from agent.errors import LedgerDamaged
from agent.link.mqtt.message import Filter, Incoming
from agent.link.mqtt.steady import Mqtt
from agent.sim.real.broker import Broker
from tests.billing.helpers import BACKEND_KEY, NOW
from tests.link.mqtt_helpers import CLOCK, as_backend, as_robot, confirming, play, until

TRUSTED = {BACKEND_KEY.key_id: BACKEND_KEY.public}


@pytest.fixture
def broker(tmp_path: Path) -> Any:
    with Broker(tmp_path / "broker") as running:
        yield running


class Failing(Twins):
    """Books that can't be read the first time."""

    failed = False

    async def pending(self, **told: Any) -> Any:
        if not self.failed:
            self.failed = True
            raise LedgerDamaged("the disk does not answer")
        return await super().pending(**told)


def test_what_is_set_is_kept_for_a_robot_that_is_away_and_sent_to_one_that_is_there(broker: Broker, tmp_path: Path) -> None:
    async def story() -> None:
        store, lines = Store(tmp_path / "books", CLOCK), list[str]()
        for number, name in enumerate(("r1", "r2")):
            public = bytes([number]) * 32
            await store.write(lambda connection, name=name, public=public: devices.register(connection, "demo", name, "a", public, NOW))  # type: ignore[misc]
        twins = Failing(store, BACKEND_KEY, CLOCK)
        await twins.set("demo", "r1", Wish(groups=["early"]))
        publishing = Publishing(as_backend(broker), twins, CLOCK, say=lines.append)
        running = asyncio.create_task(publishing.run())
        here: list[Incoming] = []
        robot = Mqtt(as_robot(broker, "r2"), "r2", CLOCK, [Filter(wire.topic("demo", "r2", wire.DESIRED), True)], confirming(here))
        await robot.ready()
        await until(lambda: publishing.counts["published"] == 1)
        await twins.set("demo", "r2", Wish({"words": {"keep": True}}))
        await until(lambda: here)
        assert twin.read(here[0].content, TRUSTED).version == 1
        await until(lambda: publishing.counts["published"] == 2)
        assert await twins.pending() == []
        late: list[Incoming] = []
        away = Mqtt(as_robot(broker, "r1"), "r1", CLOCK, [Filter(wire.topic("demo", "r1", wire.DESIRED), True)], confirming(late))
        await away.ready()
        await until(lambda: late)
        assert (twin.read(late[0].content, TRUSTED).groups, late[0].retained) == (["early"], True)
        assert any("the disk does not answer" in line for line in lines)
        running.cancel()
        for mqtt in (robot, away):
            await mqtt.aclose()
        await asyncio.gather(running, return_exceptions=True)
        await store.aclose()

    play(story())


def test_a_broker_that_refuses_leaves_it_pending(broker: Broker, tmp_path: Path) -> None:
    async def story() -> None:
        store, lines = Store(tmp_path / "books", CLOCK), list[str]()
        await store.write(lambda connection: devices.register(connection, "demo", "r1", "a", b"k" * 32, NOW))
        twins = Twins(store, BACKEND_KEY, CLOCK)
        await twins.set("demo", "r1", Wish())
        publishing = Publishing(as_robot(broker, "r2"), twins, CLOCK, say=lines.append)  # who may not write there
        running = asyncio.create_task(publishing.run())
        await until(lambda: publishing.counts["refused"] >= 2)
        assert len(await twins.pending()) == 1
        assert "demo/r1: the broker does not take the twin" in lines[0]
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await store.aclose()

    play(story())
