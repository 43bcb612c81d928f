"""Lines keep their order, break when they must, and repeat themselves; the broker keeps and forgets what it should."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.sim.simulated.broker import AUTOSAVE_S, Broker, Message
from agent.sim.simulated.network import Broken, Line, Network, Trace
from agent.sim.world import loop
from agent.sim.world.scenario import GOOD, NONE, Weather


def played(main: Callable[[Network, Broker], Awaitable[None]], seed: int = 1) -> str:
    trace = Trace()

    async def outer() -> None:
        broker = Broker(trace)
        try:
            await main(Network(seed, trace), broker)
        finally:
            await broker.aclose()

    loop.run(outer())
    return trace.hexdigest()


def batch(number: int) -> Message:
    return Message("batch", "demo", "r1", b"%d" % number, {}, b"%d" % number)


@given(st.integers(0, 2**32), st.integers(1, 20))
def test_what_a_line_carries_arrives_in_order(seed: int, count: int) -> None:
    arrived: list[int] = []

    async def one(line: Line, number: int) -> None:
        await line.carry("up")
        arrived.append(number)

    async def main(network: Network, _: Broker) -> None:
        network.turn(Weather(delay_ms=500))
        line = await network.dial()
        await asyncio.gather(*(one(line, number) for number in range(count)))

    played(main, seed)
    assert arrived == list(range(count))


def test_without_a_link_nothing_comes_about_and_what_is_open_breaks() -> None:
    async def main(network: Network, _: Broker) -> None:
        line = await network.dial()
        carrying = asyncio.ensure_future(line.carry("up"))
        await asyncio.sleep(0)
        network.turn(NONE)
        with pytest.raises(Broken):
            await carrying
        with pytest.raises(Broken):
            await network.dial()

    played(main)


def test_a_held_line_says_nothing_until_the_weather_turns() -> None:
    async def main(network: Network, _: Broker) -> None:
        network.turn(Weather(half_open=1))
        line = await network.dial()
        carrying = asyncio.ensure_future(line.carry("up"))
        await asyncio.sleep(3600)
        assert line.held
        assert not carrying.done()
        network.turn(GOOD)
        await carrying

    played(main)


def test_in_bad_weather_lines_are_cut_in_the_end() -> None:
    async def main(network: Network, _: Broker) -> None:
        network.turn(Weather(cut=0.5))
        line = await network.dial()
        await asyncio.wait_for(line.broken, 60)

    played(main)


def test_the_same_seed_leaves_the_same_trace_and_another_one_another() -> None:
    async def main(network: Network, _: Broker) -> None:
        network.turn(Weather(cut=0.5, drop=0.5, delay_ms=100))
        for number in range(20):
            try:
                await (await network.dial()).carry("up")
            except Broken:
                network.trace.note("refused", number)

    assert played(main, 5) == played(main, 5)
    assert played(main, 5) != played(main, 6)


def test_what_a_robot_has_not_confirmed_comes_again_on_the_next_line() -> None:
    async def main(network: Network, broker: Broker) -> None:
        got: list[bytes] = []
        line = await network.dial()
        broker.connect("r1", line, lambda message: got.append(message.content))
        broker.answer(batch(1))
        line.cut()
        broker.answer(batch(2))
        await asyncio.sleep(1)
        assert got == []
        for _ in range(2):
            broker.connect("r1", await network.dial(), lambda message: got.append(message.content))
            await asyncio.sleep(1)
        assert got == [b"1", b"2"]

    played(main)


def test_two_under_one_name_do_not_live_side_by_side() -> None:
    async def main(network: Network, broker: Broker) -> None:
        first, second = await network.dial(), await network.dial()
        broker.connect("r1", first, lambda _: None)
        broker.connect("r1", second, lambda _: None)
        assert first.broken.done()
        assert not second.broken.done()

    played(main)


def test_a_message_whose_consumer_is_gone_goes_to_another() -> None:
    async def main(_: Network, broker: Broker) -> None:
        broker.publish(batch(1))
        broker.publish(batch(2))
        taken = await broker.take()
        broker.give_back(taken)
        assert (await broker.take()).content == b"1"
        broker.confirm(await broker.take())
        waiting = asyncio.ensure_future(broker.take())
        await asyncio.sleep(1)
        assert not waiting.done()
        waiting.cancel()

    played(main)


@pytest.mark.parametrize("forget", [False, True])
def test_a_killed_broker_has_what_was_on_its_disk_or_nothing(forget: bool) -> None:
    async def main(network: Network, broker: Broker) -> None:
        line = await network.dial()
        broker.connect("r1", line, lambda _: None)
        broker.publish(batch(1))
        await asyncio.sleep(AUTOSAVE_S * 1.5)
        broker.publish(batch(2))  # the last moments are lost
        killing = asyncio.ensure_future(broker.kill(1, forget=forget))
        await asyncio.sleep(0.5)
        assert line.broken.done()
        with pytest.raises(Broken):
            broker.publish(batch(3))
        await killing
        broker.publish(batch(4))
        left = [(await broker.take()).content for _ in range(1 if forget else 2)]
        assert left == ([b"4"] if forget else [b"1", b"4"])

    played(main)
