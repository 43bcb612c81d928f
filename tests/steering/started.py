"""Who steers a robot that was started just now and has no engines, for tests."""

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from agent import profile as profiles
from agent.clock import Settable
from agent.log import Log
from agent.service.running import Running
from agent.steering import FromAfar


def started(
    state: Path, clock: Settable, attending: Any = None, settings: Mapping[str, Mapping[str, Any]] | None = None
) -> tuple[FromAfar, Running]:
    """With its helm, that nothing runs beside yet; `settings` lie over its profile."""
    afar = FromAfar("scripted", Log(), state, clock, lambda _: None)
    afar._begun()
    app: Any = SimpleNamespace(profile=profiles.load("scripted", settings or {}), clock=clock, ledger=None, engines={})
    afar.steering(app)
    return afar, Running(app, None, attending, state, lambda _: None)
