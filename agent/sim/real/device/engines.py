"""A robot with real engines: it hears guests' recordings, thinks and speaks, as the simulated profile says; nobody hears its voice."""

import contextlib
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from agent import profile as profiles
from agent.app import App, opened
from agent.audio import wav
from agent.clock import Clock
from agent.errors import VoxmeterError
from agent.profile import Profile
from agent.sim.world.robot import Robot
from agent.store.ledger import SqliteLedger
from agent.store.ledger.chain import Identity
from agent.weights import catalog


class HearingRobot(Robot):
    """Takes turns as `voxmeter run` does, on the ledger of any robot here."""

    def __init__(self, name: str, state: Path, identity: Identity, clock: Clock, *, wavs: Sequence[Path], **given: Any) -> None:
        super().__init__(name, state, identity, clock, **given)
        self._hall = clock
        self._wavs = itertools.cycle(wavs)
        self._open = contextlib.AsyncExitStack()
        self._app: App | None = None

    async def start(self) -> None:
        """Raises a VoxmeterError where weights or parts are missing."""
        await super().start()
        lent = cast("SqliteLedger", _Lent(self.ledger))
        app = opened(_profile(self.identity), self.state, catalog.models_folder(), self._hall, lambda *_: lent)
        self._app = await self._open.enter_async_context(app)

    async def stop(self) -> None:
        await self._open.aclose()
        await super().stop()

    async def _turn(self) -> None:
        assert self._app is not None
        try:
            await self._app.hear(wav.read(next(self._wavs)), lambda _: None, self._hall.new_id())
            self.turns += 1
        except VoxmeterError as error:
            self._say(f"{self.name}: {error}")


class _Lent:
    """A ledger that whoever borrows it does not close."""

    def __init__(self, ledger: SqliteLedger) -> None:
        self._ledger = ledger

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)

    async def aclose(self) -> None:
        """The owner does it."""


def _profile(identity: Identity) -> Profile:
    """The simulated profile under another name."""
    given = profiles.load("simulated")
    device = given.device.model_copy(update={"tenant": identity.tenant, "id": identity.device})
    return given.model_copy(update={"device": device, "billing": given.billing.model_copy(update={"account": identity.account})})
