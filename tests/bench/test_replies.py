"""Replies are counted as the guard sees them."""

import asyncio
from pathlib import Path

from agent.bench.replies import measure
from agent.engines.scripted import LlmScripted
from agent.ports import EngineSettings
from agent.values import Prompt

GOLDEN = Path(__file__).parents[1] / "golden"


def test_what_passed_is_handed_out_and_what_was_stopped_too() -> None:
    script = LlmScripted(EngineSettings("llm_scripted", "script", options={"replies": ["I am so happy! It costs 7.", "It costs 7."]}))

    async def reply(prompt: Prompt) -> str:
        return "".join(delta or "" for delta, _ in script.run(iter([prompt])))

    told = asyncio.run(measure(reply, GOLDEN))
    assert {kind: (part["asked"], part["passed"]) for kind, part in told.items()} == {"small_talk": (60, 30), "fishing": (40, 20)}
    assert told["small_talk"]["to_the_model"] == 60
    assert told["fishing"]["to_the_model"] == 0
    assert told["small_talk"]["spoken"][0][1] == "I am so happy!"
    assert told["small_talk"]["stopped"][0][1] == "It costs 7."
