"""A robot under its unit, with a broker and a backend: it enrols as docs/robot.md says, sends its books, and does what it is told."""

from pathlib import Path

from agent.sim.real.broker import HOST
from tests.enrolment.desk import Desk
from tests.enrolment.helpers import House
from tests.system.conftest import SCRIPTED
from tests.system.lent import lent
from tests.system.robot import PROFILE, Robot

TENANT, DEVICE = "your-tenant", "kiosk-0001"

BUNDLE = "/etc/voxmeter/ca.pem"

WAIT_S = 60


def test_it_enrols_and_its_books_and_commands_go_through_the_sandbox(robot: Robot, tmp_path: Path) -> None:
    with House.open(tmp_path / "house") as house:
        ways = {"mqtt": house.broker.port, "https": house.backend.port}
        with lent(robot.machine, *ways.values()):
            sync = "".join(f'[sync.{name}]\nhost = "{HOST}"\nport = {port}\n' for name, port in ways.items())
            robot.machine.write(f"{SCRIPTED}{sync}".encode(), PROFILE)
            robot.machine.copy_in(house.bundle, BUNDLE)
            desk = Desk(tmp_path, house, TENANT)
            token = house.order("token", tenant=TENANT, device=DEVICE, account="hotel", hours=1)["token"]
            enrolled = robot.voxmeter("fleet", "enroll", str(token), "--ca", BUNDLE)
            assert (enrolled.status, "is enrolled" in enrolled.out) == (0, True), enrolled.err
            robot.start()
            assert desk.send(DEVICE, "ping", "echo=hello")["result"] == {"echo": "hello"}
            assert desk.send(DEVICE, "usage.flush")["result"]["drained"] is True
            process = robot.property("MainPID")
            assert desk.send(DEVICE, "agent.restart")["state"] == "succeeded"
            robot.machine.until(lambda: robot.property("MainPID") not in ("0", process), WAIT_S, "a restart")
            assert desk.send(DEVICE, "diagnostics.collect")["result"]["running"] is True
            assert robot.whole()
