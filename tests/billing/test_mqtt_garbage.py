"""Garbage that reaches a consumer on a real mosquitto: refused or dropped, confirmed, and nothing stops."""

import gzip
import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from agent.contract import wire
from agent.contract.batch import BATCH_BYTES_MAX
from agent.contract.signing import SigningKey, check_signed
from agent.link.mqtt import MqttLink
from agent.link.mqtt.message import Incoming
from agent.link.mqtt.steady import Mqtt
from agent.ports import Acked
from agent.sim.real.broker import Broker
from tests.billing.test_mqtt import Played, consumer
from tests.link.mqtt_helpers import CLOCK, MARKS, as_robot, confirming, live, play, until, within

KEY = SigningKey.from_seed(bytes(32))
EPOCH = "a" * 32


@pytest.fixture
def broker(tmp_path: Path) -> Any:
    with Broker(tmp_path / "broker") as running:
        yield running


NOISE = hashlib.shake_256(b"").digest(BATCH_BYTES_MAX + 1)
GARBAGE = [
    ("usage/batch", b"no gzip", "gzip", "bad-batch"),
    ("usage/batch", gzip.compress(b"x")[:-1], "gzip", "bad-batch"),
    ("usage/batch", b"x", "zstd", "bad-batch"),
    ("usage/batch", gzip.compress(bytes(60_000_000), 9), "gzip", "too-big"),
    ("usage/batch", NOISE, "", "too-big"),
    ("usage/mark", b"", "", "bad-question"),
    ("usage/mark", b"[" * 4000, "", "bad-question"),
    ("usage/mark", b'{"epoch":"x","nonce":"n"}', "", "bad-question"),
]


def test_garbage_is_refused_signed_and_confirmed(broker: Broker) -> None:
    async def story() -> None:
        heard: list[Incoming] = []
        ingest = Played()
        serving = consumer(broker, ingest)
        robot = Mqtt(as_robot(broker), "r1", CLOCK, ["v1/demo/r1/usage/ack"], confirming(heard))
        await within(serving.ready())
        await within(robot.ready())
        for what, content, encoding, code in GARBAGE * 3:  # more than the receive maximum: an unconfirmed one would block the rest
            heard.clear()
            await robot.publish(f"v1/demo/r1/{what}", content, b"id", {wire.ENCODED: encoding})
            await until(lambda: heard)
            assert (heard[0].marks[wire.REFUSED], wire.read_refusal(heard[0].content).code) == (code, code)
            check_signed(heard[0].content, heard[0].marks, {KEY.key_id: KEY.public}, what="the refusal")
        assert ingest.begun == 0
        await robot.aclose()
        await serving.aclose()

    play(story())


def test_retained_and_unacknowledged_batches_are_dropped_and_counted(broker: Broker) -> None:
    async def story() -> None:
        ingest = Played()
        serving, link = consumer(broker, ingest), MqttLink(as_robot(broker), CLOCK)
        await within(link.ready())
        paho = live(link._mqtt)._client
        for what in ("usage/batch", "usage/mark", "usage/ack", "state/birth"):
            paho.publish(f"v1/demo/r1/{what}", b"of old", qos=1, retain=True)
        await within(serving.ready())
        paho.publish("v1/demo/r1/usage/batch", b"retained", qos=1, retain=True)
        paho.publish("v1/demo/r1/usage/batch", b"at most once", qos=0)
        assert await link.send(b"x", MARKS) == Acked(b"ack of x", MARKS)
        assert [content for _, _, content, _ in ingest.taken] == [b"x"]
        await until(lambda: serving.counts == Counter(answered=1, retained=1, garbage=1))
        assert serving.connections == 1
        await link.aclose()
        await serving.aclose()

    play(story())


def test_a_topic_without_a_name_in_it_is_confirmed_and_forgotten(broker: Broker) -> None:
    async def story() -> None:
        confirmed: list[None] = []
        serving = consumer(broker, Played())
        for topic in ("", "v1//r1/usage/batch", "v2/demo/r1/usage/batch"):
            serving._heard(Incoming(topic, b"x", b"", {}, 1, False, lambda: confirmed.append(None)))
        await until(lambda: len(confirmed) == 3)
        assert serving.counts == Counter(garbage=3)
        await serving.aclose()

    play(story())
