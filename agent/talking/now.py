"""Tells how a conversation stands at this moment: who speaks, which words, and what the turn under way has used so far."""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from agent.dialog.exchange import Exchange
from agent.dialog.live.running import Running
from agent.dialog.stage import ended
from agent.dialog.turn import Floor
from agent.metering.ratecard import RateCard
from agent.metering.rating import plain, total, trimmed
from agent.metering.record import rated_of
from agent.values import Stage, StageResult, StageTimes

RUNNING = "…"
"""In place of the outcome of what has not ended."""

NO_TIMES = StageTimes(0, None, 0)


@dataclass(frozen=True, slots=True)
class StageNow:
    """One attempt of one stage. Money and tokens None: not known, or no price."""

    stage: Stage
    outcome: str
    billed_tokens: Decimal | None
    amount: Decimal | None


@dataclass(frozen=True, slots=True)
class Now:
    """A moment."""

    floor: Floor = "listening"
    level: float = -100.0
    """Of what is heard, dB of full scale."""
    words: str = ""
    """The customer's, so far."""
    heard: str = ""
    """What has sounded of the reply."""
    to_come: str = ""
    """What has not."""
    stages: tuple[StageNow, ...] = ()
    trouble: str = ""
    """Why the robot is deaf or mute; empty while it is not."""


def of_turns(running: list[Running], card: RateCard) -> tuple[str, str, str, tuple[StageNow, ...]]:
    """Words, heard, to come and stages of what is under way: the words are the newest, the reply is the one that can be heard."""
    answers = [one.exchange.answer for one in running if one.exchange.answer is not None and one.exchange.answer.reply]
    heard = answers[0].heard() if answers else ""
    to_come = rest(answers[0].reply, heard) if answers else ""
    stages = tuple(stage for one in running for stage in _stages(one.exchange, card))
    return running[-1].exchange.question, heard, to_come, stages


def rest(reply: str, heard: str) -> str:
    """What follows the words that were heard; the two may differ in white space."""
    left = sum(not one.isspace() for one in heard)
    for at, one in enumerate(reply):
        if left == 0:
            return reply[at:].strip()
        left -= not one.isspace()
    return ""


def trouble(health: dict[str, Any]) -> str:
    """What is wrong with hearing and speaking, in one line."""
    microphone, speaker = health["microphone"], health["speaker"]
    deaf = "" if microphone["hearing"] else f"deaf: microphone {microphone['device']}: {microphone['why']}"
    mute = "" if speaker["speaking"] else f"mute: speaker {speaker['device']}: {speaker['why']}"
    return "; ".join(line for line in (deaf, mute) if line)


def _stages(exchange: Exchange, card: RateCard) -> Iterable[StageNow]:
    if exchange.answer is not None:
        exchange.answer.note()
    for result in exchange.calls.results:
        yield _stage(result, result.outcome, card)
    for running in exchange.calls.running:
        if running.result is None and running.call.begun:
            yield _stage(ended(running.facts, "completed", running.usage, NO_TIMES), RUNNING, card)


def _stage(result: StageResult, outcome: str, card: RateCard) -> StageNow:
    rated = rated_of(result, card)
    if rated is None:
        return StageNow(result.stage, outcome, None, None)
    return StageNow(result.stage, outcome, trimmed(rated.billed_tokens), rated.amount)


@dataclass(slots=True)
class Sums:
    """What turns came to."""

    currency: str
    turns: int = 0
    billed_tokens: Decimal = Decimal(0)
    amount: Decimal = Decimal(0)

    def add(self, told: dict[str, Any]) -> None:
        """A turn as `ask --json` prints it."""
        self.turns += 1
        self.billed_tokens = total((self.billed_tokens, Decimal(told["total"]["billed_tokens"])))
        self.amount = total((self.amount, Decimal(told["total"]["amount"])))

    def told(self) -> dict[str, Any]:
        sums = {"billed_tokens": plain(trimmed(self.billed_tokens)), "amount": plain(self.amount)}
        return {"turns": self.turns, **sums, "currency": self.currency}

    def __str__(self) -> str:
        return f"{self.turns} turns, {plain(trimmed(self.billed_tokens))} tokens, {plain(self.amount)} {self.currency}"
