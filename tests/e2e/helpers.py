"""Runs the command as its user does: another process, real models, a state folder of its own."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

COMMAND = [sys.executable, "-P", "-m", "agent"]


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def told(self) -> Any:
        return json.loads(self.out)

    @property
    def line(self) -> str:
        """The one plain line of an error."""
        assert "Traceback" not in self.err
        lines = self.err.strip().splitlines()
        assert len(lines) == 1, lines
        assert lines[0].startswith("voxmeter: ")
        return lines[0]


def voxmeter(*words: object, stdin: bytes = b"", **environment: str) -> Ended:
    done = subprocess.run(
        [*COMMAND, *map(str, words)], input=stdin, capture_output=True, timeout=170, env=os.environ | environment, check=False
    )
    return Ended(done.returncode, done.stdout.decode(), done.stderr.decode())


def usage(state: Path) -> list[dict[str, Any]]:
    """The data of the usage records in a state folder."""
    listed = voxmeter("usage", "list", "--json", "--type", "usage", "--state-dir", state)
    return [record["data"] for record in listed.told]
