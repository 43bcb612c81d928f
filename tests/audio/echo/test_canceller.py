"""The echo canceller on rooms made from seeds: the robot's own voice goes, a guest's stays, and the two streams keep step."""

import sys

import numpy as np
import pytest

from agent.audio.echo.canceller import BACKLOG_MS_MAX, LATE_MS_MAX, PIECE_BYTES, SILENCE, SPARE_MS_MAX, SPARE_WATCH_MS, Echo, level_db
from agent.audio.echo.own_voice import SILENT_DB
from agent.errors import MissingPart
from agent.profile import Sound
from agent.values import RATE_HZ
from tests.audio.echo import rooms

PLAIN = Sound(gain_control=False)


def heard_through(echo: Echo, played: np.ndarray, microphone: np.ndarray) -> np.ndarray:
    cleaned = []
    for reference, piece in zip(rooms.pieces(played), rooms.pieces(microphone), strict=True):
        echo.played(reference)
        cleaned.append(echo.clean(piece))
    return np.frombuffer(b"".join(cleaned), "<i2") / 32768


@pytest.mark.parametrize("delay_ms", [40, 80, 120])
def test_its_own_voice_is_taken_out(delay_ms: int) -> None:
    robot = rooms.voice(6, seed=1)
    microphone = rooms.echo(robot, delay_ms, seed=delay_ms)
    cleaned = heard_through(Echo(PLAIN), robot, microphone)
    settled = slice(3 * RATE_HZ, None)
    assert rooms.level_db(microphone[settled]) - rooms.level_db(cleaned[settled]) > 25


def test_without_cancellation_the_echo_stays() -> None:
    robot = rooms.voice(2, seed=1)
    microphone = rooms.echo(robot, 60)
    off = Sound(echo_cancellation=False, noise_suppression=False, gain_control=False)
    assert rooms.level_db(microphone) - rooms.level_db(heard_through(Echo(off), robot, microphone)) < 6


def spectrum(sound: np.ndarray) -> np.ndarray:
    """Loudness by time and frequency: what a recogniser looks at."""
    frames = sound[: len(sound) // 400 * 400].reshape(-1, 400) * np.hanning(400)
    return np.log10(np.abs(np.fft.rfft(frames))[:, 5:90] + 1e-3)


def delay_of(sound: np.ndarray, other: np.ndarray) -> int:
    size = len(sound) * 2
    likeness = np.fft.irfft(np.fft.rfft(other, size) * np.conj(np.fft.rfft(sound, size)), size)
    return int(np.argmax(likeness[: RATE_HZ // 20]))


def test_a_guest_who_speaks_into_it_is_still_heard() -> None:
    robot, guest = rooms.voice(6, seed=1), rooms.voice(6, seed=2)
    guest[: 3 * RATE_HZ] = 0
    cleaned = heard_through(Echo(PLAIN), robot, rooms.echo(robot, 80) + guest)
    said, left = guest[3 * RATE_HZ :], cleaned[3 * RATE_HZ :]
    late = delay_of(said, left)
    said, left = said[: len(said) - late], left[late:]
    assert abs(rooms.level_db(said) - rooms.level_db(left)) < 6
    with_guest = np.corrcoef(spectrum(said).ravel(), spectrum(left).ravel())[0, 1]
    with_robot = np.corrcoef(spectrum(robot[3 * RATE_HZ :][: len(left)]).ravel(), spectrum(left).ravel())[0, 1]
    assert with_guest > 0.7
    assert with_robot < 0.4


def test_a_guest_is_unharmed_while_the_robot_is_silent() -> None:
    guest = rooms.voice(3, seed=2)
    echo = Echo(PLAIN)
    cleaned = np.frombuffer(b"".join(echo.clean(piece) for piece in rooms.pieces(guest)), "<i2") / 32768
    late = delay_of(guest, cleaned)
    said, left = guest[RATE_HZ : len(guest) - late], cleaned[late + RATE_HZ :]
    assert abs(rooms.level_db(said) - rooms.level_db(left)) < 3
    assert np.corrcoef(spectrum(said).ravel(), spectrum(left).ravel())[0, 1] > 0.9
    assert echo.guest
    assert echo.missing_ms == 3000


@pytest.mark.parametrize("sound", [PLAIN, Sound()], ids=["plain", "with gain"])
def test_silence_stays_silence(sound: Sound) -> None:
    echo = Echo(sound)
    for _ in range(100):
        echo.played(SILENCE)
        assert echo.clean(SILENCE) == SILENCE


def test_gain_lifts_a_soft_voice_but_not_what_the_gate_sees() -> None:
    robot = rooms.voice(3, seed=1)
    microphone = rooms.echo(robot, 80)
    soft = rooms.voice(3, seed=2) * 0.05
    assert rooms.level_db(heard_through(Echo(Sound()), np.zeros_like(soft), soft)) > rooms.level_db(soft) + 6
    echo = Echo(Sound())
    heard_through(echo, robot, microphone)
    assert not echo.guest


def test_pieces_of_any_length_are_one_stream() -> None:
    robot = rooms.voice(1, seed=1)
    microphone = rooms.echo(robot, 80)
    whole, torn = Echo(PLAIN), Echo(PLAIN)
    expected = heard_through(whole, robot, microphone)
    pcm, cleaned = b"".join(rooms.pieces(robot)), []
    for number, piece in enumerate(rooms.pieces(microphone)):
        if number % 2 == 0:  # two pieces at once, cut in the middle of a sample
            at = number * PIECE_BYTES
            torn.played(pcm[at : at + 101])
            torn.played(pcm[at + 101 : at + 2 * PIECE_BYTES])
        cleaned.append(torn.clean(piece))
    assert b"".join(cleaned) == (expected * 32768).astype("<i2").tobytes()
    assert torn.missing_ms == torn.dropped_ms == 0


@pytest.mark.parametrize(("playback", "microphone"), [(7, 5), (5, 7)])
def test_a_clock_that_is_40_percent_faster_costs_echo_but_no_memory(playback: int, microphone: int) -> None:
    echo = Echo(PLAIN)
    for _ in range(100):
        for _ in range(playback):
            echo.played(SILENCE)
        for _ in range(microphone):
            echo.clean(SILENCE)
    assert len(echo._played) <= BACKLOG_MS_MAX * PIECE_BYTES // 10
    faster = max(0, (playback - microphone) * 1000 - BACKLOG_MS_MAX)
    assert faster <= echo.dropped_ms <= faster + BACKLOG_MS_MAX
    assert echo.missing_ms == max(0, (microphone - playback) * 1000)


def test_what_is_left_over_from_a_burst_is_let_go() -> None:
    """Else the reference would lag behind its own echo for good."""
    echo = Echo(PLAIN)
    for _ in range(5):  # the microphone catches up, then the playback
        echo.clean(SILENCE)
    for _ in range(5):
        echo.played(SILENCE)
    for _ in range(2 * SPARE_WATCH_MS // 10):
        echo.played(SILENCE)
        echo.clean(SILENCE)
    assert len(echo._played) <= SPARE_MS_MAX * PIECE_BYTES // 10
    assert (echo.missing_ms, echo.dropped_ms) == (50, 50)


def test_a_reference_that_is_late_does_not_make_its_own_voice_a_guest() -> None:
    robot = rooms.voice(3, seed=1)
    echo, microphone = Echo(PLAIN), rooms.pieces(rooms.echo(robot, 80))
    for reference, piece in zip(rooms.pieces(robot)[:200], microphone, strict=False):
        echo.played(reference)
        echo.clean(piece)
    verdicts = [echo.guest for piece in microphone[200:] if echo.clean(piece)]
    assert not any(verdicts[: LATE_MS_MAX // 10])
    assert verdicts[-1]  # the loudspeaker is gone, and what is heard is somebody


def test_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="318 bytes"):
        Echo(PLAIN).clean(bytes(318))


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "livekit", None)
    with pytest.raises(MissingPart, match=r"voxmeter\[audio\]"):
        Echo(PLAIN)


def test_levels() -> None:
    assert level_db(b"") == level_db(SILENCE) == SILENT_DB
    assert level_db(np.full(160, -32768, "<i2").tobytes()) == pytest.approx(0)
    assert level_db(np.full(160, 3277, "<i2").tobytes()) == pytest.approx(-20, abs=0.01)


@pytest.mark.parametrize("together", [2, 6, 12, 26])
def test_while_the_robot_is_silent_many_pieces_at_once_are_the_same(together: int) -> None:
    robot = np.concatenate([rooms.voice(2, seed=1), np.zeros(3 * RATE_HZ), rooms.voice(1, seed=3)])
    guest = np.concatenate([np.zeros(RATE_HZ), rooms.voice(4, seed=2) * 0.3, np.zeros(RATE_HZ)])
    played, heard = rooms.pieces(robot), rooms.pieces(rooms.echo(robot, 80) + guest)
    one, many = Echo(Sound()), Echo(Sound())
    startled: list[str] = []
    one.startled, many.startled = lambda: startled.append("one"), lambda: startled.append("many")
    for at in range(0, len(heard), together):
        for piece in played[at : at + together]:
            one.played(piece)
            many.played(piece)
        apart = [(one.clean(piece), one.guest) for piece in heard[at : at + together]]
        assert many.clean_all(b"".join(heard[at : at + together])) == (b"".join(piece for piece, _ in apart), [guest for _, guest in apart])
    assert startled.count("one") == startled.count("many")
    assert (one.missing_ms, one.dropped_ms) == (many.missing_ms, many.dropped_ms) == (0, 0)
