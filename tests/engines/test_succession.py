"""A child that has grown gets a successor: real processes, scripted engines that keep memory. And what a child keeps to and loads."""

import asyncio
import math
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from agent.clock import SystemClock
from agent.engines.host import Hosted, start
from agent.errors import EngineFailed
from agent.ports import EngineSettings
from agent.values import Message, Prompt

ASKED = Prompt((Message("user", "hello"),))
GROWS_MB = 30


def run(act: Callable[[Hosted[Prompt, str]], Awaitable[None]], grown_mb: float = 20) -> None:
    async def main() -> None:
        host = await start(
            EngineSettings("llm_scripted", "script", options={"replies": ["Hello there."], "grows_mb": GROWS_MB}), SystemClock()
        )
        try:
            host.recycle_above(grown_mb)
            await act(host)
        finally:
            await host.aclose()
        assert host.process_id == 0

    asyncio.run(asyncio.wait_for(main(), 40))


async def ask(host: Hosted[Prompt, str]) -> str:
    call = host.open()
    await call.send(ASKED)
    await call.finish()
    return "".join([delta async for delta in call])


async def grow(host: Hosted[Prompt, str]) -> int:
    """Two calls, after which the child is to be relieved; its process id. Who opens a call at once has it served by that child."""
    old = host.process_id
    assert await ask(host) == "Hello there."
    await asyncio.sleep(0.5)  # its size is looked at: what it grows by afterwards counts
    assert await ask(host) == "Hello there."
    return old


async def until(true: Callable[[], bool]) -> None:
    while not true():
        await asyncio.sleep(0.02)


def lives(process: int) -> bool:
    return Path(f"/proc/{process}").exists()


def test_a_child_that_grows_gives_way_and_every_call_is_answered() -> None:
    async def act(host: Hosted[Prompt, str]) -> None:
        seen = {host.process_id}
        while len(seen) < 3:
            assert await ask(host) == "Hello there."
            seen.add(host.process_id)
        await until(lambda: sum(map(lives, seen)) == 1)
        assert lives(host.process_id)

    run(act)


def test_a_call_under_way_ends_where_it_began() -> None:
    async def act(host: Hosted[Prompt, str]) -> None:
        old = await grow(host)
        call = host.open()
        answers = aiter(call)
        await call.send(ASKED)
        assert await anext(answers) == "Hello"
        await asyncio.sleep(1.5)  # the successor is ready by now
        assert host.process_id == old
        await call.send(ASKED)
        await call.finish()
        assert "".join([delta async for delta in answers]) == " there.Hello there."
        await until(lambda: host.process_id != old)
        assert await ask(host) == "Hello there."

    run(act)


def test_off_means_off() -> None:
    async def act(host: Hosted[Prompt, str]) -> None:
        old = await grow(host)
        assert await ask(host) == "Hello there."
        await asyncio.sleep(1)
        assert host.process_id == old

    run(act, math.inf)


def test_without_room_for_a_successor_the_old_child_serves_on(monkeypatch: pytest.MonkeyPatch) -> None:
    async def act(host: Hosted[Prompt, str]) -> None:
        monkeypatch.setattr(sys, "executable", "/no/such/python")
        old = await grow(host)
        await asyncio.sleep(0.3)
        assert await ask(host) == "Hello there."
        assert host.process_id == old

    run(act)


def test_a_death_while_a_successor_waits_is_a_death_like_any() -> None:
    async def act(host: Hosted[Prompt, str]) -> None:
        old = await grow(host)
        call = host.open()
        await call.send(ASKED)
        await asyncio.sleep(1.5)
        os.kill(old, signal.SIGKILL)
        with pytest.raises(EngineFailed, match=r"killed .SIGKILL. in mid-turn"):
            async for _ in call:
                pass
        assert await ask(host) == "Hello there."

    run(act)


def test_a_host_that_closes_takes_the_successor_with_it() -> None:
    def children() -> set[str]:
        return set(Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split())

    before = children()

    async def act(host: Hosted[Prompt, str]) -> None:
        await grow(host)
        call = host.open()
        await call.send(ASKED)
        await until(lambda: len(children() - before) == 2)

    run(act)
    assert children() == before


@pytest.mark.parametrize(("cores", "kept"), [((0,), {0}), ((0, 900), {0}), ((900,), None), ((), None)])
def test_a_child_keeps_to_the_cores_there_are(cores: tuple[int, ...], kept: set[int] | None) -> None:
    settings = replace(EngineSettings("llm_scripted", "script"), cores=cores)

    async def main() -> set[int]:
        host = await start(settings, SystemClock())
        try:
            return os.sched_getaffinity(host.process_id)
        finally:
            await host.aclose()

    assert asyncio.run(main()) == (kept or os.sched_getaffinity(0))


def test_a_child_loads_nothing_it_has_no_use_for() -> None:
    """Per child, pydantic and the contract's models would hold 15 MB, asyncio 6."""
    asks = "import agent.engines.child, sys; print(sorted({'asyncio', 'pydantic', 'agent.contract'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", asks], capture_output=True, text=True, check=True).stdout.strip() == "[]"
