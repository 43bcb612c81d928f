"""Keeps the backend's own signing key on its disk: made once, durably, never replaced because it can't be read.

The file is one line, as a robot's usage key: the seed and the id of the key it makes, so that damage shows.
"""

import os
import stat
from pathlib import Path

from agent.clock import Clock
from agent.contract.signing import SEED_BYTES, SigningKey, decode, encode
from agent.errors import BadInput

KEY_FILE = Path("keys") / "backend"
FOLDER_MODE = 0o700
MODE = 0o600

FILE_BYTES_MAX = 1024
"""A key file has 77 bytes; a much longer one is something else."""


def backend_key(folder: Path, clock: Clock) -> SigningKey:
    """The key in a folder; the caller owns the folder, so nobody else makes one meanwhile.

    Raises BadInput for a file that can't be used: robots have pinned this key, another one would cut them off.
    """
    path = folder / KEY_FILE
    try:
        path.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        held = _read(path)
        if held is None:
            key = SigningKey.from_seed(clock.secret(SEED_BYTES))
            _write(path, f"{encode(key.seed)} {key.key_id}\n".encode())
            return key
        _sync(path.parent)  # a process killed before its own sync leaves a key that only looks kept
    except OSError as error:
        raise BadInput(f"{error.filename or path}: {error.strerror or error}", "check space and rights of the folder") from error
    return _parsed(held, path)


def _read(path: Path) -> bytes | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    try:
        mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
        content = os.read(descriptor, FILE_BYTES_MAX)
    finally:
        os.close(descriptor)
    if mode & 0o077:
        raise BadInput(f"{path} is open to others (mode {mode:04o})", "chmod 600 it, and ask who else was on the machine")
    return content


def _parsed(content: bytes, path: Path) -> SigningKey:
    todo = "put back a copy: robots believe no other key"
    try:
        seed, key_id = content.decode("ascii").split()
        key = SigningKey.from_seed(decode(seed))
    except (ValueError, BadInput) as error:
        raise BadInput(f"{path} is damaged: it does not hold a key", todo) from error
    if key.key_id != key_id:
        raise BadInput(f"{path} is damaged: its key is not {key_id[:64]!r}", todo)
    return key


def _write(path: Path, content: bytes) -> None:
    """After a power cut there is the whole file or none."""
    part = path.with_name(path.name + ".part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, MODE)
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.write(content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    part.rename(path)
    _sync(path.parent)
    _sync(path.parent.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
