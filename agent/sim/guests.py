"""Guests for a robot without a hall: another voice engine than the robot's own says their questions, and one is a human being."""

import ctypes
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from agent.audio import wav
from agent.errors import MissingPart
from agent.values import Speech

AUDIO_OUTPUT_SYNCHRONOUS = 2
UTF8 = 1
WORDS_PER_MINUTE = 150
"""A little slower than espeak's own pace: guests in a lobby do not hurry."""

RATE_PARAMETER = 1

LOUD = 0.02
"""Size of a sample from which a voice is not silent; what is said ends with its last such sample."""


class GuestVoice:
    """espeak-ng's library out of its wheel; no program, no root right. One per process: the library has global state."""

    def __init__(self, voice: str = "en-us", words_per_minute: int = WORDS_PER_MINUTE) -> None:
        try:
            import espeakng_loader  # noqa: PLC0415  only the simulation needs it
        except ModuleNotFoundError as error:
            raise MissingPart("the Python package espeakng-loader is not installed", "pip install 'voxmeter[sim]'") from error
        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        self._rate_hz = self._library.espeak_Initialize(AUDIO_OUTPUT_SYNCHRONOUS, 0, espeakng_loader.get_data_path().encode(), 0)
        if self._rate_hz <= 0 or self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise MissingPart(f"espeak-ng has no voice {voice}", "reinstall espeakng-loader")
        self._library.espeak_SetParameter(RATE_PARAMETER, words_per_minute, 0)
        self._pieces: list[npt.NDArray[np.int16]] = []
        signature = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
        self._callback = signature(self._take)  # kept: the library holds only its address
        self._library.espeak_SetSynthCallback(self._callback)

    def say(self, text: str) -> Speech:
        self._pieces.clear()
        spoken = text.encode()
        self._library.espeak_Synth(spoken, len(spoken) + 1, 0, 1, 0, UTF8, None, None)
        self._library.espeak_Synchronize()
        sound = np.concatenate(self._pieces) if self._pieces else np.zeros(0, np.int16)
        return Speech(sound.astype("<i2").tobytes(), self._rate_hz, text)

    def _take(self, samples: "ctypes._Pointer[ctypes.c_short]", count: int, _events: int) -> int:
        if samples and count > 0:
            self._pieces.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0


def said(voice: GuestVoice, text: str, speed: float = 1.0) -> bytes:
    """A text in a guest's voice, nothing before the first sound and nothing after the last."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "said.wav"
        speech = voice.say(text)
        wav.write(path, [Speech(speech.pcm, round(speech.rate_hz * speed), text)])
        samples = np.frombuffer(b"".join(wav.read(path)), "<i2").astype(np.float32) / np.float32(32_768)
    loud = np.flatnonzero(np.abs(samples) > LOUD)
    samples = samples[loud[0] : loud[-1] + 1] if len(loud) else samples
    return bytes((np.clip(samples, -1, 0.999) * 32_768).astype("<i2").tobytes())


@dataclass(frozen=True, slots=True)
class Guest:
    """Somebody who speaks to the robot."""

    name: str
    wav: Path


QUESTIONS = {"guest 1": "What time does breakfast start in the morning?", "guest 2": "What is the password of the wireless network?"}

HUMAN = "guest 3, a human recording"


def hotel_guests(folder: Path, recording: Path) -> list[Guest]:
    """Two questions made with the guest's voice, once, and the recording of a human."""
    guests = []
    voice: GuestVoice | None = None
    for name, question in QUESTIONS.items():
        path = folder / f"{name.replace(' ', '-')}.wav"
        if not path.exists():
            voice = voice or GuestVoice()
            wav.write(path, [voice.say(question)])
        guests.append(Guest(name, path))
    return [*guests, Guest(HUMAN, recording)]
