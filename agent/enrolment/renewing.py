"""Keeps a robot's certificate fresh while its service runs: looks, asks, tries, puts to use; talking never waits for it.

What comes next is decided in `fleet.certificate`; each step it asks for is on the disk before the next, so a power cut costs a look.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.clock import Settable, seeded
from agent.contract import certificates
from agent.contract.signing import SigningKey
from agent.enrolment.contact import Contacts
from agent.enrolment.entering import fared
from agent.errors import VoxmeterError
from agent.fleet.certificate import (
    GIVEN_UP_S,
    TRUSTED,
    UNWELCOME_S,
    Dates,
    Nothing,
    Promote,
    Refusals,
    Renew,
    State,
    Test,
    Tried,
    Word,
    next_step,
    state_of,
)
from agent.link.account import StruckOff, certify
from agent.link.probe import Told, turned_away, word_of
from agent.ports import LinkSettings
from agent.profile import Profile
from agent.store import trust
from agent.store.keys import Keys
from agent.store.pair import Pair
from agent.upload import Say, settings_of

WATCH_S = 600.0
"""Between two looks at whether anybody is there: a span is known to ten minutes."""

LOOK_S = 24 * 3600.0
"""Between two looks at the certificate: it changes in weeks."""

RETRY_S = 3600.0
"""After a look that did not end well."""

SPREAD = 0.25
"""By chance so much sooner or later, so that robots enrolled together don't ask together."""

STEPS_MAX = 6
"""In one look: ask, try, put to use, twice."""


@dataclass(frozen=True, slots=True)
class Around:
    """What the service tells and takes."""

    connected: Callable[[], bool] = lambda: False
    """Whether the backend or its broker is there now."""
    problem: Callable[[], str] = str
    """What keeps the link to the broker away, in its own words; empty while it is up."""
    reconnect: Callable[[], None] = lambda: None
    """Another certificate is in use: the broker should see it soon."""


@dataclass(frozen=True, slots=True)
class Roads:
    """How others are asked: over real links, where no simulation has its own."""

    certify: Callable[[LinkSettings, str, SigningKey], Awaitable[bytes]] = certify
    """The backend, for a certificate; as `link.account.certify`."""
    fared: Callable[[Profile, Path, Pair, Settable], Awaitable[Told]] = fared
    """The broker, how it takes the candidate."""


class Renewing:
    """One robot's; needs the state folder to be this process's."""

    def __init__(  # noqa: PLR0917  as the service tells it
        self, profile: Profile, state: Path, clock: Settable, say: Say, around: Around | None = None, roads: Roads | None = None
    ) -> None:
        self._profile, self._state, self._clock, self._say = profile, state, clock, say
        self._around, self._roads = around or Around(), roads or Roads()
        self._pair, self._contacts = Pair(state), Contacts(state, clock)
        self._chance = seeded(clock.seed())
        self._due, self._heeded = 0.0, ""
        self._told = ""
        self._struck_off = False
        self._unwelcome: Refusals | None = None
        self._refused: Refusals | None = None
        self.state: State = "none"
        """As of the last look."""

    async def run(self) -> None:
        """Until cancelled. What fails is said in one line, once, and tried again."""
        while True:
            await self.watch()
            await self._clock.sleep(WATCH_S)

    async def watch(self) -> None:
        """Notes whether anybody is there; looks at the certificate when it is time, or when the broker has just complained of it."""
        word = self._heard(self._around.problem())
        try:
            if self._around.connected():
                await asyncio.to_thread(self._contacts.note)
            if self._clock.monotonic() >= self._due or (word and word != self._heeded):
                self._heeded = word
                self._told_once(await self.look(word))
                return
        except (VoxmeterError, OSError) as error:
            self._told_once(" ".join(str(error).split()))
            self._next(RETRY_S)

    async def look(self, word: Word = "") -> str:
        """Does what is to be done now; why it could not be finished, empty where all is well. `word`: the broker's, of the one in use.

        Raises NoLink, BadInput where a step fails.
        """
        tried: Tried = "untried"
        asked = False
        for _ in range(STEPS_MAX):
            self.state = self._stands(word)
            step = next_step(self.state, self._pair.stage, tried, asked=asked, struck_off=self._struck_off)
            if isinstance(step, Nothing):
                self._next(LOOK_S if not step.why or self._struck_off else RETRY_S)
                return step.why
            if isinstance(step, Renew):
                asked, tried = True, "untried"
                if not await self._asked():
                    word = "revoked"
            elif isinstance(step, Test):
                tried = await self._tried()
            elif isinstance(step, Promote):
                await self._promoted()
                word, tried = "", "untried"
        self._next(RETRY_S)
        return "the certificate does not come to rest"

    def status(self) -> dict[str, Any]:
        """`{state, until}` for people: `until` is empty where there is no certificate."""
        shown = self._pair.shown()
        return {"state": self.state, "until": shown.not_after.isoformat(timespec="seconds") if shown else ""}

    def days_left(self) -> float | None:
        """Of the certificate in use; None where there is none, or the clock can't tell."""
        try:
            shown = self._pair.shown()
        except VoxmeterError:
            return None
        if shown is None or self._clock.quality() not in TRUSTED:
            return None
        return (shown.not_after - self._clock.utc()).total_seconds() / (24 * 3600)

    def _stands(self, word: Word) -> State:
        if self._struck_off:
            return "revoked"  # whatever the broker says of a certificate that has expired meanwhile
        if self._pair.damaged:
            return "expired"  # as good as none, and another is to be had
        shown, clock = self._pair.shown(), self._clock
        dates = Dates(shown.not_before, shown.not_after) if shown else None
        return state_of(dates, clock.utc(), clock.quality(), self._contacts.longest_s, word)

    def _heard(self, problem: str) -> Word:
        """The broker's word on the one in use. Of another problem in between nothing follows."""
        if not problem:
            self._unwelcome = None
        elif turned_away(problem) and not word_of(problem):
            self._unwelcome = self._unwelcome.again() if self._unwelcome else Refusals(1, self._clock.monotonic())
            if self._unwelcome.enough(self._clock.monotonic(), UNWELCOME_S):
                return "refused"
        return word_of(problem)

    async def _asked(self) -> bool:
        """Whether another certificate is the candidate now; not where the backend has struck the robot off."""
        if self._pair.stage == "candidate":
            self._pair.discard()
        self._refused = None
        device, endpoint = self._profile.device, self._profile.sync.https
        if endpoint is None:
            self._told_once("the certificate can't be renewed: the profile names no [sync.https]")
            return True
        name = certificates.device_name(device.tenant, device.id)
        csr = certificates.request(name, await asyncio.to_thread(self._pair.key)).decode()
        settings = settings_of(self._profile, endpoint, self._state, trust.read(self._state).authority, self._clock)
        try:
            chain = await self._roads.certify(settings, csr, Keys(self._state, self._clock).current)
        except StruckOff:
            self._struck_off = True
            return False
        await asyncio.to_thread(self._pair.take, chain, name)
        return True

    async def _tried(self) -> Tried:
        """A candidate that waited until it was over is not shown to a broker, whose word on it may be lost."""
        waited, clock = certificates.read(self._pair.candidate.read_bytes()), self._clock
        if clock.quality() in TRUSTED and clock.utc() >= waited.not_after:
            return "spent"
        told = await self._roads.fared(self._profile, self._state, self._pair, self._clock)
        if told.word or (told.result == "refused" and self._given_up(waited)):
            return "spent"
        return told.result

    def _given_up(self, waited: certificates.Shown) -> bool:
        """Whether a candidate that is refused once more has been for long enough."""
        clock = self._clock
        self._refused = self._refused.again() if self._refused else Refusals(1, clock.monotonic())
        age_s = (clock.utc() - waited.not_before - certificates.BACKDATED).total_seconds() if clock.quality() in TRUSTED else 0.0
        return self._refused.enough(clock.monotonic(), GIVEN_UP_S, age_s)

    async def _promoted(self) -> None:
        await asyncio.to_thread(self._pair.promote)
        shown = self._pair.shown()
        until = shown.not_after.isoformat(timespec="seconds") if shown else ""
        self._say(f"certificate: a new one is in use, until {until}")
        self._around.reconnect()

    def _told_once(self, why: str) -> None:
        if why and why != self._told:
            self._say(f"certificate: {why}")
        self._told = why

    def _next(self, seconds: float) -> None:
        self._due = self._clock.monotonic() + seconds * self._chance.uniform(1 - SPREAD, 1 + SPREAD)
