"""Names the commands; each is one file, loaded when it is first asked for."""

from typing import Final

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
