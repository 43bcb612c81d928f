"""`voxmeter privacy`: what was said, and how it is forgotten."""

from typing import Annotated

import typer

from agent.cli.options import AsJson, ProfileName, StateDir, fail, out, run

app = typer.Typer(help="What was said, and how it is forgotten.")


@app.callback()
def group() -> None:
    """What was said, and how it is forgotten."""


@app.command()
def forget(
    session: Annotated[str, typer.Argument(help="A session_id, as ask --json and usage list show it.")],
    state_dir: StateDir = None,
    profile: ProfileName = "simulated",
    as_json: AsJson = False,
) -> None:
    """Destroy the key of a session's words. The money stays. Exit 1 if nothing of that session is kept."""
    from agent import service

    del profile
    told = run(service.forget(session, state_dir))
    if as_json or told["forgotten"]:
        out(as_json, told, lambda console: console.print(f"{session}: forgotten"))
    if not told["forgotten"]:
        fail(f"no words of session {session} are kept; see the session_id in: voxmeter usage list --json", 1)
