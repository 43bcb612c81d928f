"""Decides whether a model's files are whole, and hands out their paths only if they are.

`manifest.json` beside a model holds, per file, the sha256 it must have and the size and time of change at which it had it. A
start compares size and time; only a file that looks touched is hashed again.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from agent.errors import BadWeights
from agent.weights.catalog import Model

MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class Seal:
    """What a file must hash to, and how it looked when it did."""

    sha256: str
    size: int
    mtime_ns: int


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def seal(folder: Path, names: tuple[str, ...]) -> None:
    """Writes the manifest of files just checked or made."""
    seals = {}
    for name in names:
        status = (folder / name).stat()
        seals[name] = asdict(Seal(sha256_of(folder / name), status.st_size, status.st_mtime_ns))
    _write(folder, seals)


def _write(folder: Path, seals: dict[str, dict[str, object]]) -> None:
    new = folder / f"{MANIFEST}.new"
    new.write_text(json.dumps(seals, sort_keys=True, indent=1) + "\n")
    new.replace(folder / MANIFEST)


def _seals(folder: Path) -> dict[str, Seal]:
    try:
        return {name: Seal(**held) for name, held in json.loads((folder / MANIFEST).read_text()).items()}
    except (OSError, ValueError, TypeError):
        return {}


def paths(model: Model, root: Path) -> dict[str, Path]:
    """The model's files by name. Raises BadWeights naming the first that is missing, cut short or altered."""
    for problem in problems(model, root, thorough=False):
        raise BadWeights(f"model {model.name}: {problem}", f"run: voxmeter models pull {model.name}")
    return {name: root / model.name / name for name in model.kept}


def problems(model: Model, root: Path, *, thorough: bool) -> list[str]:
    """What is wrong with the model on disk, a line each. `thorough` hashes every file whatever its time of change."""
    folder = root / model.name
    if not folder.is_dir():
        return [f"not fetched (expected in {folder})"]
    seals = _seals(folder)
    pinned = {file.name: file.sha256 for file in model.file}
    found = []
    for name in model.kept:
        held = seals.get(name)
        found += [f"{name} has no entry in {MANIFEST}"] if held is None else _file_problems(folder / name, held, pinned.get(name), thorough)
    return found


def _file_problems(path: Path, held: Seal, pinned: str | None, thorough: bool) -> list[str]:
    expected = pinned or held.sha256
    try:
        status = path.stat()
    except OSError:
        return [f"{path.name} is missing"]
    if status.st_size != held.size:
        return [f"{path.name} has {status.st_size} bytes instead of {held.size}"]
    untouched = status.st_mtime_ns == held.mtime_ns and held.sha256 == expected
    if untouched and not thorough:
        return []
    return [] if sha256_of(path) == expected else [f"{path.name} was altered (its sha256 differs)"]
