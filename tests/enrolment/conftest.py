"""A real mosquitto that believes the robots of a real `voxmeter billing serve`, for a module of tests."""

from collections.abc import Iterator

import pytest

from tests.enrolment.helpers import House


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with House.open(tmp_path_factory.mktemp("house")) as house:
        yield house
