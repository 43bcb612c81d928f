"""A robot that leaves says why, also where it means to come back."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agent.clock import SystemClock
from agent.contract.fleet.presence import read_presence
from agent.log import Log
from agent.service.running import Asking, Request
from agent.steering import FromAfar
from tests.fleet.scripted_link import ScriptedLink


@pytest.mark.parametrize(("kind", "why"), [("reopen", "reopening"), ("restart", "restarting"), (None, "stopped")])
def test_what_was_asked_is_why_it_leaves(tmp_path: Path, kind: Any, why: str) -> None:
    async def main() -> None:
        afar, link, asking = FromAfar("scripted", Log(), tmp_path, SystemClock(), lambda _: None), ScriptedLink(), Asking()
        afar._link = link
        afar._present().will()
        afar._present().connected()
        if kind is not None:
            asking.ask(Request(kind, "for a reason"))
        await afar._goodbye(SimpleNamespace(asking=asking))  # type: ignore[arg-type]
        (told,) = link.sent
        left = read_presence(told.body)
        assert (left.online, left.why, told.retained) == (False, why, True)

    asyncio.run(main())
