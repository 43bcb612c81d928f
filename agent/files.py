"""Puts a file on the disk so that after a power cut it is either the old one or the new one, whole."""

import os
from pathlib import Path

MODE = 0o600
"""State is for its owner's eyes."""


def write_durably(path: Path, content: bytes) -> None:
    """Returns when content and name are on the disk. A power cut before leaves what was there, maybe a `.part` beside it."""
    part = path.with_name(path.name + ".part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, MODE)
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.write(content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    rename_durably(part, path)


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
