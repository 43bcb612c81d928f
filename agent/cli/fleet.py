"""`voxmeter fleet`: robots from afar, commanded and watched."""

import typer

from agent.cli import fleetdesk, fleetrobot

app = typer.Typer(help="Robots from afar: command and watch them.")


@app.callback()
def group() -> None:
    """Robots from afar: command and watch them."""


app.command("send")(fleetdesk.send)
app.command("list")(fleetdesk.listed)
app.command("watch")(fleetdesk.watch)
app.command("key")(fleetdesk.key)
app.command("enroll")(fleetrobot.enroll)
app.command("decommission")(fleetrobot.decommission)
