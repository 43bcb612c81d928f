"""A disk that refuses: full, read-only, failing or slow at any step. The robot says so, loses nothing it promised, and goes on after."""

import asyncio
import tempfile
from pathlib import Path

import pytest

from agent.clock import SystemClock, seeded
from agent.errors import LedgerBusy, VoxmeterError
from agent.sim.disk.crash import image, write
from agent.sim.disk.faults import Faults
from agent.sim.disk.fuse import RecordedDisk, recorded
from agent.sim.disk.replay import Replay
from agent.sim.power.life import Life
from agent.sim.power.promises import Promised
from agent.sim.power.verdict import Judge

TURNS = 6


def fault(kind: str, at: int) -> Faults:
    return Faults(**{kind: at})


async def live(disk: RecordedDisk, seed: int, faults: Faults) -> list[str]:
    """Some turns, then a fault from some op on, turns that may be refused, no fault any more, and turns again. Returns refusals."""
    life = Life(disk.mount_point, seed, disk.mark)
    refused = []
    await life.turn()
    disk.set(faults)
    for _ in range(TURNS):
        try:
            await life.turn()
            await life.sync()
            await life.ledger.tidy()
        except VoxmeterError as error:
            refused.append(str(error))
    disk.lift()
    for entry, _ in await life.ledger.left_open():
        refused.append(f"open: {entry.call.stage}")
    await life.turn()
    await life.ledger.aclose()
    return refused


def judged(disk: RecordedDisk, scratch: Path) -> list[str]:
    trace = disk.trace()
    replay = Replay(trace)
    replay.advance(len(trace) - 1)
    judge = Judge(scratch)
    write(image(replay, "everything", seeded(1)), judge.folder)
    return judge.judge(Promised.of(trace)).broken


@pytest.mark.parametrize("kind", ["no_space_at", "read_only_from", "io_error_at"])
def test_a_disk_that_refuses_at_any_step_costs_no_record(tmp_path: Path, kind: str) -> None:
    """A dozen steps out of all, with a fresh seed."""
    seed = SystemClock().seed()
    chance = seeded(seed)
    refusals = 0
    for _ in range(12):
        mount = Path(tempfile.mkdtemp(dir=tmp_path))
        with recorded(mount) as disk:
            faults = fault(kind, 140 + chance.randrange(260))
            refusals += len(asyncio.run(live(disk, 1, faults)))
            assert judged(disk, tmp_path / "image") == [], f"seed {seed}: {faults}"
    assert refusals, f"seed {seed}: the disk refused nothing"


def test_a_slow_sync_is_only_slow(tmp_path: Path) -> None:
    mount = tmp_path / "disk"
    mount.mkdir()
    with recorded(mount, Faults(fsync_ms=50)) as disk:
        assert asyncio.run(live(disk, 2, Faults(fsync_ms=50))) == []
        assert judged(disk, tmp_path / "image") == []


def test_two_owners_on_one_disk(tmp_path: Path) -> None:
    first = Life(tmp_path, 1)
    with pytest.raises(LedgerBusy, match="belongs to process"):
        Life(tmp_path, 2)
    asyncio.run(first.ledger.aclose())
    asyncio.run(Life(tmp_path, 3).ledger.aclose())
