"""What one robot brings to every exchange: engines, books, and its manner of answering."""

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from agent.clock import Clock
from agent.dialog.books import Books
from agent.dialog.exchange.calls import Engines
from agent.dialog.exchange.context import fit
from agent.dialog.exchange.plan import Mind, OpenMind
from agent.dialog.exchange.sounds import Sounds
from agent.dialog.wording.guard import GuardedText
from agent.dialog.wording.lists import Language
from agent.dialog.wording.numbers import Aloud
from agent.ports import Asr, Counter, Llm, Tts, WordsEnd
from agent.values import Message, Prompt


@dataclass(frozen=True, slots=True)
class Stages:
    """The engines of the three stages."""

    asr: Asr
    llm: Llm
    tts: Tts

    @property
    def by_name(self) -> Engines:
        return {"asr": self.asr, "llm": self.llm, "tts": self.tts}


def as_written(text: str) -> Aloud:
    """Text that is read as it stands."""
    return Aloud(text, text, ((len(text), len(text)),))


async def nobody(reason: str, session_id: str, turn_id: str) -> None:
    """Where no person can be called."""
    del reason, session_id, turn_id


@dataclass(frozen=True, slots=True)
class Manner:
    """How the robot answers."""

    opening: tuple[Message, ...]
    """What the language model is told first: instructions, and exchanges to take after."""
    prompt: Prompt
    """A prompt without messages: the limits and the sampling of a reply."""
    prompt_tokens_max: int
    """Room for the messages."""
    count: Counter
    """Tokens by the language model's vocabulary."""
    count_spoken: Counter
    """Tokens of text given to the voice, by the rate card's vocabulary."""
    language: Language = "en"
    read: Callable[[str], Aloud] = as_written
    """How text is read aloud."""
    guard: Callable[[], GuardedText] | None = None
    """Makes what keeps words of the model from being spoken; None lets all through."""
    redacted: Callable[[str], str] = str
    """Takes out of a customer's words what must not be sent or kept."""
    speculations_max: int = 0
    """Answers begun before the turn is surely over, per turn."""
    history_messages_max: int = 0

    def asked(self, history: Sequence[Message], words: str) -> tuple[Prompt, str]:
        """What the language model is given to answer these words, and a note if they had to be cut."""
        messages, note = fit(self.opening, history, self.redacted(words), self.prompt_tokens_max, self.count)
        return replace(self.prompt, messages=messages), note


@dataclass(frozen=True, slots=True)
class Robot:
    """Everything an exchange needs but the customer."""

    stages: Stages
    books: Books
    manner: Manner
    clock: Clock
    mind: Mind = field(default_factory=OpenMind)
    sounds: Sounds = field(default_factory=Sounds)
    call_person: Callable[[str, str, str], Coroutine[Any, Any, None]] = nobody
    """Tells the site, durably, that a person is wanted: why, in which session and turn."""
    ends: WordsEnd | None = None
    """The engine of the stage llm, where it can be asked whether a customer has said all, and knows the language."""
