"""`voxmeter billing`: the billing backend, and what its operator orders."""

import contextlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli.options import AsJson, ProfileName, StateDir, cell, fail, grid, out, run, screen

if TYPE_CHECKING:
    from agent.billing.serve import Ready

app = typer.Typer(help="The billing backend: serve, keys, token, twin, revoke, operator, authority, backup, restore, audit.")
keys = typer.Typer(help="Credentials of the API: create, list, revoke.")
app.add_typer(keys, name="keys")

CertificateFile = Annotated[Path | None, typer.Option("--certificate", help="PEM, with its chain.", show_default=False)]
KeyFile = Annotated[Path | None, typer.Option("--key", help="The certificate's key, PEM.", show_default=False)]
BrokerAddress = Annotated[str | None, typer.Option("--broker", help="HOST:PORT of the MQTT broker.", show_default=False)]
BrokerAuthority = Annotated[Path | None, typer.Option("--broker-ca", help="Whose certificates to believe, PEM.", show_default=False)]
BrokerCertificate = Annotated[Path | None, typer.Option("--broker-certificate", help="Shown to the broker.", show_default=False)]
BrokerKey = Annotated[Path | None, typer.Option("--broker-key", help="That certificate's key.", show_default=False)]
DevicesAuthority = Annotated[Path | None, typer.Option("--device-authority", help="Vouches for robots, PEM.", show_default="its own")]
DevicesKey = Annotated[Path | None, typer.Option("--device-authority-key", help="That authority's key.", show_default=False)]
WebhookAddress = Annotated[str, typer.Option("--webhook", help="Address that is told of alarms, over https.", show_default=False)]
SecretFile = Annotated[Path | None, typer.Option("--webhook-secret-file", help="Signs what it is told.", show_default=False)]


@app.command()
def serve(
    *,
    host: Annotated[str, typer.Option("--host", help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0: any that is free.")] = 8443,
    certificate: CertificateFile = None,
    key: KeyFile = None,
    plain: Annotated[bool, typer.Option("--plain", help="Without TLS; only on this machine itself.")] = False,
    broker: BrokerAddress = None,
    broker_ca: BrokerAuthority = None,
    broker_certificate: BrokerCertificate = None,
    broker_key: BrokerKey = None,
    broker_plain: Annotated[bool, typer.Option("--broker-plain", help="Without TLS; only on this machine itself.")] = False,
    device_authority: DevicesAuthority = None,
    device_authority_key: DevicesKey = None,
    certificate_days: Annotated[int, typer.Option("--certificate-days", min=1, max=825, help="A robot's certificate lives so long.")] = 90,
    consumers: Annotated[int, typer.Option("--consumers", min=1, max=16, help="MQTT consumers of the robots' books.")] = 2,
    allow: Annotated[list[str] | None, typer.Option("--allow", help="Only from these networks (CIDR); may be repeated.")] = None,
    rate: Annotated[int, typer.Option("--rate", min=1, max=100_000, help="Requests a second of one client.")] = 100,
    connections: Annotated[int, typer.Option("--connections", min=1, max=4096, help="At once from one address, as of a proxy.")] = 256,
    webhook: WebhookAddress = "",
    webhook_secret_file: SecretFile = None,
    state_dir: StateDir = None,
    profile: ProfileName = "simulated",
    as_json: AsJson = False,
) -> None:
    """Take robots' records in over HTTPS and MQTT, commit, acknowledge, and tell what they come to; until stopped."""
    from agent.billing import serve as serving
    from agent.billing.access.robots.authority import both
    from agent.billing.http.gate import Limits
    from agent.clock import SystemClock
    from agent.store.state import state_folder

    del profile
    devices = both(device_authority, device_authority_key)
    way = serving.broker_at(broker, broker_ca, broker_certificate, broker_key, plain=broker_plain, consumers=consumers)
    limits = Limits(rate, serving.networks(allow or []), connections)
    more = (devices, certificate_days, webhook, webhook_secret_file)
    settings = serving.Settings(state_folder(state_dir), host, port, certificate, key, plain, limits, way, *more)
    run(serving.serve(settings, SystemClock(), lambda ready: _tell(ready, as_json), lambda line: _say(line, as_json)))


def _tell(ready: "Ready", as_json: bool) -> None:
    """One line, at once: whoever started the backend waits for it."""
    if as_json:
        typer.echo(json.dumps(asdict(ready)))
    else:
        _say(ready.line, as_json)


def _say(line: str, as_json: bool) -> None:
    with contextlib.suppress(OSError, SystemExit):  # rich ends the process when nobody reads it; the backend goes on
        screen(to_stderr=as_json).print(line, soft_wrap=True)


@keys.command()
def create(
    *,
    name: Annotated[str, typer.Argument(help="What it is for; shown in lists.")],
    scope: Annotated[list[str], typer.Option("--scope", help="What it may do, such as statements:read; may be repeated.")],
    tenant: Annotated[str, typer.Option("--tenant", help="Only this tenant's; without it every tenant's.")] = "",
    public_key: Annotated[str, typer.Option("--public-key", help="Ed25519, for a client that signs instead of showing a secret.")] = "",
    state_dir: StateDir = None,
    profile: ProfileName = "simulated",
    as_json: AsJson = False,
) -> None:
    """Make an API key, which is an OAuth2 client as well. It is shown this once."""
    del profile
    asked = {"op": "keys create", "name": name, "scopes": scope, "tenant": tenant, "public": public_key}
    told = ordered(state_dir, asked)
    out(as_json, told, lambda console: console.print(told.get("api_key", told["id"]), soft_wrap=True))


@keys.command("list")
def list_(state_dir: StateDir = None, profile: ProfileName = "simulated", as_json: AsJson = False) -> None:
    """All credentials, without their secrets."""
    del profile
    told = ordered(state_dir, {"op": "keys list"})
    table = grid("id", "name", "tenant", "device", "scopes", "created", "revoked")
    for one in told:
        row = one | {"scopes": " ".join(one["scopes"])}
        table.add_row(*(cell(row.get(column)) for column in ("id", "name", "tenant", "device", "scopes", "created", "revoked")))
    out(as_json, told, lambda console: console.print(table))


@keys.command()
def revoke(
    credential: Annotated[str, typer.Argument(help="Its id, as keys list shows it.")],
    state_dir: StateDir = None,
    profile: ProfileName = "simulated",
    as_json: AsJson = False,
) -> None:
    """Make a credential good for nothing, tokens included, at once."""
    del profile
    told = ordered(state_dir, {"op": "keys revoke", "id": credential})
    out(as_json, told, lambda console: console.print(f"{credential}: revoked"))


@app.command()
def token(
    *,
    device: Annotated[str, typer.Argument(help="The robot; - for one new robot of any name.")],
    tenant: Annotated[str, typer.Option("--tenant", help="Whose robot it is.")],
    account: Annotated[str, typer.Option("--account", help="The account that pays.")],
    hours: Annotated[float, typer.Option("--hours", help="How long it is good.")] = 24,
    state_dir: StateDir = None,
    profile: ProfileName = "simulated",
    as_json: AsJson = False,
) -> None:
    """Mint a one-time token by which a robot registers. It is shown this once."""
    del profile
    asked = {"op": "token", "device": device.removeprefix("-"), "tenant": tenant, "account": account, "hours": hours}
    told = ordered(state_dir, asked)
    out(as_json, told, lambda console: console.print(told["token"], soft_wrap=True))


@app.command("twin")
def twin_(
    *,
    robot: Annotated[str, typer.Argument(help="Which one: TENANT/DEVICE.")],
    settings: Annotated[Path | None, typer.Option("--settings", help="What differs from its profile, TOML.", show_default=False)] = None,
    groups: Annotated[str | None, typer.Option("--groups", help="All it belongs to: a,b; empty: none.", show_default=False)] = None,
    ack_keys: Annotated[Path | None, typer.Option("--ack-keys", help="The backend's, a JWKS; replace.", show_default=False)] = None,
    operator_keys: Annotated[Path | None, typer.Option("--operator-keys", help="Likewise, operators'.", show_default=False)] = None,
    show: Annotated[bool, typer.Option("--show", help="Only tell what is wanted of it.")] = False,
    state_dir: StateDir = None,
    profile: ProfileName = "simulated",
    as_json: AsJson = False,
) -> None:
    """Set what a robot is to be, signed, one version on; what is not given stays as it was. Without any option, tell it."""
    from agent.billing import twins

    del profile
    tenant, _, device = robot.partition("/")
    wish = {} if show else twins.asked_for(settings=settings, groups=groups, ack_keys=ack_keys, operator_keys=operator_keys)
    told = ordered(state_dir, {"op": "twin set" if wish else "twin show", "tenant": tenant, "device": device} | wish)
    lines = [f"{robot}: version {told['version']}, published {told['published']}, reported {cell(told['reported']) or 'never'}"]
    lines += [f"{name}: {json.dumps(told[name], ensure_ascii=False)}" for name in ("groups", "settings", "trust") if told[name]]
    out(as_json, told, lambda console: console.print("\n".join(lines), soft_wrap=True))


@app.command()
def backup(
    file: Annotated[Path, typer.Argument(help="A new file.")],
    state_dir: StateDir = None,
    profile: ProfileName = "simulated",
    as_json: AsJson = False,
) -> None:
    """Copy the books to a file while the backend runs. Keep keys/backend as well: robots believe no other key."""
    del profile
    told = ordered(state_dir, {"op": "backup", "file": str(file.absolute())})
    line = f"{told['file']}: {told['bytes']} bytes; keep {told['key']} with it: robots believe no other key; beside it lies their authority"
    out(as_json, told, lambda console: console.print(line, soft_wrap=True))


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(help="What billing backup wrote.")],
    state_dir: StateDir = None,
    profile: ProfileName = "simulated",
    as_json: AsJson = False,
) -> None:
    """Put a backup in the place of the books while no backend runs. Robots send again what it lacks, as far as they have it."""
    from agent.billing import operate
    from agent.store.state import state_folder

    del profile
    told = operate.restore(state_folder(state_dir), file)
    line = f"{told['books']}: restored from {told['file']}"
    if not told["key_found"]:
        line += f"; put back {told['key']} before you serve: robots believe no other key"
    out(as_json, told, lambda console: console.print(line, soft_wrap=True))


@app.command()
def audit(state_dir: StateDir = None, profile: ProfileName = "simulated", as_json: AsJson = False) -> None:
    """The last lines of the log of who was let in, and whether all of it is as it was written. Exit 1 if not."""
    del profile
    told = ordered(state_dir, {"op": "audit"})
    table = grid("id", "time", "actor", "action", "tenant", "device", "told")
    for one in told["entries"]:
        row = one | {"told": " ".join(f"{name}={value}" for name, value in one["told"].items())}
        table.add_row(*(cell(row[column]) for column in ("id", "time", "actor", "action", "tenant", "device", "told")))
    out(as_json, told, lambda console: console.print(table))
    if told["first_broken"] is not None:
        fail(f"the log is not as it was written, from line {told['first_broken']} on; keep a copy of the books, and ask who was at them", 1)
    if not as_json:
        screen().print(f"{told['lines']} lines, all as they were written")


def ordered(state_dir: Path | None, asked: dict[str, Any]) -> Any:
    """What an order comes to, by the backend that runs or here."""
    from agent.billing import operate
    from agent.clock import SystemClock
    from agent.store.state import state_folder

    return run(operate.ordered(state_folder(state_dir), asked, SystemClock()))
