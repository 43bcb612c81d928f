"""Consumers on a real mosquitto: confirmed only after commit, answered to their own robot, and no garbage that stops them."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from agent.billing.ingest import Answered
from agent.billing.mqtt import CORRELATION_BYTES_MAX, INTERNAL_WAIT_MS, Consumer
from agent.contract import wire
from agent.contract.signing import SigningKey, check_signed
from agent.errors import LedgerFull
from agent.link.mqtt import MqttLink
from agent.link.mqtt.message import Incoming
from agent.link.mqtt.steady import Mqtt
from agent.ports import Acked, Refused
from agent.sim.real.broker import Broker
from tests.link.mqtt_helpers import CLOCK, MARKS, as_backend, as_robot, confirming, live, play, until, within

KEY = SigningKey.from_seed(bytes(32))
EPOCH = "a" * 32


class Played:
    """An ingest that answers as told, and remembers."""

    def __init__(self, *, fails: int = 0, failure: Exception | None = None) -> None:
        self.taken: list[tuple[str, str, bytes, Mapping[str, str]]] = []
        self.marked: list[tuple[str, str, str, str]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.begun = 0
        self._fails = fails
        self._failure = failure or LedgerFull("the disk is full", "make room")

    async def take(self, tenant: str, device: str, content: bytes, marks: Mapping[str, str]) -> Answered:
        self.begun += 1
        await self.open.wait()
        if self.begun <= self._fails:
            raise self._failure
        self.taken.append((tenant, device, content, marks))
        return Answered(b"ack of " + content[:20], MARKS)

    async def mark(self, tenant: str, device: str, epoch: str, nonce: str) -> Answered:
        self.marked.append((tenant, device, epoch, nonce))
        refusal = wire.Refusal(code="unknown-device", message="who?")
        return Answered(wire.written(refusal), MARKS, refusal)


@pytest.fixture
def broker(tmp_path: Path) -> Any:
    with Broker(tmp_path / "broker") as running:
        yield running


def consumer(broker: Broker, ingest: Played, number: int = 1) -> Consumer:
    return Consumer(as_backend(broker), ingest, KEY, CLOCK, number=number)


async def drop_dead(one: Consumer) -> None:
    """As a killed process: nothing more is confirmed or said."""
    for task in one._open:
        task.cancel()
    await one.aclose()


def test_a_batch_is_committed_answered_and_then_confirmed(broker: Broker) -> None:
    async def story() -> None:
        ingest = Played()
        serving, link = consumer(broker, ingest), MqttLink(as_robot(broker), CLOCK)
        await within(serving.ready())
        await within(link.ready())
        content = b"batch" * 500
        assert await link.send(content, MARKS) == Acked(b"ack of " + content[:20], MARKS)
        assert await link.mark(EPOCH, "n-1") == Refused("unknown-device", "who?")
        assert ingest.taken == [("demo", "r1", content, MARKS)]
        assert ingest.marked == [("demo", "r1", EPOCH, "n-1")]
        await until(lambda: serving.counts == Counter(answered=1, refused=1))
        await link.aclose()
        await serving.aclose()

    play(story())


def test_two_consumers_share_the_batches_of_many_robots(broker: Broker) -> None:
    async def story() -> None:
        ingests = [Played(), Played()]
        serving = [consumer(broker, ingest, number) for number, ingest in enumerate(ingests, 1)]
        links = [MqttLink(as_robot(broker, f"r{number}"), CLOCK) for number in range(4)]
        everyone: list[Consumer | MqttLink] = [*serving, *links]
        for one in everyone:
            await within(one.ready())
        sends = [link.send(b"%d of %d" % (count, number), MARKS) for number, link in enumerate(links) for count in range(20)]
        answers = await asyncio.gather(*sends)
        assert all(isinstance(answer, Acked) for answer in answers)
        taken = [(device, content) for ingest in ingests for _, device, content, _ in ingest.taken]
        assert sorted(taken) == sorted((f"r{number}", b"%d of %d" % (count, number)) for number in range(4) for count in range(20))
        assert all(ingest.taken for ingest in ingests)
        for one in everyone:
            await one.aclose()

    play(story())


def test_what_was_not_committed_comes_again(broker: Broker) -> None:
    async def story() -> None:
        dying, later = Played(), Played()
        dying.open.clear()
        first, link = consumer(broker, dying), MqttLink(as_robot(broker), CLOCK)
        await within(first.ready())
        await within(link.ready())
        sent = asyncio.ensure_future(link.send(b"precious", MARKS))
        await until(lambda: dying.begun)
        await drop_dead(first)
        assert dying.taken == []
        second = consumer(broker, later)
        await within(second.ready())
        assert await sent == Acked(b"ack of precious", MARKS)
        assert [content for _, _, content, _ in later.taken] == [b"precious"]
        await link.aclose()
        await second.aclose()

    play(story())


def test_what_was_committed_but_not_surely_answered_comes_again(broker: Broker) -> None:
    async def story() -> None:
        first, link = consumer(broker, Played()), MqttLink(as_robot(broker), CLOCK)
        await within(first.ready())
        await within(link.ready())
        live(first._mqtt)._client.on_publish = lambda *_: None  # that the broker has the answer is never heard
        await link.send(b"x", MARKS)
        await drop_dead(first)
        later = Played()
        second = consumer(broker, later)
        await within(second.ready())
        await until(lambda: later.taken)
        assert [content for _, _, content, _ in later.taken] == [b"x"]
        await link.aclose()
        await second.aclose()

    play(story())


def test_what_was_confirmed_does_not_come_again(broker: Broker) -> None:
    async def story() -> None:
        first, link = consumer(broker, Played()), MqttLink(as_robot(broker), CLOCK)
        await within(first.ready())
        await within(link.ready())
        await link.send(b"once", MARKS)
        await first.aclose()
        later = Played()
        second = consumer(broker, later)
        await within(second.ready())
        await link.send(b"twice", MARKS)
        assert [content for _, _, content, _ in later.taken] == [b"twice"]
        await link.aclose()
        await second.aclose()

    play(story())


def test_a_database_that_fails_for_a_while_loses_nothing(broker: Broker) -> None:
    async def story() -> None:
        said: list[str] = []
        ingest = Played(fails=2)
        serving = Consumer(as_backend(broker), ingest, KEY, CLOCK, say=said.append)
        link = MqttLink(as_robot(broker), CLOCK)
        await within(serving.ready())
        await within(link.ready())
        assert await link.send(b"x", MARKS) == Acked(b"ack of x", MARKS)
        assert said == ["billing-1: ingest fails: LedgerFull: the disk is full; make room"] * 2
        await link.aclose()
        await serving.aclose()

    play(story())


def test_what_fails_although_the_database_is_well_is_refused_for_now_and_holds_nobody_up(broker: Broker) -> None:
    async def story() -> None:
        said: list[str] = []
        ingest, late = Played(fails=1, failure=KeyError("role")), list[Incoming]()
        serving = Consumer(as_backend(broker), ingest, KEY, CLOCK, say=said.append)
        robot = Mqtt(as_robot(broker), "r1", CLOCK, ["v1/demo/r1/usage/ack"], confirming(late))
        await within(serving.ready())
        await within(robot.ready())
        await robot.publish("v1/demo/r1/usage/batch", b"poison", b"id")
        await until(lambda: late)
        refusal = wire.read_refusal(late[0].content)
        assert (refusal.code, refusal.retry_after_ms) == ("internal", INTERNAL_WAIT_MS)
        check_signed(late[0].content, late[0].marks, {KEY.key_id: KEY.public}, what="the refusal")
        assert said == ["billing-1: ingest fails: KeyError: 'role'"]
        await serving.aclose()
        later = Played()
        second = consumer(broker, later)
        await within(second.ready())
        await robot.publish("v1/demo/r1/usage/batch", b"good", b"id")
        await until(lambda: later.taken)
        assert [content for _, _, content, _ in later.taken] == [b"good"]
        await robot.aclose()
        await second.aclose()

    play(story())


def test_an_answer_waits_at_the_broker_for_a_robot_that_left(broker: Broker) -> None:
    async def story() -> None:
        ingest, late = Played(), list[Incoming]()
        ingest.open.clear()
        serving = consumer(broker, ingest)
        robot = Mqtt(as_robot(broker), "r1", CLOCK, ["v1/demo/r1/usage/ack"], confirming(late))
        await within(serving.ready())
        await within(robot.ready())
        await robot.publish("v1/demo/r1/usage/batch", b"x", b"id")
        await robot.aclose()
        ingest.open.set()
        await until(lambda: serving.counts["answered"])
        again = Mqtt(as_robot(broker), "r1", CLOCK, ["v1/demo/r1/usage/ack"], confirming(late))
        await within(again.ready())
        await until(lambda: late)
        assert (late[0].content, late[0].correlation) == (b"ack of x", b"id")
        await again.aclose()
        await serving.aclose()

    play(story())


def test_the_answer_goes_to_its_own_robot_wherever_it_asked_for_it(broker: Broker) -> None:
    async def story() -> None:
        heard: dict[str, list[Incoming]] = {"r1": [], "r2": []}
        serving = consumer(broker, Played())
        robots = {name: Mqtt(as_robot(broker, name), name, CLOCK, [f"v1/demo/{name}/usage/ack"], confirming(heard[name])) for name in heard}
        everyone: list[Consumer | Mqtt] = [serving, *robots.values()]
        for one in everyone:
            await within(one.ready())
        await robots["r1"].publish("v1/demo/r1/usage/batch", b"x", b"id", response="v1/demo/r2/usage/ack")
        await until(lambda: heard["r1"])
        await robots["r2"].publish("v1/demo/r2/usage/batch", b"y", b"z" * (CORRELATION_BYTES_MAX + 1))
        await until(lambda: heard["r2"])
        assert [(came.content, came.correlation) for came in heard["r1"]] == [(b"ack of x", b"id")]
        assert [(came.content, came.correlation) for came in heard["r2"]] == [(b"ack of y", b"")]
        for one in everyone:
            await one.aclose()

    play(story())


@pytest.mark.parametrize("how", ["restart", "kill", "forget"])
def test_consumers_outlive_their_broker(broker: Broker, how: str) -> None:
    async def story() -> None:
        ingest = Played()
        serving, link = consumer(broker, ingest), MqttLink(as_robot(broker), CLOCK)
        await within(serving.ready())
        await within(link.ready())
        getattr(broker, how)()
        broker.start()
        await until(lambda: (serving.connections, link.connections) == (2, 2))
        assert await link.send(b"x", MARKS) == Acked(b"ack of x", MARKS)
        await link.aclose()
        await serving.aclose()

    play(story())


def test_run_ends_in_peace_when_cancelled_and_finishes_what_it_began(broker: Broker) -> None:
    async def story() -> None:
        ingest = Played()
        ingest.open.clear()
        serving, link = consumer(broker, ingest), MqttLink(as_robot(broker), CLOCK)
        running = asyncio.ensure_future(serving.run())
        await within(serving.ready())
        await within(link.ready())
        sent = asyncio.ensure_future(link.send(b"x", MARKS))
        await until(lambda: ingest.begun)
        running.cancel()
        await asyncio.sleep(0)
        ingest.open.set()
        assert await sent == Acked(b"ack of x", MARKS)
        with pytest.raises(asyncio.CancelledError):
            await running
        assert not serving.up
        await link.aclose()

    play(story())
