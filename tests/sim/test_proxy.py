"""The proxy does to connections what the weather says, and nothing else."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.clock import SystemClock
from agent.sim.real.proxy import CUT_BYTES_MAX, PIECE_BYTES, Proxy, Weather

T = TypeVar("T")

Meet = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


PATIENCE_S = 60
"""A connection that should have ended and has not fails its test instead of holding up all of them."""


def run(main: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(asyncio.wait_for(main, PATIENCE_S))


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while piece := await reader.read(PIECE_BYTES):
            writer.write(piece)
            await writer.drain()
    writer.close()


@asynccontextmanager
async def proxy(meet: Meet = echo, seed: int = 1) -> AsyncIterator[Proxy]:
    server = await asyncio.start_server(meet, "127.0.0.1", 0)
    between = Proxy(lambda: server.sockets[0].getsockname()[1], SystemClock(), seed)
    await between.start()
    try:
        yield between
    finally:
        await between.aclose()
        server.close()
        await asyncio.sleep(0.01)  # the echo's own ends close


async def said(between: Proxy, content: bytes, seconds: float = 5) -> bytes:
    """What comes back of what is sent on a new connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", between.port)
    try:
        async with asyncio.timeout(seconds):
            writer.write(content)
            return await reader.readexactly(len(content))
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)


@settings(max_examples=20)
@given(st.binary(min_size=1, max_size=100_000), st.integers(0, 5), st.integers(0, 5))
def test_everything_arrives_in_order_whatever_the_delay(content: bytes, delay_ms: int, jitter_ms: int) -> None:
    async def main() -> None:
        async with proxy() as between:
            between.turn(Weather(delay_ms=delay_ms, jitter_ms=jitter_ms))
            assert await said(between, content) == content

    run(main())


def test_a_line_that_is_down_refuses_and_cuts_and_carries_again_when_it_is_up() -> None:
    async def main() -> None:
        async with proxy() as between:
            reader, writer = await asyncio.open_connection("127.0.0.1", between.port)
            writer.write(b"a")
            assert await reader.readexactly(1) == b"a"
            between.turn(Weather(up=False))
            with pytest.raises(ConnectionResetError):
                await reader.readexactly(1)
            writer.close()
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await said(between, b"b")
            between.turn(Weather())
            assert await said(between, b"c") == b"c"

    run(main())


def test_a_held_line_gives_nothing_and_stays_held_in_better_weather_while_new_ones_carry() -> None:
    async def main() -> None:
        async with proxy() as between:
            between.turn(Weather(hold=1))
            reader, writer = await asyncio.open_connection("127.0.0.1", between.port)
            writer.write(b"a")
            while not between.accepted:
                await asyncio.sleep(0.001)
            between.turn(Weather())
            assert await said(between, b"b") == b"b"
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await reader.read(1)
            writer.close()

    run(main())


def test_connections_are_cut_by_chance_while_they_are_open() -> None:
    async def main() -> None:
        async with proxy() as between:
            between.turn(Weather(cut_a_second=1))
            reader, writer = await asyncio.open_connection("127.0.0.1", between.port)
            writer.write(b"a")
            assert await reader.readexactly(1) == b"a"
            with pytest.raises(ConnectionResetError):
                await reader.readexactly(1)
            writer.close()

    run(main())


def test_a_line_to_be_cut_is_reset_in_the_middle() -> None:
    async def main() -> None:
        async with proxy() as between:
            between.turn(Weather(cut=1))
            with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
                await said(between, bytes(CUT_BYTES_MAX))
            assert between.resets == 1

    run(main())


def test_what_is_open_is_cut_at_once_and_the_next_connection_carries() -> None:
    async def main() -> None:
        async with proxy() as between:
            reader, writer = await asyncio.open_connection("127.0.0.1", between.port)
            writer.write(b"a")
            assert await reader.readexactly(1) == b"a"
            between.cut()
            with pytest.raises(ConnectionResetError):
                await reader.readexactly(1)
            writer.close()
            assert await said(between, b"b") == b"b"

    run(main())


def test_a_throttled_line_needs_its_time() -> None:
    """Not how long it took, but that it was asked to wait: a stopwatch would lie on a busy machine."""

    class Watched(SystemClock):
        slept = 0.0

        async def sleep(self, seconds: float) -> None:
            self.slept += seconds

    async def main() -> None:
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        clock = Watched()
        between = Proxy(lambda: server.sockets[0].getsockname()[1], clock, 1)
        await between.start()
        between.turn(Weather(bytes_per_s=10_000))
        assert await said(between, bytes(20_000)) == bytes(20_000)
        assert clock.slept == pytest.approx(4.0)
        await between.aclose()
        server.close()
        await asyncio.sleep(0.01)

    run(main())


def test_a_server_that_is_away_looks_like_a_reset() -> None:
    async def main() -> None:
        between = Proxy(lambda: 1, SystemClock(), 1)
        await between.start()
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await said(between, b"a")
        await between.aclose()

    run(main())


@settings(max_examples=5)
@given(st.integers(0, 2**32 - 1))
def test_the_same_seed_refuses_the_same_connections(seed: int) -> None:
    async def fates() -> list[bool]:
        async with proxy(seed=seed) as between:
            between.turn(Weather(refuse=0.5))
            came = []
            for _ in range(12):
                try:
                    came.append(await said(between, b"a") == b"a")
                except (ConnectionError, asyncio.IncompleteReadError):
                    came.append(False)
            return came

    first, second = run(fates()), run(fates())
    assert first == second
