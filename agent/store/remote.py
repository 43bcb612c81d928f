"""Keeps what was set from afar, `twin.json`: the standing of the twin, and what commands have set (`mode`, `budget`).

    {"version", "state", "why", "in_force": {"version", "settings"}, "trial": {…}, "owed": {…}, "local": {…}}

One file, replaced whole. From one that is damaged only the version is taken, so that no older twin is taken for a new one; the robot
runs with its profile alone, and the twin that was in force is looked at once more.
"""

import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict
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

FILE_BYTES_MAX = 512 * 1024
"""Two twins of 64 KiB each, the keys they brought, and what commands set."""

LOCAL_BYTES_MAX = 16 * 1024
"""Of all that commands set."""

STANDING = TypeAdapter(Standing)
LOCAL = TypeAdapter(dict[str, Any])

VERSION = re.compile(rb'"version":\s*([0-9]{1,16})')


class Remote:
    """The file of one state folder, whose owner this process is."""

    def __init__(self, state: Path, say: Callable[[str], None]) -> None:
        """Never fails for what is in the file; that it is damaged is said in one line. Raises BadInput where the disk refuses."""
        self._path = state / TWIN_FILE
        self._writing = threading.Lock()
        self._standing, self._local = self._read(say)

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
        if found is None:
            return Standing(), {}
        try:
            told = orjson.loads(found[0])
            return STANDING.validate_python(told), _local(told)
        except (ValueError, AttributeError, RecursionError) as error:
            why = _line(error)
            say(f"{self._path}: not what was written ({why}); the profile alone is used until a twin comes")
            version = max(0, _version(found[0]) - 1)
            return Standing(version, "failed", f"what was set from afar was damaged: {why}"), _salvaged(found[0])


def _local(told: Mapping[str, Any]) -> dict[str, Any]:
    return LOCAL.validate_python(told.get("local", {}))


def _salvaged(content: bytes) -> dict[str, Any]:
    """What commands set, where only the rest is damaged."""
    try:
        return _local(orjson.loads(content))
    except (ValueError, AttributeError, RecursionError):
        return {}


def _version(content: bytes) -> int:
    found = VERSION.search(content)
    return int(found[1]) if found else 0


def _line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
    return " ".join(str(error).split())[:200]
