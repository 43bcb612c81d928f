"""The robot of `bench fleet`, a process of its own: the real link, executor and ledger, a robot on paper; and beside it a bare echo.

python -m agent.bench.fleet.robot SETTINGS.json     until SIGTERM; says `ready` when it is connected
"""

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.clock import SystemClock
from agent.contract import wire
from agent.contract.signing import decode, key_id_of
from agent.fleet.commands import COMMANDS
from agent.fleet.executor import Executor
from agent.fleet.order import Addressee
from agent.fleet.presence import Facts, Presence, taken
from agent.fleet.scripted import ScriptedSteerable
from agent.link.mqtt import MqttLink
from agent.link.mqtt.message import Incoming
from agent.link.mqtt.steady import Mqtt
from agent.ports import Delivered, LinkSettings, Steering
from agent.store.ledger import SqliteLedger
from agent.store.ledger.chain import Identity
from agent.sync.postman import Postman

TENANT, DEVICE, ECHO = "demo", "robot", "echo"

UNLIMITED, BURST = 1e6, 1_000_000
"""Commands of one key: the rate limit is not what is measured."""

QUESTION, ANSWER = f"{wire.REQUEST}/echo", f"{wire.RESULT}/echo"
"""Of the bare round trip, below ECHO's subtree."""


def executor(ledger: SqliteLedger, trusted: dict[str, bytes], clock: SystemClock, nonce: Callable[[], str]) -> Executor:
    """As a robot has it, but without a limit."""
    addressee = Addressee(TENANT, DEVICE)
    return Executor(
        ledger, ScriptedSteerable(), lambda: addressee, lambda: trusted, clock, nonce=nonce, say=say, rate_per_s=UNLIMITED, burst=BURST
    )


async def live(told: dict[str, Any]) -> None:
    clock, public = SystemClock(), decode(told["operator"])
    trusted = {key_id_of(public): public}
    ledger = SqliteLedger(Path(told["state"]), Identity(TENANT, DEVICE, "bench"), clock)
    presence = Presence(
        Facts(f"{TENANT}/{DEVICE}", "bench", "scripted", tuple(COMMANDS), lambda: (), lambda: b"", lambda: taken(ledger, trusted)),
        clock,
        boot=1,
    )
    commands = executor(ledger, trusted, clock, lambda: presence.nonce)
    steering = Steering(delivered=lambda message: _deliver(message, commands), will=presence.will, connected=presence.connected)
    link = MqttLink(_settings(told, DEVICE, steering), clock)
    echo = _Echo(told, clock)
    try:
        async with asyncio.TaskGroup() as group:
            for work in (commands.run(), presence.run(link), Postman(ledger, link, clock).run()):
                group.create_task(work)
            await link.ready()
            await echo.mqtt.ready()
            print("ready", flush=True)  # noqa: T201  whoever started this waits for it
    finally:
        await echo.mqtt.aclose()
        await link.aclose()
        await ledger.aclose()


def _settings(told: dict[str, Any], device: str, steering: Steering | None = None) -> LinkSettings:
    certificate, key = (Path(one) for one in told[device])
    return LinkSettings(TENANT, device, told["host"], told["port"], told["authority"], certificate, key, steering=steering)


def _deliver(message: Delivered, commands: Executor) -> None:
    if message.topic.startswith(f"{wire.REQUEST}/"):
        commands.take(message)
    else:
        message.confirm()


class _Echo:
    """Another client, that does nothing but send back what came."""

    def __init__(self, told: dict[str, Any], clock: SystemClock) -> None:
        self._tasks: set[asyncio.Task[object]] = set()
        self.mqtt = Mqtt(_settings(told, ECHO), ECHO, clock, [wire.topic(TENANT, ECHO, QUESTION)], self._heard)

    def _heard(self, message: Incoming) -> None:
        message.confirm()
        task: asyncio.Task[object] = asyncio.ensure_future(self.mqtt.publish(wire.topic(TENANT, ECHO, ANSWER), message.content))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201  whoever measures sees what goes wrong


def main() -> None:
    asyncio.run(live(json.loads(Path(sys.argv[1]).read_text())))
