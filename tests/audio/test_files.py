"""A conversation with files instead of devices keeps real time."""

import asyncio
from pathlib import Path

import numpy as np
import pytest
import soundfile

from agent.audio.files import FileMicrophone, FileSpeaker
from agent.errors import BadInput
from agent.sim.clock import SimulatedClock
from agent.values import FRAME_SAMPLES, RATE_HZ, Speech
from tests.conftest import tone


def speech(seconds: float, text: str, rate_hz: int = 22_050) -> Speech:
    return Speech((tone(seconds, rate_hz) * 32_767).astype("<i2").tobytes(), rate_hz, text)


def loud(sound: np.ndarray, start: float, end: float) -> float:
    return float(np.abs(sound[int(start * RATE_HZ) : int(end * RATE_HZ)]).max())


def test_a_file_is_heard_at_the_pace_of_a_microphone_and_then_silence(clock: SimulatedClock) -> None:
    async def main() -> None:
        clock.advance(5)
        pieces = [bytes([number]) * FRAME_SAMPLES * 2 for number in range(1, 11)]
        microphone = FileMicrophone(pieces, clock, silence_after_s=0.32)
        frames, came = [], []
        async for frame in microphone.frames():
            frames.append(frame)
            came.append(clock.monotonic())
            if len(frames) == 3:
                clock.advance(0.05)  # whoever listens was late; the file is not
        assert [frame.pcm for frame in frames] == pieces + [bytes(FRAME_SAMPLES * 2)] * 10
        assert [frame.at for frame in frames] == pytest.approx([5 + 0.032 * number for number in range(1, 21)])
        assert came[-1] == pytest.approx(frames[-1].at)
        assert microphone.health()["hearing"] is False

    asyncio.run(main())


def test_what_is_played_lies_where_it_would_have_sounded(clock: SimulatedClock, tmp_path: Path) -> None:
    async def main() -> None:
        speaker = FileSpeaker(tmp_path / "out.wav", clock)
        clock.advance(1)
        first = speaker.play(speech(1, "one second"))
        await speaker.quiet()
        assert clock.monotonic() == pytest.approx(2, abs=0.05)
        assert first.heard == len("one second")
        assert first.began_at == pytest.approx(1, abs=0.011)
        clock.advance(1)
        stopped = speaker.play(speech(1, "0123456789"))
        clock.advance(0.4)
        speaker.duck(on=True)
        clock.advance(0.2)
        speaker.stop()
        clock.advance(1)
        assert stopped.heard == 6
        await speaker.aclose()
        assert speaker.health()["speaking"] is True

    asyncio.run(main())
    sound, rate_hz = soundfile.read(tmp_path / "out.wav")
    assert rate_hz == RATE_HZ
    assert len(sound) / rate_hz == pytest.approx(4.6, abs=0.06)
    assert loud(sound, 0, 1) == loud(sound, 2.1, 3) == loud(sound, 3.7, 4.6) == 0
    assert loud(sound, 1.1, 1.9) == loud(sound, 3.1, 3.3) == pytest.approx(0.3, abs=0.01)
    assert loud(sound, 3.5, 3.55) == pytest.approx(0.3 / 4, abs=0.01)


def test_where_the_file_cannot_be_written_it_says_so_before_anything_is_said(clock: SimulatedClock, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="can't be written there"):
        FileSpeaker(tmp_path, clock)
    with pytest.raises(BadInput, match="can't be written there"):
        FileSpeaker(tmp_path / "missing" / "out.wav", clock)
