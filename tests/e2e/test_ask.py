"""One metered turn through the real command: human speech in, the contract's JSON out, the books whole."""

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from agent.contract.record import check
from tests.conftest import tone
from tests.e2e.helpers import COMMAND, usage, voxmeter

TURN_KEYS = {"turn_id", "session_id", "transcript", "reply", "reply_audio", "stages", "total", "latency", "notes", "problems"}
STAGE_KEYS = {
    "stage", "engine", "model", "placement", "origin", "outcome", "input_tokens", "output_tokens", "cached_tokens", "audio_in_ms",
    "audio_out_ms", "characters", "billed_tokens", "amount", "started_ms", "first_output_ms", "duration_ms",
}  # fmt: skip


def test_a_human_recording_gives_the_json_of_the_contract(tmp_path: Path, recordings: dict[str, Path]) -> None:
    state, reply = tmp_path / "state", tmp_path / "reply.wav"
    ended = voxmeter("ask", recordings["beckett.wav"], "--out", reply, "--state-dir", state, "--json")
    assert (ended.status, ended.err) == (0, "")
    told = ended.told
    assert set(told) == TURN_KEYS
    assert [set(stage) for stage in told["stages"]] == [STAGE_KEYS] * 3
    assert told["transcript"].lower().startswith("ever tried, ever failed, no matter")
    assert told["reply_audio"] == str(reply)
    assert soundfile.info(reply).frames > 0
    assert told["latency"]["speech_end_to_first_audio_ms"] > 0
    asr, llm, tts = told["stages"]
    assert [stage["stage"] for stage in told["stages"]] == ["asr", "llm", "tts"]
    assert {(stage["outcome"], stage["origin"], stage["placement"]) for stage in told["stages"]} == {("completed", "counted", "device")}
    assert tts["started_ms"] >= llm["first_output_ms"] > llm["started_ms"] >= asr["first_output_ms"]
    assert Decimal(told["total"]["amount"]) == sum(Decimal(stage["amount"]) for stage in told["stages"])
    assert int(told["total"]["billed_tokens"]) == sum(int(stage["billed_tokens"]) for stage in told["stages"])
    assert int(llm["billed_tokens"]) == llm["input_tokens"] + llm["output_tokens"]


def test_the_books_say_what_the_turn_said(tmp_path: Path, question: Path) -> None:
    told = voxmeter("ask", question, "--state-dir", tmp_path, "--json").told
    records = voxmeter("usage", "list", "--json", "--state-dir", tmp_path).told
    for record in records:
        check(record)
    assert [record["type"] for record in records] == ["voxmeter.epoch.v1", "voxmeter.intent.v1", *["voxmeter.usage.v1"] * 3]
    for record, stage in zip(records[2:], told["stages"], strict=True):
        assert (record["data"]["amount"], record["data"]["billed_tokens"]) == (stage["amount"], stage["billed_tokens"])
        assert record["data"]["turn_id"] == told["turn_id"]
    summed = voxmeter("usage", "total", "--json", "--state-dir", tmp_path).told
    assert summed["total"] == [told["total"]]
    explained = voxmeter("usage", "explain", told["turn_id"], "--json", "--state-dir", tmp_path).told
    assert [one["amount"] for one in explained] == [stage["amount"] for stage in told["stages"]]
    verified = voxmeter("usage", "verify", "--json", "--state-dir", tmp_path)
    assert (verified.status, verified.told["records"], verified.told["whole"]) == (0, 5, True)
    counted = voxmeter("tokens", "count", "--model", "smollm2-135m-instruct", told["reply"], "--json").told
    assert counted["count"] == told["stages"][1]["output_tokens"]


def test_words_are_not_on_the_books(tmp_path: Path, question: Path) -> None:
    told = voxmeter("ask", question, "--state-dir", tmp_path, "--json").told
    assert "breakfast" in told["transcript"].lower()
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert b"breakfast" not in path.read_bytes().lower(), path


def test_96_khz_24_bit_stereo_is_heard_as_well(tmp_path: Path, question: Path) -> None:
    sound, rate_hz = soundfile.read(question)
    path = tmp_path / "studio.wav"
    soundfile.write(path, np.repeat(soxr.resample(sound, rate_hz, 96_000)[:, None], 2, 1), 96_000, subtype="PCM_24")
    told = voxmeter("ask", path, "--state-dir", tmp_path / "state", "--json").told
    assert told["transcript"] == "What time does breakfast start in the morning?"


def test_silence_is_no_speech_and_only_the_listening_is_billed(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silence.wav", np.zeros(48_000), 16_000)
    ended = voxmeter("ask", tmp_path / "silence.wav", "--state-dir", tmp_path, "--out", tmp_path / "r.wav", "--json")
    assert ended.status == 1
    assert "no speech" in ended.line
    assert [stage["stage"] for stage in ended.told["stages"]] == ["asr"]
    assert ended.told["reply_audio"] is None
    assert not (tmp_path / "r.wav").exists()
    (asr,) = usage(tmp_path)
    assert (asr["stage"], asr["gen_ai.usage.output_tokens"], asr["audio_in_ms"]) == ("asr", 0, 0)


@pytest.mark.long
def test_ten_minutes_are_cut_at_pauses_with_bounded_memory(tmp_path: Path, recordings: dict[str, Path]) -> None:
    sound, rate_hz = soundfile.read(recordings["two_cities.wav"])
    with soundfile.SoundFile(tmp_path / "long.wav", "w", rate_hz, 1, "PCM_16") as file:
        for _ in range(600 * rate_hz // len(sound) + 1):
            file.write(sound)
    command = [*COMMAND, "ask", str(tmp_path / "long.wav"), "--state-dir", str(tmp_path), "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    peak = _watch_peak(process)
    out, err = process.communicate(timeout=230)
    assert process.returncode == 0, err
    assert json.loads(out)["transcript"].lower().count("best of times") == 14
    assert b"the question is too long for the model" in out
    (asr, llm, _) = usage(tmp_path)
    assert asr["audio_in_ms"] > 500_000
    assert llm["gen_ai.usage.input_tokens"] < 2048
    assert peak() < 1_500


def _watch_peak(process: "subprocess.Popen[bytes]") -> Callable[[], float]:
    """The largest sum of resident memory, in MB, of a process and its children."""
    held = [0.0]

    def watch() -> None:
        while process.poll() is None:
            held[0] = max(held[0], sum(_rss_mb(pid) for pid in [process.pid, *_children(process.pid)]))
            time.sleep(0.5)

    thread = threading.Thread(target=watch)
    thread.start()

    def peak() -> float:
        thread.join()
        return held[0]

    return peak


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _rss_mb(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) / 1000 for line in lines if line.startswith("VmRSS")), 0)


def test_piper_killed_in_mid_turn_ends_the_turn_and_the_next_one_works(tmp_path: Path, recordings: dict[str, Path], question: Path) -> None:
    """Kill -9 from outside, while the voice works."""
    command = [*COMMAND, "ask", str(recordings["beckett.wav"]), "--state-dir", str(tmp_path), "--json"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ | {"VOXMETER_LLM__REPETITION_PENALTY": "1.0"}
    )
    voice = _child_of(process.pid, "tts_piper")
    _stop_when_speaking(voice)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert b"tts_piper was killed (SIGKILL)" in err
    assert b"Traceback" not in err
    assert b'"outcome": "failed"' in out
    records = {record["stage"]: record for record in usage(tmp_path)}
    assert records["asr"]["outcome"] == "completed"
    assert records["tts"]["outcome"] == "failed"
    assert records["tts"]["gen_ai.usage.input_tokens"] > 0
    assert records["llm"]["gen_ai.usage.output_tokens"] > 0
    assert voxmeter("ask", question, "--state-dir", tmp_path, "--json").status == 0
    assert voxmeter("usage", "verify", "--state-dir", tmp_path).status == 0


def _child_of(pid: int, engine: str) -> int:
    for _ in range(200):
        for child in _children(pid):
            if engine in Path(f"/proc/{child}/cmdline").read_text():
                return child
        time.sleep(0.05)
    raise AssertionError(f"no {engine} was started")


def _stop_when_speaking(voice: int) -> None:
    """Kills the voice as soon as it works after its model is loaded: its processor time grows again after having stood still."""
    still, before = 0, -1
    for _ in range(6000):
        now = _ticks(voice)
        if still > 30 and now > before:
            os.kill(voice, signal.SIGKILL)
            return
        still = still + 1 if now == before else 0
        before = now
        time.sleep(0.005)
    raise AssertionError("the voice never spoke")


@pytest.mark.parametrize("signals", [[signal.SIGINT], [signal.SIGINT] * 4, [signal.SIGTERM]], ids=["once", "again and again", "SIGTERM"])
def test_stopping_settles_the_turn_as_interrupted(tmp_path: Path, recordings: dict[str, Path], signals: list[signal.Signals]) -> None:
    sound, rate_hz = soundfile.read(recordings["two_cities.wav"])
    soundfile.write(tmp_path / "long.wav", np.tile(sound, 5), rate_hz)
    command = [*COMMAND, "ask", str(tmp_path / "long.wav"), "--state-dir", str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=_as_in_a_terminal)
    voice = _child_of(process.pid, "tts_piper")
    _wait_until_busy(_child_of(process.pid, "asr_moonshine"), 2.5)
    for number in signals:
        process.send_signal(number)
        time.sleep(0.02)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, b"voxmeter: stopped\n")
    (asr,) = usage(tmp_path)
    assert asr["outcome"] == "interrupted"
    assert asr["audio_in_ms"] > 0
    assert not Path(f"/proc/{voice}").exists()


def _as_in_a_terminal() -> None:
    """A shell's background jobs, as in some CI, ignore Ctrl-C; and so would what they start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _wait_until_busy(pid: int, seconds: float) -> None:
    """Until a process has used so much processor time: more than loading its model takes, on however busy a machine."""
    for _ in range(1200):
        if _ticks(pid) / os.sysconf("SC_CLK_TCK") >= seconds:
            return
        time.sleep(0.05)
    raise AssertionError("it never worked")


def _ticks(pid: int) -> int:
    return sum(map(int, Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]))


def test_two_robots_on_one_ledger_are_told_apart(tmp_path: Path, question: Path) -> None:
    import fcntl

    with (tmp_path / "ledger.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write("4711")
        lock.flush()
        ended = voxmeter("ask", question, "--state-dir", tmp_path)
    assert ended.status == 2
    assert "belongs to process 4711" in ended.line


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: path.write_text("this is not sound"), "not a WAV file"),
        (lambda path: path.write_bytes(b""), "the file is empty"),
        (lambda path: path.mkdir(), "it is a folder"),
        (lambda path: None, "no such file"),
        (lambda path: soundfile.write(path, tone(0), 16_000), "no samples"),
        (lambda path: path.write_bytes(b"RIFF\x24\0\0\0WAVE"), "header is cut short"),
    ],
    ids=["text", "empty", "folder", "missing", "no samples", "header cut"],
)
def test_bad_files_get_one_plain_line(tmp_path: Path, make: Callable[[Path], object], says: str) -> None:
    path = tmp_path / "in.wav"
    make(path)
    ended = voxmeter("ask", path, "--state-dir", tmp_path / "state", "--json")
    assert (ended.status, ended.out) == (2, "")
    assert says in ended.line
    assert not (tmp_path / "state").exists()


def test_a_reply_that_cant_be_written_is_refused_before_it_is_billed(tmp_path: Path, question: Path) -> None:
    for out in (tmp_path / "no/such/reply.wav", tmp_path):
        ended = voxmeter("ask", question, "--out", out, "--state-dir", tmp_path / "state")
        assert ended.status == 2
        assert "the reply can't be written there" in ended.line
    assert not (tmp_path / "state").exists()


def test_a_file_nobody_may_read(tmp_path: Path) -> None:
    """As another user where the tests run as root, who may read everything."""
    path = tmp_path / "in.wav"
    soundfile.write(path, tone(0.5), 16_000)
    path.chmod(0)
    script = "import os, sys\nfrom pathlib import Path\nfrom agent.audio import wav\nos.getuid() or os.seteuid(65534)\n"
    script += "wav.read(Path(sys.argv[1]))"
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        folder.chmod(folder.stat().st_mode | 0o055)
    done = subprocess.run([COMMAND[0], "-c", script, str(path)], capture_output=True, text=True, check=False)
    assert "BadInput" in done.stderr
    assert "permission denied" in done.stderr.splitlines()[-1]
