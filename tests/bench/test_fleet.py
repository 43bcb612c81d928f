"""The bench of commands: its figures are there, and its robot is a real one that a desk finds again after a kill."""

import asyncio
from pathlib import Path

from agent.bench import fleet
from agent.clock import SystemClock
from agent.desk import keys
from agent.desk.desk import Desk
from agent.desk.ordering import Wish, ordered
from agent.sim.real.broker import Broker
from tests.link.mqtt_helpers import play, until


def test_all_figures_come_out(tmp_path: Path) -> None:
    told = asyncio.run(fleet.run(20, 50, tmp_path))
    assert told["pings"] == 20
    for part in ("command", "bare", "numbering"):
        assert 0 < told[part]["p50_ms"] <= told[part]["p99_ms"] <= told[part]["max_ms"]
    assert told["ratio_p50"] > 0  # how much, a quiet machine tells
    assert told["commands"]["count"] == 50
    assert told["commands"]["per_s"] > 0


def test_a_real_robot_that_was_killed_gets_what_was_meant_for_it_when_it_is_back(tmp_path: Path) -> None:
    async def story() -> None:
        clock = SystemClock()
        key = keys.make(tmp_path / "operator.key", clock)
        with Broker(tmp_path / "broker", operators=[fleet.OPERATOR]) as broker:
            settings = fleet._settings(broker, tmp_path / "operator.key")
            async with fleet._robot(tmp_path, broker, key):
                pass
            async with Desk(settings, clock) as desk:
                sending = ordered(Wish("say", {"text": "hello"}, 600, everyone=True), "demo", desk.roster, settings.operator_key, clock)
                carrying = asyncio.ensure_future(desk.carry(sending, 30))
                await until(lambda: sending.idle)
                assert sending.progress().offline == 1
                async with fleet._robot(tmp_path, broker, key):
                    await carrying
                assert [order.succeeded for order in sending.orders] == [True]

    play(story())
