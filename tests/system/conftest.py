"""Beds for robots: the tree of this machine, bundles made in this checkout, and a robot on which docs/robot.md was followed."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.system import bundles, sound, tree
from tests.system.bed import Machine, booted
from tests.system.disk import Disk
from tests.system.robot import PROFILE, UNIT, Robot

ROOT = Path(__file__).parents[2]

LENT = "/mnt/bundles"
"""Where a robot sees the bundles: on a stick, so to speak."""

INSTALL = f"cd /root && ln -s {LENT}/hotel.tar . && tar -xf hotel.tar install && sh install --bundle hotel.tar --profile robot.toml --start"
"""As docs/robot.md says."""

SCRIPTED = (ROOT / "device_profiles/scripted.toml").read_text().replace("demo", "your-tenant").replace("sim-0001", "kiosk-0001")
"""The same robot as that of kiosk-x86.toml: books belong to one."""

INSTALL_S_MAX = 600


@pytest.fixture(scope="session")
def debian() -> Path:
    """Fails, and says why, where no systemd can be booted: whoever runs these by name wants to know."""
    why = tree.why_not()
    assert why is None, why
    return tree.made()


@pytest.fixture(scope="session")
def bare(debian: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A booted Debian without voxmeter."""
    with booted(debian, tmp_path_factory.mktemp("bare")) as machine:
        yield machine


@pytest.fixture(scope="session")
def stick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stick")


def bundled(out: Path, profile: str) -> Path:
    words = ("-m", "agent", "bundle", str(out), "--profile", profile, "--platform", "x86_64")
    done = subprocess.run((sys.executable, *words), cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="session")
def installed(debian: Path, stick: Path, models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Disk]:
    """The disk of a robot on which docs/robot.md was followed; the power was cut as soon as it was told that all is done."""
    bundled(stick / "hotel.tar", "hotel")
    with booted(debian, tmp_path_factory.mktemp("installed"), reading={stick: LENT}) as machine:
        machine.copy_in(ROOT / "device_profiles/kiosk-x86.toml", "/root/robot.toml")
        machine.ok("sh", "-ec", INSTALL, seconds=INSTALL_S_MAX)
        machine.power_cut()
        machine.boot()
        robot = Robot(machine)
        machine.until(lambda: robot.property("ActiveState") == "active", 120, "a start at boot", lambda: machine.journal(UNIT)[-3000:])
        assert robot.told("status")["device"] == "your-tenant/kiosk-0001"
        machine.write(SCRIPTED.encode(), PROFILE)  # most tests need neither ears nor real engines
        machine.power_off()
        yield machine.disk


@pytest.fixture
def robot(debian: Path, installed: Disk, stick: Path, tmp_path: Path) -> Iterator[Robot]:
    """A robot of its own, installed and switched on; its engines are scripted, it has no ears, and its unit is stopped."""
    with booted(debian, tmp_path, installed, {stick: LENT}) as machine:
        machine.ok("systemctl", "stop", UNIT)
        yield Robot(machine)


@pytest.fixture
def talking(robot: Robot, question: Path) -> Robot:
    """It has real engines and stands in a hall."""
    sound.furnish(robot.machine)
    robot.machine.copy_in(question, "/opt/question.wav")
    robot.machine.copy_in(ROOT / "device_profiles/kiosk-x86.toml", PROFILE)
    robot.machine.ok("sh", "-ec", f"cd /etc/systemd/system/{UNIT}.service.d && cp pulse.conf.example pulse.conf && systemctl daemon-reload")
    robot.machine.ok("sync")  # it has stood there for a while
    return robot


@pytest.fixture(scope="session")
def version(stick: Path) -> Callable[..., str]:
    """Makes a bundle of another version, and says where the robot sees it."""
    slim = stick / "slim.tar"

    def made(number: str, instead: str = bundles.SERVES) -> str:
        if not slim.exists():
            bundled(slim, "scripted")  # the robot has its models already
        if not (stick / f"{number}.tar").exists():
            bundles.altered(slim, stick / f"{number}.tar", number, instead)
        return f"{LENT}/{number}.tar"

    return made
