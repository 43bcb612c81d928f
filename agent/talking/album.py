"""Has a picture drawn of each session by a child process, which yields to everybody: drawing in this one would hold up who listens."""

import asyncio
import contextlib
import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from agent.errors import BadInput, MissingPart

PICTURES_MAX = 50
"""The newest that are kept; a robot that talks for weeks must not fill its disk with them."""

TURNS_MAX = 24
"""Newest turns of a session in its picture; more can't be read in one."""

PATTERN = "session-*.png"

DRAW_SECONDS_MAX = 30

DRAWER = "agent.sim.waterfall"
"""Run as a program: turns on its standard input, the picture's path as its argument."""


class Album:
    """The pictures of one folder."""

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        """Raises BadInput where no folder can be made."""
        make_folder(folder)
        self._folder = folder
        self._say = say
        self._turns: dict[str, list[dict[str, Any]]] = {}
        self._drawing: set[asyncio.Task[None]] = set()
        self.drawn: list[Path] = []
        self._able = importlib.util.find_spec("matplotlib") is not None
        if not self._able:
            missing = MissingPart("no pictures: the Python package matplotlib is not installed", "pip install 'voxmeter[sim]'")
            say(str(missing))

    def add(self, told: dict[str, Any]) -> None:
        """A turn of the session under way; sessions before it are over. What was said is not in the picture: nobody would forget it."""
        turns = self._turns.setdefault(told["session_id"], [])
        turns.append(told | {"transcript": "", "reply": ""})
        del turns[:-TURNS_MAX]
        self.over(told["session_id"])

    def over(self, but: str = "", *, niceness: int = 19) -> None:
        """All sessions are over but that one."""
        for session in [session for session in self._turns if session != but]:
            turns = self._turns.pop(session)
            if self._able:
                task = asyncio.create_task(self._draw(self._folder / f"session-{session}.png", turns, niceness))
                self._drawing.add(task)
                task.add_done_callback(self._drawing.discard)

    async def aclose(self) -> None:
        """Returns when all pictures are drawn."""
        self.over(niceness=0)  # nobody listens any more, but somebody waits
        await asyncio.gather(*self._drawing)

    async def _draw(self, path: Path, turns: list[dict[str, Any]], niceness: int) -> None:
        titled = [(f"turn {number}", told) for number, told in enumerate(turns, 1)]
        problem = await _run(orjson.dumps(titled), str(path), niceness)
        if problem:
            self._say(f"{path}: not drawn: {problem}")
            return
        self.drawn.append(path)
        with contextlib.suppress(OSError):
            for old in sorted(self._folder.glob(PATTERN), key=lambda one: one.stat().st_mtime)[:-PICTURES_MAX]:
                old.unlink()


def make_folder(folder: Path) -> None:
    """Raises BadInput where it can't be made, or not be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{folder}: {error.strerror}", "name another folder with --waterfalls") from error
    if not os.access(folder, os.W_OK):
        raise BadInput(f"{folder}: it can't be written to", "name another folder with --waterfalls")


async def _run(told: bytes, path: str, niceness: int) -> str:
    """Draws; what went wrong, or nothing."""
    pipe, nothing = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(
        *("nice", "-n", str(niceness), sys.executable, "-P", "-m", DRAWER, path),
        stdin=pipe,
        stdout=nothing,
        stderr=pipe,
        start_new_session=True,  # Ctrl-C is for whoever talks
    )
    try:
        async with asyncio.timeout(DRAW_SECONDS_MAX):
            _, problem = await process.communicate(told)
    except TimeoutError:
        problem = b"it takes too long"
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    lines = problem.decode(errors="replace").strip().splitlines()
    return (lines or ["no word why"])[-1] if process.returncode else ""
