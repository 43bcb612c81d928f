"""Owns the operator's key and the numbers of his commands: a key nobody else reads, numbers that only grow and are never used twice.

A key file is one line: the seed, and the id of the key it makes, so that damage shows. Beside it stands the last number that was
taken. Numbers are taken before they are used: a desk that dies leaves a gap, never a number that two commands have.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.clock import Clock
from agent.contract.canonical import INTEGER_MAX
from agent.contract.signing import SEED_BYTES, SigningKey, decode, encode
from agent.errors import BadInput
from agent.files import read_private, write_durably

KEY_FILE = "operator.key"

FOLDER_MODE = 0o700

FILE_BYTES_MAX = 1024
"""A key file has 77 bytes, a number 17; a much longer one is something else."""

TRUSTED = ("ntp", "signed")
"""Qualities of a clock that other desks can be expected to agree with."""


def key_path(configured: Path | None) -> Path:
    """Where the key is: as configured, else in the XDG configuration folder."""
    return configured or folder() / KEY_FILE


def folder() -> Path:
    """Of the desk's own configuration."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "voxmeter"


def make(path: Path, clock: Clock) -> SigningKey:
    """A new key, durable when this returns. Raises BadInput where one is: robots believe it."""
    path.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    with _alone(path):
        if path.exists():
            raise BadInput(f"{path} is there already", "use it, or name another file with --operator-key")
        key = SigningKey.from_seed(clock.secret(SEED_BYTES))
        write_durably(_numbers(path), b"0\n")
        write_durably(path, f"{encode(key.seed)} {key.key_id}\n".encode("ascii"))
    return key


def load(path: Path) -> SigningKey:
    """Raises BadInput where there is none, or one that can't be used."""
    content = read_private(path, FILE_BYTES_MAX)
    if content is None:
        raise BadInput(f"there is no operator's key at {path}", "make one with: voxmeter fleet key")
    try:
        seed, _, key_id = content.decode("ascii").strip().partition(" ")
        key = SigningKey.from_seed(decode(seed))
    except ValueError as error:
        raise _unusable(path) from error
    except BadInput as error:
        raise _unusable(path) from error
    if key.key_id != key_id:
        raise _unusable(path)
    return key


def take_numbers(path: Path, count: int, clock: Clock) -> range:
    """So many numbers that no command of the key at `path` has had or will have; durably taken.

    They begin at microseconds since 1970 where the clock can be trusted, so that of two desks with one key the later number is the
    later command, however many commands the other sends at once. Raises BadInput for a counter that can't be read, or is missing
    where the clock is no help.
    """
    with _alone(path):
        last = _last(path)
        if clock.quality() in TRUSTED:
            first = max(last or 0, int(clock.utc().timestamp() * 1_000_000)) + 1
        elif last is None:
            raise BadInput(
                f"{_numbers(path)} is missing, and this machine's clock is not synchronised: robots would take commands for old ones",
                "synchronise the clock",
            )
        else:
            first = last + 1
        if first + count > INTEGER_MAX:
            raise BadInput(f"{_numbers(path)} holds {last}; no number is left", "make a new key with: voxmeter fleet key")
        write_durably(_numbers(path), f"{first + count - 1}\n".encode("ascii"))
    return range(first, first + count)


def _last(path: Path) -> int | None:
    content = read_private(_numbers(path), FILE_BYTES_MAX)
    if content is None:
        return None
    text = content.strip()
    if not text.isdigit() or int(text) > INTEGER_MAX:
        raise BadInput(f"{_numbers(path)} holds no number", "remove it; numbers then begin at the present time")
    return int(text)


def _numbers(path: Path) -> Path:
    return path.with_name(path.name + ".seq")


def _unusable(path: Path) -> BadInput:
    return BadInput(f"{path} holds no operator's key", "put back the one that was there, or make another with: voxmeter fleet key")


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One desk of this machine at a time. The lock's file stays: whoever waits for it has it open."""
    try:
        descriptor = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError as error:
        raise BadInput(f"there is no folder {path.parent}", "make a key with: voxmeter fleet key") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
