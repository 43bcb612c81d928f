"""The service as its users meet it: one owner of the books, commands that reach it, words that are kept and forgotten."""

import asyncio
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import pytest
import soundfile

from agent import owner
from agent.audio import wav
from agent.errors import VoxmeterError
from agent.store.reading import LedgerReader
from tests.conftest import tone
from tests.e2e.helpers import COMMAND, voxmeter

SCRIPTED = ("--profile", "scripted")

PHRASE = "what time is breakfast"


@contextmanager
def service(state: Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """`voxmeter run`, ready; ended by SIGTERM."""
    command = [*COMMAND, "run", *SCRIPTED, "--state-dir", str(state)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | environment) as running:
        assert running.stdout is not None
        assert running.stdout.readline().startswith("ready: device sim-0001")
        try:
            yield running
        finally:
            running.send_signal(signal.SIGTERM)
            running.wait(30)


@pytest.fixture
def loud(make_wav: object) -> Path:
    made: Path = make_wav("loud.wav", tone(1.0))  # type: ignore[operator]
    return made


def test_ask_is_answered_by_the_service_that_owns_the_books(tmp_path: Path, loud: Path) -> None:
    with service(tmp_path / "s") as running:
        asked = voxmeter("ask", loud, "--json", "--out", tmp_path / "r.wav", "--state-dir", tmp_path / "s", *SCRIPTED)
        assert asked.status == 0, asked.err
        assert asked.told["transcript"] == PHRASE
        assert sum(map(len, wav.read(Path(asked.told["reply_audio"])))) > 0
        listed = voxmeter("usage", "list", "--json", "--type", "usage", "--state-dir", tmp_path / "s")
        assert len(listed.told) == 3
        second = voxmeter("run", *SCRIPTED, "--state-dir", tmp_path / "s")
        assert (second.status, f"belongs to process {running.pid}" in second.line) == (2, True)
    assert running.returncode == 130
    assert not (tmp_path / "s" / "agent.sock").exists()
    assert voxmeter("usage", "verify", "--state-dir", tmp_path / "s").status == 0
    assert voxmeter("ask", loud, "--json", "--state-dir", tmp_path / "s", *SCRIPTED).status == 0


def test_what_the_owner_refuses_reaches_who_asked_in_one_line(tmp_path: Path, loud: Path) -> None:
    with service(tmp_path, VOXMETER_LEDGER__FREE_MB_MIN="1000000"):
        refused = voxmeter("ask", loud, "--state-dir", tmp_path, *SCRIPTED)
        assert refused.status == 1
        assert refused.line.startswith("voxmeter: the ledger is full, no new turn is taken; ")
        forgot = voxmeter("privacy", "forget", "s1", "--state-dir", tmp_path)
        assert (forgot.status, "no words of session s1" in forgot.line) == (1, True)


def test_without_room_a_turn_is_refused_with_a_spoken_apology(tmp_path: Path, loud: Path) -> None:
    asking = ("ask", loud, "--out", tmp_path / "sorry.wav", "--state-dir", tmp_path / "s", *SCRIPTED)
    refused = voxmeter(*asking, VOXMETER_LEDGER__FREE_MB_MIN="1000000", VOXMETER_DIALOG__APOLOGY="Sorry.")
    assert (refused.status, refused.line.startswith("voxmeter: the ledger is full")) == (1, True)
    assert sum(map(len, wav.read(tmp_path / "sorry.wav"))) > 0
    (said,) = voxmeter("usage", "list", "--json", "--type", "usage", "--state-dir", tmp_path / "s").told
    assert (said["data"]["stage"], said["data"]["characters"]) == ("tts", 6)


def test_a_service_that_is_stopped_in_a_turn_settles_it_and_ends(tmp_path: Path) -> None:
    state, long = tmp_path / "s", tmp_path / "long.wav"
    soundfile.write(long, np.tile((tone(1.0) * 32767).astype("int16"), 1200), 16_000)  # seconds, even for scripted engines
    asking = [*COMMAND, "ask", str(long), "--state-dir", str(state)]
    with service(state) as running, subprocess.Popen(asking, stderr=subprocess.PIPE, text=True) as asked:
        while not list(LedgerReader(state).bodies("intent")):
            assert asked.poll() is None
        assert voxmeter("usage", "verify", "--state-dir", state).status == 0  # meanwhile the recogniser has begun
        running.send_signal(signal.SIGTERM)
        assert running.wait(30) == 130
        assert "went away in between" in asked.communicate()[1]
        assert asked.returncode == 2
    assert voxmeter("usage", "verify", "--state-dir", state).status == 0
    (heard,) = voxmeter("usage", "list", "--json", "--type", "usage", "--state-dir", state).told
    assert (heard["data"]["stage"], heard["data"]["outcome"]) == ("asr", "interrupted")


def test_an_idle_caller_does_not_keep_the_service_from_ending(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.socket(socket.AF_UNIX) as idle, service(tmp_path) as running:
        idle.connect(str(tmp_path / "agent.sock"))
    assert running.returncode == 130
    assert capfd.readouterr().err == "voxmeter: stopped\n"


def test_beside_a_service_ask_needs_no_profile_and_bad_fields_leave_the_service_well(tmp_path: Path, loud: Path) -> None:
    with service(tmp_path):
        for session in ("x" * 201, "x" * 9000, "", 7):
            with pytest.raises(VoxmeterError, match="1 to 200 characters"):
                asyncio.run(owner.handed_over(tmp_path, owner.asking([b"\x40\x1f" * 512]) | {"session_id": session}))
        assert voxmeter("ask", loud, "--state-dir", tmp_path, "--profile", "none-such").status == 0


def test_a_question_too_long_for_the_service_is_one_line(tmp_path: Path) -> None:
    silence = tmp_path / "silence.wav"
    soundfile.write(silence, np.zeros(30 * 60 * 16_000, "int16"), 16_000)
    with service(tmp_path):
        assert voxmeter("ask", silence, "--state-dir", tmp_path).line.endswith("; send a shorter recording")


@pytest.mark.parametrize("serving", [True, False])
def test_forgetting_what_was_never_kept_is_one_line_and_makes_nothing(tmp_path: Path, serving: bool) -> None:
    with service(tmp_path) if serving else nullcontext():
        before = {path.name for path in tmp_path.rglob("*")}
        forgot = voxmeter("privacy", "forget", "s1", "--state-dir", tmp_path)
        assert (forgot.status, forgot.out, "no words of session s1 are kept" in forgot.line) == (1, "", True)
        assert voxmeter("privacy", "forget", "x" * 201, "--state-dir", tmp_path).status == 2
        assert {path.name for path in tmp_path.rglob("*")} == before


def test_a_service_that_keeps_no_words_forgets_those_of_one_that_did(tmp_path: Path, loud: Path) -> None:
    asked = voxmeter("ask", loud, "--json", "--state-dir", tmp_path, *SCRIPTED, VOXMETER_WORDS__KEEP="true").told
    with service(tmp_path):
        assert voxmeter("privacy", "forget", asked["session_id"], "--state-dir", tmp_path).status == 0
        assert voxmeter("privacy", "forget", asked["session_id"], "--state-dir", tmp_path).status == 1


def holds(state: Path, phrase: bytes) -> list[str]:
    return [path.name for path in state.rglob("*") if path.is_file() and phrase in path.read_bytes()]


@pytest.mark.parametrize("serving", [True, False])
def test_words_are_kept_sealed_and_forgotten_for_good(tmp_path: Path, loud: Path, serving: bool) -> None:
    keep = {"VOXMETER_WORDS__KEEP": "true"}
    with service(tmp_path, **keep):
        asked = voxmeter("ask", loud, "--json", "--state-dir", tmp_path, *SCRIPTED).told
        assert (tmp_path / "text.db").exists()
        assert holds(tmp_path, PHRASE.encode()) == []
        if serving:
            assert voxmeter("privacy", "forget", asked["session_id"], "--state-dir", tmp_path).status == 0
    if not serving:
        assert voxmeter("privacy", "forget", asked["session_id"], "--state-dir", tmp_path).status == 0
    assert holds(tmp_path, PHRASE.encode()) == []
    again = voxmeter("privacy", "forget", asked["session_id"], "--state-dir", tmp_path)
    assert (again.status, "no words of session" in again.line) == (1, True)
    total = voxmeter("usage", "total", "--json", "--state-dir", tmp_path).told
    assert total["total"][0]["amount"] != "0"


def test_words_are_not_kept_unless_the_profile_says_so(tmp_path: Path, loud: Path) -> None:
    assert voxmeter("ask", loud, "--json", "--state-dir", tmp_path, *SCRIPTED).told["transcript"] == PHRASE
    assert not (tmp_path / "text.db").exists()
    assert holds(tmp_path, PHRASE.encode()) == []


def test_a_robot_killed_in_a_long_question_bills_what_it_had_heard_and_its_engines_end(tmp_path: Path) -> None:
    script = tmp_path / "slow.py"
    script.write_text(SLOW)
    with subprocess.Popen([COMMAND[0], str(script), str(tmp_path / "s")], stdout=subprocess.PIPE, text=True) as robot:
        assert robot.stdout is not None
        engines = [int(word) for word in robot.stdout.readline().split()]
        robot.stdout.readline()  # two notes were made
        robot.kill()
    until = time.monotonic() + 10
    while any(map(_lives, engines)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(map(_lives, engines))
    assert voxmeter("ask", _silence(tmp_path), "--state-dir", tmp_path / "s", *SCRIPTED).status == 1
    cut, later = (record["data"] for record in voxmeter("usage", "list", "--json", "--type", "usage", "--state-dir", tmp_path / "s").told)
    assert (cut["outcome"], cut["origin"], cut["stage"]) == ("cut_off", "estimated", "asr")
    assert cut["audio_in_ms"] > 900
    assert later["outcome"] == "completed"


def _lives(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().split(") ")[1][0] != "Z"
    except FileNotFoundError:
        return False


def _silence(folder: Path) -> Path:
    path = folder / "silence.wav"
    soundfile.write(path, np.zeros(16_000), 16_000)
    return path


SLOW = """
import asyncio, sys, time
from pathlib import Path
from agent import app, profile
from agent.clock import SystemClock
from agent.values import FRAME_SAMPLES

def frames():
    for number in range(10**6):
        yield b"\\x40\\x1f" * FRAME_SAMPLES
        time.sleep(0.01)  # a slow talker; the loop runs on between two frames
        if number == 260:
            print("noted", flush=True)

async def main():
    async with app.opened(profile.load("scripted"), Path(sys.argv[1]), Path("."), SystemClock()) as robot:
        print(*(engine.process_id for engine in robot.engines.values()), flush=True)
        await robot.hear(frames(), print, "s")

asyncio.run(main())
"""
