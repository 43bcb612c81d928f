"""A TCP proxy on loopback that treats connections badly: refuses, holds, delays, throttles or cuts them, as it is told, from a seed.

    accepted -> carrying -> closed (either side has closed) | reset (by chance, after so many bytes, or when the line goes down)
             -> held (half open: takes everything, gives nothing, never closes)
             -> reset (refused)

A connection's fate is drawn when it comes about. Pieces arrive in order, one after the other, so a delay also bounds how much a
connection carries, as on a real line with a small window.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from agent.clock import Clock, seeded

PIECE_BYTES = 16 * 1024
"""Taken at once: small enough that a delay or a throttle shows within a batch."""

CUT_BYTES_MAX = 48 * 1024
"""A connection to be cut carries at most so many: a handshake and a batch or two, so that the cut is in the middle of something."""

CONNECT_SECONDS_MAX = 5
"""To whom we stand before; on one machine that is long."""

RESET = struct.pack("ii", 1, 0)
"""SO_LINGER by which a close becomes an RST."""


@dataclass(frozen=True, slots=True)
class Weather:
    """How a line is. Shares are of connections, between 0 and 1."""

    up: bool = True
    """False: what is open is reset, what is new is refused."""
    refuse: float = 0
    """Of new ones."""
    hold: float = 0
    """Of new ones; only its own time-outs tell the other side, and better weather changes nothing."""
    cut: float = 0
    """Of new ones: reset after at most CUT_BYTES_MAX bytes, both ways together."""
    cut_a_second: float = 0
    """Of those that are open, every second."""
    delay_ms: int = 0
    jitter_ms: int = 0
    """A piece waits between delay_ms and delay_ms + jitter_ms."""
    bytes_per_s: int = 0
    """Each way; 0: as fast as it goes."""


class Proxy:
    """A way to one port, with a weather of its own."""

    def __init__(self, upstream: Callable[[], int], clock: Clock, seed: int) -> None:
        """`upstream`: the port on loopback, asked for each connection, as whoever listens there may be replaced."""
        self._upstream, self._clock, self._chance = upstream, clock, seeded(seed)
        self._lines: set[_Line] = set()
        self._server: asyncio.Server | None = None
        self._weather = Weather()
        self.port = 0
        """Where to connect; chosen by `start`."""
        self.accepted = 0
        self.resets = 0

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._meet, "127.0.0.1", 0, limit=PIECE_BYTES)
        self.port = self._server.sockets[0].getsockname()[1]

    def turn(self, weather: Weather) -> None:
        """From now on; what is open keeps its fate, unless the line goes down."""
        self._weather = weather
        if not weather.up:
            self.cut()

    def cut(self) -> None:
        """Resets what is open; what comes next is as the weather has it."""
        for line in self._lines:
            line.cut.set()

    async def aclose(self) -> None:
        if self._server is not None:
            self._server.close()
        carrying = [line.carrying for line in self._lines]
        for task in carrying:
            task.cancel()
        await asyncio.gather(*carrying, return_exceptions=True)

    def _drawn(self) -> "_Line":
        weather, chance = self._weather, self._chance
        refused, held, cut = (chance.random() < share for share in (weather.refuse, weather.hold, weather.cut))
        return _Line(refused or not weather.up, held, chance.randrange(CUT_BYTES_MAX) if cut else None)

    def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        line = self._drawn()
        self._lines.add(line)
        line.carrying = asyncio.ensure_future(self._carry(line, reader, writer))

    async def _carry(self, line: "_Line", reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await _first(self._as_fated(line, reader, writer), self._doomed(line))
        except (OSError, TimeoutError):
            self.resets += 1
            with contextlib.suppress(OSError):  # it may be gone already
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            writer.transport.abort()
        finally:
            writer.close()
            self._lines.discard(line)

    async def _as_fated(self, line: "_Line", reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if line.refused:
            raise ConnectionResetError
        if line.held:
            await _swallow(reader)
            return
        async with asyncio.timeout(CONNECT_SECONDS_MAX):
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._upstream(), limit=PIECE_BYTES)
        try:
            await _first(self._pump(line, reader, far_writer), self._pump(line, far_reader, writer))
        finally:
            far_writer.close()

    async def _doomed(self, line: "_Line") -> None:
        """Waits for the moment at which it is to be reset."""
        while not line.cut.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await line.cut.wait()
            if self._chance.random() < self._weather.cut_a_second:
                break
        raise ConnectionResetError

    async def _pump(self, line: "_Line", reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One way, until it is closed."""
        while piece := await reader.read(PIECE_BYTES):
            await self._clock.sleep(self._wait_seconds(len(piece)))
            line.spend(len(piece))
            writer.write(piece)
            await writer.drain()

    def _wait_seconds(self, size: int) -> float:
        weather = self._weather
        wait_ms = weather.delay_ms + self._chance.random() * weather.jitter_ms
        return wait_ms / 1000 + (size / weather.bytes_per_s if weather.bytes_per_s else 0)


class _Line:
    """One connection."""

    carrying: "asyncio.Future[None]"

    def __init__(self, refused: bool, held: bool, bytes_left: int | None) -> None:
        self.refused, self.held = refused, held
        self.cut = asyncio.Event()
        self._bytes_left = bytes_left

    def spend(self, size: int) -> None:
        """Raises ConnectionResetError when it has carried what it may."""
        if self._bytes_left is not None:
            self._bytes_left -= size
            if self._bytes_left < 0:
                raise ConnectionResetError


async def _swallow(reader: asyncio.StreamReader) -> None:
    while await reader.read(PIECE_BYTES):
        pass


async def _first(*works: Coroutine[Any, Any, None]) -> None:
    """Ends with the first of them, as it did."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()
