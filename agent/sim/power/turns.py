"""A real robot with scripted engines, each in its process, that takes one turn after the other and says what it was promised.

Run as `python -m agent.sim.power.turns STATE`; it goes on until it is killed.
"""

import asyncio
import itertools
import sys
from pathlib import Path

from agent import app, profile
from agent.clock import Clock, SystemClock
from agent.profile import Profile
from agent.sim.power.promises import WitnessedLedger
from agent.store.ledger.chain import Identity
from agent.store.ledger.space import MEBIBYTE, Limits
from agent.values import FRAME_SAMPLES

LOUD = (b"\x40\x1f" * FRAME_SAMPLES,) * 30
"""A second of what the scripted detector calls speech."""


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


class SpeakingLedger(WitnessedLedger):
    """Says its promises on standard output."""

    say = staticmethod(say)


async def live(state: Path) -> None:
    """Takes turns until killed."""
    scripted = profile.load("scripted")

    def ledger(_: Profile, folder: Path, clock: Clock) -> SpeakingLedger:
        robot = Identity(scripted.device.tenant, scripted.device.id, scripted.billing.account)
        return SpeakingLedger(folder, robot, clock, Limits(quota_bytes=16 * MEBIBYTE, free_bytes_min=0))

    async with app.opened(scripted, state, state, SystemClock(), ledger) as robot:
        for number in itertools.count():
            await robot.hear(LOUD, lambda _: None, f"s{number}")


if __name__ == "__main__":
    asyncio.run(live(Path(sys.argv[1])))
