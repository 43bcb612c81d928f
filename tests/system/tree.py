"""A Debian with a real systemd in a folder: made once with debootstrap, kept in the user's cache, and never written to again."""

import fcntl
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

RELEASE = "bookworm"
PACKAGES = (
    *("systemd", "systemd-sysv", "dbus", "ca-certificates", "python3", "python3-venv", "libportaudio2", "libasound2-plugins"),
    *("pulseaudio", "pulseaudio-utils", "mosquitto"),
)
"""What docs/robot.md asks of a robot's Debian, then what stands in for its sound card and its broker."""

ASLEEP = ("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer", "mosquitto.service")
"""What Debian starts by itself and would disturb a measurement."""

PROGRAMS = ("debootstrap", "systemd-nspawn", "nsenter", "unshare", "setpriv", "mkfs.ext4")


def why_not() -> str | None:
    """Why no systemd can be booted here, in one line; None where it can be tried."""
    if os.geteuid() != 0:
        return "a real systemd is booted by root only"
    lacking = [name for name in PROGRAMS if shutil.which(name) is None]
    if lacking:
        return f"no {', '.join(lacking)} here: run scripts/packages"
    if subprocess.run(("unshare", "--mount", "--pid", "--fork", "true"), capture_output=True, check=False).returncode:
        return "this kernel, or the container this runs in, gives no name spaces"
    known = Path("/proc/filesystems").read_text()
    wanting = [name for name in ("overlay", "ext4", "cgroup") if f"\t{name}\n" not in known]
    return f"this kernel has no {', '.join(wanting)}" if wanting else None


def made() -> Path:
    """The tree's folder; about a minute and a network the first time. Raises `CalledProcessError` where debootstrap fails."""
    recipe = " ".join((RELEASE, *PACKAGES, *ASLEEP))
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "voxmeter/system-tree"
    folder = cache / hashlib.sha256(recipe.encode()).hexdigest()[:12]
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            _make(folder)
    return folder


def _make(folder: Path) -> None:
    """Under another name until it is whole: a tree half made is never taken for one."""
    growing = folder.with_suffix(".growing")
    shutil.rmtree(growing, ignore_errors=True)
    command = ("debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", RELEASE, str(growing))
    with folder.with_suffix(".log").open("w") as log:
        subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=True)
    subprocess.run(("systemctl", f"--root={growing}", "mask", *ASLEEP), capture_output=True, check=True)
    for unwanted in ("etc/machine-id", "etc/hostname"):  # of the machine it was made on; each bed gets its own
        (growing / unwanted).unlink(missing_ok=True)
    (growing / "etc/machine-id").touch()
    growing.rename(folder)
