"""Carries what waits in the outbox to the broker, in order, each until it is taken."""

from agent.clock import Clock
from agent.errors import VoxmeterError
from agent.ports import Outbox, Poster

AGAIN_SECONDS = 5.0
"""Before what was refused or lost is sent again."""


class Postman:
    """One outbox, one link."""

    def __init__(self, outbox: Outbox, link: Poster, clock: Clock) -> None:
        self._outbox, self._link, self._clock = outbox, link, clock
        self.problem = ""
        """Why the oldest still waits; empty while nothing does."""

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._link.ready()
            try:
                left = await self._round()
            except VoxmeterError as error:  # a ledger that can't be written now may be later
                self.problem, left = str(error), True
            if left:
                await self._clock.sleep(AGAIN_SECONDS)
            else:
                await self._outbox.posting()

    async def _round(self) -> bool:
        """Sends what waits; True where something is left that the broker did not take."""
        while waiting := await self._outbox.posted():
            for one in waiting:
                self.problem = await self._link.post(one.topic, one.body)
                if self.problem:
                    return True
                await self._outbox.delivered([one.id])
        return False
