"""A sound card without hardware that keeps real time: its microphone hears guests, noise and the loudspeaker's echo; nothing is kept.

Implements audio's port Library. As with a real one, callbacks come from a thread of its own.
"""

import threading
from collections import deque

import numpy as np
import numpy.typing as npt

from agent.audio.device.library import Arrived, Stream, Wanted
from agent.audio.devices import Device
from agent.clock import Clock, seeded
from agent.values import RATE_HZ

BLOCK_SAMPLES = RATE_HZ // 100

BEHIND_SECONDS_MAX = 0.5
"""On a machine that stood still for longer the card drops what it missed, as real ones do."""

LATENCY_S = 0.02

ECHO_BLOCKS, ECHO_GAIN = 10, 0.1
"""The loudspeaker is heard 100 ms later, 20 dB softer."""

HISS = 16
"""Largest sample of the hall's noise, -66 dB."""

DEVICES = [Device(0, "hall", 1, 0, RATE_HZ, default_input=True), Device(1, "loudspeaker", 0, 1, RATE_HZ, default_output=True)]

Samples = npt.NDArray[np.int16]

QUIET: Samples = np.zeros(BLOCK_SAMPLES, np.int16)


class CardStream:
    """Implements Stream."""

    rate_hz, channels = RATE_HZ, 1

    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock
        self.running = True
        self._rests = False

    @property
    def asks(self) -> bool:
        """It takes or gives sound now."""
        return self.running and not self._rests

    def rest(self) -> None:
        with self._lock:
            self._rests = True

    def wake(self) -> None:
        with self._lock:
            self._rests = False

    def close(self) -> None:
        with self._lock:
            self.running = False


class Card:
    """One microphone, one loudspeaker."""

    def __init__(self, clock: Clock, seed: int) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        noise = np.frombuffer(seeded(seed).randbytes(RATE_HZ), np.int8).astype(np.int16)
        self._hiss = (noise * HISS // 128).astype(np.int16).reshape(-1, BLOCK_SAMPLES)
        self._blocks = 0
        self._voices: list[Samples] = []
        self._played: deque[Samples] = deque([QUIET] * ECHO_BLOCKS, ECHO_BLOCKS)
        self._input: tuple[CardStream, Arrived] | None = None
        self._output: tuple[CardStream, Wanted] | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sound card", daemon=True)
        self._thread.start()

    def say(self, voice: Samples) -> None:
        """Into the hall, from now on, at RATE_HZ; others may be speaking."""
        with self._lock:
            self._voices.append(voice)

    def close(self) -> None:
        self._closing.set()
        self._thread.join()

    def devices(self) -> list[Device]:
        return DEVICES

    def look(self) -> list[Device]:
        return DEVICES

    def renew(self) -> None:
        """It never changes."""

    def open_input(self, device: Device, rates_hz: tuple[int, ...], block_ms: int, latency_ms: int, arrived: Arrived) -> Stream:
        del device, rates_hz, block_ms, latency_ms
        stream = CardStream(self._lock)
        self._input = (stream, arrived)
        return stream

    def open_output(self, device: Device, rates_hz: tuple[int, ...], block_ms: int, latency_ms: int, wanted: Wanted) -> Stream:
        del device, rates_hz, block_ms, latency_ms
        stream = CardStream(self._lock)
        self._output = (stream, wanted)
        return stream

    def _run(self) -> None:
        due = self._clock.monotonic()
        while not self._closing.wait(max(0.0, due - self._clock.monotonic())):
            with self._lock:
                self._block()
            due = max(due + BLOCK_SAMPLES / RATE_HZ, self._clock.monotonic() - BEHIND_SECONDS_MAX)

    def _block(self) -> None:
        echo = (self._played.popleft() * ECHO_GAIN).astype(np.int16)
        heard = self._hiss[self._blocks % len(self._hiss)] + echo
        self._blocks += 1
        for voice in self._voices:
            piece = voice[:BLOCK_SAMPLES]
            heard[: len(piece)] += piece
        self._voices = [voice[BLOCK_SAMPLES:] for voice in self._voices if len(voice) > BLOCK_SAMPLES]
        if self._input is not None and self._input[0].asks:
            self._input[1](heard.tobytes(), 0.0, False)
        played = QUIET
        if self._output is not None and self._output[0].asks:
            played = np.frombuffer(self._output[1](BLOCK_SAMPLES, RATE_HZ, LATENCY_S, False), "<i2")
        self._played.append(played)
