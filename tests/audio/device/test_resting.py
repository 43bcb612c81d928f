"""A loudspeaker that rests while there is nothing to say, in virtual time: nothing of what is said is lost, nor of what is heard."""

from collections.abc import Callable

import numpy as np
import pytest

from agent.audio.device.frames import PIECE_BYTES, peak
from agent.audio.device.playback import PROBE_SECONDS
from agent.audio.device.watch import RETRY_S_MOST
from agent.audio.devices import Device
from agent.ports import Sounding
from agent.profile import Sound
from agent.sim.sound.scripted import ScriptedStream
from agent.values import RATE_HZ
from tests.audio.device.test_streams import Room, hall, heard_in, played, speech, voice


class Told:
    """A reference that counts."""

    def __init__(self) -> None:
        self.samples = 0

    def played(self, pcm: bytes) -> None:
        self.samples += len(pcm) // 2

    def disturbed(self) -> None:
        pass


def test_a_silent_speaker_rests_and_the_reference_knows_of_silence_all_the_time() -> None:
    async def scene() -> None:
        told, speaker = Told(), voice()
        room = Room(hall(), speaker, reference=told)

        async def then() -> None:
            room.speaker.start()
            await room.passes(14)
            taken = len(speaker.played)
            await room.passes(PROBE_SECONDS - 5)
            assert len(speaker.played) == taken
            for _ in range(6):
                await room.passes(PROBE_SECONDS)
            assert len(speaker.played) - taken < 6 * 0.5 * 48_000 * 2  # it is only tried
            assert told.samples == pytest.approx((14 + 5 + 6 * PROBE_SECONDS) * RATE_HZ, abs=0.1 * RATE_HZ)
            assert (len(speaker.opened_at), room.speaker.health()["speaking"]) == (1, True)

            del speaker.played[:]
            sounding = room.speaker.play(speech(1, "at once", 48_000))
            await room.clock.sleep(0.021)
            assert any(speaker.played)
            await room.speaker.quiet()
            assert sounding.heard == len("at once")

        await heard_in(room, then)

    played(scene)


def test_who_stirs_wakes_the_speaker_before_there_is_anything_to_say() -> None:
    async def scene() -> None:
        speaker = voice()
        room = Room(hall(), speaker)
        room.speaker.start()
        await room.clock.sleep(12)
        taken = len(speaker.played)
        room.speaker.stir()
        await room.clock.sleep(5)
        assert len(speaker.played) - taken == pytest.approx(5 * 48_000 * 2, rel=0.01)
        await room.speaker.aclose()

    played(scene)


def test_what_is_said_while_the_speaker_waits_for_its_turn_to_rest_is_said_at_once_and_it_does_not_rest() -> None:
    async def scene() -> None:
        speaker = voice()
        room = Room(hall(), speaker)
        room.speaker.start()
        await room.clock.sleep(9)
        async with room.system._lock:  # somebody looks for another device
            await room.clock.sleep(2)
            del speaker.played[:]
            sounding = room.speaker.play(speech(1, "at once and whole", 48_000))
            await room.clock.sleep(0.021)
            assert any(speaker.played)
        await room.speaker.quiet()
        assert sounding.heard == len("at once and whole")
        await room.clock.sleep(4)
        (stream,) = room.library._streams[-1:]
        assert stream.rests == 0
        await room.clock.sleep(10)
        assert stream.rests  # later it does
        await room.speaker.aclose()

    played(scene)


def test_what_is_said_while_the_speaker_goes_to_rest_waits_for_that_and_is_said_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        speaker = voice()
        said: list[Sounding] = []
        dropped: list[bytes] = []
        room = Room(hall(), speaker)
        resting = ScriptedStream.rest

        def rest(stream: ScriptedStream) -> None:
            del speaker.played[:]
            said.append(room.speaker.play(speech(1, "whole", 48_000)))
            stream._step(4_800)
            dropped.append(bytes(speaker.played))
            resting(stream)

        with monkeypatch.context() as patched:
            patched.setattr(ScriptedStream, "rest", rest)
            room.speaker.start()
            while not said:
                await room.clock.sleep(0.1)
        await room.speaker.quiet()
        assert said[0].heard == len("whole")
        assert not any(dropped[0])
        assert np.count_nonzero(np.frombuffer(bytes(speaker.played), "<i2")) == pytest.approx(48_000, rel=0.02)
        await room.speaker.aclose()

    played(scene)


class Aligned:
    """A canceller that only aligns: with each piece heard it takes one of what was played, and silence where none is there."""

    now: Callable[[], float]

    def __init__(self) -> None:
        self._lying = bytearray()
        self.missing = 0
        self.began_at: list[float] = []
        """When sound began after silence, by what was taken."""
        self._loud = False

    def played(self, pcm: bytes) -> None:
        self._lying += pcm

    def disturbed(self) -> None:
        pass

    def clean_all(self, pcm: bytes) -> tuple[bytes, list[bool]]:
        pieces = len(pcm) // PIECE_BYTES
        for number in range(pieces):
            piece = bytes(self._lying[:PIECE_BYTES])
            self.missing += len(piece) < PIECE_BYTES
            if len(piece) == PIECE_BYTES:
                del self._lying[:PIECE_BYTES]
            heard, self._loud = self._loud, bool(piece) and peak(piece) > 100
            if self._loud and not heard:
                self.began_at.append(self.now() - (pieces - number) * 0.01)
        return pcm, [True] * pieces


@pytest.mark.parametrize("latency_s", [0.02, 0.1, 0.25])
def test_an_echo_is_as_far_from_its_reference_after_a_rest_as_before(latency_s: float) -> None:
    async def scene() -> None:
        aligned = Aligned()
        room = Room(hall(), voice(latency_s=latency_s), cleaner=aligned, reference=aligned)
        aligned.now = room.clock.monotonic
        apart: list[float] = []

        async def then() -> None:
            room.speaker.play(speech(1, "a resampler begins", 48_000))
            await room.passes(3)
            missing = aligned.missing
            for rest_s in (0, 15, 33.3, 47.7):
                await room.passes(rest_s)
                sounding = room.speaker.play(speech(1, "at once", 48_000))
                await room.speaker.quiet()
                await room.passes(1)
                assert sounding.began_at is not None
                apart.append(sounding.began_at - aligned.began_at[-1])
            assert len(aligned.began_at) == 5
            assert aligned.missing <= missing + 1

        await heard_in(room, then)
        assert apart == pytest.approx([apart[0]] * 4, abs=0.021)  # it is heard 20 ms at a time

    played(scene)


def test_a_speaker_that_goes_while_it_rests_is_missed_at_the_next_try_and_found_again() -> None:
    async def scene() -> None:
        speaker = voice()
        room = Room(hall(), speaker)
        room.speaker.start()
        await room.clock.sleep(14)
        room.library.unplug(speaker)
        await room.clock.sleep(PROBE_SECONDS + 1)
        assert room.speaker.health()["speaking"] is False
        again = voice()
        room.library.plug(again)
        await room.clock.sleep(RETRY_S_MOST + 1)
        assert room.speaker.health()["speaking"] is True
        assert any("it does not go on" in line for line in room.said)
        await room.speaker.aclose()

    played(scene)


def test_a_speaker_that_is_not_to_rest_does_not() -> None:
    async def scene() -> None:
        speaker = voice()
        room = Room(hall(), speaker, sound=Sound(input="hall", output="voice", rest_s=0))
        room.speaker.start()
        await room.clock.sleep(60)
        assert len(speaker.played) == pytest.approx(60 * 48_000 * 2, rel=0.01)
        await room.speaker.aclose()

    played(scene)


def test_who_looks_for_a_missing_device_keeps_no_speaker_from_waking() -> None:
    async def scene() -> None:
        held: list[bool] = []
        room = Room(hall(), voice())
        room.speaker.start()
        await room.clock.sleep(12)

        def look() -> list[Device]:
            held.append(room.system._lock.locked())
            return []

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(room.library, "look", look)
            assert not await room.system.there("input", "another")
            await room.system.renew(room.microphone._holder)
        assert held == [False, False]
        await room.speaker.aclose()

    played(scene)
