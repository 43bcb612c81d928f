"""The command line: `voxmeter COMMAND [OPTIONS]`. One file per command group, no logic; errors are one plain line."""

import os
import signal
import sys
from importlib import metadata
from typing import Annotated

import typer

from agent.cli import (
    ask,
    bench,
    billing,
    billingrobots,
    demo,
    doctor,
    faq,
    fleet,
    install,
    models,
    privacy,
    run,
    sim,
    status,
    sync,
    talk,
    tokens,
    usage,
)
from agent.cli.options import fail
from agent.errors import MissingPart, VoxmeterError

UsageError: type[Exception] = typer.BadParameter.__mro__[1]
"""What the command line library raises for wrong words; it exports only this subclass."""

STOPPED = 130
"""Exit status after Ctrl-C, as shells have it."""

app = typer.Typer(
    name="voxmeter",
    help="The agent on a customer-service robot: it hears, thinks and speaks, and counts every token.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"voxmeter {metadata.version('voxmeter')}")
        raise typer.Exit


@app.callback()
def root(version: Annotated[bool, typer.Option("--version", is_eager=True, callback=_version, help="Show the version.")] = False) -> None:
    """The agent on a customer-service robot: it hears, thinks and speaks, and counts every token."""


app.command("ask")(ask.ask)
app.command("demo")(demo.demo)
app.command("doctor")(doctor.doctor)
app.command("run")(run.serve)
app.command("install")(install.install)
app.command("upgrade")(install.upgrade)
app.command("uninstall")(install.uninstall)
app.command("bundle")(install.bundle)
app.command("status")(status.status)
app.command("talk")(talk.talk)
app.add_typer(models.app, name="models")
app.add_typer(usage.app, name="usage")
app.add_typer(sync.app, name="sync")
app.add_typer(faq.app, name="faq")
app.add_typer(privacy.app, name="privacy")
app.add_typer(tokens.app, name="tokens")
app.add_typer(bench.app, name="bench")
app.add_typer(sim.app, name="sim")
app.add_typer(billing.app, name="billing")
app.add_typer(fleet.app, name="fleet")
billing.app.command("authority")(billingrobots.authority)
billing.app.command("revoke")(billingrobots.revoke)
billing.app.add_typer(billingrobots.operators, name="operator")


def main() -> None:
    """Entry point: runs a command and turns every expected failure into its line and its exit status."""
    try:
        status = app(args=sys.argv[1:] or ["--help"], standalone_mode=False)
    except (typer.Abort, KeyboardInterrupt):
        status = STOPPED
    except VoxmeterError as error:
        fail(str(error), error.exit_status)
    except ModuleNotFoundError as error:
        missing = MissingPart(f"the Python package {error.name} is not installed", "install voxmeter with its extras, or run scripts/setup")
        fail(str(missing), missing.exit_status)
    except BrokenPipeError:  # whoever reads our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    except OSError as error:
        fail(f"{error.filename or 'system'}: {error.strerror or error}; check the path and its rights", 2)
    except UsageError as error:
        fail(f"{error.format_message()} See: voxmeter --help", 2)  # type: ignore[attr-defined]
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C too many would kill the interpreter while it ends, and change the exit status
    if status == STOPPED:
        fail("stopped", STOPPED)
    raise SystemExit(status or 0)
