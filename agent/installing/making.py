"""Lays a version down out of a bundle: its models, then a virtual environment of its own beside those of other versions.

A version is written in place, for an environment can't be moved, and counts only once `complete` is in it, after all of it was synced.
Whatever a power cut leaves before that is removed by the next try.
"""

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from agent.errors import BadInput, MissingPart
from agent.files import rename_durably, sync_folder, write_durably
from agent.installing import manifest as manifests
from agent.installing.layout import COMPLETE, Layout
from agent.installing.manifest import File
from agent.installing.reading import Bundle

UNPACKED: Final = 4
"""A wheel's files, compiled, take about so many times what the wheel does; the wheels themselves lie beside them meanwhile."""

FREE_BYTES_MIN: Final = 64 << 20
"""Left for the robot's own books."""

PIP_SECONDS_MAX: Final = 1_200
"""A slow card."""

MODEL_SEALS: Final = "manifest.json"

Say = Callable[[str], None]


def make(bundle: Bundle, layout: Layout, python: str, say: Say) -> None:
    """Models and the version of a bundle, unless they are here. Raises BadInput, MissingPart, OSError; what was here stays as it was."""
    check_space(bundle, layout)
    for model in bundle.manifest.models:
        _lay_model(bundle, layout, model, say)
    if layout.whole(bundle.name):
        say(f"version {bundle.name} is here already")
        return
    folder = layout.versions / bundle.name
    shutil.rmtree(folder, ignore_errors=True)
    try:
        _make_version(bundle, folder, python, say)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def check_space(bundle: Bundle, layout: Layout) -> None:
    """Before anything is written. Raises BadInput."""
    layout.home.mkdir(parents=True, exist_ok=True)
    models = [file for file in bundle.manifest.below("models") if not _there(layout, file)]
    wheels = [] if layout.whole(bundle.name) else bundle.manifest.below("wheels")
    need = sum(file.size for file in models) + sum(file.size for file in wheels) * (1 + UNPACKED) + FREE_BYTES_MIN
    free = shutil.disk_usage(layout.home).free
    if free < need:
        raise BadInput(
            f"{layout.home} has {free >> 20} MB free, {bundle.path.name} takes {need >> 20} MB", "make room; nothing has been changed"
        )


def _there(layout: Layout, file: File) -> bool:
    path = layout.models / file.path.removeprefix("models/")
    return path.is_file() and path.stat().st_size == file.size


def _lay_model(bundle: Bundle, layout: Layout, model: str, say: Say) -> None:
    """Into a folder beside it, and renamed: a model is there whole, or not."""
    wanted = bundle.manifest.below(f"models/{model}")
    folder, part = layout.models / model, layout.models / f".{model}.part"
    if all(_there(layout, file) for file in wanted):
        return
    say(f"model {model}: {sum(file.size for file in wanted) >> 20} MB")
    shutil.rmtree(part, ignore_errors=True)
    bundle.lay(wanted, lambda file: part / file.path.removeprefix(f"models/{model}/"))
    _date_back(part)
    os.sync()
    shutil.rmtree(folder, ignore_errors=True)
    rename_durably(part, folder)


def _date_back(folder: Path) -> None:
    """A start hashes only files whose time of change is not the one they were sealed with; these were checked a moment ago."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        for name, seal in json.loads((folder / MODEL_SEALS).read_text()).items():
            os.utime(folder / name, ns=(seal["mtime_ns"], seal["mtime_ns"]))


def _make_version(bundle: Bundle, folder: Path, python: str, say: Say) -> None:
    held = bundle.manifest
    wheels = folder / "wheels"
    say(f"version {bundle.name}: {len(held.below('wheels'))} packages into {folder}")
    own = [*held.below("wheels"), *held.below("systemd"), held.one("requirements.txt"), held.one("profile.toml")]
    bundle.lay(own, lambda file: folder / file.path)
    _run([python, "-m", "venv", "--without-pip", str(folder)], {}, f"{python} can't make a virtual environment")
    pip = next((path for path in wheels.glob("pip-*.whl")), None)
    if pip is None:
        raise BadInput(f"{bundle.path}: there is no pip in it", "make it again with: voxmeter bundle")
    words = ["-m", "pip", "install", "--quiet", "--no-index", "--no-cache-dir", "--disable-pip-version-check", "--compile"]
    words += ["--find-links", str(wheels), "--require-hashes", "-r", str(folder / "requirements.txt")]
    _run([str(folder / "bin/python"), *words], {"PYTHONPATH": str(pip), "PIP_CONFIG_FILE": os.devnull}, "the packages can't be installed")
    shutil.rmtree(wheels)
    (folder / manifests.NAME).write_bytes(manifests.dumped(held))
    os.sync()  # pip syncs nothing: a power cut after the switch must not find empty files
    write_durably(folder / COMPLETE, b"")
    sync_folder(folder.parent)


def _run(command: list[str], environment: dict[str, str], failed: str) -> None:
    """Raises MissingPart with the last line it had to say, BadInput where a hash was wrong."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON"))}
    try:
        done = subprocess.run(
            command, env=clean | environment, capture_output=True, text=True, errors="replace", check=False, timeout=PIP_SECONDS_MAX
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MissingPart(f"{failed}: {error}", "check the machine's Python") from error
    if done.returncode:
        lines = [line.strip() for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        if any("DO NOT MATCH THE HASHES" in line for line in lines):
            raise BadInput(f"{failed}: a wheel has not the hash it should have", "make the bundle again; nothing has been changed")
        if "No space left" in done.stderr:
            raise BadInput(f"{failed}: the disk is full", "make room; nothing has been changed")
        said = next((line for line in lines if line.startswith("ERROR")), lines[-1] if lines else f"exit {done.returncode}")
        raise MissingPart(f"{failed}: {said}", "nothing has been changed")


@contextlib.contextmanager
def open_to_all() -> Iterator[None]:
    """What is written meanwhile can be read by the robot's own user, whatever root's umask is."""
    before = os.umask(0o022)
    try:
        yield
    finally:
        os.umask(before)
