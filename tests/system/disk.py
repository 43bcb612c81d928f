"""A robot's disk: an ext4 image that holds what changed over the tree, and forgets at a power cut what was not synced, as a disk does."""

import fcntl
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

DISK_BYTES = 8 << 30
"""As the robot sees it; the file is sparse. A robot with two versions and its models needs less than half."""

SHUTDOWN = 0x8004587D
"""ext4's ioctl `EXT4_IOC_SHUTDOWN`."""

NO_LOG_FLUSH = 2
"""Its flag: from now on not a block reaches the disk, neither of files nor of the journal."""


@dataclass(frozen=True)
class Disk:
    """An image that may lie over another one, which is then only read."""

    image: Path
    under: "Disk | None" = None

    @classmethod
    def new(cls, image: Path, under: "Disk | None" = None) -> "Disk":
        with image.open("xb") as file:
            file.truncate(DISK_BYTES)
        subprocess.run(("mkfs.ext4", "-q", "-F", str(image)), check=True, capture_output=True)
        return cls(image, under)

    def layers(self) -> "list[Disk]":
        """This one and those under it, from the top."""
        return [self, *(self.under.layers() if self.under else [])]

    def mounting(self, work: Path, tree: Path) -> list[list[str]]:
        """The commands that make `work/root` of the tree and the layers, in a mount name space of their own."""
        commands, below = [], [str(tree)]
        for number, layer in enumerate(self.layers()):
            spot = work / f"disk-{number}"
            spot.mkdir(exist_ok=True)
            options = "loop" if number == 0 else "loop,ro,noload"
            commands.append(["mount", "-o", options, str(layer.image), str(spot)])
            if number:
                below.insert(-1, f"{spot}/changes")
        top = work / "disk-0"
        (work / "root").mkdir(exist_ok=True)
        commands.append(["mkdir", "-p", f"{top}/changes", f"{top}/work"])
        options = f"lowerdir={':'.join(below)},upperdir={top}/changes,workdir={top}/work"
        return [*commands, ["mount", "-t", "overlay", "overlay", "-o", options, str(work / "root")]]


def cut_off(mounted: Path) -> None:
    """Takes the power from a mounted disk: what was not synced until now is lost. Writers get EIO until they are ended."""
    spot = os.open(mounted, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.ioctl(spot, SHUTDOWN, NO_LOG_FLUSH.to_bytes(4, "little"))
    finally:
        os.close(spot)
