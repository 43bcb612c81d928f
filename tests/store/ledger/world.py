"""A ledger with everything in it that a ledger can have, what a robot does when it starts, and what must be on the books then."""

import asyncio
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from agent.contract.ack import Ack
from agent.dialog.books import IN_INTENT, Books
from agent.metering.cards import Cards
from agent.metering.record import odometer_of, usage_data
from agent.ports import Appended, Draft, Entry, OpenCall
from agent.sim.clock import SimulatedClock
from agent.store.db import LEDGER_FILE
from agent.store.ledger import SqliteLedger
from agent.store.ledger.chain import Identity
from agent.store.reading import LedgerReader
from agent.store.verify import verify_books
from agent.values import Stage, StageResult, StageTimes, StageUsage
from tests.metering.test_rating import card

ROBOT = Identity("demo", "sim-1", "hotel")

LOG_FILE = LEDGER_FILE + "-wal"

Place = tuple[str, int]
"""(epoch, sequence)."""


@dataclass(frozen=True, slots=True)
class Wrote:
    """What a robot had on its books when it stopped."""

    epoch: str
    bodies: dict[Place, bytes]
    last_together: int
    """Records of the last transaction."""


@dataclass(frozen=True, slots=True)
class World:
    """Copies of a ledger that was closed in order, and of one that was killed."""

    wrote: Wrote
    sound: Path
    killed: Path


def opened(state: Path, clock: SimulatedClock) -> SqliteLedger:
    return SqliteLedger(state, ROBOT, clock)


def closed(books: SqliteLedger) -> None:
    asyncio.run(books.aclose())


def call(turn: str, stage: Stage = "llm") -> OpenCall:
    return OpenCall(turn, "s", stage, f"{stage}_scripted", "m")


def usage(one: OpenCall, tokens: int = 3, raw: bytes = b"") -> Draft:
    used = StageUsage(input_tokens=0, output_tokens=tokens)
    result = StageResult(one.stage, one.engine, one.model, "completed", used, StageTimes(0, None, 1))
    data = usage_data(result, turn_id=one.turn_id, session_id="s", card=card(), tokenizer="w@1")
    return Draft("usage", data, odometer_of(result), raw)


def intent(*calls: OpenCall) -> Draft:
    told = [{name: getattr(one, name) for name in IN_INTENT} | {"reserved": "0"} for one in calls]
    return Draft("intent", {"turn_id": calls[0].turn_id, "session_id": "s", "calls": told})


def begin(books: SqliteLedger, one: OpenCall, used: int = 0) -> Appended:
    """A call that is under way."""
    entries = [Entry(one, "intended"), Entry(one, "started", StageUsage(input_tokens=1, output_tokens=used))]
    return asyncio.run(books.append([intent(one)], entries))[0]


def turn(books: SqliteLedger, name: str, tokens: int = 3) -> None:
    begin(books, call(name))
    asyncio.run(books.append([usage(call(name), tokens, raw=b'{"of": "a provider"}')], [Entry(call(name), "settled")]))


def acked(books: SqliteLedger) -> Ack:
    """A batch leaves and is acknowledged."""

    async def main() -> Ack:
        batch = await books.next_batch()
        assert batch is not None
        told = {"device": "sim-1", "epoch": books.epoch, "cum_ack": batch.last, "head_hash": batch.h_last.hex()}
        rest = {"ranges": [], "rejects": [], "durable_through": 0, "backend_id": "b", "window_batches": 1, "not_before_ms": 0}
        ack = Ack.model_validate(told | rest | {"server_time": "2026-03-01T00:00:00Z"})
        await books.take(ack)
        return ack

    return asyncio.run(main())


def long_record() -> Draft:
    """More than fits beside others on a page: SQLite puts its end elsewhere."""
    return intent(*(OpenCall("long", "s", "llm", "llm_scripted", "m", attempt=number) for number in range(1, 45)))


def filled(state: Path, clock: SimulatedClock, turns: int = 12) -> tuple[SqliteLedger, Wrote]:
    """A ledger with everything in it that a ledger can have, still open: two calls are under way."""
    books = opened(state, clock)
    for number in range(turns // 2):
        turn(books, f"t{number}", number)
    acked(books)
    asyncio.run(books.append([long_record()]))
    begin(books, call("open-1"), used=4)
    for number in range(turns // 2, turns):
        turn(books, f"t{number}", number)
    begin(books, call("open-2"), used=5)
    asyncio.run(books.append([usage(call("x")), usage(call("y"))]))
    return books, Wrote(books.epoch, bodies_in(state), 2)


def bodies_in(state: Path) -> dict[Place, bytes]:
    """Every record that the usage commands read. None may be there twice."""
    reader = LedgerReader(state)
    found: dict[Place, bytes] = {}
    for body in reader.bodies():
        epoch, _, number = orjson.loads(body)["id"].partition(":")
        assert (epoch, int(number)) not in found, "a record is there twice"
        found[epoch, int(number)] = body
    reader.close()
    return found


def killed(state: Path, target: Path) -> Path:
    """What a SIGKILL leaves of a ledger that is open: its files as they are."""
    target.mkdir(parents=True, exist_ok=True)
    for path in state.iterdir():
        if path.is_file() and path.suffix != ".lock" and not path.name.endswith("-shm"):
            shutil.copyfile(path, target / path.name)
    return target


def flip(path: Path, at: int, by: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= by
    path.write_bytes(content)


def keeper(books: SqliteLedger) -> Books:
    return Books(books, Cards.of([card()]), "UTC", {}, SimulatedClock())


async def recovered(books: SqliteLedger) -> None:
    """What the robot does at every start."""
    await keeper(books).recover()
    await books.salvage(keeper(books).cut_off)


def started(state: Path, clock: SimulatedClock) -> None:
    """The robot starts, settles, salvages, and looks through everything when it is idle; then it takes a turn."""
    books = opened(state, clock)
    try:
        asyncio.run(recovered(books))
        if not verify_books(state).whole:
            asyncio.run(books.begin_epoch("damaged", damaged=True))
            asyncio.run(recovered(books))
        turn(books, "after")  # it may be the first to touch a damaged page
        asyncio.run(recovered(books))
    finally:
        closed(books)


def gaps(records: dict[Place, bytes]) -> list[dict[str, Any]]:
    return told_in(records, "gap")


def told_in(records: dict[Place, bytes], short_type: str) -> list[dict[str, Any]]:
    """Data of the records of a type."""
    return [told["data"] for told in map(orjson.loads, records.values()) if told["type"] == f"voxmeter.{short_type}.v1"]


def check_nothing_lost(state: Path, wrote: Wrote, allowed: Sequence[int] = ()) -> dict[Place, bytes]:
    """`allowed`: sequences that may be gone without a word. Returns what is there."""
    verdict = verify_books(state)
    assert verdict.whole, verdict
    now = bodies_in(state)
    spans = gaps(now)
    assert max(Counter((gap["epoch"], gap["first"]) for gap in spans).values(), default=1) == 1
    for (epoch, sequence), body in wrote.bodies.items():
        if (epoch, sequence) in now:
            assert now[epoch, sequence] == body or sequence in allowed, f"record {sequence} is another"
        else:
            declared = any(gap["epoch"] == epoch and gap["first"] <= sequence <= gap["last"] for gap in spans)
            assert declared or sequence in allowed, f"record {sequence} is gone and nothing says so"
    assert max(Counter((one["turn_id"], one["stage"], one["attempt"]) for one in told_in(now, "usage")).values()) == 1
    return now
