"""What `status` shows of a robot, and that an owner of the version before it is understood."""

import asyncio
import io
from pathlib import Path
from typing import Any

from rich.console import Console

from agent import profile as profiles
from agent.app import ledger_of
from agent.cli.status import _show
from agent.service.told import told_of
from agent.sim.clock import SimulatedClock
from agent.store import trust


def told_at(state: Path) -> dict[str, Any]:
    """Of a robot that has books, and does not run."""
    profile, clock = profiles.load("scripted"), SimulatedClock()
    asyncio.run(ledger_of(profile, state, clock).aclose())
    return told_of(profile, clock, state)


def shown(told: dict[str, Any]) -> str:
    console = Console(width=200, record=True, file=io.StringIO())
    _show(console, told)
    return console.export_text()


def test_a_robot_that_can_t_tell_whom_to_believe_is_shown(tmp_path: Path) -> None:
    (tmp_path / trust.TRUST_FILE).write_bytes(b"")
    told = told_at(tmp_path)
    assert "believes  NOBODY" in shown(told)


def test_an_owner_of_the_version_before_tells_nothing_of_trust_and_is_shown(tmp_path: Path) -> None:
    told = told_at(tmp_path)
    del told["trust"]
    assert "believes" not in (text := shown(told))
    assert "clock" in text
