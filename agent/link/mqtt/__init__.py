"""Carries batches and questions to the backend over MQTT: the broker's PUBACK is one word, the backend's ack the other.

What steers the robot comes over the same connection, from its own subtree alone, and is judged elsewhere.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import replace

from agent.clock import Clock
from agent.contract import wire
from agent.contract.batch import batch_id_of
from agent.contract.encoding import encoded
from agent.contract.signing import KEY_MARK, SIGNATURE_MARK
from agent.errors import BadInput
from agent.link.mqtt.message import FORMAT_INVALID, NO_SUBSCRIBERS, NOT_AUTHORIZED, TOO_LARGE, TOPIC_INVALID, Filter, Incoming, Verdict
from agent.link.mqtt.steady import Mqtt
from agent.link.tls import check_plain, context_of
from agent.ports import UNHEARD, Acked, Answer, Delivered, LinkSettings, Refused, Retry, Steering

CODES = {NOT_AUTHORIZED: "forbidden", TOPIC_INVALID: "forbidden", TOO_LARGE: "too-big", FORMAT_INVALID: "bad-batch"}
"""Reason codes of a PUBACK that the same message would get again; every other failure may pass."""


BAD_TOPIC = "bad-topic"
"""Of a post: no broker takes such a topic. That this one has not the right to it may change with the broker's list."""

NOBODY = "the broker has nobody who takes it: the backend has not connected yet"

STEERED = ((wire.REQUEST + "/+", False), (wire.DESIRED, True), (wire.TIME, False), (wire.LEASE, False))
"""What a robot that is steered listens to below its own subtree, and whether it wants what the broker keeps there."""

FULL = Retry("commands wait for this robot, and answers wait behind them until its service has taken them: voxmeter run")


class MqttLink:
    """Implements the ports Link and Poster. The client id is the device's id."""

    name = "mqtt"

    def __init__(self, settings: LinkSettings, clock: Clock) -> None:
        """Connects with the first `ready`, `send` or `mark`. Raises BadInput or BadProfile for settings nobody can connect with."""
        _check(settings)
        self._settings = settings
        self._steering = settings.steering
        self._below = wire.topic(settings.tenant, settings.device, "")
        self._acks = self._below + wire.ACK
        self._waiting: dict[bytes, list[asyncio.Future[Answer]]] = {}
        filters = [Filter(self._below + name, kept) for name, kept in STEERED] if self._steering else []
        self._mqtt = Mqtt(
            settings,
            settings.device,
            clock,
            [self._acks, *filters],
            self._heard,
            will=self._will if self._steering and self._steering.will else None,
            welcomed=self._steering.connected if self._steering else self._welcomed,
        )
        self._waiting_commands = 0
        """Not confirmed, for nobody here takes commands: the broker sends them again with the next connection."""
        self.dropped = 0
        """Messages that were nothing a robot listens to: acks that were kept or are none, topics nobody asked for."""

    @property
    def connections(self) -> int:
        return self._mqtt.connections

    @property
    def up(self) -> bool:
        return self._mqtt.up

    @property
    def problem(self) -> str:
        """Why it is away, or what broke the last connection."""
        return self._mqtt.problem

    async def ready(self) -> None:
        await self._mqtt.ready()

    async def send(self, content: bytes, marks: Mapping[str, str]) -> Answer:
        packed, encoding = encoded(content)
        beside = dict(marks) | ({wire.ENCODED: encoding} if encoding else {})
        return await self._asked(wire.BATCH, packed, batch_id_of(content).encode(), beside)

    async def mark(self, epoch: str, nonce: str) -> Answer:
        question = wire.written(wire.MarkQuestion(epoch=epoch, nonce=nonce))
        return await self._asked(wire.MARK, question, nonce.encode(), {})

    async def post(self, topic: str, body: bytes, *, retained: bool = False) -> Retry | Refused | None:
        """See the port Poster. An event or a result that nobody listens to is lost with the broker's PUBACK, so it is refused; the rest
        may go unheard."""
        verdict = await self._mqtt.publish(self._below + topic, body, retained=retained)
        if verdict.taken:
            return None
        if verdict.code == NO_SUBSCRIBERS:
            return Refused(UNHEARD, NOBODY) if topic.startswith((f"{wire.EVENT}/", f"{wire.RESULT}/")) else None
        refused = _refused(verdict)
        return replace(refused, code=BAD_TOPIC) if isinstance(refused, Refused) and verdict.code == TOPIC_INVALID else refused

    def reconnect(self, why: str) -> None:
        """With what the files of certificate and key hold now."""
        self._mqtt.reconnect(why)

    async def aclose(self) -> None:
        """Leaves in peace, so that no will is published: whoever has one says goodbye before."""
        await self._mqtt.aclose()

    def _welcomed(self) -> None:
        self._waiting_commands = 0

    def _will(self) -> tuple[str, bytes]:
        assert self._steering is not None
        assert self._steering.will is not None
        topic, body = self._steering.will()
        return self._below + topic, body

    async def _asked(self, what: str, content: bytes, correlation: bytes, marks: Mapping[str, str]) -> Answer:
        """The session outlives a connection: whoever lost it after the PUBACK goes on waiting."""
        if self._full:
            return FULL
        topic = wire.topic(self._settings.tenant, self._settings.device, what)
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(correlation, []).append(answer)
        try:
            async with asyncio.timeout(wire.ACK_WAIT_MS / 1000):
                verdict = await self._mqtt.publish(topic, content, correlation, marks, self._acks)
                return await answer if verdict.taken else _refused(verdict)
        except TimeoutError:
            return Retry(f"no answer within {wire.ACK_WAIT_MS // 1000} s")
        finally:
            self._waiting[correlation].remove(answer)
            if not self._waiting[correlation]:
                del self._waiting[correlation]

    def _heard(self, message: Incoming) -> None:
        what = message.topic.removeprefix(self._below)
        if self._steering and what != message.topic and _steers(what):
            self._deliver(Delivered(what, message.content, message.retained, message.confirm), self._steering)
        elif not self._steering and not message.retained and what.startswith(f"{wire.REQUEST}/"):
            self._leave()
        else:
            self._answered(message)

    @property
    def _full(self) -> bool:
        """The broker sends nothing more, no ack either, before one of these commands is confirmed."""
        return self._waiting_commands >= wire.RECEIVE_MAX

    def _leave(self) -> None:
        """A command waits for who steers the robot; whoever waits for an answer behind too many of them waits no longer."""
        self._waiting_commands += 1
        if self._full:
            for one in [one for waiting in self._waiting.values() for one in waiting if not one.done()]:
                one.set_result(FULL)

    def _deliver(self, message: Delivered, steering: Steering) -> None:
        try:
            steering.delivered(message)
        except Exception as error:  # noqa: BLE001  whatever a message brings about, the connection outlives it
            message.confirm()
            steering.failed(f"a message on {message.topic[:100]!r} is lost here: {type(error).__name__}: {error}")

    def _answered(self, message: Incoming) -> None:
        """Confirmed before anything else: an answer that is lost is asked for again."""
        message.confirm()
        answer = None if message.retained or message.topic != self._acks else _answer(message)
        if answer is None:
            self.dropped += 1
            return
        waiting = [one for one in self._waiting.get(message.correlation, ()) if not one.done()]
        for one in waiting:
            one.set_result(answer)
        if not waiting and isinstance(answer, Acked):
            self._settings.heard(answer)


FORK = "fork"


def _steers(what: str) -> bool:
    """Whether a topic below the own subtree is one of STEERED."""
    kind, slash, last = what.rpartition("/")
    return any(what == name or (name == f"{kind}{slash}+" and last != "") for name, _ in STEERED)


def _answer(message: Incoming) -> Answer | None:
    """None for what is no answer. Whether an ack is genuine its reader decides."""
    if wire.REFUSED not in message.marks:
        return Acked(message.content, {name: message.marks[name] for name in (KEY_MARK, SIGNATURE_MARK) if name in message.marks})
    try:
        refusal = wire.read_refusal(message.content)
    except BadInput:
        return None
    if refusal.code in wire.PATIENCE or refusal.code == FORK:  # nobody has checked who signed it; a fork is told in an ack
        return Retry(refusal.message, refusal.retry_after_ms)
    return Refused(refusal.code, refusal.message, refusal.retry_after_ms)


def _refused(verdict: Verdict) -> Retry | Refused:
    if verdict.code == NO_SUBSCRIBERS:
        return Retry(NOBODY)
    if code := CODES.get(verdict.code):
        return Refused(code, f"the broker refuses it: {verdict.name}")
    return Retry(verdict.name)


def _check(settings: LinkSettings) -> None:
    if settings.plain:
        check_plain(settings.host)
    else:
        context_of(settings)
