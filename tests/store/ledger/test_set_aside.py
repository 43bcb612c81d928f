"""Setting a ledger aside takes two names: a power cut between them must never leave the log without its file."""

from pathlib import Path

from agent.clock import SystemClock, seeded
from agent.files import sync_folder
from agent.sim.disk.crash import images_at
from agent.sim.disk.fuse import recorded
from agent.sim.disk.replay import Replay
from agent.store.db import LEDGER_FILE
from agent.store.ledger import epochs

EPOCH = "0123456789abcdef" * 2

IMAGES = 300
"""One in five is of the mode that reorders names, and one in four of those would show it."""


def test_a_log_is_never_left_behind_by_its_file(tmp_path: Path) -> None:
    seed = SystemClock().seed()
    with recorded(tmp_path) as disk:
        for name in (LEDGER_FILE, f"{LEDGER_FILE}-wal"):
            (tmp_path / name).write_bytes(b"x" * 100)
        sync_folder(tmp_path)
        begun = disk.count()
        assert epochs.set_aside(tmp_path, EPOCH, damaged=True).name == f"ledger-{EPOCH}.damaged"
        trace = disk.trace()
    replay, chance = Replay(trace), seeded(seed)
    replay.advance(begun - 1)
    for k in range(begun, len(trace)):
        replay.advance(k)
        for image in images_at(replay, chance, IMAGES):
            assert LEDGER_FILE in image or f"{LEDGER_FILE}-wal" not in image, f"seed {seed}, op {k}: {sorted(image)}"
    assert sorted(image) == [f"ledger-{EPOCH}.damaged", f"ledger-{EPOCH}.damaged-wal"]
