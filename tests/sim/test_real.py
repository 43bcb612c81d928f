"""The world for real: its processes, its clocks, and whole scenarios through the command line."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.clock import SystemClock
from agent.errors import NoLink
from agent.sim.real.backend import Backend
from agent.sim.real.device.clock import HurriedLoop, LeapingClock
from agent.sim.real.device.settings import Settings, Way
from agent.sim.real.process import Child
from agent.sim.real.view import Moment
from tests.e2e.helpers import voxmeter

ECHO = """
import json, sys
print(json.dumps({"ready": True}), flush=True)
for line in sys.stdin:
    order = json.loads(line)
    if order["op"] == "die":
        sys.exit("it was too much")
    if order["op"] == "fail":
        print(json.dumps({"id": order["id"], "error": "not possible"}), flush=True)
    elif order["op"] != "wait":
        print(json.dumps({"id": order["id"], "told": order["word"]}), flush=True)
"""

STORY = """
name = "small"
about = "a bit of everything, short"
checks = ["units", "money", "gaps", "acks", "drained", "forks", "window"]
drain_s_max = 60

[[phase]]
about = "a day begins"
seconds = 4
turns = 2
happens = [
  { what = "backup_backend", at_s = 2 },
  { what = "cut_power", at_s = 2, share = 0.3, down_s = 0.5 },
]

[[phase]]
about = "broker and backend fail, a clock is set"
leap_hours = 5
seconds = 6
turns = 2
happens = [
  { what = "kill_broker", at_s = 0.5, down_s = 0.5 },
  { what = "kill_backend", at_s = 3, down_s = 0.5 },
  { what = "step_clock", at_s = 1, share = 0.3, hours = 48 },
]

[[phase]]
about = "the backend comes back as it was"
seconds = 4
turns = 1
happens = [{ what = "restore_backend", at_s = 1, down_s = 0.5 }]

[[phase]]
about = "everybody speaks once more, and so learns of it"
seconds = 2
turns = 1
"""


STEERED = """
name = "steered"
about = "commands, a power cut, and somebody with a robot's keys"
checks = ["commands", "attacks", "units"]
untrusted_clocks = 0.3
drain_s_max = 60

[[phase]]
about = "commands"
seconds = 5
turns = 1
orders = 2

[[phase]]
about = "a power cut in the middle of them"
seconds = 5
orders = 2
happens = [{ what = "cut_power", at_s = 1, share = 0.3, down_s = 0.5 }]

[[phase]]
about = "a robot's keys are copied, and the broker is in the wrong hands"
seconds = 7
turns = 1
happens = [{ what = "hijack_robot", share = 0.3 }, { what = "hijack_broker", at_s = 1, down_s = 4 }]

[[phase]]
about = "what was counted meanwhile is told"
seconds = 28
"""


PATIENCE_S = 60
"""A child that should have answered and has not fails its test instead of holding up all of them."""


def settings(folder: Path = Path("/nowhere"), **told: Any) -> Settings:
    held: dict[str, Any] = {"name": "r", "folder": str(folder), "tenant": "t", "device": "r", "account": "a", "seed": 1, "token": ""}
    return Settings(**held | {"ways": [Way("https", 1, "")]} | told)


def with_child(tmp_path: Path, work: Callable[[Child, list[dict[str, Any]]], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        unasked: list[dict[str, Any]] = []
        child = await Child.start([sys.executable, "-c", ECHO], tmp_path / "log", unasked.append)
        try:
            async with asyncio.timeout(PATIENCE_S):
                await work(child, unasked)
        finally:
            await child.kill()

    asyncio.run(main())


def test_a_child_answers_each_order_and_says_things_unasked(tmp_path: Path) -> None:
    async def work(child: Child, unasked: list[dict[str, Any]]) -> None:
        assert await asyncio.gather(*(child.ask("say", word=word) for word in "abc")) == ["a", "b", "c"]
        assert unasked == [{"ready": True}]
        with pytest.raises(NoLink, match="not possible"):
            await child.ask("fail")

    with_child(tmp_path, work)


def test_a_child_that_ends_by_itself_fails_whoever_waits_with_its_last_words(tmp_path: Path) -> None:
    async def work(child: Child, _: list[dict[str, Any]]) -> None:
        with pytest.raises(NoLink, match="it was too much"):
            await child.ask("die")
        with pytest.raises(NoLink, match="it was too much"):
            await child.ask("say", word="a")

    with_child(tmp_path, work)


def test_a_child_that_is_killed_fails_whoever_waits_and_one_that_is_let_go_ends(tmp_path: Path) -> None:
    async def work(child: Child, _: list[dict[str, Any]]) -> None:
        waiting = asyncio.ensure_future(child.ask("wait"))
        await child.ask("say", word="a")
        await child.kill()
        with pytest.raises(NoLink):
            await waiting
        assert not child.running

    with_child(tmp_path, work)

    async def let_go(child: Child, _: list[dict[str, Any]]) -> None:
        await child.finish(10)
        assert not child.running

    with_child(tmp_path, let_go)


def test_a_frozen_child_stands_still_and_goes_on(tmp_path: Path) -> None:
    async def work(child: Child, _: list[dict[str, Any]]) -> None:
        child.freeze()
        waiting = asyncio.ensure_future(child.ask("say", word="a"))
        await asyncio.sleep(0.2)
        assert not waiting.done()
        child.thaw()
        assert await waiting == "a"

    with_child(tmp_path, work)


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_a_leap_moves_all_times_alike_and_a_step_only_the_wall(leap_s: float, step_s: float) -> None:
    clock, machine = LeapingClock(), SystemClock()
    monotonic, boot_ms, behind_s = clock.monotonic(), clock.boottime_ms(), (clock.utc() - machine.utc()).total_seconds()
    clock.leap(leap_s)
    clock.step(step_s)
    assert clock.monotonic() - monotonic == pytest.approx(leap_s, abs=1)
    assert (clock.boottime_ms() - boot_ms) / 1000 == pytest.approx(leap_s, abs=1)
    assert (clock.utc() - machine.utc()).total_seconds() - behind_s == pytest.approx(leap_s + step_s, abs=1)


def test_a_robot_that_starts_again_has_a_new_boot_and_the_wall_clock_it_had() -> None:
    first = LeapingClock()
    first.leap(86_400)
    second = LeapingClock(leapt_s=86_400.0)
    assert second.boot_id() != first.boot_id()
    assert second.boottime_ms() < 60_000 < first.boottime_ms()
    assert (second.utc() - first.utc()).total_seconds() == pytest.approx(0, abs=1)


def test_a_hurried_loop_waits_less_and_says_it_was_as_long() -> None:
    hurry = 1000.0

    async def main() -> float:
        loop = asyncio.get_running_loop()
        began = loop.time()
        await asyncio.sleep(500)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(500):
                await asyncio.Event().wait()
        return loop.time() - began

    with asyncio.Runner(loop_factory=lambda: HurriedLoop(hurry)) as runner:
        assert runner.run(main()) >= 1000


def test_settings_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(settings(leapt_s=2.5).written())
    assert Settings.read(path) == settings(leapt_s=2.5)


def test_a_moment_is_told_in_one_line_and_in_a_table() -> None:
    moment = Moment("noon", 12.3, "good", 3, 1, 1, turns=7, backlog=2, acked=8)
    assert "12 s" in moment.line()
    assert "3 on, 1 dark, 1 cloned" in moment.line()
    assert moment.table().row_count == 7


def test_a_backend_alone_serves_gives_tokens_and_comes_back_from_a_kill_and_a_backup(tmp_path: Path) -> None:
    async def main() -> None:
        backend = Backend(tmp_path / "backend", None)
        try:
            with pytest.raises(NoLink, match="no backup"):
                backend.restore()
            await backend.start()
            await backend.backup()
            token = await backend.token("demo", "r", "hotel")
            await backend.kill()
            assert not backend.running
            with pytest.raises(NoLink, match="takes no commands"):
                await backend.token("demo", "r", "hotel")
            await backend.start()
            assert await backend.token("demo", "r", "hotel") != token
            assert await backend.totals("demo", "r") == []
            await backend.kill()
            backend.restore()
            await backend.start()
        finally:
            await backend.stop()

    asyncio.run(main())


def test_a_backend_that_can_not_start_says_why(tmp_path: Path) -> None:
    async def main() -> None:
        backend = Backend(tmp_path / "backend", None)
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", backend.port))
            taken.listen()
            with pytest.raises(NoLink, match=r"does not start: .*voxmeter"):
                await backend.start()

    asyncio.run(main())


def running(word: str) -> list[str]:
    """Command lines of processes that name it."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if word in line and path.parent.name != str(os.getpid()):
            found.append(line)
    return found


@pytest.mark.long
def test_a_scenario_with_a_bit_of_everything_ends_as_its_checks_say_and_leaves_nothing(tmp_path: Path) -> None:
    story, place = tmp_path / "small.toml", tmp_path / "place"
    story.write_text(STORY)
    place.mkdir()
    ended = voxmeter("sim", "run", story, "--devices", "3", "--seed", "5", "--folder", place, "--json")
    assert ended.status == 0, ended.err
    told = ended.told
    assert told["ok"]
    assert told["seed"] == 5
    assert told["figures"]["calls"] > 20
    assert told["figures"]["lost"] == told["figures"]["billed_twice"] == 0
    assert ended.err.startswith("seed 5\n")
    assert list(place.iterdir()) == []
    assert running(str(place)) == []


@pytest.mark.long
def test_an_operator_steers_real_robots_and_a_thief_gets_nowhere(tmp_path: Path) -> None:
    story, place = tmp_path / "steered.toml", tmp_path / "place"
    story.write_text(STEERED)
    place.mkdir()
    ended = voxmeter("sim", "run", story, "--devices", "3", "--seed", "5", "--folder", place, "--json")
    assert ended.status == 0, ended.err
    figures = ended.told["figures"]
    assert figures["commands"] >= 12
    assert figures["commands_lost"] == figures["commands_twice"] == 0
    assert list(place.iterdir()) == []
    assert running(str(place)) == []


def test_stopping_a_run_ends_every_process_and_removes_the_folder(tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    command = [sys.executable, "-P", "-m", "agent", "sim", "run", "quiet-day", "--devices", "2", "--folder", str(place)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as run:
        assert run.stderr is not None
        for line in run.stderr:
            if "morning" in line:
                break
        assert len(running(str(place))) >= 4
        run.send_signal(signal.SIGINT)
        _, words = run.communicate(timeout=60)
    assert run.returncode == 130, words
    assert list(place.iterdir()) == []
    assert running(str(place)) == []


def test_a_check_that_fails_is_told_with_the_seed_and_exit_1(tmp_path: Path) -> None:
    """A robot that never gets a link has something left."""
    story = tmp_path / "never.toml"
    story.write_text(
        'name = "never"\nabout = ""\nchecks = ["drained"]\ndrain_s_max = 0\n[[phase]]\nseconds = 3\nturns = 2\nlink = "none"\n'
    )
    ended = voxmeter("sim", "run", story, "--devices", "1", "--seed", "7", "--folder", tmp_path, "--json")
    assert ended.status == 1
    assert "--devices 1 --seed 7" in ended.err
    assert not json.loads(ended.out)["ok"]


@pytest.mark.parametrize(("words", "says"), [(["no-such"], "no scenario"), (["quiet-day", "--devices", "0"], "--devices")])
def test_wrong_words_are_one_line(words: list[str], says: str) -> None:
    ended = voxmeter("sim", "run", *words)
    assert ended.status == 2
    assert says in ended.err
