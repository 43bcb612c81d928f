"""A conversation through PulseAudio, as its users start it: a guest's question into the virtual microphone, an answer at the speaker."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from agent import owner
from agent.audio import wav
from agent.clock import SystemClock
from agent.engines.asr_moonshine import AsrMoonshine
from agent.sim.sound import detect
from agent.sim.sound.hall import Hall
from agent.sim.sound.server import SoundServer
from agent.values import RATE_HZ
from tests.conftest import tone
from tests.e2e.helpers import COMMAND, voxmeter
from tests.engines.helpers import chunks, settings

HOTEL = ("--profile", "hotel")

PATIENCE_S = 30

ANSWERS = ("every morning", "garden restaurant")
"""Words of the FAQ's answer."""


@contextlib.asynccontextmanager
async def robot(server: SoundServer, *words: object) -> AsyncIterator[asyncio.subprocess.Process]:
    """A command in the hall; whoever does not end it finds it killed."""
    pipe = asyncio.subprocess.PIPE
    environment = os.environ | server.environment()
    process = await asyncio.create_subprocess_exec(*COMMAND, *map(str, words), *HOTEL, stdout=pipe, stderr=pipe, env=environment)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def until(stream: asyncio.StreamReader | None, what: str) -> str:
    """The line that says it."""
    assert stream is not None
    said = ""
    async with asyncio.timeout(PATIENCE_S):
        while what not in said:
            line = (await stream.readline()).decode()
            assert line, said
            said += line
    return said.splitlines()[-1]


async def commanded(server: SoundServer, *words: object) -> Any:
    environment = os.environ | server.environment()
    process = await asyncio.create_subprocess_exec(*COMMAND, *map(str, words), "--json", stdout=asyncio.subprocess.PIPE, env=environment)
    out, _ = await process.communicate()
    assert process.returncode == 0
    return json.loads(out)


async def answer(hall: Hall, question: bytes) -> np.ndarray:
    """Asks, and returns what is heard of the robot until it has been silent for a second."""
    clock = SystemClock()
    spoken = hall.say(question)
    await spoken.over()
    async with asyncio.timeout(PATIENCE_S):
        while True:
            await clock.sleep(0.3)
            _, heard = hall.heard_since(spoken.last_at)
            if detect.first_sound(heard, RATE_HZ) is not None and detect.first_sound(heard[-RATE_HZ:], RATE_HZ) is None:
                return heard


def assert_answered(asr: AsrMoonshine, heard: np.ndarray) -> None:
    words = " ".join(output.text for output, _ in asr.run(iter(chunks(heard))) if output is not None and output.final).lower()
    assert all(part in words for part in ANSWERS), words


async def talks(server: SoundServer, hall: Hall, state: Path, question: bytes) -> tuple[np.ndarray, dict[str, Any]]:
    """`talk`: asked once, then ended by Ctrl-C."""
    async with robot(server, "talk", "--json", "--state-dir", state) as process:
        checking = asyncio.create_task(commanded(server, "doctor", *HOTEL))
        await until(process.stderr, "listening after")
        assert (await checking)[-1] == {"check": "sound", "status": "good", "says": "microphone default, speaker default", "do": None}
        heard = await answer(hall, question)
        process.send_signal(signal.SIGINT)
        out, err = await process.communicate()
        assert process.returncode == 0, err
        assert b"Traceback" not in err, err
        return heard, json.loads(out)


async def serves(server: SoundServer, hall: Hall, state: Path, question: bytes, file: Path) -> tuple[np.ndarray, Any, Any]:
    """`run`: asked in the hall, and over the socket while the guest speaks."""
    async with robot(server, "run", "--state-dir", state) as process:
        await until(process.stdout, "microphone")
        answering = asyncio.create_task(answer(hall, question))
        await SystemClock().sleep(1)
        status = await owner.handed_over(state, {"op": "status"})
        asked = await owner.handed_over(state, owner.asking(wav.read(file)))
        heard = await answering
        process.send_signal(signal.SIGTERM)
        _, err = await process.communicate()
        assert (process.returncode, err) == (130, b"voxmeter: stopped\n")
        return heard, status["told"]["hearing"], asked["told"]


def test_a_guest_is_answered_through_pulseaudio_by_talk_and_by_the_service(tmp_path: Path, models: Path, question: Path) -> None:
    spoken = b"".join(wav.read(question))

    async def main() -> tuple[Any, Any]:
        async with SoundServer() as server, Hall(server) as hall:
            talked = await talks(server, hall, tmp_path / "talk", spoken)
            return talked, await serves(server, hall, tmp_path / "run", spoken, question)

    (heard, told), (served, hearing, asked) = asyncio.run(main())
    asr = AsrMoonshine(settings("asr_moonshine", models))
    assert_answered(asr, heard)
    assert_answered(asr, served)

    (turn,) = told["turns"]
    assert "breakfast" in turn["transcript"].lower()
    completed = {(stage["stage"], stage["engine"]) for stage in turn["stages"] if stage["outcome"] == "completed"}
    assert completed == {("asr", "asr_moonshine"), ("llm", "faq"), ("tts", "tts_piper")}
    assert Path(told["waterfalls"][0]).is_file()
    assert told["sessions"][0]["amount"] == told["usage"]["total"][0]["amount"] == turn["total"]["amount"]

    assert set(hearing) == {"device", "hearing", "why", "rate", "floor", "level", "speaker"}
    assert (hearing["hearing"], hearing["why"], hearing["speaker"]["speaking"], hearing["floor"]) == (True, "", True, "hearing")
    assert "breakfast" in asked["transcript"].lower()
    assert {stage["outcome"] for stage in asked["stages"]} == {"completed"}


def test_a_service_that_can_not_listen_says_why_tries_again_and_answers_who_asks(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "loud.wav", tone(1.0), 16_000)
    command = [*COMMAND, "run", "--profile", "scripted", "--state-dir", str(tmp_path / "s")]
    deaf = {"ALSA_CONFIG_PATH": "/nowhere", "VOXMETER_SOUND__INPUT": "mic"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | deaf) as service:
        assert service.stdout is not None
        assert service.stdout.readline().startswith("ready")
        assert service.stdout.readline().startswith("the conversation: ALSA's configuration /nowhere is not there; apt-get install")
        assert "NO: ALSA's configuration /nowhere" in voxmeter("status", "--state-dir", tmp_path / "s").out
        assert voxmeter("ask", tmp_path / "loud.wav", "--state-dir", tmp_path / "s").status == 0
        service.terminate()
        out, err = service.communicate(timeout=30)
    assert (service.returncode, out, err) == (130, "", "voxmeter: stopped\n")
