"""Stays connected to a broker: connects, watches, connects again after a jittered wait, for as long as it is wanted.

    away --try--> connected --broken, stuck or thread gone--> away (waits, longer each time) --try--> …

A connection that did not last does not make the next wait short: two robots with one identity would throw each other out for ever.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence

from agent.clock import Clock
from agent.contract import wire
from agent.errors import NoLink
from agent.link.mqtt.connection import Connection, Will
from agent.link.mqtt.message import LOST, Filter, Incoming, Verdict
from agent.link.retry import Backoff
from agent.ports import LinkSettings
from agent.tasks import stopped

FIRST_MS = 1_000
"""A broker that was restarted is found within seconds, by a thousand robots within one."""

MOST_MS = 60_000
"""A broker that is back after hours is found within a minute."""

STEADY_S = 10.0
"""A connection that lasted so long was a good one."""

WATCH_S = 1.0
"""Between two looks at paho's thread and at what it holds."""


class Mqtt:
    """An MQTT v5 client with a session that outlives its connections."""

    def __init__(
        self,
        settings: LinkSettings,
        client_id: str,
        clock: Clock,
        filters: Sequence[str | Filter],
        heard: Callable[[Incoming], None],
        *,
        expiry_s: int = wire.SESSION_EXPIRY_S,
        inflight_max: int = wire.INFLIGHT_MAX,
        say: Callable[[str], None] = lambda _: None,
        will: Callable[[], Will] | None = None,
        welcomed: Callable[[], None] = lambda: None,
    ) -> None:
        """Subscribes to `filters`; `heard` is called in the event loop for each message and owes it a `confirm`.

        `inflight_max` messages are on their way to the broker at once, fewer if it says so; `say` takes what goes wrong.
        `will` is asked before each try to connect; `welcomed` is called each time it is connected and subscribed, before `heard`.
        """
        self._settings, self._client_id, self._clock, self._say = settings, client_id, clock, say
        self._filters = [one if isinstance(one, Filter) else Filter(one) for one in filters]
        self._heard, self._expiry_s, self._inflight_max = heard, expiry_s, inflight_max
        self._will, self._welcomed = will, welcomed
        self._backoff = Backoff(clock, FIRST_MS, MOST_MS)
        self._connection: Connection | None = None
        self._joined = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self.connections = 0
        """How often it was welcomed and subscribed."""
        self.problem = "not connected yet"
        """Why it is away; what broke the last connection while it is connected."""

    @property
    def up(self) -> bool:
        return self._connection is not None and not self._connection.ended.done()

    def start(self) -> None:
        """Begins to connect, at once; whoever starts a fleet spreads it before this. Needs a running loop."""
        if self._keeper is None:
            self._keeper = asyncio.get_running_loop().create_task(self._keep())

    async def ready(self) -> None:
        """Returns when `up`; starts it if nobody has."""
        self.start()
        await self._joined.wait()

    async def publish(
        self,
        topic: str,
        content: bytes,
        correlation: bytes = b"",
        marks: Mapping[str, str] | None = None,
        response: str = "",
        *,
        retained: bool = False,
        valid_s: int = 0,
    ) -> Verdict:
        """At QoS 1. The verdict is the PUBACK's, or LOST; while it is away nothing is kept, so that it can't leave later unseen.

        The broker throws it away after `valid_s`; 0: never.
        """
        self.start()
        if self._connection is None:
            return Verdict(LOST, self.problem)
        return await self._connection.publish(topic, content, correlation, marks or {}, response, retained=retained, valid_s=valid_s)

    def reconnect(self, why: str) -> None:
        """Ends the connection there is, and begins the next as after any other end."""
        if self._connection is not None:
            self._connection.end(why)

    async def aclose(self) -> None:
        """Leaves in peace; the broker keeps the session, and no will is published."""
        keeper, self._keeper = self._keeper, None
        try:
            if keeper:
                await stopped(keeper)
        finally:
            self.problem = "closed"

    async def _keep(self) -> None:
        while True:
            connection = Connection(self._settings, self._client_id, self._heard, self._expiry_s, self._last_will())
            try:
                await connection.open(self._filters, self._inflight_max)
                await self._live(connection)
            except NoLink as error:
                self._told(str(error))
            except Exception as error:  # noqa: BLE001  whatever paho stumbles over, a robot must find its way back
                self._told(f"{type(error).__name__}: {error}")
            finally:
                self._connection = None
                self._joined.clear()
                await connection.close(in_peace=self._keeper is None)  # who is cancelled without `aclose` has not said goodbye
            await self._clock.sleep(self._backoff.next_ms() / 1000)

    def _last_will(self) -> Will | None:
        """None also if it fails: a connection without a will is better than none."""
        try:
            return self._will() if self._will else None
        except Exception as error:  # noqa: BLE001  the books must leave, whatever is wrong with it
            self._told(f"no will: {type(error).__name__}: {error}")
            return None

    async def _live(self, connection: Connection) -> None:
        """Until it is over."""
        since = self._clock.monotonic()
        self._connection = connection
        self.connections += 1
        self._joined.set()
        self._welcomed()
        connection.listen()
        while not connection.ended.done():
            await asyncio.wait({connection.ended}, timeout=WATCH_S)
            connection.check()
        if self._clock.monotonic() - since >= STEADY_S:
            self._backoff.reset()
        raise NoLink(connection.ended.result())

    def _told(self, why: str) -> None:
        self.problem = why
        self._say(why)
