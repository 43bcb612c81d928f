"""`voxmeter billing authority`, `revoke`, `operator`: who vouches for robots, who is no robot any more, who commands them."""

from pathlib import Path
from typing import Annotated

import typer

from agent.cli.billing import ordered
from agent.cli.options import AsJson, ProfileName, StateDir, cell, grid, out

operators = typer.Typer(help="Whose commands robots obey: add, list, remove.")


def authority(state_dir: StateDir = None, profile: ProfileName = "simulated", as_json: AsJson = False) -> None:
    """Print the authority of robots' certificates, PEM: the broker must believe it, and refuse whom devices.crl lists."""
    del profile
    told = ordered(state_dir, {"op": "authority"})
    out(as_json, told, lambda console: console.print(told["certificate"].strip(), soft_wrap=True))


def revoke(
    robot: Annotated[str, typer.Argument(metavar="TENANT/DEVICE", help="Whose credential and certificates end.")],
    state_dir: StateDir = None,
    profile: ProfileName = "simulated",
    as_json: AsJson = False,
) -> None:
    """Strike a robot off: its credential ends at once, its certificates as soon as the broker reads the list anew."""
    del profile
    tenant, _, device = robot.partition("/")
    told = ordered(state_dir, {"op": "revoke", "tenant": tenant, "device": device})
    line = f"{robot}: {told['credentials']} credentials and {told['certificates']} certificates revoked; "
    line += f"have the broker read {told['list']} anew" if told["list"] else "the list for the broker is written when the backend starts"
    if told.get("unlisted"):
        line += f"; {told['unlisted']} of another authority are on no list: the broker must not believe that authority any more"
    out(as_json, told, lambda console: console.print(line, soft_wrap=True))


@operators.command()
def add(
    name: Annotated[str, typer.Argument(help="Who; shown in lists.")],
    key: Annotated[str, typer.Argument(help="The key's file, or its public half as the x of its JWK.")],
    state_dir: StateDir = None,
    profile: ProfileName = "simulated",
    as_json: AsJson = False,
) -> None:
    """Let somebody command the robots that enrol from now on; others learn the key by their twin."""
    from agent.contract.signing import encode
    from agent.desk import keys

    del profile
    path = Path(key)
    public = encode(keys.load(path).public) if path.is_file() else key
    told = ordered(state_dir, {"op": "operator add", "name": name, "public": public})
    out(as_json, told, lambda console: console.print(f"{told['name']}: {told['key']}", soft_wrap=True))


@operators.command("list")
def list_(state_dir: StateDir = None, profile: ProfileName = "simulated", as_json: AsJson = False) -> None:
    """All operators and their public keys."""
    del profile
    told = ordered(state_dir, {"op": "operator list"})
    table = grid("name", "key", "x", "added")
    for one in told:
        table.add_row(*(cell(one[column]) for column in ("name", "key", "x", "added")))
    out(as_json, told, lambda console: console.print(table))


@operators.command()
def remove(
    name: Annotated[str, typer.Argument(help="As operator list shows it.")],
    state_dir: StateDir = None,
    profile: ProfileName = "simulated",
    as_json: AsJson = False,
) -> None:
    """No robot that enrols from now on obeys that key; those that know it forget it by their twin."""
    del profile
    told = ordered(state_dir, {"op": "operator remove", "name": name})
    out(as_json, told, lambda console: console.print(f"{name}: removed"))
