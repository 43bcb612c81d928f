"""What a robot says beside its conversation."""

import asyncio
from types import SimpleNamespace
from typing import Any

from agent.dialog.wording.phrases import phrases
from agent.live import APOLOGY_SECONDS, Apologies
from agent.sim.clock import SimulatedClock


class Sounding:
    """An announcer and a loudspeaker: what is said sounds until it is let end."""

    def __init__(self, listening: Any) -> None:
        self.listening, self.said = listening, list[tuple[str, bool]]()
        self.end = asyncio.Event()

    async def say(self, text: str, _play: object, _session: str) -> None:
        self.said.append((text, self.listening.robot_speaks))

    def play(self, _speech: object) -> None: ...

    async def quiet(self) -> None:
        await self.end.wait()


def test_one_apology_at_a_time_and_the_robot_knows_that_it_is_its_own_voice() -> None:
    async def main() -> None:
        clock, lines, english = SimulatedClock(1), list[str](), phrases("en")
        listening = SimpleNamespace(robot_speaks=False)
        sounding = Sounding(listening)
        app: Any = SimpleNamespace(clock=clock, phrases=english, apology="We are full.", announcer=sounding)
        hall: Any = SimpleNamespace(speaker=sounding)
        apologies = Apologies(app, hall, listening, lines.append)  # type: ignore[arg-type]
        first = asyncio.create_task(apologies.say("asr"))
        await asyncio.sleep(0)
        await apologies.say("full")
        assert sounding.said == [(english.did_not_hear, True)]
        assert len(lines) == 1  # of the refused turn the log hears all the same
        sounding.end.set()
        await first
        assert listening.robot_speaks is False
        await apologies.say("llm")
        clock.advance(APOLOGY_SECONDS)
        await apologies.say("llm")
        assert sounding.said[1:] == [(english.apology_engine, True)]

    asyncio.run(main())
