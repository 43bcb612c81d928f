"""Sound devices that misbehave as told, in virtual time: what no real device here does on demand. Implements audio's port Library.

It lives in a `VirtualLoop`, where what is given to a thread is done at once, so a stream's callbacks come from the loop as well.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from agent.audio.device.library import Arrived, Stream, Wanted
from agent.audio.devices import CALLED, Device, Kind
from agent.clock import Clock
from agent.errors import MissingPart


def hiss(samples: int) -> bytes:
    """What a live microphone gives when nobody speaks: not nothing."""
    return b"\1\0\xff\xff" * (samples // 2) + b"\1\0" * (samples % 2)


@dataclass(eq=False)
class ScriptedDevice:
    """A device and its vices, which may change while it runs."""

    name: str
    kind: Kind
    rate_hz: int = 48_000
    takes_hz: tuple[int, ...] = (16_000, 48_000)
    speed: float = 1.0
    """Samples per sample due: 0.47 is half dead, 1.4 a clock that is too fast, 0 a stream that is open and stands still."""
    latency_s: float = 0.02
    """What it buffers of what is played."""
    sound: Callable[[int], bytes] = hiss
    """What it hears: samples asked for -> s16le."""
    played: bytearray = field(default_factory=bytearray)
    """What it was given to play."""
    opened_at: list[float] = field(default_factory=list)


class ScriptedStream:
    """Implements Stream."""

    def __init__(self, device: ScriptedDevice, rate_hz: int, block_ms: int, clock: Clock, step: Callable[[int], None]) -> None:
        self.rate_hz, self.channels = rate_hz, 1
        self.device = device
        self.running = True
        self.closed = False
        self.rests = 0
        self._block_ms, self._clock, self._step = block_ms, clock, step
        self._stepping = asyncio.get_running_loop().create_task(self._steps())

    def end(self) -> None:
        """The device has gone from under it."""
        self.running = False

    def rest(self) -> None:
        self._stepping.cancel()
        self.rests += 1

    def wake(self) -> None:
        if not self.running:
            raise MissingPart("it does not go on: no such device", "plug it in")
        self._stepping = asyncio.get_running_loop().create_task(self._steps())

    def close(self) -> None:
        self.running, self.closed = False, True
        self._stepping.cancel()

    async def _steps(self) -> None:
        while self.running:
            speed = self.device.speed
            await self._clock.sleep(self._block_ms / 1000 / (speed or 1))
            if speed and self.running:
                self._step(self.rate_hz * self._block_ms // 1000)


class ScriptedLibrary:
    """Implements Library. Devices are plugged and unplugged; its list is made anew only by `renew`, as PortAudio's is."""

    def __init__(self, clock: Clock, *devices: ScriptedDevice) -> None:
        self._clock = clock
        self._plugged = list(devices)
        self._listed = list(devices)
        self._streams: list[ScriptedStream] = []
        self.looks = self.renewals = 0

    def plug(self, device: ScriptedDevice) -> None:
        """Behind those that are there: it may have had another index before."""
        self._plugged.append(device)

    def unplug(self, device: ScriptedDevice) -> None:
        self._plugged.remove(device)
        for stream in self._streams:
            if stream.device is device:
                stream.end()

    def devices(self) -> list[Device]:
        return _as_listed(self._listed)

    def look(self) -> list[Device]:
        self.looks += 1
        return _as_listed(self._plugged)

    def renew(self) -> None:
        """Raises RuntimeError where a stream is open: PortAudio would crash."""
        if any(not stream.closed for stream in self._streams):
            raise RuntimeError("the list was made anew under an open stream")
        self._streams.clear()
        self.renewals += 1
        self._listed = list(self._plugged)

    def open_input(self, device: Device, rates_hz: tuple[int, ...], block_ms: int, latency_ms: int, arrived: Arrived) -> Stream:
        del latency_ms
        scripted = self._opened(device)
        return self._run(scripted, rates_hz, block_ms, lambda samples: arrived(scripted.sound(samples), 0.0, False))

    def open_output(self, device: Device, rates_hz: tuple[int, ...], block_ms: int, latency_ms: int, wanted: Wanted) -> Stream:
        del latency_ms
        scripted = self._opened(device)
        rate_hz = next(rate for rate in rates_hz if rate in scripted.takes_hz)
        return self._run(
            scripted, rates_hz, block_ms, lambda samples: scripted.played.extend(wanted(samples, rate_hz, scripted.latency_s, False))
        )

    def _opened(self, device: Device) -> ScriptedDevice:
        scripted = self._listed[device.index]
        if scripted not in self._plugged:
            raise MissingPart(f"{device.name} can't be opened: no such device", "plug it in")
        return scripted

    def _run(self, device: ScriptedDevice, rates_hz: tuple[int, ...], block_ms: int, step: Callable[[int], None]) -> Stream:
        rate_hz = next((rate for rate in rates_hz if rate in device.takes_hz), None)
        if rate_hz is None:
            raise MissingPart(f"{CALLED[device.kind]} {device.name} takes none of {rates_hz} Hz")
        device.opened_at.append(self._clock.monotonic())
        stream = ScriptedStream(device, rate_hz, block_ms, self._clock, step)
        self._streams.append(stream)
        return stream


def _as_listed(devices: list[ScriptedDevice]) -> list[Device]:
    first = {kind: next((index for index, device in enumerate(devices) if device.kind == kind), -1) for kind in CALLED}
    return [
        Device(
            index,
            device.name,
            int(device.kind == "input"),
            int(device.kind == "output"),
            device.rate_hz,
            index == first["input"],
            index == first["output"],
        )
        for index, device in enumerate(devices)
    ]
