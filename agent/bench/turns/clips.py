"""Makes questions as a microphone hears them, with a pause between two words in the middle, or without.

The voice says a question in one breath. It is cut where one word ends and the next begins, where it is most quiet there, and faded
out and in: as from somebody who looks for a word, not with the melody of a sentence that ends. A voice played faster or slower, its
pitch with it, stands for other voices.
"""

import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import numpy.typing as npt

from agent.audio import wav
from agent.ports import Tts
from agent.values import FRAME_SAMPLES, RATE_HZ, Speech

PAUSE_MS = (300, 1_000)

MIDDLE = (0.25, 0.75)
"""Where a pause may be, as a part of the words."""

AROUND_MS = (500, 2_500)
"""Hall before and after a question."""

HALL = 10
"""Root mean square of the hall's noise, of 32768: -70 dBFS."""

LOUD = 300
"""Size of a sample from which a voice is not silent."""

SEEK, FADE = RATE_HZ // 25, RATE_HZ // 100
"""The cut is the quietest place within 40 ms of where the words meet; 10 ms are faded."""

FRAME_BYTES = FRAME_SAMPLES * 2

QUESTIONS = (
    "What time does breakfast start",
    "Where is the swimming pool",
    "How do I get to the airport",
    "Can you tell me the wifi password",
    "Which floor is the gym on",
    "Is there a supermarket near here",
    "How much does the shuttle cost",
    "When do I have to leave my room",
    "Can I leave my luggage here",
    "Where can I change some money",
    "Do you have a room with a view",
    "Is breakfast included in the price",
    "How late is the restaurant open",
    "I would like to check out please",
    "Can somebody bring a towel to my room",
    "What is the phone number of the reception",
    "Where can I find a taxi",
    "Are there any rooms free tonight",
    "Could you wake me up at seven",
    "Does the room have a safe",
    "Where are the toilets",
    "How far is it to the old town",
    "Can I park my car here",
    "Is the pool heated in the winter",
    "When does the bar close",
    "Where do I pay for parking",
    "Do you take credit cards",
    "Which shop sells children's shoes",
    "On which floor is the cinema",
    "Is there a pharmacy in this mall",
    "Where can I get a coffee",
    "What time do the shops open on Sunday",
    "How do I return a jacket",
    "Where is the nearest cash machine",
    "I am looking for a birthday present",
    "Can I get a map of the building",
    "Where did I leave my car",
    "Is there a place where my children can play",
    "Which bus goes to the main station",
    "Do you know when the next train leaves",
    "How can I open an account",
    "What do I need to open an account",
    "My card does not work",
    "I have lost my bank card",
    "How much is a transfer to another country",
    "Can I speak to an adviser",
    "What is the interest rate today",
    "Where can I put money into my account",
    "I want to change my address",
    "How long does a transfer take",
    "Which counter is for foreign money",
    "Do I need an appointment",
    "Can you help me with this form",
    "When is my appointment with the doctor",
    "Where do I find room two hundred and twelve",
    "I have a question about my bill",
    "Is it possible to stay one more night",
    "Can I have breakfast in my room",
    "What is there to see in this town",
    "Could you call a taxi for me please",
    "Do you sell umbrellas",
    "Which restaurant has vegetarian food",
    "My room is too cold",
    "The lamp in my room is broken",
    "How old is this building",
    "Is there a lift to the second floor",
)

Samples = npt.NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class Clip:
    """A question as a microphone hears it."""

    text: str
    """With a bar where the pause is."""
    frames: tuple[bytes, ...]
    spoken_ms: int
    """Where its last sound ends."""
    pause_ms: int = 0


async def clips(tts: Tts, speeds: tuple[float, ...], chance: Random) -> AsyncIterator[tuple[Clip, Clip]]:
    """Every question at every speed, with a pause and without."""
    for text in QUESTIONS:
        spoken = await said(tts, text + "?")
        for speed in speeds:
            sound, pause_ms = samples(spoken, speed), chance.randint(*PAUSE_MS)
            at, characters = chance.choice(seams(spoken))
            seam = round(at * RATE_HZ / spoken.rate_hz / speed)
            yield (
                in_hall(f"{text[:characters].strip()} | {text[characters:].strip()}", with_pause(sound, seam, pause_ms), pause_ms, chance),
                in_hall(text, sound, 0, chance),
            )


async def said(tts: Tts, text: str) -> Speech:
    """The whole sound of a text, with the marks of all its pieces."""
    call = tts.open()
    await call.send(text)
    await call.finish()
    pieces = [piece async for piece in call]
    marks: list[tuple[int, int]] = []
    samples = characters = 0
    for piece in pieces:
        marks += [(samples + at, characters + until) for at, until in piece.marks]
        samples += len(piece.pcm) // 2
        characters += len(piece.text)
    return Speech(b"".join(piece.pcm for piece in pieces), pieces[0].rate_hz, text, tuple(marks))


def seams(speech: Speech) -> list[tuple[int, int]]:
    """(sample, character) where one word ends and the next begins, in the middle of the words."""
    low, high = (part * len(speech.marks) for part in MIDDLE)
    return [mark for number, mark in enumerate(speech.marks[:-1], 1) if low <= number <= high] or [speech.marks[0]]


def samples(speech: Speech, speed: float = 1.0) -> Samples:
    """A voice played so much faster, at RATE_HZ."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "question.wav"
        wav.write(path, [Speech(speech.pcm, round(speech.rate_hz * speed), speech.text)])
        return np.frombuffer(b"".join(wav.read(path)), "<i2")


def with_pause(sound: Samples, seam: int, pause_ms: int) -> Samples:
    """The sound with a pause at a seam."""
    near = np.abs(sound[max(0, seam - SEEK) : seam + SEEK].astype(np.float32))
    level = np.convolve(near, np.ones(FADE) / FADE, mode="same")
    at = max(0, seam - SEEK) + int(level.argmin())
    fade = np.linspace(1, 0, FADE)
    before, after = sound[:at].astype(np.float64), sound[at:].astype(np.float64)
    before[-FADE:] *= fade[-len(before[-FADE:]) :]
    after[:FADE] *= 1 - fade[: len(after[:FADE])]
    return np.concatenate([before, np.zeros(pause_ms * RATE_HZ // 1000), after]).astype(np.int16)


def in_hall(text: str, sound: Samples, pause_ms: int, chance: Random) -> Clip:
    """The sound between the hall's noise, and with it."""
    loud = np.flatnonzero(np.abs(sound.astype(np.int32)) >= LOUD)
    sound = sound[loud[0] : loud[-1] + 1]
    before, after = (ms * RATE_HZ // 1000 for ms in AROUND_MS)
    count = before + len(sound) + after
    noise = np.frombuffer(chance.randbytes(2 * count), "<i2") / np.float32(32768) * np.float32(HALL * 3**0.5)
    noise[before : before + len(sound)] += sound
    pcm = np.clip(noise, -32768, 32767).astype("<i2").tobytes()
    frames = tuple(pcm[at : at + FRAME_BYTES] for at in range(0, len(pcm) - FRAME_BYTES + 1, FRAME_BYTES))
    return Clip(text, frames, (before + len(sound)) * 1000 // RATE_HZ, pause_ms)
