"""Takes batches and questions off the broker, gives them to ingest, answers their own robot, and only then confirms them.

    came -> given to ingest -> committed -> answered -> PUBACK

Whatever dies on the way, the broker sends the message again and ingest knows it again. A message that nobody could ever use is
refused and confirmed, so that it does not come back.
"""

from collections.abc import Callable, Mapping
from typing import Protocol

from agent.billing.ingest import Answered
from agent.billing.mqtt.consuming import Consuming
from agent.clock import Clock
from agent.contract import wire
from agent.contract.batch import BATCH_BYTES_MAX, BatchTooBig
from agent.contract.encoding import decoded
from agent.contract.signing import KEY_MARK, SIGNATURE_MARK, SigningKey, signed
from agent.errors import BadInput, LedgerDamaged, LedgerFull
from agent.link.mqtt.message import LOST, Incoming
from agent.ports import LinkSettings

CORRELATION_BYTES_MAX = 128
"""Ours have 64; nobody's longer ones are carried back."""

INTERNAL_WAIT_MS = 60_000
"""Before a robot sends again what failed here although the database was well: what is wrong is in this program, or in the message."""


class Takes(Protocol):
    """Ingest, as a consumer sees it. Neither raises for what a robot sends."""

    async def take(self, tenant: str, device: str, content: bytes, marks: Mapping[str, str]) -> Answered: ...

    async def mark(self, tenant: str, device: str, epoch: str, nonce: str) -> Answered: ...


class Consumer(Consuming):
    """One of any number that share the robots' batches."""

    def __init__(
        self,
        settings: LinkSettings,
        ingest: Takes,
        key: SigningKey,
        clock: Clock,
        *,
        number: int = 1,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Of `settings` only the way to the broker counts. `key` signs refusals of what never reaches ingest. Numbers differ.

        `counts`: messages by what became of them: `answered`, `refused`, `garbage`, `retained`, `unheard` (nobody gets the answer).
        """
        super().__init__(settings, f"billing-{number}", [wire.EVERY_BATCH, wire.EVERY_MARK], clock, say)
        self._ingest, self._key = ingest, key

    def _heard(self, message: Incoming) -> None:
        if self._stopping:
            return
        if message.retained or message.qos != 1:
            self.counts["retained" if message.retained else "garbage"] += 1
            message.confirm()
            return
        self._begin(self._served(message))

    async def _served(self, message: Incoming) -> None:
        try:
            tenant, device, what = wire.whose(message.topic)
        except BadInput:
            self.counts["garbage"] += 1
            message.confirm()
            return
        answered = await self._committed(tenant, device, what, message)
        if answered is not None and await self._told(tenant, device, message.correlation, answered):
            message.confirm()

    async def _committed(self, tenant: str, device: str, what: str, message: Incoming) -> Answered | None:
        """Tries as long as the database refuses; None when the connection it came by is gone, and the broker sends it again.

        Whatever else fails, fails again: it is refused, so that one robot's message can't hold a place for ever.
        """
        connection, backoff = self._mqtt.connections, self._backoff()
        while self._mqtt.connections == connection:
            try:
                return await self._asked(tenant, device, what, message)
            except (LedgerFull, LedgerDamaged) as error:
                self._failed(error, "ingest")
            except Exception as error:  # noqa: BLE001  the robot keeps what is refused, so whatever it is, nothing is lost
                self._failed(error, "ingest")
                return self._refused("internal", "the backend failed at this message; it is noted there", INTERNAL_WAIT_MS)
            await self._clock.sleep(backoff.next_ms() / 1000)
        return None

    async def _asked(self, tenant: str, device: str, what: str, message: Incoming) -> Answered:
        try:
            if what == wire.MARK:
                question = wire.read_question(message.content)
                return await self._ingest.mark(tenant, device, question.epoch, question.nonce)
            content = decoded(message.content, message.marks.get(wire.ENCODED, ""), BATCH_BYTES_MAX)
        except BatchTooBig as error:
            return self._refused("too-big", error)
        except BadInput as error:
            return self._refused("bad-question" if what == wire.MARK else "bad-batch", error)
        marks = {name: message.marks[name] for name in (KEY_MARK, SIGNATURE_MARK) if name in message.marks}
        return await self._ingest.take(tenant, device, content, marks)

    def _refused(self, code: str, why: BadInput | str, retry_after_ms: int = 0) -> Answered:
        refusal = wire.Refusal(code=code, message=str(why)[:1000], retry_after_ms=retry_after_ms)
        content = wire.written(refusal)
        return Answered(content, signed(content, self._key), refusal)

    async def _told(self, tenant: str, device: str, correlation: bytes, answered: Answered) -> bool:
        """Whether the answer is the broker's, or never can be. It goes to the robot's own topic, wherever else it asked for it."""
        marks = dict(answered.marks) | ({wire.REFUSED: answered.refusal.code} if answered.refusal else {})
        topic = wire.topic(tenant, device, wire.ACK)
        known = correlation if len(correlation) <= CORRELATION_BYTES_MAX else b""
        verdict = await self._mqtt.publish(topic, answered.content, known, marks)
        if verdict.code == LOST:
            return False
        self.counts["refused" if answered.refusal else "answered"] += 1
        if not verdict.taken:
            self.counts["unheard"] += 1
        return True
