"""Gives the backlog what the backend said, and tells the uploader what came of each step; new epochs begin here.

forged, or no answer  -> the step failed
refused               -> tried again much later; a fork begins a new epoch
acks that came together -> the furthest of each epoch is taken, then all of their steps have landed
"""

from collections.abc import Callable, Mapping, Sequence
from random import Random  # noqa: TID251  the type alone; chance is handed in

from agent.clock import Clock
from agent.contract.ack import Standing
from agent.errors import BadInput, VoxmeterError
from agent.ports import Acked, Backlog, Refused, Retry
from agent.sync.answers import FORK, Answered, Genuine, forked, genuine, needed
from agent.sync.route import pause_s
from agent.sync.steps import Mark, Send
from agent.sync.uploader import Uploader

DIFFER_FIRST_MS, DIFFER_MOST_MS = 1_000, 3_600_000
"""Ceilings of the pause after a new epoch had to begin: whoever makes the backend differ must not fill the disk with epochs."""


class Taking:
    """Deals with answers in the order they came. Not to be called again before it has returned."""

    def __init__(
        self,
        backlog: Backlog,
        uploader: Uploader,
        trusted: Callable[[], Mapping[str, bytes]],
        *,
        clock: Clock,
        chance: Random,
        say: Callable[[str], None],
        device: str = "",
    ) -> None:
        self._backlog, self._uploader, self._trusted = backlog, uploader, trusted
        self._clock, self._chance, self._say, self._device = clock, chance, say, device
        self._differences = 0
        self.problem = ""
        """What last went wrong; empty once the backend has acknowledged something."""

    async def take(self, answers: Sequence[Answered]) -> None:
        """Raises LedgerFull or LedgerDamaged once all of it is dealt with; what the ledger refused is asked for again later."""
        found = [one for one in map(self._read, answers) if one]
        trouble: list[VoxmeterError] = []
        for answered in answers:
            if isinstance(answered.answer, Refused) and answered.step:
                try:
                    await self._refused(answered.step, answered.answer)
                except VoxmeterError as error:
                    trouble.append(error)
        for one in needed(found):
            try:
                await self._taken(one)
            except VoxmeterError as error:
                trouble.append(error)
        for one in found:
            self._ended(one)
        if trouble:
            raise trouble[0]

    def _read(self, answered: Answered) -> Genuine | None:
        """A genuine ack of an epoch that is sent; what is none has failed."""
        step, answer, now = answered.step, answered.answer, self._clock.monotonic()
        if isinstance(answer, Acked):
            try:
                one = genuine(answered, answer, self._trusted(), self._device)
            except BadInput as error:
                self._note(f"{step.link if step else 'late'}: an ack was dropped: {error}", aloud=True)
            else:
                return one if step or self._uploader.knows(one.ack.epoch) else None
        if step and not isinstance(answer, Refused):
            after_ms = answer.after_ms if isinstance(answer, Retry) else 0
            self._uploader.failed(step, now, self._chance.random(), after_ms)
        if isinstance(answer, Retry):
            self._note(f"{step.link if step else ''}: {answer.why}")
        return None

    async def _refused(self, step: Send | Mark, answer: Refused) -> None:
        self._note(f"{step.link}: the backend refused {_named(step)}: {answer.why} ({answer.code}); it is tried again later", aloud=True)
        if answer.code == FORK and isinstance(step, Send) and self._uploader.knows(step.epoch):
            self._uploader.put_off(step, self._clock.monotonic(), self._chance.random())
            await self._differs(step.epoch, "different")
        else:
            self._uploader.refused(step, answer.code, self._clock.monotonic(), self._chance.random(), answer.after_ms)

    async def _taken(self, one: Genuine) -> None:
        """An epoch that an earlier answer has ended is left alone."""
        if not self._uploader.knows(one.ack.epoch):
            return
        mark = isinstance(one.step, Mark) and self._uploader.goes_back(one.step, one.ack)
        standing = await self._backlog.take(one.ack, mark=mark)
        if standing in ("ahead", "different"):
            await self._differs(one.ack.epoch, standing)
            return
        self._uploader.acked(one.ack, standing, self._clock.monotonic(), self._chance.random(), mark=mark)
        if forked(one):
            await self._differs(one.ack.epoch, "different")
        elif standing == "agreed" and one.ack.cum_ack:
            self._differences = 0

    async def _differs(self, epoch: str, standing: Standing) -> None:
        what = "more" if standing == "ahead" else "something else"
        self._say(f"the backend holds {what} in the place of epoch {epoch}; its rest is issued again in a new one")
        await self._backlog.differs(epoch, standing)
        self._uploader.differed(epoch)
        self._differences += 1
        pause_ms = 1000 * pause_s(self._differences, self._chance.random(), DIFFER_FIRST_MS, DIFFER_MOST_MS)
        self._uploader.route.patience(self._clock.monotonic(), pause_ms)

    def _ended(self, one: Genuine) -> None:
        """Once per step, after everything that came with it has been taken; what the ledger refused comes again."""
        now, chance = self._clock.monotonic(), self._chance.random()
        if one.step is None:
            return
        self.problem = ""
        if isinstance(one.step, Send):
            self._uploader.landed(one.step, now, chance)
        else:
            self._uploader.marked(one.step, now, chance)

    def trouble(self, error: VoxmeterError) -> None:
        """The ledger has refused something."""
        self._note(str(error), aloud=True)

    def _note(self, line: str, *, aloud: bool = False) -> None:
        """What repeats itself is said once."""
        if aloud and line != self.problem:
            self._say(line)
        self.problem = line


def _named(step: Send | Mark) -> str:
    if isinstance(step, Mark):
        return "the question for the mark"
    return f"records {step.parcel.batch.first} to {step.parcel.batch.last}"
