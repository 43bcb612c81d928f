"""Decides what is answered where a site has an FAQ: its entries word for word, small talk from the model, the rest by a person.

    nothing, emergency -> silence         person, or yes to an offer -> a person is called      greeting, thanks, farewell -> a phrase
    a question the FAQ surely answers -> the entry      small talk -> the model, guarded      anything else -> admitted, a person offered

A customer who is angry, repeats himself or was not helped is offered a person whatever he asks.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace

from agent.dialog.exchange.plan import Plan, Silent, Think, Verbatim
from agent.dialog.faq.find import Found
from agent.dialog.session import Session
from agent.dialog.wording.intents import Intent, consent, intent
from agent.dialog.wording.lists import Language
from agent.dialog.wording.phrases import Phrases

Find = Callable[[str], Awaitable[Found | None]]

OFFERS = ("unknown", "offer_person")
"""Phrases that end with the offer of a person."""


class SiteMind:
    """Implements the port Mind."""

    def __init__(self, language: Language, phrases: Phrases, find: Find) -> None:
        self._language = language
        self._phrases = phrases
        self._find = find

    async def plan(self, question: str, session: Session) -> Plan:
        wants = intent(question, self._language)
        if session.offered and (agreed := consent(question, self._language)):
            return self._person("agreed") if agreed == "yes" else self._phrase("not_handing_over")
        return self._by_intent(wants) or await self._answer(question, wants, session)

    def _by_intent(self, wants: Intent) -> Plan | None:
        if wants in ("nothing", "emergency"):
            return Silent("emergency" if wants == "emergency" else "nothing")
        if wants == "person":
            return self._person("asked")
        if wants in ("greeting", "thanks", "farewell"):
            return self._phrase(wants)
        return None

    async def _answer(self, question: str, wants: Intent, session: Session) -> Plan:
        mood = replace(session.mood)
        mood.heard(question)
        found = await self._find(question)
        if found is not None and found.sure:
            return Verbatim(found.entry.answer, "faq", found.entry.id)
        if mood.reason and not session.offered:
            return self._phrase("offer_person")
        if wants != "small_talk":
            return self._phrase("unknown")
        fallback = self._phrases.small_talk_at(session.turns)
        return Verbatim(fallback, "phrase", "small_talk") if session.hurried else Think(guarded=True, instead=fallback)

    def _phrase(self, name: str) -> Verbatim:
        return Verbatim(getattr(self._phrases, name), "phrase", name, farewell=name == "farewell")

    def _person(self, why: str) -> Verbatim:
        return Verbatim(self._phrases.handing_over, "phrase", "handing_over", handoff=why)
