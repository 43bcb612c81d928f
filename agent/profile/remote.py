"""Decides which settings of a profile may come from afar, whether each has the shape its key asks for, and what would lock operators out.

Who the robot is, who pays and where its backend listens are not among them: they are for whoever stands before it.
"""

import difflib
import math
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from agent.errors import BadProfile
from agent.profile.tables import Dialog, Engine, Fleet, Hearing, Ledger, Llm, Sound, Word, Words

AFAR: Final = "settings from afar"
"""Begins every line about them."""

MODELS: Final[Mapping[str, type[BaseModel]]] = {
    "asr": Engine,
    "llm": Llm,
    "tts": Engine,
    "vad": Engine,
    "eot": Engine,
    "embed": Engine,
    "hearing": Hearing,
    "sound": Sound,
    "dialog": Dialog,
    "ledger": Ledger,
    "words": Words,
    "fleet": Fleet,
}
"""Tables that may be set from afar. Engines and models as well: one that is not on the robot fails at its trial and is taken back."""

LOCAL: Final = frozenset({"ledger.quota_mb", "ledger.free_mb_min", "ledger.reserve_mb"})
"""Keys of those tables that may not: a reserve that takes the whole disk leaves no room to be told otherwise, and a robot whose books are
full by its settings is well in every look of its trial and refuses every guest."""

OWN: Final = frozenset({"device", "billing", "sync"})
"""Tables that only the robot's own profile sets."""

KEPT_OPS: Final = ("ping", "config.apply")
"""Commands a robot goes on taking whatever is wished from afar: the way back."""

DEPTH_MAX = 8
"""Lists and tables inside of `options`; nobody writes deeper ones."""

NUMBER_MAX = 2**53 - 1
"""A greater integer is another one somewhere on its way through JSON."""

SHOWN_MAX = 100
"""Characters of a wrong value in a line."""


class NotSettable(BadProfile):
    """Nobody sets that from afar."""

    code = "not-settable"


class LocksOut(BadProfile):
    """With that nobody could steer the robot any more."""

    code = "locks-out"


def check(settings: Mapping[str, Any]) -> None:
    """Raises NotSettable, LocksOut or BadProfile, naming the table and key. Whether a whole table is sound, only `load` can tell."""
    for table, keys in settings.items():
        model = _model(table)
        if not isinstance(keys, Mapping):
            raise BadProfile(f"{AFAR}: {table} is no table")
        for key, value in keys.items():
            _check_key(table, key, model)
            _check_json(f"{table}.{key}", value, DEPTH_MAX)
            _check_value(f"{table}.{key}", model, key, value)
    _check_faq(settings.get("dialog", {}).get("faq", ""))
    _check_ops(settings.get("fleet", {}).get("allow"))


def merged(settings: Mapping[str, Mapping[str, Any]], more: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """`more` laid over `settings`, key by key."""
    return {table: {**settings.get(table, {}), **more.get(table, {})} for table in dict.fromkeys([*settings, *more])}


def explained(key: str, error: Any) -> BadProfile:
    """One line for what pydantic finds wrong with a setting from afar."""
    if error["type"] == "extra_forbidden":
        return BadProfile(f"{AFAR}: unknown key {key}")
    if error["type"] == "missing":
        return BadProfile(f"{AFAR}: {key} is missing", "this robot's own profile has no such table, so it must come whole")
    shown = repr(error["input"])
    shown = shown if len(shown) <= SHOWN_MAX else f"{shown[:SHOWN_MAX]}…"
    return BadProfile(f"{AFAR}: {key}: {error['msg'].lower()}", "" if isinstance(error["input"], dict) else f"it is {shown}")


def suggest(name: str, known: Iterable[str]) -> str:
    """The nearest thing that is right, or all that are."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"


def _model(table: str) -> type[BaseModel]:
    if table in OWN:
        raise NotSettable(f"{AFAR}: [{table}] is not set from afar", "change the robot's own profile")
    if table not in MODELS:
        raise BadProfile(f"{AFAR}: unknown table {table[:SHOWN_MAX]!r}", suggest(table, MODELS))
    return MODELS[table]


def _check_key(table: str, key: str, model: type[BaseModel]) -> None:
    if key not in model.model_fields:
        raise BadProfile(f"{AFAR}: unknown key {key[:SHOWN_MAX]!r} in [{table}]", suggest(key, model.model_fields))
    if f"{table}.{key}" in LOCAL:
        raise NotSettable(f"{AFAR}: {table}.{key} is not set from afar", "change the robot's own profile")


def _check_json(name: str, value: Any, depth: int) -> None:
    """What JSON can't carry would arrive as something else."""
    if depth == 0:
        raise BadProfile(f"{AFAR}: {name}: lists and tables deeper than {DEPTH_MAX}")
    if isinstance(value, dict):
        for inner, held in value.items():
            _check_json(f"{name}.{str(inner)[:SHOWN_MAX]}", held, depth - 1)
    elif isinstance(value, list | tuple):
        for held in value:
            _check_json(name, held, depth - 1)
    elif not (value is None or isinstance(value, str | bool) or _is_number(value)):
        raise BadProfile(f"{AFAR}: {name}: {str(value)[:SHOWN_MAX]} is nothing that JSON can say")


def _is_number(value: Any) -> bool:
    return (isinstance(value, int) and abs(value) <= NUMBER_MAX) or (isinstance(value, float) and math.isfinite(value))


def _check_value(name: str, model: type[BaseModel], key: str, value: Any) -> None:
    field = model.model_fields[key]
    asked: Any = Annotated[field.annotation, Field(), *field.metadata]
    try:
        TypeAdapter(asked).validate_python(value)
    except ValidationError as error:
        raise explained(name, error.errors()[0]) from error


def _check_faq(name: Any) -> None:
    """A path from afar would have the robot read out its own files."""
    if not name:
        return
    try:
        TypeAdapter(Word).validate_python(name)
    except ValidationError as error:
        raise NotSettable(f"{AFAR}: dialog.faq is {str(name)[:SHOWN_MAX]!r}, a path", "give the name of a shipped FAQ") from error
    if name.endswith(".toml"):
        raise NotSettable(f"{AFAR}: dialog.faq is {name!r}, a path", "give the name of a shipped FAQ")


def _check_ops(allow: Any) -> None:
    if allow is None:
        return
    if missing := [op for op in KEPT_OPS if op not in allow]:
        raise LocksOut(f"{AFAR}: fleet.allow leaves out {' and '.join(missing)}", "with that nobody could set it right again; add them")
