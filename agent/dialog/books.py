"""Puts each stage on the ledger as it settles: usage becomes a rated record becomes a durable row."""

from agent.clock import Clock
from agent.metering.ratecard import RateCard
from agent.metering.record import odometer_of, usage_data
from agent.ports import Draft, Ledger
from agent.values import Stage, StageResult


class Books:
    """The ledger, the card and the vocabularies of one robot."""

    def __init__(self, ledger: Ledger, card: RateCard, tokenizers: dict[Stage, str], clock: Clock) -> None:
        self._ledger = ledger
        self.card = card
        self._tokenizers = tokenizers
        self._clock = clock
        self.seconds = 0.0
        """Time spent waiting for the ledger, all turns together."""

    async def settle(self, result: StageResult, *, turn_id: str, session_id: str) -> None:
        """Returns when the record is durable."""
        began = self._clock.monotonic()
        tokenizer = self._tokenizers[result.stage]
        data = usage_data(result, turn_id=turn_id, session_id=session_id, card=self.card, tokenizer=tokenizer)
        await self._ledger.append([Draft("usage", data, odometer_of(result))])
        self.seconds += self._clock.monotonic() - began
