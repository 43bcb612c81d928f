"""A door alone: who calls, with whatever, can't end it, hold it up at its end, or get more than one line."""

import asyncio
import select
import socket
from collections.abc import Coroutine, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import orjson
import pytest

from agent import door
from agent.door import Door, Limits
from agent.errors import BadInput, EngineFailed, LedgerBusy, VoxmeterError

SOCKET = "some.sock"
LIMITS = Limits(4_000_000)
SMALL = Limits(1000)


async def _echo(question: dict[str, Any]) -> dict[str, Any]:
    return question


async def _broken(_: dict[str, Any]) -> dict[str, Any]:
    raise RuntimeError("two\nlines")


async def _refusing(_: dict[str, Any]) -> dict[str, Any]:
    raise EngineFailed("it fell over", "start it again")


DOORS: dict[str, Door] = {"echo": _echo, "broken": _broken, "refusing": _refusing}


def answering(folder: Path, doors: Mapping[str, Door] = DOORS, limits: Limits = LIMITS) -> AbstractAsyncContextManager[None]:
    return door.answering(doors, folder, SOCKET, limits, who="the butler")


async def asked(folder: Path, question: dict[str, Any], limits: Limits = LIMITS) -> dict[str, Any]:
    return await door.asked(folder, SOCKET, question, limits, who="the butler")


async def answers(folder: Path) -> bool:
    return await door.answers(folder, SOCKET)


def ended(work: Coroutine[Any, Any, None]) -> None:
    """Runs it; what hangs for a minute fails."""
    asyncio.run(asyncio.wait_for(work, 60))


async def _call(state: Path, line: bytes) -> Any:
    with door.near(state, SOCKET) as path:
        reader, writer = await asyncio.open_unix_connection(path)
    writer.write(line)
    told = orjson.loads(await reader.readline())
    assert await reader.read() == b""  # it hangs up
    writer.close()
    return told


def test_a_failure_of_any_kind_is_one_line_and_the_next_command_is_answered(tmp_path: Path) -> None:
    async def work() -> None:
        async with answering(tmp_path):
            told = await _call(tmp_path, b'{"op":"broken"}\n')
            assert told["error"] | {"todo": ""} == {
                "code": "error",
                "message": "the butler could not do it: RuntimeError: two lines",
                "todo": "",
                "exit_status": 2,
            }
            assert await asked(tmp_path, {"op": "echo"}) == {"op": "echo"}

    ended(work())


def test_a_refusal_arrives_as_it_was_raised(tmp_path: Path) -> None:
    async def work() -> None:
        async with answering(tmp_path):
            with pytest.raises(VoxmeterError) as told:
                await asked(tmp_path, {"op": "refusing"})
        refusal = told.value
        assert (refusal.code, refusal.message, refusal.todo, refusal.exit_status) == ("engine-failed", "it fell over", "start it again", 1)

    ended(work())


def test_an_unknown_command_is_told_what_is_known(tmp_path: Path) -> None:
    async def work() -> None:
        async with answering(tmp_path):
            with pytest.raises(VoxmeterError, match="the butler does not know this command; it knows: echo, broken, refusing"):
                await asked(tmp_path, {"op": "sing"})

    ended(work())


def test_where_nobody_answers_that_is_said_in_one_line(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(LedgerBusy, match=r"the butler in .* takes no commands; wait until it has ended"):
            asyncio.run(asked(folder, {"op": "echo"}))
        assert not asyncio.run(answers(folder))


def test_a_folder_that_takes_no_socket_is_one_line(tmp_path: Path) -> None:
    (tmp_path / SOCKET).mkdir()

    async def work() -> None:
        async with answering(tmp_path):
            pass

    with pytest.raises(BadInput, match=f"{SOCKET}: .*; use a --state-dir you can write to"):
        ended(work())


def test_whoever_takes_too_long_to_read_is_hung_up_on(tmp_path: Path) -> None:
    async def work() -> None:
        with door.near(tmp_path, SOCKET) as path, socket.socket(socket.AF_UNIX) as deaf:
            async with answering(tmp_path, limits=Limits(4_000_000, write_seconds_max=0.01)):
                deaf.connect(path)
                await asyncio.to_thread(deaf.sendall, orjson.dumps({"op": "echo", "more": "x" * 2_000_000}) + b"\n")
                hung_up = select.poll()
                hung_up.register(deaf, 0)
                assert await asyncio.to_thread(hung_up.poll, 20_000)
                assert not deaf.recv(4_000_000).endswith(b"\n")

    ended(work())


@pytest.mark.parametrize("line", [b"\n", b"[]\n", b'"op"\n', b"{}\n", b'{"op":[]}\n', b'{"op":"echo"\n', b"\xff\n", b'{"op":"\\ud800"}\n'])
def test_what_is_no_command_is_refused(tmp_path: Path, line: bytes) -> None:
    async def work() -> None:
        async with answering(tmp_path):
            assert (await _call(tmp_path, line))["error"]["code"] == "bad-input"

    ended(work())


def test_a_command_that_is_too_long_is_refused(tmp_path: Path) -> None:
    async def work() -> None:
        async with answering(tmp_path, limits=SMALL):
            told = (await _call(tmp_path, b"x" * 2000 + b"\n"))["error"]
            assert (told["message"], told["todo"]) == ("a command of more than 1000 bytes", "send a shorter one")

    ended(work())


def test_an_answer_that_is_too_long_is_one_error(tmp_path: Path) -> None:
    async def work() -> None:
        async with answering(tmp_path):
            with pytest.raises(BadInput, match="answer has more than 1000 bytes"):
                await asked(tmp_path, {"op": "echo", "more": "x" * 5000}, SMALL)

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

        async with answering(tmp_path, {"turn": turn}):
            asking = asyncio.create_task(asked(tmp_path, {"op": "turn"}))
            await begun.wait()
        assert settled
        with pytest.raises(LedgerBusy, match="went away in between"):
            await asking

    ended(work())


def test_whoever_says_nothing_or_reads_nothing_does_not_hold_up_the_end(tmp_path: Path) -> None:
    async def work() -> None:
        with door.near(tmp_path, SOCKET) as path, socket.socket(socket.AF_UNIX) as idle, socket.socket(socket.AF_UNIX) as deaf:
            async with answering(tmp_path):
                idle.connect(path)
                deaf.connect(path)
                await asyncio.to_thread(deaf.sendall, orjson.dumps({"op": "echo", "more": "x" * 2_000_000}) + b"\n")
                assert await asked(tmp_path, {"op": "echo"})
            assert not await answers(tmp_path)

    ended(work())


def test_whoever_says_nothing_is_told_so_in_the_end(tmp_path: Path) -> None:
    async def work() -> None:
        async with answering(tmp_path, limits=Limits(1000, read_seconds_max=0.01)):
            assert "no whole command" in (await _call(tmp_path, b""))["error"]["message"]

    ended(work())


def test_a_state_folder_may_have_a_long_name(tmp_path: Path) -> None:
    state = tmp_path / ("a" * 120)
    state.mkdir()

    async def work() -> None:
        async with answering(state):
            assert (state / SOCKET).stat().st_mode & 0o777 == 0o600
            assert await asked(state, {"op": "echo"}) == {"op": "echo"}
        assert list(state.iterdir()) == []

    ended(work())


def test_the_socket_of_a_process_that_was_killed_is_replaced(tmp_path: Path) -> None:
    with door.near(tmp_path, SOCKET) as path, socket.socket(socket.AF_UNIX) as killed:
        killed.bind(path)

    async def work() -> None:
        assert not await answers(tmp_path)
        async with answering(tmp_path):
            assert await answers(tmp_path)
            assert await asked(tmp_path, {"op": "echo"}) == {"op": "echo"}

    ended(work())
