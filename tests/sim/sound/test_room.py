"""Echo and babble: the levels that were asked for, the same from the same seed."""

import numpy as np
import pytest

from agent.sim.sound import room
from agent.sim.sound.detect import Samples, speech_level_db
from agent.values import RATE_HZ


def noise(seconds: float, seed: int, level: float = 0.1) -> Samples:
    return (np.random.default_rng(seed).normal(0, level, int(seconds * RATE_HZ))).astype(np.float32)


def test_an_echo_has_the_level_asked_for_and_piece_by_piece_is_the_same_as_at_once() -> None:
    response = room.response(-10, seed=3)
    sound = noise(1, seed=1)
    whole = np.convolve(sound, response)[: len(sound)]
    assert speech_level_db(whole[RATE_HZ // 2 :], RATE_HZ) == pytest.approx(-30, abs=1)
    ring = room.Ring(response)
    held = np.concatenate([np.zeros(ring.before, np.float32), sound])
    pieces = [ring.of(held[at : at + ring.before + 160]) for at in range(0, len(sound), 160)]
    assert np.concatenate(pieces) == pytest.approx(whole, abs=1e-5)


def test_a_room_is_its_seed() -> None:
    assert np.array_equal(room.response(-10, seed=3), room.response(-10, seed=3))
    assert not np.array_equal(room.response(-10, seed=3), room.response(-10, seed=4))
    assert np.sum(room.response(-6, seed=5) ** 2) == pytest.approx(10**-0.6, rel=1e-3)


def test_babble_is_everybody_at_once_at_the_level_asked_for() -> None:
    voices = [noise(0.8, seed=seed, level=0.02 * seed) for seed in (1, 2, 3)]
    crowd = room.babble(voices, -30, seed=1, seconds=4)
    assert 10 * np.log10(np.mean(crowd**2)) == pytest.approx(-30, abs=0.1)
    assert np.array_equal(crowd, room.babble(voices, -30, seed=1, seconds=4))
    assert not np.array_equal(crowd, room.babble(voices, -30, seed=2, seconds=4))


def test_speech_is_brought_to_a_level_and_silence_left_alone() -> None:
    said = np.concatenate([noise(0.5, seed=1), np.zeros(8000, np.float32)])
    assert speech_level_db(room.at_level(said, -26), RATE_HZ) == pytest.approx(-26, abs=0.1)
    assert not room.at_level(np.zeros(1600, np.float32), -26).any()
