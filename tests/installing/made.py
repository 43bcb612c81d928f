"""A bundle of a tiny voxmeter, whose only package is a command, and a systemd that follows a script."""

import asyncio
import base64
import ensurepip
import hashlib
import io
import os
import subprocess
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from agent.installing import manifest as manifests
from agent.installing import steps, system
from agent.installing.layout import Layout
from agent.installing.manifest import File, Manifest
from agent.installing.steps import Machine
from agent.shipped import shipped
from agent.sim.clock import SimulatedClock

PIP = next(path for path in (Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl"))


def wheel(version: str) -> bytes:
    """A package that prints its version."""
    info = f"voxmeter-{version}.dist-info"
    files = {
        "tiny.py": f"def main():\n    print('{version}')\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: voxmeter\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[console_scripts]\nvoxmeter = tiny:main\n",
    }
    record = [f"{name},sha256={_digest(text)},{len(text)}" for name, text in files.items()]
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, text in (files | {f"{info}/RECORD": "\n".join([*record, f"{info}/RECORD,,"]) + "\n"}).items():
            archive.writestr(zipfile.ZipInfo(name), text)
    return out.getvalue()


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


def contents(version: str) -> dict[str, bytes]:
    name = f"voxmeter-{version}-py3-none-any.whl"
    files = {name: wheel(version), PIP.name: PIP.read_bytes()}
    pins = [f"{one.split('-')[0]}=={one.split('-')[1]} --hash=sha256:{hashlib.sha256(held).hexdigest()}" for one, held in files.items()]
    laid = shipped("systemd")
    units = {f"systemd/{path.relative_to(laid)}": path.read_bytes() for path in laid.rglob("*") if path.is_file()}
    units = {one: held + f"# of {version}\n".encode() for one, held in units.items()}
    told = {"requirements.txt": "\n".join(pins).encode(), "profile.toml": b"# the bundle's\n", "models/ears/one.bin": b"weights" * 99}
    told |= units
    return told | {f"wheels/{one}": held for one, held in files.items()}


def archive(path: Path, version: str = "1.0", changed: Mapping[str, bytes] | None = None, **about: Any) -> Path:
    """A bundle. `changed` is put in place of what the manifest speaks of, without its knowing."""
    inside = contents(version)
    files = tuple(File(name, hashlib.sha256(held).hexdigest(), len(held)) for name, held in inside.items())
    words = {"version": version, "platform": "x86_64", "python": "3.11", "profile": "tiny", "models": ("ears",), "file": files} | about
    with tarfile.open(path, "w:", format=tarfile.PAX_FORMAT) as out:
        for name, held in ({manifests.NAME: manifests.dumped(Manifest(**words))} | inside | dict(changed or {})).items():
            entry = tarfile.TarInfo(name)
            entry.size = len(held)
            out.addfile(entry, io.BytesIO(held))
    return path


class Scripted:
    """Implements Systemd: starts fail as it is told, by the version that is current."""

    def __init__(self, layout: Layout, fails: Mapping[str, str] | None = None) -> None:
        self._layout, self.fails = layout, dict(fails or {})
        self.done: list[str] = []
        self.dies: set[str] = set()
        """Versions that start and then end."""
        self.told: dict[str, Any] = {"running": True, "stuck": [], "hearing": {"hearing": True}}
        """What `status` tells."""

    def reload(self) -> None:
        self.done.append("reload")

    def enable(self, unit: str) -> None:
        self.done.append(f"enable {unit}")

    def disable(self, unit: str) -> None:
        self.done.append(f"disable {unit}")

    def restart(self, unit: str) -> str:  # noqa: ARG002  the port's words
        self.done.append(f"restart {self.version}")
        return self.fails.get(self.version, "")

    def show(self, unit: str, *names: str) -> dict[str, str]:  # noqa: ARG002
        ended = self.version in self.dies
        return {"ActiveState": "activating" if ended else "active", "NRestarts": "0", "InvocationID": "a"}

    def said(self, invocation: str) -> str:  # noqa: ARG002
        return "it burns"

    @property
    def version(self) -> str:
        return self._layout.current().split("-")[0]


def machine(root: Path, say: Callable[[str], None] = lambda _: None) -> tuple[Machine, Scripted]:
    layout = Layout(root)
    scripted = Scripted(layout)
    python = system.python()
    return Machine(layout, scripted, SimulatedClock(), say, "x86_64", (python[0], "3.11"), lambda: scripted.told), scripted


def booted(layout: Layout) -> None:
    """What the gate does at a start, after a power cut say."""
    root = layout.root
    (root / "bin").mkdir(exist_ok=True)
    (root / "bin/systemctl").write_text("#!/bin/sh\n")
    (root / "bin/systemctl").chmod(0o755)
    places = {"HOME": layout.home, "UNITS": layout.units, "COMMAND": layout.command, "STATE": root / "none"}
    known = {f"VOXMETER_{name}": str(path) for name, path in places.items()} | {"PATH": f"{root}/bin:{os.environ['PATH']}"}
    subprocess.run(["/bin/sh", str(layout.gate), "starting"], env=known, check=True)


def laid(layout: Layout) -> set[str]:
    """Of which versions that is what lies outside their folders."""
    paths = [path for path in layout.units.rglob("*") if path.is_file()]
    return {path.read_text().rsplit("# of ", 1)[1].strip() for path in (*paths, layout.command, layout.gate)}


def install(root: Path, path: Path, profile: Path | None = None, *, start: bool = True) -> dict[str, Any]:
    return asyncio.run(steps.install(machine(root)[0], path, profile, start=start))


def runs(root: Path) -> str:
    """What the current version's command prints."""
    done = subprocess.run([str(root / "opt/voxmeter/current/bin/voxmeter")], capture_output=True, text=True, check=True)
    return done.stdout.strip()
