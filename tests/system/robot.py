"""What tests ask of a robot on a bed: to start and stop its unit, how it is, what is on its books, which processes it has."""

import json
import time
from typing import Any

from tests.system.bed import Done, Machine

UNIT = "voxmeter"
PROGRAM = "/opt/voxmeter/current/bin/voxmeter"
PROFILE = "/etc/voxmeter/profile.toml"
STATE = "/var/lib/voxmeter"
STATE_ITSELF = "/var/lib/private/voxmeter"
"""Where systemd keeps the state of a dynamic user; the other name is a link to it."""

HEARING_S_MAX = 60
"""Generous: the machine is shared, and what a start takes is a figure, not a test."""


class Robot:
    """A machine with voxmeter on it."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def voxmeter(self, *words: str, seconds: float = 60) -> Done:
        """The robot's own command, as root, on the books of its unit."""
        return self.machine.run([PROGRAM, *words, "--state-dir", STATE, "--profile", PROFILE], seconds=seconds)

    def told(self, *words: str) -> Any:
        """What a command tells as JSON. One that finds something wrong (exit 1) tells it as well."""
        done = self.voxmeter(*words, "--json")
        assert done.status in (0, 1), done.err
        return json.loads(done.out)

    def start(self) -> float:
        """Starts the unit; seconds until it is ready."""
        began = time.monotonic()
        started = self.machine.run(["systemctl", "start", UNIT], seconds=120)
        assert started.status == 0, self.machine.journal(UNIT)[-3000:]
        return time.monotonic() - began

    def stop(self) -> float:
        """Stops the unit; seconds until nothing of it is left."""
        began = time.monotonic()
        self.machine.ok("systemctl", "stop", UNIT)
        return time.monotonic() - began

    def hears(self) -> bool:
        """It says that sound comes in at the rate it should."""
        done = self.voxmeter("status", "--json")
        hearing = (json.loads(done.out)["hearing"] if done.status == 0 else None) or {}
        return bool(hearing.get("hearing")) and abs(hearing.get("rate", 0) - 1) < 0.1

    def until_it_hears(self) -> None:
        self.machine.until(self.hears, HEARING_S_MAX, "hearing", lambda: self.machine.journal(UNIT)[-3000:])

    def records(self, kind: str) -> list[dict[str, Any]]:
        """The `data` of the records of a kind, such as `usage` or `intent`, in the books' order."""
        return [one["data"] for one in self.told("usage", "list") if one["type"] == f"voxmeter.{kind}.v1"]

    def outcomes(self) -> dict[str, dict[str, str]]:
        """Of every turn on the books the outcome of each of its stages; an empty one where nothing of it is settled."""
        turns: dict[str, dict[str, str]] = {one["turn_id"]: {} for one in self.records("intent")}
        for one in self.records("usage"):
            turns.setdefault(one["turn_id"], {})[one["stage"]] = one["outcome"]
        return turns

    def whole(self) -> bool:
        """Not a record of its books is missing or altered."""
        return bool(self.told("usage", "verify")["whole"])

    def property(self, name: str) -> str:
        return self.machine.show(UNIT, name)

    def until_restarted(self, times: int, seconds: float) -> None:
        """Until systemd has started it so many times again, and it is ready."""

        def again() -> bool:
            return int(self.property("NRestarts")) >= times and self.property("ActiveState") == "active"

        self.machine.until(again, seconds, "a restart", lambda: self.machine.journal(UNIT)[-3000:])

    def processes(self) -> dict[int, str]:
        """The unit's processes as the robot numbers them, and how each was started."""
        group = self.property("ControlGroup")
        listing = (
            f"for one in $(cat /sys/fs/cgroup/*{group}/cgroup.procs | sort -un); do echo $one $(tr '\\0' ' ' < /proc/$one/cmdline); done"
        )
        lines = self.machine.ok("sh", "-c", listing).splitlines()
        return {int(number): words for number, _, words in (line.partition(" ") for line in lines)}

    def engine(self, prefix: str) -> int:
        """The process of an engine, such as `vad`."""
        return next(number for number, words in self.processes().items() if f"agent.engines.child {prefix}" in words)

    def halt(self, process: int) -> None:
        """Makes it stand still, as a process does that waits for ever."""
        self.machine.ok("sh", "-c", f"kill -STOP {process}")

    def cpu_s(self) -> float:
        """Seconds of one core that the unit's processes have taken since their start."""
        listing = "for one in $(cat /sys/fs/cgroup/*$1/cgroup.procs | sort -un); do sed 's/.*) //' /proc/$one/stat; done"
        lines = self.machine.ok("sh", "-c", listing, "sh", self.property("ControlGroup")).splitlines()
        return sum(int(line.split()[place]) for line in lines for place in (11, 12)) / 100  # utime and stime, in ticks
