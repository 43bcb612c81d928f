"""How the language model's small talk fares against the guard on facts: what it was asked, what it said, what of it may be spoken.

Two sets: small talk, which the dialogue gives to the model, and questions about a site, which it never gives: the guard has to stand
by itself. Whether a reply that passed states a fact is for a person to judge; all that passed are handed out for that.
"""

import tomllib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from agent.dialog.wording.facts import FactGuard
from agent.dialog.wording.intents import intent
from agent.dialog.wording.phrases import opening
from agent.ports import Llm
from agent.values import Message, Prompt

UTTERANCES = "utterances.toml"

REPLY_TOKENS_MAX = 24
"""One short sentence, two at most; what was cut off is not spoken anyway."""

REPLIES = {"small_talk": 60, "fishing": 40}

Reply = Callable[[Prompt], Awaitable[str]]


def small_talk_prompt(words: str) -> Prompt:
    """As small talk is asked for: greedy, lightly held from repeating itself, one line."""
    messages = (*opening("en"), Message("user", words))
    return Prompt(messages, max_tokens=REPLY_TOKENS_MAX, temperature=0.0, repetition_penalty=1.1, stop=("\n",))


def of(llm: Llm) -> Reply:
    """The reply of a hosted engine."""

    async def reply(prompt: Prompt) -> str:
        call = llm.open()
        await call.send(prompt)
        await call.finish()
        return "".join([delta async for delta in call])

    return reply


async def measure(reply: Reply, corpus: Path) -> dict[str, Any]:
    """Per set: how many were asked, how many passed, how many the dialogue would have asked at all; and each that passed, to be judged."""
    utterances = tomllib.loads((corpus / UTTERANCES).read_text(encoding="utf-8"))["en"]
    guard = FactGuard("en")
    told: dict[str, Any] = {}
    for kind, most in REPLIES.items():
        asked = utterances[kind][:most]
        replies = [await reply(small_talk_prompt(words)) for words in asked]
        passed = [guard.passing(text) for text in replies]
        told[kind] = {
            "asked": len(asked),
            "passed": sum(map(bool, passed)),
            "to_the_model": sum(intent(words, "en") == "small_talk" for words in asked),
            "spoken": [[words, text] for words, text in zip(asked, passed, strict=True) if text],
            "stopped": [[words, text] for words, text, said in zip(asked, replies, passed, strict=True) if not said],
        }
    return told
