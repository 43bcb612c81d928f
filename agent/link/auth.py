"""Finds the API key that this robot shows: a credential of systemd, else a file in its state folder that only its owner can read."""

import os
import re
import stat
from collections.abc import Callable
from pathlib import Path

from agent.errors import BadInput

CREDENTIAL = "api-key"
"""Its name among systemd's credentials."""

KEY_BYTES_MAX = 512
"""An API key has well under 100 bytes; a much longer one is something else."""

WORD = re.compile(rb"[!-~]+")
"""What may stand in a header."""

TODO = "register this robot again with a one-time token"


def api_key(path: Path) -> Callable[[], str]:
    """Reads the key anew at each call, so that a new one counts at once. The call raises BadInput where there is no usable key."""

    def read() -> str:
        folder = os.environ.get("CREDENTIALS_DIRECTORY")
        given = _content(Path(folder) / CREDENTIAL, private=False) if folder else None
        if given is not None:
            return _word(given, Path(folder or "") / CREDENTIAL)
        held = _content(path, private=True)
        if held is None:
            raise BadInput(f"this robot has no API key: {path} is not there", TODO)
        return _word(held, path)

    return read


def _word(content: bytes, path: Path) -> str:
    word = content.strip()
    if len(content) > KEY_BYTES_MAX or not WORD.fullmatch(word):
        raise BadInput(f"{path} does not hold an API key, which is one line", TODO)
    return word.decode("ascii")


def _content(path: Path, *, private: bool) -> bytes | None:
    """The beginning of a file; None if there is none. A credential's rights are systemd's matter."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unreadable(path, error) from error
    try:
        mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
        content = os.read(descriptor, KEY_BYTES_MAX + 1)
    except OSError as error:
        raise _unreadable(path, error) from error
    finally:
        os.close(descriptor)
    if private and mode & 0o077:
        raise BadInput(f"{path} is open to others (mode {mode:04o})", "chmod 600 it, and replace the key if others were on the machine")
    return content


def _unreadable(path: Path, error: OSError) -> BadInput:
    return BadInput(f"{path}: {error.strerror or error}", "check the rights of the state folder")
