"""One conversation: who asked what, what was heard of the answers, and how the customer seems to feel."""

from dataclasses import dataclass, field

from agent.dialog.wording.lists import Language
from agent.dialog.wording.mood import Mood
from agent.values import Message


@dataclass(slots=True)
class Session:
    """Grows with each exchange; ends with a farewell or after silence."""

    session_id: str
    language: Language = "en"
    history: list[Message] = field(default_factory=list)
    """Words of both sides, those of the robot as far as they were heard."""
    turns: int = 0
    offered: bool = False
    """The last thing said was the offer of a person."""
    over: bool = False
    """A farewell was said."""
    hurried: bool = False
    """The machine is overloaded: kept phrases instead of the language model."""
    mood: Mood = field(init=False)

    def __post_init__(self) -> None:
        self.mood = Mood(self.language)

    def add(self, question: str, heard: str, messages_max: int, *, thought: bool = True) -> None:
        """Puts an exchange down; `thought`: the language model made the answer, and is reminded of it.

        Beyond `messages_max` the older half goes at once, not one by one: what the model has computed for the beginning of a
        conversation stays of use until then. So do exchanges of which it knows nothing, and needs to know nothing.
        """
        self.turns += 1
        if question:
            self.mood.heard(question)
        if not thought:
            return
        self.history += [Message("user", question)] if question else []
        self.history += [Message("assistant", heard)] if heard else []
        if len(self.history) > messages_max:
            self.history = self.history[-(messages_max // 2) :] if messages_max > 1 else []
            while self.history and self.history[0].role == "assistant":  # an answer without its question misleads
                self.history.pop(0)
