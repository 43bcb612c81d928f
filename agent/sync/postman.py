"""Carries what waits in the outbox to the broker, in order, each until it is taken or can never be taken.

refused for good (too big, no topic)    given up: it would hold back all that comes after it
refused (no right, nobody listens)      its topic is put aside and others pass; nothing of it is deleted
no broker for minutes                   events go over the next link that can, results wait for the broker
not taken now                           all waits: as long as the other side asked, and longer each time in a row
"""

import math
from collections.abc import Awaitable, Callable

from agent.clock import Clock, seeded
from agent.contract import wire
from agent.errors import VoxmeterError
from agent.ports import UNHEARD, Outbox, Posted, Poster, Refused, Retry
from agent.sync.route import pause_s
from agent.tasks import first

AGAIN_SECONDS, AGAIN_SECONDS_MAX = 5.0, 300.0
"""At the most before what was not taken is sent again, after the first time and after many: a robot that was struck off is not told so
here, and must not knock for ever like one that had bad luck."""

AWAY_SECONDS = 300.0
"""Without the broker before an alarm takes another way; a broker that restarts is back by then. The backend knows what comes twice."""

LOOK_SECONDS = 1.0
"""For a link to say that it is there, where it has been away for longer."""

ASIDE_SECONDS = 600.0
"""Before what this robot has no right to send is tried again: somebody has to change the broker's list first."""

UNHEARD_SECONDS = 15.0
"""Before what nobody listened to is sent again: the broker or the backend was started anew, and will have found the other soon. Twice as
long each time nobody does, up to ASIDE_SECONDS."""

NEVER = frozenset({"too-big", "bad-topic"})
"""Codes of refusals that no change of the broker's list takes back."""


class Postman:
    """One outbox, one link; another for events while that is away."""

    def __init__(
        self, outbox: Outbox, link: Poster, clock: Clock, say: Callable[[str], None] = lambda _: None, *, instead: Poster | None = None
    ) -> None:
        """`say` takes one line for each message that is given up, for the first topic put aside, and for what should never happen."""
        self._outbox, self._link, self._clock, self._say, self._instead = outbox, link, clock, say, instead
        self._seen_s = clock.monotonic()
        """When the link was there last."""
        self._aside: dict[str, tuple[float, str]] = {}
        """Topic -> when it is tried again, on the monotonic clock, and why it waits."""
        self._unheard_s = UNHEARD_SECONDS
        self._chance = seeded(clock.seed())
        self._failures = 0
        """Since the last one that was taken."""
        self._asked_s = 0.0
        """How long the other side wants to be left alone."""
        self.problem = ""
        """Why the oldest still waits; empty while nothing does."""
        self.refused = 0
        """Messages given up because the broker will never take them."""

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            link = self._link
            try:
                link = await self._carrier()
                if not await self._left(link):
                    await self._news(link)
                    continue
            except VoxmeterError as error:  # a ledger that can't be written now may be later
                self.problem = str(error)
            except Exception as error:  # noqa: BLE001  what waits is durable; nobody would start this again
                self.problem = f"{type(error).__name__}: {error}"
                self._say(f"the outbox: {self.problem}")
            await self._pause(link)

    async def _pause(self, link: Poster) -> None:
        """After it took nothing. The broker that is back while another served in its place, and was away as well, is used at once."""
        self._failures += 1
        asked_s, self._asked_s = self._asked_s, 0.0
        seconds = asked_s + pause_s(self._failures, self._chance.random(), int(AGAIN_SECONDS * 1000), int(AGAIN_SECONDS_MAX * 1000))
        if link is self._link:
            await self._clock.sleep(seconds)
        elif await first(self._link.ready(), self._clock.sleep(seconds)):
            self._failures = 0

    async def _carrier(self) -> Poster:
        """The link when it is there; where it has been away for long, the one that serves instead."""
        if self._instead is None:
            await self._link.ready()
        else:
            patience_s = max(LOOK_SECONDS, self._seen_s + AWAY_SECONDS - self._clock.monotonic())
            if not await first(self._link.ready(), self._clock.sleep(patience_s)):
                await self._instead.ready()
                return self._instead
        self._seen_s = self._clock.monotonic()
        return self._link

    async def _left(self, link: Poster) -> bool:
        """Sends what waits; True where something is left that is not taken now."""
        begun, aside, unheard, kept = self._clock.monotonic(), 0, False, False
        while waiting := await self._outbox.posted(aside):
            for one in waiting:
                elsewhere = link is not self._link and not one.topic.startswith(f"{wire.EVENT}/")
                if elsewhere or self._aside.get(one.topic, (-math.inf, ""))[0] > begun:
                    kept, aside = kept or elsewhere, aside + 1
                    continue
                answer = await link.post(one.topic, one.body)
                if isinstance(answer, Retry):
                    self.problem, self._asked_s = answer.why, answer.after_ms / 1000
                    return True
                if answer and answer.code not in NEVER:
                    unheard = unheard or answer.code == UNHEARD
                    self._put_aside(one, answer, begun)
                    aside += 1
                    continue
                if answer:
                    self._give_up(one, answer)
                await self._outbox.delivered([one.id])
                self._failures = 0
        self._aside = {topic: waits for topic, waits in self._aside.items() if waits[0] > begun}
        self._unheard_s = min(self._unheard_s * 2, ASIDE_SECONDS) if unheard else UNHEARD_SECONDS
        self.problem = next((why for _, why in self._aside.values()), "the broker is away" if kept else "")
        return False

    async def _news(self, link: Poster) -> None:
        """Returns when something was posted, something that was put aside is due, or the link is back in whose place another served."""
        waits: list[Awaitable[None]] = [self._outbox.posting()]
        if self._aside:
            waits.append(self._clock.sleep(max(0.0, min(due for due, _ in self._aside.values()) - self._clock.monotonic())))
        if link is not self._link:
            waits.append(self._link.ready())
        await first(*waits)
        if link is self._link:
            self._seen_s = self._clock.monotonic()

    def _put_aside(self, one: Posted, answer: Refused, begun: float) -> None:
        if not self._aside:
            self._say(f"the outbox: what is on {one.topic} waits: {answer.why}")
        self._aside[one.topic] = begun + (self._unheard_s if answer.code == UNHEARD else ASIDE_SECONDS), answer.why

    def _give_up(self, one: Posted, answer: Refused) -> None:
        self.refused += 1
        self._say(f"the outbox: a message on {one.topic} of {one.created} is given up: {answer.why}")
