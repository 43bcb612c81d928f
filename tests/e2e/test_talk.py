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

TRIES = 3

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


class Guest:
    """Asks aloud, and again where the robot misheard, as guests do: a busy machine loses sound."""

    def __init__(self, hall: Hall, asr: AsrMoonshine, question: Path) -> None:
        self._hall, self._asr = hall, asr
        self.question = question
        self._pcm = b"".join(wav.read(question))

    async def is_answered(self) -> None:
        heard: list[str] = []
        while not heard or not all(part in heard[-1] for part in ANSWERS):
            assert len(heard) < TRIES, heard
            outputs = await asyncio.to_thread(list, self._asr.run(iter(chunks(await self._answer()))))
            heard.append(" ".join(output.text for output, _ in outputs if output is not None and output.final).lower())

    async def _answer(self) -> np.ndarray:
        """What is heard of the robot until it has been silent for a second."""
        clock = SystemClock()
        spoken = self._hall.say(self._pcm)
        await spoken.over()
        async with asyncio.timeout(PATIENCE_S):
            while True:
                await clock.sleep(0.3)
                _, heard = self._hall.heard_since(spoken.last_at)
                if detect.first_sound(heard, RATE_HZ) is not None and detect.first_sound(heard[-RATE_HZ:], RATE_HZ) is None:
                    return heard


async def talks(server: SoundServer, guest: Guest, state: Path) -> dict[str, Any]:
    """`talk`: ended by Ctrl-C."""
    async with robot(server, "talk", "--json", "--state-dir", state) as process:
        checking = asyncio.create_task(commanded(server, "doctor", *HOTEL))
        await until(process.stderr, "listening after")
        assert (await checking)[-1] == {"check": "sound", "status": "good", "says": "microphone default, speaker default", "do": None}
        await guest.is_answered()
        process.send_signal(signal.SIGINT)
        out, err = await process.communicate()
        assert process.returncode == 0, err
        assert b"Traceback" not in err, err
        told: dict[str, Any] = json.loads(out)
        return told


async def serves(server: SoundServer, guest: Guest, state: Path) -> tuple[Any, Any]:
    """`run`: asked in the hall, and over the socket while the guest speaks."""
    async with robot(server, "run", "--state-dir", state) as process:
        await until(process.stdout, "microphone")
        answering = asyncio.create_task(guest.is_answered())
        await SystemClock().sleep(1)
        status = await owner.handed_over(state, {"op": "status"})
        asked = await owner.handed_over(state, owner.asking(wav.read(guest.question)))
        await answering
        process.send_signal(signal.SIGTERM)
        _, err = await process.communicate()
        assert (process.returncode, err) == (130, b"voxmeter: stopped\n")
        return status["told"]["hearing"], asked["told"]


def test_a_guest_is_answered_through_pulseaudio_by_talk_and_by_the_service(tmp_path: Path, models: Path, question: Path) -> None:
    asr = AsrMoonshine(settings("asr_moonshine", models))

    async def main() -> tuple[Any, Any]:
        async with SoundServer() as server, Hall(server) as hall:
            guest = Guest(hall, asr, question)
            return await talks(server, guest, tmp_path / "talk"), await serves(server, guest, tmp_path / "run")

    told, (hearing, asked) = asyncio.run(main())
    turn = told["turns"][-1]
    assert "breakfast" in turn["transcript"].lower()
    completed = {(stage["stage"], stage["engine"]) for stage in turn["stages"] if stage["outcome"] == "completed"}
    assert completed == {("asr", "asr_moonshine"), ("llm", "faq"), ("tts", "tts_piper")}
    assert Path(told["waterfalls"][0]).is_file()
    assert told["sessions"][0]["amount"] == told["usage"]["total"][0]["amount"]

    assert set(hearing) == {"device", "hearing", "why", "rate", "floor", "level", "speaker"}
    assert (hearing["hearing"], hearing["why"], hearing["speaker"]["speaking"]) == (True, "", True)
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
