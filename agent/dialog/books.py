"""Keeps a turn's books: its calls are announced before they begin, noted while they run, and settled however they end.

    intend -> start -> note, every second -> settle (the record) or drop (never begun)

What a power cut leaves open is settled by the next start from what was noted last; what nobody noted is unknown, never 0.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

from agent.clock import Clock
from agent.dialog.stage import counted_or_unknown, ended
from agent.errors import BadRateCard
from agent.metering.cards import Cards
from agent.metering.ratecard import RateCard
from agent.metering.record import odometer_of, usage_data
from agent.ports import Appended, Draft, Entry, Ledger, OpenCall
from agent.values import Stage, StageResult, StageTimes, StageUsage

NO_TIMES = StageTimes(0, None, 0)
"""Of a call whose process is gone; times are not on the books."""

IN_INTENT = ("stage", "attempt", "placement", "engine", "model")


class Books:
    """The ledger, the cards and the vocabularies of one robot."""

    def __init__(self, ledger: Ledger, cards: Cards, zone: str, tokenizers: dict[Stage, str], clock: Clock) -> None:
        self._ledger = ledger
        self._cards = cards
        self._zone = zone
        self._tokenizers = tokenizers
        self._clock = clock
        self.seconds = 0.0
        """Time spent waiting for the ledger, all turns together."""

    @property
    def card(self) -> RateCard:
        """The version in force, as far as the clock tells; it is an estimate, so a clock that knows nothing gets the newest."""
        if self._clock.quality() == "none":
            return self._cards.versions[-1]
        try:
            return self._cards.effective(self._clock.utc(), self._zone)
        except BadRateCard:  # a clock from before the first version; the invoice knows better
            return self._cards.versions[0]

    def room(self) -> bool:
        """Whether the ledger has room for a new turn."""
        return self._ledger.room()

    async def intend(self, calls: Sequence[OpenCall], begin: Iterable[OpenCall] = ()) -> Appended:
        """Announces calls, and starts those that begin at once. Returns when it is durable: only then may they leave."""
        told = [{name: getattr(call, name) for name in IN_INTENT} | {"reserved": "0"} for call in calls]
        draft = Draft("intent", {"turn_id": calls[0].turn_id, "session_id": calls[0].session_id, "calls": told})
        entries = [Entry(call, "intended") for call in calls] + [Entry(call, "started") for call in begin]
        with self._waiting():
            (intent,) = await self._ledger.append([draft], entries)
        return intent

    async def start(self, call: OpenCall) -> None:
        """Returns when it is durable that the call begins."""
        await self.note([(call, StageUsage(origin="unknown"))])

    async def note(self, used: Iterable[tuple[OpenCall, StageUsage]]) -> None:
        """Puts down what running calls have used so far."""
        with self._waiting():
            await self._ledger.append([], [Entry(call, "started", usage) for call, usage in used])

    async def settle(self, call: OpenCall, result: StageResult, intent: Appended) -> None:
        """Returns when the record is durable."""
        with self._waiting():
            await self._ledger.append([self._record(call, result, intent)], [Entry(call, "settled")])

    async def drop(self, calls: Iterable[OpenCall]) -> None:
        """Takes announced calls back that never began: they leave no record."""
        with self._waiting():
            await self._ledger.append([], [Entry(call, "settled") for call in calls])

    async def recover(self) -> int:
        """Settles what a process that is no more left open, all at once. Returns how many records that made."""
        left = await self._ledger.left_open()
        drafts = self.cut_off(left)
        if left:
            try:
                await self._ledger.append(drafts, [Entry(entry.call, "settled") for entry, _ in left])
            except ValueError:  # one has no form that a record may have: the others must not wait for it, nor the start
                return sum([await self._recovered(one) for one in left])
        return len(drafts)

    async def _recovered(self, one: tuple[Entry, Appended]) -> int:
        """One of them alone; what can't be settled stays open."""
        drafts = self.cut_off([one])
        with suppress(ValueError):
            await self._ledger.append(drafts, [Entry(one[0].call, "settled")])
            return len(drafts)
        return 0

    def cut_off(self, left: Sequence[tuple[Entry, Appended]]) -> list[Draft]:
        """Final records for open calls. A call on the device that never began needs none; in the cloud nobody knows, so it counts."""
        return [
            self._record(entry.call, _cut_off(entry), intent)
            for entry, intent in left
            if entry.state == "started" or entry.call.placement == "cloud"
        ]

    def _record(self, call: OpenCall, result: StageResult, intent: Appended) -> Draft:
        told: dict[str, Any] = {"epoch": intent.epoch, "sequence": intent.sequence}
        tokenizer = self._tokenizers.get(call.stage, "")
        turn, session = call.turn_id, call.session_id
        content = usage_data(result, turn_id=turn, session_id=session, card=self.card, tokenizer=tokenizer, intent=told)
        return Draft("usage", content, odometer_of(result))

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        began = self._clock.monotonic()
        yield
        self.seconds += self._clock.monotonic() - began


def _cut_off(entry: Entry) -> StageResult:
    """How a call that was cut off ended: with what was noted last, which is an estimate, or with nobody knowing."""
    call = entry.call
    usage = counted_or_unknown(call.stage, entry.usage if entry.state == "started" else StageUsage(origin="unknown"))
    if usage.origin != "unknown":
        usage = replace(usage, origin="estimated")
    return ended(call, "cut_off", usage, NO_TIMES)
