"""Puts a file on the disk so that after a power cut it is either the old one or the new one, whole; reads one that nobody else can."""

import os
import stat
from pathlib import Path

from agent.errors import BadInput

MODE = 0o600
"""State is for its owner's eyes."""

OTHERS = stat.S_IRWXG | stat.S_IRWXO
"""Rights that anybody but the owner has."""

OPEN_REMEDY = "chmod 600 it, and replace the key if others were on the machine"


def write_durably(path: Path, content: bytes) -> None:
    """Returns when content and name are on the disk. A power cut before leaves what was there, maybe a `.part` beside it.

    A `.part` that is there already is removed and never written to: it may be a link that leads elsewhere.
    """
    rename_durably(put_beside(path, content), path)


def put_beside(path: Path, content: bytes) -> Path:
    """The first half of it: what is to be there is on the disk, as the `.part` that is returned, and only the name is to be changed."""
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, MODE)
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.write(content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return part


def rename_durably(old: Path, new: Path) -> None:
    """Renames within one folder; the new name is on the disk when it returns."""
    old.rename(new)
    sync_folder(new.parent)


def sync_folder(folder: Path) -> None:
    """Names made, changed and removed in a folder so far are on the disk when it returns."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_private(path: Path, bytes_max: int, open_remedy: str = OPEN_REMEDY) -> bytes | None:
    """The first bytes of a file that only its owner can use; None if there is none.

    `open_remedy` is what to do about one that others can use. Raises BadInput for it, OSError for one that can't be read.
    """
    found = read_beginning(path, bytes_max)
    if found is None:
        return None
    content, mode = found
    if mode & OTHERS:
        raise BadInput(f"{path} is open to others (mode {mode:04o})", open_remedy)
    return content


def read_beginning(path: Path, bytes_max: int) -> tuple[bytes, int] | None:
    """The first bytes of a file, and its mode; None if there is none. A pipe in its place does not make it wait. Raises OSError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    try:
        mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
        return os.read(descriptor, bytes_max), mode
    finally:
        os.close(descriptor)
