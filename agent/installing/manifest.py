"""What a bundle says it holds, and whether that fits the machine: pure. The manifest is the first file of the archive.

manifest.json, install, requirements.txt, profile.toml, systemd/…, wheels/*.whl, models/NAME/…
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any

from agent.errors import BadInput

NAME = "manifest.json"

FORMAT = 1

BYTES_MAX = 1_000_000
"""Of the manifest; one of a thousand files has a tenth of that."""

PLATFORMS = {"x86_64": ("x86_64", "amd64"), "aarch64": ("aarch64", "arm64")}
"""By the name we give it, what a kernel may call it."""

WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
"""Versions and names of models: they become names of folders."""

DIGEST_DIGITS = 8
"""Of the manifest's own hash, in a version's name: two bundles of one version are not taken for one another."""


@dataclass(frozen=True, slots=True)
class File:
    """One file of a bundle."""

    path: str
    """Below the bundle's top, with slashes."""
    sha256: str
    size: int
    """Bytes."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """A bundle's table of contents."""

    version: str
    """Of voxmeter."""
    platform: str
    """One of PLATFORMS."""
    python: str
    """`3.11`: the interpreter its wheels are for."""
    profile: str
    """The name of the profile whose models are in it."""
    models: tuple[str, ...]
    file: tuple[File, ...]

    def below(self, folder: str) -> list[File]:
        return [file for file in self.file if file.path.startswith(f"{folder}/")]

    def one(self, path: str) -> File:
        """Raises BadInput where it is not in the bundle."""
        for file in self.file:
            if file.path == path:
                return file
        raise BadInput(f"the bundle lacks {path}", "make it again with: voxmeter bundle")


def dumped(manifest: Manifest) -> bytes:
    return json.dumps({"format": FORMAT, **asdict(manifest)}, indent=1, sort_keys=True).encode() + b"\n"


def parsed(content: bytes) -> Manifest:
    """Raises BadInput for what is no manifest, or one whose paths or names would lead out of their folders."""
    try:
        told = json.loads(content)
        held = _made(told) if told["format"] == FORMAT else None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput("this is no bundle of voxmeter: its manifest is damaged", "make it again with: voxmeter bundle") from error
    if held is None:
        raise BadInput(f"the bundle is of format {told['format']}, this voxmeter knows {FORMAT}", "use the installer inside the bundle")
    _check_names(held)
    return held


def _made(told: Mapping[str, Any]) -> Manifest:
    files = tuple(File(str(one["path"]), str(one["sha256"]), int(one["size"])) for one in told["file"])
    texts = {name: str(told[name]) for name in ("version", "platform", "python", "profile")}
    return Manifest(**texts, models=tuple(map(str, told["models"])), file=files)


def _check_names(held: Manifest) -> None:
    bad = [word for word in (held.version, *held.models) if not WORD.fullmatch(word)]
    for file in held.file:
        pure = PurePosixPath(file.path)
        if pure.is_absolute() or ".." in pure.parts or str(pure) != file.path or not re.fullmatch(r"[0-9a-f]{64}", file.sha256):
            bad.append(file.path)
    if bad or len({file.path for file in held.file}) != len(held.file):
        raise BadInput(f"the bundle's manifest names {bad[0] if bad else 'a file twice'!r}", "do not use it; make it again")


def check_machine(held: Manifest, machine: str, python: str) -> None:
    """Whether it is for this machine: `machine` as the kernel says, `python` as `3.11`. Raises BadInput."""
    if machine not in PLATFORMS.get(held.platform, ()):
        raise BadInput(f"the bundle is for {held.platform}, this machine is {machine}", f"make one with: --platform {_named(machine)}")
    if python != held.python:
        raise BadInput(f"the bundle is for Python {held.python}, this machine has {python}", f"make one with: --python {python}")


def _named(machine: str) -> str:
    return next((name for name, known in PLATFORMS.items() if machine in known), machine)
