"""Microphone and speaker on devices that misbehave, in virtual time."""

import asyncio
import io
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import numpy as np
import pytest

from agent.audio.device.capture import BLOCK_MS_MIN, DeviceMicrophone
from agent.audio.device.playback import DeviceSpeaker
from agent.audio.device.system import SoundSystem
from agent.audio.device.watch import RETRY_S_MOST
from agent.ports import HeardFrame
from agent.profile import Sound
from agent.sim.sound.scripted import ScriptedDevice, ScriptedLibrary, hiss
from agent.sim.world.loop import RobotClock, run
from agent.values import FRAME_SAMPLES, RATE_HZ, Speech
from tests.conftest import tone


class Room:
    """A microphone and a speaker on scripted devices, and what was said of them."""

    def __init__(self, *devices: ScriptedDevice, sound: Sound | None = None, cleaner: Any = None, reference: Any = None) -> None:
        self.clock = RobotClock(seed=1)
        self.library = ScriptedLibrary(self.clock, *devices)
        self.system = system = SoundSystem(self.library, self.clock)
        self.said: list[str] = []
        sound = sound or Sound(input="hall", output="voice")
        self.speaker = DeviceSpeaker(sound, system, self.clock, self.said.append, reference=reference)
        self.microphone = DeviceMicrophone(
            sound, system, self.clock, self.said.append, cleaner=cleaner, before_cleaning=self.speaker.hand_over, zeros_s=10
        )
        self.frames: list[HeardFrame] = []

    async def listen(self) -> None:
        async for frame in self.microphone.frames():
            self.frames.append(frame)

    async def passes(self, seconds: float) -> list[HeardFrame]:
        """The frames that come in that time."""
        before = len(self.frames)
        await self.clock.sleep(seconds)
        return self.frames[before:]


def hall(**vices: Any) -> ScriptedDevice:
    return ScriptedDevice("USB hall microphone", "input", **vices)


def voice(**vices: Any) -> ScriptedDevice:
    return ScriptedDevice("USB voice", "output", **vices)


def speech(seconds: float, text: str, rate_hz: int = 22_050) -> Speech:
    return Speech((tone(seconds, rate_hz) * 32_767).astype("<i2").tobytes(), rate_hz, text)


def played(scene: Callable[[], Coroutine[Any, Any, None]]) -> None:
    run(scene())


async def heard_in(room: Room, then: Callable[[], Awaitable[None]]) -> None:
    listening = asyncio.create_task(room.listen())
    await then()
    listening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await listening
    await room.speaker.aclose()


def test_frames_come_at_their_rate_and_are_dated_by_their_last_sample() -> None:
    async def scene() -> None:
        room = Room(hall(), voice())

        async def then() -> None:
            frames = await room.passes(3.2)
            assert len(frames) == pytest.approx(100, abs=2)
            assert {len(frame.pcm) for frame in frames} == {FRAME_SAMPLES * 2}
            gaps = np.diff([frame.at for frame in frames])
            assert gaps == pytest.approx(FRAME_SAMPLES / RATE_HZ, abs=1e-6)
            health = room.microphone.health()
            assert health == {
                "device": "USB hall microphone",
                "hearing": True,
                "why": "",
                "rate": 1.0,
                "overruns": 0,
                "reopened": 0,
                "clipped": 0,
            }

        await heard_in(room, then)

    played(scene)


def test_a_device_that_refuses_16_khz_is_resampled() -> None:
    wave = (tone(10, 44_100, 440) * 32_767).astype("<i2").tobytes()
    line = io.BytesIO(wave)

    async def scene() -> None:
        room = Room(hall(rate_hz=44_100, takes_hz=(44_100,), sound=lambda samples: line.read(samples * 2)), voice())

        async def then() -> None:
            frames = await room.passes(4)
            assert len(frames) == pytest.approx(4 / 0.032, abs=2)
            wave = np.frombuffer(b"".join(frame.pcm for frame in frames[10:]), "<i2").astype(float)
            spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave))))
            assert spectrum.argmax() * RATE_HZ / len(wave) == pytest.approx(440, abs=1)

        await heard_in(room, then)

    played(scene)


def test_no_device_is_no_end_and_one_that_comes_is_found() -> None:
    async def scene() -> None:
        room = Room()

        async def then() -> None:
            assert not await room.passes(20)
            assert "there is no microphone" in room.microphone.health()["why"]
            assert room.microphone.health()["hearing"] is False
            assert sum("there is no microphone" in line for line in room.said) == 1  # told once, not with each try
            room.library.plug(hall())
            assert await room.passes(20)
            assert room.microphone.health()["hearing"] is True

        await heard_in(room, then)

    played(scene)


def test_without_a_speaker_speech_runs_off_unheard() -> None:
    async def scene() -> None:
        room = Room(hall())
        sounding = room.speaker.play(speech(3, "to nobody"))
        began = room.clock.monotonic()
        async with asyncio.timeout(10):
            await room.speaker.quiet()
        assert room.clock.monotonic() - began == pytest.approx(3, abs=0.1)
        assert (sounding.heard, sounding.began_at) == (0, None)
        assert "there is no speaker" in room.speaker.health()["why"]
        await room.speaker.aclose()

    played(scene)


def test_a_microphone_that_vanishes_and_returns_under_another_index_is_found_and_the_speaker_finishes_first() -> None:
    async def scene() -> None:
        microphone, speaker = hall(), voice()
        room = Room(microphone, speaker)

        async def then() -> None:
            room.speaker.start()
            await room.passes(2)
            sounding = room.speaker.play(speech(4, "a sentence of four seconds"))
            await room.passes(1)
            room.library.unplug(microphone)
            room.library.renewals = 0
            await room.passes(1)
            assert room.microphone.health()["hearing"] is False
            room.library.plug(hall())  # behind the speaker: index 1 now
            await room.speaker.quiet()
            assert sounding.heard == len("a sentence of four seconds")
            assert room.library.renewals == 0  # nobody cut it short to make the list anew
            await room.passes(5)
            assert await room.passes(1)
            assert (room.microphone.health()["hearing"], room.microphone.health()["reopened"]) == (True, 1)
            assert (room.speaker.health()["speaking"], room.speaker.health()["gaps"]) == (True, 0)
            assert len(speaker.opened_at) == 2  # it let go for a moment, when it was idle
            assert not any("USB voice: is gone" in line for line in room.said)

        await heard_in(room, then)

    played(scene)


def test_while_a_microphone_stays_away_the_speaker_is_left_in_peace() -> None:
    async def scene() -> None:
        microphone, speaker = hall(), voice()
        room = Room(microphone, speaker)

        async def then() -> None:
            room.speaker.start()
            await room.passes(2)
            room.library.unplug(microphone)
            await room.passes(100)
            assert len(speaker.opened_at) == 1
            assert room.library.looks <= 100 / RETRY_S_MOST + 6

        await heard_in(room, then)

    played(scene)


def test_a_speaker_that_is_gone_is_not_heard_and_the_microphone_stays() -> None:
    async def scene() -> None:
        microphone, speaker = hall(), voice()
        room = Room(microphone, speaker)

        async def then() -> None:
            room.speaker.start()
            await room.passes(2)
            sounding = room.speaker.play(speech(4, "0123456789" * 4))
            waiting = room.speaker.play(speech(2, "never heard"))
            await room.passes(1)
            room.library.unplug(speaker)
            await room.passes(1)
            heard = sounding.heard
            assert 7 <= heard <= 11
            assert room.speaker.health()["speaking"] is False
            began = room.clock.monotonic()
            await room.speaker.quiet()
            assert room.clock.monotonic() - began == pytest.approx(4, abs=0.3)  # it ran off in real time
            assert (sounding.heard, waiting.heard, waiting.began_at) == (heard, 0, None)
            assert len(microphone.opened_at) == 1
            assert len(room.frames) == pytest.approx((2 + 1 + 1 + 4) / 0.032, abs=12)
            room.library.plug(voice())
            await room.passes(20)
            again = room.speaker.play(speech(1, "again"))
            await room.speaker.quiet()
            assert again.heard == len("again")

        await heard_in(room, then)

    played(scene)


def test_a_speaker_is_looked_after_again_when_that_has_failed_in_a_way_nobody_foresaw(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        room, tries = Room(hall(), voice()), list[float]()
        opens = room.speaker._open

        async def fails_twice() -> Any:
            tries.append(room.clock.monotonic())
            if len(tries) < 3:
                raise RuntimeError("no luck")
            return await opens()

        monkeypatch.setattr(room.speaker, "_open", fails_twice)
        room.speaker.start()
        await room.clock.sleep(0.1)
        began, unheard = room.clock.monotonic(), room.speaker.play(speech(0.5, "hello"))
        await room.speaker.quiet()  # it runs off
        assert (unheard.heard, room.clock.monotonic() - began < 1) == (0, True)
        assert room.speaker.health()["why"].startswith("RuntimeError at ")
        await room.clock.sleep(5)
        assert len(tries) == 3
        sounding = room.speaker.play(speech(0.5, "hello"))
        await room.speaker.quiet()
        assert (sounding.heard, room.speaker.health()["why"]) == (len("hello"), "")
        await room.speaker.aclose()

    played(scene)


def test_a_speaker_that_could_not_be_put_to_rest_is_heard_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        room = Room(hall(), voice())
        rests, failed = room.speaker._holder.rest, list[float]()

        async def fails_once(retires: Callable[[], bool]) -> None:
            if failed:
                return await rests(retires)
            assert retires()
            failed.append(room.clock.monotonic())
            raise RuntimeError("it does not want to")

        monkeypatch.setattr(room.speaker._holder, "rest", fails_once)
        room.speaker.start()
        while not failed:
            await room.clock.sleep(0.1)
        while room.speaker.health()["why"] or not room.speaker.health()["reopened"]:
            await room.clock.sleep(0.01)
        sounding = room.speaker.play(speech(0.5, "hello"))
        async with asyncio.timeout(10):
            await room.speaker.quiet()
        assert sounding.heard == len("hello")
        await room.speaker.aclose()

    played(scene)


@pytest.mark.parametrize(("speed", "why"), [(0.47, "runs at only 47% of its rate"), (0.0, "stands still")])
def test_half_dead_and_dead_are_reopened_again_and_again(speed: float, why: str) -> None:
    async def scene() -> None:
        microphone = hall()
        room = Room(microphone, voice())

        async def then() -> None:
            await room.passes(10)
            microphone.speed = speed
            await room.passes(40)
            assert 3 <= len(microphone.opened_at) <= 12
            assert any(why in line for line in room.said)
            microphone.speed = 1.0
            await room.passes(30)
            health = room.microphone.health()
            assert (health["hearing"], health["rate"]) == (True, pytest.approx(1, abs=0.02))

        await heard_in(room, then)

    played(scene)


def test_a_clock_that_is_40_percent_fast_is_reopened_once_and_then_taken_as_it_is() -> None:
    async def scene() -> None:
        microphone = hall(speed=1.4)
        room = Room(microphone, voice())

        async def then() -> None:
            await room.passes(30)
            assert len(microphone.opened_at) == 2
            frames = await room.passes(32)
            assert len(frames) == pytest.approx(1000, abs=15)
            health = room.microphone.health()
            assert (health["hearing"], health["reopened"]) == (True, 1)
            assert health["rate"] == pytest.approx(1.4, abs=0.02)
            assert any("its clock is off: 140%" in line for line in room.said)

        await heard_in(room, then)

    played(scene)


def test_zeros_are_told_and_reopened_ever_less_often() -> None:
    async def scene() -> None:
        microphone = hall(sound=lambda samples: bytes(samples * 2))
        room = Room(microphone, voice())

        async def then() -> None:
            await room.passes(100)
            assert 3 <= len(microphone.opened_at) <= 4
            assert room.microphone.health()["why"] == "gives only zeros; is it muted?"
            microphone.sound = hall().sound
            await room.passes(30)
            assert room.microphone.health()["hearing"] is True

        await heard_in(room, then)

    played(scene)


def test_clipping_is_counted_and_told_once() -> None:
    async def scene() -> None:
        room = Room(hall(sound=lambda samples: b"\xff\x7f" * samples), voice())

        async def then() -> None:
            await room.passes(5)
            assert room.microphone.health()["clipped"] == pytest.approx(5000 / BLOCK_MS_MIN, abs=8)
            assert room.microphone.health()["hearing"] is True
            assert sum("it clips" in line for line in room.said) == 1

        await heard_in(room, then)

    played(scene)


def test_another_device_stands_in_and_the_named_one_is_taken_when_it_is_back() -> None:
    async def scene() -> None:
        other = ScriptedDevice("built-in", "input")
        room = Room(other, voice())

        async def then() -> None:
            assert await room.passes(10)
            assert any("built-in: open at 16000 Hz, for there is no hall" in line for line in room.said)
            room.library.plug(hall())
            await room.passes(70)
            assert room.microphone.health()["device"] == "USB hall microphone"
            assert await room.passes(1)

        await heard_in(room, then)

    played(scene)


def test_sound_nobody_takes_is_counted_and_the_newest_stays() -> None:
    async def scene() -> None:
        room = Room(hall(), voice())
        frames = room.microphone.frames()
        await anext(frames)
        await room.clock.sleep(5)
        assert room.microphone.health()["overruns"] == pytest.approx(3000 / BLOCK_MS_MIN, abs=5)
        for _ in range(100):
            await anext(frames)
        assert room.microphone.health()["reopened"] == 0  # the device did what it should
        await frames.aclose()

    played(scene)


def test_the_cleaner_gets_10_ms_and_knows_what_was_played() -> None:
    class Echo:
        def __init__(self) -> None:
            self.far = bytearray()
            self.pieces = 0

        def disturbed(self) -> None:
            pass

        def played(self, pcm: bytes) -> None:
            self.far += pcm

        def clean_all(self, pcm: bytes) -> tuple[bytes, list[bool]]:
            pieces, rest = divmod(len(pcm), 320)
            assert (pieces > 0, rest) == (True, 0)
            self.pieces += pieces
            return bytes(len(pcm)), [True] * pieces

    async def scene() -> None:
        echo = Echo()
        room = Room(hall(), voice(), cleaner=echo, reference=echo)

        async def then() -> None:
            room.speaker.start()
            await room.passes(1)
            room.speaker.play(speech(1, "x"))
            frames = await room.passes(2)
            assert not any(any(frame.pcm) for frame in frames)
            assert echo.pieces == pytest.approx(300, abs=10)
            assert len(echo.far) // 2 == pytest.approx(3 * RATE_HZ, rel=0.02)
            assert np.abs(np.frombuffer(bytes(echo.far), "<i2")).max() == pytest.approx(0.3 * 32_767, rel=0.02)

        await heard_in(room, then)

    played(scene)


@pytest.mark.parametrize(("rate_hz", "speed"), [(44_100, 1.0), (48_000, 1.4)])
def test_a_speaker_of_another_rate_or_a_fast_clock_sounds_as_it_should(rate_hz: int, speed: float) -> None:
    async def scene() -> None:
        speaker = voice(rate_hz=rate_hz, takes_hz=(rate_hz,), speed=speed)
        room = Room(hall(), speaker)
        room.speaker.start()
        await room.clock.sleep(30)
        del speaker.played[:]
        sounding = room.speaker.play(speech(2, "two seconds"))
        began = room.clock.monotonic()
        await room.speaker.quiet()
        assert room.clock.monotonic() - began == pytest.approx(2, abs=0.1)
        assert sounding.heard == len("two seconds")
        wave = np.frombuffer(bytes(speaker.played), "<i2").astype(float)
        spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave))))
        assert spectrum.argmax() * rate_hz * speed / len(wave) == pytest.approx(220, abs=2)
        await room.speaker.aclose()

    played(scene)


def test_a_stop_is_silence_at_the_device_within_two_blocks() -> None:
    async def scene() -> None:
        speaker = voice()
        room = Room(hall(), speaker)
        room.speaker.start()
        await room.clock.sleep(1)
        sounding = room.speaker.play(speech(5, "never ends", 48_000))
        await room.clock.sleep(1)
        at = len(speaker.played)
        room.speaker.stop()
        await room.speaker.quiet()
        await room.clock.sleep(0.5)
        after = np.frombuffer(bytes(speaker.played[at:]), "<i2")
        assert after[:100].any()
        assert not after[480 * 2 :].any()
        assert 1 <= sounding.heard <= 3
        await room.speaker.aclose()

    played(scene)


def loud(samples: int) -> bytes:
    return b"\0\2\0\xfe" * (samples // 2)


@pytest.mark.parametrize(
    ("sound", "patience_ms", "together"),
    [(hiss, 0, {1}), (hiss, 32, {1}), (hiss, 128, {4}), (hiss, 256, {8}), (loud, 256, {4}), (loud, 32, {1})],
)
def test_sound_is_heard_when_so_much_of_it_lies_there(sound: Callable[[int], bytes], patience_ms: int, together: set[int]) -> None:
    async def scene() -> None:
        room = Room(hall(sound=sound), voice())
        room.microphone.patience_ms = lambda: patience_ms
        came: list[float] = []

        async def then() -> None:
            await room.passes(3)
            for _ in range(2000):
                before = len(room.frames)
                await room.clock.sleep(0.001)
                came.extend([room.clock.monotonic()] * (len(room.frames) - before))

        await heard_in(room, then)
        assert len(came) == pytest.approx(2 / 0.032, abs=4)
        assert {came.count(moment) for moment in came[4:-4]} == together

    played(scene)
