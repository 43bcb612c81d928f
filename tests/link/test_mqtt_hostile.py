"""A broker that means ill: whatever it sends is bounded, ends a connection at the worst, and never a robot."""

import asyncio
import struct
import tracemalloc
from collections.abc import Awaitable, Callable

import pytest

from agent.link.mqtt import MqttLink
from agent.link.mqtt.client import PACKET_BYTES_MAX
from agent.link.mqtt.connection import OWED_MAX
from agent.ports import Delivered, LinkSettings, Steering
from tests.link.mqtt_helpers import CLOCK, play, until, within
from tests.link.test_mqtt_reasons import Said, served

COMMAND = b"v1/demo/r1/cmd/req/c-1"
FLOOD = 5_000


def packet(kind: int, body: bytes) -> bytes:
    length, rest = b"", len(body)
    while True:
        rest, digit = divmod(rest, 128)
        length += bytes([digit | (0x80 if rest else 0)])
        if not rest:
            return bytes([kind]) + length + body


def message(topic: bytes, content: bytes = b"x", *, qos: int = 1, mid: int = 1) -> bytes:
    return packet(0x30 | qos << 1, struct.pack("!H", len(topic)) + topic + (struct.pack("!H", mid) if qos else b"") + b"\x00" + content)


def against(sent: bytes, story: Callable[[MqttLink, list[Delivered]], Awaitable[None]], *, confirming: bool = True) -> None:
    """A robot that is steered, and a broker that sends this after each subscription."""
    got: list[Delivered] = []

    def delivered(one: Delivered) -> None:
        got.append(one)
        if confirming:
            one.confirm()

    async def main() -> None:
        said = Said(suback=b"\x01" * 5, instead=sent)
        server = await asyncio.start_server(lambda *ends: served(said, *ends), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        link = MqttLink(LinkSettings("demo", "r1", "127.0.0.1", port, plain=True, steering=Steering(delivered)), CLOCK)
        try:
            await within(link.ready())
            await story(link, got)
        finally:
            await link.aclose()
            server.close()
            await server.wait_closed()

    play(main())


@pytest.mark.parametrize(
    "topic",
    [
        b"v1/demo/r1/cmd/req",
        b"v1/demo/r1/cmd/req/",
        b"v1/demo/r1/cmd/req/a/b",
        b"v1/demo/r1/cmd/res/c-1",
        b"v1/demo/r1/twin/desired/more",
        b"v1/demo/r1/twin/reported",
        b"v1/demo/r1/",
        b"v1/demo/r2/cmd/req/c-1",
        b"v1/demo/r1x/cmd/req/c-1",
        b"cmd/req/c-1",
        b"$SYS/broker",
        b"",
        b"\xff\xfe",
        b"v1/demo/r1/usage/ack/x",
    ],
)
def test_a_topic_nobody_asked_for_is_dropped_and_the_next_message_taken(topic: bytes) -> None:
    async def story(link: MqttLink, got: list[Delivered]) -> None:
        await until(lambda: got)
        assert [(one.topic, one.content) for one in got] == [("cmd/req/c-1", b"real")]
        assert link.dropped == 1

    against(message(topic) + message(COMMAND, b"real", mid=2), story)


def test_a_packet_of_10_mb_ends_the_connection_before_it_is_held() -> None:
    async def story(link: MqttLink, got: list[Delivered]) -> None:
        await until(lambda: link.connections == 2)
        assert "the broker sends a packet of 10" in link.problem
        assert str(PACKET_BYTES_MAX) in link.problem
        assert got == []

    tracemalloc.start()
    try:
        sent = message(COMMAND, bytes(10_000_000))
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        against(sent[:200_000], story)
        assert tracemalloc.get_traced_memory()[1] - held < 8_000_000
    finally:
        tracemalloc.stop()


def test_a_message_at_qos_2_ends_the_connection() -> None:
    async def story(link: MqttLink, got: list[Delivered]) -> None:
        await until(lambda: link.connections == 2)
        assert "QoS 2" in link.problem
        assert got == []

    against(message(COMMAND, qos=2), story)


def test_more_than_may_be_unconfirmed_ends_the_connection() -> None:
    async def story(link: MqttLink, got: list[Delivered]) -> None:
        await until(lambda: link.connections == 2)
        assert "before the first is confirmed" in link.problem
        assert len(got) <= 2 * OWED_MAX

    against(b"".join(message(COMMAND, mid=1 + number % 3) for number in range(FLOOD)), story, confirming=False)


@pytest.mark.parametrize("qos", [0, 1])
def test_a_flood_is_taken_as_fast_as_it_is_worked_off(qos: int) -> None:
    """Those at QoS 0 that came before the subscription was answered are lost, as QoS 0 may be."""

    async def story(link: MqttLink, got: list[Delivered]) -> None:
        await until(lambda: got and got[-1].content == b"last")
        assert link.connections == 1
        if qos == 1:
            assert len(got) == FLOOD + 1
        assert await link.post("event/x", b"still here") is None

    flood = b"".join(message(COMMAND, qos=qos, mid=1 + number % 16) for number in range(FLOOD))
    against(flood + message(COMMAND, b"last"), story)


def test_confirming_again_or_after_the_end_says_nothing() -> None:
    async def story(link: MqttLink, got: list[Delivered]) -> None:
        await until(lambda: len(got) == 3)
        connection = link._mqtt._connection
        assert connection is not None
        for one in got[:2]:
            for _ in range(3):
                one.confirm()
        assert connection._owed == 1
        await link.aclose()
        got[2].confirm()

    against(b"".join(message(COMMAND, mid=mid) for mid in (1, 2, 3)), story, confirming=False)
