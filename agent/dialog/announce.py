"""Says what the robot has to say by itself, such as that it can't answer now: made once by the voice, on the books, then kept."""

import contextlib
from collections.abc import Callable

from agent.dialog.exchange.robot import Robot
from agent.dialog.stage import RunningStage
from agent.errors import EngineFailed, VoxmeterError
from agent.ports import Appended, OpenCall
from agent.tasks import unhurried
from agent.values import Speech


class Announcer:
    """Says a text, which costs once however often it is said. It is on the books when it is made, whatever is heard of it then."""

    def __init__(self, robot: Robot) -> None:
        self._robot = robot

    async def say(self, text: str, play: Callable[[Speech], object], session_id: str) -> None:
        """Plays a text as it is read aloud. A voice that fails says nothing; where the ledger takes no record the words are unbilled, not
        unsaid."""
        said = self._robot.manner.read(text).text
        for speech in self._robot.sounds.get(said) or await self._made(said, session_id):
            play(speech)

    async def _made(self, said: str, session_id: str) -> tuple[Speech, ...]:
        robot, voice = self._robot, self._robot.stages.tts
        call = OpenCall(robot.clock.new_id(), session_id, "tts", voice.name, voice.model)
        running = RunningStage(call, voice, robot.clock, robot.clock.monotonic())
        intents: list[Appended] = []
        running.known.update(input_tokens=robot.manner.count_spoken(said), characters=len(said))
        spoken: list[Speech] = []
        try:
            await unhurried(self._intend(call, intents))
            await running.call.send(said)
            await running.call.finish()
            spoken = [speech async for speech in running.call]
            running.end("completed")
            robot.sounds.keep(said, tuple(spoken))
        except EngineFailed as failure:
            spoken = []
            running.end("failed", str(failure))
        finally:
            await unhurried(self._close(running, intents))
        return tuple(spoken)

    async def _intend(self, call: OpenCall, intents: list[Appended]) -> None:
        """To its end, whoever is stopped meanwhile: what the ledger holds must be known here."""
        with contextlib.suppress(VoxmeterError):
            intents.append(await self._robot.books.intend([call], begin=[call]))

    async def _close(self, running: RunningStage[str, Speech], intents: list[Appended]) -> None:
        await running.call.cancel()
        call, result = running.facts, running.end("interrupted")
        with contextlib.suppress(VoxmeterError):
            for intent in intents:
                await (self._robot.books.settle(call, result, intent) if running.call.begun else self._robot.books.drop([call]))
