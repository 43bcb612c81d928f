"""Keeps what was set from afar, `twin.json`: the standing of the twin, and what commands have set (`mode`, `budget`).

    {"version", "state", "why", "in_force": {"version", "settings"}, "trial": {…}, "owed": {…}, "local": {…}}

One file, replaced whole; after it a small one, `twin.seen`, with the highest version there ever was. From a file that is damaged, lost
or older than that only the version is taken, so that no older twin is taken for a new one; where nothing else can be told the robot
runs with its profile alone, and the last twin is looked at once more.
"""

import hashlib
import re
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import orjson
from pydantic import TypeAdapter, ValidationError

from agent.errors import BadInput
from agent.files import read_beginning, write_durably
from agent.ports.twin import Standing
from agent.store.keys import FOLDER_MODE, plainly

TWIN_FILE = "twin.json"

SEEN_FILE = "twin.seen"
"""`{version} {check}`: outlives the other, which is replaced many times as often."""

SEEN_BYTES_MAX = 128

FILE_BYTES_MAX = 512 * 1024
"""Two twins of 64 KiB each, the keys they brought, and what commands set."""

LOCAL_BYTES_MAX = 16 * 1024
"""Of all that commands set."""

STANDING = TypeAdapter(Standing)
LOCAL = TypeAdapter(dict[str, Any])

VERSION = re.compile(rb'(?:\A\{|"in_force":\{|"overlay":\{)"version":([0-9]{1,16}),')
"""Of the twin, or of settings that came with one no newer; whole numbers only, and none that stands among the settings."""

SEEN = re.compile(rb"([0-9]{1,16}) ([0-9a-f]{64})\n")


class Remote:
    """The file of one state folder, whose owner this process is."""

    def __init__(self, state: Path, say: Callable[[str], None]) -> None:
        """Never fails for what is in the file; that it is damaged is said in one line. Raises BadInput where the disk refuses."""
        self._path, self._seen_path = state / TWIN_FILE, state / SEEN_FILE
        self._writing = threading.Lock()
        self._seen = self._read_seen()
        self._standing, self._local = self._read(say)
        self._see(self._standing.version)  # cut off between the two

    @property
    def standing(self) -> Standing:
        """See the port TwinBook."""
        return self._standing

    @property
    def local(self) -> Mapping[str, Any]:
        """What commands have set, by name."""
        return MappingProxyType(self._local)

    def put(self, standing: Standing) -> None:
        """See the port TwinBook."""
        with self._writing:
            self._write(standing, self._local)
            self._standing = standing
            self._see(standing.version)  # after it: seen before, a twin that a power cut kept away would never be looked at

    def put_local(self, name: str, value: Any) -> None:
        """A JSON value; None takes it away. On the disk when it returns. Raises BadInput for too much, and where the disk refuses."""
        with self._writing:
            local = {**self._local, name: value}
            if value is None:
                del local[name]
            if len(orjson.dumps(local)) > LOCAL_BYTES_MAX:
                raise BadInput(f"{name}: what commands set is more than {LOCAL_BYTES_MAX} bytes", "set less")
            self._write(self._standing, local)
            self._local = local

    def _write(self, standing: Standing, local: Mapping[str, Any]) -> None:
        told = {"version": standing.version, **asdict(standing), "local": local}  # the version first: it is found whatever follows
        content = orjson.dumps(told)
        if len(content) > FILE_BYTES_MAX:
            raise BadInput(f"{self._path}: {len(content)} bytes; the most is {FILE_BYTES_MAX}", "set less from afar")
        with plainly(self._path):
            self._path.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            write_durably(self._path, content)

    def _read(self, say: Callable[[str], None]) -> tuple[Standing, dict[str, Any]]:
        with plainly(self._path):
            found = read_beginning(self._path, FILE_BYTES_MAX + 1)
        if found is None and not self._seen:
            return Standing(), {}
        content = found[0] if found is not None else b""
        try:
            told = orjson.loads(content)
            standing, local = STANDING.validate_python(told), _local(told)
        except (ValueError, AttributeError, RecursionError) as error:
            why = "it is gone" if found is None else f"not what was written ({_line(error)})"
            say(f"{self._path}: {why}; the profile alone is used until a twin comes")
            why = f"what was set from afar was {'lost' if found is None else f'damaged: {_line(error)}'}"
            return Standing(self._again(_version(content)), "failed", why), _salvaged(content)
        if standing.version < self._again(0):
            say(f"{self._path}: it is of version {standing.version}, and {self._seen} has been here; older twins are not taken")
            standing = replace(standing, version=self._again(0))
        return standing, local

    def _again(self, version: int) -> int:
        """The version before the last, so that the last is looked at once more."""
        return max(0, max(version, self._seen) - 1)

    def _see(self, version: int) -> None:
        """Where the disk refuses, the next that is put tries again."""
        if version <= self._seen:
            return
        number = str(version).encode()
        with suppress(OSError):
            write_durably(self._seen_path, b"%b %b\n" % (number, hashlib.sha256(number).hexdigest().encode()))
            self._seen = version

    def _read_seen(self) -> int:
        """0 where there is none, or none that is whole."""
        with suppress(OSError):
            held, _ = read_beginning(self._seen_path, SEEN_BYTES_MAX) or (b"", 0)
            found = SEEN.fullmatch(held)
            if found and hashlib.sha256(found[1]).hexdigest().encode() == found[2]:
                return int(found[1])
        return 0


def _local(told: Mapping[str, Any]) -> dict[str, Any]:
    return LOCAL.validate_python(told.get("local", {}))


def _salvaged(content: bytes) -> dict[str, Any]:
    """What commands set, where only the rest is damaged."""
    try:
        return _local(orjson.loads(content))
    except (ValueError, AttributeError, RecursionError):
        return {}


def _version(content: bytes) -> int:
    return max((int(found[1]) for found in VERSION.finditer(content)), default=0)


def _line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
    return " ".join(str(error).split())[:200]
