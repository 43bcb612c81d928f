"""The fleet over a real mosquitto: what robots tell is committed, answered and then confirmed, and a flood takes no batch's place."""

import asyncio
import contextlib
import hashlib
import hmac
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pytest

from agent.billing.fleet import Fleet
from agent.billing.fleet.tables import EVENT
from agent.billing.mqtt import Consumer
from agent.billing.mqtt.fleet import FILTERS, FleetConsumer
from agent.billing.operate import handed_over
from agent.billing.serve import Ready, Settings, broker_at, serve
from agent.contract import wire
from agent.contract.registration import SignedTime, time_message
from agent.contract.signing import decode, verify
from agent.errors import LedgerFull
from agent.link import account
from agent.link.mqtt import MqttLink
from agent.link.webhook import ID_HEADER, SIGNATURE_HEADER
from agent.ports import UNHEARD, Acked, Delivered, LinkSettings, Refused, Steering
from agent.sim.real.broker import BACKEND, HOST, Broker
from tests.billing.helpers import BACKEND_KEY, KEY, NAME, TENANT, Backend, Robot
from tests.billing.test_fleet import CMD, DEVICE, GARBAGE, HANDOFF, Wanted, birth, raised, reported, result
from tests.billing.test_mqtt import Played
from tests.link.helpers import Play, PlayedServer, written
from tests.link.mqtt_helpers import CLOCK, MARKS, as_backend, as_robot, live, play, until, within


@pytest.fixture
def broker(tmp_path: Path) -> Any:
    with Broker(tmp_path / "broker") as running:
        yield running


class World:
    """A backend with a fleet's book, a consumer of it, and a robot."""

    def __init__(self, broker: Broker, folder: Path) -> None:
        self.broker = broker
        self.backend = Backend(folder / "books")
        self.fleet = Fleet(self.backend.store, BACKEND_KEY, CLOCK, twins=Wanted())
        self.events, self.state = (FleetConsumer(as_backend(broker), self.fleet, CLOCK, part) for part in FILTERS)
        self.heard: list[Delivered] = []
        self.robot = MqttLink(self.settings(), CLOCK)

    def settings(self) -> LinkSettings:
        found = as_robot(self.broker, NAME, TENANT)
        told = {name: getattr(found, name) for name in ("tenant", "device", "host", "port", "authority", "certificate", "key")}
        return LinkSettings(**told, steering=Steering(delivered=self._delivered))

    def _delivered(self, message: Delivered) -> None:
        self.heard.append(message)
        message.confirm()

    async def __aenter__(self) -> "World":
        await self.backend.register()
        for one in (self.events, self.state, self.robot):
            await within(one.ready())
        return self

    @property
    def counts(self) -> Counter[str]:
        return self.events.counts + self.state.counts

    async def __aexit__(self, *_: object) -> None:
        await self.robot.aclose()
        await self.events.aclose()
        await self.state.aclose()
        await self.backend.aclose()


def test_a_birth_is_answered_and_the_twin_is_kept_by_the_broker(broker: Broker, tmp_path: Path) -> None:
    async def story() -> None:
        async with World(broker, tmp_path) as world:
            assert await world.robot.post(wire.BIRTH, birth(), retained=True) is None
            await until(lambda: len(world.heard) == 2)
            told = {one.topic: one for one in world.heard}
            time = SignedTime.model_validate_json(told[wire.TIME].content)
            assert verify(BACKEND_KEY.public, time_message("n-1", time.time), decode(time.signature))
            assert told[wire.DESIRED].content == f"twin of {DEVICE}".encode()
            assert told[wire.DESIRED].retained
            await world.robot.post(wire.REPORTED, reported(3), retained=True)
            await until(lambda: world.counts == Counter(taken=2, answered=2))
            world.heard.clear()
            await world.robot.aclose()
            world.robot = MqttLink(world.settings(), CLOCK)
            await within(world.robot.ready())
            await until(lambda: world.heard)
            assert [one.topic for one in world.heard] == [wire.DESIRED]

    play(story())


def test_events_and_results_are_on_the_books_when_they_are_confirmed(broker: Broker, tmp_path: Path) -> None:
    async def story() -> None:
        async with World(broker, tmp_path) as world:
            for _ in range(2):
                await world.robot.post("event/handoff", HANDOFF)
                await world.robot.post(f"cmd/res/{CMD}", result())
            await until(lambda: world.counts["taken"] == 4)
            assert sorted(name for (name,) in await world.backend.rows(EVENT, "name")) == ["handoff", "result"]

    play(story())


def test_garbage_strangers_and_noise_are_counted_and_confirmed(broker: Broker, tmp_path: Path) -> None:
    async def story() -> None:
        async with World(broker, tmp_path) as world:
            listened = [one for one in GARBAGE if one[0].split("/")[0] in ("event", "cmd", "state") or one[0] == wire.REPORTED]
            listened = [one for one in listened if one[0] != "event"]
            stranger = MqttLink(as_robot(broker, "stranger", TENANT), CLOCK)
            await within(stranger.ready())
            for what, content in listened * 2:  # more than the receive maximum
                await world.robot.post(what, content)
            await world.robot.post("event/handoff", HANDOFF, retained=True)
            await stranger.post("event/handoff", HANDOFF)
            live(world.robot._mqtt)._client.publish(f"v1/{TENANT}/{NAME}/event/handoff", b"no json", qos=0)
            await world.robot.post("event/handoff", HANDOFF)
            expected = Counter(taken=1, garbage=2 * len(listened) + 2, unknown=1)
            await until(lambda: world.counts == expected)
            assert (world.events.connections, world.state.connections) == (1, 1)
            await stranger.aclose()

    play(story())


def test_a_flood_of_events_takes_no_batch_its_place(broker: Broker, tmp_path: Path) -> None:
    async def story() -> None:
        async with World(broker, tmp_path) as world:
            ingest = Played()
            batches = Consumer(as_backend(broker), ingest, KEY, CLOCK)
            good = MqttLink(as_robot(broker, "good", TENANT), CLOCK)
            for one in (batches, good):
                await within(one.ready())
            flooding = live(world.robot._mqtt)._client
            for number in range(3000):
                flooding.publish(f"v1/{TENANT}/{NAME}/event/x", b'{"n":%d}' % number, qos=1)
            answers = [await good.send(b"batch %d" % number, MARKS) for number in range(50)]
            assert all(isinstance(one, Acked) for one in answers)
            assert world.counts["taken"] < 3000  # the flood was not over, and nobody had waited for it
            for one in (good, batches):
                await one.aclose()

    play(story())


class Failing:
    """A fleet's book that the disk refuses some times."""

    def __init__(self, failures: int, failure: Exception) -> None:
        self.failures, self.failure, self.taken = failures, failure, list[bytes]()

    async def hear(self, tenant: str, device: str, what: str, content: bytes, *, retained: bool = False) -> list[Any]:
        assert tenant
        assert device
        assert what
        assert not retained
        if self.failures:
            self.failures -= 1
            raise self.failure
        self.taken.append(content)
        return []


def test_what_the_database_refuses_is_tried_until_it_does_not(broker: Broker) -> None:
    async def story() -> None:
        fleet = Failing(2, LedgerFull("the disk is full", "make room"))
        consumer, robot = FleetConsumer(as_backend(broker), fleet, CLOCK, "events"), MqttLink(as_robot(broker), CLOCK)
        for one in (consumer, robot):
            await within(one.ready())
        await robot.post("event/x", b"{}")
        await until(lambda: fleet.taken)
        assert consumer.counts == Counter(failed=2, taken=1)
        await robot.aclose()
        await consumer.aclose()

    play(story())


def test_what_was_not_committed_comes_again_to_the_next_consumer(broker: Broker) -> None:
    async def story() -> None:
        dead, later = Failing(10**6, LedgerFull("the disk is full", "make room")), Failing(0, KeyError())
        first, robot = FleetConsumer(as_backend(broker), dead, CLOCK, "events"), MqttLink(as_robot(broker), CLOCK)
        for one in (first, robot):
            await within(one.ready())
        await robot.post("event/x", b"{}")
        await until(lambda: first.counts["failed"])
        for task in first._open:
            task.cancel()
        await first.aclose()
        second = FleetConsumer(as_backend(broker), later, CLOCK, "events")
        await within(second.ready())
        await until(lambda: later.taken)
        await robot.aclose()
        await second.aclose()

    play(story())


def test_an_event_of_the_time_between_a_broker_s_restart_and_the_backend_s_return_is_heard(broker: Broker) -> None:
    async def story() -> None:
        fleet = Failing(0, KeyError())
        for _ in range(2):  # as a session that is there already
            consumer = FleetConsumer(as_backend(broker), fleet, CLOCK, "events")
            await within(consumer.ready())
            await consumer.aclose()
        broker.restart()
        robot = MqttLink(as_robot(broker), CLOCK)
        await within(robot.ready())
        assert await robot.post("event/x", b"{}") is None
        consumer = FleetConsumer(as_backend(broker), fleet, CLOCK, "events")
        await within(consumer.ready())
        await until(lambda: fleet.taken)
        await robot.aclose()
        await consumer.aclose()

    play(story())


def test_an_event_for_a_backend_the_broker_never_saw_is_refused_for_now(broker: Broker) -> None:
    async def story() -> None:
        robot = MqttLink(as_robot(broker), CLOCK)
        await within(robot.ready())
        answer = await robot.post("event/x", b"{}")
        assert isinstance(answer, Refused)
        assert answer.code == UNHEARD
        assert await robot.post(wire.BIRTH, birth(), retained=True) is None
        await robot.aclose()

    play(story())


def test_a_message_that_fails_although_the_database_is_well_holds_nobody_up(broker: Broker) -> None:
    async def story() -> None:
        said: list[str] = []
        fleet = Failing(20, KeyError("role"))
        consumer = FleetConsumer(as_backend(broker), fleet, CLOCK, "events", say=said.append)
        robot = MqttLink(as_robot(broker), CLOCK)
        for one in (consumer, robot):
            await within(one.ready())
        for number in range(21):
            await robot.post("event/x", b'{"n":%d}' % number)
        await until(lambda: fleet.taken)
        assert (consumer.counts["given-up"], said[0]) == (20, "billing-events: the fleet's book fails: KeyError: 'role'")
        await robot.aclose()
        await consumer.aclose()

    play(story())


@contextlib.asynccontextmanager
async def served(settings: Settings) -> Any:
    ready: asyncio.Future[Ready] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(serve(settings, CLOCK, ready.set_result, lambda line: None))
    both: set[asyncio.Future[Any]] = {serving, ready}
    await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    if serving.done():
        await serving
    try:
        yield ready.result()
    finally:
        serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving


SECRET = "0123456789abcdef0123456789abcdef"


def serving(broker: Broker, folder: Path, port: int) -> Settings:
    certificate, key = broker.client(BACKEND)
    (folder / "ca.pem").write_bytes(broker.authority)
    secret = folder / "secret"
    secret.write_text(SECRET + "\n")
    secret.chmod(0o600)
    way = broker_at(f"{HOST}:{broker.port}", folder / "ca.pem", certificate, key)
    address = "http:" + f"//{HOST}:{port}/alarms"
    return Settings(folder / "state", HOST, 0, plain=True, broker=way, webhook=address, webhook_secret=secret)


def test_an_alarm_goes_from_the_robot_to_a_webhook_that_was_dead_over_a_restart_of_the_backend(broker: Broker, tmp_path: Path) -> None:
    async def story() -> None:
        async with PlayedServer([Play(written(500))]) as receiver:
            settings = serving(broker, tmp_path, receiver.port)
            async with served(settings) as ready:
                told = await handed_over(tmp_path / "state", {"op": "token", "tenant": TENANT, "account": "a", "device": NAME, "hours": 1})
                await _register(ready, told["token"])
                robot = MqttLink(as_robot(broker, NAME, TENANT), CLOCK)
                await within(robot.ready())
                await robot.post("event/alarm", raised("fork"))
                await until(lambda: receiver.asked)
                await robot.post("event/alarm", raised("gap"))
                batch = Robot().begin().batch()
                assert not isinstance(await robot.send(batch.content, {}), Acked)  # answered, while the receiver is not well
                await robot.aclose()
            assert {orjson.loads(one.body)["name"] for one in receiver.asked} <= {"fork", "gap"}
            receiver._script[:] = [Play(written(204))]
            before = len(receiver.asked)
            async with served(settings):
                await until(lambda: len(receiver.asked) >= before + 2)
            after = receiver.asked[before:]
            assert sorted(orjson.loads(one.body)["name"] for one in after) == ["fork", "gap"]
            for one in after:
                signed = "sha256=" + hmac.new(SECRET.encode(), one.body, hashlib.sha256).hexdigest()
                assert (one.headers[SIGNATURE_HEADER.lower()], one.headers[ID_HEADER.lower()]) == (signed, orjson.loads(one.body)["id"])

    play(story())


async def _register(ready: Ready, token: str) -> None:
    robot = LinkSettings(TENANT, NAME, ready.host, ready.port, plain=True)
    await account.register(robot, token, KEY)


def test_a_receiver_that_hangs_keeps_no_robot_waiting(broker: Broker, tmp_path: Path) -> None:
    async def story() -> None:
        async with PlayedServer([Play(then="hang")]) as receiver, served(serving(broker, tmp_path, receiver.port)) as ready:
            told = await handed_over(tmp_path / "state", {"op": "token", "tenant": TENANT, "account": "a", "device": NAME, "hours": 1})
            await _register(ready, told["token"])
            robot = MqttLink(as_robot(broker, NAME, TENANT), CLOCK)
            await within(robot.ready())
            await robot.post("event/alarm", raised("fork"))
            await until(lambda: receiver.asked)
            answers = [await robot.mark("a" * 32, f"n-{number}") for number in range(20)]
            assert all(isinstance(one, Acked) for one in answers)
            await robot.aclose()

    play(story())


def test_a_robot_may_not_speak_in_anothers_subtree(broker: Broker) -> None:
    async def story() -> None:
        robot = MqttLink(as_robot(broker, "r1"), CLOCK)
        await within(robot.ready())
        verdict = await robot._mqtt.publish("v1/demo/r2/event/alarm", raised())
        assert not verdict.taken
        assert isinstance(await robot.post(wire.DESIRED, b"x"), Refused)
        await robot.aclose()

    play(story())
