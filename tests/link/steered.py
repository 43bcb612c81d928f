"""Both ends of a real broker: a robot that is steered, and an operator that watches it and publishes to it."""

import dataclasses
import socket
from collections.abc import Callable

from agent.contract import wire
from agent.contract.fleet.presence import present, read_birth, read_presence
from agent.link.mqtt import MqttLink
from agent.link.mqtt.message import NO_SUBSCRIBERS, Filter, Incoming
from agent.link.mqtt.steady import Mqtt
from agent.ports import Delivered, Steering
from agent.sim.real.broker import Broker
from tests.link.mqtt_helpers import CLOCK, as_backend, as_robot, confirming, live, within

ROBOT = "v1/demo/r1/"


class Steered:
    """A robot that keeps what it is sent; confirms it if it is told to."""

    def __init__(self, broker: Broker, *, confirming: bool = True, will: Callable[[], tuple[str, bytes]] | None = None) -> None:
        self.got: list[Delivered] = []
        self.connects = 0
        self.failed: list[str] = []
        self._confirming = confirming
        steering = Steering(self._delivered, will, self._connected, self.failed.append)
        self.link = MqttLink(dataclasses.replace(as_robot(broker), steering=steering), CLOCK)

    def _delivered(self, message: Delivered) -> None:
        self.got.append(message)
        if self._confirming:
            message.confirm()
            message.confirm()

    def _connected(self) -> None:
        assert self.link.up
        self.connects += 1

    @property
    def told(self) -> list[tuple[str, bytes, bool]]:
        return [(one.topic, one.content, one.retained) for one in self.got]


class Operator:
    """Watches one robot, and publishes to it."""

    def __init__(self, broker: Broker, name: str = "operator") -> None:
        self.heard: list[Incoming] = []
        watched = [Filter(ROBOT + "state/+", retained=True), Filter(ROBOT + "cmd/sync"), Filter(ROBOT + "event/+")]
        self.mqtt = Mqtt(as_backend(broker), name, CLOCK, watched, confirming(self.heard))

    async def send(self, topic: str, content: bytes, *, retained: bool = False) -> None:
        await within(self.mqtt.ready())
        verdict = await self.mqtt.publish(topic, content, retained=retained)
        assert verdict.taken or (retained and verdict.code == NO_SUBSCRIBERS)

    def last(self, topic: str) -> bytes:
        return next((one.content for one in reversed(self.heard) if one.topic == ROBOT + topic), b"")

    @property
    def sees(self) -> bool:
        """That the robot is there."""
        birth, presence = self.last(wire.BIRTH), self.last(wire.PRESENCE)
        return present(read_birth(birth) if birth else None, read_presence(presence) if presence else None)

    def sees_connection(self, boot: int, connect: int) -> bool:
        return self.sees and read_birth(self.last(wire.BIRTH)).conn_id.order == (boot, connect)


def cut(mqtt: Mqtt) -> None:
    """The network goes, without a word to the broker."""
    sock = live(mqtt)._client.socket()
    socket.socket.shutdown(sock, socket.SHUT_RDWR)  # type: ignore[arg-type]  # paho's own word for a socket
