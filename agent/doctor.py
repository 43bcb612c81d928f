"""Examines the machine: profile and prices, models, disk and what a durable write costs on it, clock, sound."""

import os
import shutil
import statistics
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from agent import profile as profiles
from agent.audio import devices
from agent.audio.device.library import PortAudio
from agent.clock import Clock
from agent.errors import MissingPart, VoxmeterError
from agent.fitting import check_names, models_of, read_cards
from agent.store.db import sqlite_version
from agent.values import RATE_HZ
from agent.weights import catalog, verify

FREE_BYTES_MIN = 512 * 1024 * 1024
"""Below this a robot should not start a week offline."""

SYNC_MS_SLOW = 50
"""A disk slower than this delays every turn audibly."""

SYNC_WRITES = 30

KINDS: tuple[devices.Kind, ...] = ("input", "output")

ANSWER_SECONDS_MAX = 2
"""A device that has neither taken nor given sound by then is dead."""

Status = Literal["good", "note", "bad"]


@dataclass(frozen=True, slots=True)
class Check:
    """One finding."""

    name: str
    status: Status
    says: str
    todo: str = ""


def examine(profile: str, state: Path, models: Path, clock: Clock) -> list[Check]:
    """All checks, each on its own: one that fails does not hide the next."""
    checks: dict[str, Callable[[], Check]] = {
        "profile": lambda: _profile(profile),
        "models": lambda: _models(profile, models),
        "disk": lambda: _disk(state),
        "sync": lambda: _sync(state, clock),
        "clock": lambda: _clock(clock),
        "sound": lambda: _sound(profile),
    }
    return [_safely(name, check) for name, check in checks.items()]


def _safely(name: str, check: Callable[[], Check]) -> Check:
    try:
        return check()
    except VoxmeterError as error:
        return Check(name, "bad", error.message, error.todo)
    except OSError as error:
        return Check(name, "bad", f"{error.filename}: {error.strerror}", "check the path and its rights")


def _profile(name: str) -> Check:
    profile = profiles.load(name)
    check_names(profile, catalog.read())
    card = read_cards(profile).versions[-1]
    return Check("profile", "good", f"{name}: device {profile.device.id}, rate card {card.name}")


def _models(name: str, root: Path) -> Check:
    wanted = models_of(name, catalog.read())
    bad = [f"{model.name}: {problem}" for model in wanted for problem in verify.problems(model, root, thorough=False)]
    if bad:
        return Check("models", "bad", "; ".join(bad), "run: voxmeter models pull")
    return Check("models", "good", f"{len(wanted)} ready in {root}")


def _disk(state: Path) -> Check:
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    free = shutil.disk_usage(state).free
    says = f"{free / 1e9:.1f} GB free for {state}; SQLite {sqlite_version()}"
    return Check("disk", "good", says) if free >= FREE_BYTES_MIN else Check("disk", "bad", says, f"free {FREE_BYTES_MIN // 2**20} MiB")


def _sync(state: Path, clock: Clock) -> Check:
    """What the commit of a record costs here: a small write and an fsync."""
    took = []
    with tempfile.TemporaryFile(dir=state, buffering=0) as file:
        for _ in range(SYNC_WRITES):
            began = clock.monotonic()
            file.write(bytes(4096))
            os.fsync(file.fileno())
            took.append((clock.monotonic() - began) * 1000)
    says = f"a durable write takes {statistics.median(took):.2f} ms, at most {max(took):.2f} ms of {SYNC_WRITES}"
    slow = statistics.median(took) > SYNC_MS_SLOW
    return Check("sync", "note" if slow else "good", says, "a faster card would answer sooner" if slow else "")


def _clock(clock: Clock) -> Check:
    quality = clock.quality()
    says = f"quality {quality}, {clock.utc():%Y-%m-%d %H:%M:%S} UTC, boot {clock.boot_id()[:8]} + {clock.boottime_ms() // 1000} s"
    if quality in ("ntp", "signed"):
        return Check("clock", "good", says)
    return Check("clock", "note", says, "records carry boot time only, until the clock is synchronised (NTP)")


def _sound(name: str) -> Check:
    """Which devices a conversation would use, and whether they answer: each is opened for a moment."""
    sound = profiles.load(name).sound
    wanted = sound or profiles.Sound()
    says, troubles = [], []
    for kind in KINDS:
        try:
            says.append(f"{devices.CALLED[kind]} {_answering(kind, wanted)}")
        except VoxmeterError as error:
            troubles.append(error)
    if not troubles:
        return Check("sound", "good", ", ".join(says))
    first = "; ".join([*says, *dict.fromkeys(trouble.message for trouble in troubles)])
    return Check("sound", "note" if sound is None else "bad", first, troubles[0].todo)


def _answering(kind: devices.Kind, sound: profiles.Sound) -> str:
    """The device, once it has taken or given sound. Raises MissingPart where it does not."""
    name = sound.input if kind == "input" else sound.output
    library, came = PortAudio(), threading.Event()
    found = devices.find(library.devices(), name, kind)
    rates_hz = (RATE_HZ, found.device.rate_hz)

    def arrived(_pcm: bytes, _age_s: float, _lost: bool) -> None:
        came.set()

    def silence(samples: int, _rate_hz: int, _in_s: float, _dry: bool) -> bytes:
        came.set()
        return bytes(samples * 2)

    if kind == "input":
        stream = library.open_input(found.device, rates_hz, sound.block_ms, sound.latency_ms, arrived)
    else:
        stream = library.open_output(found.device, rates_hz, sound.block_ms, sound.latency_ms, silence)
    try:
        if not came.wait(ANSWER_SECONDS_MAX):
            raise MissingPart(f"{found.device.name} does not answer", "check its plug, and what else uses it")
    finally:
        stream.close()
    return f"{found.device.name}{f', for there is no {name}' if found.instead else ''}"
