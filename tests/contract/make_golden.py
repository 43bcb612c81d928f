"""Writes the golden vectors of batches and of the newer records: python -m tests.contract.make_golden."""

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from agent.contract.batch import Batch, Hole, Row, build, sign
from agent.contract.canonical import canonical, genesis, link, unlimited
from agent.contract.signing import SigningKey, key_record_data
from tests.conftest import GOLDEN

EPOCH = "0123456789abcdef0123456789abcdef"
DEVICE = "sim-0001"
OLD = SigningKey.from_seed(bytes(range(32)))
NEW = SigningKey.from_seed(bytes(range(32, 64)))
ODOMETER = {("llm", "smollm2-135m-instruct", "device", "output"): 20, ("llm", "smollm2-135m-instruct", "device", "input"): 60}
ANCHOR = {"bootid": "ab" * 16, "boottimems": "1000", "time": "2026-11-22T13:00:00.000Z", "quality": "ntp"}
TOTAL = {
    "role": "billable",
    "subject": "harbor-hotel",
    "span": "2026-11-22",
    "rate_card": "standard-cny@2026-11",
    "stage": "llm",
    "model": "smollm2-135m-instruct",
    "placement": "device",
    "class": "output",
    "quantity": "80",
    "priority": "standard",
    "outcome": "completed",
    "origin": "counted",
    "records": 4,
    "amount": "0.80",
    "currency": "CNY",
}
CALL = {
    "stage": "llm",
    "attempt": 1,
    "placement": "cloud",
    "engine": "llm_openai",
    "model": "qwen-plus",
    "reserved": "0.40",
}
INTENT = {"turn_id": "t1", "session_id": "s1", "calls": [CALL]}
ADJUST = {"adjusts": {"epoch": EPOCH, "sequence": 2}, "deltas": {"gen_ai.usage.output_tokens": -3}, "reason": "late figures"}
HASHES = {"h_before": "11" * 32, "h_last": "22" * 32}
GAP = {"epoch": EPOCH, "first": 4, "last": 7, "reason": "damaged"}
ROLLUP = GAP | HASHES | {"reason": "disk", "totals": [TOTAL]}
KEY = key_record_data(EPOCH, OLD, NEW)
LINE = {"stage": "llm", "model": "m", "placement": "device", "class": "output", "quantity": 20}


def without(told: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {field: value for field, value in told.items() if field != name}


VALID: list[tuple[str, str, dict[str, Any]]] = [
    ("a later epoch names the one before and its odometer", "epoch", {"reason": "damaged", "previous": "f" * 32, "odometer": [LINE]}),
    ("intent", "intent", INTENT),
    ("an intent of two calls", "intent", INTENT | {"calls": [CALL, CALL | {"attempt": 2, "reserved": "0"}]}),
    ("an intent as small as the contract has it", "intent", {"turn_id": "t1", "calls": [without(CALL, "engine")]}),
    ("adjust", "adjust", ADJUST),
    ("gap", "gap", GAP | HASHES),
    ("a gap whose hashes nobody knows", "gap", GAP),
    ("a gap of one record", "gap", GAP | {"first": 7}),
    ("a gap with totals of what was pruned", "gap", GAP | {"totals": [TOTAL]}),
    ("rollup", "rollup", ROLLUP),
    ("a rollup without a price", "rollup", ROLLUP | {"totals": [without(without(without(TOTAL, "rate_card"), "amount"), "currency")]}),
    ("a rollup of intents alone", "rollup", ROLLUP | {"totals": []}),
    ("key", "key", dict(KEY)),
    ("a newer robot's field in an intent is kept", "intent", INTENT | {"weather": "rain"}),
]

INVALID: list[tuple[str, str, dict[str, Any]]] = [
    ("an epoch with a broken odometer", "epoch", {"reason": "damaged", "odometer": [LINE | {"quantity": "20"}]}),
    ("an intent of no calls", "intent", INTENT | {"calls": []}),
    ("an intent without a turn", "intent", without(INTENT, "turn_id")),
    ("one attempt twice in an intent", "intent", INTENT | {"calls": [CALL, CALL]}),
    ("a negative reserve", "intent", INTENT | {"calls": [CALL | {"reserved": "-0.40"}]}),
    ("a reserve that is a number", "intent", INTENT | {"calls": [CALL | {"reserved": 1}]}),
    ("a call placed nowhere", "intent", INTENT | {"calls": [CALL | {"placement": "moon"}]}),
    ("an adjust of nothing", "adjust", ADJUST | {"deltas": {}}),
    ("an adjust that replaces by text", "adjust", ADJUST | {"deltas": {"characters": "7"}}),
    ("an adjust without a record", "adjust", without(ADJUST, "adjusts")),
    ("an adjust without a reason", "adjust", without(ADJUST, "reason")),
    ("a gap that runs backward", "gap", GAP | {"first": 8}),
    ("a gap from record 0", "gap", GAP | {"first": 0}),
    ("a gap of no epoch", "gap", without(GAP, "epoch")),
    ("a hash in capital letters", "gap", GAP | {"h_last": "AB" * 32}),
    ("a rollup without a hash", "rollup", without(ROLLUP, "h_before")),
    ("a rollup without totals", "rollup", without(ROLLUP, "totals")),
    ("a rollup that runs backward", "rollup", ROLLUP | {"last": 3}),
    ("a total of a negative quantity", "rollup", ROLLUP | {"totals": [TOTAL | {"quantity": "-1"}]}),
    ("a total of no records", "rollup", ROLLUP | {"totals": [TOTAL | {"records": 0}]}),
    ("a key with padding", "key", KEY | {"new": KEY["new"] + "="}),
    ("a key with a stray bit", "key", KEY | {"new": "A" * 42 + "B"}),
    ("a signature cut short", "key", KEY | {"sig_old": KEY["sig_old"][:-1]}),
    ("a key without the new one's signature", "key", without(KEY, "sig_new")),
]

DAYS_THAT_ARE_NONE = ["2026-02-30T13:00:00Z", "2026-11-22T25:00:00Z", "٢٠٢٦-11-22T13:00:00Z"]


def envelope(sequence: int, type_: str, data: Mapping[str, Any], *, device: str = DEVICE, epoch: str = EPOCH) -> dict[str, Any]:
    number = f"{sequence:020d}"
    return {
        "bootid": "ab" * 16,
        "boottimems": str(1000 * sequence),
        "clockquality": "ntp",
        "data": dict(data),
        "id": f"{epoch}:{number}",
        "sequence": number,
        "source": f"urn:voxmeter:demo:{device}:{epoch}",
        "specversion": "1.0",
        "subject": "harbor-hotel",
        "time": "2026-11-22T13:00:00.000Z",
        "type": f"voxmeter.{type_}.v1",
    }


def record(sequence: int, type_: str, data: Mapping[str, Any], **owner: str) -> bytes:
    return canonical(envelope(sequence, type_, data, **owner))


def chained(head: bytes, bodies: Mapping[int, bytes], raw: Mapping[int, bytes] | None = None) -> list[Row]:
    """Rows as a ledger holds them, whatever stands between the sequences."""
    rows = []
    for sequence, body in bodies.items():
        head = link(head, body)
        rows.append(Row(sequence, head, body, (raw or {}).get(sequence)))
    return rows


def batches() -> list[tuple[str, Batch]]:
    """The first of an epoch; one with raw usage, anchors and an odometer; one across a hole that a roll-up accounts for."""
    begun = chained(genesis(EPOCH), {1: record(1, "epoch", {"reason": "first"}), 2: record(2, "intent", INTENT)})
    first = build(device=DEVICE, epoch=EPOCH, h_before=genesis(EPOCH), rows=begun, odometer={}, anchors=[])
    rich = chained(first.h_last, {3: record(3, "adjust", ADJUST | {"reason": "晚到的用量"})}, {3: b'{"total_tokens":20}'})
    second = build(device=DEVICE, epoch=EPOCH, h_before=first.h_last, rows=rich, odometer=ODOMETER, anchors=[ANCHOR])
    return [("the first of an epoch", first), ("raw usage, an anchor, an odometer", second), ("across a hole", across(second.h_last))]


def across(head: bytes) -> Batch:
    """Record 4, a hole from 5 to 8, the roll-up in place 9."""
    below = chained(head, {4: record(4, "key", KEY)})
    hole = Hole(5, 8, below[-1].hash.hex(), "22" * 32)
    told = ROLLUP | {"first": hole.first, "last": hole.last, "h_before": hole.h_before, "h_last": hole.h_last}
    above = chained(bytes.fromhex(hole.h_last), {9: record(9, "rollup", told)})
    return build(device=DEVICE, epoch=EPOCH, h_before=head, rows=below + above, odometer=ODOMETER, anchors=[ANCHOR], holes=[hole])


def altered() -> list[tuple[str, str, str]]:
    """(why, what the line says, content) of batches that are wrong; built by hand, as no honest device sends them."""
    plain, rich, holed = (json.loads(batch.content) for _, batch in batches())
    told = []

    def wrong(why: str, says: str, base: Mapping[str, Any], **change: Any) -> None:
        told.append((why, says, json.dumps(dict(base) | change, sort_keys=True, separators=(",", ":"), ensure_ascii=False)))

    def body(sequence: int, **owner: str) -> str:
        return text(record(sequence, "epoch", {"reason": "first"}, **owner))

    second, hole = plain["bodies"][1], holed["holes"][0]
    for name in ("device", "epoch", "first", "h_before", "odometer", "anchors", "bodies", "raw"):
        told.append((f"no {name}", f"{name}: Field required", unlimited(without(plain, name)).decode()))
    told += [("not JSON", "the batch is not JSON", "{"), ("a list", "the batch is not a JSON object", "[]")]
    wrong("a device with a colon", "device: String should match", plain, device="demo:sim-0001")
    wrong("an epoch in capitals", "epoch: String should match", plain, epoch=EPOCH.upper())
    wrong("first as text", "first: Input should be a valid integer", plain, first="1")
    wrong("first as a float", "first: Input should be a valid integer", plain, first=1.0)
    wrong("from record 0", "first: Input should be greater than or equal to 1", plain, first=0)
    wrong("a short hash", "h_before: String should match", plain, h_before=plain["h_before"][:-2])
    wrong("quantities as text", "odometer.0.quantity: Input should be a valid integer", plain, odometer=[LINE | {"quantity": "1"}])
    wrong("an anchor in local time", "anchors.0.time: String should match", plain, anchors=[ANCHOR | {"time": "2026-11-22T13:00:00+01:00"}])
    wrong("an anchor with a number", "anchors.0.boottimems: Input should be a valid string", plain, anchors=[ANCHOR | {"boottimems": 1000}])
    wrong("no bodies", "bodies: List should have at least 1 item", plain, bodies=[])
    wrong("a body without padding", "bodies.0: not base64", plain, bodies=[text(b"{}").rstrip("="), second])
    wrong("a body with white space", "bodies.0: not base64", plain, bodies=[plain["bodies"][0] + "\n", second])
    wrong("a body that is not JSON", "the body of record 1 is not a record", plain, bodies=[text(b"hello"), second])
    wrong("a body that is a list", "the body of record 1 is not a record", plain, bodies=[text(b"[]"), second])
    wrong("a body that is no record", "the body of record 1 is not a record", plain, bodies=[text(b'{"id":"x"}'), second])
    wrong("a body of another sequence", "in the place of record 1 is of another", plain, bodies=[body(3), second])
    wrong("a body of another epoch", "in the place of record 1 is of another", plain, bodies=[body(1, epoch="f" * 32), second])
    wrong("a body of another robot", "in the place of record 1 is of another", plain, bodies=[body(1, device="sim-0002"), second])
    wrong("bodies swapped", "in the place of record 1 is of another", plain, bodies=plain["bodies"][::-1])
    wrong("a body missing at the end", "says 1 to 2, its bodies are 1 to 1", plain, bodies=plain["bodies"][:1])
    wrong("a body too many", "says 1 to 1, its bodies are 1 to 2", plain, last=1)
    wrong(
        "a body replaced",
        "h_last of the batch is not the chain",
        plain,
        bodies=[text(record(1, "epoch", {"reason": "first"}) + b" "), second],
    )
    wrong("another beginning", "h_last of the batch is not the chain", plain, h_before="00" * 32)
    wrong("another end", "h_last of the batch is not the chain", plain, h_last="00" * 32)
    wrong("a hole nobody tells of", "in the place of record 5 is of another", holed, holes=[])
    wrong("a hole that does not follow", "the hole 5 to 8 does not follow", holed, holes=[hole | {"h_before": "33" * 32}])
    wrong("a hole that leads elsewhere", "h_last of the batch is not the chain", holed, holes=[hole | {"h_last": "33" * 32}])
    wrong("a hole that runs backward", "the hole 5 to 4 does not follow", holed, holes=[hole | {"last": 4}])
    wrong("a hole that is too short", "in the place of record 8 is of another", holed, holes=[hole | {"last": 7}])
    wrong("a hole at the beginning", "the hole 1 to 8 lies between no two", holed, holes=[hole | {"first": 1}])
    wrong("a hole twice", "the hole 5 to 8 lies between no two", holed, holes=[hole, hole])
    wrong("a hole without a hash", "holes.0.h_last: Field required", holed, holes=[without(hole, "h_last")])
    wrong("raw usage of another batch", "raw usage for record 9, which it does not hold", rich, raw=[{"sequence": 9, "body": ""}])
    wrong("raw usage twice", "raw usage twice for one record", rich, raw=rich["raw"] * 2)
    wrong(
        "raw usage that is too long", "raw.0.body: Value should have at most 16384", rich, raw=[{"sequence": 3, "body": text(bytes(16385))}]
    )
    return told


def text(content: bytes) -> str:
    return base64.b64encode(content).decode()


def main() -> None:
    valid = [
        {"why": why, "content": batch.content.decode(), "batch_id": hashlib.sha256(batch.content).hexdigest()} | sign(batch, OLD)
        for why, batch in batches()
    ]
    invalid = [{"why": why, "says": says, "content": content} for why, says, content in altered()]
    keys = {"seed": OLD.seed.hex(), "public": OLD.public.hex(), "key_id": OLD.key_id}
    told = {"key": keys, "valid": valid, "invalid": invalid}
    (GOLDEN / "batches.json").write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n")
    path = GOLDEN / "records.json"
    vectors = json.loads(path.read_text())
    for name, ours in (("valid", VALID), ("invalid", INVALID)):
        made = [{"why": why, "body": envelope(3, type_, data)} for why, type_, data in ours]
        if name == "invalid":
            usage = next(vector["body"] for vector in vectors["valid"] if vector["why"] == "usage")
            made += [{"why": f"a time that is none: {time!a}", "body": usage | {"time": time}} for time in DAYS_THAT_ARE_NONE]
        known = {vector["why"] for vector in made}
        vectors[name] = [vector for vector in vectors[name] if vector["why"] not in known] + made
    path.write_text(json.dumps(vectors, indent=1))


if __name__ == "__main__":
    main()
