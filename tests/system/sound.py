"""The hall around a robot: a system-wide PulseAudio in it, whose microphone hears what is played into the hall, and a room's faint noise.

sink `hall`   --its monitor, remapped--> source `microphone`, which the robot records
sink `speaker`, which the robot plays to --> sink `played`, whose monitor is recorded
"""

import numpy as np

from tests.system.bed import Machine

DEVICES = """\
load-module module-null-sink sink_name=hall rate=16000 channels=1 norewinds=1
load-module module-null-sink sink_name=played rate=16000 channels=1 norewinds=1
load-module module-remap-source source_name=microphone master=hall.monitor remix=no
load-module module-remap-sink sink_name=speaker master=played remix=no
set-default-source microphone
set-default-sink speaker
"""

COOKIE = "/run/pulse/.config/pulse/cookie"

SERVER = f"""\
[Service]
ExecStart=/usr/bin/pulseaudio --system --disallow-exit --exit-idle-time=-1
ExecStartPost=/bin/sh -c 'until test -S /run/pulse/native -a -f {COOKIE}; do sleep 0.1; done'
ExecStartPost=/bin/chgrp -R pulse-access /run/pulse/.config
ExecStartPost=/bin/chmod 0640 {COOKIE}
[Install]
WantedBy=multi-user.target
"""

NOISE_SECONDS = 20
NOISE_SIZE = 20
"""Of 32,768: a quiet room, -64 dB. A microphone that gives only zeros counts as muted."""

ROOM = """\
[Unit]
After=pulseaudio.service
Requires=pulseaudio.service
[Service]
Environment=PULSE_SERVER=unix:/run/pulse/native
Environment=PULSE_COOKIE=/run/pulse/.config/pulse/cookie
ExecStart=/bin/sh -c 'while cat /opt/noise; do :; done | pacat --device=hall --rate=16000 --channels=1 --format=s16le --latency-msec=50'
[Install]
WantedBy=multi-user.target
"""

CLIENT = ("env", "PULSE_SERVER=unix:/run/pulse/native", f"PULSE_COOKIE={COOKIE}")


def furnish(machine: Machine) -> None:
    """From now on, and after every boot, the robot stands in a hall."""
    noise = np.random.default_rng(1).normal(0, NOISE_SIZE, NOISE_SECONDS * 16_000)
    machine.write(noise.astype("<i2").tobytes(), "/opt/noise")
    machine.write(DEVICES.encode(), "/etc/pulse/system.pa.d/hall.pa")
    machine.write(SERVER.encode(), "/etc/systemd/system/pulseaudio.service")
    machine.write(ROOM.encode(), "/etc/systemd/system/room.service")
    machine.ok("systemctl", "enable", "--now", "pulseaudio", "room")


def play(machine: Machine, recording: str) -> None:
    """Plays a WAV of the robot's disk into the hall, until it is over."""
    machine.ok(*CLIENT, "paplay", "--device=hall", recording)


PEAK = "import array, sys; heard = sys.stdin.buffer.read(); print(max(map(abs, array.array('h', heard[: len(heard) & ~1])), default=0))"


def loudest(machine: Machine, seconds: int) -> float:
    """The loudest sample that the robot plays within so many seconds from now, from 0 to 1."""
    words = ("timeout", str(seconds), *CLIENT, "parec", "--device=played.monitor", "--rate=16000", "--channels=1", "--format=s16le")
    return int(machine.ok("sh", "-c", f'{" ".join(words)} | python3 -c "$1"', "sh", PEAK, seconds=seconds + 30)) / 32_768
