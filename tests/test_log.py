"""What is logged: a line as JSON with its priority for the journal, plain for a person, by level, one line whatever is in it."""

import io
import json
import os
from pathlib import Path

import pytest

from agent.errors import BadInput
from agent.log import LINE_CHARACTERS_MAX, LINES_KEPT, Log, to_journal


def test_the_journal_gets_json_behind_a_priority() -> None:
    stream = io.StringIO()
    log = Log(stream, journal=True)
    log.say("a\nb", level="error", part="capture")
    line = stream.getvalue()
    assert line.startswith("<3>{")
    assert json.loads(line[3:]) == {"event": "a b", "level": "error", "part": "capture"}


def test_a_person_gets_a_plain_line() -> None:
    stream = io.StringIO()
    log = Log(stream, journal=False)
    log.say("ready")
    log.say("slow", level="warning")
    assert stream.getvalue() == "ready\nwarning: slow\n"


def test_the_level_can_be_changed_while_it_runs() -> None:
    stream = io.StringIO()
    log = Log(stream, journal=False, level="warning")
    log.say("no")
    log.level("debug")
    log.say("yes", level="debug")
    assert stream.getvalue() == "debug: yes\n"
    with pytest.raises(BadInput, match="there are: debug, info, warning, error"):
        log.level("loud")


def test_a_line_is_never_longer_than_it_may_be_and_only_the_newest_are_kept() -> None:
    log = Log(io.StringIO(), journal=False)
    for number in range(LINES_KEPT + 10):
        log.say(f"{number} " + "x" * 5000)
    assert len(log.lines) == LINES_KEPT
    assert len(log.lines[-1]) <= LINE_CHARACTERS_MAX
    assert log.lines[0].startswith("10 ")


def test_nobody_listening_is_no_reason_to_stop() -> None:
    stream = io.StringIO()
    log = Log(stream, journal=False)
    stream.close()
    log.say("x")
    assert list(log.lines) == ["x"]


def test_only_the_stream_that_systemd_names_goes_to_the_journal(tmp_path: Path) -> None:
    with (tmp_path / "stream").open("w") as stream:
        status = os.fstat(stream.fileno())
        assert to_journal(stream, {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"})
        assert not to_journal(stream, {"JOURNAL_STREAM": "8:1"})
        assert not to_journal(stream, {})
    assert not to_journal(io.StringIO(), {"JOURNAL_STREAM": ""})
