"""What is to be answered: words that stand ready, words the model is to find, or silence."""

from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from agent.dialog.session import Session
from agent.dialog.wording.intents import intent


@dataclass(frozen=True, slots=True)
class Verbatim:
    """These words, as they are."""

    text: str
    source: Literal["faq", "phrase"]
    about: str
    """The FAQ entry, or the phrase's name."""
    handoff: str = ""
    """Why a person is to take over; empty where none is."""
    farewell: bool = False
    """The conversation ends with it."""


@dataclass(frozen=True, slots=True)
class Think:
    """What the language model says to it."""

    guarded: bool = False
    """It makes small talk and may state no fact."""
    instead: str = ""
    """What is said where it does, or has nothing to say."""


@dataclass(frozen=True, slots=True)
class Silent:
    """Nothing."""

    why: Literal["emergency", "nothing"] = "nothing"


Plan: TypeAlias = Verbatim | Think | Silent


UNSURE = ("unknown", "offer_person", "small_talk")
"""Phrases that say nothing about whether the words before them were all."""


def vouches(plan: Plan) -> bool:
    """Whether who planned it knows that the words it answers are whole."""
    match plan:
        case Verbatim(_, source, about):
            return source == "faq" or about not in UNSURE
        case Think(guarded):
            return guarded
        case _:
            return False


class Mind(Protocol):
    """Decides what is answered."""

    async def plan(self, question: str, session: Session) -> Plan:
        """Decides alone; nothing is remembered: the same question may be planned twice, and the turn may be taken back."""
        ...


class OpenMind:
    """Leaves every answer to the language model: a robot without an FAQ. Only "stop" it understands by itself."""

    async def plan(self, question: str, session: Session) -> Plan:
        return Silent("emergency") if intent(question, session.language) == "emergency" else Think()
