"""Speech at the gate, and sounds that are kept."""

from hypothesis import given
from hypothesis import strategies as st

from agent.dialog.exchange.gate import Gate
from agent.dialog.exchange.sounds import Sounds
from agent.dialog.pipeline import Handing
from agent.sim.clock import SimulatedClock
from agent.values import Speech


def speech(text: str, size: int = 4) -> Speech:
    return Speech(b"\1\0" * size, 16_000, text)


def test_nothing_is_heard_before_the_gate_opens_and_all_in_order_then() -> None:
    played: list[Speech] = []
    passed: list[int] = []
    gate = Gate(Handing(played.append, SimulatedClock()), is_open=False, passed=lambda: passed.append(len(played)))
    gate.play(speech("one "))
    gate.play(speech("two"))
    assert (played, gate.heard, gate.began_at) == ([], 0, None)
    gate.open()
    gate.play(speech("three"))
    assert [one.text for one in played] == ["one ", "two", "three"]
    assert (gate.heard, gate.began_at) == (12, 0.0)
    assert passed == [1, 2, 3]
    gate.shut()
    gate.play(speech("four"))
    assert len(played) == 3


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(1, 40)), max_size=40))
def test_kept_sounds_never_take_more_than_they_may_and_the_last_used_stay(said: list[tuple[str, int]]) -> None:
    sounds = Sounds(bytes_max=100)
    for text, size in said:
        sounds.keep(text, (speech(text, size),))
        held = [sounds.get(one) for one in "abcdef"]
        assert sum(len(piece.pcm) for pieces in held for piece in pieces) <= 100
        assert sounds.get(text) or size * 2 > 100
