"""Every reason code comes through: a played broker says what mosquitto can't be brought to say, byte by byte."""

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable

import pytest

from agent.contract import wire
from agent.link.mqtt import MqttLink, connection
from agent.link.mqtt.steady import Mqtt
from agent.ports import UNHEARD, Answer, LinkSettings, Refused, Retry
from tests.link.mqtt_helpers import CLOCK, MARKS, play, until, within

WELCOME = b"\x20\x03\x00\x00\x00"
SUBSCRIBED = b"\x01"


@dataclasses.dataclass
class Said:
    """What a played broker answers to each packet; None: nothing."""

    connack: bytes | None = WELCOME
    suback: bytes = SUBSCRIBED
    puback: bytes | None = b"\x00"
    instead: bytes = b""
    """Sent after the first subscription."""


async def served(said: Said, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Packets here are short: one byte of length, or two."""
    try:
        while head := await reader.read(1):
            length = (await reader.readexactly(1))[0]
            if length & 0x80:
                length = (length & 0x7F) + ((await reader.readexactly(1))[0] << 7)
            mid = _mid(head[0], await reader.readexactly(length))
            if head[0] == 0x10 and said.connack:
                writer.write(said.connack)
            elif head[0] == 0x82:
                writer.write(bytes([0x90, 3 + len(said.suback)]) + mid + b"\x00" + said.suback + said.instead)
            elif head[0] & 0xF0 == 0x30 and said.puback is not None:
                writer.write(b"\x40\x04" + mid + said.puback + b"\x00")
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


def _mid(head: int, body: bytes) -> bytes:
    if head & 0xF0 == 0x30:
        start = 2 + int.from_bytes(body[:2], "big")
        return body[start : start + 2]
    return body[:2]


def against(said: Said, story: Callable[[MqttLink], Awaitable[None]]) -> None:
    async def main() -> None:
        server = await asyncio.start_server(lambda *ends: served(said, *ends), "127.0.0.1", 0)
        link = MqttLink(LinkSettings("demo", "r1", "127.0.0.1", server.sockets[0].getsockname()[1], plain=True), CLOCK)
        try:
            await story(link)
        finally:
            await link.aclose()
            server.close()
            await server.wait_closed()

    play(main())


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        (Said(connack=b"\x20\x03\x00\x87\x00"), "the broker refuses: Not authorized"),
        (Said(connack=b"\x20\x03\x00\x97\x00"), "the broker refuses: Quota exceeded"),
        (Said(suback=b"\x87"), "the broker refuses the subscription to v1/demo/r1/usage/ack: Not authorized"),
        (Said(instead=b"\xe0\x02\x8e\x00"), "the broker ends it: Session taken over"),
        (Said(instead=b"\xe0\x02\x95\x00"), "the broker ends it: Packet too large"),
    ],
)
def test_connack_suback_and_disconnect_are_problems_by_name(said: Said, problem: str) -> None:
    async def story(link: MqttLink) -> None:
        await link.send(b"x", MARKS)
        await until(lambda: link.problem == problem)

    against(said, story)


@pytest.mark.parametrize(
    ("code", "answer"),
    [
        (0x87, Refused("forbidden", "the broker refuses it: Not authorized")),
        (0x90, Refused("forbidden", "the broker refuses it: Topic name invalid")),
        (0x97, Retry("Quota exceeded")),
        (0x99, Refused("bad-batch", "the broker refuses it: Payload format invalid")),
        (0x83, Retry("Implementation specific error")),
        (0x80, Retry("Unspecified error")),
        (0x10, Retry("the broker has nobody who takes it: the backend has not connected yet")),
    ],
)
def test_a_puback_with_a_failure_code_is_no_delivery(code: int, answer: Answer) -> None:
    async def story(link: MqttLink) -> None:
        await within(link.ready())
        assert await link.send(b"x", MARKS) == answer

    against(Said(puback=bytes([code])), story)


@pytest.mark.parametrize(
    ("code", "topic", "known"),
    [
        (0x87, "event/x", "forbidden"),
        (0x90, "event/x", "bad-topic"),
        (0x97, "event/x", ""),
        (0x10, "event/x", UNHEARD),
        (0x10, "cmd/res/x", UNHEARD),
        (0x10, wire.BIRTH, ""),
    ],
)
def test_of_a_post_a_right_that_may_come_is_told_from_a_topic_that_is_none(code: int, topic: str, known: str) -> None:
    async def story(link: MqttLink) -> None:
        await within(link.ready())
        answer = await link.post(topic, b"x")
        assert (answer.code if isinstance(answer, Refused) else "") == known

    against(Said(puback=bytes([code])), story)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # paho's thread dies of some of these
@pytest.mark.parametrize("garbage", [b"\x00\x00", b"\xf0\x01\x00", b"\x40\x00", b"\x32\x01\x00", b"\xff" * 50])
def test_a_broker_that_talks_nonsense_is_left_and_tried_again(garbage: bytes) -> None:
    async def story(link: MqttLink) -> None:
        await within(link.ready())
        await until(lambda: link.connections > 1)
        assert link.problem not in ("", "not connected yet")

    against(Said(instead=garbage), story)


def test_silence_instead_of_a_welcome_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "CONNECT_S", 0.2)

    async def story(link: MqttLink) -> None:
        assert isinstance(await link.send(b"x", MARKS), Retry)
        await until(lambda: link.problem == "the broker says nothing for 0.2 s")

    against(Said(connack=None), story)


def test_a_message_that_is_never_confirmed_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "STALLED_S", 0.1)

    async def story(link: MqttLink) -> None:
        await within(link.ready())
        assert await link.send(b"x", MARKS) == Retry("no PUBACK for 0.1 s")
        assert link.problem == "no PUBACK for 0.1 s"

    against(Said(puback=None), story)


def test_a_broker_that_takes_few_gets_few() -> None:
    receive_max_2 = b"\x20\x06\x00\x00\x03\x21\x00\x02"

    async def story(link: MqttLink) -> None:
        await within(link.ready())
        mqtt: Mqtt = link._mqtt
        sends = [asyncio.ensure_future(mqtt.publish("v1/demo/r1/usage/batch", b"x")) for _ in range(6)]
        await asyncio.sleep(0.05)
        assert mqtt._connection is not None
        assert len(mqtt._connection._pending) == 2
        mqtt._connection.end("over")
        await asyncio.gather(*sends)

    against(Said(connack=receive_max_2, puback=None), story)
