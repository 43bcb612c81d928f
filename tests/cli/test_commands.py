"""Commands as their users run them: JSON alone on stdout, one line on stderr, the exit statuses of the contract."""

import shutil
import sqlite3
from pathlib import Path

import pytest

from tests.e2e.helpers import voxmeter
from tests.sim.helpers import asked_once


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state folder with one turn in it."""
    return asked_once(tmp_path_factory.mktemp("state"))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["ask"], "Missing argument"),
        (["ask", "a.wav", "--loud"], "No such option"),
        (["sing"], "No such command"),
        (["usage", "explain", "9" * 5000, "--state-dir", "/nowhere"], "no ledger in /nowhere"),
        (["usage"], "Missing command"),
        (["usage", "list", "--state-dir", "/nowhere"], "no ledger in /nowhere"),
        (["usage", "explain", "1", "--state-dir", "/nowhere"], "no ledger in /nowhere"),
        (["tokens", "count", "--model", "qwen-trubo", "hello"], "did you mean 'qwen-turbo'?"),
        (["models", "pull", "moonshine-tinny-en"], "did you mean 'moonshine-tiny-en'?"),
        (["models", "verify", "gpt-9"], "no model is called 'gpt-9'"),
        (["doctor", "--profile", "kioks-x86"], "kiosk-x86"),
        (["bench", "turn", "--corpus", "/nowhere"], "holds no speech.toml"),
        (["demo", "--out", "/proc/demo"], "/proc/demo"),
    ],
    ids=lambda words: " ".join(words)[:60],
)
def test_wrong_words_get_one_plain_line(words: list[str], says: str) -> None:
    ended = voxmeter(*words)
    assert ended.status == (1 if words[0] == "doctor" else 2)
    assert says in ended.line


def test_without_words_it_helps() -> None:
    ended = voxmeter()
    assert (ended.status, ended.err) == (0, "")
    for command in ("ask", "demo", "doctor", "models", "usage", "tokens", "bench"):
        assert f" {command} " in ended.out


@pytest.mark.parametrize("text", ["Apple", "你好，请问早餐几点开始？", "🙂 مرحبا", "x" * 100_000])
def test_tokens_of_any_text(text: str) -> None:
    told = voxmeter("tokens", "count", "--model", "qwen-max", text, "--json").told
    assert set(told) == {"count", "ids", "tokens"}
    assert told["count"] == len(told["ids"]) == len(told["tokens"])


def test_tokens_from_standard_input_may_hold_anything() -> None:
    told = voxmeter("tokens", "count", "--model", "smollm2-135m-instruct", "-", "--json", stdin=b"a\0b \xff \xf0\x9f\x99\x82").told
    assert told["count"] > 3


def test_text_that_is_not_utf8_is_refused() -> None:
    import os
    import subprocess

    from tests.e2e.helpers import COMMAND

    done = subprocess.run(
        [*COMMAND, "tokens", "count", "--model", "qwen-max", b"\xff\xfe"], capture_output=True, env=os.environ, check=False
    )
    assert done.returncode == 2
    assert b"not UTF-8" in done.stderr


def test_one_changed_byte_in_the_ledger_is_named(tmp_path: Path, state: Path) -> None:
    shutil.copytree(state, tmp_path / "state")
    connection = sqlite3.connect(tmp_path / "state/ledger.db")
    (body,) = connection.execute("SELECT body FROM record WHERE sequence = 3").fetchone()
    connection.execute("UPDATE record SET body = ? WHERE sequence = 3", (body.replace(b'"attempt":1', b'"attempt":2'),))
    connection.commit()
    connection.close()
    ended = voxmeter("usage", "verify", "--state-dir", tmp_path / "state")
    assert ended.status == 1
    assert "sequence 3" in ended.line
    told = voxmeter("usage", "verify", "--state-dir", tmp_path / "state", "--json")
    assert (told.told["whole"], told.told["sequence"]) == (False, 3)


@pytest.mark.parametrize("command", [["list"], ["list", "--type", "usage"], ["total"], ["explain", "2"], ["verify"]])
def test_people_get_tables_and_machines_json(state: Path, command: list[str]) -> None:
    shown = voxmeter("usage", *command, "--state-dir", state)
    assert (shown.status, shown.err) == (0, "")
    assert shown.out.strip()
    assert voxmeter("usage", *command, "--state-dir", state, "--json").told


def test_a_type_nobody_knows_lists_nothing(state: Path) -> None:
    assert voxmeter("usage", "list", "--type", "weather", "--state-dir", state, "--json").told == []


def test_models_are_listed_with_licence_size_and_sha256(models: Path) -> None:
    told = voxmeter("models", "list", "--json").told
    assert all(model["ready"] and model["licence"] and model["size"] and model["files"][0]["sha256"] for model in told["models"])
    assert "research licence" in voxmeter("models", "list").out


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda path: path.unlink(), "silero_vad.onnx is missing"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "silero_vad.onnx has 2327523 bytes instead of 2327524"),
        (lambda path: path.write_bytes(b"\x00" + path.read_bytes()[1:]), "silero_vad.onnx was altered"),
    ],
    ids=["missing", "truncated", "altered"],
)
def test_a_damaged_model_is_named_before_anything_is_heard(
    tmp_path: Path, models: Path, question: Path, damage: "object", says: str
) -> None:
    for folder in models.iterdir():
        if folder.name == "silero-vad":
            shutil.copytree(folder, tmp_path / folder.name)
        else:
            (tmp_path / folder.name).symlink_to(folder)
    damage(tmp_path / "silero-vad/silero_vad.onnx")  # type: ignore[operator]
    for command in (["ask", question, "--state-dir", tmp_path / "state"], ["models", "verify", "silero-vad"]):
        ended = voxmeter(*command, VOXMETER_MODELS=str(tmp_path))
        assert ended.status == (2 if command[0] == "ask" else 1)
        assert says in ended.line
        assert "models pull" in ended.line


def test_no_models_at_all_says_what_to_do(tmp_path: Path, question: Path) -> None:
    ended = voxmeter("ask", question, "--state-dir", tmp_path, VOXMETER_MODELS=str(tmp_path / "none"))
    assert ended.status == 2
    assert "run: voxmeter models pull moonshine-tiny-en" in ended.line


def test_the_doctor_examines_everything(state: Path) -> None:
    told = voxmeter("doctor", "--json", "--state-dir", state)
    assert told.status == 0
    assert [check["check"] for check in told.told] == ["profile", "models", "disk", "sync", "clock", "sound"]
    assert "a durable write takes" in voxmeter("doctor", "--state-dir", state).out


def test_the_doctor_finds_what_is_missing(tmp_path: Path) -> None:
    ended = voxmeter("doctor", "--state-dir", tmp_path, VOXMETER_MODELS=str(tmp_path / "none"))
    assert ended.status == 1
    assert "run: voxmeter models pull" in ended.line


def test_a_bad_rate_card_is_named(tmp_path: Path, question: Path) -> None:
    card = tmp_path / "card.toml"
    card.write_text('id = "x"\n')
    ended = voxmeter("ask", question, "--state-dir", tmp_path, VOXMETER_BILLING__RATE_CARD=str(card))
    assert ended.status == 2
    assert f"{card}: version: Field required" in ended.line


def test_a_system_prompt_longer_than_the_context(tmp_path: Path, question: Path) -> None:
    ended = voxmeter("ask", question, "--state-dir", tmp_path, VOXMETER_DIALOG__SYSTEM_PROMPT="word " * 3000)
    assert ended.status == 2
    assert "the system prompt is 3" in ended.line
    assert "of 2048 for a question; shorten it" in ended.line


@pytest.mark.parametrize("command", [["list"], ["total"], ["explain", "2"], ["list", "--json"], ["verify"]])
def test_a_damaged_ledger_gets_one_plain_line(tmp_path: Path, state: Path, command: list[str]) -> None:
    shutil.copytree(state, tmp_path / "state")
    connection = sqlite3.connect(tmp_path / "state/ledger.db")
    connection.execute("UPDATE record SET body = 'text' WHERE sequence = 2")
    connection.commit()
    connection.close()
    ended = voxmeter("usage", *command, "--state-dir", tmp_path / "state")
    assert ended.status == 1
    assert ended.line


def test_a_reply_lost_to_a_full_disk_keeps_the_turn(tmp_path: Path, question: Path) -> None:
    ended = voxmeter("ask", question, "--out", "/dev/full", "--state-dir", tmp_path, "--json")
    assert ended.status == 1
    assert "/dev/full: the reply can't be written there" in ended.line
    assert ended.told["reply_audio"] is None
    assert ended.told["reply"]


def test_the_version_is_told() -> None:
    ended = voxmeter("--version")
    assert ended.status == 0
    assert ended.out.startswith("voxmeter ")
