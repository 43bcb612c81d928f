"""A robot in a scenario that an operator steers: by `steering`, as any robot; what it says and forgets is counted, not heard.

    opening (settings from afar, before the books are open) -> begin -> what the operator asks | a twin to be tried -> opened anew
                                                            -> end: power is gone, or the robot is stopped

The robot plays its turns instead of hearing guests, so its voice is one on paper. What it does in the world outlives a power cut:
`did` belongs to the body, not to a life of it.
"""

import io
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from agent import fitting
from agent import profile as profiles
from agent.app import App
from agent.clock import Settable
from agent.contract import wire
from agent.contract.registration import jwks
from agent.dialog.announce import Announcer
from agent.dialog.exchange.robot import Manner, Stages
from agent.dialog.exchange.robot import Robot as Body
from agent.dialog.pipeline import Pipeline
from agent.engines.host import Hosted
from agent.errors import VoxmeterError
from agent.log import Log
from agent.ports import Delivered, Poster, Steering
from agent.profile import Profile
from agent.service.running import Request, Running, Settings
from agent.sim.world.robot import Robot
from agent.steering import FromAfar
from agent.store import trust
from agent.sync.postman import Postman
from agent.talking.attending import Attending
from agent.values import STAGES, Message, Prompt
from agent.weights import catalog

DOES = ("speak", "forget")
"""What of a robot's doings is counted: these carry their command's id."""

STEP_S_MAX = 2.0
"""Of a command takes up to so long, so that a power cut finds some of them half done."""

PROFILE_FILE = "profile.toml"
"""In its state folder: what it is steered by is read from a file, again at each opening."""

Trusted = Callable[[], Mapping[str, bytes]]

Did = Callable[[str, str], None]
"""Takes what was done, and its command's id."""


class Whom(NamedTuple):
    """A robot believes, as if it had registered."""

    operators: Trusted
    backend: Trusted


class OnPaper(Attending):
    """Says and forgets on paper, slowly; counted where a power cut can't reach it."""

    def __init__(self, app: App, say: Callable[[str], None], did: Did, chance_s: Callable[[], float]) -> None:
        super().__init__(app, say)
        self._clock, self._did, self._chance_s = app.clock, did, chance_s

    async def speak(self, text: str) -> dict[str, Any]:
        await self._clock.sleep(self._chance_s())
        self._did("speak", text)
        await self._clock.sleep(self._chance_s())
        return {"said": text, "characters": len(text), "characters_heard": len(text), "session_id": "on paper"}

    def forget(self, session_id: str) -> None:
        self._did("forget", session_id)

    def health(self) -> dict[str, Any]:
        return super().health() | {"device": "paper", "hearing": True, "why": ""}


class Steered:
    """What steers one body of a robot, from start to power cut and again."""

    def __init__(
        self,
        profile: str,
        clock: Settable,
        chance_s: Callable[[], float],
        say: Callable[[str], None],
        *,
        whom: Whom | None = None,
        told: Did = lambda *_: None,
    ) -> None:
        """`profile`: TOML of the robot's own. `whom` is for one that never registers. `told` hears of each doing that is counted."""
        self.did: Counter[tuple[str, str]] = Counter()
        """(what, its command's id) -> how often, over all lives."""
        self._profile, self._whom, self._clock, self._chance_s, self._say, self._told = profile, whom, clock, chance_s, say, told
        self._far: FromAfar | None = None
        """As long as the robot's process lives."""
        self._beside: Settings = {}
        self._open: Steering | None = None
        self.steering = Steering(self._delivered, self._will, self._connected, say)
        """Goes into the link, once for all lives: until a life has begun nothing is taken."""

    async def opening(self, robot: Robot) -> None:
        """Before the books are open. Raises what FromAfar raises."""
        path = robot.state / PROFILE_FILE
        if self._far is None:
            robot.state.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.write_text(self._profile, encoding="utf-8")
            if self._whom is not None and not trust.read(robot.state).ack_keys:
                trust.write(robot.state, jwks(self._whom.backend().values()), "", jwks(self._whom.operators().values()))
            self._far = FromAfar(str(path), Log(io.StringIO(), journal=False), robot.state, self._clock, self._say)
        self._beside = await self._far.beside()

    def begin(self, robot: Robot, link: Poster) -> None:
        """A life: in the robot's own tasks. In one step with the making of the link, so that nothing is missed."""
        far = self._far
        assert far is not None
        app = app_of(profiles.load(str(robot.state / PROFILE_FILE), self._beside), robot, self._clock)
        self._open = far.steering(app)
        running = Running(app, robot.worker, OnPaper(app, self._say, self._do, self._chance_s), robot.state, self._say)
        robot.begin(self._steer(far, running, robot))
        robot.begin(Postman(robot.ledger, link, self._clock).run())

    def end(self) -> None:
        """Power is gone, or the robot is stopped."""
        self._far = self._open = None

    async def _steer(self, far: FromAfar, running: Running, robot: Robot) -> None:
        async with far.steered(running):
            request = await running.asking.wait()
        robot.reopen(self._again(far, request, robot))

    async def _again(self, far: FromAfar, request: Request, robot: Robot) -> None:
        """Closed and opened: in the same process as for other settings, or in another one."""
        await robot.stop()
        if request.kind == "reopen":
            self._far = far
        try:
            await robot.start()
        except VoxmeterError as error:
            self._say(f"does not open: {error}")

    def _do(self, what: str, how: str) -> None:
        if what in DOES:
            self.did[what, how] += 1
            self._told(what, how)

    def _delivered(self, message: Delivered) -> None:
        if self._open is not None:
            self._open.delivered(message)

    def _will(self) -> tuple[str, bytes]:
        return self._open.will() if self._open is not None and self._open.will is not None else (wire.PRESENCE, b"")

    def _connected(self) -> None:
        if self._open is not None:
            self._open.connected()


def profile_toml(tenant: str, device: str, account: str, ends: Mapping[str, tuple[str, int]]) -> str:
    """Of a robot whose engines follow a script; `ends`: transport -> host and port of its backend."""
    engines = "".join(f'[{part}]\nengine = "{part}_scripted"\nmodel = "script"\n' for part in (*STAGES, "vad"))
    backend = "".join(f'[sync.{transport}]\nhost = "{host}"\nport = {port}\n' for transport, (host, port) in ends.items())
    who = f'[device]\ntenant = "{tenant}"\nid = "{device}"\n[billing]\naccount = "{account}"\nrate_card = "standard-cny"\n'
    return f'{who}{engines}{backend}[dialog]\nsystem_prompt = "You are kind."\n'


def app_of(profile: Profile, robot: Robot, clock: Settable) -> App:
    """A robot as `steering` sees it, on the ledger of one that plays its turns; its engines are never started."""
    known, models = catalog.read(), catalog.models_folder()
    asr, llm, tts = (Hosted[Any, Any](fitting.settings_of(profile, stage, known, models), clock) for stage in STAGES)
    manner = Manner((Message("system", "You are kind."),), Prompt((), 40), 500, words, words)
    body = Body(Stages(asr, llm, tts), robot.books, manner, clock)
    return App(profile, body, Pipeline(body), Announcer(body), robot.ledger, None, {}, clock)


def words(text: str) -> int:
    """Tokens, by a script's vocabulary."""
    return len(text.split())
