"""What a robot is told to say, through PulseAudio: it is read aloud, heard, and gives way to whoever speaks."""

import asyncio
import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.audio import wav
from agent.clock import SystemClock
from agent.engines.asr_moonshine import AsrMoonshine
from agent.sim.sound import detect
from agent.sim.sound.hall import Hall
from agent.sim.sound.server import SoundServer
from agent.store.reading import LedgerReader
from agent.store.verify import verify_books
from agent.values import RATE_HZ
from tests.engines.helpers import chunks, settings

ROOT = Path(__file__).parents[2]

PATIENCE_S = 60

TRIES = 3
"""A busy machine loses sound, and what is left of a torn echo is taken for somebody."""

NEWS = "The bar closes at 10:30 pm. A lemonade is $12.50."

STORY = "Our garden has many old trees. " * 8


class Announcer:
    """The robot's process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def told(self) -> Any:
        assert self._process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            line = await self._process.stdout.readline()
        assert line
        return json.loads(line)

    def say(self, text: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{text}\n".encode())


async def announced(hall: Hall, robot: Announcer, question: Path) -> tuple[Any, np.ndarray, Any]:
    """What was told of the news, and its sound; and what was told of a story into which somebody asks."""
    clock = SystemClock()
    assert await robot.told() == "listening"
    for _ in range(TRIES):
        began = clock.monotonic()
        robot.say(NEWS)
        news = await robot.told()
        if news["characters_heard"] == news["characters"]:
            break
    await clock.sleep(0.3)  # the last of it is on its way
    _, sound = hall.heard_since(began)
    began = clock.monotonic()
    robot.say(STORY)
    async with asyncio.timeout(PATIENCE_S):
        while detect.first_sound(hall.heard_since(began)[1], RATE_HZ) is None:
            await clock.sleep(0.1)
    await hall.say(b"".join(wav.read(question))).over()
    return news, sound, await robot.told()


async def in_hall(state: Path, question: Path) -> tuple[Any, np.ndarray, Any]:
    pipe = asyncio.subprocess.PIPE
    async with SoundServer() as server, Hall(server) as hall:
        hall.echo()
        command = (sys.executable, "-P", "-m", "tests.e2e.announcer", str(state))
        process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, cwd=ROOT, env=os.environ | server.environment())
        try:
            told = await announced(hall, Announcer(process), question)
            assert process.stdin is not None
            process.stdin.close()
            assert await process.wait() == 0
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        return told


@pytest.mark.long
def test_what_it_announces_is_heard_in_its_own_echo_and_gives_way_to_a_guest(tmp_path: Path, models: Path, question: Path) -> None:
    news, sound, story = asyncio.run(in_hall(tmp_path, question))
    outputs = AsrMoonshine(settings("asr_moonshine", models)).run(iter(chunks(sound)))
    words = " ".join(output.text for output, _ in outputs if output is not None and output.final).lower()
    assert "10:30" in words
    assert "12.50" in words
    assert news["characters_heard"] == news["characters"] > len(NEWS)  # read aloud: "ten thirty"
    assert 0 < story["characters_heard"] < story["characters"]
    assert verify_books(tmp_path).whole
    stages = [record["data"] for record in LedgerReader(tmp_path).records("usage")]
    asked = {one["turn_id"] for one in stages if one["stage"] == "asr"}
    announced = [one for one in stages if one["turn_id"] not in asked]
    assert {(one["stage"], one["outcome"]) for one in announced} == {("tts", "completed")}
    assert len(announced) == 3  # a sentence each, and one that is said again and again costs once
    assert asked
