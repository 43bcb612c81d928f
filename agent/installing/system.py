"""The machine as installing sees it: who runs this, its kernel's name, its Python, and systemd."""

import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Final, Protocol

from agent.errors import MissingPart
from agent.installing.layout import Layout

RUNS: Final = Path("run/systemd/system")
"""Exists where systemd is what the machine was started with."""

START_SECONDS_MAX: Final = 120
"""Beyond the unit's TimeoutStartSec, after which systemd itself gives up."""


class Systemd(Protocol):
    """What starts the robot. Names are those of units."""

    def reload(self) -> None:
        """Reads the units anew."""
        ...

    def enable(self, unit: str) -> None:
        """It starts with the machine."""
        ...

    def disable(self, unit: str) -> None:
        """It does not any more, and is stopped."""
        ...

    def restart(self, unit: str) -> str:
        """Returns when it is ready: empty, or why it is not."""
        ...

    def show(self, unit: str, *names: str) -> dict[str, str]:
        """Properties of it."""
        ...

    def said(self, invocation: str) -> str:
        """The last line of error in one start's journal; empty where there is none."""
        ...


class Systemctl:
    """Implements Systemd by its own command."""

    def reload(self) -> None:
        self._run("daemon-reload")

    def enable(self, unit: str) -> None:
        self._run("enable", unit)
        os.sync()  # systemctl syncs nothing: after a power cut the robot would stay down

    def disable(self, unit: str) -> None:
        self._run("disable", "--now", unit)

    def restart(self, unit: str) -> str:
        done = self._run("restart", unit)
        if not done.returncode:
            return ""
        said = self.said(self.show(unit, "InvocationID").get("InvocationID", ""))
        return said or next(iter(done.stderr.strip().splitlines()), f"systemctl restart ended with {done.returncode}")

    def show(self, unit: str, *names: str) -> dict[str, str]:
        done = self._run("show", *(f"--property={name}" for name in names), unit)
        return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)

    def said(self, invocation: str) -> str:
        words = ("/usr/bin/journalctl", f"_SYSTEMD_INVOCATION_ID={invocation}", "--lines", "50", "--output", "cat", "--no-pager")
        done = subprocess.run(words, capture_output=True, text=True, errors="replace", check=False, timeout=START_SECONDS_MAX)
        ours = [line.strip() for line in done.stdout.splitlines() if line.startswith("voxmeter:") or '"level":"error"' in line]
        return ours[-1].removeprefix("voxmeter: ") if ours else ""

    def _run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        try:
            return subprocess.run(
                ("/usr/bin/systemctl", *words), capture_output=True, text=True, errors="replace", check=False, timeout=START_SECONDS_MAX
            )
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess(words, 1, "", f"systemctl {words[0]} did not end within {START_SECONDS_MAX} s")


class Absent:
    """Implements Systemd where there is none, below another root: units are laid down, and nothing is started."""

    def reload(self) -> None: ...

    def enable(self, unit: str) -> None: ...

    def disable(self, unit: str) -> None: ...

    def restart(self, unit: str) -> str:
        return f"{unit} can't be started below another root"

    def show(self, unit: str, *names: str) -> dict[str, str]:  # noqa: ARG002  the port's words
        return {}

    def said(self, invocation: str) -> str:  # noqa: ARG002
        return ""


def of(layout: Layout) -> Systemd:
    """Raises MissingPart where this is no machine to install on, or not its root who asks."""
    if layout.root != Path("/"):
        return Absent()
    if os.geteuid() != 0:
        raise MissingPart("only root installs voxmeter", "run it with sudo")
    if not (layout.root / RUNS).is_dir():
        raise MissingPart("this machine was not started by systemd, which runs voxmeter on a robot", "use: voxmeter run")
    return Systemctl()


def machine() -> str:
    """As the kernel calls it."""
    return platform.machine()


def python() -> tuple[str, str]:
    """The system's own interpreter, not one of a virtual environment that may vanish, and its version as `3.11`. Raises MissingPart."""
    path = shutil.which("python3", path="/usr/bin:/usr/local/bin")
    if path is None:
        raise MissingPart("there is no python3 in /usr/bin", "apt-get install python3")
    words = (path, "-I", "-c", "import sys; print('%d.%d' % sys.version_info[:2])")
    return path, subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
