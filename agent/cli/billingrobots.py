"""`voxmeter billing authority`, `revoke`, `operator`: who vouches for robots, who is no robot any more, who commands them."""

from pathlib import Path
from typing import Annotated, Any

import typer

from agent.cli.billing import ordered
from agent.cli.options import AsJson, ProfileName, StateDir, cell, fail, grid, out, screen

operators = typer.Typer(help="Whose commands robots obey: add, list, remove, everywhere.")

Everywhere = Annotated[bool, typer.Option("--everywhere", help="Tell it all robots that are enrolled as well, by their twins.")]

UNTOLD = "robots that are enrolled learn it by their twin alone; all of them: voxmeter billing operator everywhere"


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
    *,
    name: Annotated[str, typer.Argument(help="Who; shown in lists.")],
    key: Annotated[str, typer.Argument(help="The key's file, or its public half as the x of its JWK.")],
    everywhere: Everywhere = False,
    state_dir: StateDir = None,
    profile: ProfileName = "simulated",
    as_json: AsJson = False,
) -> None:
    """Let somebody command the robots that enrol from now on; others learn the key by their twin: --everywhere."""
    from agent.contract.signing import encode
    from agent.desk import keys

    del profile
    path = Path(key)
    public = encode(keys.load(path).public) if path.is_file() else key
    told = ordered(state_dir, {"op": "operator add", "name": name, "public": public})
    _changed(f"{told['name']}: {told['key']}", told, state_dir, everywhere=everywhere, as_json=as_json)


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
    everywhere: Everywhere = False,
    state_dir: StateDir = None,
    profile: ProfileName = "simulated",
    as_json: AsJson = False,
) -> None:
    """No robot that enrols from now on obeys that key; those that know it forget it by their twin: --everywhere."""
    del profile
    told = ordered(state_dir, {"op": "operator remove", "name": name})
    _changed(f"{name}: removed", told, state_dir, everywhere=everywhere, as_json=as_json)


@operators.command("everywhere")
def everywhere_(state_dir: StateDir = None, profile: ProfileName = "simulated", as_json: AsJson = False) -> None:
    """Set the twin of every robot that is not struck off: it obeys the operators there are, and nobody else. Exit 1 where one can't be."""
    del profile
    told = ordered(state_dir, {"op": "operator everywhere"})
    out(as_json, told, lambda console: console.print(_line(told)))
    _check(told)


def _changed(line: str, told: dict[str, Any], state_dir: Path | None, *, everywhere: bool, as_json: bool) -> None:
    """Tells what has changed before the robots are told: that stands, whatever comes of them."""
    if not as_json:
        screen().print(line, soft_wrap=True)
    sent = ordered(state_dir, {"op": "operator everywhere"}) if everywhere else None
    shown = told if sent is None else told | {"everywhere": sent}
    out(as_json, shown, lambda console: console.print(UNTOLD if sent is None else _line(sent), soft_wrap=True))
    if sent is not None:
        _check(sent)


def _line(sent: dict[str, Any]) -> str:
    return f"{sent['robots']} robots, {sent['set']} of them get a twin for it"


def _check(sent: dict[str, Any]) -> None:
    if sent["failed"]:
        robot, why = next(iter(sent["failed"].items()))
        fail(f"{len(sent['failed'])} robots get no twin for it, the first is {robot}: {why}", 1)
