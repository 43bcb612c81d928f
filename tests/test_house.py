"""The rules of the house that no linter knows: sizes, licences told, nothing that ties the project to one workplace."""

import ast
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = sorted((ROOT / "agent").rglob("*.py"))
GPL_ALLOWED = {"piper-tts", "espeakng-loader"}  # a process of its own; the guests of the simulation


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_stay_small_and_say_what_they_do(path: Path) -> None:
    text = path.read_text()
    tree = ast.parse(text)
    assert len(text.splitlines()) <= 300
    assert not text.strip() or ast.get_docstring(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or node.lineno) - node.lineno < 40, node.name


def test_scripts_are_short() -> None:
    for path in (ROOT / "scripts").iterdir():
        assert len(path.read_text().splitlines()) <= 25, path


def test_every_installed_package_has_its_licence_told_and_nothing_else_is_gpl() -> None:
    page = (ROOT / "docs/third-party-licences.md").read_text()
    told = dict(re.findall(r"^\| (\S+) \| (.+) \|$", page, re.MULTILINE))
    pinned = re.findall(r"^([A-Za-z0-9_.-]+)==", (ROOT / "requirements/run.txt").read_text(), re.MULTILINE)
    assert set(pinned) - set(told) <= {"colorama", "httpx2-jsfetch"}  # for systems this does not run on
    assert {name for name, licence in told.items() if re.search(r"\bA?GPL|GNU General", licence)} == GPL_ALLOWED


def test_a_wheel_carries_profiles_rate_cards_and_the_catalogue(tmp_path: Path) -> None:
    words = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path), str(ROOT)]
    subprocess.run([sys.executable, "-m", "pip", *words], check=True, capture_output=True)
    with zipfile.ZipFile(next(tmp_path.glob("voxmeter-*.whl"))) as archive:
        names = set(archive.namelist())
    assert {
        "agent/device_profiles/simulated.toml",
        "agent/device_profiles/rate_cards/standard-cny.toml",
        "agent/models/catalog.toml",
    } <= names
    assert not any(name.startswith(("tests/", "agent/tests")) for name in names)


@pytest.mark.parametrize("line", ["import time", "import random", "from uuid import uuid4", "from asyncio import sleep", "import secrets"])
def test_time_and_chance_are_banned_outside_the_clock(line: str) -> None:
    for name, banned in (("agent/dialog/books.py", True), ("agent/clock.py", False)):
        words = ["check", "--quiet", "--select", "TID251", "--stdin-filename", name, "-"]
        ruff = [str(Path(sys.executable).parent / "ruff"), *words]
        done = subprocess.run(ruff, input=line, text=True, cwd=ROOT, capture_output=True, check=False)
        assert (done.returncode != 0) == banned, done.stdout


def test_no_file_names_a_host() -> None:
    """Where packages come from is the machine's matter: its pip knows."""
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    address = re.compile(r"https?:" + "//")
    for name in tracked:
        path = ROOT / name
        if path.suffix in (".py", ".toml", ".md", ".txt", ".json", "") and path.is_file() and name != "LICENSE":
            assert not address.search(path.read_text(errors="replace")), name
