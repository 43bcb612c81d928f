"""The power is cut at each step of an upgrade and of the way back: what runs is whole, on trial if need be, under its own units."""

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.installing import health, making, steps
from agent.installing.layout import Layout
from tests.installing.made import archive, booted, install, laid, machine, runs

STEPS = ("_lay_model", "_make_version", "begin_trial", "switch", "_lay_units", "reload", "restart", "verdict", "prune")
EVERY_STEP = [one if one == "switch" else pytest.param(one, marks=pytest.mark.long) for one in STEPS]

BACKWARDS = ("switch", "_lay_units", "end_trial", "reload", "restart")


class Cut(BaseException):
    """Of the power."""


@contextlib.contextmanager
def cut(place: Any, step: str, call: int, monkeypatch: pytest.MonkeyPatch, *, after: bool) -> Iterator[None]:
    """The power is cut at that call of a step, before it or after it."""
    real, calls = getattr(place, step), iter(range(1, 100))

    def cutting(*words: Any, **more: Any) -> Any:
        turn = next(calls)
        if turn == call and not after:
            raise Cut
        told = real(*words, **more)
        if turn == call:
            raise Cut
        return told

    with monkeypatch.context() as context:
        context.setattr(place, step, cutting)
        with pytest.raises(Cut):
            yield


def place_of(step: str, scripted: object) -> Any:
    return next(one for one in (making, steps, health, Layout, scripted) if hasattr(one, step))


@pytest.mark.parametrize("step", EVERY_STEP)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_an_upgrade_cut_off_anywhere_is_completed_by_doing_it_again(
    step: str, after: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands in between always has a current version that is whole, from the switch on a trial, and after a boot its own units."""
    install(tmp_path, archive(tmp_path / "1.tar"))
    layout, path = Layout(tmp_path), archive(tmp_path / "2.tar", "2.0")
    robot, scripted = machine(tmp_path)
    if step == "_lay_model":
        (layout.models / "ears/one.bin").unlink()
    with cut(place_of(step, scripted), step, 1, monkeypatch, after=after):
        asyncio.run(steps.upgrade(robot, path))
    assert layout.whole(layout.current())
    assert runs(tmp_path) in ("1.0", "2.0")
    assert (runs(tmp_path) == "2.0") == (layout.on_trial() is not None and STEPS.index(step) + after > STEPS.index("switch"))
    booted(layout)
    assert laid(layout) == {runs(tmp_path)}
    assert (layout.on_trial() is not None) == (runs(tmp_path) == "2.0")
    asyncio.run(steps.upgrade(robot, path))
    assert (runs(tmp_path), laid(layout)) == ("2.0", {"2.0"})
    assert (layout.models / "ears/one.bin").exists()


@pytest.mark.parametrize("step", BACKWARDS)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_way_back_that_is_cut_off_leaves_the_units_of_the_version_that_runs(
    step: str, after: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(making, "_run", lambda *_: None)  # no packages: nothing runs here, and it is quick
    install(tmp_path, archive(tmp_path / "1.tar"))
    layout, path = Layout(tmp_path), archive(tmp_path / "2.tar", "2.0")
    robot, scripted = machine(tmp_path)
    scripted.fails["2.0"] = "no microphone library"
    with cut(place_of(step, scripted), step, 1 if step == "end_trial" else 2, monkeypatch, after=after):
        asyncio.run(steps.upgrade(robot, path))
    booted(layout)
    assert laid(layout) == {layout.current().split("-")[0]}
    assert (layout.on_trial() is not None) == layout.current().startswith("2.0")
