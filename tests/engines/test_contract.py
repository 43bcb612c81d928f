"""What every engine of the registry owes, on the real engines in their own processes."""

import asyncio
import itertools
import os
import signal
from collections.abc import Awaitable, Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from agent.clock import SystemClock
from agent.engines.host import Hosted, start
from agent.errors import EngineFailed
from agent.values import Speech, StageUsage, Transcript
from tests.engines.helpers import NAMES, inputs, settings

Test = Callable[[Hosted[Any, Any]], Awaitable[None]]

OUTPUTS = {"asr": Transcript, "llm": str, "tts": Speech, "vad": float, "eot": float, "embed": bytes}
MUST_COUNT = {
    "asr": ("output_tokens", "audio_in_ms"),
    "llm": ("input_tokens", "output_tokens"),
    "tts": ("characters", "audio_out_ms"),
    "vad": (),
    "eot": (),
    "embed": (),
}

pytestmark = pytest.mark.parametrize("engine", NAMES)


def run(engine: str, models: Path, test: Test) -> None:
    async def main() -> None:
        host = await start(settings(engine, models), SystemClock())
        try:
            await test(host)
        finally:
            await host.aclose()

    asyncio.run(main())


async def use(host: Hosted[Any, Any], given: list[Any]) -> tuple[list[Any], StageUsage]:
    call = host.open()

    async def give() -> None:
        for item in given:
            await call.send(item)
        await call.finish()

    giving = asyncio.create_task(give())
    outputs = [output async for output in call]
    await giving
    return outputs, call.usage


def grows(before: StageUsage, after: StageUsage) -> bool:
    pairs = [(getattr(before, field.name), getattr(after, field.name)) for field in fields(StageUsage) if field.name != "origin"]
    return all(a is None or (b is not None and a <= b) for a, b in pairs)


def test_gives_outputs_of_its_kind_and_counts(engine: str, models: Path, question: Path) -> None:
    stage = engine.split("_", maxsplit=1)[0]

    async def test(host: Hosted[Any, Any]) -> None:
        outputs, usage = await use(host, inputs(engine, question))
        assert outputs
        assert all(isinstance(output, OUTPUTS[stage]) for output in outputs)
        assert all(getattr(usage, figure) for figure in MUST_COUNT[stage])
        again, same = await use(host, inputs(engine, question))
        assert len(again) == len(outputs)
        assert same.output_tokens == usage.output_tokens  # a second call starts afresh

    run(engine, models, test)


def test_usage_can_be_read_at_any_moment_and_only_grows(engine: str, models: Path, question: Path) -> None:
    async def test(host: Hosted[Any, Any]) -> None:
        call = host.open()
        seen = [call.usage]

        async def give() -> None:
            for item in inputs(engine, question):
                await call.send(item)
            await call.finish()

        giving = asyncio.create_task(give())
        async for _ in call:
            seen.append(call.usage)
        await giving
        assert all(grows(before, after) for before, after in itertools.pairwise(seen))

    run(engine, models, test)


def test_no_input_gives_no_output_and_no_fault(engine: str, models: Path, question: Path) -> None:
    async def test(host: Hosted[Any, Any]) -> None:
        outputs, _ = await use(host, [])
        assert [output for output in outputs if not isinstance(output, Transcript)] == []

    run(engine, models, test)


def test_cancel_stops_and_the_next_call_works(engine: str, models: Path, question: Path) -> None:
    async def test(host: Hosted[Any, Any]) -> None:
        call = host.open()
        for item in inputs(engine, question):
            await call.send(item)
        await asyncio.wait_for(call.cancel(), 10)
        settled = call.usage
        assert [output async for output in call] == []
        outputs, _ = await use(host, inputs(engine, question))
        assert outputs
        assert call.usage == settled

    run(engine, models, test)


def test_a_killed_engine_fails_its_call_and_comes_back(engine: str, models: Path, question: Path) -> None:
    async def test(host: Hosted[Any, Any]) -> None:
        call = host.open()
        await call.send(inputs(engine, question)[0])
        os.kill(host.process_id, signal.SIGKILL)
        with pytest.raises(EngineFailed, match=rf"{engine} was killed \(SIGKILL\)"):
            async for _ in call:
                pass
        await call.send(inputs(engine, question)[0])  # a dead call takes no more, and says so only once
        outputs, _ = await use(host, inputs(engine, question))
        assert outputs

    run(engine, models, test)


def test_no_child_outlives_its_host_or_inherits_its_files(engine: str, models: Path, question: Path, tmp_path: Path) -> None:
    async def test(host: Hosted[Any, Any]) -> None:
        links = [os.readlink(f"/proc/{host.process_id}/fd/{name}") for name in os.listdir(f"/proc/{host.process_id}/fd")]
        assert str(tmp_path / "open") not in links
        os.kill(host.process_id, 0)
        pids.append(host.process_id)

    pids: list[int] = []
    with (tmp_path / "open").open("w"):
        run(engine, models, test)
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)
