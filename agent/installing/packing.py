"""Makes a bundle: voxmeter's own wheel, the pinned wheels a robot of this profile needs on its platform, models, units, all in one file.

Wheels come through pip, for another platform if need be; each must have a hash that requirements/run.txt pins for it.
"""

import io
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from agent import profile as profiles
from agent.errors import BadInput, BadWeights, MissingPart
from agent.fitting import models_of
from agent.installing import manifest as manifests
from agent.installing.manifest import File, Manifest
from agent.shipped import PACKAGE, shipped
from agent.weights import catalog, verify

CHECKOUT: Final = PACKAGE.parent

EXTRAS: Final = ("audio", "asr", "dialog", "llm", "tts")
"""Of pyproject: what every robot that listens and speaks needs. Engines add theirs."""

ENGINE_EXTRAS: Final = {"asr_vosk": "vosk"}

GLIBC_MINORS: Final = range(36, 16, -1)
"""manylinux tags a robot can take: Debian 12 has glibc 2.36."""

PIP_SECONDS_MAX: Final = 1_800

PIN: Final = re.compile(r"^([A-Za-z0-9_.-]+)==(\S+)(?: ; .*)?(?: \\)?$")

Say = Callable[[str], None]


def bundle(out: Path, profile: str, models: Path, say: Say, *, platform: str, python: str) -> Manifest:
    """Writes the archive, whole or not at all; what is in it. Raises BadInput, BadProfile, BadWeights, MissingPart."""
    if platform not in manifests.PLATFORMS:
        raise BadInput(f"no robot is of platform {platform!r}", f"there are: {', '.join(manifests.PLATFORMS)}")
    if not re.fullmatch(r"3\.\d{1,2}", python):
        raise BadInput(f"{python!r} is no version of Python", "give one like 3.11")
    if not (CHECKOUT / "pyproject.toml").is_file():
        raise MissingPart("bundles are made in a checkout, which this is not", "run it from the project's folder")
    chosen = models_of(profile, catalog.read())
    weights = {model.name: _weights(model, models) for model in chosen}
    with _plainly(out), tempfile.TemporaryDirectory() as place:
        work = Path(place)
        wheel = _own_wheel(work)
        say(f"wheels for {platform}, Python {python}")
        _download(work, wheel, _extras(profile), platform, python)
        _check_pins(work / "wheels")
        version = wheel.name.split("-")[1]
        return _written(out, _contents(work, profile, weights), (version, platform, python, profile), tuple(weights))


def _weights(model: catalog.Model, root: Path) -> dict[str, Path]:
    """Its files on this disk, hashed once more, and their seals."""
    for problem in verify.problems(model, root, thorough=True):
        raise BadWeights(f"model {model.name}: {problem}", f"run: voxmeter models pull {model.name}")
    return verify.paths(model, root) | {verify.MANIFEST: root / model.name / verify.MANIFEST}


def _extras(profile: str) -> str:
    engine = profiles.load(profile).asr.engine
    return ",".join(sorted({*EXTRAS, *filter(None, [ENGINE_EXTRAS.get(engine)])}))


def _own_wheel(work: Path) -> Path:
    _pip("wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(work / "wheels"), str(CHECKOUT))
    return next((work / "wheels").glob("voxmeter-*.whl"))


def _download(work: Path, wheel: Path, extras: str, platform: str, python: str) -> None:
    """pip resolves for the other platform; versions are held by the pins, hashes are compared afterwards."""
    pins = work / "pins.txt"
    pins.write_text("".join(f"{line}\n" for line in _pins_of((CHECKOUT / "requirements/run.txt").read_text())))
    words = ["--quiet", "--dest", str(work / "wheels"), "--only-binary", ":all:", "--constraint", str(pins)]
    words += ["--python-version", python, "--implementation", "cp"]
    for tag in (*(f"manylinux_2_{minor}_{platform}" for minor in GLIBC_MINORS), f"manylinux2014_{platform}"):
        words += ["--platform", tag]
    _pip("download", *words, f"{wheel}[{extras}]", "pip")


def _pins_of(text: str) -> Iterator[str]:
    """`name==version ; marker` of each pinned package, without its hashes."""
    for line in text.splitlines():
        if PIN.match(line):
            yield line.removesuffix(" \\")


def _hashes_of(text: str) -> set[str]:
    return set(re.findall(r"--hash=sha256:([0-9a-f]{64})", text))


def _check_pins(wheels: Path) -> None:
    known = _hashes_of((CHECKOUT / "requirements/run.txt").read_text())
    for path in sorted(wheels.glob("*.whl")):
        if not path.name.startswith("voxmeter-") and verify.sha256_of(path) not in known:
            raise BadInput(f"{path.name} has a hash that requirements/run.txt does not pin", "renew the pins with scripts/lock")


def _contents(work: Path, profile: str, weights: dict[str, dict[str, Path]]) -> dict[str, Path]:
    """What goes where in the archive; small files first, so that whoever looks for them need not read it all."""
    wheels = sorted((work / "wheels").glob("*.whl"))
    needed = work / "requirements.txt"
    needed.write_text("".join(f"{_requirement(path)}\n" for path in wheels))
    laid = shipped("systemd")
    units = {f"systemd/{path.relative_to(laid)}": path for path in sorted(laid.rglob("*")) if path.is_file()}
    told = {"install": units.pop("systemd/install"), "requirements.txt": needed, "profile.toml": profiles.find(profile), **units}
    told |= {f"wheels/{path.name}": path for path in sorted(wheels, key=lambda one: not one.name.startswith("voxmeter-"))}
    return told | {f"models/{model}/{name}": path for model, files in weights.items() for name, path in files.items()}


def _requirement(wheel: Path) -> str:
    name, version = wheel.name.split("-")[:2]
    return f"{name}=={version} --hash=sha256:{verify.sha256_of(wheel)}"


def _written(out: Path, contents: dict[str, Path], about: tuple[str, str, str, str], models: tuple[str, ...]) -> Manifest:
    files = tuple(File(name, verify.sha256_of(path), path.stat().st_size) for name, path in contents.items())
    version, platform, python, profile = about
    held = Manifest(version, platform, python, Path(profile).stem, models, files)
    part = out.with_name(f"{out.name}.part")
    with tarfile.open(part, "w:", format=tarfile.PAX_FORMAT) as archive:
        _add(archive, manifests.NAME, manifests.dumped(held))
        for name, path in contents.items():
            with path.open("rb") as file:
                archive.addfile(_entry(name, path.stat().st_size), file)
    part.replace(out)
    return held


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    archive.addfile(_entry(name, len(content)), io.BytesIO(content))


def _entry(name: str, size: int) -> tarfile.TarInfo:
    """Nobody's, of no time: the same contents make the same archive."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = size, 0o644
    return entry


def _pip(*words: str) -> None:
    command = [sys.executable, "-m", "pip", words[0], "--disable-pip-version-check", *words[1:]]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, timeout=PIP_SECONDS_MAX)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise MissingPart(f"pip {words[0]}: {lines[0] if lines else 'it failed'}", "see that its package index is reachable")


@contextmanager
def _plainly(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BadInput(f"{error.filename or out}: {error.strerror or error}", "name a file in a folder with room") from error
    finally:
        out.with_name(f"{out.name}.part").unlink(missing_ok=True)
