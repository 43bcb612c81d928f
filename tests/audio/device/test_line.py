"""What is played and how much of it was heard, sample by sample."""

from itertools import pairwise

import numpy as np
import pytest
import soxr
from hypothesis import given
from hypothesis import strategies as st

from agent.audio.device.line import FADE_MS, Line
from agent.sim.clock import SimulatedClock
from agent.values import Speech
from tests.conftest import tone

RATE = 48_000
BLOCK = 480
LATENCY = 0.02


class Player:
    """A device that takes blocks in time; a line of its own."""

    def __init__(self, rate_hz: int = RATE) -> None:
        self.clock = SimulatedClock()
        self.line = Line(rate_hz, self.clock, duck_db=12)
        self.block = rate_hz // 100
        self.out = bytearray()

    def run(self, blocks: int) -> np.ndarray:
        began = len(self.out)
        for _ in range(blocks):
            self.out += self.line.fill(self.block, self.clock.monotonic() + LATENCY)
            self.clock.advance(0.01)
        return np.frombuffer(bytes(self.out[began:]), "<i2").astype(float)


def speech(seconds: float, text: str = "", rate_hz: int = RATE) -> Speech:
    return Speech((tone(seconds, rate_hz) * 32_767).astype("<i2").tobytes(), rate_hz, text)


def test_what_sounds_is_what_was_played_and_silence_around_it() -> None:
    player = Player()
    assert not player.run(3).any()
    said = speech(0.1, "hello")
    player.line.play(said)
    out = player.run(20)
    assert out[: len(said.pcm) // 2].astype("<i2").tobytes() == said.pcm
    assert not out[len(said.pcm) // 2 :].any()


def test_pieces_of_a_sentence_join_without_a_seam_at_another_rate() -> None:
    player = Player()
    whole = np.frombuffer(speech(1.0, rate_hz=22_050).pcm, "<i2")
    cuts = [0, 3001, 9000, 9001, 15_555, len(whole)]
    for start, end in pairwise(cuts):
        player.line.play(Speech(whole[start:end].tobytes(), 22_050, "a" if start == 0 else ""))
    out = player.run(110)
    at_once = soxr.resample(whole, 22_050, RATE).astype(float)
    assert np.abs(out[: len(at_once)] - at_once).max() <= 2
    assert not out[len(at_once) :].any()
    assert player.line.gaps == 0


def test_heard_follows_the_ear_not_the_device() -> None:
    player = Player()
    piece = player.line.play(speech(0.1, "0123456789"))
    assert (piece.heard, piece.began_at) == (0, None)
    player.run(1)
    assert (piece.heard, piece.began_at) == (0, None)  # it is on its way
    player.run(2)
    assert piece.began_at == pytest.approx(LATENCY)
    assert piece.heard == 1
    player.run(5)
    assert piece.heard == 6
    player.run(5)
    assert piece.heard == 10


def test_a_stop_fades_within_a_block_and_the_rest_is_never_heard() -> None:
    player = Player()
    first, second = player.line.play(speech(0.2, "0123456789")), player.line.play(speech(0.2, "abc"))
    player.run(10)
    player.line.stop()
    out = player.run(20)
    fade = RATE * FADE_MS // 1000
    assert out[: fade // 2].any()
    assert not out[fade:].any()
    assert np.abs(np.diff(out)).max() < 1500  # no click
    assert (first.heard, second.heard, second.began_at) == (5, 0, None)
    assert not player.line.busy()
    after = player.line.play(speech(0.1, "next"))
    player.run(15)
    assert after.heard == 4
    assert (first.heard, second.heard) == (5, 0)


def test_what_is_played_right_after_a_stop_is_not_stopped_with_it() -> None:
    player = Player()
    player.line.play(speech(1, "old"))
    player.run(5)
    player.line.stop()
    new = player.line.play(speech(0.1, "new"))
    player.run(20)
    assert new.heard == 3


def test_ducking_lowers_within_one_block_and_raises_again() -> None:
    player = Player()
    player.line.play(speech(1, "x"))
    loud = np.abs(player.run(10)).max()
    player.line.duck(on=True)
    player.run(1)
    assert np.abs(player.run(10)).max() == pytest.approx(loud * 10 ** (-12 / 20), rel=0.02)
    player.line.duck(on=False)
    player.run(1)
    assert np.abs(player.run(10)).max() == pytest.approx(loud, rel=0.02)


def test_a_pause_keeps_what_waits() -> None:
    player = Player()
    piece = player.line.play(speech(0.3, "0123456789"))
    player.run(10)
    player.line.pause(on=True)
    player.run(1)
    assert not player.run(30).any()
    heard = piece.heard
    assert heard in (3, 4)
    assert player.line.busy()
    player.line.pause(on=False)
    player.run(30)
    assert piece.heard == 10


def test_speech_that_goes_on_too_late_is_a_gap_and_a_new_sentence_is_none() -> None:
    player = Player()
    player.line.play(speech(0.05, "one"))
    player.run(20)
    player.line.play(speech(0.05))
    assert player.line.gaps == 1
    player.run(20)
    player.line.play(speech(0.05, "two"))
    player.line.stop()
    player.line.play(speech(0.05))
    assert player.line.gaps == 1


def test_what_runs_off_while_the_device_is_gone_is_not_heard() -> None:
    player = Player()
    first, second, third = (player.line.play(speech(0.2, "0123456789")) for _ in range(3))
    player.run(12)
    player.line.lost()
    heard = first.heard
    assert heard == 5
    player.line.skip(RATE * 25 // 100)
    player.clock.advance(0.25)
    assert (first.heard, second.heard) == (heard, 0)
    player.run(40)
    assert (first.heard, second.heard, third.heard) == (heard, 0, 10)


def test_a_piece_without_sound_is_heard_with_what_is_before_it() -> None:
    player = Player()
    first, empty = player.line.play(speech(0.1, "abc")), player.line.play(Speech(b"", RATE, "silent"))
    assert empty.heard == 0
    player.run(20)
    assert (first.heard, empty.heard) == (3, 6)
    assert not player.line.busy()


@given(st.lists(st.tuples(st.sampled_from(["play", "run", "stop", "pause", "resume", "lost", "skip"]), st.integers(0, 30)), max_size=40))
def test_hearing_only_grows_never_beyond_the_text_and_the_line_ends(steps: list[tuple[str, int]]) -> None:
    player = Player(16_000)
    line = player.line
    pieces, before = [], []
    for step, size in steps:
        if step == "play":
            pieces.append(line.play(speech(size / 100, "x" * size, 22_050 if size % 2 else 16_000)))
            before.append(0)
        elif step in ("pause", "resume"):
            line.pause(on=step == "pause")
        elif step == "skip":
            line.skip(size * 160)
        elif step == "run":
            player.run(size)
        else:
            getattr(line, step)()
        now = [piece.heard for piece in pieces]
        assert all(was <= is_now <= len(piece.speech.text) for was, is_now, piece in zip(before, now, pieces, strict=True))
        before = now
    line.pause(on=False)
    player.run(1500)
    assert not line.busy()
    if not {"stop", "lost", "skip"} & {step for step, _ in steps}:
        assert all(piece.heard == len(piece.speech.text) for piece in pieces)
