"""The operator's desk in the simulated world: stands beside the broker, and is sometimes looking away when an answer comes."""

import asyncio

from agent.clock import Clock, seeded
from agent.contract import wire
from agent.sim.simulated.broker import Broker, Message
from agent.sim.world.fleet.operator import Operator

LOOK_S = 0.25
"""Between two looks at what is due."""

MISSED_SHARE = 0.03
"""Of what is told to the desk is missed: it must ask again, and is told again."""


class Desk:
    """An operator, and the way to the broker."""

    def __init__(self, tenant: str, clock: Clock, seed: int, broker: Broker) -> None:
        self.operator = Operator(tenant, clock, seed)
        self._tenant, self._broker, self._chance = tenant, broker, seeded(seed + 1)
        self._publishing: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._broker.listener = self._heard
        self._publishing = asyncio.get_running_loop().create_task(self._publish())

    def order(self, device: str) -> None:
        self.operator.order(device)

    async def aclose(self) -> None:
        if self._publishing is not None:
            self._publishing.cancel()
            await asyncio.gather(self._publishing, return_exceptions=True)

    async def _publish(self) -> None:
        while True:
            for one in self.operator.due():
                what = f"{wire.REQUEST}/{one.command.cmd_id}"
                self._broker.answer(Message(what, self._tenant, one.device, self.operator.published(one), {}, b""))
            await asyncio.tasks.sleep(LOOK_S)

    def _heard(self, message: Message) -> None:
        self.operator.listen(message.what, message.content, looking=self._chance.random() >= MISSED_SHARE)
