"""`talk` as its users start it, with files in place of the hall and engines that follow a script; and what its screen shows."""

import asyncio
import io
import os
import pty
import signal
import subprocess
import sys
import termios
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
import soundfile
from rich.console import Console

from agent.cli import keys
from agent.cli.talkscreen import view
from agent.clock import SystemClock
from agent.metering import report
from agent.store.reading import LedgerReader
from agent.store.verify import verify_books
from agent.store.words import Words
from agent.talking.now import Now, StageNow
from tests.conftest import tone
from tests.e2e.helpers import COMMAND, voxmeter
from tests.e2e.test_ask import TURN_KEYS

SCRIPTED = ("--profile", "scripted")

BRIEF = {
    "VOXMETER_TTS__OPTIONS": '{"ms_per_character": 5}',
    "VOXMETER_HEARING__WINDOW_MS": "300",
    "VOXMETER_WORDS__KEEP": "true",
}


@pytest.fixture
def spoken(tmp_path: Path) -> Path:
    """Two utterances, with room for an answer after each, on a busy machine too: who goes on before it sounds has not ended."""
    path, quiet = tmp_path / "in.wav", np.zeros(4000)
    soundfile.write(path, np.concatenate([quiet, tone(0.5), np.tile(quiet, 20), tone(0.5), quiet]), 16_000)
    return path


def test_a_conversation_out_of_a_file_is_answered_billed_and_drawn(tmp_path: Path, spoken: Path) -> None:
    out, state = tmp_path / "out.wav", tmp_path / "s"
    ended = voxmeter("talk", "--wav", spoken, "--out", out, "--json", "--state-dir", state, *SCRIPTED, **BRIEF)  # type: ignore[arg-type]
    assert ended.status == 0, ended.err
    assert "Traceback" not in ended.err
    told = ended.told
    assert [turn["transcript"] for turn in told["turns"]] == ["what time is breakfast"] * 2
    assert {turn["reply"] for turn in told["turns"]} == {"Breakfast is served from half past six."}
    assert all(set(turn) == TURN_KEYS for turn in told["turns"])
    assert np.abs(soundfile.read(out)[0]).max() > 0.1

    (session,) = told["sessions"]
    amount = sum(Decimal(turn["total"]["amount"]) for turn in told["turns"])
    assert (session["turns"], Decimal(session["amount"])) == (2, amount)
    booked = report.totals(LedgerReader(state).records())
    assert told["usage"] == booked
    assert Decimal(booked["total"][0]["amount"]) == amount
    assert verify_books(state).whole
    words = Words(state, SystemClock())
    assert [said["transcript"] for said in words.read(session["session_id"])] == ["what time is breakfast"] * 2
    words.close()
    (picture,) = map(Path, told["waterfalls"])
    assert picture == state / "waterfalls" / f"session-{session['session_id']}.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert told["listening_after_s"] > 0


def test_a_turn_that_fails_is_not_met_with_silence(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "in.wav", np.concatenate([np.zeros(4000), tone(0.5), np.zeros(4000)]), 16_000)
    failing = {"VOXMETER_LLM__OPTIONS": '{"replies": ["fail: it burns"]}'}
    words = ("talk", "--wav", tmp_path / "in.wav", "--out", tmp_path / "out.wav", "--json", "--state-dir", tmp_path / "s", *SCRIPTED)
    ended = voxmeter(*words, **(BRIEF | failing))  # type: ignore[arg-type]
    assert [turn["reply"] for turn in ended.told["turns"]] == [""]
    assert np.abs(soundfile.read(tmp_path / "out.wav")[0]).max() > 0.1
    (apology,) = [record["data"] for record in LedgerReader(tmp_path / "s").records("usage") if record["data"]["stage"] == "tts"]
    assert apology["session_id"] != ended.told["sessions"][0]["session_id"]


def test_silence_is_no_speech_and_people_get_lines(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "in.wav", np.zeros(8000), 16_000)
    ended = voxmeter("talk", "--wav", tmp_path / "in.wav", "--out", tmp_path / "out.wav", "--state-dir", tmp_path / "s", *SCRIPTED)
    assert (ended.status, "no speech heard" in ended.line) == (1, True)
    assert ended.out.startswith("listening after ")


def test_on_a_terminal_the_picture_changes_and_ctrl_c_settles_and_sums_up(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "in.wav", np.concatenate([np.zeros(4000), tone(0.5), np.zeros(16_000 * 60)]), 16_000)
    words = ("talk", "--wav", tmp_path / "in.wav", "--out", tmp_path / "out.wav", "--state-dir", tmp_path / "s", *SCRIPTED)
    ours, theirs = pty.openpty()
    slowly = {"VOXMETER_TTS__OPTIONS": '{"ms_per_character": 500}', "TERM": "xterm", "COLUMNS": "120"}
    with subprocess.Popen([*COMMAND, *map(str, words)], stdout=theirs, stderr=subprocess.PIPE, env=os.environ | slowly) as talk:
        os.close(theirs)
        shown = ""
        while "speaking" not in shown:
            shown += os.read(ours, 65_536).decode()
        talk.send_signal(signal.SIGINT)
        try:
            while piece := os.read(ours, 65_536):
                shown += piece.decode()
        except OSError:  # the other end is closed
            pass
        assert talk.stderr is not None
        assert (talk.wait(30), talk.stderr.read()) == (0, b"")
    os.close(ours)
    for part in ("Breakfast is served", "\N{BLACK VERTICAL RECTANGLE}", "robot ", "what time is breakfast", "session ", "picture "):
        assert part in shown
    booked = [record["data"] for record in LedgerReader(tmp_path / "s").records("usage")]
    assert {record["stage"]: record["outcome"] for record in booked} == {"asr": "completed", "llm": "completed", "tts": "interrupted"}


def test_it_is_refused_beside_a_service(tmp_path: Path, spoken: Path) -> None:
    command = [*COMMAND, "run", *SCRIPTED, "--state-dir", str(tmp_path / "s")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as service:
        assert service.stdout is not None
        assert service.stdout.readline().startswith("ready")
        ended = voxmeter("talk", "--wav", spoken, "--out", tmp_path / "o.wav", "--state-dir", tmp_path / "s", *SCRIPTED)
        service.terminate()
        service.wait(30)
    assert (ended.status, f"belongs to process {service.pid}" in ended.line) == (2, True)


def test_what_is_wrong_is_said_in_one_line_before_models_load(tmp_path: Path, spoken: Path) -> None:
    ended = voxmeter("talk", "--wav", spoken, "--out", tmp_path / "o.wav", "--push-to-talk", "--state-dir", tmp_path / "s", *SCRIPTED)
    assert (ended.status, "push to talk takes its key from a terminal" in ended.line) == (2, True)
    ended = voxmeter("talk", "--wav", spoken, "--out", "/nowhere/o.wav", "--state-dir", tmp_path / "s", *SCRIPTED)
    assert (ended.status, "/nowhere/o.wav: the reply can't be written there" in ended.line) == (2, True)
    assert not (tmp_path / "s").exists()


def test_without_devices_or_their_library_one_line_says_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')")
    (tmp_path / "asound.conf").write_text("pcm.none { type asym }\n")  # of a machine without a sound card
    for environment, says in (
        ({"ALSA_CONFIG_PATH": "/nowhere"}, "ALSA's configuration /nowhere is not there; apt-get install"),
        ({"ALSA_CONFIG_PATH": str(tmp_path / "asound.conf")}, "there is no microphone; plug one in, or use files"),
        ({"PYTHONPATH": str(tmp_path)}, "PortAudio is not installed; apt-get install libportaudio2"),
    ):
        ended = voxmeter("talk", "--state-dir", tmp_path / "s", *SCRIPTED, **environment)  # type: ignore[arg-type]
        assert (ended.status, says in ended.line) == (2, True), ended.err


def test_space_is_taken_from_a_terminal_which_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)
    pressed: list[int] = []

    async def main() -> None:
        with keys.space_bar(lambda: pressed.append(1)):
            assert termios.tcgetattr(theirs) != before
            for key in (b"x", b" ", b" "):
                os.write(ours, key)
                await asyncio.sleep(0.05)

    with os.fdopen(theirs) as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        keys.check()
        asyncio.run(main())
        assert termios.tcgetattr(theirs) == before
    os.close(ours)
    assert len(pressed) == 2


def test_a_moment_shows_what_was_heard_and_what_is_to_come_money_and_trouble() -> None:
    stages = (StageNow("asr", "completed", Decimal(4), Decimal("0.04")), StageNow("llm", "…", None, None))
    now = Now("speaking", -30, "where is it", "On the second", "floor.", stages, "deaf: microphone x: gone")
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(view(now, key="", sums="2 turns, 50 tokens, 0.5 CNY"))
    shown = console.export_text()
    for part in (
        "speaking",
        "-30 dB",
        "where is it",
        "On the second floor.",
        "0.04",
        "…",
        "2 turns, 50 tokens, 0.5 CNY",
        "deaf: microphone x",
    ):
        assert part in shown


def test_a_robot_that_is_to_listen_and_can_not_is_a_finding_of_the_doctor(tmp_path: Path) -> None:
    listens = {"ALSA_CONFIG_PATH": "/nowhere", "VOXMETER_SOUND__INPUT": "mic"}
    ended = voxmeter("doctor", "--json", "--state-dir", tmp_path, *SCRIPTED, **listens)  # type: ignore[arg-type]
    assert (ended.status, "sound: ALSA's configuration /nowhere is not there" in ended.err) == (1, True)
    assert ended.told[-1]["status"] == "bad"


def test_interruptions_are_played_and_added_up() -> None:
    ended = voxmeter("sim", "interrupts", "--count", "3", "--seed", "7", "--json")
    assert (ended.status, ended.told["runs"], ended.told["seed"], ended.told["broken"]) == (0, 3, 7, [])
    assert ended.err == "seed 7\n"
