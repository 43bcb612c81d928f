"""The shipped FAQs on the real embedder, by the public questions and by held-out ones of our own; the command around them."""

import asyncio
import json
from pathlib import Path

import pytest

from agent.clock import SystemClock
from agent.faq import check
from agent.shipped import shipped
from tests.conftest import GOLDEN
from tests.e2e.helpers import voxmeter

FAQ = shipped("device_profiles") / "faq"
LANGUAGES = ("en", "zh", "id")


def test_nine_in_ten_are_right_and_no_more_than_one_stranger_in_twenty_is_answered(models: Path, tmp_path: Path) -> None:
    files = [json.loads((GOLDEN / f"faq/{name}.json").read_text()) for name in ("questions", "held_out")]
    told = []
    for language in LANGUAGES:  # both files at once: embedding the book is most of the work
        both = tmp_path / f"{language}.json"
        both.write_text(json.dumps({key: [one for file in files for one in file[language][key]] for key in ("asked", "strangers")}))
        told.append(asyncio.run(check(FAQ / f"hotel.{language}.toml", both, None, models, SystemClock())))
    public = {row[0] for language in LANGUAGES for row in files[0][language]["asked"]}
    missed = [row["text"] for one in told for row in one["wrong"] if row["expected"]]
    right, asked, false, strangers = (sum(one[key] for one in told) for key in ("right", "asked", "false", "strangers"))
    assert right >= 0.9 * asked, missed
    assert len(public.intersection(missed)) <= 0.1 * len(public), missed
    assert false <= 0.05 * strangers, [row["text"] for one in told for row in one["wrong"] if row["answered"]]
    assert not any(row["answered"] and row["expected"] for one in told for row in one["wrong"])  # nobody got another's answer


@pytest.mark.parametrize("language", LANGUAGES)
def test_without_weights_fewer_are_right_and_strangers_stay_strangers(language: str, tmp_path: Path) -> None:
    told = asyncio.run(check(FAQ / f"hotel.{language}.toml", GOLDEN / "faq/questions.json", None, tmp_path, SystemClock()))
    assert told["right"] >= 0.75 * told["asked"]
    assert told["false"] == 0
    assert "voxmeter models pull e5-small" in told["notices"][0]


def test_no_alias_is_a_test_question() -> None:
    tests = [json.loads((GOLDEN / f"faq/{name}.json").read_text()) for name in ("questions", "held_out", "calibration")]
    for language in LANGUAGES:
        book = (FAQ / f"hotel.{language}.toml").read_text()
        assert not [text for one in tests for text, *_ in one[language]["asked"] if f'"{text}"' in book]


def test_the_command_prints_the_contract_s_figures(tmp_path: Path) -> None:
    ended = voxmeter("faq", "check", FAQ / "hotel.en.toml", "--json", VOXMETER_MODELS=str(tmp_path))
    assert ended.status == 0
    assert {"right", "false", "asked", "strangers", "wrong"} <= set(ended.told)
    assert ended.told["asked"] == 96
    assert "words alone" in ended.line


@pytest.mark.parametrize(
    ("content", "words", "says"),
    [
        ("[[entry]]\nid = 'a'\nquestion = 'b'\n", [], "entry 1 (a): answer is missing"),
        ("[[entry]]\nid = 'a'\nquestion = 'b'\nanswer = 'c'\n", ["--lang", "fr"], "no language is called 'fr'; there are: en, zh, id"),
        ("[[entry]]\nid = 'a'\nquestion = 'b'\nanswer = 'c'\n", ["--questions", "/nowhere.json"], "/nowhere.json"),
    ],
)
def test_what_can_t_be_used_is_said_in_one_line(tmp_path: Path, content: str, words: list[str], says: str) -> None:
    path = tmp_path / "faq.toml"
    path.write_text(content)
    ended = voxmeter("faq", "check", path, *words)
    assert ended.status == 2
    assert says in ended.line
