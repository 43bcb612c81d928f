"""What `voxmeter status` tells of a robot, as far as its files tell it; what only a running one knows, `loop` adds."""

from pathlib import Path
from typing import Any

from agent.clock import Clock
from agent.errors import BadInput
from agent.profile import Profile
from agent.store import trust
from agent.store.waiting import age_s, waiting


def told_of(profile: Profile, clock: Clock, folder: Path) -> dict[str, Any]:
    """`{device, running, hearing, waiting, oldest_s, sync, trust, stuck, lease, clock}` of a robot that does not run.

    `trust`: why nobody can be believed; empty where whom to believe can be read.
    """
    held = waiting(folder)
    return {
        "device": f"{profile.device.tenant}/{profile.device.id}",
        "running": False,
        "hearing": None,
        "waiting": held,
        "oldest_s": age_s(held["oldest"], clock.utc()),
        "sync": None,
        "trust": _distrust(folder),
        "stuck": [],
        "lease": None,
        "clock": {"time": clock.utc().isoformat(timespec="seconds"), "quality": clock.quality()},
    }


def _distrust(folder: Path) -> str:
    try:
        trust.read(folder)
    except BadInput as error:
        return str(error)
    return ""
