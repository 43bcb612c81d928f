"""A robot that is played: the real link and the real wire, answers from a script."""

import asyncio
from collections.abc import Mapping
from typing import Any

from agent.clock import SystemClock
from agent.contract import wire
from agent.contract.fleet import command, presence
from agent.contract.fleet.command import Command, Result
from agent.contract.fleet.presence import Birth, ConnId, Presence, Sync, Telemetry
from agent.desk.settings import DeskSettings, settled, written
from agent.link.mqtt import MqttLink
from agent.ports import Delivered, LinkSettings, Steering
from agent.sim.real.broker import HOST, Broker

Answers = Mapping[str, tuple[str, str, dict[str, Any]] | None]
"""Op -> (state, code, result); None: it never answers."""

PONG: Answers = {"ping": ("succeeded", "", {"pong": 1}), "say": ("failed", "engine-failed", {}), "usage.flush": None}


class Played:
    """One robot. What it has answered it answers again from memory, as a real one does from its book."""

    def __init__(
        self,
        broker: Broker,
        device: str,
        trusted: Mapping[str, bytes],
        answers: Answers = PONG,
        *,
        clock: str = "ntp",
        groups: tuple[str, ...] = (),
    ) -> None:
        self.device, self.boot, self.connect = device, 1, 0
        self.clock, self.groups = clock, groups
        self.ran: list[Command] = []
        """Commands that were done."""
        self.came: list[Command] = []
        """All that came, again and again."""
        self.deaf = False
        """What comes is lost here, as if the robot had been cut off."""
        self._trusted, self._answers = trusted, answers
        self._results: dict[str, Result] = {}
        self._book: dict[str, Command] = {}
        self._key_id, self._taken = "", 0
        self._tasks: set[asyncio.Task[object]] = set()
        self._certificate = broker.client(f"demo/{device}")
        self._broker = broker
        self.link: MqttLink | None = None

    @property
    def nonce(self) -> str:
        return f"{self.device}-{self.boot}-{self.connect}"

    @property
    def _conn(self) -> ConnId:
        return ConnId(boot=self.boot, connect=self.connect)

    async def come(self) -> None:
        """Connects, and has said so when it returns."""
        certificate, key = self._certificate
        steering = Steering(delivered=self._delivered, will=self._will, connected=self._connected)
        settings = LinkSettings(
            "demo", self.device, HOST, self._broker.port, self._broker.authority.decode(), certificate, key, steering=steering
        )
        self.link = MqttLink(settings, SystemClock())
        before = self.connect
        await self.link.ready()
        while self.connect == before or self._tasks:
            await asyncio.sleep(0.01)

    async def go(self, why: str = "stopped") -> None:
        """Says goodbye."""
        assert self.link is not None
        gone = Presence(device=f"demo/{self.device}", conn_id=self._conn, online=False, why=why)
        await self.link.post(wire.PRESENCE, presence.written(gone), retained=True)
        await self.aclose()

    async def aclose(self) -> None:
        if self.link:
            await asyncio.gather(*self._tasks)
            await self.link.aclose()
            self.link = None

    async def measure(self, **told: Any) -> None:
        assert self.link is not None
        telemetry = Telemetry(device=f"demo/{self.device}", uptime_s=7200, **told)
        await self.link.post(wire.TELEMETRY, presence.written(telemetry))

    async def say(self, topic: str, body: bytes, *, retained: bool = False) -> None:
        assert self.link is not None
        assert await self.link.post(topic, body, retained=retained) is None

    def _connected(self) -> None:
        self.connect += 1
        name = f"demo/{self.device}"
        birth = Birth(
            device=name,
            conn_id=self._conn,
            nonce=self.nonce,
            software="0.1",
            profile="scripted",
            groups=list(self.groups),
            clock=self.clock,
        )
        sync = Sync(device=name, conn_id=self._conn, nonce=self.nonce, last={self._key_id or "-": self._taken})
        self._post(wire.BIRTH, presence.written(birth), retained=True)
        self._post(wire.SYNC, presence.written(sync))

    def _will(self) -> tuple[str, bytes]:
        conn = ConnId(boot=self.boot, connect=self.connect + 1)
        return wire.PRESENCE, presence.written(Presence(device=f"demo/{self.device}", conn_id=conn, online=False, why="lost"))

    def _delivered(self, message: Delivered) -> None:
        message.confirm()
        self._key_id, asked = command.read(message.content, self._trusted)
        assert not message.retained
        self.came.append(asked)
        if self.deaf or self._book.get(asked.cmd_id, asked) != asked:
            return  # another one with this id
        if asked.cmd_id not in self._results:
            self._do(asked, new=asked.cmd_id not in self._book)
        self._book[asked.cmd_id] = asked
        self._taken = max(self._taken, asked.seq)
        if told := self._results.get(asked.cmd_id):
            self._post(f"{wire.RESULT}/{asked.cmd_id}", command.written(told))

    def _do(self, asked: Command, *, new: bool) -> None:
        if new and self.clock in ("none", "floor") and asked.session_nonce != self.nonce:
            self._results[asked.cmd_id] = self._result(asked, "expired", "stale", {})
            return
        scripted = self._answers[asked.op]
        if scripted:
            self.ran.append(asked)
            self._results[asked.cmd_id] = self._result(asked, *scripted)

    def _result(self, asked: Command, state: str, code: str, result: dict[str, Any]) -> Result:
        about = {"cmd_id": asked.cmd_id, "device": f"demo/{self.device}", "op": asked.op, "seq": asked.seq}
        return Result.model_validate(about | {"state": state, "code": code, "message": "as scripted" if code else "", "result": result})

    def _post(self, topic: str, body: bytes, *, retained: bool = False) -> None:
        assert self.link is not None
        task: asyncio.Task[object] = asyncio.ensure_future(self.link.post(topic, body, retained=retained))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def desk_settings(broker: Broker, operator_key: Any, name: str = "alice") -> DeskSettings:
    """As that operator, whose certificate the broker knows."""
    certificate, key = broker.client(f"operator/{name}")
    ca = certificate.parent / "authority.pem"
    return settled(
        written(), broker=f"{HOST}:{broker.port}", ca=ca, certificate=certificate, key=key, tenant="demo", operator_key=operator_key
    )
