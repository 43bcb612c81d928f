"""What is fuzzed: the readers of commands, twins, batches and acks, each with good messages, and with and without its signature."""

import datetime
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import orjson

from agent.contract import ack, batch
from agent.contract.batch import BATCH_BYTES_MAX, Row
from agent.contract.canonical import canonical, genesis, link
from agent.contract.encoding import GZIP, decoded, encoded
from agent.contract.fleet import command, jws, twin
from agent.contract.fleet.command import Command
from agent.contract.fleet.twin import Desired
from agent.contract.registration import jwks
from agent.contract.signing import SigningKey, check_signed, signed
from agent.sim.fuzz import oracles

KEY = SigningKey.from_seed(bytes(range(32)))
TRUSTED = {KEY.key_id: KEY.public}
EPOCH = "0123456789abcdef" * 2
NOW = 1_795_000_000


@dataclass(frozen=True)
class Target:
    """One reader."""

    good: tuple[bytes, ...]
    """Messages it takes, unsigned."""
    bare: Callable[[bytes], object]
    """Reads one whose signature nobody checks; raises VoxmeterError for a bad one."""
    is_good: Callable[[bytes], bool]
    """An opinion of somebody else on what `bare` has taken."""
    wired: tuple[bytes, ...]
    """The same messages as they travel, signed."""
    whole: Callable[[bytes], object]
    """Reads one that travels."""

    @cached_property
    def means(self) -> list[object]:
        """What the good ones say."""
        return [self.whole(one) for one in self.wired]


def targets() -> Mapping[str, Target]:
    return {"command": _command(), "twin": _twin(), "batch": _batch(), "ack": _ack()}


def _command() -> Target:
    told = {"cmd_id": "01930000-0000-7000-8000-000000000000", "aud": "demo/kiosk-7", "seq": 7, "iat": NOW, "exp": NOW + 60}
    good = tuple(
        orjson.dumps(Command.model_validate(told | more).model_dump())
        for more in ({"op": "ping"}, {"op": "say", "args": {"text": "你好"}}, {"op": "config.apply", "args": {"settings": {"dialog": {}}}})
    )
    wired = tuple(jws.sign(command.COMMAND, one, KEY) for one in good)
    return Target(
        good, lambda text: command.parsed(text, Command, "the command"), oracles.command, wired, lambda text: command.read(text, TRUSTED)
    )


def _twin() -> Target:
    told = {"aud": "demo/kiosk-7", "version": 3, "iat": NOW}
    keys = {"operator_keys": jwks([KEY.public])}
    good = tuple(
        orjson.dumps(Desired.model_validate(told | more).model_dump(exclude_none=True))
        for more in ({}, {"settings": {"dialog": {"language": "id"}}}, {"trust": keys, "groups": ["lobby"]})
    )
    wired = tuple(jws.sign(twin.TWIN, one, KEY) for one in good)
    return Target(good, lambda text: command.parsed(text, Desired, "the twin"), oracles.twin, wired, lambda text: twin.read(text, TRUSTED))


def _batch() -> Target:
    head, rows = genesis(EPOCH), []
    for number in range(1, 4):
        place = f"{number:020d}"
        told = {"id": f"{EPOCH}:{place}", "sequence": place, "source": f"urn:voxmeter:demo:kiosk-7:{EPOCH}", "data": {"n": number}}
        body = canonical(told)
        head = link(head, body)
        rows.append(Row(number, head, body, b'{"total_tokens":20}' if number == 3 else None))
    odometer = {("llm", "small", "device", "output"): 20}
    built = batch.build(device="kiosk-7", epoch=EPOCH, h_before=genesis(EPOCH), rows=rows, odometer=odometer, anchors=[]).content
    return Target((built,), batch.read, oracles.batch, (_marked(encoded(built)[0], built),), _batch_as_it_travels)


def _batch_as_it_travels(text: bytes) -> object:
    packed, marks = _unmarked(text)
    content = decoded(packed, GZIP, BATCH_BYTES_MAX)
    check_signed(content, marks, TRUSTED, what="the batch")
    return batch.read(content)


def _ack() -> Target:
    moment = datetime.datetime.fromtimestamp(NOW, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    told = {"device": "kiosk-7", "epoch": EPOCH, "cum_ack": 7, "head_hash": "0" * 64, "durable_through": 5, "backend_id": "one"}
    told |= {"window_batches": 4, "not_before_ms": 0, "server_time": moment, "ranges": [{"first": 9, "last": 12}]}
    told |= {"rejects": [{"sequence": 3, "code": "bad", "final": True}]}
    good = (orjson.dumps(told), orjson.dumps(told | {"ranges": [], "rejects": [], "nonce": "abc"}))

    def travelled(text: bytes) -> object:
        content, marks = _unmarked(text)
        return ack.read(content, marks, TRUSTED)

    return Target(good, ack.parsed, oracles.ack, tuple(_marked(one, one) for one in good), travelled)


def _marked(sent: bytes, content: bytes) -> bytes:
    """What travels and, behind a line's end, the marks beside it."""
    return sent + b"\n" + orjson.dumps(signed(content, KEY))


def _unmarked(text: bytes) -> tuple[bytes, dict[str, str]]:
    content, _, beside = text.rpartition(b"\n")
    try:
        marks = orjson.loads(beside)
    except ValueError:
        marks = {}
    return content, marks if isinstance(marks, dict) else {}
