"""Opens a bundle: every file is checked against the manifest before anything on the machine is changed, and again as it is laid down."""

import contextlib
import hashlib
import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Final

from agent.errors import BadInput
from agent.installing import manifest as manifests
from agent.installing.manifest import File, Manifest

BLOCK_BYTES: Final = 1 << 20

AGAIN: Final = "copy it again"

NOT_OURS: Final = "name the file that voxmeter bundle made"


class Bundle:
    """A bundle that was found whole."""

    def __init__(self, path: Path) -> None:
        """Reads all of it. Raises BadInput in one line for one that is cut short, altered, or none."""
        self.path = path
        with _plainly(path):
            content, self.manifest = self._checked()
        self.name = f"{self.manifest.version}-{hashlib.sha256(content).hexdigest()[: manifests.DIGEST_DIGITS]}"
        """Of the version it installs: another bundle of the same version has another."""

    def lay(self, wanted: list[File], place: Callable[[File], Path]) -> None:
        """Writes files of it where they belong; folders are made. Raises BadInput where the bundle was altered meanwhile, OSError."""
        waiting = {file.path: file for file in wanted}
        with _plainly(self.path):
            for name, stream in self._members():
                if file := waiting.pop(name, None):
                    self._lay(file, stream, place(file))
        if waiting:
            raise BadInput(f"{self.path}: {next(iter(waiting))} is gone since it was checked", AGAIN)

    def _lay(self, file: File, stream: IO[bytes], path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as out:
            if _digest(stream, out) != (file.sha256, file.size):
                raise BadInput(f"{self.path}: {file.path} has changed since it was checked", AGAIN)

    def content(self, path: str) -> bytes:
        """Of one small file."""
        self.manifest.one(path)
        with _plainly(self.path):
            return next(stream.read() for name, stream in self._members() if name == path)

    def _checked(self) -> tuple[bytes, Manifest]:
        members = self._members()
        name, stream = next(members, ("", None))
        if name != manifests.NAME or stream is None:
            raise BadInput(f"{self.path} is no bundle of voxmeter", NOT_OURS)
        content = stream.read(manifests.BYTES_MAX)
        held = manifests.parsed(content)
        missing = {file.path: file for file in held.file}
        for name, stream in members:
            file = missing.pop(name, None)
            if file is None:
                raise BadInput(f"{self.path}: {name} is not in its manifest", "do not use it; make it again")
            if _digest(stream) != (file.sha256, file.size):
                raise BadInput(f"{self.path}: {name} is not what was packed (its sha256 differs)", AGAIN)
        if missing:
            raise BadInput(f"{self.path} is cut short: {len(missing)} of {len(held.file)} files are not in it", AGAIN)
        return content, held

    def _members(self) -> Iterator[tuple[str, IO[bytes]]]:
        """Its files in their order. Raises BadInput for whatever is wrong with the archive."""
        with tarfile.open(self.path, "r:") as archive:
            for member in archive:
                stream = archive.extractfile(member) if member.isfile() else None
                if stream is None:
                    raise BadInput(f"{self.path}: {member.name} is no plain file", "do not use it; make it again")
                yield member.name, stream


@contextlib.contextmanager
def _plainly(path: Path) -> Iterator[None]:
    try:
        yield
    except tarfile.TarError as error:
        size = os.stat(path).st_size  # noqa: PTH116  the file is there, or this error were another
        told = f"{path} is cut short, or no bundle ({size} bytes)"
        raise BadInput(told, AGAIN) from error
    except FileNotFoundError as error:
        raise BadInput(f"{error.filename}: no such file", NOT_OURS) if error.filename == str(path) else error from error


def _digest(stream: IO[bytes], out: IO[bytes] | None = None) -> tuple[str, int]:
    """Its hash and size; what is read is written on the way."""
    told, size = hashlib.sha256(), 0
    while block := stream.read(BLOCK_BYTES):
        told.update(block)
        size += len(block)
        if out is not None:
            out.write(block)
    return told.hexdigest(), size
