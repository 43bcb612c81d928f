"""A robot in the hall that says each line of its input, and tells in a line of JSON what was heard of it.

python -m tests.e2e.announcer STATE
"""

import asyncio
import json
import sys
from pathlib import Path

from agent import profile as profiles
from agent.app import opened
from agent.clock import SystemClock
from agent.talking.attending import Attending
from agent.tasks import stopped
from agent.weights import catalog


def tell(told: object) -> None:
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()


async def main(state: Path) -> None:
    clock = SystemClock()
    async with opened(profiles.load("hotel"), state, catalog.models_folder(), clock, live=True) as app:
        attending = Attending(app, lambda line: None)
        conversing = asyncio.create_task(attending.run())
        while not attending.health()["hearing"]:
            await clock.sleep(0.1)
        tell("listening")
        while line := await asyncio.to_thread(sys.stdin.readline):
            tell(await attending.speak(line.strip()))
        await stopped(conversing)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
