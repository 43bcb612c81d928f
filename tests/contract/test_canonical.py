"""The bytes of a record: the same as RFC 8785 says, and nothing but what it says without numbers."""

import hashlib
import json

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from agent.contract.canonical import BODY_BYTES_MAX, INTEGER_MAX, canonical, genesis, link
from tests.conftest import GOLDEN

KEYS = st.text(st.characters(max_codepoint=126, min_codepoint=33), min_size=1, max_size=12)
SCALARS = st.integers(-INTEGER_MAX, INTEGER_MAX) | st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12)


@given(st.dictionaries(KEYS, VALUES, max_size=6))
def test_bytes_equal_rfc8785(value: dict[str, object]) -> None:
    assert canonical(value) == rfc8785.dumps(value)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [1.5, None, True, 2**53, -(2**53), b"x", {"é": 1}, {1: 1}, "\ud800"])
def test_what_the_form_excludes_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="not canonical"):
        canonical({"data": {"deep": [value]}})


def test_a_body_of_more_than_8_kib_is_refused() -> None:
    frame = len(canonical({"a": ""}))
    assert len(canonical({"a": "x" * (BODY_BYTES_MAX - frame)})) == BODY_BYTES_MAX
    with pytest.raises(ValueError, match="8193 bytes"):
        canonical({"a": "x" * (BODY_BYTES_MAX - frame + 1)})


def test_the_chain_is_what_the_golden_vector_says() -> None:
    vector = json.loads((GOLDEN / "chain.json").read_text())
    head = genesis(vector["epoch"])
    assert head.hex() == vector["h0"]
    for body, expected in zip(vector["bodies"], vector["hashes"], strict=True):
        head = link(head, body.encode())
        assert head.hex() == expected


def test_the_chain_begins_as_specified() -> None:
    assert genesis("0" * 32) == hashlib.sha256(b"voxmeter-usage-v1\x00" + b"0" * 32).digest()
