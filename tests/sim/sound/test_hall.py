"""A hall on the real PulseAudio: what is said reaches the microphone when it is said to, and the robot's voice comes back."""

import asyncio
import contextlib
import os

import numpy as np
import pytest

from agent.clock import SystemClock
from agent.errors import BadInput, NoLink
from agent.sim.sound import detect
from agent.sim.sound.hall import ECHO_DELAY_MS_MIN, SPEECH_DB, Hall
from agent.sim.sound.server import SoundServer
from agent.sim.sound.stream import Stream
from agent.values import RATE_HZ

WAIT_SECONDS_MAX = 5.0


def noise(seconds: float, seed: int, level: float = 0.1) -> detect.Samples:
    return (np.random.default_rng(seed).normal(0, level, int(seconds * RATE_HZ))).astype(np.float32)


def heard_by_robot(server: SoundServer, seconds: float) -> detect.Samples:
    with contextlib.closing(Stream(server, "microphone", plays=False, latency_ms=20)) as microphone:
        return detect.floats(microphone.read(int(seconds * RATE_HZ) * 2))


def played_by_robot(server: SoundServer, sound: detect.Samples) -> None:
    with contextlib.closing(Stream(server, "speaker", plays=True, latency_ms=200)) as speaker:
        speaker.write(detect.pcm(np.concatenate([sound, np.zeros(RATE_HZ // 4, np.float32)])))


async def guest_is_heard(server: SoundServer, hall: Hall) -> None:
    said = noise(0.6, seed=2)
    listening = asyncio.create_task(asyncio.to_thread(heard_by_robot, server, 1.2))
    await SystemClock().sleep(0.1)
    spoken = hall.say(detect.pcm(said))
    assert spoken.last_at - spoken.first_at == pytest.approx(0.6, abs=0.001)
    await spoken.over()
    since, recorded = hall.microphone_since(spoken.first_at - 0.05)
    at = detect.place(said, recorded)
    assert at is not None
    assert since + at / RATE_HZ == pytest.approx(spoken.first_at, abs=0.02)
    heard = await listening
    at = detect.place(said, heard)
    assert at is not None
    assert detect.speech_level_db(heard[at : at + len(said)], RATE_HZ) == pytest.approx(SPEECH_DB, abs=1)


async def echo_of(voice: detect.Samples, hall: Hall, since: float) -> tuple[float, detect.Samples, int]:
    """When the microphone's sound began, that sound, and where in it the robot's voice is: as soon as it is, however busy the machine."""
    until = SystemClock().monotonic() + WAIT_SECONDS_MAX
    while SystemClock().monotonic() < until:
        heard_since, heard = hall.microphone_since(since)
        if (at := detect.place(voice, heard)) is not None and at + len(voice) <= len(heard):
            return heard_since, heard, at
        await SystemClock().sleep(0.1)
    raise AssertionError("no echo is heard")


async def robot_comes_back(server: SoundServer, hall: Hall) -> None:
    voice = noise(0.6, seed=3)
    hall.echo(-10, delay_ms=120, seed=4)
    began = SystemClock().monotonic()
    await asyncio.to_thread(played_by_robot, server, voice)
    await SystemClock().sleep(0.2)
    since, played = hall.heard_since(began - 0.05)  # a monitor has a block when it is rendered: a little early
    begin = detect.first_sound(played, RATE_HZ)
    assert begin is not None
    end = detect.silent_at(played, RATE_HZ, begin)
    assert end is not None
    assert end - begin == pytest.approx(0.6, abs=0.02)
    at = detect.place(voice, played)
    assert at is not None
    heard_since, heard, echo_at = await echo_of(voice, hall, since)
    assert heard_since + echo_at / RATE_HZ - since - at / RATE_HZ == pytest.approx(0.12, abs=0.02)
    assert detect.speech_level_db(heard[echo_at : echo_at + len(voice)], RATE_HZ) == pytest.approx(-30, abs=2)
    hall.echo(None)


async def others_babble(hall: Hall) -> None:
    hall.babble([detect.pcm(noise(0.5, seed=seed)) for seed in (1, 2)], snr_db=10)
    await SystemClock().sleep(0.7)
    hall.babble([], snr_db=None)
    _, crowd = hall.microphone_since(SystemClock().monotonic() - 0.4)
    assert detect.speech_level_db(crowd[: RATE_HZ // 5], RATE_HZ) == pytest.approx(SPEECH_DB - 10, abs=2)


def test_a_hall_in_which_a_guest_speaks_the_robot_echoes_and_others_babble() -> None:
    async def main() -> None:
        async with SoundServer() as server, Hall(server) as hall:
            with pytest.raises(BadInput, match="at least"):
                hall.echo(-10, delay_ms=ECHO_DELAY_MS_MIN - 1)
            await guest_is_heard(server, hall)
            await robot_comes_back(server, hall)
            await others_babble(hall)
            await server.unplug("speaker")  # the recorders do not hang on the robot's devices
            await server.unplug("microphone")
            before = hall.microphone_since(0)[1].size
            await SystemClock().sleep(0.1)
            assert hall.microphone_since(0)[1].size > before

    asyncio.run(main())


def test_a_hall_leaves_the_environment_alone_and_who_waits_in_it_is_told_that_its_server_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("threads of others may be reading it")

    async def main() -> None:
        async with SoundServer() as server:
            with monkeypatch.context() as patched:
                patched.setattr(os, "putenv", refuse)
                patched.setattr(os, "unsetenv", refuse)
                hall = Hall(server)
                await hall.open()
            await server.stop()
            try:
                with pytest.raises(NoLink, match="nothing any more"):
                    await hall.until(10**9)
            finally:
                hall.close()

    asyncio.run(main())


def test_a_hall_that_is_not_open_or_has_no_server_says_so() -> None:
    async def main() -> None:
        server = SoundServer()
        with pytest.raises(NoLink, match="open it first"):
            Hall(server).say(b"")
        with pytest.raises(NoLink, match="still running"):
            async with Hall(server):
                pass
        async with server:
            hall = Hall(server)
            await hall.open()
        hall.close()  # after its server: the threads have ended

    asyncio.run(main())
