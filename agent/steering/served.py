"""What commands do with a robot that runs as a service. Implements the port Steerable."""

import asyncio
from collections.abc import Mapping
from typing import Any

from agent import upload
from agent.app import App
from agent.errors import BadInput, VoxmeterError
from agent.fleet.twin.adopting import Adopting
from agent.log import Log
from agent.metering.budget import limit_of
from agent.owner import forgetting
from agent.service.caring import verified
from agent.service.running import Running
from agent.service.told import told_of
from agent.store.remote import Remote

BUDGET, MODE = "budget", "mode"
"""What commands set, by the name it is kept under."""

LINES_TOLD = 100
"""Of the log, in diagnostics."""


class Served:
    """One opening's robot."""

    def __init__(self, app: App, remote: Remote, adopting: Adopting, log: Log) -> None:
        self._app, self._remote, self._adopting, self._log = app, remote, adopting, log
        self.running: Running | None = None
        """Set once it runs; commands are done from then on."""

    async def diagnostics(self) -> Mapping[str, Any]:
        running = self._robot
        told = await asyncio.to_thread(told_of, self._app.profile, self._app.clock, running.folder)
        engines = {part: {"engine": one.name, "model": one.model, "problem": one.problem} for part, one in self._app.engines.items()}
        return told | {
            "running": True,
            "hearing": running.attending.health() if running.attending is not None else None,
            "sync": running.carrying.status() if running.carrying is not None else None,
            "stuck": running.stuck(),
            "engines": engines,
            "set": dict(self._remote.local),
            "log": list(self._log.lines)[-LINES_TOLD:],
        }

    async def apply(self, settings: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
        return await self._adopting.apply(settings)

    async def restart(self) -> None:
        self._robot.request_restart("an operator asked for it")

    async def flush(self) -> Mapping[str, Any]:
        running = self._robot
        if running.carrying is None:
            raise BadInput("this robot has no backend, or is not registered with it", "see [sync] in its profile")
        return await upload.drained(running.carrying, running.folder)

    async def audit(self) -> Mapping[str, Any]:
        found = await verified(self._robot.folder)
        if not found:
            raise VoxmeterError("the books could not be verified", "try again; see the robot's log")
        return found

    async def set_budget(self, amount: str, period: str) -> Mapping[str, Any]:
        currency = self._app.books.card.currency
        told = {"amount": amount, "period": period} if amount and limit_of(amount, period, currency) else None
        await asyncio.to_thread(self._remote.put_local, BUDGET, told)
        return {"amount": amount, "period": period, "currency": currency} if told else {"amount": ""}

    async def set_mode(self, mode: str) -> Mapping[str, Any]:
        """Which engines may be used. There are none in the cloud in this robot's profile, so `online` alone has nothing to run on."""
        if mode == "online":
            raise BadInput("this robot's profile has no cloud engine", "use auto or offline")
        await asyncio.to_thread(self._remote.put_local, MODE, mode)
        return {"mode": mode}

    async def speak(self, text: str) -> Mapping[str, Any]:
        attending = self._robot.attending
        if attending is None:
            raise BadInput("this robot has no loudspeaker", "give its profile a [sound] table")
        return await attending.speak(text)

    async def set_log_level(self, level: str) -> Mapping[str, Any]:
        self._log.level(level)
        return {"level": level}

    async def forget(self, session_id: str) -> bool:
        running = self._robot
        forgot = running.attending.forget if running.attending is not None else lambda _: None
        return await forgetting(self._app, running.folder, session_id, forgot)

    @property
    def _robot(self) -> Running:
        if self.running is None:
            raise VoxmeterError("the robot is being opened", "try again in a moment")
        return self.running
