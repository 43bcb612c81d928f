"""A private PulseAudio whose devices are the robot's ears and mouth: what is played into the hall, its microphone hears.

    sink `hall`   --its monitor, remapped--> source `microphone`, which the robot records
    sink `speaker`, which the robot plays to --> sink `played`, whose monitor is recorded

Microphone and speaker can be unplugged; the two null sinks behind them stay, and so does whoever plays into or records them.

Latency: a null sink renders its sound in blocks as long as the shortest latency that any of its clients asks for, and its monitor has
a block when it is rendered, which is up to one block before it would sound. `norewinds` bounds the block at 50 ms; a client that asks
for 10 ms, as the hall's recorders do, makes it 10 ms for all. Everything runs at one rate, so that nothing is resampled on the way.
"""

import asyncio
import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Literal

from agent.clock import Clock, SystemClock
from agent.errors import MissingPart
from agent.values import RATE_HZ

Device = Literal["microphone", "speaker"]

HALL, PLAYED = "hall", "played"
"""The null sinks: what sounds around the robot, and what it plays."""

PROGRAMS = {"pulseaudio": "pulseaudio", "pactl": "pulseaudio-utils", "parec": "pulseaudio-utils", "pacat": "pulseaudio-utils"}
"""What must be installed, and the Debian package it comes in."""

START_SECONDS_MAX, POLL_SECONDS = 10, 0.05

STOP_SECONDS_MAX = 3

CLIENT_CONFIG = "autospawn = no\nenable-shm = no\n"

DEVICE_CONFIG = {
    "microphone": 'pcm.microphone { type asym capture.pcm { type pulse device "microphone" } hint.description "microphone of the hall" }\n',
    "speaker": 'pcm.speaker { type asym playback.pcm { type pulse device "speaker" } hint.description "speaker of the hall" }\n',
}

DEFAULT_CONFIG = """pcm.!default {
    type asym
    capture.pcm { type pulse device "microphone" }
    playback.pcm { type pulse device "speaker" }
    hint.description "microphone and speaker of the hall"
}
ctl.!default { type pulse }
"""


class SoundServer:
    """One running server. Nobody but this user reaches it, and it ends with the process that started it."""

    def __init__(self, clock: Clock | None = None, rate_hz: int = RATE_HZ) -> None:
        self.rate_hz = rate_hz
        self._clock = clock or SystemClock()
        self._folder = Path()
        self._process: asyncio.subprocess.Process | None = None
        self._modules: dict[Device, str] = {}  # number of its module, of what is plugged in, in the order it was plugged

    async def __aenter__(self) -> "SoundServer":
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.stop()

    async def start(self) -> None:
        """Returns when both devices are plugged in. Raises MissingPart where a program is not installed or the server does not start."""
        for program, package in PROGRAMS.items():
            if shutil.which(program) is None:
                raise MissingPart(f"the program {program} is not installed", f"apt-get install {package}")
        self._folder = Path(tempfile.mkdtemp(prefix="voxmeter-sound-"))  # short: a socket's path has at most 107 bytes
        (self._folder / "client.conf").write_text(CLIENT_CONFIG)
        self._process = await self._launch()
        await self._until_ready()
        await self.plug("microphone")
        await self.plug("speaker")

    @property
    def address(self) -> str:
        """Where it listens, for PulseAudio's own library."""
        return f"unix:{self._folder}/native"

    def environment(self) -> dict[str, str]:
        """What a process needs in its environment to find these devices, by PulseAudio's own library or by ALSA's (PortAudio)."""
        return {
            "PULSE_SERVER": self.address,
            "PULSE_COOKIE": f"{self._folder}/cookie",
            "PULSE_RUNTIME_PATH": str(self._folder),
            "PULSE_STATE_PATH": str(self._folder),
            "PULSE_CLIENTCONFIG": f"{self._folder}/client.conf",
            "ALSA_CONFIG_PATH": f"{self._folder}/asound.conf",
        }

    async def unplug(self, device: Device) -> None:
        """The device vanishes; streams on it break."""
        if (module := self._modules.pop(device, None)) is not None:
            await self._break_streams(device)
            await self._pactl("unload-module", module)
            self._list_devices()

    async def plug(self, device: Device) -> None:
        """The device is there again, behind those that were there before: to PortAudio it has another index."""
        if device in self._modules:
            return
        if device == "microphone":
            words = ["module-remap-source", "source_name=microphone", f"master={HALL}.monitor"]
        else:
            words = ["module-remap-sink", "sink_name=speaker", f"master={PLAYED}"]
        self._modules[device] = (await self._pactl("load-module", *words, "remix=no")).strip()
        await self._pactl(*(("set-default-source" if device == "microphone" else "set-default-sink"), device))
        self._list_devices()

    async def stop(self) -> None:
        if self._process is not None and self._process.returncode is None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            try:
                async with asyncio.timeout(STOP_SECONDS_MAX):
                    await self._process.wait()
            except TimeoutError:
                self._process.kill()
                await self._process.wait()
        self._process = None
        self._modules.clear()
        if self._folder.name:
            shutil.rmtree(self._folder, ignore_errors=True)

    async def _launch(self) -> asyncio.subprocess.Process:
        sink = f"module-null-sink format=s16le rate={self.rate_hz} channels=1 norewinds=1 sink_name="
        modules = (
            "module-cli exit_on_eof=1",  # our end of its standard input closes however we end
            f"module-native-protocol-unix socket={self._folder}/native auth-anonymous=1 auth-cookie-enabled=0",  # in a folder of 0700
            sink + HALL,
            sink + PLAYED,
        )
        with (self._folder / "log").open("wb") as log:
            return await asyncio.create_subprocess_exec(
                *("pulseaudio", "-n", "--daemonize=no", "--system=false", "--exit-idle-time=-1", "--use-pid-file=no"),
                *("--realtime=yes", "--high-priority=yes", "--disable-shm=yes", "--log-target=stderr"),
                *(word for module in modules for word in ("-L", module)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=log,
                env=os.environ | self.environment() | {"HOME": str(self._folder), "XDG_RUNTIME_DIR": str(self._folder)},
                start_new_session=True,  # Ctrl-C is for whoever started it to act on
            )

    async def _break_streams(self, device: Device) -> None:
        """PulseAudio would move them to whatever device is left, and a robot that has one microphone would hear by another."""
        assert self._process is not None
        assert self._process.stdin is not None
        kind, stream = ("sources", "source-output") if device == "microphone" else ("sinks", "sink-input")
        number = next(line[0] for line in await self._listed(kind) if line[1] == device)
        while broken := [line[0] for line in await self._listed(f"{stream}s") if line[1] == number]:
            self._process.stdin.write("".join(f"kill-{stream} {each}\n" for each in broken).encode())  # an order pactl does not know
            await self._clock.sleep(POLL_SECONDS)

    async def _listed(self, kind: str) -> list[list[str]]:
        return [line.split("\t") for line in (await self._pactl("list", "short", kind)).splitlines()]

    def _list_devices(self) -> None:
        """ALSA knows no hot-plug of PulseAudio's devices; whoever asks it anew reads this file."""
        text = "".join(DEVICE_CONFIG[device] for device in self._modules) + DEFAULT_CONFIG
        fresh = self._folder / "asound.conf.new"
        fresh.write_text(text)
        fresh.replace(self._folder / "asound.conf")

    async def _until_ready(self) -> None:
        assert self._process is not None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START_SECONDS_MAX):
                while self._process.returncode is None:
                    if (self._folder / "native").exists():
                        return
                    await self._clock.sleep(POLL_SECONDS)
        words = (self._folder / "log").read_text(errors="replace").strip().splitlines()
        raise MissingPart(f"pulseaudio does not start: {words[-1] if words else 'no word why'}", "try it: pulseaudio -n -v")

    async def _pactl(self, *words: str) -> str:
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec("pactl", *words, stdout=pipe, stderr=pipe, env=os.environ | self.environment())
        said, problem = await process.communicate()
        if process.returncode != 0:
            raise MissingPart(f"pactl {' '.join(words)}: {problem.decode(errors='replace').strip()}", "is the sound server still running?")
        return said.decode()
