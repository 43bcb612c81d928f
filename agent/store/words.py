"""Keeps what was said, where a site wants it kept: off the books, sealed per session, and gone for ever once it is forgotten.

A session's words are sealed with a key of its own. Forgetting overwrites that key, and only then removes the rows: cut off
anywhere it leaves the words readable or lost for good, and the next `forget` finishes. On flash an overwritten block may live on
inside the card; only a state folder on an encrypted disk covers that. No file holds a session's id: rows and keys go by its hash.
"""

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.clock import Clock
from agent.contract.signing import NONCE_BYTES, SEAL_KEY_BYTES, seal, unseal
from agent.errors import BadInput
from agent.files import MODE, sync_folder, write_durably
from agent.store.keys import KEYS_FOLDER, make_folder, plainly, read_secret

TEXT_FILE = "text.db"
WORDS_FOLDER = "words"

BUSY_MS = 5_000
"""Nobody but the owner of the state folder writes; someone who looks at the file by hand may hold it for a moment."""

FORGOTTEN_MAX = 1_000
"""Sessions remembered as forgotten while this process lives: a turn of one that is under way ends within minutes."""

SETTINGS = ("secure_delete=ON", "journal_mode=TRUNCATE", "synchronous=FULL", f"busy_timeout={BUSY_MS}")
"""TRUNCATE, not DELETE: with the latter a power cut could bring the journal's name back, and undo a commit."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS turn (
    sequence INTEGER PRIMARY KEY, session TEXT NOT NULL, turn_id TEXT NOT NULL, sealed BLOB NOT NULL, UNIQUE (session, turn_id)
)
"""
KEEP = """
INSERT INTO turn (session, turn_id, sealed) VALUES (?, ?, ?)
ON CONFLICT (session, turn_id) DO UPDATE SET sealed = excluded.sealed
"""


class Words:
    """The words of one state folder, for one caller at a time. Methods return when it is on the disk; all raise BadInput."""

    def __init__(self, state: Path, clock: Clock) -> None:
        self._clock = clock
        self._path = state / TEXT_FILE
        self._keys = state / KEYS_FOLDER / WORDS_FOLDER
        self._forgotten: dict[str, None] = {}
        with self._plainly():
            make_folder(self._keys.parent)
            make_folder(self._keys)
            self._connection = _open(self._path)

    def close(self) -> None:
        self._connection.close()

    def keep(self, session_id: str, turn_id: str, transcript: str, reply: str) -> None:
        """Keeps one turn; the same turn again takes the place of what was kept of it. Of a session that was forgotten nothing is kept."""
        session = _hash(session_id)
        if session in self._forgotten:  # a turn that was under way when it was
            return
        said = {"session_id": session_id, "turn_id": turn_id, "transcript": transcript, "reply": reply}
        key = self._key(session) or self._new_key(session)
        sealed = seal(key, self._clock.secret(NONCE_BYTES), json.dumps(said).encode(), _bound(session, turn_id))
        with self._plainly():
            self._connection.execute(KEEP, (session, turn_id, sealed))

    def read(self, session_id: str) -> list[dict[str, str]]:
        """`[{session_id, turn_id, transcript, reply}]` in the order they were said; empty if forgotten or never kept."""
        session = _hash(session_id)
        key = self._key(session)
        if key is None:
            return []
        with self._plainly():
            query = "SELECT turn_id, sealed FROM turn WHERE session = ? ORDER BY sequence"
            return [self._open(key, session, *row) for row in self._connection.execute(query, (session,))]

    def forget(self, session_id: str) -> bool:
        """Destroys what was said in a session. True if anything was left of it; a repeat finishes one that was cut off."""
        session = _hash(session_id)
        self._forgotten[session] = None
        while len(self._forgotten) > FORGOTTEN_MAX:
            del self._forgotten[next(iter(self._forgotten))]
        with self._plainly():
            # A `.part` is a key that was cut off on its way and never sealed anything; it goes all the same.
            destroyed = [_destroy(self._keys / name) for name in (session, f"{session}.part")]
            return self._drop(session) > 0 or any(destroyed)

    def sessions(self) -> list[str]:
        """Ids of the sessions that can be read, oldest first."""
        query = "SELECT session, turn_id, sealed, min(sequence) FROM turn GROUP BY session ORDER BY min(sequence)"
        with self._plainly():
            rows = self._connection.execute(query).fetchall()
        keyed = [(self._key(session), session, turn_id, sealed) for session, turn_id, sealed, _ in rows]
        return [self._open(key, *row)["session_id"] for key, *row in keyed if key]

    def _key(self, session: str) -> bytes | None:
        """None once it is forgotten: gone, or overwritten by a `forget` that was cut off."""
        key = read_secret(self._keys / session)
        if key is None or not any(key):
            return None
        if len(key) != SEAL_KEY_BYTES:
            raise BadInput(f"{self._keys / session} is damaged: it has {len(key)} bytes", "put back a copy, or forget the session")
        return key

    def _new_key(self, session: str) -> bytes:
        key = self._clock.secret(SEAL_KEY_BYTES)
        with self._plainly():
            self._drop(session)  # what an unfinished `forget` left: no key opens it, this one neither
            write_durably(self._keys / session, key)
        return key

    def _drop(self, session: str) -> int:
        return self._connection.execute("DELETE FROM turn WHERE session = ?", (session,)).rowcount

    def _open(self, key: bytes, session: str, turn_id: str, sealed: bytes) -> dict[str, str]:
        try:
            said: dict[str, str] = json.loads(unseal(key, sealed, _bound(session, turn_id)))
        except BadInput as error:
            raise BadInput(f"{self._path}: words under the key {self._keys / session}: {error}", "forget the session") from error
        return said

    @contextmanager
    def _plainly(self) -> Iterator[None]:
        try:
            with plainly(self._path):
                yield
        except sqlite3.Error as error:
            todo = "check space and rights; if it is damaged move it aside: the words in it are lost, the books are not touched"
            raise BadInput(f"{self._path}: {error}", todo) from error


def _open(path: Path) -> sqlite3.Connection:
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, MODE))  # SQLite would make it readable for others
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        for pragma in SETTINGS:
            connection.execute(f"PRAGMA {pragma}")
        connection.execute(SCHEMA)
    except sqlite3.Error:
        connection.close()
        raise
    sync_folder(path.parent)  # a new file is not durable until its name is
    return connection


def _destroy(path: Path) -> bool:
    """Overwrites a key where it lies, then removes it. False if there was none."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        os.pwrite(descriptor, bytes(os.fstat(descriptor).st_size), 0)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    path.unlink()
    sync_folder(path.parent)
    return True


def _hash(session_id: str) -> str:
    return hashlib.sha256(session_id.encode("utf-8", "surrogatepass")).hexdigest()


def _bound(session: str, turn_id: str) -> bytes:
    """Ties sealed words to their place: a row moved to another turn doesn't open."""
    return f"{session}\0{turn_id}".encode("utf-8", "surrogatepass")
