"""`python3 -m agent.installing`, straight out of a wheel: the first installation, on a machine that has nothing but Python."""

import argparse
import asyncio
import sys
from pathlib import Path

from agent.clock import SystemClock
from agent.errors import VoxmeterError
from agent.installing import steps
from agent.installing.layout import Layout


def main() -> int:
    """Exit status as everywhere: 0 done, 1 it does not hold, 2 it can't be done."""
    words = argparse.ArgumentParser(prog="install", description="Puts voxmeter on this robot out of a bundle.")
    words.add_argument("command", choices=["install"])
    words.add_argument("--bundle", type=Path, required=True, help="The file that voxmeter bundle made.")
    words.add_argument("--profile", type=Path, help="The robot's device profile; without it the bundle's own.")
    words.add_argument("--start", action="store_true", help="Start the robot, and see that it holds.")
    words.add_argument("--root", type=Path, default=Path("/"), help="Below another root; nothing is started.")
    asked = words.parse_args()
    try:
        machine = steps.here(Layout(asked.root), SystemClock(), say)
        told = asyncio.run(steps.install(machine, asked.bundle, asked.profile, start=asked.start))
    except VoxmeterError as error:
        sys.stderr.write(f"voxmeter: {' '.join(str(error).split())}\n")
        return error.exit_status
    except OSError as error:
        sys.stderr.write(f"voxmeter: {error.filename or 'system'}: {error.strerror or error}; nothing that runs has been changed\n")
        return 2
    say(
        f"installed {told['version']}"
        + ("; it runs" if told["started"] else f"; look at {told['profile']}, then: systemctl start voxmeter")
    )
    return 0


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
