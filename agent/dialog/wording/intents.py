"""Decides what an utterance wants, by word lists and shape.

    no words, or only noise         nothing      a stop and hardly more   emergency     a human asked for   person
    parting, thanks, a greeting     farewell, thanks, greeting             small talk for certain            small_talk
    anything else                   question

Only small talk may reach the language model, so small talk must be certain: a word the list does not have makes it a question.
"""

import functools
import re
from dataclasses import dataclass
from typing import Literal

from agent.dialog.wording.lists import Language, read
from agent.dialog.wording.words import spaced, uncovered

Intent = Literal["question", "small_talk", "person", "farewell", "greeting", "thanks", "emergency", "nothing"]

EMERGENCY_WORDS_MAX = 8
"""Nobody who wants a robot to stop makes a longer sentence; what is said again and again, as in a panic, counts once."""

AGAIN = {"en": r"(?<!\S)(\S+(?: \S+){0,3}?)(?: \1)+(?!\S)", "zh": r"(\S{1,4}?)(?:\s*\1)+"}
"""The same words again: Chinese has no spaces to tell where they end."""


@dataclass(frozen=True, slots=True)
class _Lists:
    fillers: re.Pattern[str]
    whole: dict[str, re.Pattern[str]]
    """Kinds that must make up all of an utterance."""
    some: dict[str, re.Pattern[str]]
    insisted: re.Pattern[str]
    small_talk: frozenset[str]


def intent(text: str, language: Language) -> Intent:
    """What an utterance wants."""
    lists = _lists(language)
    said = _without_fillers(text, language)
    if not said or lists.whole["noise"].fullmatch(said):
        return "nothing"
    if _stops(said, lists, language):
        return "emergency"
    if lists.some["person"].search(said):
        return "person"
    return _courtesy(said, lists) or ("small_talk" if _small_talk(said, lists, language) else "question")


def polite_noise(text: str, language: Language) -> bool:
    """Sounds and words that only say "I am listening": they interrupt nobody. So does a sound without words."""
    said = _without_fillers(text, language)
    return not said or bool(_lists(language).whole["noise"].fullmatch(said))


def consent(text: str, language: Language) -> Literal["yes", "no", ""]:
    """The answer to an offer; empty if it is none."""
    said = spaced(text)
    whole = _lists(language).whole
    refused = bool(said) and bool(whole["no"].fullmatch(said))
    agreed = bool(said) and bool(whole["yes"].fullmatch(_without_fillers(text, language) or said))
    return "no" if refused else "yes" if agreed else ""


def _courtesy(said: str, lists: _Lists) -> Intent | None:
    """A parting with thanks is a parting; thanks with a greeting are thanks."""
    if lists.whole["greeting"].fullmatch(said):
        return "greeting"
    if lists.whole["thanks"].fullmatch(said) and lists.some["thanked"].search(said):
        return "thanks"
    if lists.whole["parting"].fullmatch(said) and lists.some["parted"].search(said):
        return "farewell"
    return None


def _stops(said: str, lists: _Lists, language: Language) -> bool:
    """A word of address or of pain alone ("robot", "no") stops nothing, unless it is insisted on: "no, no, no!"."""
    once = re.sub(AGAIN.get(language, AGAIN["en"]), r"\1", said)
    if len(once.split()) > EMERGENCY_WORDS_MAX:
        return False
    meant = lists.whole["stop"].fullmatch(once) and not lists.whole["alone"].fullmatch(once)
    return bool(meant or lists.insisted.fullmatch(said))


def _small_talk(said: str, lists: _Lists, language: Language) -> bool:
    if re.search(r"\d", said) or lists.some["facts"].search(said) or not lists.some["anchors"].search(said):
        return False
    if language == "zh":
        return not uncovered(said, lists.small_talk.__contains__)
    return all(word in lists.small_talk for word in said.split())


def _without_fillers(text: str, language: Language) -> str:
    said = spaced(text)
    kept = _lists(language).fillers.sub(" ", said)
    return " ".join(kept.split())


@functools.cache
def _lists(language: Language) -> _Lists:
    lists = read("intents", language)
    whole = {kind: _whole(lists[kind], language) for kind in ("stop", "alone", "greeting", "noise", "yes", "no")}
    whole["thanks"] = _whole(lists["thanks"] + lists["greeting"], language)
    whole["parting"] = _whole(lists["farewell"] + lists["thanks"] + lists["greeting"], language)
    some = {kind: _some(lists[kind]) for kind in ("person", "facts", "anchors")}
    some["thanked"] = _some(lists["thanks"][:2] if language != "zh" else lists["thanks"][:4])
    some["parted"] = _some([one for one in lists["farewell"] if len(one) > 1])
    fillers = _some(lists["fillers"]) if language == "zh" else re.compile(rf"(?<!\S)(?:{'|'.join(lists['fillers'])})(?!\S)")
    return _Lists(fillers, whole, some, _some(lists["insisted"]), frozenset(lists["small_talk"]))


def _whole(expressions: list[str], language: Language) -> re.Pattern[str]:
    one = "|".join(f"(?:{expression})" for expression in expressions)
    between = r"\s*" if language == "zh" else " "
    return re.compile(rf"(?:{one})(?:{between}(?:{one}))*")


def _some(expressions: list[str]) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{expression})" for expression in expressions))
