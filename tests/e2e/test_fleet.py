"""A robot's service, commanded from an operator's desk: everything in processes of its own, through the command line."""

import contextlib
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from agent.clock import SystemClock
from agent.contract import wire
from agent.contract.fleet import twin
from agent.contract.fleet.twin import Desired
from agent.contract.registration import signed_time
from agent.contract.signing import SigningKey
from agent.desk import keys
from agent.link.mqtt.steady import Mqtt
from agent.ports import LinkSettings
from agent.sim.real.broker import BACKEND, HOST
from tests.enrolment.desk import COMMAND, Desk, told
from tests.enrolment.helpers import TENANT, House

WAIT_S = 40


class Robot:
    """`voxmeter run` of a robot that has enrolled."""

    def __init__(self, folder: Path, profile: Path) -> None:
        self.state, self._profile = folder / "state", profile
        self.lines: list[str] = []
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        command = [*COMMAND, "run", "--profile", str(self._profile), "--state-dir", str(self.state)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        threading.Thread(target=self._read, args=(self._process,), daemon=True).start()
        self.said("ready: ")

    def said(self, words: str, times: int = 1) -> None:
        until(lambda: sum(words in line for line in self.lines) >= times, f"{words!r} among {self.lines}")

    def end(self, how: signal.Signals) -> int:
        assert self._process is not None
        self._process.send_signal(how)
        return self._process.wait(WAIT_S)

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout:
            self.lines.extend(iter(process.stdout.readline, ""))


def until(true: Callable[[], bool], what: str) -> None:
    for _ in range(WAIT_S * 10):
        if true():
            return
        time.sleep(0.1)
    raise AssertionError(f"never came: {what}")


class Fleet:
    """One robot, its house, and the desk."""

    def __init__(self, folder: Path, house: House) -> None:
        self.folder, self.house = folder, house
        self.desk = Desk(folder, house)
        self.robot = Robot(folder, self._profile())
        enrol = ["fleet", "enroll", house.token("kiosk-7"), "--ca", str(house.bundle), "--profile", str(folder / "kiosk.toml")]
        status, _, why = told(*enrol, "--state-dir", str(self.robot.state))
        assert status == 0, why

    def send(self, op: str, *more: str) -> dict[str, Any]:
        """The one result."""
        return self.desk.send("kiosk-7", op, *more)

    def listed(self) -> dict[str, Any]:
        (one,) = self.desk.run("fleet", "list")[1]
        return dict(one)

    async def publish(self, topic: str, content: bytes, *, retained: bool = False) -> None:
        """As somebody who holds the broker can."""
        certificate, key = self.house.broker.client(BACKEND)
        told = LinkSettings("x", "x", HOST, self.house.broker.port, self.house.broker.authority.decode(), certificate, key)
        mqtt = Mqtt(told, "evil", SystemClock(), [], lambda message: message.confirm())
        await mqtt.ready()
        await mqtt.publish(topic, content, retained=retained)
        await mqtt.aclose()

    def audit(self) -> str:
        return orjson.dumps(told("billing", "audit", "--state-dir", str(self.house.backend.state))[1]).decode()

    def _profile(self) -> Path:
        text = Path("device_profiles/scripted.toml").read_text()
        text = re.sub(r"^tenant = .*$", f'tenant = "{TENANT}"', text, count=1, flags=re.MULTILINE)
        text = re.sub(r"^id = .*$", 'id = "kiosk-7"', text, count=1, flags=re.MULTILINE)
        ways = {"mqtt": self.house.broker.port, "https": self.house.backend.port}
        text += "".join(f'[sync.{name}]\nhost = "{HOST}"\nport = {port}\n' for name, port in ways.items())
        path = self.folder / "kiosk.toml"
        path.write_text(text)
        return path


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("fleet")
    with House.open(folder) as house:
        fleet = Fleet(folder, house)
        fleet.robot.start()
        yield fleet
        with contextlib.suppress(ProcessLookupError):
            fleet.robot.end(signal.SIGTERM)


def test_a_robot_is_there_and_does_what_it_is_told(fleet: Fleet) -> None:
    assert fleet.listed()["present"] is True
    assert fleet.send("ping", "echo=hello")["result"] == {"echo": "hello"}
    audit = fleet.send("usage.audit")
    assert audit["state"] == "succeeded"
    assert audit["result"]["whole"] is True
    assert fleet.send("usage.flush")["result"]["drained"] is True
    assert fleet.send("budget.set", "amount=5.00", "period=day")["result"]["currency"] == "CNY"
    assert fleet.send("mode.set", "mode=offline")["result"] == {"mode": "offline"}
    assert fleet.send("log.level", "level=warning")["result"] == {"level": "warning"}
    assert fleet.send("privacy.forget", "session_id=nobody")["state"] == "succeeded"
    told = fleet.send("diagnostics.collect")["result"]
    assert told["set"] == {"budget": {"amount": "5.00", "period": "day"}, "mode": "offline"}
    assert told["running"] is True
    assert "command.result" in fleet.audit()


def test_what_it_can_not_do_is_said_in_a_line(fleet: Fleet) -> None:
    for op, words in (("say", ("text=hello",)), ("mode.set", ("mode=online",))):
        result = fleet.send(op, *words)
        assert (result["state"], result["code"]) == ("failed", "bad-input")
        assert result["message"]


def test_a_stranger_s_command_is_refused_and_on_record(fleet: Fleet, tmp_path: Path) -> None:
    keys.make(tmp_path / "stranger.key", SystemClock())
    words = ["fleet", "send", "ping", "--device", "kiosk-7", "--operator-key", str(tmp_path / "stranger.key"), "--wait", "3"]
    status, _, _ = fleet.desk.run(*words)
    assert status == 1
    until(lambda: "bad-signature" in fleet.audit(), "the refusal on the audit log")


def test_what_a_broker_in_the_wrong_hands_makes_up_is_refused_and_on_record(fleet: Fleet) -> None:
    evil = SigningKey.from_seed(bytes(32))
    robot = f"{TENANT}/kiosk-7"
    forged = Desired(aud=robot, version=9, settings={"dialog": {"apology": "I am not well."}}, iat=0)
    at = wire.topic(TENANT, "kiosk-7", "")
    fleet.house.play(fleet.publish(at + wire.DESIRED, twin.signed(forged, evil), retained=True))
    fleet.house.play(fleet.publish(at + wire.TIME, signed_time("0" * 32, "1999-01-01T00:00:00Z", evil).model_dump_json().encode()))
    until(lambda: all(code in fleet.audit() for code in ("bad-twin", "bad-time")), "both on the audit log")
    assert fleet.send("diagnostics.collect")["result"]["clock"]["time"] > "2026"
    fleet.house.play(fleet.publish(at + wire.DESIRED, b"", retained=True))


def test_a_twin_is_tried_held_and_told(fleet: Fleet, tmp_path: Path) -> None:
    (tmp_path / "twin.toml").write_text('[dialog]\napology = "One moment, please."\n')
    words = ["billing", "twin", f"{TENANT}/kiosk-7", "--settings", str(tmp_path / "twin.toml"), "--groups", "lobby"]
    assert told(*words, "--state-dir", str(fleet.house.backend.state))[0] == 0
    fleet.robot.said("ready: ", times=2)
    until(lambda: fleet.listed().get("groups") == ["lobby"], "the group in its birth")
    status, results, _ = fleet.desk.sending("ping", "--group", "lobby")
    assert (status, results[0]["state"]) == (0, "succeeded")


def test_a_restart_is_told_before_and_comes_about(fleet: Fleet) -> None:
    readies = sum("ready: " in line for line in fleet.robot.lines)
    assert fleet.send("agent.restart")["state"] == "succeeded"
    fleet.robot.said("ready: ", times=readies + 1)
    assert fleet.send("ping")["state"] == "succeeded"


def test_a_robot_that_was_killed_is_missed_and_comes_back_with_its_settings(fleet: Fleet) -> None:
    before = fleet.send("diagnostics.collect")["result"]["set"]
    assert fleet.robot.end(signal.SIGKILL) == -signal.SIGKILL
    until(lambda: fleet.listed()["present"] is False, "its will")
    fleet.robot.lines.clear()
    fleet.robot.start()
    until(lambda: fleet.listed()["present"] is True, "its birth")
    assert fleet.send("diagnostics.collect")["result"]["set"] == before


def test_a_goodbye_is_told(fleet: Fleet) -> None:
    assert fleet.robot.end(signal.SIGTERM) in (0, 130)
    listed = fleet.listed()
    assert listed["present"] is False
    assert (fleet.robot.state / "ledger.db").exists()
    fleet.robot.lines.clear()
    fleet.robot.start()
