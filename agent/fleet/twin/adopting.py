"""Drives the twin: reads what comes, has it tried, watches the trial, tells what became of it. Decisions are in `twin`.

Whoever composes the robot does this, again and again:

    settings = await adopting.begin()       before every opening; the try is written down
    open the robot with them                did not work: `await adopting.fell(why)`, true: once more from the start, else give up
    run it, and beside it adopting.run()    returns when nothing is on trial any more
    reopen asked for                        close the robot in good order, once more from the start

A message is confirmed when what became of it is on the disk.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from agent.clock import Clock
from agent.contract import wire
from agent.contract.fleet import twin as contract
from agent.contract.fleet.twin import Keys
from agent.errors import BadInput, VoxmeterError
from agent.fleet import twin
from agent.fleet.twin import Apply, Old, Refuse, Take
from agent.link.bucket import Bucket
from agent.ports import Delivered
from agent.ports.twin import Settings, Standing, Surroundings, Trial, TwinBook
from agent.tasks import to_its_end

HEALTHY_S: Final = 60
"""So long a robot must be well with new settings: time enough to load its models, connect, and be heard to fail."""

TRIAL_S_MAX: Final = 900
"""Until then it must have been well for that long. A broker that restarts is back by then."""

LOOK_S: Final = 1.0
"""Between two looks at a robot on trial."""

PAY_S: Final = 60.0
"""Between two tries to write down whom to believe, where the disk refuses."""

LINES_PER_SECOND, LINES_BURST = 1, 20
"""Said of twins that are none: whoever holds the broker could send them without end."""

Say = Callable[[str], None]
Report = Callable[[str, bytes, bool], None]
"""Takes topic, body, retained; returns at once."""


class Adopting:
    """The twin of one robot, as long as the process lives; the robot is opened and closed meanwhile."""

    def __init__(self, book: TwinBook, around: Surroundings, clock: Clock, *, say: Say, report: Report) -> None:
        self._book, self._around, self._clock, self._say, self._report = book, around, clock, say, report
        self._turn = asyncio.Lock()
        self._room = Bucket(clock, LINES_PER_SECOND, LINES_BURST)
        self._tried: Trial | None = None
        """What the robot is open with, if that is on trial."""
        self._given_up: Trial | None = None
        """What was taken back while the disk refused to hear of it."""
        self.refused: Counter[str] = Counter()
        """How many twins were not taken, by code."""

    @property
    def on_trial(self) -> bool:
        """What the robot is open with is on trial."""
        return self._tried is not None

    def reported(self) -> bytes:
        """The body of `twin/reported` as it stands; to be told again with every connection."""
        return contract.written(twin.reported(self._book.standing, self._around.software))

    async def begin(self) -> Settings:
        """The settings to open the robot with, beside its profile. A robot whose try can't be written down is not tried."""
        async with self._turn:
            self._tried, before = None, self._book.standing
            if before.trial is not None and before.trial is self._given_up:
                before = twin.fallen(before, "it had been taken back")
            standing = twin.opening(before, self._around)
            try:
                await self._put(standing)
            except VoxmeterError as error:
                self._say(f"the twin: {error}")
                return before.in_force.settings
            if standing.state == "failed" and standing.why != before.why:
                self._say(f"the twin: taken back: {standing.why}")
            self._tried = self._book.standing.trial
            return twin.overlay_of(standing).settings

    async def fell(self, why: str) -> bool:
        """The robot did not open, or ended by a failure. True: settings on trial may be why, they are taken back; open it once more."""
        async with self._turn:
            tried, self._tried = self._tried, None
            if tried is None:
                return False
            await self._take_back(tried, why)
            return True

    async def run(self) -> None:
        """Beside a robot that is open, until it is closed: watches what is on trial, and pays what is owed. Then returns."""
        if self._tried is not None:
            await self._watch(self._tried)
        while self._book.standing.owed and not await self._pay():
            await self._clock.sleep(PAY_S)

    async def take(self, message: Delivered) -> None:
        """What came on `twin/desired`. Nothing is raised for what it holds."""
        try:
            trusted = self._around.trusted()
        except VoxmeterError as error:  # not confirmed, so that it comes again with the next connection
            self._say(f"the twin: {error}")
            return
        try:
            signer, desired = contract.read_signed(message.content, trusted)
        except BadInput as error:
            self._refuse(error.code, str(error))
            message.confirm()
            return
        async with self._turn:
            verdict = twin.judge(desired, signer, self._book.standing, self._around)
            try:
                if not isinstance(verdict, Old) and verdict.standing is not None:
                    await self._put(verdict.standing)
            except VoxmeterError as error:  # likewise
                self._say(f"the twin: {error}")
                return
        message.confirm()
        if isinstance(verdict, Refuse):
            self._refuse(verdict.code, verdict.why)
        elif isinstance(verdict, Take):
            self._around.reopen(f"version {desired.version} of the twin is to be tried")
        elif isinstance(verdict, Apply):
            await self._applied(desired.version)
        elif desired.version < self._book.standing.version:  # the last one comes again with every connection, an older one never does
            self._refuse("older", f"it is version {desired.version}; {self._book.standing.version} has been here")

    async def apply(self, settings: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """Settings of a command are to be tried: `{in_force, state, why}`, as soon as that is durable; `twin/reported` tells the end.

        The next twin replaces them all. Raises BadInput or BadProfile if they can't be taken, BadInput while others are on trial.
        """
        async with self._turn:
            verdict = twin.commanded(settings, self._book.standing, self._around)
            if isinstance(verdict, Take):
                await self._put(verdict.standing)
        if isinstance(verdict, Take):
            self._around.reopen("settings of a command are to be tried")
        standing = self._book.standing
        state = "applied" if standing.trial is None else "trial"
        return {"in_force": standing.in_force.version, "state": state, "why": standing.why}

    async def _watch(self, tried: Trial) -> None:
        begun = well = self._clock.monotonic()
        while self._book.standing.trial is tried:  # another one that came meanwhile is not what this robot is open with
            ailing, now = self._ailing(tried), self._clock.monotonic()
            well = now if ailing else well
            if now - well >= HEALTHY_S:
                await self._hold(tried)
                well = now  # where the disk refuses: once more, later
            elif now - begun >= TRIAL_S_MAX:
                async with self._turn:
                    self._tried = None
                    await self._take_back(tried, ailing or f"it was not well for {HEALTHY_S} seconds together")
                self._around.reopen("what was tried is taken back")
                return
            await self._clock.sleep(LOOK_S)

    def _ailing(self, tried: Trial) -> str:
        return self._around.ailing() or ("the broker has not been reached again" if tried.linked and not self._around.connected() else "")

    async def _hold(self, tried: Trial) -> None:
        async with self._turn:
            if self._book.standing.trial is not tried:
                return
            try:
                await self._put(twin.held(self._book.standing))
            except VoxmeterError as error:
                self._say(f"the twin: {error}")
                return
            self._tried = None
        self._say(f"the twin: what was tried is in force, version {tried.overlay.version}")

    async def _applied(self, version: int) -> None:
        """Without a trial; what can't be written now is paid when the robot is open again."""
        self._say(f"the twin: version {version} is in force, with the settings there were")
        if self._book.standing.owed and not await self._pay():
            self._around.reopen("whom to believe is still to be written down")

    async def _take_back(self, tried: Trial, why: str) -> None:
        """Also where the disk refuses: then until the next start, which counts its tries."""
        if self._book.standing.trial is not tried:
            return
        self._say(f"the twin: version {tried.overlay.version} is taken back: {why}")
        try:
            await self._put(twin.fallen(self._book.standing, why))
        except VoxmeterError as error:
            self._given_up = tried
            self._say(f"the twin: {error}")

    async def _pay(self) -> bool:
        """Whether whom to believe is written where it belongs."""
        try:
            before = self._around.trusted()
            async with self._turn:  # else what another twin brings meanwhile would count as paid
                await to_its_end(partial(self._around.believe, Keys.model_validate(self._book.standing.owed)))
                await self._put(twin.paid(self._book.standing))
        except VoxmeterError as error:
            self._say(f"the twin: whom to believe: {error}")
            return False
        if self._around.trusted() != before:  # operators' keys are looked up whenever a command comes
            self._around.reopen("whom to believe has changed")
        return True

    async def _put(self, standing: Standing) -> None:
        """Durable when it returns."""
        if standing != self._book.standing:
            await to_its_end(partial(self._book.put, standing))
            self._report(wire.REPORTED, self.reported(), True)

    def _refuse(self, code: str, why: str) -> None:
        self.refused[code] += 1
        if self._room.take():
            self._say(f"a twin is not taken ({code}): {why}")
