"""Other versions of voxmeter for the tests of upgrades: a bundle whose wheel has another number, or has been broken on purpose."""

import hashlib
import io
import tarfile
import zipfile
from pathlib import Path

from agent.installing import manifest as manifests
from agent.installing.manifest import File, Manifest

SERVES = "    from agent import service\n"
"""The line of agent/cli/run.py with which a robot's service begins."""

EXITS = "    raise SystemExit(1)\n"
NEVER_READY = "    import time\n    time.sleep(1_000_000)\n"
GIVES_UP = "    raise SystemExit(2)\n"


def altered(bundle: Path, out: Path, version: str, instead: str = SERVES) -> Path:
    """The same bundle with another version of voxmeter's own wheel, whose service begins otherwise."""
    with tarfile.open(bundle) as archive:
        held = manifests.parsed(_content(archive, manifests.NAME))
        contents = {file.path: _content(archive, file.path) for file in held.file}
    old = next(name for name in contents if name.startswith("wheels/voxmeter-"))
    new = old.replace(f"-{held.version}-", f"-{version}-")
    wheel = _wheel(contents.pop(old), held.version, version, instead)
    requirements = contents["requirements.txt"].decode().splitlines()
    ours = f"voxmeter=={version} --hash=sha256:{hashlib.sha256(wheel).hexdigest()}"
    lines = [ours if line.startswith("voxmeter==") else line for line in requirements]
    changed = {new: wheel, **contents, "requirements.txt": "".join(f"{line}\n" for line in lines).encode()}
    files = tuple(File(name, hashlib.sha256(content).hexdigest(), len(content)) for name, content in changed.items())
    told = manifests.dumped(Manifest(version, held.platform, held.python, held.profile, held.models, files))
    with tarfile.open(out, "w:", format=tarfile.PAX_FORMAT) as archive:
        for name, content in {manifests.NAME: told, **changed}.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return out


def _content(archive: tarfile.TarFile, name: str) -> bytes:
    stream = archive.extractfile(name)
    assert stream is not None, name
    return stream.read()


def _wheel(content: bytes, version: str, wanted: str, instead: str) -> bytes:
    made, changed = io.BytesIO(), 0
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            text = old.read(name)
            if name == "agent/cli/run.py":
                changed = text.count(SERVES.encode())
                text = text.replace(SERVES.encode(), instead.encode())
            if ".dist-info/" in name:
                text = text.replace(f"voxmeter-{version}.".encode(), f"voxmeter-{wanted}.".encode())
                text = text.replace(f"\nVersion: {version}\n".encode(), f"\nVersion: {wanted}\n".encode())
            new.writestr(name.replace(f"voxmeter-{version}.", f"voxmeter-{wanted}."), text)
    assert changed == 1, "agent/cli/run.py has changed: SERVES names no line of it"
    return made.getvalue()
