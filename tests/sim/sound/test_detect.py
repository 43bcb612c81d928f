"""What is measured in a recording of the hall, on recordings made by hand."""

import numpy as np
import pytest

from agent.sim.sound import detect

RATE = 16_000


def noise(seconds: float, seed: int = 1, level: float = 0.1) -> detect.Samples:
    return (np.random.default_rng(seed).normal(0, level, int(seconds * RATE))).astype(np.float32)


def silence(seconds: float) -> detect.Samples:
    return np.zeros(int(seconds * RATE), np.float32)


def joined(*parts: detect.Samples) -> detect.Samples:
    return np.concatenate(parts)


def test_the_first_sound_is_found_to_the_sample_and_clicks_are_none() -> None:
    recording = joined(silence(0.3), noise(0.2))
    recording[1000:1010] = 0.5  # a click
    assert detect.first_sound(recording, RATE) == pytest.approx(0.3, abs=0.001)
    assert detect.first_sound(joined(recording, silence(0.5), noise(0.2)), RATE, after=0.6) == pytest.approx(1.0, abs=0.001)
    assert detect.first_sound(silence(1), RATE) is None
    assert detect.first_sound(silence(0), RATE) is None
    assert detect.first_sound(noise(0.5, level=0.001), RATE) is None  # softer than anything that is played


def test_it_is_silent_when_it_stays_so() -> None:
    recording = joined(noise(0.5), silence(0.1), noise(0.4), silence(0.4))
    assert detect.silent_at(recording, RATE) == pytest.approx(1.0, abs=0.006)
    assert detect.silent_at(recording, RATE, after=1.1) == pytest.approx(1.1, abs=0.006)
    assert detect.silent_at(recording[: int(1.2 * RATE)], RATE) is None


def test_ducking_is_seen_against_the_same_sound_as_it_would_have_been() -> None:
    speech = noise(2) * np.repeat([1, 0.05, 0.6, 0, 1], RATE * 2 // 5).astype(np.float32)  # loud, soft, loud, a pause, loud
    gain = np.ones(len(speech), np.float32)
    assert detect.ducked_at(speech, joined(silence(0.2), speech), RATE, after=0.7) is None
    gain[int(0.95 * RATE) :] = 10 ** (-12 / 20)
    assert detect.ducked_at(speech * gain, joined(silence(0.2), speech), RATE, after=0.7) == pytest.approx(0.95, abs=0.006)
    assert detect.ducked_at(speech * gain, noise(3, seed=9), RATE, after=0.7) is None
    assert detect.ducked_at(silence(2), speech, RATE, after=0.7) is None


def test_a_known_sound_is_found_below_others_and_not_where_it_is_not() -> None:
    known = noise(0.5, seed=2)
    assert detect.place(known, joined(silence(0.25), known * 0.1, silence(0.3)) + noise(1.05, level=0.01)) == RATE // 4
    assert detect.place(known, noise(1)) is None
    assert detect.place(known, silence(1)) is None
    assert detect.place(known, silence(0.1)) is None
    assert detect.place(silence(0), known) is None


def test_levels_leave_pauses_out() -> None:
    assert detect.speech_level_db(joined(noise(0.5), silence(2), noise(0.5)), RATE) == pytest.approx(-20, abs=0.3)
    assert detect.speech_level_db(silence(1), RATE) == pytest.approx(-100)
    assert detect.speech_level_db(silence(0), RATE) == -100


def test_samples_survive_being_written_and_too_loud_ones_are_clipped() -> None:
    sound = np.array([0, 0.5, -1, 2, -2], np.float32)
    assert detect.floats(detect.pcm(sound)).tolist() == pytest.approx([0, 0.5, -1, 32767 / 32768, -1])
