"""A process ends in time and as it was told, whatever its robot is at when the word comes."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from agent import service
from agent.cli import options
from agent.notify import Notifier
from agent.service.ending import Ending
from agent.service.running import Running, Unsteered
from agent.tasks import stopped

ANEW = """
import asyncio, functools, os, subprocess, sys, time
from agent import service
from agent.cli import run
from agent.service.ending import Ending

async def hangs(*_, ending, **__):
    {more}
    ending.close()
    time.sleep(1000)

service.run, service.Ending = hangs, functools.partial(Ending, seconds=0.2)
sys.argv[1:] = ["run", "--help"]
run.serve(profile="scripted")
"""


@pytest.mark.parametrize(("words", "for_good"), [("stop", True), ("close", False), ("close stop close", True)])
def test_the_first_word_counts_and_a_signal_is_not_undone(words: str, for_good: bool) -> None:
    told, done = [], threading.Event()

    def at_worst(stopped: bool) -> None:
        told.append(stopped)
        done.set()

    ending = Ending(at_worst, seconds=0.05)
    for word in words.split():
        getattr(ending, word)()
    assert done.wait(20)
    assert (told, ending.stopped) == ([for_good], for_good)


@pytest.mark.parametrize(
    ("more", "status", "says"), [('subprocess.Popen(["sleep", "1000"])', 0, "Own the books"), ("ending.stop()", 1, "")]
)
def test_a_restart_whose_closing_hangs_begins_anew_where_nobody_else_would_begin_it(more: str, status: int, says: str) -> None:
    """In the same process, without its children, who would keep the pipe open; a signal that came besides is obeyed."""
    command = [sys.executable, "-P", "-c", ANEW.format(more=more)]
    known = {name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=known, check=False)
    assert (done.returncode, says in done.stdout) == (status, True)
    assert "closing takes too long" in done.stderr


class Slow(Unsteered):
    """Asks to be opened anew, and takes its time to be closed."""

    def __init__(self) -> None:
        self.openings = 0
        self.closing, self.go = asyncio.Event(), asyncio.Event()

    def steered(self, running: Running) -> AbstractAsyncContextManager[object]:
        @asynccontextmanager
        async def open_() -> AsyncIterator[None]:
            self.openings += 1
            work = asyncio.create_task(self._slow())
            running.request_reopen("other settings")
            try:
                yield
            finally:
                await stopped(work)

        return open_()

    async def _slow(self) -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            self.closing.set()
            await self.go.wait()


def test_a_robot_that_is_stopped_while_it_is_opened_anew_ends(tmp_path: Path) -> None:
    async def main() -> None:
        slow = Slow()
        run = asyncio.create_task(service.run("scripted", tmp_path, lambda _: None, steers=lambda *_: slow, notifier=Notifier({})))
        await slow.closing.wait()
        run.cancel()
        await asyncio.sleep(0)
        slow.go.set()
        await asyncio.wait({run})
        assert (run.cancelled(), slow.openings) == (True, 1)

    asyncio.run(asyncio.wait_for(main(), 60))


def test_even_where_somebody_swallows_the_cancellation_it_is_not_opened_anew(tmp_path: Path) -> None:
    async def main() -> None:
        slow, ending = Slow(), Ending(lambda _: None)
        told = service.run("scripted", tmp_path, lambda _: None, steers=lambda *_: slow, notifier=Notifier({}), ending=ending)
        run = asyncio.create_task(told)
        await slow.closing.wait()
        ending.stop()
        slow.go.set()
        await asyncio.wait({run})
        assert (run.cancelled(), slow.openings) == (True, 1)

    asyncio.run(asyncio.wait_for(main(), 60))


@pytest.fixture
def signals() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, how in before.items():
        signal.signal(number, how)


@pytest.mark.usefixtures("signals")
def test_each_signal_is_told_and_the_first_one_cancels() -> None:
    told: list[str] = []

    async def work() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(1000)

    with pytest.raises(KeyboardInterrupt):
        options.run(work(), lambda: told.append("told"))
    assert told == ["told", "told"]


@pytest.mark.usefixtures("signals")
def test_a_signal_that_comes_before_the_work_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    begin = asyncio.run

    def late(work: object) -> object:
        os.kill(os.getpid(), signal.SIGTERM)
        return begin(work)  # type: ignore[arg-type]

    monkeypatch.setattr(asyncio, "run", late)
    begun: list[str] = []

    async def work() -> None:
        begun.append("begun")

    with pytest.raises(KeyboardInterrupt):
        options.run(work())
    assert begun == []
