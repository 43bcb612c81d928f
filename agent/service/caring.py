"""Looks after the books while nothing else is to do: tidies them, and verifies all of them once a day in a process of its own."""

import asyncio
import contextlib
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson

from agent.app import App
from agent.clock import Clock
from agent.errors import VoxmeterError
from agent.service.running import Say

TIDY_SECONDS = 600
"""Between two looks at what may be let go."""

CHECK_SECONDS = 24 * 3600
"""Between two full verifications: a quick start checks only the last links."""


async def again_and_again(work: Callable[[], Awaitable[object]], pause_seconds: float, clock: Clock, say: Say) -> None:
    """Does it until cancelled. What fails is said in one line, and tried again after the pause: the robot goes on."""
    while True:
        try:
            await work()
        except (VoxmeterError, OSError) as error:
            say(f"the books: {' '.join(str(error).split())}")
        await clock.sleep(pause_seconds)


async def tidying(app: App, say: Say) -> None:
    """Lets go what may be let go, until cancelled."""
    await again_and_again(app.ledger.tidy, TIDY_SECONDS, app.clock, say)


async def checking(app: App, folder: Path, say: Say) -> None:
    """Verifies the books once a day, until cancelled."""
    doubted: set[str] = set()
    await app.clock.sleep(TIDY_SECONDS)  # not at once: a start is busy enough
    await again_and_again(lambda: _check(app, folder, say, doubted), CHECK_SECONDS, app.clock, say)


async def _check(app: App, folder: Path, say: Say, doubted: set[str]) -> None:
    """Verifies all of the books. What is not what was written is set aside, once, and salvaged as far as it goes."""
    verdict = await verified(folder)
    if not verdict or verdict["whole"]:
        return
    say(f"the books: epoch {verdict['epoch']}: {verdict['problem']}")
    if verdict["salvageable"] and verdict["epoch"] not in doubted:
        doubted.add(verdict["epoch"])
        await app.ledger.doubt(verdict["epoch"])
    await app.ledger.salvage(app.books.cut_off)  # also what an earlier look set aside and could not finish


async def verified(folder: Path) -> dict[str, Any]:
    """What `usage verify` finds, in a process of its own at the lowest priority: a turn must not wait for it. Empty where it can't say."""
    command = ("nice", "-n", "19", sys.executable, "-P", "-m", "agent", "usage", "verify", "--json", "--state-dir", str(folder))
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        told, _ = await process.communicate()
    except asyncio.CancelledError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        raise
    try:
        found: dict[str, Any] = orjson.loads(told)
    except orjson.JSONDecodeError:
        return {}
    return found
