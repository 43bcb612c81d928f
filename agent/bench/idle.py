"""`bench idle`: what a robot that listens takes of a processor while nobody speaks, process by process.

It is the service itself, with its microphone open on a virtual one in which a quiet room is heard. Seconds of computing are counted, not
time, so that a machine that does something else meanwhile says nearly the same.
"""

import asyncio
import contextlib
import itertools
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np

from agent import processes, service
from agent import profile as profiles
from agent.clock import Clock, SystemClock
from agent.errors import BadInput, EngineFailed
from agent.sim.sound.server import HALL, SoundServer
from agent.values import RATE_HZ

REACH = 0.05
"""Of one core."""

ROOM_DB = -65.0
"""A quiet room's noise; a microphone that gives only zeros counts as muted."""

HEARS_SECONDS_MAX, POLL_SECONDS = 60.0, 0.5

SETTLE_SECONDS = 30.0
"""After it hears: what a start leaves to be done is done, and the loudspeaker rests."""

STOP_SECONDS_MAX = 20.0


async def run(name: str, seconds: float) -> dict[str, Any]:
    """`{profile, seconds, share, reach, reached, processes, gone}`: shares of one core, in all and of each process that is there at the
    end, and who was there only at the beginning. Raises BadInput, EngineFailed where the robot ends."""
    if profiles.load(name).sound is None:
        raise BadInput(f"the profile {name} has no [sound]", "measure one that listens, for example hotel")
    clock = SystemClock()
    with tempfile.TemporaryDirectory() as folder:
        async with SoundServer(clock) as server, _quiet_room(server, Path(folder)), _robot(name, server, Path(folder), clock) as eldest:
            await clock.sleep(SETTLE_SECONDS)
            before, names, began = _taken_s(eldest), _names(eldest), clock.monotonic()
            await clock.sleep(seconds)
            after, names, took = _taken_s(eldest), names | _names(eldest), clock.monotonic() - began
    if not after[eldest]:
        raise EngineFailed("the robot ended while it was measured", f"try it: voxmeter run --profile {name}")
    spent = spent_s(before, after, eldest)
    share = sum(spent.values()) / took
    told = {"profile": name, "seconds": seconds, "share": round(share, 4), "reach": REACH, "reached": share <= REACH}
    shares = [(names.get(one, str(one)), round(cpu_s / took, 4)) for one, cpu_s in spent.items()]
    return told | {"processes": dict(shares), "gone": [names.get(one, str(one)) for one in before if one not in after]}


def spent_s(before: dict[int, float], after: dict[int, float], eldest: int) -> dict[int, float]:
    """Seconds of computing of each process that is there `after`; one that has come had none before.

    What one that has gone had taken in all is its parent's, who buried it: of that the part from before is not counted.
    """
    spent = {one: cpu_s - before.get(one, 0.0) for one, cpu_s in after.items()}
    spent[eldest] -= sum(cpu_s for one, cpu_s in before.items() if one not in after)
    return spent


def _taken_s(eldest: int) -> dict[int, float]:
    return {one: processes.cpu_s([one]) for one in processes.family(eldest)}


def _names(eldest: int) -> dict[int, str]:
    return {one: _called(one, eldest) for one in processes.family(eldest)}


@contextlib.asynccontextmanager
async def _quiet_room(server: SoundServer, folder: Path) -> AsyncIterator[None]:
    """Its noise repeats after a minute."""
    noise = np.random.default_rng(1).normal(0, 32_768 * 10 ** (ROOM_DB / 20), RATE_HZ * 60).astype("<i2").tobytes()
    (folder / "noise").write_bytes(noise)
    loop = 'while cat "$0"; do :; done | exec pacat --raw --format=s16le --rate=16000 --channels=1 --latency-msec=50 --device="$1"'
    words = ("sh", "-c", loop, str(folder / "noise"), HALL)
    playing = await asyncio.create_subprocess_exec(*words, env=os.environ | server.environment(), stderr=asyncio.subprocess.DEVNULL)
    try:
        yield
    finally:
        for one in reversed(processes.family(playing.pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(one, 9)
        await playing.wait()


@contextlib.asynccontextmanager
async def _robot(name: str, server: SoundServer, folder: Path, clock: Clock) -> AsyncIterator[int]:
    """Its process, once it hears."""
    words = (sys.executable, "-P", "-m", "agent", "run", "--profile", name, "--state-dir", str(folder / "state"))
    quiet = asyncio.subprocess.DEVNULL
    robot = await asyncio.create_subprocess_exec(*words, env=os.environ | server.environment(), stdout=quiet, stderr=quiet)
    try:
        async with asyncio.timeout(HEARS_SECONDS_MAX):
            while not await _hears(name, folder / "state"):
                if robot.returncode is not None:
                    raise EngineFailed(f"the robot ended with {robot.returncode}", f"try it: voxmeter run --profile {name}")
                await clock.sleep(POLL_SECONDS)
        yield robot.pid
    except TimeoutError:
        raise EngineFailed(f"the robot does not hear within {HEARS_SECONDS_MAX:.0f} s", "run: voxmeter doctor") from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            robot.terminate()
        try:
            async with asyncio.timeout(STOP_SECONDS_MAX):
                await robot.wait()
        except TimeoutError:
            robot.kill()
            await robot.wait()


async def _hears(name: str, state: Path) -> bool:
    try:
        told = await service.status(name, state)
    except BadInput:  # no books yet
        return False
    return bool(told["running"] and (told["hearing"] or {}).get("hearing"))


def _called(process: int, eldest: int) -> str:
    """An engine by its name, the robot itself, or else its number."""
    try:
        words = Path(f"/proc/{process}/cmdline").read_text(errors="replace").split("\0")
    except OSError:
        words = []
    engine = next((after for before, after in itertools.pairwise(words) if before == "agent.engines.child"), "")
    return "robot" if process == eldest else engine or str(process)
