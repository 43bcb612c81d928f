"""The host: starts that fail say why, and no failure is a traceback."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.clock import SystemClock
from agent.engines import call as calling
from agent.engines.child import HELD_STEPS_MAX, Child
from agent.engines.host import Hosted, start
from agent.engines.life import HELD_BYTES_MAX, Life
from agent.engines.wire import receive
from agent.errors import EngineFailed
from agent.ports import Call, EngineSettings
from agent.values import AudioChunk, Message, Prompt, Transcript
from tests.conftest import tone
from tests.engines.helpers import chunks, settings


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


def test_a_call_that_still_waits_for_input_gives_way(models: Path) -> None:
    async def main() -> None:
        host: Hosted[AudioChunk, Transcript] = await start(settings("asr_scripted", models), SystemClock())
        try:
            older, newer = host.open(), host.open()
            await older.send(AudioChunk(bytes(1024)))
            await asyncio.sleep(0.2)  # its worker now waits for the next chunk
            await newer.send(AudioChunk(bytes(1024)))
            await newer.finish()
            assert [transcript.text async for transcript in newer]
        finally:
            await host.aclose()

    asyncio.run(asyncio.wait_for(main(), 20))


def test_a_process_that_can_not_be_made_is_told_and_tried_again(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")

    async def main() -> None:
        with pytest.raises(EngineFailed, match=r"llm_scripted can't be started: .*No such file"):
            await asyncio.wait_for(start(settings("llm_scripted", models), SystemClock()), 10)

    asyncio.run(main())


async def halted(host: Hosted[AudioChunk, Transcript]) -> Call[AudioChunk, Transcript]:
    """A call in the middle of which the child stands still."""
    call = host.open()
    await call.send(AudioChunk(bytes(1024)))
    os.kill(host.process_id, signal.SIGSTOP)
    return call


async def recognised(host: Hosted[AudioChunk, Transcript]) -> list[str]:
    """What it makes of a frame."""
    call = host.open()
    await call.send(AudioChunk(bytes(1024)))
    await call.finish()
    return [transcript.text async for transcript in call]


def test_an_engine_that_hangs_is_killed_by_a_cancel(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calling, "CANCEL_SECONDS_MAX", 0.5)

    async def main() -> None:
        host: Hosted[AudioChunk, Transcript] = await start(settings("asr_scripted", models), SystemClock())
        try:
            call = await halted(host)
            await asyncio.wait_for(call.cancel(), 10)
            assert await recognised(host) == ["what time is breakfast"]
        finally:
            await host.aclose()

    asyncio.run(main())


def test_one_that_hangs_while_it_is_told_more_than_its_pipe_holds_is_found_out(models: Path) -> None:
    async def main() -> None:
        host: Hosted[AudioChunk, Transcript] = await start(settings("asr_scripted", models), SystemClock())
        try:
            call = await halted(host)
            telling = [asyncio.create_task(call.send(AudioChunk(bytes(1024)))) for _ in range(400)]
            await asyncio.sleep(0.5)
            assert host.silent_s >= 0.4
            host.kill()
            await asyncio.gather(*telling)
            await call.cancel()
            while host.process_id == 0 or host.silent_s:
                await asyncio.sleep(0.01)
            assert await recognised(host) == ["what time is breakfast"]
        finally:
            await host.aclose()

    asyncio.run(asyncio.wait_for(main(), 20))


@pytest.mark.parametrize("engine", ["vad_scripted", "embed_scripted"])
def test_one_that_answers_each_item_and_hangs_is_found_out_however_often_it_is_asked(models: Path, engine: str) -> None:
    async def main() -> None:
        host: Hosted[Any, Any] = await start(settings(engine, models), SystemClock())
        item = AudioChunk(bytes(1024)) if engine.startswith("vad") else "query: where"
        try:
            call = host.open()
            await call.send(item)
            await anext(aiter(call))
            assert host.silent_s == 0  # it owes nothing
            os.kill(host.process_id, signal.SIGSTOP)
            for _ in range(4):
                await call.send(item)
                await asyncio.sleep(0.1)
                call = host.open() if engine.startswith("embed") else call  # the FAQ gives up and asks anew
            await call.send(item)
            assert host.silent_s >= 0.4
            host.kill()
            while host.process_id == 0 or host.silent_s:
                await asyncio.sleep(0.01)
            call = host.open()
            await call.send(item)
            await anext(aiter(call))
        finally:
            await host.aclose()

    asyncio.run(asyncio.wait_for(main(), 20))


def test_a_cancel_does_not_wait_behind_what_was_sent(models: Path) -> None:
    """Real recogniser, minutes of sound on the way: a cancel ends it within the segment under way."""

    async def main() -> None:
        host: Hosted[AudioChunk, Transcript] = await start(settings("asr_moonshine", models), SystemClock())
        loud = chunks(tone(60.0))
        try:
            call = host.open()

            async def give() -> None:
                for chunk in loud * 5:
                    await call.send(chunk)

            giving = asyncio.create_task(give())
            while not call.usage.audio_in_ms:
                await asyncio.sleep(0.01)
            before = call.usage
            await call.cancel()
            await giving
            assert before.audio_in_ms is not None
            assert call.usage.audio_in_ms is not None
            assert call.usage.audio_in_ms - before.audio_in_ms <= 15_100
        finally:
            await host.aclose()

    asyncio.run(main())


@pytest.fixture
def asked() -> Iterator[tuple[Child, socket.socket]]:
    """A child that holds answers back while more is asked, as it is now, without end; and the host's side, which waits for nothing."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        child = Child(theirs, together=True)
        child._inbox.put(("item", 1, "more"))
        yield child, ours


def test_answers_that_come_while_more_is_asked_are_sent_with_those_that_follow(asked: tuple[Child, socket.socket]) -> None:
    child, ours = asked
    child._step("step", 1, "first", None)
    with pytest.raises(BlockingIOError):
        ours.recv(1)
    assert child._next() == ("item", 1, "more")
    child._step("step", 1, "second", None)
    ours.setblocking(True)
    told = ours.makefile("rb")
    assert [receive(told), receive(told)] == [("step", 1, "first", None), ("step", 1, "second", None)]


def test_answers_are_not_held_for_long_however_much_is_asked(asked: tuple[Child, socket.socket]) -> None:
    child, ours = asked
    for round_of in range(2):
        for number in range(HELD_STEPS_MAX):
            with pytest.raises(BlockingIOError):
                ours.recv(1)
            child._step("step", 1, (round_of, number), None)
        ours.settimeout(5)
        told = ours.makefile("rb")
        assert [receive(told) for _ in range(HELD_STEPS_MAX)] == [("step", 1, (round_of, n), None) for n in range(HELD_STEPS_MAX)]
        ours.setblocking(False)


def test_what_is_written_in_one_go_reaches_the_child_at_once_and_nothing_is_lost_at_its_end() -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            theirs.setblocking(False)
            reader, writer = await asyncio.open_connection(sock=ours)
            process = await asyncio.create_subprocess_exec("true")
            life = Life("vad_scripted", process, reader, writer)
            for number in range(3):
                await life.write(("item", 1, number))
                with pytest.raises(BlockingIOError):
                    theirs.recv(1)
            await asyncio.sleep(0)
            await life.write(("item", 1, bytes(HELD_BYTES_MAX)))  # not held any longer
            theirs.setblocking(True)
            told = theirs.makefile("rb")
            assert [receive(told) for _ in range(3)] == [("item", 1, number) for number in range(3)]
            assert receive(told) == ("item", 1, bytes(HELD_BYTES_MAX))
            await life.write(("cancel", 1))
            await life.end()
            assert [receive(told), receive(told)] == [("cancel", 1), None]

    asyncio.run(main())
