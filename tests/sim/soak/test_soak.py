"""The soak's own world: guests that do the same for the same seed, a sound card that keeps nothing, and looks at a real process."""

import os
import threading
import time
from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from agent.audio.device.library import Arrived, Wanted
from agent.clock import SystemClock
from agent.sim.soak import guests
from agent.sim.soak.card import BLOCK_SAMPLES, DEVICES, Card
from agent.sim.soak.guests import Clip, noise, visits
from agent.sim.soak.look import Seen, counts, held_by, memory

CLIPS = [
    Clip("question", "one", b"\1\0" * 160),
    Clip("question", "two", b"\1\0" * 320),
    Clip("interruption", "stop", b"\1\0" * 160),
    Clip("noise", "", b"\1\0" * 80),
]


def test_guests_do_everything_and_the_same_for_the_same_seed() -> None:
    first = list(islice(visits(CLIPS, 1), 300))
    assert first == list(islice(visits(CLIPS, 1), 300))
    assert first != list(islice(visits(CLIPS, 2), 300))
    said = Counter((CLIPS[one.say].kind, None if one.then is None else CLIPS[one.then].kind) for one in first)
    assert set(said) == {("question", None), ("question", "interruption"), ("question", "noise"), ("noise", None)}
    assert [CLIPS[one.say].text for one in first if CLIPS[one.say].kind == "question"][:2] in (["one", "two"], ["two", "one"])
    assert any(one.wait_s > guests.AWAY_S[0] for one in first)


def test_a_noise_dies_away() -> None:
    sound = np.abs(np.frombuffer(noise(0.5, 1), "<i2").astype(int))
    assert len(sound) == 8000
    assert sound[:2000].mean() > 3 * sound[-2000:].mean() > 0


class Ends:
    """Both ends of a card: what was heard, and what is to be played."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.enough = threading.Event()
        self.arrived: Arrived = self._arrived
        self.wanted: Wanted = self._wanted

    def _arrived(self, pcm: bytes, age_s: float, lost: bool) -> None:
        assert (age_s, lost) == (0.0, False)
        self.heard.append(pcm)
        if len(self.heard) >= 20:
            self.enough.set()

    def _wanted(self, samples: int, rate_hz: int, in_s: float, ran_dry: bool) -> bytes:
        assert (samples, rate_hz, in_s > 0, ran_dry) == (BLOCK_SAMPLES, 16_000, True, False)
        return np.full(samples, 10_000, "<i2").tobytes()


@pytest.mark.parametrize("echo", [False, True])
def test_the_microphone_hears_a_guest_and_after_a_while_the_loudspeaker(echo: bool) -> None:
    ends, card = Ends(), Card(SystemClock(), 1)
    try:
        if echo:
            card.open_output(DEVICES[1], (16_000,), 10, 20, ends.wanted)
        else:
            card.say(np.full(BLOCK_SAMPLES * 3 // 2, 5000, np.int16))
        stream = card.open_input(DEVICES[0], (16_000,), 10, 20, ends.arrived)
        assert ends.enough.wait(5)
    finally:
        card.close()
    sound = np.frombuffer(b"".join(ends.heard), "<i2").astype(int)
    assert len(ends.heard[0]) == BLOCK_SAMPLES * 2
    assert stream.running
    if echo:
        assert abs(sound[-BLOCK_SAMPLES:].mean() - 1000) < 20
    else:
        assert 0 < (sound > 4000).sum() <= BLOCK_SAMPLES * 3 // 2
        assert np.abs(sound[-BLOCK_SAMPLES * 10 :]).max() < 100


def test_no_callback_comes_after_a_stream_is_closed() -> None:
    ends, card = Ends(), Card(SystemClock(), 1)
    try:
        stream = card.open_input(DEVICES[0], (16_000,), 10, 20, ends.arrived)
        assert ends.enough.wait(5)
        stream.close()
        heard = len(ends.heard)
        time.sleep(0.05)
        assert len(ends.heard) == heard
        assert not stream.running
    finally:
        card.close()


def test_a_process_is_looked_at() -> None:
    before = counts(os.getpid())
    with Path(os.devnull).open():
        after = counts(os.getpid())
    assert after[1] == before[1] + 1
    held = held_by(os.getpid(), [before, after])
    assert held.descriptors == before[1]
    assert held.threads == min(before[0], after[0])  # one of an earlier test may just be ending
    assert held.rss_mb >= held.pss_mb > held.own_mb > 10


def test_a_process_that_is_gone_holds_nothing() -> None:
    assert (memory(2**22 + 1), counts(2**22 + 1)) == ({}, (0, 0))


def test_what_the_robot_tells_is_counted() -> None:
    seen = Seen()
    for told in ({"floor": "speaking"}, {"turn": {"outcomes": ["completed", "interrupted"]}}, {"said": "it clips"}):
        seen.take(told)
    assert (seen.floor, seen.turns, seen.outcomes["interrupted"], seen.said) == ("speaking", 1, 1, ["it clips"])
    assert not seen.listening.is_set()
    seen.take({"listening": True})
    assert seen.listening.is_set()
