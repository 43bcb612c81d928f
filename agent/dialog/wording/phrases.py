"""What the robot says by itself, without a model: the fixed sentences of each language, which a site may word its own way."""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass

from agent.dialog.wording.lists import Language, read
from agent.dialog.wording.words import plain
from agent.errors import BadProfile
from agent.values import Message


@dataclass(frozen=True, slots=True)
class Phrases:
    """One language's."""

    greeting: str
    did_not_hear: str
    unknown: str
    """Admits it, and offers a person."""
    offer_person: str
    """To a customer who is not happy."""
    handing_over: str
    """A colleague has been called."""
    not_handing_over: str
    """The offer was refused."""
    farewell: str
    thanks: str
    """Answers thanks."""
    apology_engine: str
    """An engine failed, or the books have no room."""
    small_talk: tuple[str, ...]
    """For small talk the model could not make."""

    def small_talk_at(self, turn: int) -> str:
        """One after the other, so that two in a row differ."""
        return self.small_talk[turn % len(self.small_talk)]


def phrases(language: Language, own: Mapping[str, str | list[str]] | None = None) -> Phrases:
    """The shipped phrases, with a site's own in place of those it names. Raises BadProfile for a name or a text that can't be one."""
    table = {name: tuple(text) if isinstance(text, list) else text for name, text in (read("phrases", language) | dict(own or {})).items()}
    known = [one.name for one in dataclasses.fields(Phrases)]
    for name, text in table.items():
        if name not in known:
            raise BadProfile(f"phrases: {name} is none", f"known are {', '.join(known)}")
        texts = text if name == "small_talk" else (text,)
        if isinstance(texts, str) or not texts or not all(isinstance(one, str) and one.strip() for one in texts):
            raise BadProfile(f"phrases: {name} is not what it must be", "a list of texts" if name == "small_talk" else "one text")
    return Phrases(**table)  # type: ignore[arg-type]


def offers(reply: str, language: Language) -> bool:
    """Whether small talk offers a person, as the model has learnt from the exchanges it is given."""
    return re.search(read("small_talk", language)["offers"], plain(reply)) is not None


def opening(language: Language) -> tuple[Message, ...]:
    """How the model is asked for small talk: instructions, then exchanges to take after; a small model follows those, not the words."""
    lists = read("small_talk", language)
    exchanges = (
        Message("user" if at % 2 == 0 else "assistant", text) for exchange in lists["exchanges"] for at, text in enumerate(exchange)
    )
    return (Message("system", lists["system"]), *exchanges)
