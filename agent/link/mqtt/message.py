"""What passes over MQTT as plain values: a message that came, what a broker said to one that left."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from paho.mqtt.client import MQTTMessage
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

NO_SUBSCRIBERS: Final = 0x10
"""The broker took it and threw it away: nobody has ever subscribed."""

FAILURE: Final = 0x80
"""Reason codes from here on are failures (MQTT v5, section 2.4)."""

NOT_AUTHORIZED: Final = 0x87
TOPIC_INVALID: Final = 0x90
TOO_LARGE: Final = 0x95
FORMAT_INVALID: Final = 0x99

LOST: Final = -1
"""Of ours, no code of MQTT: there is no connection, or it ended before the broker answered."""


class Filter(NamedTuple):
    """What to subscribe to."""

    name: str
    retained: bool = False
    """What the broker keeps there is wanted as well, at every subscription; else only what is sent from now on."""


class Verdict(NamedTuple):
    """The broker's word on one message."""

    code: int
    name: str

    @property
    def taken(self) -> bool:
        """It is the broker's now, and somebody is to get it."""
        return 0 <= self.code < FAILURE and self.code != NO_SUBSCRIBERS


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message as it came."""

    topic: str
    content: bytes
    correlation: bytes
    marks: Mapping[str, str]
    """User properties."""
    qos: int
    retained: bool
    confirm: Callable[[], None] = field(repr=False)
    """Sends the PUBACK, once, if its QoS wants one; without it the broker sends the message again when this client connects again."""


class Once:
    """Takes a step the first time it is called."""

    def __init__(self, step: Callable[[], None]) -> None:
        self._step: Callable[[], None] | None = step

    def __call__(self) -> None:
        step, self._step = self._step, None
        if step:
            step()


def incoming(message: MQTTMessage, confirm: Callable[[], None]) -> Incoming:
    """Raises nothing: a topic that is no text becomes an empty one."""
    try:
        topic = message.topic
    except UnicodeDecodeError:
        topic = ""
    properties = message.properties
    return Incoming(
        topic=topic,
        content=bytes(message.payload),
        correlation=bytes(getattr(properties, "CorrelationData", b"")),
        marks=dict(getattr(properties, "UserProperty", ())),
        qos=message.qos,
        retained=message.retain,
        confirm=confirm,
    )


def publish_properties(correlation: bytes, marks: Mapping[str, str], response: str, valid_s: int = 0) -> Properties:
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho types all but this
    if correlation:
        properties.CorrelationData = correlation
    if response:
        properties.ResponseTopic = response
    if valid_s:
        properties.MessageExpiryInterval = valid_s
    if marks:
        properties.UserProperty = list(marks.items())
    return properties


def connect_properties(expiry_s: int, receive_max: int, packet_bytes_max: int) -> Properties:
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho types all but this
    properties.SessionExpiryInterval = expiry_s
    properties.ReceiveMaximum = receive_max
    properties.MaximumPacketSize = packet_bytes_max
    return properties
