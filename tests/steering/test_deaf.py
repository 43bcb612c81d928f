"""A robot that what is on trial has made deaf is ailing, also where the process that knew it to hear is gone."""

from pathlib import Path
from typing import Any

from agent.clock import SystemClock
from agent.ports.twin import Overlay, Standing, Trial
from agent.store.remote import Remote
from tests.steering.started import started


class Deaf:
    """Attends, and hears nothing."""

    def health(self) -> dict[str, Any]:
        return {"hearing": False}


def ailing(state: Path) -> str:
    """As the trial is told of a robot that was started just now."""
    afar, running = started(state, SystemClock(), Deaf())
    assert afar._helm is not None
    afar._helm._running = running
    return afar._surroundings().ailing()


def test_a_start_does_not_forget_that_the_robot_heard_before_what_is_on_trial(tmp_path: Path) -> None:
    book = Remote(tmp_path, lambda _: None)
    trial = Trial(Overlay(1, {"sound": {"microphone": "none"}}), "twin", linked=False, tries=1)
    book.put(Standing(1, "trial", trial=trial))
    assert ailing(tmp_path) == ""
    book.put(Standing(1, "trial", trial=Trial(trial.overlay, "twin", linked=False, tries=1, heard=True)))
    assert ailing(tmp_path) == "the robot does not hear any more"
