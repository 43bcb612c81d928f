"""Keeps how long this robot was ever without the other side, `contact.json`, so that its certificate lasts longer than that."""

import datetime
from contextlib import suppress
from pathlib import Path

import orjson

from agent.clock import Clock
from agent.errors import BadInput
from agent.files import read_beginning, write_durably
from agent.fleet.certificate import TRUSTED, Contact, met
from agent.store.keys import plainly

CONTACT_FILE = "contact.json"

FILE_BYTES_MAX = 4096

WRITTEN_S = 3600.0
"""Between two writes: a power cut makes a span look longer by no more than that, and the card is spared."""


class Contacts:
    """The contact of one state folder."""

    def __init__(self, state: Path, clock: Clock) -> None:
        self._path, self._clock = state / CONTACT_FILE, clock
        self._last = _read(self._path)
        self._written: float | None = None

    @property
    def longest_s(self) -> float:
        """Seconds; 0 for a robot that was never away."""
        return self._last.longest_s if self._last else 0.0

    def note(self) -> None:
        """The other side is there now. Raises BadInput where the disk refuses."""
        clock, before = self._clock, self.longest_s
        trusted = clock.quality() in TRUSTED
        self._last = met(self._last, Contact(clock.boot_id(), clock.boottime_ms(), clock.utc() if trusted else None))
        now = clock.monotonic()
        if self._written is None or now - self._written >= WRITTEN_S or self._last.longest_s > before + WRITTEN_S:
            with plainly(self._path):
                write_durably(self._path, _written(self._last))
            self._written = now


def _written(last: Contact) -> bytes:
    told = {"boot_id": last.boot_id, "boottime_ms": last.boottime_ms, "longest_s": last.longest_s}
    return orjson.dumps(told | ({"time": last.time.isoformat()} if last.time else {}))


def _read(path: Path) -> Contact | None:
    """None for a file that is not there, or not what was written: it is begun again, and the least span holds meanwhile."""
    with suppress(BadInput, ValueError, KeyError, TypeError, AttributeError), plainly(path):
        found = read_beginning(path, FILE_BYTES_MAX)
        if found is not None:
            told = orjson.loads(found[0])
            time = datetime.datetime.fromisoformat(told["time"]).astimezone(datetime.UTC) if "time" in told else None
            return Contact(str(told["boot_id"]), int(told["boottime_ms"]), time, float(told["longest_s"]))
    return None
