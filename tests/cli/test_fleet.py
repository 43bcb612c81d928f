"""`voxmeter fleet` as an operator uses it, against a real mosquitto and robots that are played."""

import asyncio
import datetime
import io
import json
import os
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from agent.cli import fleetscreen
from agent.clock import SystemClock
from agent.contract import certificates, wire
from agent.desk import keys
from agent.sim.clock import SimulatedClock
from agent.sim.real.broker import HOST, Broker
from tests.desk.played import Played
from tests.e2e.helpers import COMMAND, Ended, voxmeter
from tests.link.mqtt_helpers import play, until

TOO_LATE_S = "20"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with Broker(tmp_path_factory.mktemp("broker"), operators=["operator/alice"]) as running:
        yield running


class Office:
    """An operator's configuration folder."""

    def __init__(self, folder: Path, broker: Broker) -> None:
        self.folder = folder / "voxmeter"
        self.folder.mkdir(parents=True)
        self.broker = broker
        self.certificate, self.key = broker.client("operator/alice")
        self.told: dict[str, Any] = {
            "broker": f"{HOST}:{broker.port}",
            "ca": str(self.certificate.parent / "authority.pem"),
            "certificate": str(self.certificate),
            "key": str(self.key),
            "tenant": "demo",
        }
        self.write()
        self.key_file = self.folder / keys.KEY_FILE
        held = keys.make(self.key_file, SystemClock())
        self.trusted = {held.key_id: held.public}

    def write(self, **other: Any) -> None:
        told = {name: value for name, value in (self.told | other).items() if value}
        (self.folder / "fleet.toml").write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in told.items()))

    def fleet(self, *words: object) -> Ended:
        return voxmeter("fleet", *words, XDG_CONFIG_HOME=str(self.folder.parent))

    async def meanwhile(self, *words: object) -> Ended:
        return await asyncio.to_thread(self.fleet, *words)


@pytest.fixture
def office(tmp_path: Path, broker: Broker) -> Office:
    return Office(tmp_path / "config", broker)


def with_robots(robots: list[Played], story: Callable[[], Awaitable[None]]) -> None:
    """The broker of all tests of this file keeps what robots say: each leaves nothing behind."""

    async def played() -> None:
        for robot in robots:
            await robot.come()
        try:
            await story()
        finally:
            for robot in robots:
                if robot.link is None:
                    await robot.come()
                for what in (wire.BIRTH, wire.PRESENCE):
                    await robot.say(what, b"", retained=True)
                await robot.aclose()

    play(played())


def test_a_key_is_made_once_and_shown_with_what_to_do_with_it(tmp_path: Path) -> None:
    first = voxmeter("fleet", "key", "--json", XDG_CONFIG_HOME=str(tmp_path))
    again = voxmeter("fleet", "key", "--json", XDG_CONFIG_HOME=str(tmp_path))
    assert (first.told["made"], again.told["made"]) == (True, False)
    assert first.told["public"] == again.told["public"]
    assert (tmp_path / "voxmeter/operator.key").stat().st_mode & 0o777 == 0o600
    shown = voxmeter("fleet", "key", "--operator-key", tmp_path / "voxmeter/operator.key")
    assert first.told["key_id"] in shown.out
    assert "voxmeter billing operator add" in shown.out


def test_robots_are_listed_commanded_and_fail_one_by_one(office: Office) -> None:
    robots = [Played(office.broker, name, office.trusted, groups=("lobby",)) for name in ("r1", "r2")]

    async def story() -> None:
        sent = await office.meanwhile("send", "ping", "--all", "--json")
        assert (sent.status, [one["state"] for one in sent.told]) == (0, ["succeeded", "succeeded"])
        assert {one["device"] for one in sent.told} == {"demo/r1", "demo/r2"}
        assert {one["result"]["pong"] for one in sent.told} == {1}
        shown = await office.meanwhile("send", "say", "text=hello", "--group", "lobby")
        assert shown.status == 1
        assert shown.err.splitlines()[-1] == "voxmeter: 2 of 2 robots did not succeed: r1 (failed), r2 (failed)"
        assert "engine-failed: as scripted" in shown.out
        assert [one.args for one in robots[0].ran] == [{}, {"text": "hello"}]
        await robots[1].go("restarting")
        listed = await office.meanwhile("list", "--json", "--wait", "0")
        assert [(one["device"], one["present"]) for one in listed.told] == [("r1", True), ("r2", False)]
        assert listed.told[1]["why"] == "restarting"
        table = await office.meanwhile("list", "--wait", "0")
        assert (table.status, table.err) == (0, "")
        assert "away (restarting)" in table.out
        assert "1 of 2 present" in table.out

    with_robots(robots, story)


def test_what_a_robot_measures_is_listed(office: Office) -> None:
    robot = Played(office.broker, "r1", office.trusted)

    async def story() -> None:
        listing = asyncio.ensure_future(office.meanwhile("list", "--json", "--wait", TOO_LATE_S))
        while not listing.done():
            await robot.measure(waiting_records=3, microphone={"hearing": True})
            await asyncio.sleep(0.05)
        assert listing.result().told[0]["telemetry"]["waiting_records"] == 3

    with_robots([robot], story)


def test_a_robot_that_does_not_answer_in_time(office: Office) -> None:
    async def story() -> None:
        sent = await office.meanwhile("send", "usage.flush", "--device", "r1", "--wait", "0.5", "--json")
        assert (sent.status, sent.told[0]["state"]) == (1, "sent")
        assert "1 of 1 robots did not succeed: r1 (sent)" in sent.line

    with_robots([Played(office.broker, "r1", office.trusted)], story)


def test_detached_commands_are_picked_up_by_watch(office: Office) -> None:
    robot = Played(office.broker, "r1", office.trusted)

    async def story() -> None:
        await robot.go()
        sent = await office.meanwhile("send", "ping", "--device", "r1", "--detach")
        assert sent.status == 0
        cmd_id = sent.out.strip()
        process = await _watching(office, cmd_id, "--wait", TOO_LATE_S, "--json")
        await robot.come()
        out, _ = await process.communicate()
        assert process.returncode == 0
        told = json.loads(out.splitlines()[-1])
        assert (told["device"], told["told"]["cmd_id"], told["told"]["state"]) == ("r1", cmd_id, "succeeded")
        late = await office.meanwhile("watch", cmd_id, "--wait", "0.3")
        assert late.status == 1
        assert "one that came before was not told again" in late.err.splitlines()[-1]

    with_robots([robot], story)


async def _watching(office: Office, *words: str) -> asyncio.subprocess.Process:
    """`fleet watch`, once it hears."""
    environment = os.environ | {"XDG_CONFIG_HOME": str(office.folder.parent)}
    command = [*COMMAND, "fleet", "watch", *words]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
    assert process.stderr
    assert b"watching demo" in await process.stderr.readline()
    return process


def test_watch_tells_births_goodbyes_alarms_and_answers(office: Office) -> None:
    robot = Played(office.broker, "r1", office.trusted)
    lines: list[str] = []

    async def story() -> None:
        process = await _watching(office)

        async def read(text: str) -> None:
            assert process.stdout
            while not any(text in line for line in lines):
                lines.append((await process.stdout.readline()).decode())

        alarm = {"name": "gap", "state": "raised", "device": "demo/r1", "since": "x", "message": "three are missing"}
        await robot.say(wire.ALARM, json.dumps(alarm).encode())
        await read("alarm gap raised: three are missing")
        await robot.go("restarting")
        await read("r1  gone: restarting")
        await robot.come()
        await read("r1  here: 0.1, clock ntp, connection 1.")
        await office.meanwhile("send", "ping", "--device", "r1")
        await read("ping")
        assert "succeeded" in lines[-1]
        process.terminate()
        await process.communicate()
        assert process.returncode == 130

    with_robots([robot], story)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["send", "pong", "--all"], "no command is called 'pong'; did you mean 'ping'?"),
        (["send", "dance", "--all"], "there are ping, diagnostics.collect"),
        (["send", "say", "--all"], "say: text: Field required"),
        (["send", "say", "text:=1", "--all"], "say: text: Input should be a valid string"),
        (["send", "ping", "loud=yes", "--all"], "ping: loud: Extra inputs are not permitted"),
        (["send", "say", "hello", "--all"], "'hello' is no argument; write KEY=VALUE"),
        (["send", "say", "--args", "{", "--all"], "--args is not JSON"),
        (["send", "say", "--args", "[]", "--all"], "--args is no JSON object"),
        (["send", "say", "text:={", "--all"], "text is not JSON"),
        (["send", "ping"], "for which robots?"),
        (["send", "ping", "--all", "--group", "g"], "for which robots?"),
        (["send", "ping", "--all", "--valid", "99999"], "--valid"),
        (["send", "ping", "--all", "--tenant", "a/b"], "no tenant"),
        (["send", "ping", "--all", "--broker", "here:there"], "no broker's address"),
        (["send", "ping", "--all", "--ca", "/nowhere"], "/nowhere: No such file"),
        (["send", "ping", "--all", "--certificate", "/nowhere"], "/nowhere: No such file"),
        (
            ["send", "ping", "--all", "--operator-key", "/nowhere/key"],
            "at /nowhere/key; make one with: voxmeter fleet key",
        ),
        (["send", "ping", "--device", "r9"], "no robot 'r9' has ever been at this broker"),
        (["send", "ping", "--group", "attic"], "no robot says that it belongs to 'attic'"),
        (["send", "ping", "--all"], "no robot of this tenant has ever been at this broker"),
        (["watch", "x", "--fleet", "/nowhere"], "there is no file /nowhere"),
    ],
    ids=lambda words: " ".join(words)[:60],
)
def test_what_cannot_be_sent_gets_one_plain_line(words: list[str], says: str, office: Office) -> None:
    ended = office.fleet(*words)
    assert ended.status == 2
    assert says in ended.line


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("broker = ", "is no TOML"),
        ("brokr = 'x'", "brokr: Extra inputs"),
        ("", "which broker?"),
        ("broker = 'h:1'", "whose robots?"),
        ("broker = 'h:1'\ntenant = 't'", "who connects"),
    ],
)
def test_a_fleet_file_that_does_not_do(text: str, says: str, office: Office) -> None:
    (office.folder / "fleet.toml").write_text(text)
    ended = office.fleet("list")
    assert (ended.status, says in ended.line) == (2, True)


def test_a_certificate_that_is_no_operators_is_refused_here(office: Office) -> None:
    certificate, key = office.broker.client("demo/r1")
    ended = office.fleet("list", "--certificate", certificate, "--key", key)
    assert (ended.status, "is of 'demo/r1', no operator" in ended.line) == (2, True)


def test_a_certificate_by_a_stranger_is_refused_there(office: Office, tmp_path: Path) -> None:
    now = datetime.datetime.now(datetime.UTC)
    made = certificates.issue(certificates.authority("stranger", now, 1), "operator/alice", now, 1)
    (tmp_path / "a.crt").write_bytes(made.certificate)
    (tmp_path / "a.key").write_bytes(made.key)
    ended = office.fleet("list", "--certificate", tmp_path / "a.crt", "--key", tmp_path / "a.key")
    assert (ended.status, "certificate" in ended.line) == (1, True)


def test_no_broker_is_said_at_once(office: Office) -> None:
    ended = office.fleet("send", "ping", "--all", "--broker", "127.0.0.1:1")
    assert (ended.status, "127.0.0.1:1" in ended.line, "refused" in ended.line) == (1, True, True)


def test_the_broker_dies_while_a_command_waits_and_comes_back(office: Office) -> None:
    robot = Played(office.broker, "r1", office.trusted, {"ping": None})

    async def story() -> None:
        sending = asyncio.ensure_future(office.meanwhile("send", "ping", "--device", "r1", "--json", "--wait", TOO_LATE_S))
        await until(lambda: robot.came)
        robot._answers = {"ping": ("succeeded", "", {})}
        office.broker.kill()
        office.broker.start()
        ended = await sending
        assert (ended.status, ended.told[0]["state"]) == (0, "succeeded")
        assert "the broker is away" in ended.err
        assert len(robot.ran) == 1

    with_robots([robot], story)


def test_two_desks_at_once_are_both_answered(office: Office) -> None:
    robot = Played(office.broker, "r1", office.trusted)

    async def story() -> None:
        both = await asyncio.gather(*(office.meanwhile("send", "ping", "--device", "r1", "--json") for _ in range(2)))
        assert [one.status for one in both] == [0, 0]
        assert len({one.told[0]["cmd_id"] for one in both}) == len({one.told[0]["seq"] for one in both}) == 2

    with_robots([robot], story)


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_is_a_line_that_changes_or_lines(terminal: bool, clock: SimulatedClock) -> None:
    from tests.desk.test_sending import Room, birth, result

    room, file = Room(birth()), io.StringIO()
    room.publish()
    console = Console(file=file, force_terminal=terminal, width=100)
    with fleetscreen.following(console, room.sending, clock) as told:
        told()
        assert ("0 of 1 answered" in file.getvalue()) == terminal
        room.hear(result("failed", "engine-failed"))
        clock.advance(fleetscreen.LINE_S)
        told()
        told()
    assert "1 of 1 answered, 0 succeeded, 1 failed" in file.getvalue()
    assert ("r1: failed  engine-failed" in file.getvalue()) == terminal
    if not terminal:
        assert len(file.getvalue().splitlines()) == 1


def test_a_large_fleet_is_told_by_its_failures() -> None:
    from agent.contract.fleet.command import Result
    from agent.contract.signing import SigningKey
    from agent.desk.roster import Roster
    from agent.desk.sending import Sending, What, orders

    names = [f"r{number:03}" for number in range(200)]
    made = orders(
        What("ping", {}, 1, 2), "demo", names, numbers=range(1, 201), ids=(f"01890000-0000-7000-8000-{n:012x}" for n in range(200))
    )
    for order in made:
        state = "failed" if order.device == "r007" else "succeeded"
        order.result = Result.model_validate(
            {"cmd_id": order.command.cmd_id, "device": f"demo/{order.device}", "op": "ping", "seq": 1, "state": state, "message": "x" * 900}
        )
    file = io.StringIO()
    sending = Sending("demo", made, SigningKey.from_seed(bytes(32)), Roster(), lambda: (0, ""))
    fleetscreen.outcomes(Console(file=file, width=300), sending)
    assert "r007" in file.getvalue()
    assert "r008" not in file.getvalue()
    assert "x" * 500 not in file.getvalue()
