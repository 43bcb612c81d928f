"""Runs the tests that need a real systemd and prints one line of JSON; where none can be booted it says why, and that is no failure."""

import json
import sys
from pathlib import Path

import pytest

from tests.system import tree

FIGURES: dict[str, object] = {}
"""What the tests measured, for whoever reads the line."""


class Counts:
    """Counts how tests ended."""

    def __init__(self) -> None:
        self.ended = {"passed": 0, "failed": 0}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.ended["failed"] += 1
        elif report.when == "call" and report.passed:
            self.ended["passed"] += 1
        FIGURES.update((name, value) for name, value in report.user_properties)


def main() -> int:
    why = tree.why_not()
    if why is not None:
        sys.stderr.write(f"system: not run: {why}\n")
        sys.stdout.write(json.dumps({"ran": 0, "why": why}) + "\n")
        return 0
    counts = Counts()
    shown, sys.stdout = sys.stdout, sys.stderr  # the line alone goes where it is kept
    try:
        status = pytest.main([str(Path(__file__).parent), "--durations=5"], plugins=[counts])
    finally:
        sys.stdout = shown
    sys.stdout.write(json.dumps({"ran": sum(counts.ended.values()), **counts.ended, **FIGURES}) + "\n")
    return int(status)


if __name__ == "__main__":
    sys.exit(main())
