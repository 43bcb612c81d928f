"""A hall around a robot under test: guests speak, others babble, the robot's voice comes back, and both sides are recorded.

Moments are monotonic times on the monitors of the sound server: when a sample reached the virtual microphone, when one appeared at the
virtual loudspeaker. Both are recorded with the same latency (`track.LATENCY_MS`), so that differences between the two are the robot's;
a monitor has its blocks when they are rendered, so that both may be that much early.
"""

from collections.abc import Sequence
from types import TracebackType

import numpy as np

from agent.clock import Clock, SystemClock, seeded
from agent.errors import BadInput, NoLink
from agent.sim.sound import mixer, room, track
from agent.sim.sound.detect import Samples, floats, place
from agent.sim.sound.server import HALL, PLAYED, SoundServer
from agent.values import RATE_HZ

SPEECH_DB = -20.0
"""Level of a guest at the microphone, pauses left out, dB of full scale."""

ECHO_DELAY_MS_MIN = 80
"""A shorter one would have to be mixed before the robot's sound is there: lead, two blocks, and 20 ms in which nobody need run."""

BURST_S, BURST_LEVEL = 0.2, 0.1
"""Of the noise that measures how far stream and recording lie apart."""

OPEN_SECONDS_MAX, POLL_SECONDS = 5.0, 0.02


class Spoken:
    """Something said into the hall; when it was there is known once it is over."""

    def __init__(self, hall: "Hall", piece: mixer.Piece) -> None:
        self._hall = hall
        self._piece = piece

    @property
    def first_at(self) -> float:
        """When its first sample reached the microphone; in the future just after it was said."""
        return self._hall.time_of(self._piece.begin)

    @property
    def last_at(self) -> float:
        """When its last sample reached the microphone."""
        return self._hall.time_of(self._piece.end - 1)

    async def over(self) -> None:
        """Returns when its last sample has been recorded at the microphone."""
        await self._hall.until(self._piece.end)


class Hall:
    """One hall, on a sound server that runs."""

    def __init__(self, server: SoundServer, clock: Clock | None = None) -> None:
        self._server = server
        self._clock = clock or SystemClock()
        self._apart = 0  # index in the recording of the hall, less that in the stream into it
        self._speaker: track.Track | None = None
        self._microphone: track.Track | None = None
        self._mixer: mixer.Mixer | None = None

    async def __aenter__(self) -> "Hall":
        try:
            await self.open()
        except BaseException:
            self.close()
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    async def open(self) -> None:
        """Returns when sound has come from the stream to the recording. Raises NoLink when none does."""
        self._speaker = track.Track(self._server, f"{PLAYED}.monitor", self._clock)
        self._microphone = track.Track(self._server, f"{HALL}.monitor", self._clock)
        self._mixer = mixer.Mixer(self._server)
        chance = seeded(1)
        noise = np.array([chance.uniform(-BURST_LEVEL, BURST_LEVEL) for _ in range(int(BURST_S * RATE_HZ))], np.float32)
        until = self._clock.monotonic() + OPEN_SECONDS_MAX
        while self._clock.monotonic() < until:
            if self._microphone.end and self._speaker.end:
                piece = self._mixer.add(noise)
                await self._clock.sleep(BURST_S + 0.2)
                if (found := place(noise, self._microphone.samples(0, self._microphone.end))) is not None:
                    self._apart = found - piece.begin
                    return
            await self._clock.sleep(POLL_SECONDS)
        raise NoLink("no sound comes through the hall", "is the sound server still running?")

    def close(self) -> None:
        for part in (self._mixer, self._speaker, self._microphone):
            if part is not None:
                part.close()
        self._mixer = self._speaker = self._microphone = None

    def say(self, pcm16k: bytes, level_db: float | None = SPEECH_DB) -> Spoken:
        """Into the microphone, at once; None leaves the level as it is. Several guests may speak at the same time."""
        samples = floats(pcm16k)
        return Spoken(self, self._open_mixer.add(samples if level_db is None else room.at_level(samples, level_db)))

    def echo(self, level_db: float | None = -10.0, delay_ms: int = 100, seed: int = 1) -> None:
        """From now on the microphone hears what the robot plays, so much softer and later; None: it does not.

        Raises BadInput for a delay below ECHO_DELAY_MS_MIN.
        """
        if level_db is None:
            self._open_mixer.source("echo", None)
            return
        if delay_ms < ECHO_DELAY_MS_MIN:
            raise BadInput(f"an echo after {delay_ms} ms", f"take at least {ECHO_DELAY_MS_MIN} ms")
        ring = room.Ring(room.response(level_db, seed))

        def source(begin: int, end: int) -> Samples:
            assert self._speaker is not None
            played = self._speaker.index_at(self.time_of(begin) - delay_ms / 1000)
            return ring.of(self._speaker.samples(played - ring.before, played + end - begin))

        self._open_mixer.source("echo", source)

    def babble(self, voices: Sequence[bytes], snr_db: float | None, seed: int = 1) -> None:
        """From now on others talk, so much softer than a guest at SPEECH_DB; None: they do not. `voices` are recordings at 16 kHz."""
        if snr_db is None:
            self._open_mixer.source("babble", None)
            return
        crowd = room.babble([floats(voice) for voice in voices], SPEECH_DB - snr_db, seed)
        self._open_mixer.source("babble", lambda begin, end: np.take(crowd, range(begin, end), mode="wrap"))

    def heard_since(self, time: float) -> tuple[float, Samples]:
        """What the robot has played since then: the moment of the first sample, and all up to now, at RATE_HZ."""
        return _since(self._speaker, time)

    def microphone_since(self, time: float) -> tuple[float, Samples]:
        """What the robot could hear since then, likewise."""
        return _since(self._microphone, time)

    def time_of(self, index: int) -> float:
        """When that sample of the stream into the hall is at the microphone."""
        assert self._microphone is not None
        return self._microphone.time_of(index + self._apart)

    async def until(self, index: int) -> None:
        """Returns when that sample of the stream has been recorded. Raises NoLink when nothing is recorded any more."""
        while self._microphone is not None and self._microphone.end < index + self._apart:
            if not self._microphone.running:
                raise NoLink("the hall records nothing any more", "is the sound server still running?")
            await self._clock.sleep(POLL_SECONDS)

    @property
    def _open_mixer(self) -> mixer.Mixer:
        if self._mixer is None:
            raise NoLink("the hall is not open", "open it first")
        return self._mixer


def _since(recorded: track.Track | None, time: float) -> tuple[float, Samples]:
    if recorded is None:
        raise NoLink("the hall is not open", "open it first")
    begin, end = max(0, recorded.index_at(time)), recorded.end
    return recorded.time_of(begin), recorded.samples(begin, end)
