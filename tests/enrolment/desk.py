"""An operator's desk, through the command line: a key, a certificate for the broker, and what comes of a command."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson

from agent.clock import SystemClock
from agent.contract.signing import encode
from agent.desk import keys
from agent.sim.real.broker import HOST
from tests.enrolment.helpers import TENANT, House

COMMAND = [sys.executable, "-P", "-m", "agent"]

SECONDS_MAX = 80


class Desk:
    """Of an operator whom the backend knows, and so the robots that enrol from now on."""

    def __init__(self, folder: Path, house: House, tenant: str = TENANT) -> None:
        self.key = keys.make(folder / "operator.key", SystemClock())
        house.order("operator add", name="ann", public=encode(self.key.public))
        certificate, private = house.broker.client("operator/alice")
        self._way = ["--broker", f"{HOST}:{house.broker.port}", "--ca", str(house.bundle), "--tenant", tenant]
        self._way += ["--certificate", str(certificate), "--key", str(private)]
        self._signing = ["--operator-key", str(folder / "operator.key")]

    def run(self, *words: str) -> tuple[int, Any, str]:
        """Exit status, what it tells as JSON, and its lines."""
        return told(*words, *self._way)

    def sending(self, op: str, *more: str) -> tuple[int, Any, str]:
        """`more` names the robots."""
        return self.run("fleet", "send", op, *more, *self._signing)

    def send(self, device: str, op: str, *more: str) -> dict[str, Any]:
        """The one result."""
        _, results, err = self.sending(op, "--device", device, *more)
        assert results, err
        (result,) = results
        return dict(result)


def told(*words: str) -> tuple[int, Any, str]:
    """Exit status, what a command of the house's own machine tells as JSON, and its lines."""
    done = subprocess.run([*COMMAND, *words, "--json"], capture_output=True, text=True, timeout=SECONDS_MAX, check=False)
    return done.returncode, orjson.loads(done.stdout) if done.stdout else None, done.stderr
