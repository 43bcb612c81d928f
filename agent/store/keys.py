"""Owns the robot's keys on the disk: the usage key, made once, rotated on purpose, never replaced because it can't be read.

One that is to follow signs nothing yet: damaged, it is as good as none, and the rotation begins anew with another.

    none -> usage -> usage + usage.new (being rotated) -> usage

A key file is one line: the seed, and the id of the key it makes, so that damage shows.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from agent.clock import Clock
from agent.contract.signing import SEED_BYTES, SigningKey, decode, encode
from agent.errors import BadInput
from agent.files import read_private, rename_durably, sync_folder, write_durably

KEYS_FOLDER = "keys"
USAGE_KEY = "usage"
PENDING_KEY = "usage.new"

CREDENTIAL = "usage-key"
"""Its name among systemd's credentials."""

NOT_SHOWN = b"of the unit\n"
"""In place of a key: the unit has one that a command outside it is not shown, so the command must not make another."""

FORMER_KEYS = "former_keys"
"""In `meta`, the data of `key` records that were pruned: they tell that an older checkpoint was signed by this robot."""

FOLDER_MODE = 0o700

KEY_FILE_BYTES_MAX = 1024
"""A key file has 77 bytes; a much longer one is something else."""


class DamagedKey(BadInput):
    """A key file that holds none."""


class Keys:
    """The usage key of one state folder. No key is held in memory: what counts is what is on the disk."""

    def __init__(self, state: Path, clock: Clock) -> None:
        self._folder = state / KEYS_FOLDER
        self._clock = clock
        self._usage = self._folder / USAGE_KEY
        self._pending = self._folder / PENDING_KEY
        self._settled = False

    @property
    def current(self) -> SigningKey:
        """Signs batches now; made durably at first use. Raises BadInput for a key file that can't be used."""
        if given := _credential():
            return given
        if held := self._load(self._usage):
            return held
        if self._pending.exists():
            raise BadInput(f"{self._usage} is gone, {self._pending} is there", "put the old key back, or rename the new one to it")
        return self._make(self._usage)

    @property
    def pending(self) -> SigningKey | None:
        """The key that is to follow, while a rotation is under way. Raises BadInput for a key file that can't be read."""
        if _credential():
            return None
        with suppress(DamagedKey):
            return self._load(self._pending)
        return None

    def begin_rotation(self) -> SigningKey:
        """Makes the key that is to follow, or gives the one already made: it stays the same until it is promoted."""
        _refuse_credential()
        _ = self.current  # only a key that can sign can name its successor
        return self.pending or self._make(self._pending)

    def promote(self) -> SigningKey:
        """Makes the key that was to follow the current one. Without one nothing changes, so a repeat does no harm."""
        _refuse_credential()
        if self.pending:
            with plainly(self._pending):
                rename_durably(self._pending, self._usage)
        return self.current

    def _load(self, path: Path) -> SigningKey | None:
        key = _held(path)
        if key:
            self._settle()
        return key

    def _settle(self) -> None:
        """A process killed just before its last sync leaves a key that only looks kept; nobody may learn it before it is."""
        if not self._settled:
            with plainly(self._folder):
                sync_folder(self._folder)
                sync_folder(self._folder.parent)
            self._settled = True

    def _make(self, path: Path) -> SigningKey:
        key = SigningKey.from_seed(self._clock.secret(SEED_BYTES))
        with plainly(path):
            make_folder(self._folder)
            write_durably(path, f"{encode(key.seed)} {key.key_id}\n".encode())
        return key


def publics(state: Path) -> set[bytes]:
    """The public halves of the usage keys that are there, one that is to follow included; makes nothing.

    Raises BadInput for a key file that can't be used.
    """
    keys = [_credential(), _held(state / KEYS_FOLDER / USAGE_KEY)]
    with suppress(DamagedKey):
        keys.append(_held(state / KEYS_FOLDER / PENDING_KEY))
    return {key.public for key in keys if key}


@contextmanager
def plainly(path: Path) -> Iterator[None]:
    """Says in one line what the system says of a file. Raises BadInput for any OSError."""
    try:
        yield
    except OSError as error:
        raise BadInput(f"{error.filename or path}: {error.strerror or error}", "check space and rights of the state folder") from error


def make_folder(folder: Path) -> None:
    """A folder for its owner's eyes; its name is on the disk when it returns, also if an earlier run was cut off here."""
    folder.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
    sync_folder(folder.parent)


def read_secret(path: Path) -> bytes | None:
    """A file that only its owner can read; None if there is none. Raises BadInput for any other."""
    with plainly(path):
        return read_private(path, KEY_FILE_BYTES_MAX)


def _held(path: Path) -> SigningKey | None:
    """The key in a file; None if there is no file. Raises BadInput for one that can't be used."""
    content = read_secret(path)
    todo = "put back a copy; if there is none, move it aside and register the new key"
    return None if content is None else _parsed(content.split(), path, todo)


def _parsed(words: list[bytes], path: Path, todo: str) -> SigningKey:
    """A seed in base64url, and the id of its key."""
    try:
        seed, key_id = (word.decode("ascii") for word in words)
        key = SigningKey.from_seed(decode(seed))
    except (ValueError, BadInput) as error:
        raise DamagedKey(f"{path} is damaged: it does not hold a key", todo) from error
    if key.key_id != key_id:
        raise DamagedKey(f"{path} is damaged: its key is not {key_id[:64]!r}", todo)
    return key


def _credential() -> SigningKey | None:
    """The key systemd hands over, raw or in base64url; it wins over one on the disk."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if not folder:
        return None
    path = Path(folder) / CREDENTIAL
    with plainly(path):
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
    if content == NOT_SHOWN:
        raise BadInput(
            "the usage key is a credential of the unit, and this command is not shown it",
            f"put it into /etc/credstore/{CREDENTIAL}, or run this by systemd-run with User=, DynamicUser=, StateDirectory= and it",
        )
    try:
        seed = content if len(content) == SEED_BYTES else decode(content.strip().decode("ascii"))
        return SigningKey.from_seed(seed)
    except (ValueError, BadInput) as error:
        raise BadInput(f"{path} is not a usage key", f"give the unit {SEED_BYTES} bytes, raw or in base64url") from error


def _refuse_credential() -> None:
    if _credential():
        raise BadInput("the usage key is a systemd credential and can't be rotated here", "give the unit another one and restart it")
