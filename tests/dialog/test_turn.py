"""Who has the floor: every way through the table comes back to listening, and no step leaves the voice lowered or held."""

from typing import get_args

from hypothesis import given
from hypothesis import strategies as st

from agent.dialog.turn import TABLE, Action, Floor, Happening, step

FLOORS, HAPPENINGS = get_args(Floor), get_args(Happening)

SOUND = ("onset", "false_start", "began", "lull", "resumed", "ended")


def walk(happenings: list[Happening], floor: Floor = "listening") -> tuple[Floor, list[Action]]:
    actions: list[Action] = []
    for happening in happenings:
        floor, more = step(floor, happening)
        actions += more
    return floor, actions


def test_a_plain_exchange() -> None:
    assert walk(["onset", "began", "lull", "resumed", "lull", "ended", "sounded", "done"]) == ("listening", ["open"])


def test_a_cough_lowers_the_voice_and_raises_it_again() -> None:
    assert walk(["onset", "false_start"], "speaking") == ("speaking", ["duck", "raise"])


def test_an_interruption_stops_the_voice_for_good_only_when_there_are_words() -> None:
    assert walk(["onset", "began"], "speaking") == ("hushed", ["duck", "pause", "open"])
    assert walk(["words", "ended"], "hushed") == ("answering", ["interrupt"])
    assert walk(["lull", "ended", "nothing"], "hushed") == ("speaking", ["raise", "go_on"])


def test_an_answer_waits_while_the_customer_seems_to_go_on() -> None:
    assert walk(["onset", "false_start"], "answering") == ("answering", ["hold", "release"])
    assert walk(["onset", "began"], "answering") == ("withheld", ["hold", "open"])
    assert walk(["lull", "ended", "nothing"], "withheld") == ("answering", ["release"])
    assert walk(["words", "ended"], "withheld") == ("answering", ["interrupt"])


def test_every_floor_can_be_reached_and_left() -> None:
    reached = {after.floor for after in TABLE.values()}
    assert reached == set(FLOORS)
    assert {floor for floor, _ in TABLE} == set(FLOORS)


@given(st.lists(st.sampled_from(HAPPENINGS), max_size=60))
def test_whatever_happens_the_voice_is_lowered_paused_and_held_only_where_somebody_may_interrupt(happenings: list[Happening]) -> None:
    floor: Floor = "listening"
    ducked = paused = held = False
    for happening in happenings:
        floor, actions = step(floor, happening)
        held = held and happening not in ("sounded", "done")  # what has sounded, or is over, waits no more
        for action in actions:
            ducked = action == "duck" or (ducked and action not in ("raise", "interrupt"))
            paused = action == "pause" or (paused and action not in ("go_on", "interrupt"))
            held = action == "hold" or (held and action not in ("release", "interrupt"))
        assert paused == (floor == "hushed")
        assert ducked <= (floor in ("doubting", "hushed"))
        assert held <= (floor in ("holding", "withheld", "doubting", "hushed", "listening", "speaking"))
