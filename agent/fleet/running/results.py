"""Decides how a result is told: its fields, and what is left out where it would be too long for the broker."""

from collections.abc import Mapping
from typing import Any, Final

import orjson
from pydantic import ValidationError

from agent.contract.fleet.command import RESULT_BYTES_MAX, Result, State, written
from agent.contract.record import first_problem
from agent.errors import BadInput
from agent.ports import Known

CUT: Final = "cut"
"""In a result that was too long: the names of what stands there in part."""

CUTS_MAX = 64
"""Halvings of the longest part before all of it is left out: enough for a few long ones, and not for thousands of small ones."""

MESSAGE_CHARACTERS_MAX, CODE_CHARACTERS_MAX = 2_000, 100


def told(known: Known, device: str, state: State, *, code: str = "", message: str = "", result: Mapping[str, Any] | None = None) -> bytes:
    """As it is published, at most RESULT_BYTES_MAX. Raises BadInput for what has no JSON, and for a row of the book
    that is no command's any more."""
    try:
        held = orjson.loads(orjson.dumps(dict(result or {}), default=str))
    except (TypeError, ValueError, RecursionError) as error:
        raise BadInput(f"the answer to {known.op} has no JSON: {error}") from error
    line = " ".join(message.split())[:MESSAGE_CHARACTERS_MAX]
    fields = {"cmd_id": known.cmd_id, "device": device, "op": known.op, "seq": known.seq, "state": state}
    try:
        return _fitted(Result.model_validate(fields | {"code": code[:CODE_CHARACTERS_MAX], "message": line, "result": held}))
    except ValidationError as error:
        raise BadInput(f"there is no result of such a command: {first_problem(error)}") from error


def _fitted(result: Result) -> bytes:
    content = written(result)
    held, cut = dict(result.result), set[str]()
    for _ in range(CUTS_MAX):
        if len(content) <= RESULT_BYTES_MAX:
            return content
        longest = max(held, key=lambda name: _size(held[name]))
        held[longest] = _half(held[longest])
        cut.add(longest[:CODE_CHARACTERS_MAX])
        content = written(result.model_copy(update={"result": held | {CUT: sorted(cut)}}))
    return written(result.model_copy(update={"result": {CUT: ["all of it"]}}))


def _half(part: Any) -> Any:
    """Of a text or a list its end, for the newest stands there; of a table all, with its longest part halved."""
    if isinstance(part, str | list):
        return part[(len(part) + 1) // 2 :]
    if isinstance(part, dict) and part:
        longest = max(part, key=lambda name: _size(part[name]))
        return part | {longest: _half(part[longest])}
    return ""


def _size(part: Any) -> int:
    return len(orjson.dumps(part))
