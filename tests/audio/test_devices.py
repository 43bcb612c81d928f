"""Which device a name means, and what is said where there is none."""

import os
import subprocess
import sys

import pytest

from agent.audio import devices
from agent.audio.devices import Device, Found, find
from agent.errors import MissingPart

HALL = Device(0, "USB Hall: Audio (hw:1,0)", 1, 0, 16_000)
BUILT_IN = Device(1, "Built-in", 2, 2, 48_000, default_input=True, default_output=True)
VOICE = Device(2, "Voice", 0, 2, 48_000)
ALL = [HALL, BUILT_IN, VOICE]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("", Found(BUILT_IN)),
        ("usb hall", Found(HALL)),
        ("built-in", Found(BUILT_IN)),
        ("Voice", Found(BUILT_IN, instead=True)),  # it records nothing
        ("gone", Found(BUILT_IN, instead=True)),
    ],
)
def test_a_name_or_a_part_of_one_and_else_the_systems_choice(name: str, found: Found) -> None:
    assert find(ALL, name, "input") == found


def test_a_whole_name_comes_before_a_part_of_another() -> None:
    longer = Device(3, "Voice (old)", 0, 2, 48_000)
    assert find([longer, VOICE], "voice", "output") == Found(VOICE)


def test_without_a_device_that_records_it_says_what_to_do() -> None:
    with pytest.raises(MissingPart, match="there is no microphone; plug one in"):
        find([VOICE], "hall", "input")


def test_without_a_default_the_first_that_fits_is_taken() -> None:
    assert find([VOICE, HALL], "", "input") == Found(HALL)


def test_a_child_lists_the_devices_of_this_machine() -> None:
    assert devices.look() == devices.listed()


def test_without_alsas_configuration_it_says_so_where_portaudio_would_end_the_process() -> None:
    script = (
        "from agent.audio import devices\nfrom agent.errors import MissingPart\ntry: devices.names()\nexcept MissingPart as e: print(e)"
    )
    environment = os.environ | {"ALSA_CONFIG_PATH": "/nonexistent"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "ALSA's configuration /nonexistent is not there; apt-get install libasound2-data"
