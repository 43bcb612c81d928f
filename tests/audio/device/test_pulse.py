"""Microphone and speaker on a real sound server whose devices come and go. In a child process: PortAudio reads its environment once."""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest

from agent.sim.sound.server import HALL, PLAYED, SoundServer
from agent.values import RATE_HZ
from tests.conftest import tone

PATIENCE_S = 30

RAW = ("--raw", "--format=s16le", f"--rate={RATE_HZ}", "--channels=1", "--latency-msec=10")


class Child:
    """The conversation, from outside."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._stdin, self._stdout = process.stdin, process.stdout

    def play(self, seconds: float) -> None:
        self._stdin.write(f"play {seconds}\n".encode())

    async def until(self, what: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Its state once it is so."""
        state: dict[str, Any] = {}
        try:
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    state = json.loads(await self._stdout.readline())
                    if what(state):
                        return state
        except TimeoutError:
            raise AssertionError(f"it stayed so: {state}") from None


@asynccontextmanager
async def conversation(environment: dict[str, str]) -> AsyncIterator[Child]:
    pipe = asyncio.subprocess.PIPE
    words = [sys.executable, "-m", "tests.audio.device.conversation"]
    quiet = asyncio.subprocess.DEVNULL  # PortAudio tells what fails on standard error
    process = await asyncio.create_subprocess_exec(*words, env=os.environ | environment, stdin=pipe, stdout=pipe, stderr=quiet)
    try:
        yield Child(process)
        assert process.stdin is not None
        process.stdin.close()
        async with asyncio.timeout(10):
            await process.communicate()
        assert process.returncode == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@asynccontextmanager
async def somebody_speaks(environment: dict[str, str]) -> AsyncIterator[None]:
    """In the hall, without a pause."""
    words = ["pacat", *RAW, "--playback", f"--device={HALL}"]
    process = await asyncio.create_subprocess_exec(
        *words, env=os.environ | environment, stdin=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    assert process.stdin is not None
    process.stdin.write((tone(120) * 32_767).astype("<i2").tobytes())
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):  # the server has gone before
            process.kill()
        await process.communicate()


async def recorded(environment: dict[str, str], seconds: float) -> np.ndarray:
    """What the speaker plays meanwhile."""
    words = ["parec", *RAW, f"--device={PLAYED}.monitor"]
    process = await asyncio.create_subprocess_exec(*words, env=os.environ | environment, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    pcm = await process.stdout.readexactly(int(seconds * RATE_HZ) * 2)
    process.kill()
    await process.communicate()
    return np.frombuffer(pcm, "<i2")


async def die(server: SoundServer) -> None:
    """As by a crash: everything is gone at once."""
    assert server._process is not None
    server._process.kill()
    await server._process.wait()


async def rise(server: SoundServer) -> None:
    """It is started again where it was."""
    (server._folder / "native").unlink()
    server._modules.clear()
    server._process = await server._launch()
    await server._until_ready()
    await server.plug("microphone")
    await server.plug("speaker")


@pytest.mark.long
def test_devices_that_vanish_and_return_while_the_other_goes_on() -> None:
    async def main() -> None:
        async with SoundServer() as server, conversation(server.environment()) as robot, somebody_speaks(server.environment()):
            await robot.until(lambda state: state["mic"]["hearing"] and state["speaker"]["speaking"] and state["level"] > 1000)

            robot.play(3)
            assert np.abs(await recorded(server.environment(), 0.5)).max() > 5000
            await server.unplug("microphone")  # in the middle of the sentence
            deaf = await robot.until(lambda state: not state["mic"]["hearing"])
            assert 0 < deaf["heard"] < 100
            await server.plug("microphone")
            healed = await robot.until(lambda state: state["mic"]["hearing"] and state["frames"] > deaf["frames"] + 20)
            assert (healed["mic"]["reopened"], healed["level"] > 1000) == (1, True)
            spoken = await robot.until(lambda state: state["heard"] == 100)
            assert spoken["speaker"]["speaking"] is True

            robot.play(2)
            await robot.until(lambda state: 20 < state["heard"] < 100)
            await server.unplug("speaker")
            mute = await robot.until(lambda state: not state["speaker"]["speaking"])
            later = await robot.until(lambda state: state["frames"] > mute["frames"] + 60)
            assert 20 < later["heard"] == mute["heard"] < 100
            assert later["mic"]["hearing"] is True
            await server.plug("speaker")
            await robot.until(lambda state: state["speaker"]["speaking"])
            robot.play(1)
            assert np.abs(await recorded(server.environment(), 0.8)).max() > 5000
            assert (await robot.until(lambda state: state["heard"] == 100))["speaker"]["reopened"] >= 1

            await die(server)
            await robot.until(lambda state: "there is no microphone" in state["mic"]["why"] and "there is no" in state["speaker"]["why"])
            await rise(server)
            back = await robot.until(lambda state: state["mic"]["hearing"] and state["speaker"]["speaking"])
            await robot.until(lambda state: state["frames"] > back["frames"] + 10)

    asyncio.run(main())


def test_without_a_sound_server_it_says_so_and_lives() -> None:
    async def main() -> None:
        nowhere = {"ALSA_CONFIG_PATH": "/usr/share/alsa/alsa.conf", "PULSE_SERVER": "unix:/nonexistent"}
        async with conversation(nowhere) as robot:
            robot.play(0.5)
            state = await robot.until(lambda state: "there is no" in state["mic"]["why"] and "there is no" in state["speaker"]["why"])
            assert (state["mic"]["hearing"], state["speaker"]["speaking"], state["heard"]) == (False, False, 0)
            assert len(state["said"]) == 2

    asyncio.run(main())
