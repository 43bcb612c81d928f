"""The robot's way over MQTT against a real mosquitto: what each end of a message becomes, and what comes after each kind of break."""

import asyncio
import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import pytest

from agent.contract import wire
from agent.contract.batch import batch_id_of
from agent.errors import BadInput, BadProfile
from agent.link import TRANSPORTS
from agent.link.mqtt import MqttLink, _refused
from agent.link.mqtt.message import FORMAT_INVALID, LOST, NOT_AUTHORIZED, TOO_LARGE, Verdict
from agent.ports import Acked, Answer, LinkSettings, Refused, Retry
from agent.sim.real.broker import PACKET_BYTES_MAX, Broker
from tests.link.mqtt_helpers import CLOCK, MARKS, Backend, as_robot, live, play, until, within

EPOCH = "a" * 32


@pytest.fixture
def broker(tmp_path: Path) -> Any:
    with Broker(tmp_path / "broker") as running:
        yield running


def test_the_registry_names_it() -> None:
    assert TRANSPORTS[MqttLink.name] == f"{MqttLink.__module__}:{MqttLink.__name__}"


def test_a_batch_is_answered_and_so_is_a_question(broker: Broker) -> None:
    async def story() -> None:
        backend, link = Backend(broker), MqttLink(as_robot(broker), CLOCK)
        await within(backend.mqtt.ready())
        await within(link.ready())
        content = b'{"a":1}' * 200
        assert (link.up, link.connections) == (True, 1)
        assert await link.send(content, MARKS) == Acked(b"ack", MARKS)
        assert await link.mark(EPOCH, "n-1") == Acked(b"ack", MARKS)
        batch, question = backend.heard
        assert batch.topic == "v1/demo/r1/usage/batch"
        assert batch.marks == MARKS | {wire.ENCODED: "gzip"}
        assert batch.correlation == batch_id_of(content).encode()
        assert wire.read_question(question.content) == wire.MarkQuestion(epoch=EPOCH, nonce="n-1")
        await link.aclose()
        await backend.aclose()
        assert not link.up

    play(story())


def test_each_answer_finds_its_own_question(broker: Broker) -> None:
    async def story() -> None:
        backend, link = Backend(broker, silent=True), MqttLink(as_robot(broker), CLOCK)
        await within(backend.mqtt.ready())
        await within(link.ready())
        batches = [b"%d" % number for number in range(5)]
        sent = [asyncio.ensure_future(link.send(batch, MARKS)) for batch in batches]
        await until(lambda: len(backend.heard) == 5)
        for batch in reversed(batches):
            backend.answer(batch_id_of(batch).encode(), b"to " + batch)
        assert [answer.content for answer in await asyncio.gather(*sent) if isinstance(answer, Acked)] == [b"to " + one for one in batches]
        await link.aclose()
        await backend.aclose()

    play(story())


@pytest.mark.parametrize(
    ("code", "answer"), [("unknown-key", Refused("unknown-key", "who?", 700)), *((code, Retry("who?", 700)) for code in wire.PATIENCE)]
)
def test_a_refusal_says_its_code_and_garbage_is_no_answer(broker: Broker, code: str, answer: Refused | Retry) -> None:
    async def story() -> None:
        words = wire.written(wire.Refusal(code=code, message="who?", retry_after_ms=700))
        backend, link = Backend(broker, refusing=words), MqttLink(as_robot(broker), CLOCK)
        await within(backend.mqtt.ready())
        await within(link.ready())
        backend.answer(b"", b"not JSON", {wire.REFUSED: "x"})
        assert await link.send(b"x", MARKS) == answer
        assert link.dropped == 1
        await link.aclose()
        await backend.aclose()

    play(story())


def test_nobody_there_is_said_at_once_and_silence_in_the_end(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "ACK_WAIT_MS", 300)

    async def story() -> None:
        link = MqttLink(as_robot(broker), CLOCK)
        assert await link.send(b"x", MARKS) == Retry("not connected yet")
        await within(link.ready())
        assert await link.send(b"x", MARKS) == Retry("the broker has nobody who takes it: the backend has not connected yet")
        backend = Backend(broker, silent=True)
        await within(backend.mqtt.ready())
        assert await link.send(b"x", MARKS) == Retry("no answer within 0 s")
        await link.aclose()
        await backend.aclose()
        assert await link.send(b"x", MARKS) == Retry("closed")

    play(story())


@pytest.mark.parametrize(("tenant", "device"), [("demo", "r2"), ("other", "r1")])
def test_another_subtree_is_refused_with_its_reason(broker: Broker, tenant: str, device: str) -> None:
    async def story() -> None:
        link = MqttLink(dataclasses.replace(as_robot(broker), tenant=tenant, device=device), CLOCK)
        await within(link.ready())
        assert await link.send(b"x", MARKS) == Refused("forbidden", "the broker refuses it: Not authorized")
        assert await link.mark(EPOCH, "n") == Refused("forbidden", "the broker refuses it: Not authorized")
        await link.aclose()

    play(story())


def test_a_message_the_broker_would_hang_up_at_does_not_leave(broker: Broker) -> None:
    async def story() -> None:
        link = MqttLink(as_robot(broker), CLOCK)
        await within(link.ready())
        noise = hashlib.shake_256(b"").digest(PACKET_BYTES_MAX)
        assert await link.send(noise, MARKS) == Refused("too-big", f"the broker refuses it: the broker takes {PACKET_BYTES_MAX} bytes")
        assert link.connections == 1
        await link.aclose()

    play(story())


@pytest.mark.parametrize(
    ("code", "answer"),
    [
        (NOT_AUTHORIZED, Refused("forbidden", "the broker refuses it: as said")),
        (TOO_LARGE, Refused("too-big", "the broker refuses it: as said")),
        (FORMAT_INVALID, Refused("bad-batch", "the broker refuses it: as said")),
        (0x97, Retry("as said")),
        (0x80, Retry("as said")),
        (LOST, Retry("as said")),
    ],
)
def test_each_failed_puback_is_a_failure(code: int, answer: Answer) -> None:
    verdict = Verdict(code, "as said")
    assert not verdict.taken
    assert _refused(verdict) == answer


def test_an_ack_that_came_while_away_arrives_at_the_next_connection(broker: Broker) -> None:
    async def story() -> None:
        late: list[Acked] = []
        settings = dataclasses.replace(as_robot(broker), heard=late.append)
        backend, link = Backend(broker, silent=True), MqttLink(settings, CLOCK)
        await within(backend.mqtt.ready())
        await within(link.ready())
        await link.aclose()
        backend.answer(b"of before", b"late")
        await backend.aclose()
        again = MqttLink(settings, CLOCK)
        await within(again.ready())
        await until(lambda: late)
        assert late == [Acked(b"late", MARKS)]
        connection = live(again._mqtt)
        assert connection.welcome is not None
        assert connection.welcome.session_present
        await again.aclose()

    play(story())


def test_retained_garbage_on_every_topic_is_dropped(broker: Broker) -> None:
    async def story() -> None:
        late: list[Acked] = []
        settings = dataclasses.replace(as_robot(broker), heard=late.append)
        link, backend = MqttLink(settings, CLOCK), Backend(broker)
        await within(backend.mqtt.ready())
        live(backend.mqtt)._client.publish("v1/demo/r1/usage/ack", b"old", qos=1, retain=True)
        await within(link.ready())
        live(backend.mqtt)._client.publish("v1/demo/r1/usage/ack", b"new", qos=1, retain=True)
        await until(lambda: link.dropped)
        assert await link.send(b"x", MARKS) == Acked(b"ack", MARKS)
        assert late == []
        await link.aclose()
        await backend.aclose()

    play(story())


def test_settings_that_never_connect_are_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(BadProfile, match="only this machine"):
        MqttLink(LinkSettings("demo", "r1", "broker.example", 8883, plain=True), CLOCK)
    with pytest.raises(BadInput, match=r"gone\.pem"):
        MqttLink(LinkSettings("demo", "r1", "localhost", 8883, certificate=tmp_path / "gone.pem"), CLOCK)
