"""Beds for robots: the tree of this machine, and a folder for the disks of a session."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system import tree
from tests.system.bed import Machine, booted


@pytest.fixture(scope="session")
def debian() -> Path:
    """Fails, and says why, where no systemd can be booted: whoever runs these by name wants to know."""
    why = tree.why_not()
    assert why is None, why
    return tree.made()


@pytest.fixture(scope="session")
def bare(debian: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A booted Debian without voxmeter."""
    with booted(debian, tmp_path_factory.mktemp("bare")) as machine:
        yield machine
