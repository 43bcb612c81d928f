"""What tests of damaged ledgers share."""

import pytest

from agent.sim.clock import SimulatedClock
from tests.store.ledger.world import World, closed, filled, killed


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("world")
    books, wrote = filled(folder / "state", SimulatedClock(seed=1))
    killed(folder / "state", folder / "killed")
    closed(books)
    return World(wrote, killed(folder / "state", folder / "sound"), folder / "killed")
