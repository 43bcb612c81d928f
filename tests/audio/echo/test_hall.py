"""The robot's own voice in a hall whose echo comes and goes, through canceller and gate: nobody interrupts where nobody speaks."""

import numpy as np
import pytest

from agent.audio.echo.canceller import Echo, level_db
from agent.audio.turn_end import HIDDEN_FRAMES
from agent.profile import Hearing, Sound
from agent.sim.sound.room import Ring, at_level, response
from agent.values import RATE_HZ
from tests.audio.echo import rooms

ROBOT_DB, GUEST_DB = -20.0, -20.0

SPEECH_DB = -50.0
"""What is cleaned and louder than this, a detector may take for speech."""

STOP_PIECES = Hearing().barge_in_ms // 10

STOP_MS_MAX = 400
"""From a loud syllable of a guest's; between two he may be waited for."""

ALONE_S = 40
"""More than the gate needs to forget every echo it knew."""


def hall(robot: np.ndarray, delay_ms: int, seed: int) -> np.ndarray:
    """What comes back of the robot's voice, at -10 dB, so much later."""
    ring, late = Ring(response(-10, seed)), delay_ms * RATE_HZ // 1000
    return ring.of(np.concatenate([np.zeros(ring.before + late, np.float32), robot])[: len(robot) + ring.before])


def stops(robot: np.ndarray, heard: np.ndarray) -> list[int]:
    """Pieces at which sound had been let through as a guest's for so long that the robot stops."""
    echo, full, found = Echo(Sound(gain_control=False)), 0.0, []
    noise = np.random.default_rng(1).normal(0, 10 ** (-70 / 20), len(heard))
    for number, (played, piece) in enumerate(zip(rooms.pieces(robot), rooms.pieces(heard + noise), strict=True)):
        echo.played(played)
        speech = level_db(echo.clean(piece)) > SPEECH_DB and echo.guest and level_db(played) > SPEECH_DB
        full = full + 1 if speech else max(0, full - HIDDEN_FRAMES)
        if full >= STOP_PIECES:
            found.append(number)
            full = 0
    return found


def talking(seconds: float, seed: int) -> np.ndarray:
    return at_level(np.asarray(rooms.voice(seconds, seed), np.float32), ROBOT_DB)


@pytest.mark.parametrize(("seed", "delay_ms"), [(2, 20), (2, 200), (3, 110), (3, 160), (4, 20), (4, 60)])
def test_an_echo_that_comes_at_once_after_a_long_time_without_any_stops_nothing(delay_ms: int, seed: int) -> None:
    robot = talking(ALONE_S + 6, seed)
    heard = hall(robot, delay_ms, seed)
    heard[: ALONE_S * RATE_HZ] = 0
    assert stops(robot, heard) == []


@pytest.mark.parametrize("echo", [False, True])
@pytest.mark.parametrize("seed", [1, 2])
def test_a_guest_as_loud_as_the_robot_stops_it(seed: int, *, echo: bool) -> None:
    robot = talking(24, seed)
    guest = at_level(np.asarray(rooms.voice(24, seed + 10), np.float32), GUEST_DB)
    guest[: 20 * RATE_HZ] = 0
    first = int(np.argmax(np.abs(guest) > 10 ** (GUEST_DB / 20))) // rooms.PIECE
    found = stops(robot, guest + (hall(robot, 80, seed) if echo else 0))
    assert found
    assert first <= found[0] < first + STOP_MS_MAX // 10
