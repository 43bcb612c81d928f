"""Where everything stands on a robot, and the one switch that decides which version runs.

/opt/voxmeter/versions/NAME/   a virtual environment, its units, its manifest; whole once `complete` is in it
/opt/voxmeter/current          -> versions/NAME, switched by a rename
/opt/voxmeter/trial            a version that must prove itself: new=NAME, old=NAME, starts=N, heard=1 or 0; see `gate`
/opt/voxmeter/models/          weights, shared by all versions: one that changes gets another name
/etc/voxmeter/profile.toml     the site's own, never overwritten
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.files import sync_folder, write_durably

COMPLETE: Final = "complete"
"""Its presence says that a version was written to its end, and synced."""

UNIT: Final = "voxmeter.service"

UNITS: Final = (UNIT, "voxmeter-billing.service")
"""Both are laid down; only the first is enabled."""

EXAMPLE: Final = "voxmeter.service.d/pulse.conf.example"


@dataclass(frozen=True, slots=True)
class Trial:
    """A version that must prove itself."""

    new: str
    old: str
    """The one to go back to: proven."""
    heard: bool
    """The robot heard under the one before, so it must hear under this one."""
    starts: int = 0
    """That have not ended well; the one that runs counts."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths below a root: `/`, or another for tests."""

    root: Path = Path("/")

    @property
    def home(self) -> Path:
        return self.root / "opt/voxmeter"

    @property
    def versions(self) -> Path:
        return self.home / "versions"

    @property
    def models(self) -> Path:
        return self.home / "models"

    @property
    def trial(self) -> Path:
        return self.home / "trial"

    @property
    def gave_up(self) -> Path:
        """Why the gate went back by itself, the last time it did."""
        return self.home / "gave-up"

    @property
    def gate(self) -> Path:
        return self.home / "gate"

    @property
    def units(self) -> Path:
        return self.root / "etc/systemd/system"

    @property
    def settings(self) -> Path:
        return self.root / "etc/voxmeter"

    @property
    def profile(self) -> Path:
        return self.settings / "profile.toml"

    @property
    def command(self) -> Path:
        return self.root / "usr/local/bin/voxmeter"

    @property
    def states(self) -> tuple[Path, ...]:
        """What the robot keeps: removed by a purge alone."""
        return self.root / "var/lib/voxmeter", self.root / "var/lib/private/voxmeter"

    def current(self) -> str:
        """The version that runs at the next start; empty: none."""
        return self._target(self.home / "current")

    def whole(self, name: str) -> bool:
        return (self.versions / name / COMPLETE).exists()

    def on_trial(self) -> Trial | None:
        """What must prove itself, if anything must; a damaged file tells as much as it can."""
        try:
            told = dict(line.split("=", 1) for line in self.trial.read_text(errors="replace").split() if "=" in line)
        except FileNotFoundError:
            return None
        starts = told.get("starts", "")
        return Trial(told.get("new", ""), told.get("old", ""), told.get("heard") == "1", int(starts) if starts.isdecimal() else 0)

    def begin_trial(self, trial: Trial) -> None:
        """Durable before the switch: a power cut in between leaves a trial that never began."""
        told = f"new={trial.new}\nold={trial.old}\nstarts={trial.starts}\nheard={trial.heard:d}\n"
        write_durably(self.trial, told.encode())

    def end_trial(self) -> None:
        self.trial.unlink(missing_ok=True)
        sync_folder(self.home)

    def switch(self, name: str) -> None:
        """Makes a version the current one, whole or not at all."""
        part = self.home / "current.part"
        part.unlink(missing_ok=True)
        part.symlink_to(Path("versions") / name)
        part.rename(self.home / "current")
        sync_folder(self.home)

    def prune(self, keep: set[str]) -> list[str]:
        """Removes other versions; which."""
        found = [path.name for path in self.versions.iterdir() if path.name not in keep] if self.versions.is_dir() else []
        for name in found:
            shutil.rmtree(self.versions / name)
        return sorted(found)

    @staticmethod
    def _target(link: Path) -> str:
        try:
            return os.path.basename(os.readlink(link))  # noqa: PTH115, PTH119  of the link itself
        except (FileNotFoundError, OSError):
            return ""
