"""What comes after each kind of break, on a real mosquitto: of the network, the broker, paho, a certificate."""

import asyncio
import ctypes
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from agent.contract import certificates, wire
from agent.link.mqtt import MqttLink, steady
from agent.link.mqtt.message import LOST
from agent.link.mqtt.steady import FIRST_MS, Mqtt
from agent.ports import Acked, LinkSettings, Retry
from agent.sim.real.broker import Broker
from tests.link.mqtt_helpers import CLOCK, MARKS, Backend, as_backend, as_robot, confirming, live, play, until, within


@pytest.fixture
def broker(tmp_path: Path) -> Any:
    with Broker(tmp_path / "broker") as running:
        yield running


def kill_thread(mqtt: Mqtt) -> None:
    """As #894 of paho: the thread ends and says nothing."""
    welcome = live(mqtt).welcome
    assert welcome is not None
    assert welcome.thread.ident is not None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(welcome.thread.ident), ctypes.py_object(SystemExit))


def test_100_mb_are_cut_off_and_the_broker_lives(broker: Broker) -> None:
    async def story() -> None:
        robot = Mqtt(as_robot(broker), "r1", CLOCK, [], lambda _: None)
        backend = Mqtt(as_backend(broker), "b", CLOCK, [wire.EVERY_BATCH], lambda _: None)
        await within(robot.ready())
        await within(backend.ready())
        connection = live(robot)
        assert connection.welcome is not None
        connection.welcome = connection.welcome._replace(packet_bytes_max=2**28)
        verdict = await robot.publish("v1/demo/r1/usage/batch", bytes(100_000_000))
        assert verdict.code == LOST
        await until(lambda: robot.connections == 2)
        assert broker.running
        await robot.aclose()
        await backend.aclose()

    play(story())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # it is killed on purpose
@pytest.mark.parametrize("how", ["restart", "kill", "forget", "thread", "cut"])
def test_after_every_kind_of_break_it_comes_back(broker: Broker, how: str) -> None:
    async def story() -> None:
        backend, link = Backend(broker), MqttLink(as_robot(broker), CLOCK)
        await within(backend.mqtt.ready())
        await within(link.ready())
        assert isinstance(await link.send(b"x", MARKS), Acked)
        if how == "thread":
            kill_thread(link._mqtt)
        elif how == "cut":
            sock = live(link._mqtt)._client.socket()
            socket.socket.shutdown(sock, socket.SHUT_RDWR)  # type: ignore[arg-type]  # paho's own word for a socket
        else:
            getattr(broker, how)()
            broker.start()
        await until(lambda: link.connections == 2)
        await until(lambda: backend.mqtt.up)
        assert link.problem != "not connected yet"
        assert isinstance(await link.send(b"y", MARKS), Acked)
        await link.aclose()
        await backend.aclose()

    play(story())


def test_while_the_broker_is_away_nothing_is_kept_to_leave_later(broker: Broker) -> None:
    async def story() -> None:
        backend, link = Backend(broker), MqttLink(as_robot(broker), CLOCK)
        await within(backend.mqtt.ready())
        await within(link.ready())
        broker.stop()
        await until(lambda: not link.up)
        assert isinstance(await link.send(b"ghost", MARKS), Retry)
        broker.start()
        await until(lambda: link.up and backend.mqtt.up)
        assert isinstance(await link.send(b"x", MARKS), Acked)
        assert [message.content for message in backend.heard] == [b"x"]
        await link.aclose()
        await backend.aclose()

    play(story())


def test_no_more_than_eight_are_inside_paho_and_who_gives_up_makes_no_room(broker: Broker) -> None:
    async def story() -> None:
        robot = Mqtt(as_robot(broker), "r1", CLOCK, [], lambda _: None)
        await within(robot.ready())
        connection = live(robot)
        connection._client.on_publish = lambda *_: None  # no PUBACK is ever heard
        sends = [asyncio.ensure_future(robot.publish("v1/demo/r1/usage/batch", b"x")) for _ in range(20)]
        await until(lambda: len(connection._pending) == wire.INFLIGHT_MAX)
        for send in sends[:10]:
            send.cancel()
        await asyncio.sleep(0.05)
        assert len(connection._pending) == wire.INFLIGHT_MAX
        connection.end("over")
        assert {verdict.code for verdict in await asyncio.gather(*sends[10:])} == {LOST}
        await robot.aclose()

    play(story())


@pytest.mark.parametrize(("named", "said"), [("other authority", "hangs up"), ("none", "hangs up"), ("server", "verify failed")])
def test_a_wrong_certificate_never_connects_and_says_why(broker: Broker, tmp_path: Path, named: str, said: str) -> None:
    settings = as_robot(broker)
    other = certificates.authority("other", CLOCK.utc(), 2)
    made = certificates.issue(other, "demo/r1", CLOCK.utc(), 2)
    (tmp_path / "own.pem").write_bytes(made.certificate + made.key)
    authority, certificate, key = settings.authority, settings.certificate, settings.key
    if named == "server":
        authority = other.certificate.decode()
    else:
        certificate, key = (tmp_path / "own.pem" if named == "other authority" else None), None

    async def story() -> None:
        link = MqttLink(LinkSettings("demo", "r1", settings.host, settings.port, authority, certificate, key), CLOCK)
        with suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                await link.ready()
        await until(lambda: link.problem != "not connected yet")
        assert (link.up, link.connections) == (False, 0)
        assert "\n" not in link.problem
        assert said in link.problem
        await link.aclose()

    play(story())


@pytest.mark.parametrize(("steady_s", "ceiling_ms"), [(steady.STEADY_S, 4 * FIRST_MS), (0.0, 2 * FIRST_MS)])
def test_two_with_one_identity_throw_each_other_out_more_and_more_rarely_unless_it_lasts(
    broker: Broker, monkeypatch: pytest.MonkeyPatch, steady_s: float, ceiling_ms: int
) -> None:
    monkeypatch.setattr(steady, "STEADY_S", steady_s)

    async def story() -> None:
        robots = [Mqtt(as_robot(broker), "r1", CLOCK, [], confirming([])) for _ in range(2)]
        for robot in robots:
            robot.start()
        await until(lambda: all(robot.connections >= 3 for robot in robots))
        assert min(robot._backoff._ceiling_ms for robot in robots) >= ceiling_ms
        assert any(robot._backoff._ceiling_ms == 2 * FIRST_MS for robot in robots) == (steady_s == 0)
        assert robots[0].problem == "the other side closed the connection"
        for robot in robots:
            await robot.aclose()

    play(story())


def test_leaving_while_it_still_dials_leaves_nothing_behind(broker: Broker) -> None:
    async def story() -> None:
        for pause in (0.0, 0.001, 0.003, 0.006):
            link = Mqtt(as_robot(broker), "r1", CLOCK, ["v1/demo/r1/usage/ack"], confirming([]))
            link.start()
            await asyncio.sleep(pause)
            await link.aclose()

    play(story())


def test_a_host_nobody_answers_at_is_a_problem_in_one_line() -> None:
    async def story() -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            link = MqttLink(LinkSettings("demo", "r1", "127.0.0.1", taken.getsockname()[1], plain=True), CLOCK)
            assert isinstance(await link.send(b"x", MARKS), Retry)
            await until(lambda: "refused" in link.problem)
            await link.aclose()

    play(story())
