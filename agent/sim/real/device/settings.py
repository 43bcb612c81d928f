"""What a robot's process is made from; a JSON file holds it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from agent.clock import ClockQuality


@dataclass(frozen=True, slots=True)
class Way:
    """Where one transport goes, and whom it believes."""

    transport: str
    port: int
    authority: str
    """PEM."""
    certificate: str = ""
    key: str = ""
    """Paths of PEM files; empty: it shows none."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Of one robot."""

    name: str
    folder: str
    """Holds `state`."""
    tenant: str
    device: str
    account: str
    seed: int
    ways: Sequence[Way]
    """In the order they are tried."""
    token: str
    """One-time; only an unregistered robot needs it."""
    leapt_s: float = 0
    """What has passed on its clock so far, beyond the machine's time; negative: it lags behind."""
    stepped_s: float = 0
    hurry: float = 1
    """How many of its seconds pass in one of the machine's."""
    starts: int = 0
    """Lives of it before this one."""
    steered: bool = False
    """It takes commands of the operators whose keys came with its registration."""
    certified: bool = False
    """It keeps its certificate itself, and asks for one where it brings none."""
    quality: ClockQuality = "ntp"
    """How far its clock is believed."""
    wavs: Sequence[str] = ()
    """What guests ask it, one after the other, paths; with any it has real engines, without it plays its turns."""

    @classmethod
    def read(cls, path: Path) -> "Settings":
        told = orjson.loads(path.read_bytes())
        return cls(**told | {"ways": [Way(**way) for way in told["ways"]], "wavs": tuple(told["wavs"])})

    def written(self) -> bytes:
        return orjson.dumps(self)
