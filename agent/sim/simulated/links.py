"""The two links of a robot on the simulated network: MQTT with a session at the broker, and HTTPS straight to the backend."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Literal

from agent.clock import Clock
from agent.contract import wire
from agent.contract.batch import batch_id_of
from agent.contract.registration import REVOKED
from agent.errors import BadInput
from agent.link.retry import Backoff
from agent.ports import Acked, Answer, Delivered, Refused, Retry, Steering
from agent.sim.simulated.backend import Backend, Down
from agent.sim.simulated.broker import Broker, Message
from agent.sim.simulated.network import Broken, Line, Network
from agent.store.ledger.chain import Identity

KEEPALIVE_S = 45.0
"""A line that carries nothing for so long is given up: one keepalive and a half."""


RECONNECT_FIRST_MS, RECONNECT_MOST_MS = 500, 20_000
"""Of MQTT."""


class SimulatedMqtt:
    """Implements the ports Link and Poster. Connects by itself, again and again."""

    name = "mqtt"

    def __init__(
        self,
        network: Network,
        broker: Broker,
        robot: Identity,
        clock: Clock,
        heard: Callable[[Acked], None] = lambda _: None,
        *,
        steering: Steering | None = None,
        refused: Callable[[], str] = str,
    ) -> None:
        """`refused`: what the broker has against the certificate that is shown now; empty: nothing."""
        self._refused = refused
        self.problem = "not connected yet"
        """Why it is away, or what broke the last connection."""
        self._network, self._broker, self._tenant, self._device = network, broker, robot.tenant, robot.device
        self._steering = steering
        self._heard = heard
        self._backoff = Backoff(clock, RECONNECT_FIRST_MS, RECONNECT_MOST_MS)
        self._line: Line | None = None
        self._ready = asyncio.Event()
        self._waiting: dict[bytes, asyncio.Future[Answer]] = {}
        self.connections = 0
        self._tasks: dict[asyncio.Task[Any], None] = {}
        self._begin(self._connecting())

    @property
    def up(self) -> bool:
        return self._ready.is_set()

    async def ready(self) -> None:
        await self._ready.wait()

    async def send(self, content: bytes, marks: Mapping[str, str]) -> Answer:
        return await self._asked("batch", content, marks, batch_id_of(content).encode())

    async def mark(self, epoch: str, nonce: str) -> Answer:
        return await self._asked("mark", wire.written(wire.MarkQuestion(epoch=epoch, nonce=nonce)), {}, nonce.encode())

    async def aclose(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._line is not None:
            self._line.cut()

    async def _asked(self, what: Literal["batch", "mark"], content: bytes, marks: Mapping[str, str], correlation: bytes) -> Answer:
        line = self._line
        if line is None:
            return Retry("not connected")
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[correlation] = answer
        self._network.trace.note("publishes", self._device, what, content)
        try:
            async with asyncio.timeout(wire.ACK_WAIT_MS / 1000):
                await line.carry("up")
                self._broker.publish(Message(what, self._tenant, self._device, content, marks, correlation))
                return await answer
        except Broken as error:
            return Retry(str(error))
        except TimeoutError:
            return Retry("no ack in time")
        finally:
            if self._waiting.get(correlation) is answer:
                del self._waiting[correlation]

    async def post(self, topic: str, body: bytes, *, retained: bool = False) -> Retry | None:
        """See the port Poster."""
        line = self._line
        if line is None:
            return Retry("not connected")
        try:
            await line.carry("up")
            self._broker.publish(self._told(topic, body, retained=retained))
            await line.carry("down")
        except Broken as error:
            return Retry(str(error))
        return None

    def _told(self, topic: str, body: bytes, *, retained: bool) -> Message:
        return Message(topic, self._tenant, self._device, body, {}, b"", retained)

    def _deliver(self, message: Message) -> "asyncio.Future[None] | None":
        if message.what != "ack":
            return self._delivered(message)
        answer = _answer(message)
        if (waiting := self._waiting.get(message.correlation)) is not None and not waiting.done():
            waiting.set_result(answer)
        elif isinstance(answer, Acked):
            self._heard(answer)
        return None

    def _delivered(self, message: Message) -> "asyncio.Future[None] | None":
        if self._steering is None:
            return None
        confirmed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def confirm() -> None:
            if not confirmed.done():
                confirmed.set_result(None)

        self._steering.delivered(Delivered(message.what, message.content, message.retained, confirm))
        return confirmed

    async def _connecting(self) -> None:
        while True:
            try:
                line = await self._network.dial()
                try:
                    await line.carry("up")
                    if problem := self._refused():
                        raise Broken(problem)
                    self._broker.connect(self._device, line, self._deliver, self._will())
                    await line.carry("down")
                    self._line = line
                    self.connections += 1
                    self._backoff.reset()
                    self._ready.set()
                    if self._steering is not None:
                        self._steering.connected()
                    await self._watching(line)
                finally:
                    self._line = None
                    self._ready.clear()
                    line.cut()
                self.problem = "the connection was cut"
            except Broken as error:
                self.problem = str(error)
            await asyncio.tasks.sleep(self._backoff.next_ms() / 1000)

    def reconnect(self, why: str) -> None:
        """Ends the connection there is, and begins the next as after any other end."""
        self.problem = why
        if self._line is not None:
            self._line.cut()

    def _will(self) -> Message | None:
        steering = self._steering
        return self._told(*steering.will(), retained=True) if steering is not None and steering.will is not None else None

    async def _watching(self, line: Line) -> None:
        """Returns when the line is broken, or has carried nothing for long."""
        while not line.broken.done():
            await asyncio.wait((line.broken,), timeout=KEEPALIVE_S)
            if line.held:
                return

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks[task] = None


def _answer(message: Message) -> Answer:
    if wire.REFUSED not in message.marks:
        return Acked(message.content, message.marks)
    try:
        refusal = wire.read_refusal(message.content)
    except BadInput as error:
        return Retry(str(error))
    if refusal.code in wire.PATIENCE:
        return Retry(refusal.message, refusal.retry_after_ms)
    return Refused(refusal.code, refusal.message, refusal.retry_after_ms)


class SimulatedHttps:
    """Implements the port Link. A connection for each request."""

    name = "https"
    up = True

    def __init__(self, network: Network, backend: Backend, robot: Identity, api_key: str = "") -> None:
        """`api_key`: shown with each request, where the backend wants one."""
        self._api_key = api_key
        self._network, self._backend, self._tenant, self._device = network, backend, robot.tenant, robot.device
        self._lost = False
        self.connections = 1

    async def ready(self) -> None:
        """Always."""

    async def send(self, content: bytes, marks: Mapping[str, str]) -> Answer:
        self._network.trace.note("posts", self._device, content)
        return await self._asked(lambda: self._backend.take(self._tenant, self._device, content, marks))

    async def mark(self, epoch: str, nonce: str) -> Answer:
        return await self._asked(lambda: self._backend.mark(self._tenant, self._device, epoch, nonce))

    async def aclose(self) -> None:
        """Nothing stays open."""

    async def _asked(self, ask: Callable[[], Coroutine[Any, Any, Any]]) -> Answer:
        answer = await self._exchanged(ask)
        lost = isinstance(answer, Retry)
        self.connections += self._lost and not lost
        self._lost = lost
        return answer

    async def _exchanged(self, ask: Callable[[], Coroutine[Any, Any, Any]]) -> Answer:
        line: Line | None = None
        try:
            async with asyncio.timeout(wire.ACK_WAIT_MS / 1000):
                line = await self._network.dial()
                await line.carry("up")
                known = not self._api_key or await self._backend.known(self._api_key)
                answered = await ask() if known else None
                await line.carry("down")
        except (Broken, Down) as error:
            return Retry(str(error))
        except TimeoutError:
            return Retry("no answer in time")
        finally:
            if line is not None:
                line.cut()
        if answered is None:
            return Refused(REVOKED, "this credential has been revoked")
        refusal = answered.refusal
        if refusal is None:
            return Acked(answered.content, answered.marks)
        if refusal.code in wire.PATIENCE:
            return Retry(refusal.message, refusal.retry_after_ms)
        return Refused(refusal.code, refusal.message, refusal.retry_after_ms)
