"""Every command takes the three options of all."""

from collections.abc import Iterator
from typing import Any

import pytest
from typer.main import get_command

from agent.cli import app


def commands(group: Any, name: str = "voxmeter") -> Iterator[tuple[str, Any]]:
    for word, command in sorted(getattr(group, "commands", {}).items()):
        if hasattr(command, "commands"):
            yield from commands(command, f"{name} {word}")
        else:
            yield f"{name} {word}", command


@pytest.mark.parametrize(("name", "command"), [pytest.param(*one, id=one[0]) for one in commands(get_command(app))])
def test_every_command_takes_state_dir_profile_and_json(name: str, command: Any) -> None:
    taken = {option for parameter in command.params for option in parameter.opts}
    assert {"--state-dir", "--profile", "--json"} <= taken
