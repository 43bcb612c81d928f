"""`bench sync`: a robot's backlog to a real backend, over each transport, beside bare inserts of the same rows on the same disk.

Robot, broker and backend share this machine's cores, as they would not in the field. The reference inserts the same bodies, 500 a
commit, durable, and does nothing else; its rate is the median of blocks before and after each of our runs.
"""

import asyncio
import math
import os
import shutil
import sqlite3
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import orjson

from agent import processes, upload
from agent import profile as profiles
from agent.app import ledger_of
from agent.billing.ledger import Store
from agent.billing.ledger.sqlite import DATABASE_FILE
from agent.clock import SystemClock
from agent.contract.ack import Ack, Standing
from agent.link import TRANSPORTS
from agent.ports import Draft
from agent.profile import Profile
from agent.sim.power.life import a_usage
from agent.sim.real.backend import Backend
from agent.sim.real.broker import Broker
from agent.sim.real.office import registered
from agent.sim.simulated.campaign import run_simulated
from agent.sim.world import scenario
from agent.store.db import LEDGER_FILE, SETTINGS
from agent.store.ledger import SqliteLedger
from agent.store.ledger.chain import Identity
from agent.store.ledger.space import MEBIBYTE, Limits
from agent.sync.worker import Worker

TOGETHER = 500

REACH = {"ratio": 0.10, "p50_ms": 50, "p99_ms": 200, "pss_mb": 300}

SINGLES = 300
"""Records appended one by one to an idle robot."""

BETWEEN_S = 0.02
"""Between an ack and the next single record."""

DRAIN_SECONDS_MAX = 1800.0

LOOK_S = 1.0

INSERT = f"INSERT INTO record VALUES ({', '.join('?' * 13)})"  # noqa: S608  question marks only

TICKS = os.sysconf("SC_CLK_TCK")

ROOMY = Limits(quota_bytes=8_000 * MEBIBYTE, free_bytes_min=0)


class TimedLedger(SqliteLedger):
    """A real ledger that says when an ack has been taken."""

    def __init__(self, state: Path, robot: Identity) -> None:
        super().__init__(state, robot, SystemClock(), ROOMY)
        self.acked = 0
        self.moved = asyncio.Event()

    async def take(self, ack: Ack, *, mark: bool = False) -> Standing:
        standing = await super().take(ack, mark=mark)
        self.acked = ack.cum_ack
        self.moved.set()
        return standing

    async def until(self, sequence: int) -> None:
        while self.acked < sequence:
            self.moved.clear()
            await self.moved.wait()


async def run(records: int, folder: Path) -> dict[str, Any]:
    """All figures of one robot with what they should reach, as JSON values."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        full, bare = Path(scratch) / "full", _Bare(Path(scratch))
        profile = profiles.load("scripted")
        await _filled(full, profile, records)
        told: dict[str, Any] = {"records": records, "reach": REACH}
        for transport in TRANSPORTS:
            before = bare.rate(full)
            one = await _measured(Path(scratch) / transport, transport, profile, full)
            after = bare.rate(full)
            one["bare_per_s"] = round(statistics.median(before + after))
            one["ratio"] = round(one["records_per_s"] / one["bare_per_s"], 3)
            told[transport] = one
    return told


def fleet(devices: int, seed: int) -> dict[str, Any]:
    """A week's backlog of so many robots that come back at once, on simulated time: whether it drains, and who was over the window."""
    report = run_simulated(scenario.load("stampede"), devices, seed)
    checks = {check.name: check.says if check.ok else f"FAILED: {check.says}" for check in report.checks}
    return {"devices": devices, "seed": seed, "ok": report.ok, "checks": checks, "figures": dict(report.figures)}


async def _filled(state: Path, profile: Profile, records: int) -> None:
    """A ledger with so many records that never left."""
    ledger = ledger_of(profile, state, SystemClock())
    template, numbers = a_usage(), count()
    try:
        while (left := records - next(numbers) * TOGETHER) > 0:
            drafts = [_usage(template) for _ in range(min(left, TOGETHER))]
            await ledger.append(drafts)
    finally:
        await ledger.aclose()


def _usage(template: Draft) -> Draft:
    return Draft("usage", dict(template.data) | {"turn_id": SystemClock().new_id()}, template.quantities)


class _Bare:
    """SQLite as anyone would use it: the backend's own table with its indexes, rows as the backend puts them, and nothing else done."""

    def __init__(self, folder: Path) -> None:
        (folder / "bare").mkdir()
        Store(folder / "bare", SystemClock()).abandon()  # it has made its tables
        self._connection = sqlite3.connect(folder / "bare" / DATABASE_FILE, isolation_level=None)
        for setting in SETTINGS:
            self._connection.execute(f"PRAGMA {setting}")
        self._runs = count()

    def rate(self, full: Path, blocks: int = 8) -> list[float]:
        """Rows a second of each block."""
        rates, run = [], next(self._runs)
        for rows in _blocks(full, blocks):
            told = [_row(run, *row) for row in rows]
            began = time.perf_counter()
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany(INSERT, told)
            self._connection.execute("COMMIT")
            rates.append(len(rows) / (time.perf_counter() - began))
        return rates


def _row(run: int, sequence: int, hash_: bytes, body: bytes) -> tuple[object, ...]:
    record = orjson.loads(body)
    told = record["data"]
    now = "2026-11-22T12:00:00.000Z"
    turn = (told.get("turn_id"), told.get("stage"), told.get("attempt"))
    return (run, sequence, hash_, record["type"], body, now, now, 1, *turn, None, 1)


def _blocks(full: Path, blocks: int) -> Iterator[list[tuple[int, bytes, bytes]]]:
    connection = sqlite3.connect(f"{(full / LEDGER_FILE).resolve().as_uri()}?mode=ro", uri=True)
    found = connection.execute("SELECT sequence, hash, body FROM record ORDER BY sequence LIMIT ?", (blocks * TOGETHER,))
    while rows := found.fetchmany(TOGETHER):
        yield rows
    connection.close()


async def _measured(folder: Path, transport: str, profile: Profile, full: Path) -> dict[str, Any]:
    with Broker(folder / "broker") as broker:
        backend = Backend(folder / "backend", broker)
        await backend.start()
        try:
            state = folder / "robot"
            shutil.copytree(full, state)
            chosen = await registered(profile, transport, state, backend, broker)
            async with _robot(chosen, state) as (ledger, carrying):
                told = await _drained(ledger, carrying, {"backend": backend.process_id, "broker": broker.process_id})
                told["idle"] = await _singles(ledger, carrying)
            return told
        finally:
            await backend.stop()


@asynccontextmanager
async def _robot(profile: Profile, state: Path) -> AsyncIterator[tuple[TimedLedger, Worker]]:
    ledger = TimedLedger(state, Identity(profile.device.tenant, profile.device.id, profile.billing.account))
    try:
        async with upload.worker(profile, state, ledger, SystemClock(), lambda _: None) as carrying:
            assert carrying is not None
            yield ledger, carrying
    finally:
        await ledger.aclose()


async def _drained(ledger: TimedLedger, carrying: Worker, others: dict[str, int]) -> dict[str, Any]:
    """The whole backlog, appended -> acked."""
    held: list[float] = []
    looking = asyncio.create_task(_look(others["backend"], held))
    cpu = {name: _cpu_s(process) for name, process in others.items()}
    own, began = time.process_time(), time.perf_counter()
    ended = await carrying.drain(DRAIN_SECONDS_MAX)
    took = time.perf_counter() - began
    looking.cancel()
    spent = {name: _cpu_s(process) - cpu[name] for name, process in others.items()} | {"robot": time.process_time() - own}
    half = max(1, len(held) // 2)
    return {
        "drained": ended.complete,
        "why": ended.why,
        "seconds": round(took, 2),
        "records_per_s": round(ledger.acked / took),
        "cpu_us_per_record": {name: round(1e6 * seconds / max(1, ledger.acked), 1) for name, seconds in spent.items()},
        "backend_pss_mb": {
            "most": round(max(held, default=0), 1),
            "second_half_growth": round(held[-1] - held[half - 1], 1) if held else 0,
        },
    }


async def _singles(ledger: TimedLedger, carrying: Worker) -> dict[str, float]:
    """One record at a time, append -> acked."""
    running = asyncio.create_task(carrying.run())
    template, took = a_usage(), []
    try:
        for number in range(SINGLES + 1):
            began = time.perf_counter()
            (placed,) = await ledger.append([_usage(template)])
            await ledger.until(placed.sequence)
            if number:  # the first waits for the start of it all
                took.append(1000 * (time.perf_counter() - began))
            await asyncio.wait([running], timeout=BETWEEN_S)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    took.sort()
    return {"p50_ms": round(statistics.median(took), 1), "p99_ms": round(took[math.ceil(len(took) * 0.99) - 1], 1)}


async def _look(process: int, held: list[float]) -> None:
    while True:
        held.append(processes.pss_mb([process]))
        await SystemClock().sleep(LOOK_S)


def _cpu_s(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS
