"""Who steers a robot reaches it over a real mosquitto: wills and births, commands that waited, twins that are kept."""

import asyncio
import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from agent.contract import wire
from agent.contract.fleet.presence import read_presence
from agent.fleet.presence import Facts, Taken
from agent.fleet.presence import Presence as Telling
from agent.link.mqtt import FULL, MqttLink
from agent.ports import Acked, Refused, Steering
from agent.sim.real.broker import Broker
from tests.link.mqtt_helpers import CLOCK, MARKS, Backend, as_robot, live, play, until, within
from tests.link.steered import ROBOT, Operator, Steered, cut

COMMAND = ROBOT + "cmd/req/c-1"


@pytest.fixture
def broker(tmp_path: Path) -> Any:
    with Broker(tmp_path / "broker") as running:
        yield running


def test_what_steers_comes_from_its_own_topics_and_acks_still_find_their_question(broker: Broker) -> None:
    async def story() -> None:
        robot, operator, backend = Steered(broker), Operator(broker), Backend(broker)
        await within(backend.mqtt.ready())
        await within(robot.link.ready())
        for what in ("cmd/req/c-1", "twin/desired", "time/att", "usage/lease"):
            await operator.send(ROBOT + what, what.encode())
        await until(lambda: len(robot.got) == 4)
        assert robot.told == [(what, what.encode(), False) for what in ("cmd/req/c-1", "twin/desired", "time/att", "usage/lease")]
        assert await robot.link.send(b"x", MARKS) == Acked(b"ack", MARKS)
        assert (robot.connects, robot.link.dropped, robot.failed) == (1, 0, [])
        for closing in (robot.link, operator.mqtt, backend):
            await closing.aclose()

    play(story())


def test_a_command_waits_while_the_robot_is_connected_without_steering(broker: Broker) -> None:
    async def story() -> None:
        steered, operator, backend = Steered(broker), Operator(broker), Backend(broker)
        await within(backend.mqtt.ready())
        await within(steered.link.ready())
        await steered.link.aclose()
        await operator.send(COMMAND, b"while away")
        link = MqttLink(as_robot(broker), CLOCK)  # in the same session, subscriptions of before included
        await within(link.ready())
        await operator.send(COMMAND, b"meanwhile")
        await operator.send(ROBOT + "time/att", b"x")
        await until(lambda: link.dropped == 1)
        assert await link.send(b"x", MARKS) == Acked(b"ack", MARKS)
        await link.aclose()
        assert steered.got == []
        again = Steered(broker)
        await within(again.link.ready())
        await until(lambda: len(again.got) == 2)
        assert [one.content for one in again.got] == [b"while away", b"meanwhile"]
        for closing in (again.link, operator.mqtt, backend):
            await closing.aclose()

    play(story())


def test_behind_too_many_commands_that_wait_nobody_waits_for_an_answer(broker: Broker) -> None:
    async def story() -> None:
        steered, operator, backend = Steered(broker), Operator(broker), Backend(broker, silent=True)
        await within(backend.mqtt.ready())
        await within(steered.link.ready())
        await steered.link.aclose()
        link = MqttLink(as_robot(broker), CLOCK)
        await within(link.ready())
        asked = asyncio.create_task(link.send(b"x", MARKS))
        await until(lambda: backend.heard)
        for number in range(wire.RECEIVE_MAX + 4):
            await operator.send(f"{ROBOT}cmd/req/c-{number}", b"x")
        assert await asked == FULL
        assert await link.mark("e" * 32, "n" * 32) == FULL
        assert len(backend.heard) == 1
        await link.aclose()
        again = Steered(broker)
        await within(again.link.ready())
        await until(lambda: len(again.got) == wire.RECEIVE_MAX + 4)
        for closing in (again.link, operator.mqtt, backend):
            await closing.aclose()

    play(story())


def test_a_command_waits_for_a_robot_that_is_away_and_comes_once_if_it_is_confirmed(broker: Broker) -> None:
    async def story() -> None:
        first, operator = Steered(broker), Operator(broker)
        await within(first.link.ready())
        await first.link.aclose()
        await operator.send(COMMAND, b"while away")
        second = Steered(broker)
        await within(second.link.ready())
        await until(lambda: second.got)
        await second.link.aclose()
        third = Steered(broker)
        await within(third.link.ready())
        await operator.send(COMMAND, b"the next")
        await until(lambda: third.got)
        assert second.told == [("cmd/req/c-1", b"while away", False)]
        assert third.told == [("cmd/req/c-1", b"the next", False)]
        await third.link.aclose()
        await operator.mqtt.aclose()

    play(story())


def test_a_command_that_nobody_confirmed_comes_again_with_the_next_connection(broker: Broker) -> None:
    async def story() -> None:
        robot, operator = Steered(broker, confirming=False), Operator(broker)
        await within(robot.link.ready())
        await operator.send(COMMAND, b"x")
        await until(lambda: len(robot.got) == 1)
        cut(robot.link._mqtt)
        await until(lambda: len(robot.got) == 2)
        assert (robot.connects, robot.link.connections) == (2, 2)
        robot.got[0].confirm()  # of a connection that is over: says nothing about the message that came now
        cut(robot.link._mqtt)
        await until(lambda: len(robot.got) == 3)
        robot.got[2].confirm()
        robot.got[2].confirm()
        await operator.send(COMMAND, b"y")
        await until(lambda: len(robot.got) == 4)
        assert [one.content for one in robot.got] == [b"x", b"x", b"x", b"y"]
        await robot.link.aclose()
        await operator.mqtt.aclose()

    play(story())


def test_a_twin_is_kept_for_every_connection_and_a_kept_command_is_known_as_one(broker: Broker) -> None:
    async def story() -> None:
        robot, operator = Steered(broker), Operator(broker)
        await operator.send(ROBOT + "twin/desired", b"v1", retained=True)
        await operator.send(COMMAND, b"kept before", retained=True)
        await within(robot.link.ready())
        await until(lambda: robot.got)
        assert robot.told == [("twin/desired", b"v1", True)]
        await operator.send(COMMAND, b"kept now", retained=True)
        await operator.send(ROBOT + "twin/desired", b"v2", retained=True)
        await until(lambda: len(robot.got) == 3)
        assert robot.told[1:] == [("cmd/req/c-1", b"kept now", True), ("twin/desired", b"v2", True)]
        assert await robot.link.post("event/x", b"") is None  # answered after the confirmations were read: none comes again
        cut(robot.link._mqtt)
        await until(lambda: len(robot.got) == 4)
        assert robot.told[3] == ("twin/desired", b"v2", True)
        await robot.link.aclose()
        await operator.mqtt.aclose()

    play(story())


@pytest.mark.parametrize("end", ["cut", "cancelled", "stuck", "closed"])
def test_a_will_is_published_unless_the_robot_leaves_in_peace(broker: Broker, end: str) -> None:
    async def story() -> None:
        asked: list[bytes] = []

        def will() -> tuple[str, bytes]:
            asked.append(b"will %d" % (len(asked) + 1))
            return wire.PRESENCE, asked[-1]

        robot, operator = Steered(broker, will=will), Operator(broker)
        await within(operator.mqtt.ready())
        await within(robot.link.ready())
        assert asked == [b"will 1"]
        if end == "closed":
            assert await robot.link.post(wire.PRESENCE, b"goodbye", retained=True) is None
            await robot.link.aclose()
        elif end == "cancelled":
            keeper = robot.link._mqtt._keeper
            assert keeper is not None
            keeper.cancel()
        elif end == "stuck":
            live(robot.link._mqtt).end("no PUBACK")
        else:
            cut(robot.link._mqtt)
        expected = b"goodbye" if end == "closed" else b"will 1"
        await until(lambda: operator.last(wire.PRESENCE) == expected)
        if end in ("cut", "stuck"):
            await until(lambda: robot.connects == 2)
            assert asked == [b"will 1", b"will 2"]
        await robot.link.aclose()
        late = Operator(broker, "late")
        await within(late.mqtt.ready())
        await until(lambda: late.last(wire.PRESENCE))  # kept
        assert late.last(wire.PRESENCE) == expected
        await late.mqtt.aclose()
        await operator.mqtt.aclose()

    play(story())


def test_a_fault_in_what_takes_a_message_or_gives_a_will_costs_no_connection(broker: Broker) -> None:
    def broken() -> tuple[str, bytes]:
        raise RuntimeError("a fault")

    async def story() -> None:
        robot, operator = Steered(broker, will=broken), Operator(broker)
        await within(robot.link.ready())
        taking, robot.got = robot.got, None  # type: ignore[assignment]  # so that it stumbles
        await operator.send(COMMAND, b"x")
        await until(lambda: robot.failed)
        robot.got = taking
        await operator.send(COMMAND, b"y")
        await until(lambda: robot.got)
        assert (robot.told, robot.connects) == ([("cmd/req/c-1", b"y", False)], 1)
        assert await robot.link.post("event/x", b"") is None  # answered after the confirmations were read
        cut(robot.link._mqtt)
        await until(lambda: robot.connects == 2)
        await operator.send(COMMAND, b"z")
        await until(lambda: robot.got[-1].content == b"z")
        assert [one.content for one in robot.got] == [b"y", b"z"]
        assert robot.failed[0].startswith("a message on 'cmd/req/c-1' is lost here: AttributeError")
        await robot.link.aclose()
        await operator.mqtt.aclose()

    play(story())


@pytest.mark.parametrize(("topic", "refused"), [(wire.BIRTH, False), ("../r2/event/x", True), ("event/#", True)])
def test_what_may_never_leave_is_told_apart_from_what_may_not_now(broker: Broker, topic: str, refused: bool) -> None:
    async def story() -> None:
        link = MqttLink(dataclasses.replace(as_robot(broker), device="r2" if refused and "#" not in topic else "r1"), CLOCK)
        assert await link.post("event/x", b"1") is not None
        await within(link.ready())
        answer = await link.post(topic, b"1")
        assert isinstance(answer, Refused) == refused
        assert (answer is None) == (not refused)
        too_big = await link.post("event/x", bytes(1 << 20))
        assert isinstance(too_big, Refused)
        assert too_big.code == "too-big"
        await link.aclose()

    play(story())


def test_a_robot_that_is_killed_is_absent_and_present_again_when_it_is_back(broker: Broker) -> None:
    async def taken() -> Taken:
        return Taken({}, [])

    async def story() -> None:
        operator = Operator(broker)
        await within(operator.mqtt.ready())
        facts = Facts("demo/r1", "1", "kiosk", (), groups=list, reported=bytes, taken=taken)
        for boot in (1, 2):
            telling = Telling(facts, CLOCK, boot=boot)
            steering = Steering(will=telling.will, connected=telling.connected)
            link = MqttLink(dataclasses.replace(as_robot(broker), steering=steering), CLOCK)
            running = asyncio.create_task(telling.run(link))
            await within(link.ready())
            await until(partial(operator.sees_connection, boot, 1))
            cut(link._mqtt)
            await until(partial(operator.sees_connection, boot, 2))
            assert "lost" in [read_presence(one.content).why for one in operator.heard if one.topic.endswith(wire.PRESENCE)]
            if boot == 1:
                keeper = link._mqtt._keeper
                assert keeper is not None
                keeper.cancel()  # no goodbye
            else:
                await telling.goodbye(link, "stopped")
            await until(lambda: not operator.sees)
            running.cancel()
            await link.aclose()
        assert read_presence(operator.last(wire.PRESENCE)).why == "stopped"
        await operator.mqtt.aclose()

    play(story())
