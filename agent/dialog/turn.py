"""Decides who has the floor: what the robot does at each thing that happens in a conversation. Pure, a table.

Theory of operation. Two can speak, and each may be mistaken about the other. `floor` says how it stands:

    listening   nobody speaks
    hearing     the customer speaks
    lulled      the customer has paused; an answer is made ready, unheard
    answering   the customer has finished; the answer has not sounded yet
    holding     the same, and somebody seems to go on speaking: the answer waits
    withheld    the same, and somebody does: the answer waits until words are heard; a cough lets it sound
    speaking    the robot speaks
    doubting    the robot speaks, lowered: somebody may be interrupting
    hushed      the robot was interrupted and holds its breath until words are heard; a cough lets it go on

A noise becomes speech in two steps (`onset`, then `began` or `false_start`), and speech becomes an interruption in two more (`began`,
then `words` or `ended` without any). So each step taken too early can be taken back: ducking by raising the voice, hushing by going
on, an answer begun in a lull by superseding it. What can't be taken back, an answer given up, waits for words; a voice that is hushed has
already stopped, whatever the word was.

A pair of floor and happening that is not in the table is ignored: happenings of a turn that is over may still arrive.
"""

from typing import Literal, NamedTuple

Floor = Literal["listening", "hearing", "lulled", "answering", "holding", "withheld", "speaking", "doubting", "hushed"]

Happening = Literal[
    "onset", "false_start", "began", "lull", "resumed", "ended", "words", "overtaken", "nothing", "stirs", "sounded", "done"
]
"""onset, false_start, began, lull, resumed, ended: of the customer's sound. words: it has words in it that matter; overtaken: the same,
found when it had ended and he began another; nothing: it ended, and had none; stirs: the same, but somebody seems to go on. sounded, done:
the first sound of an answer, and its end; or of what nobody asked for, which sounds while nobody speaks."""

Action = Literal["open", "interrupt", "hold", "release", "duck", "raise", "pause", "go_on"]
"""open: begin to recognise a new utterance. interrupt: end what was being said before the utterance that matters, for good. hold, release:
keep an answer from sounding, and let it. duck, raise: lower the voice, and raise it. pause, go_on: stop the voice in mid-word, and go on
from there."""


WAITS_FOR_WORDS: tuple[Floor, ...] = ("withheld", "hushed")
"""Somebody makes a sound; whether it means something is being found out."""


class Step(NamedTuple):
    """Who has the floor now, and what to do first."""

    floor: Floor
    actions: tuple[Action, ...] = ()


TABLE: dict[tuple[Floor, Happening], Step] = {
    ("listening", "began"): Step("hearing", ("open",)),
    ("listening", "sounded"): Step("speaking"),
    ("hearing", "lull"): Step("lulled"),
    ("hearing", "ended"): Step("answering"),
    ("hearing", "done"): Step("listening"),
    ("lulled", "resumed"): Step("hearing"),
    ("lulled", "ended"): Step("answering"),
    ("lulled", "done"): Step("listening"),
    ("answering", "onset"): Step("holding", ("hold",)),
    ("answering", "began"): Step("withheld", ("hold", "open")),
    ("answering", "sounded"): Step("speaking"),
    ("answering", "done"): Step("listening"),
    ("holding", "false_start"): Step("answering", ("release",)),
    ("holding", "began"): Step("withheld", ("open",)),
    ("holding", "sounded"): Step("doubting", ("duck",)),
    ("holding", "done"): Step("listening"),
    ("withheld", "words"): Step("hearing", ("interrupt",)),
    ("withheld", "nothing"): Step("answering", ("release",)),
    ("withheld", "stirs"): Step("holding"),
    ("withheld", "overtaken"): Step("withheld", ("interrupt",)),
    ("withheld", "began"): Step("withheld", ("open",)),
    ("speaking", "onset"): Step("doubting", ("duck",)),
    ("speaking", "began"): Step("hushed", ("pause", "open")),
    ("speaking", "done"): Step("listening"),
    ("doubting", "false_start"): Step("speaking", ("raise",)),
    ("doubting", "began"): Step("hushed", ("pause", "open")),
    ("doubting", "done"): Step("listening", ("raise",)),
    ("hushed", "words"): Step("hearing", ("interrupt",)),
    ("hushed", "nothing"): Step("speaking", ("raise", "go_on")),
    ("hushed", "stirs"): Step("doubting", ("duck", "go_on")),
    ("hushed", "overtaken"): Step("withheld", ("interrupt",)),
    ("hushed", "began"): Step("hushed", ("open",)),
}
"""(floor, happening) to what follows."""


def step(floor: Floor, happening: Happening) -> Step:
    """What follows. What the table does not name changes nothing."""
    return TABLE.get((floor, happening), Step(floor))
