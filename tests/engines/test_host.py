"""The host: starts that fail say why, and no failure is a traceback."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from agent.clock import SystemClock
from agent.engines.host import Hosted, start
from agent.errors import EngineFailed
from agent.ports import EngineSettings
from agent.values import Message, Prompt
from tests.engines.helpers import settings


def test_a_model_that_is_no_model(models: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    bad = tmp_path / "silero_vad.onnx"
    bad.write_bytes(b"not a model")
    wrong = replace(settings("vad_silero", models), files={"silero_vad.onnx": bad})
    with pytest.raises(EngineFailed, match="vad_silero does not start"):
        asyncio.run(start(wrong, SystemClock()))
    assert "Traceback" not in capfd.readouterr().err


def test_an_engine_nobody_registered() -> None:
    with pytest.raises(EngineFailed, match="asr_telepathy"):
        asyncio.run(start(EngineSettings("asr_telepathy", "m"), SystemClock()))


def test_a_failed_call_leaves_the_engine_usable(models: Path) -> None:
    async def main() -> None:
        host: Hosted[Prompt, str] = await start(settings("llm_scripted", models, replies=["fail: no idea", "Hello there."]), SystemClock())
        asked = Prompt((Message("user", "hello robot"),))
        try:
            call = host.open()
            await call.send(asked)
            with pytest.raises(EngineFailed, match="no idea"):
                async for _ in call:
                    pass
            assert call.usage.input_tokens == 2
            call = host.open()
            await call.send(asked)
            await call.finish()
            assert "".join([delta async for delta in call]) == "Hello there."
        finally:
            await host.aclose()

    asyncio.run(main())


def test_a_newer_call_ends_an_older_one(models: Path) -> None:
    async def main() -> None:
        host: Hosted[Prompt, str] = await start(settings("llm_scripted", models), SystemClock())
        asked = Prompt((Message("user", "hello"),))
        try:
            older, newer = host.open(), host.open()
            await older.send(asked)
            await newer.send(asked)
            await newer.finish()
            assert [delta async for delta in newer]
            with pytest.raises(EngineFailed, match="moved on"):
                async for _ in older:
                    pass
        finally:
            await host.aclose()

    asyncio.run(main())
