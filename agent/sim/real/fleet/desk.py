"""The operator's desk in the real world: a connection of its own with an operator's certificate, straight to the broker.

What a robot says is heard from the broker, past the proxy: the weather is the robots'. Sometimes the desk is looking away.
"""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from agent.clock import Clock, seeded
from agent.contract import wire
from agent.errors import BadInput
from agent.link.mqtt.message import Filter, Incoming
from agent.link.mqtt.steady import Mqtt
from agent.ports import LinkSettings
from agent.sim.real.broker import HOST, OPERATOR, Broker
from agent.sim.world.fleet.operator import VALID_S, Operator, Ordered

NAME = "sim"

OPERATOR_NAME = OPERATOR + NAME
"""On its certificate."""

LOOK_S = 0.25
"""Between two looks at what is due."""

MISSED_SHARE = 0.03
"""Of what is told to the desk is missed: it must ask again, and is told again."""


class Desk:
    """An operator, and his connection."""

    def __init__(self, tenant: str, clock: Clock, machine: Clock, seed: int, broker: Broker) -> None:
        """`clock`: the operator's, which leaps with the robots'; `machine`: the connection's."""
        self.operator = Operator(tenant, clock, seed)
        self._tenant, self._machine, self._chance = tenant, machine, seeded(seed + 1)
        certificate, key = broker.client(OPERATOR_NAME)
        where = LinkSettings(OPERATOR.rstrip("/"), NAME, HOST, broker.port, broker.authority.decode(), certificate=certificate, key=key)
        filters = [Filter(wire.topic(tenant, "+", wire.BIRTH), retained=True), Filter(wire.topic(tenant, "+", f"{wire.RESULT}/+"))]
        self._mqtt = Mqtt(where, f"operator-{NAME}", machine, filters, self._heard, inflight_max=wire.RECEIVE_MAX)
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Returns when it hears what robots say."""
        await self._mqtt.ready()
        self._begin(self._publishing())

    async def aclose(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._mqtt.aclose()

    async def _publishing(self) -> None:
        while True:
            if self._mqtt.up:
                for one in self.operator.due():
                    self._begin(self._publish(one, self.operator.published(one)))
            await self._machine.sleep(LOOK_S)

    async def _publish(self, one: Ordered, content: bytes) -> None:
        """Whatever becomes of it: until it is answered it is due again."""
        await self._mqtt.publish(wire.topic(self._tenant, one.device, f"{wire.REQUEST}/{one.command.cmd_id}"), content, valid_s=VALID_S)

    def _heard(self, message: Incoming) -> None:
        message.confirm()
        with suppress(BadInput):  # whoever has a robot's certificate may say anything as that robot
            _, _, what = wire.whose(message.topic)
            self.operator.listen(what, message.content, looking=self._chance.random() >= MISSED_SHARE)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
