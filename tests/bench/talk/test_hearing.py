"""The hall in which echo and babble are added: where clips lie, when the robot gives way, what comes back of its voice."""

import numpy as np

from agent.bench.talk.hearing import (
    AROUND_S,
    ECHO_DB,
    ECHO_DELAY_MS,
    GAP_S,
    LEAD_S,
    SILENT_MS,
    WAYS,
    Clip,
    echo_of,
    giving_way,
    laid,
    through,
)
from agent.sim.sound.detect import Samples
from agent.values import RATE_HZ
from tests.conftest import tone

ECHO = ECHO_DELAY_MS * RATE_HZ // 1000


def clips(*seconds: float) -> list[Clip]:
    return [Clip("human", "", np.asarray(tone(each), np.float32)) for each in seconds]


def test_clips_lie_apart_and_each_is_listened_to_with_what_is_around_it() -> None:
    first, second = clips(1.0, 0.5)
    hall, places = laid([first, second])
    around = int(AROUND_S * RATE_HZ)
    for clip, (begin, end) in zip((first, second), places, strict=True):
        assert np.array_equal(hall[begin + around : end - around], clip.sound)
        assert not hall[begin : begin + around].any()
        assert not hall[end - around : end].any()
    assert places[0][0] == int(LEAD_S * RATE_HZ) - around
    assert places[1][0] - places[0][1] == int((GAP_S - 2 * AROUND_S) * RATE_HZ)
    assert len(hall) % 160 == 0


def test_a_robot_that_gives_way_is_lowered_then_silent_while_a_guest_speaks() -> None:
    hall, places = laid(clips(2.0))
    gain = giving_way(places, len(hall), 12)
    onset = places[0][0] + int(AROUND_S * RATE_HZ)
    assert gain[onset] == gain[places[0][1]] == 1
    assert 0.2 < gain[onset + int(0.15 * RATE_HZ)] < 0.3
    silent = gain[onset + SILENT_MS * RATE_HZ // 1000 : places[0][1]]
    assert len(silent)
    assert not silent.any()


def test_an_echo_comes_later_and_softer() -> None:
    played = np.zeros(RATE_HZ, np.float32)
    played[1000:9000] = np.random.default_rng(1).normal(0, 0.1, 8000)
    echo = echo_of(played, 1)
    assert len(echo) == len(played)
    assert np.abs(echo[: 1000 + ECHO - 8]).max() < 1e-6
    assert abs(level_db(echo) - level_db(played) - ECHO_DB) < 1


def level_db(sound: Samples) -> float:
    return float(10 * np.log10(np.sum(sound.astype(np.float64) ** 2)))


def test_the_canceller_gets_what_was_played_and_says_whether_somebody_speaks() -> None:
    class Deaf:
        """Takes nothing out, and remembers what it got."""

        def __init__(self) -> None:
            self.guest, self.reference = False, b""

        def played(self, pcm: bytes) -> None:
            self.reference += pcm

        def clean(self, pcm10ms: bytes) -> bytes:
            self.guest = any(pcm10ms)
            return pcm10ms

    deaf, hall = Deaf(), np.asarray(np.concatenate([np.zeros(1600), tone(0.1)[1:], [0]]), np.float32)
    heard = through(deaf, hall, np.full(len(hall), 0.5, np.float32))  # type: ignore[arg-type]
    assert heard.guest == [False] * 10 + [True] * 10
    assert np.abs(heard.sound - hall).max() < 1e-4
    assert deaf.reference == np.full(len(hall), 16_384, "<i2").tobytes()


def test_only_what_is_heard_straight_is_not_cleaned() -> None:
    assert [name for name, way in WAYS.items() if not way.cleaned] == ["clean", "babble_uncleaned"]
