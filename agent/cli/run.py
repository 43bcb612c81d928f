"""`voxmeter run`: the service. It owns the books and answers commands until it is stopped."""

import contextlib

from agent.cli.options import AsJson, ProfileName, StateDir, run, screen


def serve(state_dir: StateDir = None, profile: ProfileName = "simulated", as_json: AsJson = False) -> None:
    """Own the books and answer other commands until stopped; send the records to the backend, and look after the books."""
    from agent import service

    console = screen(to_stderr=as_json)

    def say(line: str) -> None:
        with contextlib.suppress(OSError, SystemExit):  # rich ends the process when nobody reads it; the robot goes on
            console.print(line)

    run(service.run(profile, state_dir, say))
