"""Takes the robot's own voice and the noise out of what is heard, with WebRTC's audio processing.

Playback and microphone count the same time, but their pieces arrive when the sound system likes. A piece of the microphone takes one
of what was played; there is none when playback is late, and then silence is taken and all that follows lies a piece later. The echo
comes tens of milliseconds after the sound, which is room for that, yet not for ever: what has been lying spare for seconds is let go,
so that the reference never falls behind its own echo. All of it happens in the thread that cleans.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from agent.audio.echo.own_voice import PLAYING_DB, SILENT_DB, OwnVoiceGate
from agent.errors import MissingPart
from agent.profile import Sound
from agent.values import RATE_HZ

PIECE_MS = 10
"""What WebRTC processes at a time."""

PIECE_SAMPLES = RATE_HZ * PIECE_MS // 1000

PIECE_BYTES = PIECE_SAMPLES * 2

BACKLOG_MS_MAX = 360
"""Of what was played and not yet taken: more than what is heard at a time while nobody speaks and any sound system is late, and where a
faster clock is stopped."""

SPARE_MS_MAX = 20
"""More than this lying unused all the time is let go."""

SPARE_WATCH_MS = 5_000

LATE_MS_MAX = 500
"""So long a reference that fails to come may be late, and the robot audible; later the loudspeaker is gone."""

FADE_DB = 0.3
"""Per piece: what is late is taken to be as loud as what was played lately, and not as the pause before it."""

SILENCE = bytes(PIECE_BYTES)

SHAKEN_MS = 700
"""After a stall the canceller finds the delay again within so long; a guest who interrupts just then is heard that much later."""

STARTLE_MS = 30
"""Less is a click, or an echo for which the room has not been learnt yet."""


def _nobody() -> None:
    """Where nobody wants to know."""


class Echo:
    """One for a microphone and a loudspeaker. Raises MissingPart where the library is not installed."""

    def __init__(self, sound: Sound) -> None:
        """The delay hint only speeds the first second up: it may be too small, never too large. WebRTC finds the delay itself."""
        try:
            from livekit import rtc  # noqa: PLC0415  20 MB that only a robot with a microphone needs
        except ModuleNotFoundError as error:
            raise MissingPart("the Python package livekit is not installed", "pip install 'voxmeter[audio]'") from error
        self._frame: Any = rtc.AudioFrame
        self._module = rtc.AudioProcessingModule(
            echo_cancellation=sound.echo_cancellation, noise_suppression=sound.noise_suppression, high_pass_filter=True
        )
        if sound.echo_cancellation:
            self._module.set_stream_delay_ms(2 * sound.latency_ms)
        # Apart, behind the gate: it lifts what is left of the echo by 15 dB as it would a soft voice.
        self._gain = rtc.AudioProcessingModule(auto_gain_control=True) if sound.gain_control else None
        self._gate = OwnVoiceGate()
        self._played = bytearray()
        self._played_db = self._lately_db = SILENT_DB
        self._late_ms = self._shaken_ms = 0
        self._spare_ms = BACKLOG_MS_MAX  # the least that lay unused lately
        self._watched_ms = 0
        self.guest = True
        """What was cleaned last may be somebody else than the robot."""
        self.startled: Callable[[], None] = _nobody
        """Called when it gets louder than the robot's own voice could be, long before anything knows that it is speech."""
        self.dropped_ms = 0
        """Of what was played, never used as reference."""
        self.missing_ms = 0
        """Cleaned without a reference."""

    def played(self, pcm: bytes) -> None:
        """What the loudspeaker plays, s16le mono at RATE_HZ, any length."""
        self._played += pcm
        self._let_go(len(self._played) - BACKLOG_MS_MAX * PIECE_BYTES // PIECE_MS)

    def clean(self, pcm10ms: bytes) -> bytes:
        """PIECE_SAMPLES samples of the microphone, s16le mono at RATE_HZ; returns as many. Raises ValueError for another length."""
        if len(pcm10ms) != PIECE_BYTES:
            raise ValueError(f"{len(pcm10ms)} bytes are not {PIECE_MS} ms")
        self._module.process_reverse_stream(self._framed(bytearray(self._take())))
        cleaned = self._processed(self._module, pcm10ms)
        self._judge(level_db(pcm10ms), level_db(cleaned))
        return cleaned if self._gain is None else self._processed(self._gain, cleaned)

    def clean_all(self, pcm: bytes) -> tuple[bytes, list[bool]]:
        """Any number of pieces, and `guest` of each. While the robot is silent they are processed at once, which gives the same."""
        pieces = [pcm[at : at + PIECE_BYTES] for at in range(0, len(pcm), PIECE_BYTES)]
        if len(pieces) > 1 and self._silent_for(len(pcm)):
            return self._cleaned_in_silence(pcm)
        cleaned, guests = bytearray(), []
        for piece in pieces:
            cleaned += self.clean(piece)
            guests.append(self.guest)
        return bytes(cleaned), guests

    def _silent_for(self, size: int) -> bool:
        """What was played has come, and is silence."""
        return len(self._played) >= size and self._played.count(0, 0, size) == size

    def _cleaned_in_silence(self, pcm: bytes) -> tuple[bytes, list[bool]]:
        self._module.process_reverse_stream(self._framed(bytearray(len(pcm))))
        cleaned = self._processed(self._module, pcm)
        guests = []
        for heard_db, left_db in zip(levels_db(pcm), levels_db(cleaned), strict=True):
            self._take()
            self._judge(heard_db, left_db)
            guests.append(self.guest)
        return cleaned if self._gain is None else self._processed(self._gain, cleaned), guests

    def _judge(self, heard_db: float, left_db: float) -> None:
        left_db = left_db if self._late_ms == 0 else SILENT_DB  # nothing was taken out: it proves no guest
        self.guest = self._gate.step(self._played_db, heard_db, left_db)
        calm = self._calm(audible=self._lately_db > PLAYING_DB and self._late_ms <= LATE_MS_MAX)
        if self._gate.loud_ms == STARTLE_MS and calm:
            self.startled()

    def disturbed(self) -> None:
        """The loudspeaker has stalled: for a while what comes back is not where it is looked for, and nobody can be told from it."""
        self._shaken_ms = SHAKEN_MS

    def _calm(self, *, audible: bool) -> bool:
        """Whether echo and guest can be told apart just now."""
        if self._late_ms and audible:
            self.disturbed()
        self._shaken_ms = max(0, self._shaken_ms - PIECE_MS)
        calm = not (self._shaken_ms and audible)
        self.guest = self.guest and calm
        return calm

    def _processed(self, module: Any, pcm: bytes) -> bytes:
        held = bytearray(pcm)
        module.process_stream(self._framed(held))  # in place
        return bytes(held)

    def _framed(self, held: bytearray) -> Any:
        return self._frame(held, RATE_HZ, 1, len(held) // 2)

    def _take(self) -> bytes:
        if len(self._played) < PIECE_BYTES:
            self.missing_ms += PIECE_MS
            self._late_ms += PIECE_MS
            self._spare_ms = 0
            self._played_db = self._lately_db if self._late_ms <= LATE_MS_MAX else SILENT_DB
            return SILENCE
        reference = bytes(self._played[:PIECE_BYTES])
        del self._played[:PIECE_BYTES]
        self._played_db, self._late_ms = SILENT_DB if reference == SILENCE else level_db(reference), 0
        self._lately_db = max(self._played_db, self._lately_db - FADE_DB)
        self._watch_spare()
        return reference

    def _watch_spare(self) -> None:
        self._spare_ms = min(self._spare_ms, len(self._played) * PIECE_MS // PIECE_BYTES)
        self._watched_ms += PIECE_MS
        if self._watched_ms >= SPARE_WATCH_MS:
            if self._spare_ms > SPARE_MS_MAX:
                self._let_go(self._spare_ms * PIECE_BYTES // PIECE_MS)
            self._spare_ms, self._watched_ms = BACKLOG_MS_MAX, 0

    def _let_go(self, size: int) -> None:
        """The oldest, in whole samples."""
        size += size % 2
        if size > 0:
            del self._played[:size]
            self.dropped_ms += size * PIECE_MS // PIECE_BYTES


def level_db(pcm: bytes) -> float:
    """Root mean square in dB of full scale; SILENT_DB for silence."""
    sound = np.frombuffer(pcm, "<i2").astype(np.float32) / 32_768
    return max(SILENT_DB, 10 * math.log10(float(np.dot(sound, sound)) / len(sound) + 1e-20)) if len(sound) else SILENT_DB


def levels_db(pcm: bytes) -> list[float]:
    """The same of each whole piece."""
    sound = np.frombuffer(pcm, "<i2").astype(np.float32).reshape(-1, PIECE_SAMPLES) / 32_768
    powers = np.einsum("ij,ij->i", sound, sound).tolist()
    return [max(SILENT_DB, 10 * math.log10(power / PIECE_SAMPLES + 1e-20)) for power in powers]
