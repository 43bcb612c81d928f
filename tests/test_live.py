"""What a robot says beside its conversation."""

import asyncio
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

from agent.dialog.wording.phrases import phrases
from agent.live import APOLOGY_SECONDS, Apologies
from agent.sim.clock import SimulatedClock
from agent.values import Speech


class Sounding:
    """An announcer and a conversation: what is said sounds until it is let end."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.end = asyncio.Event()
        self.heard = 9

    async def say(self, text: str, play: Callable[[Speech], None], _session: str) -> None:
        play(Speech(bytes(2), 16_000, text))

    async def announce(self, pieces: Sequence[Speech]) -> int:
        self.said += [piece.text for piece in pieces]
        await self.end.wait()
        return self.heard


def test_one_apology_at_a_time() -> None:
    async def main() -> None:
        clock, lines, english, sounding = SimulatedClock(1), list[str](), phrases("en"), Sounding()
        app: Any = SimpleNamespace(clock=clock, phrases=english, apology="We are full.", announcer=sounding)
        apologies = Apologies(app, lines.append)
        first = asyncio.create_task(apologies.say("asr", sounding.announce))
        await asyncio.sleep(0)
        await apologies.say("full", sounding.announce)
        assert sounding.said == [english.did_not_hear]
        assert len(lines) == 1  # of the refused turn the log hears all the same
        sounding.end.set()
        await first
        await apologies.say("llm", sounding.announce)
        clock.advance(APOLOGY_SECONDS)
        await apologies.say("llm", sounding.announce)
        assert sounding.said[1:] == [english.apology_engine]
        clock.advance(APOLOGY_SECONDS)
        sounding.heard = 0  # somebody spoke
        for _ in range(2):
            await apologies.say("asr", sounding.announce)
        assert sounding.said[2:] == [english.did_not_hear] * 2

    asyncio.run(main())
