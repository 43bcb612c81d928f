"""The robot that is measured: converses until its input closes, and tells what happens in JSON lines, with monotonic times.

python -m agent.bench.talk.robot PROFILE STATE
->  {"listening": t}  {"floor": …, "at": t} …  {"turn": …, "plan": …, "at": t} …  {"said": …}  and {"health": …} for each line of input
"""

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from agent import processes
from agent import profile as profiles
from agent.app import App, opened
from agent.clock import SystemClock
from agent.dialog.exchange.plan import Plan, Silent, Think, Verbatim
from agent.dialog.telling import told
from agent.live import Live, conversing, in_hall
from agent.values import Turn
from agent.weights import catalog

POLL_SECONDS = 0.01


def say(**line: Any) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def source(plan: Plan | None) -> str:
    """Where the answer came from: `faq:ENTRY`, `phrase:NAME`, `llm`, or why there was none."""
    match plan:
        case Verbatim(_, kind, about):
            return f"{kind}:{about}"
        case Think():
            return "llm"
        case Silent(why):
            return why
    return ""


@contextlib.asynccontextmanager
async def talking(app: App) -> AsyncIterator[Live]:
    """The conversation, running."""

    def answered(turn: Turn, plan: Plan | None) -> None:
        instead = plan.instead if isinstance(plan, Think) else ""
        shown = told(turn, app.books.card, reply_audio=None, problems=[])
        say(turn=shown, plan=source(plan), gave_way=bool(instead) and turn.reply == instead, at=time.monotonic())

    def floor(now: str) -> None:
        say(floor=now, at=time.monotonic())

    async with (
        in_hall(app, lambda line: say(said=line)) as hall,
        conversing(app, hall, lambda line: say(said=line), answered=answered, floor=floor) as live,
    ):
        work = [asyncio.create_task(live.conversation.run()), asyncio.create_task(_first_frame(live))]
        try:
            yield live
        finally:
            for task in work:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task


async def _first_frame(live: Live) -> None:
    while not live.listening.frames:
        await live.conversation.clock.sleep(POLL_SECONDS)
    say(listening=time.monotonic())


def _answer_input(app: App, live: Live) -> None:
    for _ in sys.stdin:
        held = [processes.own(), *(engine.process_id for engine in app.engines.values())]
        say(health=live.health(), pss_mb=round(processes.pss_mb(held), 1))


async def main(profile: str, state: Path) -> None:
    async with opened(profiles.load(profile), state, catalog.models_folder(), SystemClock(), live=True) as app, talking(app) as live:
        await asyncio.to_thread(_answer_input, app, live)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
