"""`python3 -m agent.installing`: the first installation, out of a wheel, where there is nothing but Python; and the gate's eyes."""

import argparse
import asyncio
import sys
from pathlib import Path

from agent.clock import SystemClock
from agent.errors import VoxmeterError
from agent.installing import health, steps
from agent.installing.layout import Layout


def main() -> int:
    """Exit status as everywhere: 0 done, 1 it does not hold, 2 it can't be done."""
    words = argparse.ArgumentParser(prog="install", description="Puts voxmeter on this robot out of a bundle.")
    words.add_argument("command", choices=["install", "verdict"], help="verdict: whether the version that runs holds; the gate asks.")
    words.add_argument("--bundle", type=Path, help="The file that voxmeter bundle made.")
    words.add_argument("--profile", type=Path, help="The robot's device profile; without it the bundle's own.")
    words.add_argument("--start", action="store_true", help="Start the robot, and see that it holds.")
    words.add_argument("--root", type=Path, default=Path("/"), help="Below another root; nothing is started.")
    words.add_argument("--heard", action="store_true", help="The version before heard, so this one must.")
    asked = words.parse_args()
    layout = Layout(asked.root)
    if asked.command == "verdict":
        why = asyncio.run(health.judged(lambda: health.asked(layout), SystemClock(), heard=asked.heard))
        say(why or "it holds")
        return 1 if why else 0
    if asked.bundle is None:
        words.error("give --bundle FILE")
    return install(layout, asked.bundle, asked.profile, start=asked.start)


def install(layout: Layout, bundle: Path, profile: Path | None, *, start: bool) -> int:
    try:
        machine = steps.here(layout, SystemClock(), say)
        told = asyncio.run(steps.install(machine, bundle, profile, start=start))
    except VoxmeterError as error:
        sys.stderr.write(f"voxmeter: {' '.join(str(error).split())}\n")
        return error.exit_status
    except OSError as error:
        sys.stderr.write(f"voxmeter: {error.filename or 'system'}: {error.strerror or error}; nothing that runs has been changed\n")
        return 2
    after = "it runs" if told["started"] else f"look at {told['profile']}, then: systemctl start voxmeter"
    say(f"installed {told['version']}; {after}")
    return 0


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
