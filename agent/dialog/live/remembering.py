"""What of an exchange stays in the conversation: what was asked, and of the answer what was heard."""

import re
from collections.abc import Sequence

from agent.dialog.exchange import Exchange
from agent.dialog.exchange.answer import Answer
from agent.dialog.exchange.plan import Silent, Think, Verbatim
from agent.dialog.exchange.robot import Manner
from agent.dialog.live.running import Running
from agent.dialog.mind import OFFERS
from agent.dialog.session import Session
from agent.dialog.wording.intents import consent
from agent.dialog.wording.lists import Language
from agent.dialog.wording.phrases import offers

BETWEEN = re.compile(r"[.!?。！？]+\s*")
"""Sentences."""


def remember(session: Session, exchange: Exchange, manner: Manner, *, ended: bool) -> None:
    """Puts an exchange into the conversation; `ended` by itself, not cut off. What nobody heard promises nothing."""
    answer = exchange.answer
    plan = answer.plan if answer else None
    heard = answer.heard() if answer else ""
    session.add(manner.redacted(exchange.question), heard, manner.history_messages_max, thought=isinstance(plan, Think))
    silent = plan is None or isinstance(plan, Silent)  # a sound without a word takes no offer back
    if answer and not silent and (heard or ended or answer.called):  # nor does what nobody knows of
        session.offered = has_offered(answer, manner.language)
    if isinstance(plan, Verbatim) and (heard or ended):
        session.over = session.over or plan.farewell
        session.mood.answered(helped=plan.about not in OFFERS)


def has_offered(answer: Answer | None, language: Language) -> bool:
    """Whether the customer has heard of an answer that a person was offered, or the beginning of it."""
    if answer is None:
        return False
    heard = answer.heard().strip()
    if isinstance(answer.plan, Verbatim) and answer.plan.about in OFFERS:
        begins = max((mark.end() for mark in BETWEEN.finditer(answer.plan.text) if mark.end() < len(answer.plan.text)), default=0)
        return len(heard) > begins  # the offer comes last
    return isinstance(answer.plan, Think) and offers(heard, language)


def agrees(words: str, before: Sequence[Running], session: Session, language: Language) -> bool:
    """To the person whom an answer offers, the last of `before` if that has sounded, else the last that ended: then "yes" is more than a
    sign of listening. Not where that person is called already, and it has only to be said."""
    answer = before[-1].exchange.answer if before else None
    if answer is not None and answer.has_sounded:
        offering = has_offered(answer, language)
    else:
        called = answer is not None and isinstance(answer.plan, Verbatim) and bool(answer.plan.handoff)
        offering = session.offered and not called
    return offering and bool(consent(words, language))
