"""One connection to a broker, from CONNECT to its end, on a paho client that lives no longer than it does.

    opening -> open -> ended

paho keeps what it could not send and sends it with the next connection, although it said that it failed; so nothing is given to
it while it is offline, and what it keeps dies with it. Its thread is watched from outside. All callbacks hop to the event loop;
none of paho's exceptions leaves this file.
"""

import asyncio
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from paho.mqtt.client import Client, MQTTMessage, error_string
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from agent.contract import wire
from agent.errors import NoLink, VoxmeterError
from agent.link.mqtt.client import PACKET_BYTES_MAX, Faults, Shaken, Welcome, new_client
from agent.link.mqtt.message import (
    FAILURE,
    LOST,
    TOO_LARGE,
    TOPIC_INVALID,
    Filter,
    Incoming,
    Once,
    Verdict,
    connect_properties,
    incoming,
    publish_properties,
)
from agent.link.tls import check_plain, context_of
from agent.ports import LinkSettings

CONNECT_S = 10
"""For TCP and TLS, and again for the broker's welcome: three lost packets on a poor mobile link."""

KEEPALIVE_S = 30
"""A link that is half open is found within two of these; most networks forget an idle connection later than that."""

CLOSE_S = 2
"""For the last word to leave. Nothing is lost with it: the broker keeps the session."""

STALLED_S = 90
"""A message without PUBACK for so long, though the keepalive saw nothing: paho's thread or the broker is stuck."""

FRAME_BYTES_MAX = 1024
"""What topic, properties and header of a message take, at the most."""

COMING_MAX = 64
"""Messages on their way from paho's thread to the loop, 8 MiB at the most; then the thread waits, and with it the broker."""

OWED_MAX = 8 * wire.RECEIVE_MAX
"""Unconfirmed messages that are borne, 16 MiB at the most: where subscriptions are shared mosquitto goes beyond what it was told to keep
to, half as much again. A broker that goes on and on is left."""

WITH_WILL = ReasonCode(PacketTypes.DISCONNECT, "Disconnect with will message")
"""Of a DISCONNECT before another try: if that fails, those who watch must hear that the robot is away."""

Will = tuple[str, bytes]
"""Topic and body, at QoS 1, kept by the broker."""


class Connection:
    """Made and used in one event loop."""

    def __init__(
        self, settings: LinkSettings, client_id: str, heard: Callable[[Incoming], None], expiry_s: int, will: Will | None = None
    ) -> None:
        """`will`: what the broker publishes unless the connection ends in peace."""
        self._settings, self._heard, self._expiry_s = settings, heard, expiry_s
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[str] = self._loop.create_future()
        """Done when the connection is over; says why."""
        self.welcome: Welcome | None = None
        self._welcomed: asyncio.Future[Welcome] = self._loop.create_future()
        self._pending: dict[int, asyncio.Future[Verdict]] = {}
        self._since: dict[int, float] = {}
        self._subscribed: dict[int, asyncio.Future[list[Verdict]]] = {}
        self._room = asyncio.Semaphore(wire.INFLIGHT_MAX)
        self._closing = False
        self._early: list[Incoming] | None = []
        self._owed = 0
        self._places = threading.Semaphore(COMING_MAX)
        self._faults = Faults()
        self._client = self._listening(new_client(client_id, CONNECT_S, self._faults))
        self._has_will = will is not None
        if will:
            self._client.will_set(*will, qos=1, retain=True)

    async def open(self, filters: Sequence[Filter], inflight_max: int) -> None:
        """Connects, is welcomed, subscribes at QoS 1. Raises NoLink with the reason in the broker's or the system's words."""
        await self._dialled()
        try:
            async with asyncio.timeout(CONNECT_S):
                await self._unless_ended(self._welcomed)
                welcome = self._welcomed.result() if self._welcomed.done() else None
                if not welcome:
                    raise NoLink(f"the broker hangs up: {self.ended.result()}", "does it know this certificate?")
                if welcome.verdict.code >= FAILURE:
                    raise NoLink(f"the broker refuses: {welcome.verdict.name}")
                self.welcome = welcome
                self._room = asyncio.Semaphore(max(1, min(inflight_max, welcome.receive_max)))
                if filters:
                    await self._subscribe(filters)
        except TimeoutError as error:
            raise NoLink(f"the broker says nothing for {CONNECT_S} s") from error

    def listen(self) -> None:
        """Gives out what came while it opened, and from now on what comes: whoever answers can do so."""
        early, self._early = self._early or [], None
        for message in early:
            self._heard(message)

    async def publish(
        self,
        topic: str,
        content: bytes,
        correlation: bytes,
        marks: Mapping[str, str],
        response: str,
        *,
        retained: bool = False,
        valid_s: int = 0,
    ) -> Verdict:
        """At QoS 1, waits for the PUBACK, however long it takes. Whoever stops waiting doesn't make room for another message."""
        if self.welcome and len(content) + FRAME_BYTES_MAX > self.welcome.packet_bytes_max:
            return Verdict(TOO_LARGE, f"the broker takes {self.welcome.packet_bytes_max} bytes")
        await self._room.acquire()
        answered = self._given(topic, content, publish_properties(correlation, marks, response, valid_s), retained)
        if isinstance(answered, Verdict):
            self._room.release()
            return answered
        return await asyncio.shield(answered)

    def check(self) -> None:
        """Ends it if it is no connection any more although nobody said so."""
        if self.welcome and not self.welcome.thread.is_alive():
            self.end("paho's thread is gone")
        if self._since and self._loop.time() - next(iter(self._since.values())) > STALLED_S:
            self.end(f"no PUBACK for {STALLED_S} s")

    async def close(self, *, in_peace: bool = True) -> None:
        """Says goodbye if it still can; the broker keeps the session, and a will goes unread if it is `in_peace`.

        Afterwards nothing of it is left.
        """
        self._closing = True
        reason = None if in_peace or not self._has_will else WITH_WILL
        if self._client.disconnect(reason) == MQTTErrorCode.MQTT_ERR_SUCCESS:
            await asyncio.wait({self.ended}, timeout=CLOSE_S)
        if sock := self._client.socket():
            with suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)  # type: ignore[arg-type]  # TLS's own would first go on in the clear
        if self.welcome:
            await self._loop.run_in_executor(None, self.welcome.thread.join, CLOSE_S)
        self.end("closed here")
        for name in ("on_connect", "on_disconnect", "on_subscribe", "on_publish", "on_message"):
            setattr(self._client, name, None)  # else it and we hold each other, and its sockets wait for the garbage collector

    def _listening(self, client: Client) -> Client:
        client.on_connect, client.on_disconnect, client.on_subscribe = self._on_connect, self._on_disconnect, self._on_subscribe
        client.on_publish, client.on_message = self._on_publish, self._on_message
        return client

    async def _dialled(self) -> None:
        settings = self._settings
        try:
            if settings.plain:
                check_plain(settings.host)
            else:
                context = context_of(settings)
                context.sslsocket_class = Shaken
                self._client.tls_set_context(context)
            await self._loop.run_in_executor(None, self._dial)
            self._client.loop_start()
        except VoxmeterError as error:
            raise NoLink(str(error)) from error
        except (OSError, ValueError) as error:
            raise NoLink(f"{settings.host}:{settings.port}: {error}") from error

    def _dial(self) -> None:
        """In a thread: names and handshakes block. Whoever gave up meanwhile can't wait for it."""
        about = connect_properties(self._expiry_s, wire.RECEIVE_MAX, PACKET_BYTES_MAX)
        self._client.connect(self._settings.host, self._settings.port, KEEPALIVE_S, clean_start=False, properties=about)
        if self._closing:
            self._client.disconnect()

    async def _subscribe(self, filters: Sequence[Filter]) -> None:
        """Always, also with a session present: what it is subscribed to only the broker knows."""
        code, mid = self._client.subscribe([(one.name, _options(one)) for one in filters])
        if code != MQTTErrorCode.MQTT_ERR_SUCCESS or mid is None:
            raise NoLink(f"can't subscribe: {error_string(code)}")
        answered = self._subscribed.setdefault(mid, self._loop.create_future())
        await self._unless_ended(answered)
        for one, verdict in zip(filters, answered.result() if answered.done() else (), strict=False):
            if verdict.code >= FAILURE:
                raise NoLink(f"the broker refuses the subscription to {one.name}: {verdict.name}")
        if not answered.done():
            raise NoLink(self.ended.result())

    async def _unless_ended(self, awaited: "asyncio.Future[Any]") -> None:
        both: set[asyncio.Future[Any]] = {awaited, self.ended}
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)

    def _given(self, topic: str, content: bytes, properties: Properties, retained: bool) -> Verdict | asyncio.Future[Verdict]:
        """In one step, so that no PUBACK is told before its message is known."""
        if self.ended.done():
            return Verdict(LOST, self.ended.result())
        try:
            info = self._client.publish(topic, content, qos=1, retain=retained, properties=properties)
        except ValueError as error:
            return Verdict(TOPIC_INVALID, str(error))
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            self.end(error_string(info.rc))
            return Verdict(LOST, error_string(info.rc))
        self._since[info.mid] = self._loop.time()
        return self._pending.setdefault(info.mid, self._loop.create_future())

    def _came(self, message: Incoming) -> None:
        """A session's old messages come before its subscriptions are answered; no more of them than the receive maximum."""
        self._places.release()
        if self.ended.done():  # it comes again
            return
        if message.qos:
            self._owed += 1
            if self._owed > OWED_MAX:
                self.end(f"the broker sends more than {OWED_MAX} messages before the first is confirmed")
                return
        if self._early is None:
            self._heard(message)
        elif message.qos:
            self._early.append(message)

    def _confirm(self, mid: int, qos: int) -> None:
        if qos == 1 and not self.ended.done():
            self._owed -= 1
            self._client.ack(mid, qos)

    def _answered(self, mid: int, verdict: Verdict) -> None:
        self._since.pop(mid, None)
        if answered := self._pending.pop(mid, None):
            self._room.release()
            if not answered.done():
                answered.set_result(verdict)

    def end(self, why: str) -> None:
        if not self.ended.done():
            self.ended.set_result(why)
        for mid in list(self._pending):
            self._answered(mid, Verdict(LOST, why))

    def _hop(self, step: Callable[..., None], *told: Any) -> None:
        """From paho's thread to the loop, if that is still there."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(step, *told)

    def _on_connect(self, _client: Client, _user: Any, flags: Any, reason: ReasonCode, properties: Properties | None) -> None:
        receive_max = int(getattr(properties, "ReceiveMaximum", 0xFFFF))
        packet_bytes_max = int(getattr(properties, "MaximumPacketSize", 0xFFFFFFF))
        verdict = Verdict(reason.value, str(reason))
        welcome = Welcome(verdict, bool(flags.session_present), receive_max, packet_bytes_max, threading.current_thread())
        self._hop(self._welcomed.set_result, welcome)

    def _on_disconnect(self, _client: Client, _user: Any, flags: Any, reason: ReasonCode, _properties: Properties | None) -> None:
        from_broker = flags.is_disconnect_packet_from_server
        said = f"the broker ends it: {reason}" if from_broker else self._faults.last or "the other side closed the connection"
        self._hop(self.end, said)

    def _on_subscribe(self, _client: Client, _user: Any, mid: int, reasons: list[ReasonCode], _properties: Properties | None) -> None:
        verdicts = [Verdict(reason.value, str(reason)) for reason in reasons]
        self._hop(lambda: self._subscribed.setdefault(mid, self._loop.create_future()).set_result(verdicts))

    def _on_publish(self, _client: Client, _user: Any, mid: int, reason: ReasonCode, _properties: Properties | None) -> None:
        self._hop(self._answered, mid, Verdict(reason.value, str(reason)))

    def _on_message(self, _client: Client, _user: Any, message: MQTTMessage) -> None:
        while not self._places.acquire(timeout=1):
            if self._closing:
                return
        self._hop(self._came, incoming(message, Once(partial(self._confirm, message.mid, message.qos))))


def _options(wanted: Filter) -> SubscribeOptions:
    kept = SubscribeOptions.RETAIN_SEND_ON_SUBSCRIBE if wanted.retained else SubscribeOptions.RETAIN_DO_NOT_SEND
    return SubscribeOptions(qos=1, retainAsPublished=True, retainHandling=kept)
