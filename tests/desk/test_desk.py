"""The desk against a real mosquitto and robots that are played."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.cli.fleetscreen import progress_line
from agent.clock import SystemClock
from agent.contract import wire
from agent.contract.fleet import command, presence
from agent.contract.fleet.command import Result
from agent.contract.fleet.presence import Birth, ConnId
from agent.desk import keys
from agent.desk.desk import Desk
from agent.desk.news import News
from agent.desk.ordering import Wish, ordered
from agent.desk.sending import Sending
from agent.desk.settings import DeskSettings
from agent.errors import BadInput, NoLink
from agent.link.mqtt.message import Incoming
from agent.link.mqtt.steady import Mqtt
from agent.sim.real.broker import Broker
from tests.desk.played import Played, desk_settings
from tests.link.mqtt_helpers import as_robot, live, play, until

CLOCK = SystemClock()
LONG_S = 30.0


@pytest.fixture
def broker(tmp_path: Path) -> Any:
    with Broker(tmp_path / "broker", operators=["operator/alice", "operator/bob"]) as running:
        yield running


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "config/operator.key"
    keys.make(path, CLOCK)
    keys._numbers(path).write_text("1\n")
    keys._numbers(path).chmod(0o600)
    return path


@pytest.fixture
def trusted(key_file: Path) -> dict[str, bytes]:
    key = keys.load(key_file)
    return {key.key_id: key.public}


def wish(op: str = "ping", **told: Any) -> Wish:
    return Wish(op, told.pop("args", {}), 600, **told)


def make(desk: Desk, settings: DeskSettings, wanted: Wish) -> Sending:
    return ordered(wanted, "demo", desk.roster, settings.operator_key, CLOCK)


def states(sending: Sending) -> list[str]:
    return [sending.outcome(order)["state"] for order in sending.orders]


async def come(*robots: Played) -> None:
    for robot in robots:
        await robot.come()


async def leave(robots: Sequence[Played]) -> None:
    for robot in robots:
        await robot.aclose()


def test_robots_answer_each_for_itself(broker: Broker, key_file: Path, trusted: dict[str, bytes]) -> None:
    async def story() -> None:
        robots = [Played(broker, name, trusted) for name in ("r1", "r2", "r3")]
        await come(*robots)
        settings = desk_settings(broker, key_file)
        async with Desk(settings, CLOCK) as desk:
            assert [robot.device for robot in desk.roster.known if robot.present] == ["r1", "r2", "r3"]
            sending = make(desk, settings, wish(everyone=True))
            await desk.carry(sending, LONG_S)
            assert states(sending) == ["succeeded"] * 3
            one = make(desk, settings, wish("say", args={"text": "hello"}, devices=("r2",)))
            await desk.carry(one, LONG_S)
            assert (states(one), one.progress().failed) == (["failed"], 1)
        assert len({robot.ran[0].cmd_id for robot in robots}) == 3
        assert [robot.ran[0].aud for robot in robots] == ["demo/r1", "demo/r2", "demo/r3"]
        assert robots[1].ran[0].seq < robots[1].ran[1].seq
        await leave(robots)

    play(story())


def test_a_group_gets_one_command(broker: Broker, key_file: Path, trusted: dict[str, bytes]) -> None:
    async def story() -> None:
        robots = [Played(broker, name, trusted, groups=("lobby",) if name != "r2" else ("spa",)) for name in ("r1", "r2", "r3")]
        await come(*robots)
        settings = desk_settings(broker, key_file)
        async with Desk(settings, CLOCK) as desk:
            sending = make(desk, settings, wish(group="lobby"))
            await desk.carry(sending, LONG_S)
            assert states(sending) == ["succeeded"] * 2
            assert sending.cmd_ids == [robots[0].ran[0].cmd_id] == [robots[2].ran[0].cmd_id]
            assert robots[0].ran[0].aud == "demo/@lobby"
            assert not robots[1].came
            with pytest.raises(BadInput, match="belongs to 'attic'"):
                make(desk, settings, wish(group="attic"))
        await leave(robots)

    play(story())


@pytest.mark.parametrize("clock", ["ntp", "none"])
def test_a_robot_that_is_away_gets_it_when_it_is_back(clock: str, broker: Broker, key_file: Path, trusted: dict[str, bytes]) -> None:
    """Without a clock it wants the nonce of its new connection; nothing signed for the old one is sent to it."""

    async def story() -> None:
        robot = Played(broker, "r1", trusted, clock=clock)
        await robot.come()
        await robot.go()
        settings = desk_settings(broker, key_file)
        async with Desk(settings, CLOCK) as desk:
            assert not desk.roster.robot("r1").present
            sending = make(desk, settings, wish(devices=("r1",)))
            carrying = asyncio.ensure_future(desk.carry(sending, LONG_S))
            await until(lambda: sending.idle)
            assert (states(sending), sending.progress().offline) == (["offline"], 1)
            await robot.come()
            await carrying
            assert states(sending) == ["succeeded"]
        assert len(robot.ran) == 1
        assert {one.session_nonce for one in robot.came} == ({robot.nonce} if clock == "none" else {""})
        assert len({(one.cmd_id, one.seq) for one in robot.came}) == 1
        await robot.aclose()

    play(story())


@pytest.mark.parametrize("lost", [True, False], ids=["lost", "taken"])
def test_a_robot_without_a_clock_that_loses_its_connection(lost: bool, broker: Broker, key_file: Path, trusted: dict[str, bytes]) -> None:
    """What was lost is signed anew for the next connection; what it took before comes again as it was."""

    async def story() -> None:
        robot = Played(broker, "r1", trusted, {"ping": None}, clock="floor")
        robot.deaf = lost
        await robot.come()
        settings = desk_settings(broker, key_file)
        async with Desk(settings, CLOCK) as desk:
            sending = make(desk, settings, wish(devices=("r1",)))
            carrying = asyncio.ensure_future(desk.carry(sending, LONG_S))
            await until(lambda: robot.came)
            old = robot.nonce
            await robot.aclose()
            robot.deaf = False
            robot._answers = {"ping": ("succeeded", "", {})}
            await robot.come()
            await carrying
            assert states(sending) == ["succeeded"]
        assert [one.session_nonce for one in robot.came] == [old, robot.nonce if lost else old]
        assert len({(one.cmd_id, one.seq) for one in robot.came}) == 1
        await robot.aclose()

    play(story())


def test_a_broker_that_dies_while_the_desk_waits(broker: Broker, key_file: Path, trusted: dict[str, bytes]) -> None:
    async def story() -> None:
        said: list[str] = []
        robot = Played(broker, "r1", trusted, {"ping": None})
        await robot.come()
        settings = desk_settings(broker, key_file)
        async with Desk(settings, CLOCK, said.append) as desk:
            sending = make(desk, settings, wish(devices=("r1",)))
            carrying = asyncio.ensure_future(desk.carry(sending, LONG_S))
            await until(lambda: robot.came)
            broker.kill()
            await until(lambda: not desk.up)
            robot._answers = {"ping": ("succeeded", "", {})}
            broker.start()
            await carrying
            assert states(sending) == ["succeeded"]
        assert any("the broker is away" in line for line in said)
        assert len(robot.ran) == 1
        await robot.aclose()

    play(story())


def test_a_desk_whose_own_connection_breaks_asks_again(broker: Broker, key_file: Path, trusted: dict[str, bytes]) -> None:
    """The robot has noticed nothing, so it is the desk's to ask again; what was done meanwhile is not done twice."""

    async def story() -> None:
        robot = Played(broker, "r1", trusted)
        robot.deaf = True
        await robot.come()
        settings = desk_settings(broker, key_file)
        async with Desk(settings, CLOCK) as desk:
            sending = make(desk, settings, wish(devices=("r1",)))
            carrying = asyncio.ensure_future(desk.carry(sending, LONG_S))
            await until(lambda: robot.came)
            robot.deaf = False
            live(desk._mqtt).end("cut by the test")
            await carrying
            assert states(sending) == ["succeeded"]
        assert (robot.connect, len(robot.came), len(robot.ran)) == (1, 2, 1)
        await robot.aclose()

    play(story())


def test_a_command_is_thrown_away_by_the_broker_when_its_time_is_over(broker: Broker, key_file: Path, trusted: dict[str, bytes]) -> None:
    async def story() -> None:
        robot = Played(broker, "r1", trusted)
        await robot.come()
        await robot.go()
        settings = desk_settings(broker, key_file)
        async with Desk(settings, CLOCK) as desk:
            sending = make(desk, settings, replace(wish(devices=("r1",)), valid_s=1))
            await desk.carry(sending, 2.5)
        await robot.come()
        async with Desk(settings, CLOCK) as desk:  # whatever the broker had kept would be there by now
            pass
        assert robot.came == []
        await robot.aclose()

    play(story())


def test_two_desks_with_one_key_do_not_fall_behind_each_other(broker: Broker, key_file: Path, trusted: dict[str, bytes]) -> None:
    async def story() -> None:
        robot = Played(broker, "r1", trusted)
        await robot.come()
        alice, bob = desk_settings(broker, key_file), desk_settings(broker, key_file, "bob")
        async with Desk(alice, CLOCK) as first, Desk(bob, CLOCK) as second, Desk(alice, CLOCK) as third:
            for desk, settings in ((first, alice), (second, bob), (third, alice), (first, alice)):
                sending = make(desk, settings, wish(devices=("r1",)))
                await desk.carry(sending, LONG_S)
                assert states(sending) == ["succeeded"]
        numbers = [one.seq for one in robot.ran]
        assert numbers == sorted(set(numbers))
        await robot.aclose()

    play(story())


def test_news_are_told_once_and_what_was_before_is_old(broker: Broker, key_file: Path, trusted: dict[str, bytes]) -> None:
    async def story() -> None:
        one, other = Played(broker, "r1", trusted), Played(broker, "r2", trusted)
        await one.come()
        heard: list[News] = []
        async with Desk(desk_settings(broker, key_file), CLOCK, also=(wire.ALARM,)) as desk:
            desk.listen(heard.append)
            await other.come()
            await other.say(wire.ALARM, b'{"name":"gap","state":"raised","device":"demo/r2","since":"x","message":"m"}')
            await until(lambda: any(news.what == wire.ALARM for news in heard))
            assert {news.device for news in heard if not news.old} == {"r2"}
            await other.go("restarting")
            await until(lambda: not desk.roster.robot("r2").present)
            fresh = len([news for news in heard if not news.old])
            broker.restart()
            await until(lambda: desk.up and any(news.old for news in heard))
            await until(lambda: any(news.old and news.device == "r2" for news in heard))
            assert {news.device for news in [news for news in heard if not news.old][fresh:]} <= {"r1"}
        await one.aclose()

    play(story())


@pytest.mark.parametrize(
    ("what", "says"),
    [
        (("state/birth", b"{"), "r1: the birth is not JSON"),
        (("state/birth", b'{"device":"demo/r2"}'), "r1: the birth is wrong"),
        (("state/presence", b'{"device":"demo/r2","conn_id":{"boot":1,"connect":1},"online":false}'), "r1 speaks of demo/r2"),
        (("cmd/res/x", b"[]"), "r1: the result is wrong"),
    ],
)
def test_what_a_robot_says_wrongly_is_ignored_with_a_line(
    what: tuple[str, bytes], says: str, broker: Broker, key_file: Path, trusted: dict[str, bytes]
) -> None:
    async def story() -> None:
        said: list[str] = []
        robot = Played(broker, "r1", trusted)
        await robot.come()
        async with Desk(desk_settings(broker, key_file), CLOCK, said.append) as desk:
            await robot.say(*what)
            await until(lambda: said)
            assert says in said[0]
            assert not desk.roster.robot("r2").present
        await robot.aclose()

    play(story())


def test_an_operator_the_broker_has_no_room_for_is_told(tmp_path: Path, key_file: Path) -> None:
    async def story(settings: DeskSettings) -> None:
        with pytest.raises(BadInput, match="does not let operator/eve work"):
            async with Desk(settings, CLOCK):
                pass

    broker = Broker(tmp_path / "broker", operators=["operator/eve"])
    (tmp_path / "broker/acl").write_text("user billing\ntopic read v1/#\n")
    broker._rule = lambda: None  # type: ignore[method-assign]  # the list stays as it was written here
    with broker:
        play(story(desk_settings(broker, key_file, "eve")))


def test_without_a_broker_the_reason_is_told_at_once(broker: Broker, key_file: Path) -> None:
    async def story() -> None:
        with pytest.raises(NoLink, match="refused"):
            async with Desk(settings, CLOCK):
                pass

    settings = desk_settings(broker, key_file)
    broker.stop()
    play(story())


def test_the_roster_is_complete_before_anything_is_sent(broker: Broker, key_file: Path, trusted: dict[str, bytes]) -> None:
    """More births than fit on the way at once, from robots that have long gone; and one command to all of them."""

    async def story() -> None:
        names = [f"r{number:02}" for number in range(80)]
        robots = [Played(broker, name, trusted) for name in names]
        await come(*robots)
        await leave(robots[2:])
        settings = desk_settings(broker, key_file)
        async with Desk(settings, CLOCK) as desk:
            assert [robot.device for robot in desk.roster.known] == names
            sending = make(desk, settings, wish(everyone=True))
            await desk.publish(sending, LONG_S)
            assert all(order.reached for order in sending.orders)
            await desk.carry(sending, LONG_S / 20)
            assert sending.progress().succeeded == 2
        await leave(robots)

    play(story())


def test_two_thousand_robots_answer(tmp_path: Path, key_file: Path) -> None:
    """All are played by one client, which may write for everyone; the desk can't tell."""

    async def story(broker: Broker, settings: DeskSettings) -> None:
        crowd = Crowd(broker, 2_000)
        await crowd.come()
        lines: list[str] = []
        async with Desk(settings, CLOCK) as desk:
            assert len(desk.roster.known) == 2_000
            sending = make(desk, settings, wish(everyone=True))
            await desk.carry(sending, LONG_S, lambda: lines.append(progress_line(sending)))
            told = sending.progress()
        assert (told.asked, told.succeeded, told.failed) == (2_000, 1_900, 100)
        assert len({order.command.seq for order in sending.orders}) == 2_000
        assert lines[-1] == "2000 of 2000 answered, 1900 succeeded, 100 failed"
        await crowd.mqtt.aclose()

    broker = Broker(tmp_path / "broker", operators=["operator/alice"])
    broker.client(f"demo/{CROWD}")
    broker._rule()
    with (tmp_path / "broker/acl").open("a") as acl:
        acl.write(f"user demo/{CROWD}\ntopic readwrite v1/#\n")
    broker._rule = lambda: None  # type: ignore[method-assign]  # the list stays as it was written here
    with broker:
        play(story(broker, desk_settings(broker, key_file)))


CROWD = "crowd"


class Crowd:
    """Many robots on one connection; every twentieth fails."""

    def __init__(self, broker: Broker, count: int) -> None:
        self._names = [f"r{number:04}" for number in range(count)]
        topics = [wire.topic("demo", "+", f"{wire.REQUEST}/+")]
        self.mqtt = Mqtt(as_robot(broker, CROWD), CROWD, CLOCK, topics, self._heard, inflight_max=20)
        self._tasks: set[asyncio.Task[object]] = set()

    async def come(self) -> None:
        await self.mqtt.ready()
        conn = ConnId(boot=1, connect=1)
        for name in self._names:
            told = Birth(device=f"demo/{name}", conn_id=conn, nonce=name, software="0.1", profile="p", clock="ntp")
            self._publish(wire.topic("demo", name, wire.BIRTH), presence.written(told), retained=True)
        await asyncio.gather(*self._tasks)

    def _heard(self, message: Incoming) -> None:
        message.confirm()
        name, cmd_id = message.topic.split("/")[2], message.topic.rpartition("/")[2]
        state = "failed" if int(name[1:]) % 20 == 0 else "succeeded"
        told = {"cmd_id": cmd_id, "device": f"demo/{name}", "op": "ping", "seq": 1, "state": state}
        self._publish(wire.topic("demo", name, f"{wire.RESULT}/{cmd_id}"), command.written(Result.model_validate(told)))

    def _publish(self, topic: str, content: bytes, *, retained: bool = False) -> None:
        task: asyncio.Task[object] = asyncio.ensure_future(self.mqtt.publish(topic, content, retained=retained))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
