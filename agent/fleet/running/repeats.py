"""Decides how often a command that is done is answered again: each some times at once, then once a minute, and not all without end.

A sender that missed an answer asks again, and a connection that broke brings back what was not confirmed. Whoever asks beyond that
holds an old command and sends it on and on; each answer would cost the card a write.
"""

from agent.clock import Clock
from agent.link.bucket import Bucket

AGAIN_PER_S, AGAIN = 1 / 60, 3
"""Answers to one command: on a bad link one or two are missed."""

IDS_MAX = 64
"""Different commands answered again within some minutes: more than are ever not confirmed at once."""

FEW_PER_S, FEW = 0.1, 16
"""Repeats of all commands that are nobody's concern: what one broken connection brings back, and six a minute."""


class Repeats:
    """Of one robot."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._few = Bucket(clock, FEW_PER_S, FEW)
        self._answers: dict[str, Bucket] = {}
        """By command; those that are full are as good as new ones."""

    def answers(self, cmd_id: str) -> bool:
        """Whether it is answered once more."""
        self._answers = {name: bucket for name, bucket in self._answers.items() if not bucket.full}
        if cmd_id not in self._answers:
            if len(self._answers) >= IDS_MAX:
                return False
            self._answers[cmd_id] = Bucket(self._clock, AGAIN_PER_S, AGAIN)
        return self._answers[cmd_id].take()

    def too_many(self) -> bool:
        """Counts one; whether that is for the audit log."""
        return not self._few.take()
