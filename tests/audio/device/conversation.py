"""A program: microphone and speaker on the real sound library, told what to play by standard input, telling their health in JSON lines.

play SECONDS -> a tone of so long, as one piece of 100 characters
"""

import asyncio
import contextlib
import json
import sys

import numpy as np

from agent.audio.device.capture import DeviceMicrophone
from agent.audio.device.library import PortAudio
from agent.audio.device.playback import DeviceSpeaker
from agent.audio.device.system import SoundSystem
from agent.clock import SystemClock
from agent.ports import Sounding
from agent.profile import Sound
from agent.values import Speech
from tests.conftest import tone

PERIOD_S = 0.1


class Conversation:
    def __init__(self) -> None:
        clock = SystemClock()
        self.said: list[str] = []
        system = SoundSystem(PortAudio(), clock)
        sound = Sound(input="microphone", output="speaker")
        self.speaker = DeviceSpeaker(sound, system, clock, self.said.append)
        self.microphone = DeviceMicrophone(sound, system, clock, self.said.append)
        self.frames, self.level = 0, 0.0
        self.sounding: Sounding | None = None

    async def listen(self) -> None:
        async for frame in self.microphone.frames():
            self.frames += 1
            self.level = float(np.abs(np.frombuffer(frame.pcm, "<i2")).mean())

    async def obey(self) -> None:
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            seconds = float(line.split()[1])
            pcm = (tone(seconds, 22_050) * 32_767).astype("<i2").tobytes()
            self.sounding = self.speaker.play(Speech(pcm, 22_050, "x" * 100))

    async def tell(self) -> None:
        while True:
            sys.stdout.write(json.dumps(self.state()) + "\n")
            sys.stdout.flush()
            await asyncio.sleep(PERIOD_S)

    def state(self) -> dict[str, object]:
        return {
            "mic": self.microphone.health(),
            "speaker": self.speaker.health(),
            "frames": self.frames,
            "level": self.level,
            "heard": self.sounding.heard if self.sounding else 0,
            "said": self.said,
        }


async def main() -> None:
    conversation = Conversation()
    conversation.speaker.start()
    tasks = [asyncio.create_task(each) for each in (conversation.listen(), conversation.tell())]
    await conversation.obey()  # until standard input ends
    for task in tasks:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    await conversation.speaker.aclose()


if __name__ == "__main__":
    asyncio.run(main())
