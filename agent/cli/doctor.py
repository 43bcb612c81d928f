"""`voxmeter doctor`: is this machine fit to be a robot?"""

from rich.console import Console

from agent.cli.options import AsJson, ProfileName, StateDir, fail, grid, out
from agent.store.state import state_folder


def doctor(state_dir: StateDir = None, profile: ProfileName = "simulated", as_json: AsJson = False) -> None:
    """Check profile, models, disk, clock and sound. Exit 1 if something must be mended."""
    from agent import doctor as examination
    from agent.clock import SystemClock
    from agent.weights.catalog import models_folder

    checks = examination.examine(profile, state_folder(state_dir), models_folder(), SystemClock())
    told = [{"check": check.name, "status": check.status, "says": check.says, "do": check.todo or None} for check in checks]

    def show(console: Console) -> None:
        table = grid("check", "", "says", "do")
        for check in checks:
            table.add_row(check.name, check.status, check.says, check.todo)
        console.print(table)

    out(as_json, told, show)
    if bad := [check for check in checks if check.status == "bad"]:
        fail("; ".join(f"{check.name}: {check.says}; {check.todo}" for check in bad), 1)
