"""`voxmeter fleet send / list / watch / key`: the operator's desk."""

import difflib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli import fleetscreen
from agent.cli.options import AsJson, ProfileName, StateDir, fail, out, run, screen

if TYPE_CHECKING:
    from agent.desk.news import News
    from agent.desk.ordering import Wish
    from agent.desk.sending import Sending
    from agent.desk.settings import DeskSettings
    from agent.desk.watching import Watching

WAIT_S = 30.0
"""For answers; a robot that is there pings back in milliseconds, one that speaks or loads engines takes longer."""

TELEMETRY_S = 3.0
VALID_MINUTES = 10
"""Long enough for a robot whose link is poor, too short for an order nobody remembers."""

HAND_OVER_S = 60.0
"""For the broker to take the commands of a large fleet."""

FAILED_NAMED = 3
"""Robots that the last line names."""

Broker = Annotated[str, typer.Option("--broker", help="HOST:PORT of the broker, TLS.", show_default=False)]
Authority = Annotated[Path | None, typer.Option("--ca", help="PEM of the authority behind the broker's certificate.")]
Certificate = Annotated[Path | None, typer.Option("--certificate", help="The operator's own, PEM, issued for operator/NAME.")]
Key = Annotated[Path | None, typer.Option("--key", help="The certificate's key, PEM.")]
Tenant = Annotated[str, typer.Option("--tenant", help="Whose robots.", show_default=False)]
OperatorKey = Annotated[Path | None, typer.Option("--operator-key", help="The key that signs commands; see: voxmeter fleet key.")]
File = Annotated[Path | None, typer.Option("--fleet", help="A TOML with these options, instead of ~/.config/voxmeter/fleet.toml.")]


def send(
    op: Annotated[str, typer.Argument(help="What is to be done: ping, say, mode.set …", show_default=False)],
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]…", help="Its arguments; KEY:=JSON for what is no text.", show_default=False),
    ] = None,
    *,
    args: Annotated[str, typer.Option("--args", help="All arguments, as a JSON object.", show_default=False)] = "",
    device: Annotated[list[str] | None, typer.Option("--device", help="A robot; as often as needed.", show_default=False)] = None,
    group: Annotated[str, typer.Option("--group", help="All robots of a group.", show_default=False)] = "",
    everyone: Annotated[bool, typer.Option("--all", help="All robots of the tenant.")] = False,
    valid: Annotated[int, typer.Option("--valid", min=1, max=20_160, help="Minutes in which a robot may begin it.")] = VALID_MINUTES,
    wait: Annotated[float, typer.Option("--wait", min=0, help="Seconds to wait for answers.")] = WAIT_S,
    detach: Annotated[bool, typer.Option("--detach", help="Don't wait: print the ids of the commands.")] = False,
    tenant: Tenant = "",
    broker: Broker = "",
    authority: Authority = None,
    certificate: Certificate = None,
    key: Key = None,
    operator_key: OperatorKey = None,
    file: File = None,
    state_dir: StateDir = None,
    profile: ProfileName = "simulated",
    as_json: AsJson = False,
) -> None:
    """Sign a command and send it to robots. Exit 1 unless all succeeded."""
    del state_dir, profile
    from agent.desk import keys
    from agent.desk.ordering import Wish

    given = arguments(words or (), args)
    check(op, given)
    wish = Wish(op, given, valid * 60, tuple(device or ()), group, everyone)
    settings = _settings(file, broker=broker, ca=authority, certificate=certificate, key=key, tenant=tenant, operator_key=operator_key)
    keys.load(settings.operator_key)  # before anything is connected
    run(_send(wish, settings, wait, as_json=as_json, detach=detach))


def listed(
    *,
    wait: Annotated[float, typer.Option("--wait", min=0, help="Seconds to wait for what robots measure of themselves.")] = TELEMETRY_S,
    tenant: Tenant = "",
    broker: Broker = "",
    authority: Authority = None,
    certificate: Certificate = None,
    key: Key = None,
    file: File = None,
    state_dir: StateDir = None,
    profile: ProfileName = "simulated",
    as_json: AsJson = False,
) -> None:
    """Show the robots of a tenant: who is there, with which software, clock and twin; what they measured, if they tell it meanwhile."""
    del state_dir, profile
    rows = run(_listed(_settings(file, broker=broker, ca=authority, certificate=certificate, key=key, tenant=tenant), wait))
    out(as_json, rows, lambda console: fleetscreen.robots(console, rows))


def watch(
    cmd_ids: Annotated[list[str] | None, typer.Argument(metavar="[CMD_ID]…", help="Only answers to these.", show_default=False)] = None,
    *,
    wait: Annotated[float, typer.Option("--wait", min=0, help="Seconds; 0: until Ctrl-C, or until all these ids are answered.")] = 0,
    tenant: Tenant = "",
    broker: Broker = "",
    authority: Authority = None,
    certificate: Certificate = None,
    key: Key = None,
    file: File = None,
    state_dir: StateDir = None,
    profile: ProfileName = "simulated",
    as_json: AsJson = False,
) -> None:
    """Follow robots live: births, goodbyes, alarms, answers. An answer that came before is not told again: the broker keeps none.

    With ids it ends when each was answered once, with exit 1 if not all succeeded.
    """
    del state_dir, profile
    from agent.desk.watching import Watching

    watching = Watching(cmd_ids or ())
    settings = _settings(file, broker=broker, ca=authority, certificate=certificate, key=key, tenant=tenant)
    run(_watch(watching, settings, wait, as_json=as_json))
    if problem := watching.problem:
        fail(problem, 1)


def key(operator_key: OperatorKey = None, state_dir: StateDir = None, profile: ProfileName = "simulated", as_json: AsJson = False) -> None:
    """Show the key that signs this operator's commands; it is made where there is none."""
    del state_dir, profile
    from agent.clock import SystemClock
    from agent.contract.signing import encode
    from agent.desk import keys, settings

    path = keys.key_path(operator_key or settings.written().operator_key)
    made = not path.exists()
    held = keys.make(path, SystemClock()) if made else keys.load(path)
    told = {"key_id": held.key_id, "public": encode(held.public), "file": str(path), "made": made}
    out(as_json, told, lambda console: console.print(_key_lines(told), soft_wrap=True))


def _key_lines(told: dict[str, Any]) -> str:
    lines = [f"{name:<9}{told[name]}" for name in ("key_id", "public", "file")]
    return "\n".join([*lines, "", "robots believe it once the backend has it: voxmeter billing operator add NAME PUBLIC"])


def arguments(words: Sequence[str], text: str) -> dict[str, Any]:
    """KEY=VALUE is text, KEY:=JSON anything; `text` is an object of all that is not named so. Raises BadInput."""
    from agent.errors import BadInput

    told = _json(text, "--args") if text else {}
    if not isinstance(told, dict):
        raise BadInput("--args is no JSON object", """write it as '{"name": value}'""")
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name.rstrip(":"):
            raise BadInput(f"{word!r} is no argument", "write KEY=VALUE, or KEY:=JSON for what is no text")
        told[name.removesuffix(":")] = _json(value, name.removesuffix(":")) if name.endswith(":") else value
    return told


def _json(text: str, what: str) -> Any:
    from agent.errors import BadInput

    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{what} is not JSON: {error}", "mind the shell's quotes") from error


def check(op: str, args: dict[str, Any]) -> None:
    """Whether a robot of this release could do that; one that is older or newer decides by itself. Raises BadInput."""
    from agent.contract.fleet.command import OPS
    from agent.errors import BadInput
    from agent.fleet.commands import COMMANDS, spec

    if op not in OPS:
        close = difflib.get_close_matches(op, OPS, 1)
        raise BadInput(f"no command is called {op!r}", f"did you mean {close[0]!r}?" if close else f"there are {', '.join(OPS)}")
    if op in COMMANDS:
        try:
            spec(op).given(args)
        except BadInput as error:
            raise BadInput(f"{op}: {error.message}", "robots would refuse it") from error


def _settings(file: Path | None, **options: Any) -> "DeskSettings":
    from agent.desk import settings

    return settings.settled(settings.written(file), **options)


def _say(line: str) -> None:
    print(f"voxmeter: {' '.join(line.split())}", file=sys.stderr, flush=True)


async def _send(wish: "Wish", settings: "DeskSettings", wait_s: float, *, as_json: bool, detach: bool) -> None:
    from agent.clock import SystemClock
    from agent.desk.desk import Desk
    from agent.desk.ordering import ordered

    clock = SystemClock()
    async with Desk(settings, clock, _say) as desk:
        sending = ordered(wish, settings.tenant, desk.roster, settings.operator_key, clock)
        if detach:
            await desk.publish(sending, HAND_OVER_S)
        else:
            with fleetscreen.following(screen(to_stderr=True), sending, clock) as told:
                await desk.carry(sending, wait_s, told)
    rows = [sending.outcome(order) for order in sending.orders]
    if detach:
        out(as_json, rows, lambda console: console.print("\n".join(sending.cmd_ids)))
    else:
        out(as_json, rows, lambda console: fleetscreen.outcomes(console, sending))
    if problem := _handed_over(sending) if detach else _unanswered(sending):
        fail(problem, 1)


def _unanswered(sending: "Sending") -> str:
    told = sending.progress()
    if told.succeeded == told.asked:
        return ""
    named = [f"{order.device} ({sending.outcome(order)['state']})" for order in sending.orders if not order.succeeded]
    more = f" and {len(named) - FAILED_NAMED} more" if len(named) > FAILED_NAMED else ""
    return f"{told.asked - told.succeeded} of {told.asked} robots did not succeed: {', '.join(named[:FAILED_NAMED])}{more}"


def _handed_over(sending: "Sending") -> str:
    left = [order.device for order in sending.orders if not order.reached]
    if not left:
        return ""
    named = ", ".join(left[:FAILED_NAMED]) + " …" * (len(left) > FAILED_NAMED)
    return f"the broker keeps nothing for {len(left)} robots ({named}); without --detach they get it when they are back"


async def _listed(settings: "DeskSettings", wait_s: float) -> list[dict[str, Any]]:
    from agent.clock import SystemClock
    from agent.contract import wire
    from agent.desk.desk import Desk

    async with Desk(settings, SystemClock(), _say, (wire.REPORTED, wire.TELEMETRY)) as desk:
        await desk.until(lambda: all(robot.telemetry for robot in desk.roster.known if robot.present), wait_s)
        return [robot.row() for robot in desk.roster.known]


async def _watch(watching: "Watching", settings: "DeskSettings", wait_s: float, *, as_json: bool) -> None:
    from agent.clock import SystemClock
    from agent.contract import wire
    from agent.desk.desk import Desk

    def show(news: "News") -> None:
        if not watching.wanted(news):
            return
        line = json.dumps(fleetscreen.news_json(news), ensure_ascii=False) if as_json else fleetscreen.news_line(news)
        if line:
            print(line, flush=True)

    async with Desk(settings, SystemClock(), _say, (wire.ALARM, wire.REPORTED)) as desk:
        desk.listen(show)
        _say(f"watching {settings.tenant}: {sum(robot.present for robot in desk.roster.known)} robots are there")
        await desk.until(lambda: watching.done, wait_s or None)
