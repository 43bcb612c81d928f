"""Acks: who may give one, what it may say, and where it leaves the device."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.contract.ack import Ack, HeldRange, Reject, compare, read, write
from agent.contract.canonical import genesis, link
from agent.contract.signing import UnknownKey, signed
from agent.errors import BadInput
from tests.contract.make_golden import DEVICE, EPOCH, NEW, OLD

TRUSTED = {OLD.key_id: OLD.public}
HASHES = [genesis(EPOCH)]
for number in range(1, 31):
    HASHES.append(link(HASHES[-1], str(number).encode()))


def ack(cum_ack: int = 5, head: bytes | None = None, *ranges: tuple[int, int], **told: Any) -> Ack:
    given: dict[str, Any] = {
        "device": DEVICE,
        "epoch": EPOCH,
        "cum_ack": cum_ack,
        "head_hash": (HASHES[cum_ack] if head is None else head).hex(),
        "ranges": [HeldRange(first=first, last=last) for first, last in ranges],
        "rejects": [Reject(sequence=3, code="bad-field", final=True)],
        "durable_through": 0,
        "backend_id": "b1",
        "window_batches": 4,
        "not_before_ms": 0,
        "server_time": "2026-11-22T13:00:00Z",
    }
    return Ack.model_validate(given | told)


@pytest.mark.parametrize("told", [{}, {"nonce": "n1"}, {"weather": "rain"}, {"durable_through": 5, "rejects": []}])
def test_an_ack_that_was_written_is_read(told: dict[str, Any]) -> None:
    said = ack(5, None, (7, 8), (10, 10), **told)
    assert read(*write(said, OLD), TRUSTED) == said
    assert read(*write(ack(0), OLD), TRUSTED) == ack(0)


def test_an_ack_is_what_the_contract_says() -> None:
    content, marks = write(ack(5, None, (7, 8)), OLD)
    assert json.loads(content) == {
        "device": DEVICE,
        "epoch": EPOCH,
        "cum_ack": 5,
        "head_hash": HASHES[5].hex(),
        "ranges": [{"first": 7, "last": 8}],
        "rejects": [{"sequence": 3, "code": "bad-field", "final": True}],
        "durable_through": 0,
        "backend_id": "b1",
        "window_batches": 4,
        "not_before_ms": 0,
        "server_time": "2026-11-22T13:00:00Z",
    }
    assert set(marks) == {"vx-key", "vx-sig"}


WRONG = [
    ({"cum_ack": -1}, "cum_ack: Input should be greater than or equal to 0"),
    ({"cum_ack": "5"}, "cum_ack: Input should be a valid integer"),
    ({"cum_ack": True}, "cum_ack: Input should be a valid integer"),
    ({"head_hash": "00"}, "head_hash: String should match"),
    ({"epoch": "x"}, "epoch: String should match"),
    ({"ranges": [{"first": 9, "last": 8}]}, "the range 9 to 8 is not above 5"),
    ({"ranges": [{"first": 5, "last": 8}]}, "the range 5 to 8 is not above 5"),
    ({"ranges": [{"first": 9, "last": 9}, {"first": 7, "last": 7}]}, "the range 7 to 7 is not above 9"),
    ({"ranges": [[7, 8]]}, "ranges.0: Input should be a valid dictionary"),
    ({"rejects": [{"sequence": 3, "code": "x", "final": "yes"}]}, "rejects.0.final: Input should be a valid boolean"),
    ({"durable_through": 6}, r"durable_through \(6\) is above cum_ack \(5\)"),
    ({"backend_id": ""}, "backend_id: String should have at least 1 character"),
    ({"not_before_ms": 0.5}, "not_before_ms: Input should be a valid integer"),
    ({"server_time": "2026-02-30T13:00:00Z"}, "server_time: day is out of range"),
    ({"server_time": "soon"}, "server_time: String should match"),
]


@pytest.mark.parametrize(("change", "says"), WRONG)
def test_an_ack_that_is_wrong_is_told_in_one_line(change: dict[str, Any], says: str) -> None:
    content = json.dumps(json.loads(write(ack(), OLD)[0]) | change).encode()
    with pytest.raises(BadInput, match=f"^the ack is wrong: {says}") as told:
        read(content, signed(content, OLD), TRUSTED)
    assert len(str(told.value).splitlines()) == 1


@pytest.mark.parametrize("name", list(json.loads(write(ack(), OLD)[0])))
def test_an_ack_lacks_nothing(name: str) -> None:
    content = json.dumps({field: value for field, value in json.loads(write(ack(), OLD)[0]).items() if field != name}).encode()
    with pytest.raises(BadInput, match=f"the ack is wrong: {name}: Field required"):
        read(content, signed(content, OLD), TRUSTED)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"{", "the ack is not JSON"),
        (b"[]", "the ack is wrong"),
        (b"\xff", "the ack is not JSON"),
        (b" " * 70_000, "has 70000 bytes; the most"),
    ],
)
def test_what_is_no_ack_is_told_too(content: bytes, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        read(content, signed(content, OLD), TRUSTED)


def test_only_a_trusted_key_gives_acks() -> None:
    content, marks = write(ack(), OLD)
    with pytest.raises(UnknownKey):
        read(*write(ack(), NEW), TRUSTED)
    with pytest.raises(BadInput, match="the ack isn't signed"):
        read(content, {}, TRUSTED)
    with pytest.raises(BadInput, match="the signature of the ack is wrong"):
        read(content.replace(b'"cum_ack":5', b'"cum_ack":6'), marks, TRUSTED)


def own(sequence: int) -> bytes | None:
    return HASHES[sequence]


def pruned_below(kept: int) -> Any:
    return lambda sequence: HASHES[sequence] if sequence >= kept else None


PLACES = st.integers(0, 20)


@given(PLACES, PLACES, PLACES, PLACES)
def test_the_same_history_is_agreed_behind_or_ahead_by_its_length(cum_ack: int, last: int, acked: int, pruned: int) -> None:
    acked = min(acked, last)
    expected = "ahead" if cum_ack > last else "behind" if cum_ack < acked else "agreed"
    assert compare(ack(cum_ack), pruned_below(min(pruned, acked)), last, acked) == expected


@given(st.integers(1, 20), PLACES, PLACES)
def test_another_hash_is_never_agreed(cum_ack: int, last: int, acked: int) -> None:
    acked = min(acked, last)
    assert compare(ack(cum_ack, b"\7" * 32), own, last, acked) == ("ahead" if cum_ack > last else "different")


def test_another_beginning_is_different_although_nothing_is_held() -> None:
    assert compare(ack(0, b"\7" * 32), own, 5, 0) == "different"
    assert compare(ack(0), lambda _: None, 5, 0) == "agreed"
    assert compare(ack(0), lambda _: None, 5, 3) == "behind"


def test_a_range_above_our_last_is_ahead_one_below_is_ours() -> None:
    assert compare(ack(5, None, (7, 11)), own, 10, 5) == "ahead"
    assert compare(ack(5, None, (7, 10)), own, 10, 5) == "agreed"


def test_what_we_folded_and_never_sent_can_not_be_held_there() -> None:
    assert compare(ack(7), lambda _: None, 10, 5) == "different"
