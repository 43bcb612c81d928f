"""The device profile: TOML and environment become frozen models, or one line that says what is wrong and where.

Settings that came from afar are laid over those of the file; a key of the environment overrides both: `VOXMETER_LLM__THREADS=1`.
Shape is checked here; whether an engine, model or rate card of that name exists is checked by `fitting`, which knows the registries.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_settings import SettingsError

from agent.errors import BadProfile
from agent.profile import remote
from agent.profile.remote import AFAR, suggest
from agent.profile.tables import (
    ENVIRONMENT_PREFIX,
    Billing,
    Device,
    Dialog,
    Endpoint,
    Engine,
    Fleet,
    Hearing,
    Ledger,
    Llm,
    Profile,
    Sound,
    Sync,
    Word,
    Words,
)
from agent.shipped import shipped

__all__ = [
    "Billing",
    "Device",
    "Dialog",
    "Endpoint",
    "Engine",
    "Fleet",
    "Hearing",
    "Ledger",
    "Llm",
    "Profile",
    "Sound",
    "Sync",
    "Word",
    "Words",
    "find",
    "load",
]

DEFAULT = "simulated"

NOTHING: Mapping[str, Mapping[str, Any]] = MappingProxyType({})


def find(name: str) -> Path:
    """The file of a profile given by path or by the name of a shipped one."""
    if "/" in name or name.endswith(".toml"):
        return Path(name)
    path = shipped("device_profiles") / f"{name}.toml"
    if not path.is_file():
        names = sorted(file.stem for file in path.parent.glob("*.toml"))
        raise BadProfile(f"no device profile is called {name!r}", suggest(name, names))
    return path


def load(name: str = DEFAULT, beside: Mapping[str, Mapping[str, Any]] = NOTHING) -> Profile:
    """Reads a profile, and lays `beside` over it, table by table and key by key: settings from afar.

    Raises BadProfile: file and line, or that it came from afar; what is wrong, and the nearest thing that is right.
    """
    path = find(name)
    try:
        text = path.read_text(encoding="utf-8")
        tables = tomllib.loads(text)
    except OSError as error:
        raise BadProfile(f"{path}: {error.strerror}", "name a readable device profile") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadProfile(f"{path}: not TOML: {error}") from error
    _check_keys(path, text, tables)
    _check_beside(beside, tables)
    laid = {table: _over(tables.get(table), keys) for table, keys in beside.items()}
    try:
        return Profile(**tables | laid)
    except SettingsError as error:
        raise BadProfile(
            f"environment {ENVIRONMENT_PREFIX}…: {str(error).splitlines()[0]}", "lists and tables are given as JSON"
        ) from error
    except ValidationError as error:
        raise _explained(error.errors()[0], path, text, beside) from error


def _over(held: Any, keys: Mapping[str, Any]) -> Any:
    return {**held, **keys} if isinstance(held, dict) else dict(keys) if held is None else held


def _check_beside(beside: Mapping[str, Mapping[str, Any]], tables: Mapping[str, Any]) -> None:
    remote.check(beside)
    here = any(variable.startswith(f"{ENVIRONMENT_PREFIX}SOUND") for variable in os.environ)
    if "sound" in beside and "sound" not in tables and not here:
        raise BadProfile(f"{AFAR}: sound: this robot's own profile has no [sound]", "nobody opens a microphone from afar; add it there")


def _check_keys(path: Path, text: str, tables: dict[str, Any]) -> None:
    """Tables nobody knows, in the file or in the environment; the models see only those that exist."""
    known = list(Profile.model_fields)
    for name in tables:
        if name not in known:
            raise BadProfile(f"{path}:{line_of(text, [name]) or 1}: unknown key {name}", suggest(name, known))
    for variable in os.environ:
        table = variable.removeprefix(ENVIRONMENT_PREFIX).split("__")[0].lower()
        if variable.startswith(ENVIRONMENT_PREFIX) and "__" in variable and table not in known:
            raise BadProfile(f"environment {variable}: unknown key {table}", suggest(table, known))


def _explained(error: Any, path: Path, text: str, beside: Mapping[str, Mapping[str, Any]]) -> BadProfile:
    place = [str(part) for part in error["loc"]]
    line = next((found for end in range(len(place), 0, -1) if (found := line_of(text, place[:end]))), None)
    variable = f"{ENVIRONMENT_PREFIX}{'__'.join(place).upper()}"
    where = f"environment {variable}" if variable in os.environ or line is None else f"{path}:{line}"
    key = ".".join(place)
    if variable not in os.environ and _is_beside(place, beside, absent=error["type"] == "missing" and line is None):
        return remote.explained(key, error)
    if error["type"] == "extra_forbidden":
        return BadProfile(f"{where}: unknown key {key}", suggest(place[-1], known_keys(place[:-1])))
    if error["type"] == "missing":
        return BadProfile(f"{path}: {key} is missing", f"add {place[-1]} to [{'.'.join(place[:-1])}]" if place[1:] else f"add [{key}]")
    return BadProfile(
        f"{where}: {key}: {error['msg'].lower()}", f"it is {error['input']!r}" if not isinstance(error["input"], dict) else ""
    )


def _is_beside(place: list[str], beside: Mapping[str, Mapping[str, Any]], *, absent: bool) -> bool:
    """Whether that place was set from afar, or is missing in a table that only came from there."""
    return place[0] in beside and (absent or place[1:2] == [] or place[1] in beside[place[0]])


def known_keys(place: list[str]) -> list[str]:
    """Keys the profile knows in a table."""
    model: type[BaseModel] = Profile
    for name in place:
        inner = model.model_fields[name].annotation if name in model.model_fields else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return []
        model = inner
    return list(model.model_fields)


def line_of(text: str, place: list[str]) -> int | None:
    """The line that sets a key, or that opens its table; None where the file has neither."""
    table, opened = "", None
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[+\s*([^\]]+?)\s*\]", line):
            table = header[1].replace(" ", "").replace('"', "")
            if table == ".".join(place):
                opened = number
        elif assigned := re.match(r"""\s*["']?([A-Za-z0-9_.-]+)["']?\s*=""", line):
            key = f"{table}.{assigned[1]}".strip(".")
            if key == ".".join(place):
                return number
    return opened
