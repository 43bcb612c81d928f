"""Words: kept for who holds the key, gone for ever with it, and in no file in between."""

import hashlib
import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import BadInput
from agent.sim.clock import SimulatedClock
from agent.store.words import Words
from tests.store.test_keys import Cut, cut_before

SESSION = "0192f0c1-5e55-7abc-8def-session00001"
ASKED = "我的房间号是八零一，请保密 XYZZY"
ANSWERED = "Baik, kamar Anda nomor 801 — terima kasih PLUGH"
NAME = hashlib.sha256(SESSION.encode()).hexdigest()


@contextmanager
def words(state: Path, seed: int = 1) -> Iterator[Words]:
    opened = Words(state, SimulatedClock(seed))
    try:
        yield opened
    finally:
        opened.close()


def everything(state: Path) -> bytes:
    """All names and all bytes of all files."""
    return b"\n".join(str(path).encode() + (path.read_bytes() if path.is_file() else b"") for path in state.rglob("*"))


def planted() -> list[bytes]:
    forms = [text.encode(encoding) for text in (ASKED, ANSWERED, SESSION) for encoding in ("utf-8", "utf-16-le")]
    return [*forms, b"XYZZY", b"PLUGH", ASKED[:6].encode("unicode_escape")]


def keep(kept: Words, turn_id: str = "t1", session: str = SESSION) -> dict[str, str]:
    kept.keep(session, turn_id, ASKED, ANSWERED)
    return {"session_id": session, "turn_id": turn_id, "transcript": ASKED, "reply": ANSWERED}


def test_words_are_read_back_in_order_also_by_the_next_process(tmp_path: Path) -> None:
    with words(tmp_path) as kept:
        said = [keep(kept, turn) for turn in ("t2", "t1", "t3")]
        other = keep(kept, "t1", "another")
        assert kept.read(SESSION) == said
    with words(tmp_path) as kept:
        assert kept.read(SESSION) == said
        assert kept.read("another") == [other]
        assert kept.read("never") == []
        assert kept.sessions() == [SESSION, "another"]


@settings(max_examples=30)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.text(max_size=20), st.text(max_size=20)), max_size=8), st.sampled_from("abc"))
def test_forgetting_one_session_leaves_the_others(
    tmp_path_factory: pytest.TempPathFactory, turns: list[tuple[str, str, str]], gone: str
) -> None:
    with words(tmp_path_factory.mktemp("state")) as kept:
        for number, (session, asked, answered) in enumerate(turns):
            kept.keep(session, f"t{number}", asked, answered)
        assert kept.forget(gone) == any(session == gone for session, _, _ in turns)
        for name in "abc":
            expected = [(asked, answered) for session, asked, answered in turns if session == name != gone]
            assert [(said["transcript"], said["reply"]) for said in kept.read(name)] == expected
        assert set(kept.sessions()) == {session for session, _, _ in turns} - {gone}


def test_no_file_holds_a_word_or_a_session_before_or_after_forgetting(tmp_path: Path) -> None:
    with words(tmp_path) as kept:
        for turn in range(20):
            keep(kept, f"t{turn}")
        key = (tmp_path / "keys/words" / NAME).read_bytes()
        sealed = sqlite3.connect(tmp_path / "text.db").execute("SELECT sealed FROM turn").fetchall()
        assert key in everything(tmp_path)
        assert all(row[0] in everything(tmp_path) for row in sealed[:1])
        assert not [form for form in planted() if form in everything(tmp_path)]
        assert kept.forget(SESSION)
        left = everything(tmp_path)
        assert not [form for form in [*planted(), key, NAME.encode(), *(row[0][:64] for row in sealed)] if form in left]
        assert (kept.read(SESSION), kept.sessions(), kept.forget(SESSION)) == ([], [], False)
    assert key not in everything(tmp_path)


def test_a_key_is_overwritten_where_it_lies_before_its_name_goes(tmp_path: Path) -> None:
    with words(tmp_path) as kept:
        keep(kept)
        with (tmp_path / "keys/words" / NAME).open("rb") as held:  # what an undelete would find
            assert kept.forget(SESSION)
            assert held.read() == bytes(32)


def test_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    previous = os.umask(0)
    try:
        with words(tmp_path / "state") as kept:
            keep(kept)
    finally:
        os.umask(previous)
    for path in (tmp_path / "state").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700


def test_commits_are_durable_and_deleted_rows_are_overwritten(tmp_path: Path) -> None:
    with words(tmp_path) as kept:
        pragma = {
            name: kept._connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous", "secure_delete")
        }
    assert pragma == {"journal_mode": "truncate", "synchronous": 2, "secure_delete": 1}


def test_a_turn_kept_again_takes_its_own_place(tmp_path: Path) -> None:
    with words(tmp_path) as kept:
        first, second = keep(kept, "t1"), keep(kept, "t2")
        kept.keep(SESSION, "t1", ASKED, "cut off")
        assert kept.read(SESSION) == [first | {"reply": "cut off"}, second]


@pytest.mark.parametrize("cut_at", range(5))
def test_a_kill_anywhere_in_forgetting_leaves_words_readable_or_lost_and_a_repeat_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut_at: int
) -> None:
    with words(tmp_path) as kept:
        said = [keep(kept, "t1"), keep(kept, "t2")]
        key = (tmp_path / "keys/words" / NAME).read_bytes()
        with monkeypatch.context() as patch, suppress(Cut):
            cut_before(patch, cut_at, (os, "pwrite"), (os, "fsync"), (Path, "unlink"))
            kept.forget(SESSION)
    with words(tmp_path) as kept:
        assert kept.read(SESSION) == (said if cut_at == 0 else [])
        assert kept.sessions() == ([SESSION] if cut_at == 0 else [])
        assert (key in everything(tmp_path)) == (cut_at == 0)
        kept.forget(SESSION)
        assert (kept.read(SESSION), kept.forget(SESSION)) == ([], False)
    assert NAME.encode() not in everything(tmp_path)


@pytest.mark.parametrize("content", [None, bytes(32)], ids=["gone", "zeros"])
def test_rows_without_a_key_read_as_forgotten_and_new_words_start_afresh(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "keys/words" / NAME
    with words(tmp_path) as kept:
        keep(kept, "t1")
        path.unlink()
        if content is not None:
            path.write_bytes(content)
            path.chmod(0o600)
        assert (kept.read(SESSION), kept.sessions()) == ([], [])
        assert kept.read(SESSION) == []
    with words(tmp_path, seed=2) as kept:
        said = keep(kept, "t2")
        assert kept.read(SESSION) == [said]
        assert kept.sessions() == [SESSION]


def test_rows_alone_are_something_to_forget(tmp_path: Path) -> None:
    with words(tmp_path) as kept:
        keep(kept)
        (tmp_path / "keys/words" / NAME).unlink()
        assert [kept.forget(SESSION), kept.forget(SESSION)] == [True, False]


def test_a_key_that_never_got_its_name_goes_too(tmp_path: Path) -> None:
    with words(tmp_path) as kept:
        part = tmp_path / "keys/words" / f"{NAME}.part"
        part.write_bytes(b"k" * 32)
        assert kept.forget(SESSION)
        assert not part.exists()


@pytest.mark.parametrize(
    "change", ["UPDATE turn SET sealed = zeroblob(80)", "UPDATE turn SET turn_id = 't9'", "UPDATE turn SET sealed = 'text'"]
)
def test_altered_words_are_told_and_can_still_be_forgotten(tmp_path: Path, change: str) -> None:
    with words(tmp_path) as kept:
        keep(kept)
        kept._connection.execute(change)
        for look in (lambda: kept.read(SESSION), kept.sessions):
            with pytest.raises(BadInput, match=rf"words under the key .*{NAME}: a sealed text can't be opened: .*; forget the session"):
                look()
        assert kept.forget(SESSION)
        assert kept.sessions() == []


def test_a_damaged_key_is_told_and_can_still_be_forgotten(tmp_path: Path) -> None:
    with words(tmp_path) as kept:
        keep(kept)
        (tmp_path / "keys/words" / NAME).write_bytes(b"short")
        for look in (lambda: kept.read(SESSION), lambda: keep(kept)):
            with pytest.raises(BadInput, match="is damaged: it has 5 bytes; put back a copy, or forget the session"):
                look()
        assert kept.forget(SESSION)
        assert kept.read(SESSION) == []


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_bytes(b"not a database, and long enough to be looked at" * 100)
    with pytest.raises(BadInput, match=r"text.db: file is not a database; .*the books are not touched"):
        Words(tmp_path, SimulatedClock())


def test_a_folder_that_takes_no_words_is_told(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("in the way")
    with pytest.raises(BadInput, match=r"keys: File exists; check space and rights"):
        Words(tmp_path, SimulatedClock())


def test_any_text_can_be_kept(tmp_path: Path) -> None:
    with words(tmp_path) as kept:
        for session in ("", "会话", "\ud800", "../../etc"):
            kept.keep(session, "t1", "\ud800 \0 🛎", "")
            assert [said["transcript"] for said in kept.read(session)] == ["\ud800 \0 🛎"]
            assert kept.forget(session)


def test_a_turn_that_was_under_way_when_its_session_was_forgotten_is_not_kept(tmp_path: Path) -> None:
    with words(tmp_path) as kept:
        kept.keep("a", "t1", "hello", "hello")
        assert kept.forget("a")
        kept.keep("a", "t2", "my name is", "I see")
        kept.keep("b", "t3", "hello", "hello")
        assert kept.read("a") == []
        assert len(kept.read("b")) == 1
