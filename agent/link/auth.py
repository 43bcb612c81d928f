"""Finds the API key that this robot shows: a credential of systemd, else a file in its state folder that only its owner can read."""

import os
import re
from collections.abc import Callable
from pathlib import Path

from agent.errors import BadInput
from agent.files import read_beginning, read_private

CREDENTIAL = "api-key"
"""Its name among systemd's credentials."""

KEY_BYTES_MAX = 512
"""An API key has well under 100 bytes; a much longer one is something else."""

WORD = re.compile(rb"[!-~]+")
"""What may stand in a header."""

REMEDY = "register this robot again with a one-time token"


def api_key(path: Path) -> Callable[[], str]:
    """Reads the key anew at each call, so that a new one counts at once. The call raises BadInput where there is no usable key."""

    def read() -> str:
        folder = os.environ.get("CREDENTIALS_DIRECTORY")
        given = _credential(Path(folder) / CREDENTIAL) if folder else None
        if given is not None:
            return _word(given, Path(folder or "") / CREDENTIAL)
        held = _held(path)
        if held is None:
            raise BadInput(f"this robot has no API key: {path} is not there", REMEDY)
        return _word(held, path)

    return read


def _word(content: bytes, path: Path) -> str:
    word = content.strip()
    if len(content) > KEY_BYTES_MAX or not WORD.fullmatch(word):
        raise BadInput(f"{path} does not hold an API key, which is one line", REMEDY)
    return word.decode("ascii")


def _credential(path: Path) -> bytes | None:
    """None if there is none. Who else may read it is systemd's matter."""
    try:
        found = read_beginning(path, KEY_BYTES_MAX + 1)
    except OSError as error:
        raise _unreadable(path, error) from error
    return None if found is None else found[0]


def _held(path: Path) -> bytes | None:
    """None if there is no file. Raises BadInput for one that others can read."""
    try:
        return read_private(path, KEY_BYTES_MAX + 1)
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> BadInput:
    return BadInput(f"{path}: {error.strerror or error}", "check the rights of the state folder")
