"""A microphone and a speaker made of WAV files that keep real time: the same conversation without hardware."""

import contextlib
from collections.abc import AsyncGenerator, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from agent.audio.device.line import Line
from agent.audio.wav import check_writable
from agent.clock import Clock
from agent.errors import BadInput
from agent.ports import HeardFrame, Sounding
from agent.values import FRAME_SAMPLES, RATE_HZ, Speech

BLOCK_SAMPLES = RATE_HZ // 100
"""10 ms: what is ducked or stopped sounds on for no longer."""

POLL_SECONDS = 0.01

DUCK_DB = 12.0


class FileMicrophone:
    """Implements the port Microphone: frames come when their last sample would have been captured, then silence, then the end."""

    def __init__(self, frames: Iterable[bytes], clock: Clock, silence_after_s: float = 0.0) -> None:
        self._frames = frames
        self._clock = clock
        self._silent_frames = int(silence_after_s * RATE_HZ / FRAME_SAMPLES)
        self._ended = False

    async def frames(self) -> AsyncGenerator[HeardFrame]:
        began = self._clock.monotonic()
        for number, pcm in enumerate(self._all(), 1):
            at = began + number * FRAME_SAMPLES / RATE_HZ
            if (early := at - self._clock.monotonic()) > 0:
                await self._clock.sleep(early)
            yield HeardFrame(pcm, at)
        self._ended = True

    def health(self) -> dict[str, Any]:
        why = "the file has ended" if self._ended else ""
        return {"device": "file", "hearing": not why, "why": why, "rate": 1.0, "overruns": 0, "reopened": 0, "clipped": 0}

    async def aclose(self) -> None:
        self._ended = True

    def _all(self) -> Iterable[bytes]:
        yield from self._frames
        for _ in range(self._silent_frames):
            yield bytes(FRAME_SAMPLES * 2)


class FileSpeaker:
    """Implements the port Speaker: what it plays lies in the file where it would have sounded, from when this was made."""

    def __init__(self, path: Path, clock: Clock, duck_db: float = DUCK_DB) -> None:
        """Raises BadInput where the file can't be written."""
        check_writable(path)
        try:
            self._file: soundfile.SoundFile | None = soundfile.SoundFile(path, "w", RATE_HZ, 1, subtype="PCM_16", format="WAV")
        except (soundfile.SoundFileError, OSError) as error:
            raise BadInput(f"{path}: the conversation can't be written there", "name a file in a folder you can write to") from error
        self._path = path
        self._clock = clock
        self._began = clock.monotonic()
        self._written = 0
        self._why = ""
        self._line = Line(RATE_HZ, clock, duck_db, self._catch_up)

    def play(self, speech: Speech) -> Sounding:
        return self._line.play(speech)

    def duck(self, *, on: bool) -> None:
        self._line.duck(on=on)

    def pause(self, *, on: bool) -> None:
        self._line.pause(on=on)

    def stop(self) -> None:
        self._line.stop()

    async def quiet(self) -> None:
        while self._line.busy():
            await self._clock.sleep(POLL_SECONDS)

    def health(self) -> dict[str, Any]:
        """As a device's: `{device, speaking, why, underruns, gaps, reopened}`."""
        counts = {"underruns": 0, "gaps": self._line.gaps, "reopened": 0}
        return {"device": str(self._path), "speaking": not self._why, "why": self._why, **counts}

    async def aclose(self) -> None:
        self._catch_up()
        if self._file is not None:
            with contextlib.suppress(soundfile.SoundFileError, OSError):
                self._file.close()
        self._file = None

    def _catch_up(self) -> None:
        """Writes what has sounded until now, silence included."""
        due = int((self._clock.monotonic() - self._began) * RATE_HZ)
        while due - self._written >= BLOCK_SAMPLES:
            pcm = self._line.fill(BLOCK_SAMPLES, self._began + self._written / RATE_HZ)
            self._written += BLOCK_SAMPLES
            if self._file is None:
                continue
            try:
                self._file.write(np.frombuffer(pcm, "<i2"))
            except (soundfile.SoundFileError, OSError) as error:
                self._why = f"the file can't be written: {error}"
