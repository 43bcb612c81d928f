"""What a record may be, pinned by golden vectors."""

import json

import pytest
from pydantic import ValidationError

from agent.contract.canonical import canonical
from agent.contract.record import check
from tests.conftest import GOLDEN

VECTORS = json.loads((GOLDEN / "records.json").read_text())


@pytest.mark.parametrize("vector", VECTORS["valid"], ids=lambda vector: vector["why"])
def test_valid(vector: dict[str, object]) -> None:
    check(vector["body"])
    assert canonical(vector["body"])  # type: ignore[arg-type]


@pytest.mark.parametrize("vector", VECTORS["invalid"], ids=lambda vector: vector["why"])
def test_invalid(vector: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        check(vector["body"])
