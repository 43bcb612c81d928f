"""A batch: what the device builds is what the backend reads, and nothing else is."""

import base64
import hashlib
import json
from bisect import bisect_left

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.contract.batch import BATCH_BYTES_MAX, BATCH_RECORDS_MAX, Batch, BatchTooBig, Hole, Row, build, fitting, read, sign
from agent.contract.canonical import genesis
from agent.contract.signing import UnknownKey, check_signed, decode
from agent.errors import BadInput, LedgerDamaged
from tests.conftest import GOLDEN
from tests.contract.make_golden import DEVICE, EPOCH, NEW, ODOMETER, OLD, altered, batches, chained, record

VECTORS = json.loads((GOLDEN / "batches.json").read_text())
START = genesis(EPOCH)
TRUSTED = {OLD.key_id: OLD.public}
NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters=":"), min_size=1, max_size=12)
COUNTS = st.dictionaries(st.tuples(NAMES, NAMES, NAMES, NAMES), st.integers(-(2**53) + 1, 2**53 - 1), max_size=4)
RAWS = st.dictionaries(st.integers(1, 12), st.binary(min_size=1, max_size=40))


def bodies(first: int, count: int, size: int = 1) -> dict[int, bytes]:
    return {sequence: record(sequence, "epoch", {"reason": "r" * size}) for sequence in range(first, first + count)}


def batch_of(rows: list[Row]) -> Batch:
    return build(device=DEVICE, epoch=EPOCH, h_before=START, rows=rows, odometer={}, anchors=[])


@pytest.mark.parametrize("vector", VECTORS["valid"], ids=lambda vector: vector["why"])
def test_valid(vector: dict[str, str]) -> None:
    content = vector["content"].encode()
    held = read(content)
    assert hashlib.sha256(content).hexdigest() == vector["batch_id"]
    assert VECTORS["key"]["key_id"] == vector["vx-key"] == hashlib.sha256(bytes.fromhex(VECTORS["key"]["public"])).hexdigest()[:32]
    Ed25519PublicKey.from_public_bytes(bytes.fromhex(VECTORS["key"]["public"])).verify(decode(vector["vx-sig"]), content)
    told = json.loads(content)
    assert [body for _, _, body in held.records] == [base64.b64decode(body) for body in told["bodies"]]
    assert [json.loads(body)["sequence"] for _, _, body in held.records] == [f"{place:020d}" for place, _, _ in held.records]


@pytest.mark.parametrize("vector", VECTORS["invalid"], ids=lambda vector: vector["why"])
def test_invalid(vector: dict[str, str]) -> None:
    with pytest.raises(BadInput) as told:
        read(vector["content"].encode())
    assert vector["says"] in str(told.value)
    assert len(str(told.value).splitlines()) == 1
    assert len(str(told.value)) < 300


def test_the_vectors_are_what_the_code_makes() -> None:
    made = [{"why": why, "content": batch.content.decode(), "batch_id": batch.batch_id} | sign(batch, OLD) for why, batch in batches()]
    assert made == VECTORS["valid"]
    assert [(vector["why"], vector["says"], vector["content"]) for vector in VECTORS["invalid"]] == altered()


@settings(max_examples=60)
@given(COUNTS, RAWS, st.integers(1, 10**15), NAMES, st.data())
def test_what_is_built_is_what_is_read(
    odometer: dict[tuple[str, str, str, str], int], raw: dict[int, bytes], first: int, device: str, data: st.DataObject
) -> None:
    places = range(first, first + data.draw(st.integers(1, 12)))
    given_bodies = {place: record(place, "epoch", {"reason": "r"}, device=device) for place in places}
    start = data.draw(st.binary(min_size=32, max_size=32))
    rows = chained(start, given_bodies, {first + at: content for at, content in raw.items()})
    batch = build(device=device, epoch=EPOCH, h_before=start, rows=rows, odometer=odometer, anchors=[])
    held = read(batch.content)
    assert held.records == [(row.sequence, row.hash, row.body) for row in rows]
    assert {line.sequence: line.body for line in held.raw} == {row.sequence: row.raw for row in rows if row.raw}
    assert {(line.stage, line.model, line.placement, line.class_): line.quantity for line in held.odometer} == odometer
    assert (held.device, held.first, held.last, held.h_last) == (device, batch.first, batch.last, batch.h_last.hex())
    assert build(device=device, epoch=EPOCH, h_before=start, rows=rows, odometer=dict(reversed(odometer.items())), anchors=[]) == batch


@settings(max_examples=200)
@given(st.data())
def test_any_flipped_byte_is_another_batch_that_nobody_signed(data: st.DataObject) -> None:
    _, batch = data.draw(st.sampled_from(batches()))
    at, flip = data.draw(st.integers(0, len(batch.content) - 1)), data.draw(st.integers(1, 255))
    other = batch.content[:at] + bytes([batch.content[at] ^ flip]) + batch.content[at + 1 :]
    assert hashlib.sha256(other).hexdigest() != batch.batch_id
    assert check_signed(batch.content, sign(batch, OLD), TRUSTED, what="the batch") == OLD.key_id
    with pytest.raises(BadInput, match="the signature of the batch is wrong"):
        check_signed(other, sign(batch, OLD), TRUSTED, what="the batch")
    with pytest.raises(UnknownKey):
        check_signed(batch.content, sign(batch, NEW), TRUSTED, what="the batch")


@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode) | st.just(b"[" * 5000))
def test_nothing_that_comes_in_is_a_traceback(content: bytes) -> None:
    with pytest.raises(BadInput):
        read(content)


SIZES = st.lists(st.tuples(st.integers(1, 8192), st.just(0) | st.integers(1, 16384)), min_size=1, max_size=40)


@settings(max_examples=60)
@given(SIZES, st.integers(0, 20))
def test_what_fits_is_built_and_one_more_would_not_fit(sizes: list[tuple[int, int]], lines: int) -> None:
    odometer = {("llm", f"m{line}", "device", "output"): line for line in range(lines)}
    rows = chained(
        START, {place: b"b" * body for place, (body, _) in enumerate(sizes, 1)}, {p: b"r" * r for p, (_, r) in enumerate(sizes, 1)}
    )
    count = fitting(sizes, device=DEVICE, odometer=odometer, anchors=[])
    assert 1 <= count <= len(sizes)

    def content(of: int) -> int:
        told = build(device=DEVICE, epoch=EPOCH, h_before=START, rows=rows[:of], odometer=odometer, anchors=[])
        return len(told.content)

    assert content(count) <= BATCH_BYTES_MAX
    if count < len(sizes):
        spare = 64 + 18 * lines + 16 * count  # numbers are taken as wide as they can be
        body, raw = sizes[count]
        assert content(count) + 4 * (body + raw) / 3 + 40 + spare > BATCH_BYTES_MAX


def test_the_tightest_batch_still_fits() -> None:
    odometer = {("llm", f"m{line}", "device", "output"): 2**53 - 1 for line in range(20)}

    def fits(size: int) -> int:
        return fitting([(8192, 0)] * 5 + [(size, 0)], device=DEVICE, odometer=odometer, anchors=[])

    size = bisect_left(range(8192), 6, key=lambda size: 6 if fits(size) < 6 else 0) - 1
    rows = chained(START, dict.fromkeys(range(1, 6), b"b" * 8192) | {6: b"b" * size})
    batch = build(device=DEVICE, epoch=EPOCH, h_before=START, rows=rows, odometer=odometer, anchors=[])
    assert (fits(size), fits(size + 1)) == (6, 5)
    assert BATCH_BYTES_MAX - 100 < len(batch.content) <= BATCH_BYTES_MAX


def test_at_most_500_records_and_at_least_one() -> None:
    def fits(*sizes: tuple[int, int]) -> int:
        return fitting(sizes, device=DEVICE, odometer=ODOMETER, anchors=[])

    assert fits(*[(1, 0)] * 600) == BATCH_RECORDS_MAX
    assert fits((BATCH_BYTES_MAX, 0), (1, 0)) == 1
    assert fits() == 0


def test_holes_and_anchors_take_room_too() -> None:
    sizes = [(600, 0)] * 90
    anchors = [{"bootid": "ab" * 16, "boottimems": "1", "time": "2026-11-22T13:00:00Z", "quality": "ntp"}] * 50
    holes = [Hole(1, 1, "11" * 32, "22" * 32)] * 50
    bare, anchored, holed = (
        fitting(sizes, device=DEVICE, odometer={}, anchors=extra, holes=more) for extra, more in (([], []), (anchors, []), ([], holes))
    )
    assert bare > anchored > holed


def test_rows_that_make_no_batch_are_refused() -> None:
    rows = chained(START, bodies(1, 3))
    with pytest.raises(ValueError, match="a batch of 0 records"):
        batch_of([])
    with pytest.raises(ValueError, match="record 3 stands where 2 belongs"):
        batch_of([rows[0], rows[2]])
    with pytest.raises(ValueError, match="a batch of 501 records"):
        batch_of(chained(START, bodies(1, 501)))
    with pytest.raises(ValueError, match="the most is 65536"):
        batch_of(chained(START, bodies(1, 200, 200)))


def test_a_row_that_is_not_what_was_chained_never_leaves() -> None:
    rows = chained(START, bodies(1, 3))
    damaged = Row(2, rows[1].hash, rows[1].body.replace(b"first", b"worst") + b" ")
    with pytest.raises(LedgerDamaged, match="record 2 is not what was chained; run: voxmeter usage verify"):
        batch_of([rows[0], damaged, rows[2]])


def test_one_record_is_sent_whatever_its_size_and_answered_with_413() -> None:
    rows = chained(START, {1: record(1, "epoch", {"reason": "r"})}, {1: bytes(60_000)})
    batch = batch_of(rows)
    with pytest.raises(BatchTooBig, match=r"the batch has 8[0-9]{4} bytes; the most is 65536; send half of it"):
        read(batch.content)


def test_too_many_records_are_too_big_not_wrong() -> None:
    told = json.loads(batch_of(chained(START, bodies(1, 2))).content)
    with pytest.raises(BatchTooBig, match="more than 500 records"):
        read(json.dumps(told | {"bodies": ["e30="] * 501}).encode())


def test_a_record_of_more_than_8_kib_is_too_big() -> None:
    rows = chained(START, {1: record(1, "epoch", {"reason": "r"}) + b" " * 8192})
    with pytest.raises(BatchTooBig, match=r"record 1 has 8[0-9]{3} bytes; the most is 8192"):
        read(batch_of(rows).content)


def test_a_newer_robots_field_is_no_reason_to_refuse() -> None:
    told = json.loads(batches()[2][1].content)
    told["weather"] = told["holes"][0]["weather"] = "rain"
    assert read(json.dumps(told).encode()).first == 4


def test_holes_are_in_the_batch_only_when_there_are_any() -> None:
    assert ["holes" in json.loads(batch.content) for _, batch in batches()] == [False, False, True]


def test_two_holes_side_by_side_are_crossed() -> None:
    below = chained(START, bodies(1, 1))
    holes = [Hole(2, 3, below[0].hash.hex(), "22" * 32), Hole(4, 4, "22" * 32, "33" * 32)]
    above = chained(bytes.fromhex("33" * 32), bodies(5, 2))
    batch = build(device=DEVICE, epoch=EPOCH, h_before=START, rows=below + above, odometer={}, anchors=[], holes=holes[::-1])
    assert [place for place, _, _ in read(batch.content).records] == [1, 5, 6]
