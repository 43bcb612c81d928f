"""What is answered where a site has an FAQ."""

import asyncio

import pytest

from agent.dialog.exchange.plan import Plan, Silent, Think, Verbatim, vouches
from agent.dialog.faq.book import Entry
from agent.dialog.faq.find import Found
from agent.dialog.mind import SiteMind
from agent.dialog.session import Session
from agent.dialog.wording.phrases import phrases

POOL = Entry("pool", "Where is the pool?", "The pool is on the fifth floor.", ())

PHRASES = phrases("en")


async def find(question: str) -> Found | None:
    return Found(POOL, 0.9, 0.5, sure="pool" in question and "dog" not in question)


def plan(question: str, session: Session | None = None) -> Plan:
    return asyncio.run(SiteMind("en", PHRASES, find).plan(question, session or Session("s1")))


def phrase(name: str, handoff: str = "", farewell: bool = False) -> Verbatim:
    return Verbatim(getattr(PHRASES, name), "phrase", name, handoff, farewell)


def test_a_sure_entry_is_spoken_word_for_word() -> None:
    assert plan("Where is the pool?") == Verbatim(POOL.answer, "faq", "pool")
    assert vouches(plan("Where is the pool?"))


def test_what_nobody_knows_is_admitted_and_a_person_offered() -> None:
    assert plan("Can I take my dog to the pool?") == phrase("unknown")
    assert not vouches(plan("Can I take my dog to the pool?"))  # it may not have been all of the question


def test_small_talk_is_for_the_model_and_guarded() -> None:
    assert plan("How are you today?") == Think(guarded=True, instead=PHRASES.small_talk_at(0))
    hurried = Session("s1", hurried=True)
    assert plan("How are you today?", hurried) == Verbatim(PHRASES.small_talk_at(0), "phrase", "small_talk")


@pytest.mark.parametrize(("said", "name"), [("Hello!", "greeting"), ("Thank you very much.", "thanks")])
def test_courtesies_are_phrases(said: str, name: str) -> None:
    assert plan(said) == phrase(name)


def test_a_farewell_ends_the_conversation() -> None:
    assert plan("Goodbye!") == phrase("farewell", farewell=True)


@pytest.mark.parametrize(("said", "why"), [("Stop!", "emergency"), ("Uh-huh.", "nothing"), ("", "nothing")])
def test_silence_is_an_answer(said: str, why: str) -> None:
    assert plan(said) == Silent(why)  # type: ignore[arg-type]


def test_a_person_is_called_when_asked_for_or_when_the_offer_is_taken() -> None:
    assert plan("Can I speak to a human, please?") == phrase("handing_over", handoff="asked")
    offered = Session("s1", offered=True)
    assert plan("Yes, please.", offered) == phrase("handing_over", handoff="agreed")
    assert plan("No, thanks.", offered) == phrase("not_handing_over")
    assert plan("Where is the pool?", offered) == Verbatim(POOL.answer, "faq", "pool")


def test_who_is_angry_is_offered_a_person_but_told_what_is_known() -> None:
    session = Session("s1")
    for _ in range(3):
        session.add("This is terrible, you are useless!", "", 6)
    assert plan("What is wrong with the lift?", session) == phrase("offer_person")
    assert plan("Where is the pool?", session) == Verbatim(POOL.answer, "faq", "pool")


def test_planning_remembers_nothing() -> None:
    session = Session("s1")
    before = (session.mood.level, session.turns, list(session.history))
    plan("This is terrible, you are useless!", session)
    assert (session.mood.level, session.turns, list(session.history)) == before
