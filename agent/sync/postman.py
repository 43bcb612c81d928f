"""Carries what waits in the outbox to the broker, in order, each until it is taken or refused for ever."""

from collections.abc import Callable

from agent.clock import Clock
from agent.errors import VoxmeterError
from agent.ports import Outbox, Posted, Poster, Refused, Retry

AGAIN_SECONDS = 5.0
"""Before what was not taken is sent again."""


class Postman:
    """One outbox, one link."""

    def __init__(self, outbox: Outbox, link: Poster, clock: Clock, say: Callable[[str], None] = lambda _: None) -> None:
        """`say` takes one line for each message that is given up, and for what should never happen."""
        self._outbox, self._link, self._clock, self._say = outbox, link, clock, say
        self.problem = ""
        """Why the oldest still waits; empty while nothing does."""
        self.refused = 0
        """Messages given up because the broker will never take them."""

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self._link.ready()
                if not await self._left():
                    await self._outbox.posting()
                    continue
            except VoxmeterError as error:  # a ledger that can't be written now may be later
                self.problem = str(error)
            except Exception as error:  # noqa: BLE001  what waits is durable; nobody would start this again
                self.problem = f"{type(error).__name__}: {error}"
                self._say(f"the outbox: {self.problem}")
            await self._clock.sleep(AGAIN_SECONDS)

    async def _left(self) -> bool:
        """Sends what waits; True where something is left that the broker did not take."""
        while waiting := await self._outbox.posted():
            for one in waiting:
                answer = await self._link.post(one.topic, one.body)
                if isinstance(answer, Retry):
                    self.problem = answer.why
                    return True
                if answer:
                    self._give_up(one, answer)
                await self._outbox.delivered([one.id])
        self.problem = ""
        return False

    def _give_up(self, one: Posted, answer: Refused) -> None:
        """It would hold back all that comes after it."""
        self.refused += 1
        self._say(f"the outbox: a message on {one.topic} of {one.created} is given up: {answer.why}")
