"""A robot in a scenario that an operator steers: the real executor, book of commands, presence and outbox; what commands do is counted.

What a robot does in the world outlives a power cut: `did` belongs to the body, not to a life of it.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from agent.clock import Clock
from agent.contract import wire
from agent.contract.fleet import alarm, twin
from agent.contract.fleet.alarm import Refusals
from agent.errors import BadInput
from agent.fleet.commands import COMMANDS
from agent.fleet.executor import Executor
from agent.fleet.order import Addressee
from agent.fleet.presence import Facts, Presence, taken
from agent.fleet.running.refusals import Refusal
from agent.fleet.scripted import ScriptedSteerable
from agent.fleet.timekeeping import attested
from agent.ports import Delivered, Poster, Steering
from agent.sim.world.robot import Robot
from agent.sync.postman import Postman

DOES = ("speak", "forget")
"""What of a robot's doings is counted: these carry their command's id."""

STEP_S_MAX = 2.0
"""Of a command takes up to so long, so that a power cut finds some of them half done."""

Trusted = Callable[[], Mapping[str, bytes]]


class Doing(ScriptedSteerable):
    """Does on paper what commands ask, slowly, and keeps count where a power cut can't reach it."""

    def __init__(self, did: Callable[[str, str], None], clock: Clock, chance_s: Callable[[], float]) -> None:
        super().__init__(did)
        self._clock, self._chance_s = clock, chance_s

    async def _do(self, what: str, how: str = "", **answer: object) -> Mapping[str, Any]:
        await self._clock.sleep(self._chance_s())
        told = await super()._do(what, how, **answer)
        await self._clock.sleep(self._chance_s())
        return told


class Whom(NamedTuple):
    """A robot believes."""

    operators: Trusted
    backend: Trusted


class Steered:
    """What steers one body of a robot, from start to power cut and again."""

    def __init__(
        self,
        whom: Whom,
        clock: Clock,
        chance_s: Callable[[], float],
        say: Callable[[str], None],
        *,
        starts: int = 0,
        told: Callable[[str, str], None] = lambda *_: None,
    ) -> None:
        """`starts`: lives before this object's first; `told` hears of each doing that is counted, as it is done."""
        self.did: Counter[tuple[str, str]] = Counter()
        """(what, its command's id) -> how often, over all lives."""
        self.refused: Counter[str] = Counter()
        """By code, what it said it refused."""
        self._whom, self._clock, self._chance_s, self._say = whom, clock, chance_s, say
        self._starts, self._told = starts, told
        self._executor: Executor | None = None
        self._presence: Presence | None = None
        self._refuse: Callable[[Refusal], None] = lambda _: None
        self.steering = Steering(self._delivered, self._will, self._connected)
        """Goes into the link, once for all lives: until a life has begun nothing is taken."""

    def begin(self, robot: Robot, link: Poster) -> None:
        """A life: in the robot's own tasks. In one step with the making of the link, so that nothing is missed."""
        self._starts += 1
        name = f"{robot.identity.tenant}/{robot.identity.device}"
        doing = Doing(self._do, self._clock, self._chance_s)
        book = robot.ledger
        facts = Facts(name, "simulated", "simulated", tuple(COMMANDS), tuple, bytes, lambda: taken(book, self._whom.operators()))
        presence = self._presence = Presence(facts, self._clock, boot=self._starts, say=self._say)
        addressee = Addressee(robot.identity.tenant, robot.identity.device)

        def refused(refusal: Refusal) -> None:
            now = self._clock.utc().isoformat()
            told = Refusals(code=refusal.code, count=refusal.count, first=now, last=now)
            robot.begin(book.post(wire.REFUSALS, alarm.written(told)))
            self.refused[refusal.code] += refusal.count

        self._refuse = refused
        executor = self._executor = Executor(
            book, doing, lambda: addressee, self._whom.operators, self._clock, nonce=lambda: presence.nonce, post=link.post, refused=refused
        )
        for work in (executor.run(), presence.run(link), Postman(book, link, self._clock).run()):
            robot.begin(work)

    def end(self) -> None:
        """Power is gone, or the robot is stopped."""
        self._executor = self._presence = None

    def _do(self, what: str, how: str) -> None:
        if what in DOES:
            self.did[what, how] += 1
            self._told(what, how)

    def _delivered(self, message: Delivered) -> None:
        if self._executor is None:
            return
        if message.topic.startswith(f"{wire.REQUEST}/"):
            self._executor.take(message)
            return
        message.confirm()
        try:
            if message.topic == wire.DESIRED:
                twin.read(message.content, self._whom.backend())
            elif message.topic == wire.TIME and self._presence is not None:
                attested(message.content, self._presence.nonce, self._whom.backend())
        except BadInput as error:
            self._refuse(Refusal("bad-twin" if message.topic == wire.DESIRED else "bad-time", str(error)))

    def _will(self) -> tuple[str, bytes]:
        return self._presence.will() if self._presence is not None else (wire.PRESENCE, b"")

    def _connected(self) -> None:
        if self._presence is not None:
            self._presence.connected()
