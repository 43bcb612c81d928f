"""A robot's executor on a real ledger in virtual time, an operator who signs, and a broker that keeps what is not confirmed."""

import asyncio
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import orjson

from agent.contract.fleet import command as wire_command
from agent.contract.fleet.command import Command, Result, read_result
from agent.contract.signing import SigningKey
from agent.fleet.commands import COMMANDS
from agent.fleet.executor import Executor
from agent.fleet.order import Addressee
from agent.fleet.running.refusals import Refusal
from agent.fleet.scripted import ScriptedSteerable
from agent.ports import Delivered
from agent.sim.world.inline import InlineWriter
from agent.sim.world.loop import RobotClock
from agent.store.ledger import SqliteLedger
from agent.store.ledger.chain import Identity

OPERATOR, STRANGER = SigningKey.from_seed(b"o" * 32), SigningKey.from_seed(b"s" * 32)

ROBOT = Identity("demo", "sim-1", "hotel")

ARGUMENTS: dict[str, dict[str, Any]] = {
    "ping": {"echo": "there?"},
    "config.apply": {"settings": {"audio": {"volume": 0.5}}},
    "budget.set": {"amount": "12.50", "period": "day"},
    "mode.set": {"mode": "offline"},
    "say": {"text": "Welcome."},
    "log.level": {"level": "debug"},
    "privacy.forget": {"session_id": "s-1"},
}
"""That each command takes; those that are not named take none."""

DONE_AS = {
    "diagnostics.collect": "diagnostics",
    "config.apply": "apply",
    "agent.restart": "restart",
    "usage.flush": "flush",
    "usage.audit": "audit",
    "budget.set": "set_budget",
    "mode.set": "set_mode",
    "say": "speak",
    "log.level": "set_log_level",
    "privacy.forget": "forget",
}
"""What the robot is asked to do by each."""


def cmd_id(number: int) -> str:
    return f"01900000-0000-7000-8000-{number:012x}"


class Bench:
    """One life of the robot, from the state folder on."""

    def __init__(
        self,
        state: Path,
        *,
        robot: ScriptedSteerable | None = None,
        ledger: type[SqliteLedger] = SqliteLedger,
        allowed: Collection[str] = tuple(COMMANDS),
        clock: RobotClock | None = None,
    ) -> None:
        self.clock = clock or RobotClock(seed=1)
        self.book = ledger(state, ROBOT, self.clock, writer=InlineWriter)
        self.robot = robot or ScriptedSteerable()
        self.nonce = "nonce-1"
        self.refused: list[Refusal] = []
        self.said: list[str] = []
        self.news: list[Result] = []
        self.confirmed: list[Delivered | str] = []
        self.groups = ["lobby"]
        self.executor = Executor(
            self.book,
            self.robot,
            lambda: Addressee(ROBOT.tenant, ROBOT.device, self.groups),
            lambda: {OPERATOR.key_id: OPERATOR.public},
            self.clock,
            nonce=lambda: self.nonce,
            say=self.said.append,
            allowed=allowed,
            post=self._post,
            refused=self.refused.append,
        )
        self._task: asyncio.Task[None] | None = None

    async def _post(self, topic: str, body: bytes) -> str:
        told = read_result(body)
        assert topic == f"cmd/res/{told.cmd_id}"
        self.news.append(told)
        return ""

    async def __aenter__(self) -> "Bench":
        self._task = asyncio.create_task(self.executor.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait({self._task})
        await self.book.aclose()
        if not self._task.cancelled() and (error := self._task.exception()):
            raise error

    def command(self, op: str = "ping", number: int = 1, **changes: Any) -> Command:
        now = int(self.clock.utc().timestamp())
        told = {"cmd_id": cmd_id(number), "aud": ROBOT.name, "seq": number, "op": op, "args": ARGUMENTS.get(op, {})}
        return Command.model_validate(told | {"iat": now, "exp": now + 300} | changes)

    def send(self, command: Command, *, key: SigningKey = OPERATOR, retained: bool = False, topic_id: str = "") -> str:
        self.deliver(topic_id or command.cmd_id, wire_command.signed(command, key), retained=retained)
        return command.cmd_id

    def deliver(self, topic_id: str, content: bytes, *, retained: bool = False) -> None:
        self.executor.take(Delivered(f"cmd/req/{topic_id}", content, retained, lambda: self.confirmed.append(topic_id)))

    async def results(self) -> list[Result]:
        """In the outbox, oldest first; it is emptied."""
        found: list[Result] = []
        while waiting := await self.book.posted():
            assert all(one.topic == f"cmd/res/{orjson.loads(one.body)['cmd_id']}" for one in waiting)
            found += [read_result(one.body) for one in waiting]
            await self.book.delivered([one.id for one in waiting])
        return found

    async def result(self, command: Command, **how: Any) -> Result:
        """Of a command that is sent now."""
        before = len(self.confirmed)
        self.send(command, **how)
        await self.until(lambda: len(self.confirmed) > before)
        for _ in range(2000):
            known = await self.book.find(command.cmd_id)
            if known is not None and known.result:
                (result,) = await self.results()
                assert result.device == ROBOT.name
                return result
            await self.clock.sleep(0.5)
        raise AssertionError(f"no result of {command.op}")

    async def until(self, holds: Callable[[], bool], seconds_max: float = 10_000) -> None:
        ends = self.clock.monotonic() + seconds_max
        while not holds():
            assert self.clock.monotonic() < ends, "it never holds"
            await self.clock.sleep(0.01)

    async def idle(self) -> None:
        """Some seconds pass."""
        await self.clock.sleep(5)

    def times(self, op: str) -> int:
        return self.robot.done[DONE_AS[op]]
