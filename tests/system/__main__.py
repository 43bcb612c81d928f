"""Runs the tests that need a real systemd and prints one line of JSON; where none can be booted it says why, and that is no failure.

Without `--full` it leaves out what waits longest and differs least from what is run.
"""

import json
import sys
from pathlib import Path

import pytest

from tests.system import tree

FIGURES: dict[str, object] = {}
"""What the tests measured, for whoever reads the line."""

FULL_ONLY = (
    "test_install.py::test_an_upgrade_that_does_not_hold_gives_way_to_the_version_before[hangs]",
    "test_install.py::test_an_upgrade_that_does_not_hold_gives_way_to_the_version_before[gives up]",
    "test_robot.py::test_an_engine_that_hangs_costs_a_turn_and_not_the_robot[vad]",
    "test_trial.py::test_a_trial_is_ended_by_a_verdict_and_stops_by_hand_do_not_count",
)
"""Each takes a minute or two, almost all of it waiting."""


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
    counts, folder = Counts(), Path(__file__).parent
    left_out = [] if "--full" in sys.argv else [f"--deselect={folder.relative_to(folder.parents[1])}/{name}" for name in FULL_ONLY]
    shown, sys.stdout = sys.stdout, sys.stderr  # the line alone goes where it is kept
    try:
        status = pytest.main([str(folder), "--durations=12", *left_out], plugins=[counts])
    finally:
        sys.stdout = shown
    sys.stdout.write(json.dumps({"ran": sum(counts.ended.values()), **counts.ended, **FIGURES}) + "\n")
    return int(status)


if __name__ == "__main__":
    sys.exit(main())
