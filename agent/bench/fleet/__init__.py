"""`bench fleet`: how long a command takes from the desk to its result on an idle robot, beside the bare round trip; commands a second.

Desk and robot are two processes on this machine, with a real mosquitto between them, TLS, and the robot's real ledger on the disk that
is measured. The reference sends as many bytes through the same broker to a client that sends them back. Blocks of both alternate.
"""

import asyncio
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from agent.bench.fleet import robot
from agent.clock import SystemClock
from agent.contract import wire
from agent.contract.fleet import command
from agent.contract.signing import SigningKey, encode
from agent.desk import keys
from agent.desk.desk import Desk
from agent.desk.sending import Sending, What, orders
from agent.desk.settings import DeskSettings, settled, written
from agent.errors import NoLink
from agent.link.mqtt.message import Incoming
from agent.link.mqtt.steady import Mqtt
from agent.ports import Delivered
from agent.sim.real.broker import HOST, Broker
from agent.store.ledger import SqliteLedger
from agent.store.ledger.chain import Identity

REACH = {"p50_ms": 30, "p99_ms": 150}
"""Command -> result, idle."""

BLOCK = 50
"""Commands, then as many bare round trips."""

BETWEEN_S = 0.005
"""Between two commands: the robot is idle when one comes."""

WAIT_S = 10.0

WARM_UP = 20

BARE_BYTES = 600
"""A signed ping has as many."""

FED_MAX = 64
"""Commands given to the executor ahead of its answers, as the link would."""

OPERATOR = "operator/bench"

NONCE = "bench"
"""Of the connection that there is not."""


async def run(pings: int, commands: int, folder: Path) -> dict[str, Any]:
    """All figures, as JSON values: `pings` one after the other, `commands` as fast as they go."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        place = Path(scratch)
        key = keys.make(place / "operator.key", SystemClock())
        with Broker(place / "broker", operators=[OPERATOR]) as broker:
            settings = _settings(broker, place / "operator.key")
            async with _robot(place, broker, key), Desk(settings, SystemClock()) as desk:
                told = await _round_trips(_Asking(desk, settings, key), _Bare(settings), pings)
        return {"reach": REACH} | told | {"commands": await _journaled(place / "book", key, commands)}


def _settings(broker: Broker, key_file: Path) -> DeskSettings:
    certificate, key = broker.client(OPERATOR)
    ca = certificate.parent / "authority.pem"
    address = f"{HOST}:{broker.port}"
    return settled(written(), broker=address, ca=ca, certificate=certificate, key=key, tenant=robot.TENANT, operator_key=key_file)


@asynccontextmanager
async def _robot(place: Path, broker: Broker, key: SigningKey) -> AsyncIterator[None]:
    """A robot and an echo, connected. Raises NoLink if they don't come about."""
    pairs = {name: [str(path) for path in broker.client(f"{robot.TENANT}/{name}")] for name in (robot.DEVICE, robot.ECHO)}
    about = {"host": HOST, "port": broker.port, "authority": broker.authority.decode()}
    told = place / "robot.json"
    told.write_text(json.dumps(pairs | about | {"state": str(place / "state"), "operator": encode(key.public)}))
    command_line = [sys.executable, "-P", "-c", f"from {robot.__name__} import main; main()", str(told)]
    process = await asyncio.create_subprocess_exec(*command_line, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        if await process.stdout.readline() != b"ready\n":
            raise NoLink("the robot of the measurement does not start", "see what it says above")
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


class _Asking:
    """Commands from the real desk, one at a time. Their numbers are taken before: that is timed by itself."""

    def __init__(self, desk: Desk, settings: DeskSettings, key: SigningKey) -> None:
        self._desk, self._key, self._file = desk, key, settings.operator_key
        self.numbering: list[float] = []

    async def once(self) -> float:
        """Milliseconds from nothing to a result that says it succeeded."""
        clock = SystemClock()
        began = time.perf_counter()
        numbers = keys.take_numbers(self._file, 1, clock)
        self.numbering.append(1000 * (time.perf_counter() - began))
        began = time.perf_counter()
        now = int(clock.utc().timestamp())
        made = orders(What("ping", {}, now, now + 60), robot.TENANT, [robot.DEVICE], numbers=numbers, ids=[clock.new_id()])
        sending = Sending(robot.TENANT, made, self._key, self._desk.roster, lambda: (0, ""))
        await self._desk.carry(sending, WAIT_S)
        took = 1000 * (time.perf_counter() - began)
        if not all(order.succeeded for order in sending.orders):
            raise NoLink(f"a ping was not answered: {sending.outcome(made[0])}", "measure on a quiet machine")
        return took


class _Bare:
    """As many bytes through the same broker, to a client that sends them back and does nothing else."""

    def __init__(self, settings: DeskSettings) -> None:
        self._question, self._answer = (wire.topic(robot.TENANT, robot.ECHO, one) for one in (robot.QUESTION, robot.ANSWER))
        self._echoed = asyncio.Event()
        self.mqtt = Mqtt(settings.link, "bench-bare", SystemClock(), [self._answer], self._heard, expiry_s=0)
        self._content = bytes(BARE_BYTES)

    async def once(self) -> float:
        """Milliseconds from PUBLISH to the later of its PUBACK and its echo."""
        self._echoed.clear()
        began = time.perf_counter()
        async with asyncio.timeout(WAIT_S):
            await self.mqtt.publish(self._question, self._content)
            await self._echoed.wait()
        return 1000 * (time.perf_counter() - began)

    def _heard(self, message: Incoming) -> None:
        message.confirm()
        self._echoed.set()


async def _round_trips(asking: _Asking, bare: _Bare, pings: int) -> dict[str, Any]:
    await bare.mqtt.ready()
    ours: list[float] = []
    echoes: list[float] = []
    try:
        for once in (asking.once, bare.once):
            for _ in range(WARM_UP):
                await once()
        asking.numbering.clear()
        while len(ours) < pings:
            for once, into in ((asking.once, ours), (bare.once, echoes)):
                for _ in range(min(BLOCK, pings - len(into))):
                    into.append(await once())
                    await SystemClock().sleep(BETWEEN_S)
    finally:
        await bare.mqtt.aclose()
    ratio = round(statistics.median(ours) / statistics.median(echoes), 2)
    return {"pings": pings, "command": _told(ours), "bare": _told(echoes), "ratio_p50": ratio, "numbering": _told(asking.numbering)}


def _told(took: Sequence[float]) -> dict[str, float]:
    ordered = sorted(took)
    at = {"p50_ms": statistics.median(ordered), "p99_ms": ordered[math.ceil(len(ordered) * 0.99) - 1], "max_ms": ordered[-1]}
    return {name: round(value, 2) for name, value in at.items()}


async def _journaled(state: Path, key: SigningKey, count: int) -> dict[str, Any]:
    """Commands given to a robot's executor without a network: verified, written down, run, and their results durable."""
    clock = SystemClock()
    ledger = SqliteLedger(state, Identity(robot.TENANT, robot.DEVICE, "bench"), clock)
    commands = robot.executor(ledger, {key.key_id: key.public}, clock, lambda: NONCE)
    now = int(clock.utc().timestamp())
    made = orders(What("ping", {}, now, now + 3600), robot.TENANT, [robot.DEVICE] * count, numbers=range(1, count + 1), ids=_ids(count))
    told = [order.command.model_copy(update={"session_nonce": NONCE}) for order in made]  # this machine's clock may be no help
    signed = [(one.cmd_id, command.signed(one, key)) for one in told]
    room = asyncio.Semaphore(FED_MAX)
    running = asyncio.create_task(commands.run())
    try:
        began = time.perf_counter()
        for cmd_id, content in signed:
            await room.acquire()
            commands.take(Delivered(f"{wire.REQUEST}/{cmd_id}", content, retained=False, confirm=room.release))
        while (known := await ledger.find(signed[-1][0])) is None or known.state != "succeeded":
            await SystemClock().sleep(0.001)
        took = time.perf_counter() - began
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await ledger.aclose()
    return {"count": count, "seconds": round(took, 2), "per_s": round(count / took)}


def _ids(count: int) -> list[str]:
    return [SystemClock().new_id() for _ in range(count)]
