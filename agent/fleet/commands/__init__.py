"""Names the commands, and what each says of itself; each is one file, loaded when it is first asked for."""

import functools
import pkgutil
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from agent.contract.record import first_problem
from agent.errors import BadInput
from agent.ports import Steerable

COMMANDS: Final[dict[str, str]] = {
    "ping": "agent.fleet.commands.ping:PING",
    "diagnostics.collect": "agent.fleet.commands.diagnostics_collect:DIAGNOSTICS_COLLECT",
    "config.apply": "agent.fleet.commands.config_apply:CONFIG_APPLY",
    "agent.restart": "agent.fleet.commands.agent_restart:AGENT_RESTART",
    "usage.flush": "agent.fleet.commands.usage_flush:USAGE_FLUSH",
    "usage.audit": "agent.fleet.commands.usage_audit:USAGE_AUDIT",
    "budget.set": "agent.fleet.commands.budget_set:BUDGET_SET",
    "mode.set": "agent.fleet.commands.mode_set:MODE_SET",
    "say": "agent.fleet.commands.say:SAY",
    "log.level": "agent.fleet.commands.log_level:LOG_LEVEL",
    "privacy.forget": "agent.fleet.commands.privacy_forget:PRIVACY_FORGET",
}
"""Op -> a `Spec`."""


class Arguments(BaseModel):
    """Of a command: exactly these, of exactly these types."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Nothing(Arguments):
    """It takes none."""


Given = TypeVar("Given", bound=Arguments)


@dataclass(frozen=True, slots=True)
class Spec(Generic[Given]):
    """What a command takes and does."""

    arguments: type[Given]
    run: Callable[[Steerable, Given], Coroutine[Any, Any, Mapping[str, Any]]]
    """Returns what the result holds. Raises a VoxmeterError, whose line goes into the result."""
    limit_s: float
    """After so long it has failed."""
    idempotent: bool
    """Done twice is as good as done once: after a power cut it is run again."""
    quick: bool = False
    """It only answers, and waits for none that is under way; behind what waits for a restart it waits as well."""
    ends: bool = False
    """It ends the agent: its success is written down before it is run."""
    helps: bool = False
    """It is taken also while the books have no room: it makes some, tells why there is none, or is owed whatever the disk (an erasure).

    The rest can wait: what speaks makes records itself, and what only sets something sets it as well when there is room.
    """

    def given(self, args: Mapping[str, Any]) -> Given:
        """Raises BadInput in one line."""
        try:
            return self.arguments.model_validate(args)
        except ValidationError as error:
            raise BadInput(first_problem(error)) from error


@functools.cache
def spec(op: str) -> Spec[Any]:
    """Raises KeyError for an op there is none of."""
    found = pkgutil.resolve_name(COMMANDS[op])
    assert isinstance(found, Spec)
    return found
