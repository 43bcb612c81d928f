"""The simulated robots whose certificates end: enrolled months apart, watched by the real driver, struck off by their operator."""

import datetime
from collections.abc import Callable, Collection, Mapping
from random import Random  # noqa: TID251  the type alone; chance is handed in

from agent.contract import certificates
from agent.profile import Endpoint
from agent.sim.simulated.backend import Backend
from agent.sim.simulated.fleet.gate import Gate, roads
from agent.sim.simulated.network import Network
from agent.sim.world.evidence import Certificate
from agent.sim.world.fleet.certified import Certified, halfway, profile_of, shown
from agent.sim.world.loop import RobotClock
from agent.sim.world.robot import Robot, Say
from agent.store.keys import Keys
from agent.store.ledger.chain import Identity
from agent.store.pair import Pair

HASTE = 600
"""Times as fast pass the hours of those who keep certificates: they look every ten minutes, and again an hour after a failure."""

AGE_DAYS_MIN, AGE_DAYS_MAX = 24.0, 56.0
"""Of certificates at the beginning. Of ninety days so many are left that some are renewed before a winter of sixty, some end in it, and
some outlive it. Of five robots two surely end in it, so that one does although the other may be struck off."""

NOWHERE = Endpoint(host="127.0.0.1", port=1)
"""Of the backend: the simulated roads lead there all the same."""


class Enrolled:
    """All of one world; a robot is known by its device's name, of which there is one body each."""

    def __init__(self, network: Network, backend: Backend, clock: RobotClock, chance: Random) -> None:
        """`clock`: the backend's, and the broker's."""
        self._network, self._backend, self._clock, self._chance = network, backend, clock, chance
        self._gate = Gate(clock)
        self._api_keys: dict[str, str] = {}
        self._certified: dict[str, Certified] = {}
        self._words: dict[str, set[str]] = {}
        self._expired: set[str] = set()
        self.revoked: set[str] = set()
        """Devices that were struck off."""
        self.halfway = 0
        """Power cuts that came between one certificate and the next."""

    def certified(self, identity: Identity, clock: RobotClock, say: Say) -> Certified:
        """Who keeps the certificate of that robot."""
        device = identity.device
        own = roads(self._network, self._backend, self._gate, lambda: self._api_keys[device])
        noted = self._words.setdefault(device, set()).add
        made = self._certified[device] = Certified(profile_of(identity, NOWHERE), clock, HASTE, say, noted, own)
        return made

    async def enrol(self, robots: Mapping[str, Robot], clocks: Mapping[str, RobotClock]) -> None:
        """Each as if it had been done some days ago, in no order, evenly from AGE_DAYS_MAX to AGE_DAYS_MIN."""
        span_days = (AGE_DAYS_MAX - AGE_DAYS_MIN) / len(robots)
        ages_days = [AGE_DAYS_MIN + (number + self._chance.random()) * span_days for number in range(len(robots))]
        self._chance.shuffle(ages_days)
        for (name, robot), age_days in zip(robots.items(), ages_days, strict=True):
            ago = datetime.timedelta(days=age_days)
            self._clock.step_wall(-ago)
            await self._enrol(robot, clocks[name])
            self._clock.step_wall(ago)

    async def _enrol(self, robot: Robot, clock: RobotClock) -> None:
        tenant, device, account = robot.identity.tenant, robot.identity.device, robot.identity.account
        pair, name = Pair(robot.state), certificates.device_name(tenant, device)
        key, csr = Keys(robot.state, clock).current, certificates.request(name, pair.key()).decode()
        self._api_keys[device], chain = await self._backend.enrol(tenant, device, account, key, csr)
        pair.take(chain, name)
        pair.promote()

    async def revoke(self, robot: Robot) -> None:
        """The broker is told at once."""
        self.revoked.add(robot.identity.device)
        self._gate.revoked = await self._backend.revoke(robot.identity.tenant, robot.identity.device)

    def refused(self, robot: Callable[[], Robot]) -> Callable[[], str]:
        """What the broker has against what the robot shows; empty: it is let in."""
        return lambda: self._gate.problem(shown(robot().state))

    def api_key(self, device: str) -> str:
        """Empty before it is enrolled."""
        return self._api_keys.get(device, "")

    def link_back(self, robots: Collection[Robot]) -> None:
        """Who has a certificate now that is over?"""
        self._expired |= {one.identity.device for one in robots if self._gate.over(shown(one.state))}

    def power_cut(self, robot: Robot) -> None:
        """It has just been."""
        self.halfway += halfway(robot.state)

    def unsettled(self, robot: Robot) -> bool:
        """Whether a certificate is still to be had, or to be shown."""
        return not (self._certified[robot.identity.device].look() == "good" and robot.over_mqtt)

    def evidence(self, robots: Collection[Robot]) -> dict[str, Certificate]:
        """How each stands now."""
        return {robot.identity.device: self._stands(robot) for robot in robots}

    def _stands(self, robot: Robot) -> Certificate:
        device = robot.identity.device
        return Certificate(
            state=self._certified[device].look(),
            left_s=self._gate.left_s(shown(robot.state)),
            connected=robot.over_mqtt,
            revoked=device in self.revoked,
            expired=device in self._expired,
            words=frozenset(self._words[device]),
            mute=robot.mute,
        )
