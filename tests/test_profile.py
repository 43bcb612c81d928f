"""A wrong key or value of a device profile is refused with file, line and a suggestion."""

from pathlib import Path

import pytest

from agent import profile
from agent.errors import BadProfile
from agent.fitting import check_names, check_room, counter, read_cards, settings_of
from agent.shipped import shipped
from agent.weights import catalog

SHIPPED = sorted(path.stem for path in shipped("device_profiles").glob("*.toml"))
GOOD = (shipped("device_profiles") / "simulated.toml").read_text()


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_profiles_are_sound(name: str) -> None:
    loaded = profile.load(name)
    check_names(loaded, catalog.read())
    read_cards(loaded)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("threads = 2", "thread = 2"), "unknown key llm.thread; did you mean 'threads'?"),
        (("[hearing]", "[haering]"), "unknown key haering; did you mean 'hearing'?"),
        (("threads = 2", 'threads = "two"'), "llm.threads"),
        (("threads = 2", "threads = 0"), "greater than or equal to 1; it is 0"),
        (("temperature = 0.0", "temperature = -1"), "llm.temperature"),
        (('id = "sim-0001"', 'id = "../x"'), "device.id"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, change: tuple[str, str], says: str) -> None:
    text = GOOD.replace(*change, 1)
    path = tmp_path / "p.toml"
    path.write_text(text)
    number = 1 + next(index for index, held in enumerate(text.splitlines()) if held.startswith(change[1]))
    with pytest.raises(BadProfile) as caught:
        profile.load(str(path))
    assert f"{path}:{number}" in str(caught.value)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (GOOD.replace("[asr]", "[asr"), "not TOML"),
        ("", "device is missing; add [device]"),
        (GOOD.replace('id = "sim-0001"', ""), "device.id is missing; add id to [device]"),
    ],
)
def test_broken_and_missing(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "p.toml"
    path.write_text(text)
    with pytest.raises(BadProfile) as caught:
        profile.load(str(path))
    assert str(caught.value).startswith(str(path))
    assert says in str(caught.value)


def test_an_unknown_profile_is_named_with_the_nearest() -> None:
    with pytest.raises(BadProfile, match="did you mean 'simulated'"):
        profile.load("simulatd")


def test_the_environment_overrides_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOXMETER_LLM__THREADS", "1")
    monkeypatch.setenv("VOXMETER_DEVICE__ID", "robot-7")
    loaded = profile.load("simulated")
    assert (loaded.llm.threads, loaded.llm.max_tokens, loaded.device.id) == (1, 64, "robot-7")


@pytest.mark.parametrize(("key", "value"), [("VOXMETER_LLM__THREDS", "1"), ("VOXMETER_LLM__TOP_P", "7"), ("VOXMETER_LMM__THREADS", "1")])
def test_a_wrong_key_of_the_environment_is_named(monkeypatch: pytest.MonkeyPatch, key: str, value: str) -> None:
    monkeypatch.setenv(key, value)
    with pytest.raises(BadProfile) as caught:
        profile.load("simulated")
    assert str(caught.value).startswith(f"environment {key}: ")


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("VOXMETER_ASR__ENGINE", "asr_telepathy", "there are: asr_moonshine"),
        ("VOXMETER_LLM__ENGINE", "asr_moonshine", "there are: llm_onnx"),
        ("VOXMETER_LLM__MODEL", "gpt-9", "has no model 'gpt-9'; there are: smollm2-135m-instruct"),
    ],
)
def test_names_are_checked_against_the_registries(monkeypatch: pytest.MonkeyPatch, key: str, value: str, says: str) -> None:
    monkeypatch.setenv(key, value)
    with pytest.raises(BadProfile, match=says):
        check_names(profile.load("simulated"), catalog.read())


@pytest.mark.parametrize(("key", "value"), [("VOXMETER_LLM__STOP", "abc"), ("VOXMETER_LLM", "abc")])
def test_environment_values_that_are_no_json_are_refused_in_one_line(monkeypatch: pytest.MonkeyPatch, key: str, value: str) -> None:
    monkeypatch.setenv(key, value)
    with pytest.raises(BadProfile, match="environment VOXMETER_") as caught:
        profile.load("simulated")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["_env_file", "_build_sources", "_cli_parse_args", "colour"])
def test_a_key_at_the_top_that_nobody_knows(tmp_path: Path, key: str) -> None:
    path = tmp_path / "p.toml"
    path.write_text(f"{key} = true\n{GOOD}")
    with pytest.raises(BadProfile, match=f"p.toml:1: unknown key {key}"):
        profile.load(str(path))


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("VOXMETER_LLM__CONTEXT_TOKENS", "8192", "context_tokens is 8192 and smollm2-135m-instruct has 2048"),
        ("VOXMETER_DIALOG__SYSTEM_PROMPT", "word " * 1950, "leaves 18 of 2048"),
        ("VOXMETER_LLM__MAX_TOKENS", "1024", ""),
    ],
)
def test_instructions_must_leave_room_for_a_question(
    monkeypatch: pytest.MonkeyPatch, models: Path, key: str, value: str, says: str
) -> None:
    monkeypatch.setenv(key, value)
    loaded, known = profile.load("simulated"), catalog.read()
    held = settings_of(loaded, "llm", known, models)
    if not says:
        check_room(loaded, held, counter(loaded.llm.model, known, models))
        return
    with pytest.raises(BadProfile, match=says):
        check_room(loaded, held, counter(loaded.llm.model, known, models))
