"""The real broker as a part of the simulation: what it remembers, whom it lets in, how it fails."""

import asyncio
import socket
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.clock import SystemClock
from agent.errors import BadInput, MissingPart, NoLink
from agent.link.mqtt.message import Incoming, Verdict
from agent.link.mqtt.steady import Mqtt
from agent.sim.real import broker as module
from agent.sim.real.broker import ANSWERS, HOST, SAVE_S, Broker
from tests.link.mqtt_helpers import as_backend, as_robot, confirming, live, until, within

CLOCK = SystemClock()
BATCH, ACK = "v1/demo/r1/usage/batch", "v1/demo/r1/usage/ack"
OTHERS = (
    "v1/demo/r2/usage/batch",
    "v1/other/r1/usage/batch",
    "v1/demo/r1x/usage/batch",
    "v1/demo",
    "v1",
    "elsewhere",
    "$SYS/x",
)


def play(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(story, 60))


def robot(broker: Broker, heard: list[Incoming], device: str = "r1") -> Mqtt:
    return Mqtt(as_robot(broker, device), device, CLOCK, [f"v1/demo/{device}/usage/ack"], confirming(heard))


def backend(broker: Broker) -> Mqtt:
    return Mqtt(as_backend(broker), "b", CLOCK, [], confirming([]))


async def queue_an_answer(broker: Broker) -> None:
    """For a robot that is away."""
    away = robot(broker, [])
    await within(away.ready())
    await away.aclose()
    sender = backend(broker)
    await within(sender.ready())
    assert await sender.publish(ACK, b"kept") == Verdict(0, "Success")
    await sender.aclose()


@pytest.mark.parametrize(("how", "kept"), [("restart", True), ("kill", True), ("forget", False)])
def test_it_remembers_what_it_saved_until_it_is_made_to_forget(tmp_path: Path, how: str, kept: bool) -> None:
    async def story(broker: Broker) -> None:
        await queue_an_answer(broker)
        if how == "kill":
            await asyncio.sleep(2.5 * SAVE_S)
        getattr(broker, how)()
        assert broker.running == (how == "restart")
        broker.start()
        heard: list[Incoming] = []
        back = robot(broker, heard)
        await within(back.ready())
        welcome = live(back).welcome
        assert welcome is not None
        assert welcome.session_present == kept
        if kept:
            await until(lambda: heard)
        await back.aclose()
        assert [message.content for message in heard] == [b"kept"] * kept

    with Broker(tmp_path / "b") as broker:
        port = broker.port
        play(story(broker))
        assert broker.port == port


def test_a_robot_has_its_own_subtree_and_no_other(tmp_path: Path) -> None:
    async def story(broker: Broker) -> None:
        heard: list[Incoming] = []
        one, sender = robot(broker, []), backend(broker)
        spy = Mqtt(as_robot(broker, "spy"), "spy", CLOCK, ["v1/demo/#", "#", "$share/billing/v1/+/+/usage/batch"], confirming(heard))
        for mqtt in (one, sender, spy):
            await within(mqtt.ready())
        assert (await one.publish(BATCH, b"x")).code < 0x80
        for other in (
            "v1/demo/r2/usage/batch",
            "v1/other/r1/usage/batch",
            "v1/demo/r1x/usage/batch",
            "v1/demo",
            "v1",
            "elsewhere",
            "$SYS/x",
        ):
            assert await one.publish(other, b"x") == Verdict(0x87, "Not authorized")
        await sender.publish(ACK, b"secret")
        await sender.publish("v1/demo/spy/usage/ack", b"its own")
        await until(lambda: heard)
        assert {message.topic for message in heard} == {"v1/demo/spy/usage/ack"}
        for mqtt in (one, sender, spy):
            await mqtt.aclose()

    with Broker(tmp_path / "b") as broker:
        play(story(broker))


def test_the_backend_answers_and_does_not_speak_for_robots(tmp_path: Path) -> None:
    async def story(broker: Broker) -> None:
        sender = backend(broker)
        await within(sender.ready())
        for what in ANSWERS:
            assert (await sender.publish(f"v1/demo/r1/{what.replace('+', 'c1')}", b"x")).code < 0x80
        assert (await sender.publish(BATCH, b"x")).code == 0x87
        await sender.aclose()

    with Broker(tmp_path / "b") as broker:
        play(story(broker))


@pytest.mark.parametrize("name", ["", "a" * 65, "demo/+", "demo/#"])
def test_a_name_that_would_open_more_or_has_no_room_gets_no_certificate(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInput, match="can't stand in a certificate"):
        Broker(tmp_path).client(name)


def test_an_operator_who_is_not_on_its_list_gets_no_certificate(tmp_path: Path) -> None:
    broker = Broker(tmp_path, operators=["operator/alice"])
    broker.client("operator/alice")
    with pytest.raises(BadInput, match="knows no operator/bob"):
        broker.client("operator/bob")


def test_robots_have_a_door_where_they_are_called_as_their_certificate_says(tmp_path: Path) -> None:
    async def story() -> None:
        with Broker(tmp_path / "b") as broker:
            ids = ("one", "other")
            by_name = [Mqtt(replace(as_robot(broker), port=broker.robots_port), id_, CLOCK, ["x"], confirming([])) for id_ in ids]
            for one in by_name:
                await within(one.ready())
            await until(lambda: not by_name[0].up)  # the second took its place
            for one in by_name:
                await one.aclose()

    play(story())


def test_a_port_that_is_taken_is_said(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        with pytest.raises(NoLink, match="does not start"):
            Broker(tmp_path, taken.getsockname()[1]).start()


def test_where_any_port_will_do_it_takes_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        ports, free = [taken.getsockname()[1]], module.free_port
        monkeypatch.setattr(module, "free_port", lambda: ports.pop() if ports else free())
        with Broker(tmp_path) as broker:
            assert broker.running
            assert broker.port != taken.getsockname()[1]
    assert not broker.running


def test_without_mosquitto_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    Broker(tmp_path / "found")  # in /usr/sbin all the same
    monkeypatch.setattr(module, "ELSEWHERE", str(tmp_path))
    with pytest.raises(MissingPart, match="install the Debian package"):
        Broker(tmp_path / "missing")
