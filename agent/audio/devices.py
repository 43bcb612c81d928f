"""What sound devices this machine has, and which of them a name in a profile means."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from agent.errors import MissingPart

Kind = Literal["input", "output"]

LOOK_SECONDS_MAX = 10
"""A child that has not told the devices by then hangs in a driver."""

ALSA_CONFIG = "/usr/share/alsa/alsa.conf"
"""Where PortAudio finds none, it ends the whole process."""

CALLED: dict[Kind, str] = {"input": "microphone", "output": "speaker"}


@dataclass(frozen=True, slots=True)
class Device:
    """One device as PortAudio lists it; its index holds until the list is made anew."""

    index: int
    name: str
    inputs: int
    """Channels it records; 0: it is no microphone."""
    outputs: int
    """Channels it plays; 0: it is no speaker."""
    rate_hz: int
    """The rate it calls its own."""
    default_input: bool = False
    default_output: bool = False

    def channels(self, kind: Kind) -> int:
        return self.inputs if kind == "input" else self.outputs

    def default(self, kind: Kind) -> bool:
        return self.default_input if kind == "input" else self.default_output


@dataclass(frozen=True, slots=True)
class Found:
    """The device to use."""

    device: Device
    instead: bool = False
    """The one that was asked for is not there: this is the system's own choice."""


def library() -> ModuleType:
    """The sound library, opened. Raises MissingPart where it, or what it needs, is not installed."""
    check_alsa()
    try:
        import sounddevice  # noqa: PLC0415  loading it opens the sound system, which most commands do not need
    except ModuleNotFoundError as error:
        raise MissingPart("the Python package sounddevice is not installed", "pip install 'voxmeter[audio]'") from error
    except OSError as error:
        raise MissingPart("PortAudio is not installed", "apt-get install libportaudio2 (files work without it)") from error
    module: ModuleType = sounddevice
    return module


def check_alsa() -> None:
    """Raises MissingPart where PortAudio would abort: asked before each time it is initialised."""
    paths = os.environ.get("ALSA_CONFIG_PATH") or ALSA_CONFIG
    if sys.platform == "linux" and not any(Path(path).is_file() for path in paths.split(":")):
        raise MissingPart(f"ALSA's configuration {paths} is not there", "apt-get install libasound2-data")


def listed() -> list[Device]:
    """All devices, as of when this process opened the sound library. Raises MissingPart where there is no such library."""
    sounddevice = library()
    try:
        rows: list[dict[str, Any]] = list(sounddevice.query_devices())
        defaults = [(api["default_input_device"], api["default_output_device"]) for api in sounddevice.query_hostapis()]
    except sounddevice.PortAudioError as error:
        raise MissingPart(f"the sound system does not answer: {error}", "check it with: aplay -l") from error
    first = next((pair for pair in defaults if max(pair) >= 0), (-1, -1))
    return [_device(row, *first) for row in rows]


def names() -> list[str]:
    """Names of inputs and outputs. Raises MissingPart where the sound library is not installed."""
    return [device.name for device in listed()]


def find(devices: Sequence[Device], name: str, kind: Kind) -> Found:
    """The device of that name, else one whose name has it as a part, else the system's own choice. Raises MissingPart: none."""
    fit = [device for device in devices if device.channels(kind)]
    wanted = name.strip().casefold()
    if wanted:
        exact = [device for device in fit if device.name.casefold() == wanted]
        part = [device for device in fit if wanted in device.name.casefold()]
        if exact or part:
            return Found((exact or part)[0])
    default = [device for device in fit if device.default(kind)]
    if not fit:
        raise MissingPart(f"there is no {CALLED[kind]}", "plug one in, or use files: --wav IN.wav --out OUT.wav")
    return Found((default or fit)[0], instead=bool(wanted))


def look() -> list[Device]:
    """All devices as they are now, told by a child process: this one's list stays as it was while it has a stream open."""
    words = [sys.executable, "-m", "agent.audio.devices"]
    try:
        done = subprocess.run(words, capture_output=True, timeout=LOOK_SECONDS_MAX, check=True)
        return [Device(**row) for row in json.loads(done.stdout)]
    except (subprocess.SubprocessError, OSError, ValueError) as error:
        raise MissingPart(f"the sound devices can't be listed: {error}", "check them with: aplay -l") from error


def _device(row: dict[str, Any], default_input: int, default_output: int) -> Device:
    index = int(row["index"])
    return Device(
        index,
        str(row["name"]),
        int(row["max_input_channels"]),
        int(row["max_output_channels"]),
        int(row["default_samplerate"]),
        index == default_input,
        index == default_output,
    )


if __name__ == "__main__":
    sys.stdout.write(json.dumps([asdict(device) for device in listed()]))
