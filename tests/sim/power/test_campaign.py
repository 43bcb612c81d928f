"""A slice of the long proofs, with a fresh seed each time, and proof that they can fail."""

from pathlib import Path

import pytest

from agent.clock import SystemClock, seeded
from agent.sim.disk.crash import Image, image, write
from agent.sim.disk.replay import Replay
from agent.sim.disk.trace import Trace
from agent.sim.power import campaign, kills
from agent.sim.power.promises import Promised
from agent.sim.power.verdict import Judge

CUTS_SECONDS = 12
KILLS_SECONDS = 8


@pytest.mark.long
def test_whatever_was_promised_is_there_after_a_power_cut(tmp_path: Path) -> None:
    clock = SystemClock()
    counts = campaign.cuts(clock.seed(), images=0, seconds=CUTS_SECONDS, clock=clock, folder=tmp_path)
    assert counts.images > 100
    assert counts.promises_broken == 0, counts.told()


@pytest.mark.long
def test_whatever_was_promised_is_there_after_a_kill(tmp_path: Path) -> None:
    clock = SystemClock()
    counts = kills.kill(clock.seed(), count=4, seconds=KILLS_SECONDS, clock=clock, folder=tmp_path)
    assert counts.promises_broken == 0, counts.told()


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Trace:
    return campaign.lived(4, tmp_path_factory.mktemp("life"))


def whole(trace: Trace) -> tuple[Image, Promised]:
    """All that was written, and all that was promised."""
    replay = Replay(trace)
    replay.advance(len(trace) - 1)
    return image(replay, "everything", seeded(1)), Promised.of(trace)


def judged(tmp_path: Path, left: Image, promised: Promised, *, lying: bool = False) -> list[str]:
    judge = Judge(tmp_path / "image")
    write(left, judge.folder)
    return judge.judge(promised, lying=lying).broken


def test_the_judge_finds_nothing_where_nothing_is_wrong(tmp_path: Path, life: Trace) -> None:
    assert judged(tmp_path, *whole(life)) == []


def test_the_judge_misses_a_record_an_epoch_a_key_and_a_side_file(tmp_path: Path, life: Trace) -> None:
    left, promised = whole(life)
    epoch = max(promised.records, key=lambda name: promised.records[name])
    promised.records[epoch] += 5
    assert any("promised were" in line for line in judged(tmp_path, left, promised))
    left, promised = whole(life)
    promised.records["0" * 32] = 1
    promised.odometer["0" * 32] = 0
    assert any("0" * 32 in line for line in judged(tmp_path, left, promised))
    left, promised = whole(life)
    promised.key, promised.key_used = "f" * 32, False
    assert any("usage key" in line for line in judged(tmp_path, left, promised))
    left, promised = whole(life)
    assert promised.acked
    del left["odometer.json"]
    assert any("side file" in line for line in judged(tmp_path, left, promised))


def test_a_robot_that_lost_everything_is_told_so_by_the_backend(tmp_path: Path, life: Trace) -> None:
    _, promised = whole(life)
    assert judged(tmp_path, {}, promised, lying=True) == []
    assert any("promised were" in line for line in judged(tmp_path, {}, promised))
