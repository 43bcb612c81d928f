"""PortAudio as this room uses it: devices, streams of 16-bit samples whose callback does next to nothing."""

import ctypes
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from agent.audio import devices
from agent.audio.device.pointer import INPUT_OVERFLOW, OUTPUT_UNDERFLOW, Called, Times, address_of, pointer
from agent.audio.devices import Device, Kind
from agent.errors import MissingPart

Arrived = Callable[[bytes, float, bool], None]
"""(samples s16le interleaved, age in seconds of the last of them, whether some before them were lost)."""

Wanted = Callable[[int, int, float, bool], bytes]
"""(samples wanted, their rate, seconds until the first of them sounds, whether the device ran dry before) -> samples s16le mono."""

LATENCY_SECONDS_MAX = 2.0
"""A time stamp further away than this is a driver's invention."""


class Stream(Protocol):
    """An open stream; it runs."""

    rate_hz: int
    channels: int

    @property
    def running(self) -> bool:
        """False: the device has ended it."""
        ...

    def rest(self) -> None:
        """No callback comes until `wake`; what is buffered is dropped. Blocks for milliseconds."""
        ...

    def wake(self) -> None:
        """Goes on after `rest`, likewise. Raises MissingPart where the device does not."""
        ...

    def close(self) -> None:
        """No callback comes after this."""
        ...


class Library(Protocol):
    """What opens streams. Its calls block, and one at a time may be under way; `look` beside any."""

    def devices(self) -> list[Device]:
        """As of the last `renew`. Raises MissingPart."""
        ...

    def look(self) -> list[Device]:
        """As they are now; open streams are not touched. Raises MissingPart."""
        ...

    def renew(self) -> None:
        """Makes the list anew; no stream may be open."""
        ...

    def open_input(self, device: Device, rates_hz: tuple[int, ...], block_ms: int, latency_ms: int, arrived: Arrived) -> Stream:
        """At the first rate it takes. Raises MissingPart where it takes none."""
        ...

    def open_output(self, device: Device, rates_hz: tuple[int, ...], block_ms: int, latency_ms: int, wanted: Wanted) -> Stream:
        """Likewise."""
        ...


class PortAudioStream:
    """Implements Stream."""

    def __init__(self, stream: Any, rate_hz: int, channels: int, callback: object, problems: type[Exception]) -> None:
        """`problems` is what its `start` raises."""
        self._stream = stream
        self._problems = problems
        self._callback = callback  # PortAudio holds only its address
        self.rate_hz, self.channels = rate_hz, channels

    @property
    def running(self) -> bool:
        return bool(self._stream.active)

    def rest(self) -> None:
        self._stream.abort(ignore_errors=True)

    def wake(self) -> None:
        try:
            self._stream.start()
        except self._problems as error:
            raise MissingPart(f"it does not go on: {_told(error)}", "check its plug, and what else uses it") from error

    def close(self) -> None:
        self._stream.abort(ignore_errors=True)  # not stop: that plays what is buffered, on a device that may be gone
        self._stream.close(ignore_errors=True)


class PortAudio:
    """Implements Library."""

    def __init__(self) -> None:
        self._sounddevice = devices.library()
        _silence_alsa()

    def devices(self) -> list[Device]:
        return devices.listed()

    def look(self) -> list[Device]:
        return devices.look()

    def renew(self) -> None:
        devices.check_alsa()
        try:
            if self._sounddevice._initialized:  # it is not where it did not begin anew the last time
                self._sounddevice._terminate()
            self._sounddevice._initialize()
        except self._sounddevice.PortAudioError as error:
            raise MissingPart(f"the sound system does not answer: {error}", "check it with: aplay -l") from error

    def open_input(self, device: Device, rates_hz: tuple[int, ...], block_ms: int, latency_ms: int, arrived: Arrived) -> Stream:
        def callback(samples: memoryview, frames: int, times: Times, flags: int) -> None:
            age = times.now - times.input - frames / rate_hz
            arrived(bytes(samples), _sane(age), bool(flags & INPUT_OVERFLOW))

        rate_hz, channels = self._settings(device, "input", rates_hz)
        words = _words(device, rate_hz, channels, block_ms, latency_ms)
        return self._start("input", device, callback, words)

    def open_output(self, device: Device, rates_hz: tuple[int, ...], block_ms: int, latency_ms: int, wanted: Wanted) -> Stream:
        def callback(samples: memoryview, frames: int, times: Times, flags: int) -> None:
            mono = wanted(frames, rate_hz, _sane(times.output - times.now), bool(flags & OUTPUT_UNDERFLOW))
            samples[:] = mono if channels == 1 else np.repeat(np.frombuffer(mono, "<i2"), channels).tobytes()

        rate_hz, channels = self._settings(device, "output", rates_hz)
        words = _words(device, rate_hz, channels, block_ms, latency_ms)
        return self._start("output", device, callback, words)

    def _settings(self, device: Device, kind: Kind, rates_hz: tuple[int, ...]) -> tuple[int, int]:
        check = self._sounddevice.check_input_settings if kind == "input" else self._sounddevice.check_output_settings
        problem: Exception | None = None
        for channels in sorted({1, min(2, device.channels(kind))}):
            for rate_hz in rates_hz:
                try:
                    check(device=device.index, channels=channels, dtype="int16", samplerate=rate_hz)
                except (self._sounddevice.PortAudioError, ValueError) as error:
                    problem = error
                else:
                    return rate_hz, channels
        raise MissingPart(f"{device.name} can't be opened: {_told(problem)}", "check its plug, and what else uses it")

    def _start(self, kind: Kind, device: Device, callback: Called, words: dict[str, Any]) -> Stream:
        stream, called = None, pointer(kind, words["channels"], callback)
        try:
            stream = self._sounddevice._StreamBase(kind, callback=address_of(called), **words)
            stream.start()
        except (self._sounddevice.PortAudioError, ValueError) as error:
            if stream is not None:
                stream.close(ignore_errors=True)
            raise MissingPart(f"{device.name} can't be opened: {_told(error)}", "check its plug, and what else uses it") from error
        return PortAudioStream(stream, words["samplerate"], words["channels"], called, self._sounddevice.PortAudioError)


def _words(device: Device, rate_hz: int, channels: int, block_ms: int, latency_ms: int) -> dict[str, Any]:
    return {
        "device": device.index,
        "samplerate": rate_hz,
        "channels": channels,
        "dtype": "int16",
        "blocksize": rate_hz * block_ms // 1000,
        "latency": latency_ms / 1000,
    }


def _told(error: Exception | None) -> str:
    return str(error).splitlines()[0] if error is not None and str(error) else "no word why"


def _sane(seconds: float) -> float:
    return seconds if 0 <= seconds <= LATENCY_SECONDS_MAX else 0.0


_NOTHING = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p)(lambda *_: None)
"""ALSA tells every failed try on standard error, in the middle of a conversation; we tell each once, in our words."""


def _silence_alsa() -> None:
    try:
        ctypes.CDLL("libasound.so.2").snd_lib_error_set_handler(_NOTHING)
    except (OSError, AttributeError):
        return
