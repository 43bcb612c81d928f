"""Takes off the broker what robots tell besides their books, gives it to the fleet's room, answers, and only then confirms it.

Two connections of its own, so that a robot that floods them takes no place from a batch, and one that tells its state all the time none
from an event. Neither is shared: mosquitto 2.0.11 forgets shared subscriptions when it restarts, and confirms to a robot what it then
throws away. Garbage, strangers and floods are counted and confirmed: what would come again for ever would hold everybody up.
"""

from collections.abc import Callable
from typing import Final, Literal, Protocol

from agent.billing.access.denied import Denied, TooMany
from agent.billing.fleet import Reply
from agent.billing.mqtt.consuming import SESSION_S, Consuming
from agent.clock import Clock
from agent.contract import wire
from agent.errors import BadInput, LedgerDamaged, LedgerFull
from agent.link.mqtt.message import LOST, Incoming
from agent.ports import LinkSettings

Part = Literal["events", "state"]

FILTERS: Final[dict[Part, tuple[str, ...]]] = {
    "events": (wire.EVERY_EVENT, wire.EVERY_RESULT),
    "state": (wire.EVERY_BIRTH, wire.EVERY_PRESENCE, wire.EVERY_TELEMETRY, wire.EVERY_REPORTED),
}

SESSIONS_S: Final[dict[Part, int]] = {"events": wire.SESSION_EXPIRY_S, "state": SESSION_S}
"""An event comes once, so the broker keeps it while the backend is away; of a state the next one comes."""

UNCONFIRMED_MAX: Final = 64
"""Of messages that nobody waits for (QoS 0), so many are looked at at once; the rest is dropped. The others the receive maximum bounds."""


BOOK: Final = "the fleet's book"


class Hears(Protocol):
    """The fleet's room, as a consumer sees it."""

    async def hear(self, tenant: str, device: str, what: str, content: bytes, *, retained: bool = False) -> list[Reply]: ...


class FleetConsumer(Consuming):
    """Hears one part of what all robots tell besides their books."""

    def __init__(
        self, settings: LinkSettings, fleet: Hears, clock: Clock, part: Part, *, say: Callable[[str], None] = lambda _: None
    ) -> None:
        """`counts`: `taken`, `garbage`, `unknown`, `flooded`, `failed`, `answered`, `unheard`."""
        super().__init__(settings, f"billing-{part}", FILTERS[part], clock, say, session_s=SESSIONS_S[part])
        self._fleet = fleet

    def _heard(self, message: Incoming) -> None:
        if self._stopping:
            return
        if message.qos == 0 and len(self._open) >= UNCONFIRMED_MAX:
            self.counts["flooded"] += 1
            return
        self._begin(self._served(message))

    async def _served(self, message: Incoming) -> None:
        """Not confirmed, and so sent again, only where the database refuses or the answer is not the broker's yet."""
        try:
            tenant, device, what = wire.whose(message.topic)
        except BadInput:
            self._settled(message, "garbage")
            return
        replies = await self._taken(tenant, device, what, message)
        if replies is None:
            return
        for reply in replies:
            verdict = await self._mqtt.publish(wire.topic(tenant, device, reply.what), reply.content, retained=reply.retained)
            if verdict.code == LOST:
                return
            self.counts["answered" if verdict.taken else "unheard"] += 1
        message.confirm()

    async def _taken(self, tenant: str, device: str, what: str, message: Incoming) -> list[Reply] | None:
        """None where there is nothing more to do: it was settled, or comes again."""
        connection, backoff = self._mqtt.connections, self._backoff()
        while self._mqtt.connections == connection:
            try:
                found = await self._asked(tenant, device, what, message)
            except (LedgerFull, LedgerDamaged) as error:
                self._failed(error, BOOK)
                if not message.qos:
                    return None
                await self._clock.sleep(backoff.next_ms() / 1000)
                continue
            if isinstance(found, str):
                self._settled(message, found)
                return None
            self.counts["taken"] += 1
            return found
        return None

    async def _asked(self, tenant: str, device: str, what: str, message: Incoming) -> list[Reply] | str:
        """What to answer, or why there is nothing to be done. Raises LedgerFull or LedgerDamaged."""
        try:
            return await self._fleet.hear(tenant, device, what, message.content, retained=message.retained)
        except (LedgerFull, LedgerDamaged):
            raise
        except TooMany:
            return "flooded"
        except Denied:
            return "unknown"
        except BadInput:
            return "garbage"
        except Exception as error:  # noqa: BLE001  whatever it is, one robot's message must not hold a place for ever
            self._failed(error, BOOK)
            return "given-up"

    def _settled(self, message: Incoming, how: str) -> None:
        self.counts[how] += 1
        message.confirm()
