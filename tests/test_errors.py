"""What goes to the log of an error nobody foresaw: never its words, which may be a guest's."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from agent.dialog.live import Conversation
from agent.errors import EngineFailed, plainly
from agent.files import write_durably
from agent.sim.clock import SimulatedClock
from agent.talking.attending import Attending

SAID = "my room is 1207 \ud800"


def unforeseen(work: Any) -> Exception:
    try:
        work()
    except Exception as error:  # noqa: BLE001  whatever it is
        return error
    raise AssertionError("nothing was raised")


def test_our_own_errors_speak_and_others_are_named_with_their_place() -> None:
    assert plainly(EngineFailed("asr ended\nin mid-turn", "see doctor")) == "asr ended in mid-turn; see doctor"
    error = unforeseen(SAID.encode)
    assert "1207" in repr(error)
    line = plainly(error)
    assert line.startswith(f"UnicodeEncodeError at {__name__}:")
    assert plainly(ValueError(SAID)) == "ValueError at ?:0"


def test_the_place_is_ours_even_if_it_broke_in_a_library() -> None:
    assert plainly(unforeseen(lambda: write_durably(Path(SAID), b""))).startswith("UnicodeEncodeError at agent.files:")


def test_a_turn_that_fails_does_not_tell_what_was_said() -> None:
    async def main() -> None:
        said: list[str] = []
        conversation = object.__new__(Conversation)
        conversation._watching, conversation.running = SimpleNamespace(say=said.append), []  # type: ignore[assignment]
        failed: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        failed.set_exception(unforeseen(SAID.encode))
        conversation._done(SimpleNamespace(task=failed, exchange=SimpleNamespace(complete=False, recognised=asyncio.Event())))  # type: ignore[arg-type]
        assert len(said) == 1
        assert said[0].startswith(f"a turn failed: UnicodeEncodeError at {__name__}:")

    asyncio.run(main())


class Broken(Attending):
    async def _converse(self) -> None:
        SAID.encode()


def test_a_conversation_that_fails_does_not_tell_it_either() -> None:
    async def main() -> None:
        said: list[str] = []
        attending = Broken(SimpleNamespace(clock=SimulatedClock(seed=1)), said.append)  # type: ignore[arg-type]
        running = asyncio.create_task(attending.run())
        while not said:
            await asyncio.sleep(0)
        running.cancel()
        assert said[0].startswith("the conversation: UnicodeEncodeError at agent.talking.attending:")
        assert "1207" not in said[0] + attending.health()["why"]

    asyncio.run(main())
