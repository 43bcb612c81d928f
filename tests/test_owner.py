"""The owner's socket alone: who calls, with whatever, can't end it, hold it up at its end, or get more than one line."""

import asyncio
import socket
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import orjson
import pytest

from agent import owner
from agent.errors import BadInput, EngineFailed, LedgerBusy, VoxmeterError
from agent.service import again_and_again
from agent.sim.clock import SimulatedClock
from agent.values import FRAME_SAMPLES

FRAME = bytes(FRAME_SAMPLES * 2)


async def _echo(asked: dict[str, Any]) -> dict[str, Any]:
    return asked


async def _broken(asked: dict[str, Any]) -> dict[str, Any]:
    raise RuntimeError("two\nlines")


DOORS = {"echo": _echo, "broken": _broken}


def ended(work: Coroutine[Any, Any, None]) -> None:
    """Runs it; what hangs for a minute fails."""
    asyncio.run(asyncio.wait_for(work, 60))


async def _call(state: Path, line: bytes) -> Any:
    with owner._near(state) as path:
        reader, writer = await asyncio.open_unix_connection(path)
    writer.write(line)
    told = orjson.loads(await reader.readline())
    assert await reader.read() == b""  # it hangs up
    writer.close()
    return told


def test_a_failure_of_any_kind_is_one_line_and_the_next_command_is_answered(tmp_path: Path) -> None:
    async def work() -> None:
        async with owner.answering(DOORS, tmp_path):
            told = await _call(tmp_path, b'{"op":"broken"}\n')
            assert told["error"] | {"todo": ""} == {
                "code": "error",
                "message": "the owner could not do it: RuntimeError: two lines",
                "todo": "",
                "exit_status": 2,
            }
            assert await owner.handed_over(tmp_path, {"op": "echo"}) == {"op": "echo"}

    ended(work())


@pytest.mark.parametrize("line", [b"\n", b"[]\n", b'"op"\n', b"{}\n", b'{"op":[]}\n', b'{"op":"echo"\n', b"\xff\n", b'{"op":"\\ud800"}\n'])
def test_what_is_no_command_is_refused(tmp_path: Path, line: bytes) -> None:
    async def work() -> None:
        async with owner.answering(DOORS, tmp_path):
            assert (await _call(tmp_path, line))["error"]["code"] == "bad-input"

    ended(work())


def test_a_command_that_is_too_long_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        async with owner.answering(DOORS, tmp_path):
            assert (await _call(tmp_path, b"x" * 2000 + b"\n"))["error"]["todo"] == "send a shorter recording"

    monkeypatch.setattr(owner, "LINE_BYTES_MAX", 1000)
    ended(work())


def test_an_answer_that_is_too_long_is_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        async with owner.answering(DOORS, tmp_path):
            monkeypatch.setattr(owner, "LINE_BYTES_MAX", 1000)
            with pytest.raises(BadInput, match="answer has more than 1000 bytes"):
                await owner.handed_over(tmp_path, {"op": "echo", "more": "x" * 5000})

    ended(work())


def test_at_the_end_a_turn_under_way_has_settled(tmp_path: Path) -> None:
    settled: list[bool] = []

    async def work() -> None:
        begun = asyncio.Event()

        async def turn(_: dict[str, Any]) -> dict[str, Any]:
            try:
                begun.set()
                await asyncio.Event().wait()
            finally:
                await asyncio.to_thread(settled.append, True)
            return {}

        async with owner.answering({"turn": turn}, tmp_path):
            asking = asyncio.create_task(owner.handed_over(tmp_path, {"op": "turn"}))
            await begun.wait()
        assert settled
        with pytest.raises(LedgerBusy, match="went away in between"):
            await asking

    ended(work())


def test_whoever_says_nothing_or_reads_nothing_does_not_hold_up_the_end(tmp_path: Path) -> None:
    async def work() -> None:
        with owner._near(tmp_path) as path, socket.socket(socket.AF_UNIX) as idle, socket.socket(socket.AF_UNIX) as deaf:
            async with owner.answering(DOORS, tmp_path):
                idle.connect(path)
                deaf.connect(path)
                await asyncio.to_thread(deaf.sendall, orjson.dumps({"op": "echo", "more": "x" * 2_000_000}) + b"\n")
                assert await owner.handed_over(tmp_path, {"op": "echo"})
            assert not await owner.answers(tmp_path)

    ended(work())


def test_whoever_says_nothing_is_told_so_in_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        async with owner.answering(DOORS, tmp_path):
            assert "no whole command" in (await _call(tmp_path, b""))["error"]["message"]

    monkeypatch.setattr(owner, "READ_SECONDS_MAX", 0.01)
    ended(work())


def test_a_state_folder_may_have_a_long_name(tmp_path: Path) -> None:
    state = tmp_path / ("a" * 120)
    state.mkdir()

    async def work() -> None:
        async with owner.answering(DOORS, state):
            assert (state / owner.SOCKET).stat().st_mode & 0o777 == 0o600
            assert await owner.handed_over(state, {"op": "echo"}) == {"op": "echo"}
        assert list(state.iterdir()) == []

    ended(work())


def test_the_socket_of_a_process_that_was_killed_is_replaced(tmp_path: Path) -> None:
    with owner._near(tmp_path) as path, socket.socket(socket.AF_UNIX) as killed:
        killed.bind(path)

    async def work() -> None:
        assert not await owner.answers(tmp_path)
        async with owner.answering(DOORS, tmp_path):
            assert await owner.answers(tmp_path)
            assert await owner.handed_over(tmp_path, {"op": "echo"}) == {"op": "echo"}

    ended(work())


@pytest.mark.parametrize("name", ["", "x" * 201, "\ud800", None, 7, ["s"]])
def test_what_is_no_session_id_is_refused(name: object) -> None:
    with pytest.raises(BadInput, match="1 to 200 characters"):
        owner.session_named(name)
    assert owner.session_named("x" * 200) == "x" * 200


@pytest.mark.parametrize("sound", [None, 7, "", "AA==", "A", "\xe4", "####"])
def test_what_is_no_sound_is_refused(sound: object) -> None:
    with pytest.raises(BadInput, match="send pcm"):
        owner._sound(sound)


def test_a_question_that_no_command_can_hold_is_refused_before_it_is_sent() -> None:
    fitting = owner.PCM_BYTES_MAX // len(FRAME)
    assert len(orjson.dumps(owner.asking([FRAME] * fitting))) < owner.LINE_BYTES_MAX
    with pytest.raises(BadInput, match="send a shorter recording"):
        owner.asking([FRAME] * (fitting + 1))


def test_forgetting_where_nothing_is_kept_makes_nothing(tmp_path: Path, clock: SimulatedClock) -> None:
    assert not owner.forgotten(tmp_path, clock, "s1")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("failure", [EngineFailed("a\nb"), OSError(28, "full"), VoxmeterError("x")])
def test_background_work_that_fails_is_said_in_one_line_and_tried_again(clock: SimulatedClock, failure: Exception) -> None:
    said: list[str] = []

    async def work() -> None:
        if len(said) == 2:
            raise asyncio.CancelledError
        raise failure

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(again_and_again(work, 600, clock, said.append))
    assert len(said) == 2
    assert all("\n" not in line for line in said)
    assert clock.monotonic() == 1200
