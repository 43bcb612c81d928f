"""`voxmeter status`: one screen about one robot."""

from typing import Any

from rich.console import Console

from agent.cli.options import AsJson, ProfileName, StateDir, out, run

HOUR_S = 3600


def status(state_dir: StateDir = None, profile: ProfileName = "simulated", as_json: AsJson = False) -> None:
    """Whether it runs and hears, what waits for the backend, when that last answered, and how far its clock can be believed."""
    from agent import service

    told = run(service.status(profile, state_dir))
    out(as_json, told, lambda console: _show(console, told))


def _show(console: Console, told: dict[str, Any]) -> None:
    waiting, sync = told["waiting"], told["sync"]
    console.print(f"robot     {told['device']}, {'running' if told['running'] else 'not running'}")
    console.print(f"hearing   {_hearing(told['hearing'])}")
    age = f", the oldest for {told['oldest_s'] / HOUR_S:.1f} h" if told["oldest_s"] is not None else ""
    console.print(f"backlog   {waiting['records']} records{age}")
    console.print(f"last ack  {waiting['last_ack'] or 'none yet'}")
    if sync is not None:
        problem = f"; {sync['problem']}" if sync["problem"] else ""
        console.print(f"link      {sync['link']}, {'up' if sync['up'] else 'down'}{problem}")
    if distrust := told.get("trust"):  # an owner of the version before tells nothing of it
        console.print(f"believes  NOBODY, nothing leaves this robot: {distrust}")
    console.print("lease     none")
    console.print(f"clock     {told['clock']['time']}, {told['clock']['quality']}")


def _hearing(hearing: dict[str, Any] | None) -> str:
    if hearing is None:
        return "no: only a service whose profile has a [sound] table listens"
    if not hearing["hearing"]:
        return f"NO: {hearing['why']}"
    mute = "" if hearing["speaker"]["speaking"] else f"; but MUTE: {hearing['speaker']['why']}"
    return f"{hearing['device']}, {hearing['level']:.0f} dB, rate {hearing['rate']:.2f}; {hearing['floor']}{mute}"
