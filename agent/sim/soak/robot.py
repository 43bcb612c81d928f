"""The robot that is watched, a process of its own so that watching does not grow it: the real driver on a sound card without hardware.

Run as `python -P -m agent.sim.soak.robot PROFILE STATE CLIPS SEED`; orders and answers are JSON lines, see `agent.sim.real.process`:
    {"op": "say", "clip": n} -> null, and clip n begins to be heard      {"op": "look"} -> {processes, microphone, speaker}
    unasked: {"listening": true}, {"floor": …}, {"turn": {outcomes}}, {"said": one line}; it ends with its standard input
"""

import asyncio
import contextlib
import math
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from agent import profile as profiles
from agent.app import App, opened
from agent.clock import SystemClock
from agent.errors import VoxmeterError
from agent.live import Live, conversing, in_hall
from agent.profile import Profile
from agent.sim.soak.card import Card
from agent.tasks import stopped
from agent.values import Turn
from agent.weights import catalog

SESSION_SILENCE_S = 5
"""Sessions of hotel guests last longer; here many are to begin and end."""


def tell(**told: Any) -> None:
    with contextlib.suppress(BrokenPipeError):  # whoever watches is gone; the end of standard input says so
        os.write(sys.stdout.fileno(), orjson.dumps(told) + b"\n")


def hurried(profile: Profile) -> Profile:
    """The same with short sessions."""
    return profile.model_copy(update={"dialog": profile.dialog.model_copy(update={"session_silence_s": SESSION_SILENCE_S})})


def _said(line: str) -> None:
    tell(said=line)


@contextlib.asynccontextmanager
async def talking(card: Card, app: App) -> AsyncIterator[Live]:
    """The conversation, running; what has ended is forgotten as in the service."""
    lives: list[Live] = []

    def told(turn: Turn) -> None:
        tell(turn={"outcomes": [stage.outcome for stage in turn.stages]})
        lives[0].turns.clear()

    async with in_hall(app, _said, card) as hall, conversing(app, hall, _said, told, floor=lambda now: tell(floor=now)) as live:
        lives.append(live)
        running = asyncio.create_task(live.conversation.run())
        try:
            while not live.listening.frames:
                await app.clock.sleep(0.05)
            tell(listening=True)
            yield live
        finally:
            await stopped(running)


async def obey(order: dict[str, Any], app: App, live: Live, card: Card, clips: Path) -> Any:
    """Does one thing and says what came of it."""
    if order["op"] == "say":
        card.say(np.fromfile(clips / f"{order['clip']}.s16", "<i2"))
        return None
    processes = {"robot": os.getpid()} | {part: engine.process_id for part, engine in app.engines.items()}
    return {"processes": processes} | {part: told for part, told in live.health().items() if part in ("microphone", "speaker")}


async def main(profile: str, state: Path, clips: Path, seed: int) -> None:
    """From the start to the end of standard input."""
    reader, clock = asyncio.StreamReader(), SystemClock()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async with opened(hurried(profiles.load(profile)), state, catalog.models_folder(), clock, live=True) as app:
        for engine in app.engines.values():
            engine.recycle_above(math.inf)
        with contextlib.closing(Card(clock, seed)) as card:
            async with talking(card, app) as live:
                while line := await reader.readline():
                    order = orjson.loads(line)
                    tell(id=order["id"], told=await obey(order, app, live, card, clips))


if __name__ == "__main__":
    try:
        asyncio.run(main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])))
    except VoxmeterError as error:
        sys.stderr.write(f"{' '.join(str(error).split())}\n")
        raise SystemExit(error.exit_status) from error
