"""The private sound server against the real PulseAudio: its devices come, go and return, and nothing is left of it."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent.errors import MissingPart
from agent.sim.sound import server
from agent.sim.sound.server import Device, SoundServer

PORTAUDIO_DEVICES = "import sounddevice; print(*(device['name'] for device in sounddevice.query_devices()), sep='\\n')"


def told(sound: SoundServer, *words: str) -> str:
    return subprocess.run(words, env=os.environ | sound.environment(), check=True, capture_output=True, text=True).stdout


def portaudio_names(sound: SoundServer) -> list[str]:
    return [name.split(":")[0] for name in told(sound, sys.executable, "-c", PORTAUDIO_DEVICES).splitlines()]


def test_microphone_and_speaker_can_be_unplugged_and_return_under_another_index() -> None:
    async def main() -> None:
        async with SoundServer() as sound:
            assert portaudio_names(sound) == ["microphone", "speaker", "default"]
            await sound.unplug("microphone")
            await sound.unplug("microphone")  # twice is once
            assert "\tmicrophone\t" not in told(sound, "pactl", "list", "short", "sources")
            assert portaudio_names(sound) == ["speaker", "default"]
            await sound.plug("microphone")
            await sound.plug("microphone")
            assert told(sound, "pactl", "list", "short", "sources").count("\tmicrophone\t") == 1
            assert portaudio_names(sound) == ["speaker", "microphone", "default"]
            assert told(sound, "pactl", "get-default-source").strip() == "microphone"
            assert told(sound, "pactl", "get-default-sink").strip() == "speaker"

    asyncio.run(main())


def test_streams_on_a_device_that_is_unplugged_break_and_are_not_moved_elsewhere() -> None:
    async def main() -> None:
        async with SoundServer() as sound:
            streams = [
                await asyncio.create_subprocess_exec(
                    *(*words, "--raw", "--latency-msec=10"),
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.DEVNULL,
                    env=os.environ | sound.environment(),
                )
                for words in (("parec", "-d", "microphone"), ("pacat", "-d", "speaker", "/dev/zero"))
            ]
            recorded = streams[0].stdout
            assert recorded is not None
            await recorded.readexactly(320)
            devices: tuple[Device, ...] = ("microphone", "speaker")
            for device, stream in zip(devices, streams, strict=True):
                await sound.unplug(device)
                async with asyncio.timeout(5):
                    await stream.communicate()
                assert stream.returncode != 0

    asyncio.run(main())


def test_nothing_is_left_of_it() -> None:
    async def main() -> Path:
        async with SoundServer() as sound:
            folder = Path(sound.environment()["PULSE_RUNTIME_PATH"])
            assert told(sound, "stat", "--format=%a", str(folder)).strip() == "700"  # the socket asks nobody who he is
            with pytest.raises(MissingPart, match="no-such-module"):
                await sound._pactl("load-module", "no-such-module")
        await sound.stop()
        return folder

    assert not asyncio.run(main()).exists()


def test_a_program_that_is_not_installed_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingPart, match="apt-get install pulseaudio"):
        asyncio.run(SoundServer().start())


def test_a_server_that_does_not_start_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for program in server.PROGRAMS:
        (tmp_path / program).write_text("#!/bin/sh\necho no room for me >&2\nexit 1\n")
        (tmp_path / program).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    async def main() -> None:
        with pytest.raises(MissingPart, match="no room for me"):
            async with SoundServer():
                pass

    asyncio.run(main())
