"""What is told of a moment, which pictures are kept, and how customers and whoever else asks share a robot."""

import asyncio
import importlib.util
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from agent import profile as profiles
from agent.dialog.turn import Floor
from agent.engines.scripted import VadScripted
from agent.errors import BadInput
from agent.live import IDLE_MS, Patient, _patience_ms
from agent.ports import Began, EngineSettings
from agent.profile import Hearing
from agent.sim.clock import SimulatedClock
from agent.talking import Asked, checked
from agent.talking.album import PICTURES_MAX, Album
from agent.talking.now import Sums, rest, trouble
from agent.values import FRAME_MS
from tests.audio.local import ListMicrophone, LocalEngine


@pytest.mark.parametrize(
    ("reply", "heard", "to_come"),
    [
        ("It is open.", "", "It is open."),
        (" It is  open. Come!", "It is", "open. Come!"),
        ("It is open.Come!", "It is open. Come!", ""),
        ("早餐在二楼。", "早餐", "在二楼。"),
        ("It", "It was replaced", ""),
    ],
)
def test_what_is_to_come_follows_what_was_heard_whatever_the_white_space(reply: str, heard: str, to_come: str) -> None:
    assert rest(reply, heard) == to_come


def test_trouble_names_who_is_deaf_and_who_is_mute() -> None:
    well = {"microphone": {"device": "m", "hearing": True, "why": ""}, "speaker": {"device": "s", "speaking": True, "why": ""}}
    assert trouble(well) == ""
    gone = {"microphone": {"device": "m", "hearing": False, "why": "gone"}, "speaker": {"device": "s", "speaking": False, "why": "off"}}
    assert trouble(gone) == "deaf: microphone m: gone; mute: speaker s: off"


@pytest.mark.parametrize(
    ("floor", "stirring", "patience_ms"),
    [
        ("listening", False, IDLE_MS),
        ("listening", True, FRAME_MS),
        ("hearing", True, FRAME_MS),
        ("answering", False, FRAME_MS),
        ("doubting", True, FRAME_MS),
        ("speaking", False, 0),
        ("speaking", True, 0),
    ],
)
def test_sound_waits_to_be_heard_only_while_nobody_stirs(floor: Floor, stirring: bool, patience_ms: int) -> None:
    assert _patience_ms(floor, stirring=stirring) == patience_ms


def test_sums_are_exact() -> None:
    sums = Sums("CNY")
    for amount in ("0.1", "0.2"):
        sums.add({"total": {"billed_tokens": "3", "amount": amount}})
    assert sums.told() == {"turns": 2, "billed_tokens": "6", "amount": "0.3", "currency": "CNY"}
    assert sums.amount == Decimal("0.3")


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (Asked(Path("in.wav")), "--wav and --out belong together"),
        (Asked(out=Path("out.wav")), "--wav and --out belong together"),
        (Asked(Path("none.wav"), Path("out.wav")), "none.wav: no such file"),
        (Asked(Path("in.wav"), Path("nowhere/out.wav")), "nowhere/out.wav: the reply can't be written there"),
        (Asked(Path("in.wav"), Path("in.wav")), "it is the recording itself"),
        (Asked(Path("in.wav"), Path("out.wav"), Path("in.wav/x")), "name another folder with --waterfalls"),
        (Asked(Path("in.wav"), Path("out.wav"), push_to_talk=True), "nobody presses a key for a recording"),
    ],
)
def test_what_can_not_be_done_is_refused(asked: Asked, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    soundfile.write("in.wav", np.zeros(512), 16_000)
    with pytest.raises(BadInput, match=says):
        checked(asked, profiles.load("scripted"), asyncio.Event())


def test_a_recording_is_followed_by_silence_without_an_end(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "in.wav", np.full(512, 0.5), 16_000)
    ended = asyncio.Event()
    frames = checked(Asked(tmp_path / "in.wav", tmp_path / "out.wav"), profiles.load("scripted"), ended)
    assert frames is not None
    assert (any(next(frames)), ended.is_set()) == (True, False)
    assert [any(next(frames)) for _ in range(100)] == [False] * 100
    assert ended.is_set()


def turn(session: str) -> dict[str, Any]:
    stage: dict[str, Any] = {
        "stage": "asr",
        "engine": "a",
        "outcome": "completed",
        "started_ms": 0,
        "first_output_ms": 50,
        "duration_ms": 90,
    }
    stages = [stage | {"billed_tokens": "4"}, stage | {"stage": "llm", "outcome": "superseded", "billed_tokens": None}]
    stages.append(stage | {"stage": "llm", "engine": "faq", "duration_ms": 0, "started_ms": 9_000, "billed_tokens": "0"})
    told = {
        "session_id": session,
        "transcript": "costs $5",
        "reply": "no",
        "latency": {"speech_end_to_first_audio_ms": 80},
        "stages": stages,
    }
    return told | {"marks": {"speech_end_ms": 40, "first_sound_ms": 120}}


def test_each_session_is_drawn_when_the_next_begins_and_only_the_newest_pictures_are_kept(tmp_path: Path) -> None:
    for number in range(PICTURES_MAX):
        (tmp_path / f"session-{number}.png").touch()
    (tmp_path / "holiday.png").touch()
    said: list[str] = []

    async def main() -> list[str]:
        album = Album(tmp_path, said.append)
        for session in ("a", "a", "b"):
            album.add(turn(session))
        await album.aclose()
        return sorted(path.name for path in album.drawn)

    assert asyncio.run(main()) == ["session-a.png", "session-b.png"]
    assert said == []
    assert len(list(tmp_path.glob("session-*.png"))) == PICTURES_MAX
    assert (tmp_path / "session-a.png").stat().st_size > 1000
    assert (tmp_path / "holiday.png").exists()


def test_without_what_draws_one_line_says_so_and_nothing_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    said: list[str] = []

    async def main() -> list[Path]:
        album = Album(tmp_path, said.append)
        for session in ("a", "b"):
            album.add(turn(session))
        await album.aclose()
        return album.drawn

    assert asyncio.run(main()) == []
    assert said == ["no pictures: the Python package matplotlib is not installed; pip install 'voxmeter[sim]'"]


def test_a_picture_that_can_not_be_drawn_is_said_in_one_line(tmp_path: Path) -> None:
    said: list[str] = []

    async def main() -> None:
        album = Album(tmp_path, said.append)
        album.add({"session_id": "a"})
        await album.aclose()

    asyncio.run(main())
    assert said == [f"{tmp_path / 'session-a.png'}: not drawn: KeyError: 'latency'"]


def test_a_folder_that_can_not_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="name another folder"):
        Album(tmp_path / "file", print)


def test_what_customers_say_while_somebody_else_has_the_engines_waits_and_is_not_lost(clock: SimulatedClock) -> None:
    loud, quiet = b"\x00\x20" * 512, bytes(1024)
    free = asyncio.Event()
    vad = LocalEngine(VadScripted(EngineSettings("vad_scripted", "script")))
    microphone = ListMicrophone(iter([quiet] * 5 + [loud] * 20 + [quiet] * 40), clock)
    listening = Patient(free, microphone, vad, None, Hearing(), clock)
    events: list[object] = []

    async def take() -> None:
        async for event in listening.events():
            events.append(event)

    async def main() -> None:
        taking = asyncio.create_task(take())
        while listening.frames < 60:
            await asyncio.sleep(0)
        assert events == []
        assert listening.speaking is False  # all of it was heard
        free.set()
        await taking

    asyncio.run(main())
    assert sum(isinstance(event, Began) for event in events) == 1
