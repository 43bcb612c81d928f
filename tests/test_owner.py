"""What commands to the owner mean: sessions, sound, what is forgotten; and the work it does when nobody asks."""

import asyncio
from pathlib import Path

import orjson
import pytest

from agent import owner
from agent.errors import BadInput, EngineFailed, VoxmeterError
from agent.service import again_and_again
from agent.sim.clock import SimulatedClock
from agent.values import FRAME_SAMPLES

FRAME = bytes(FRAME_SAMPLES * 2)


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
