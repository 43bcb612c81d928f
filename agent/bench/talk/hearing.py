"""Counts what echo and babble cost the recogniser, not in real time: the same speech clean, with others talking, with the robot talking.

The speech: human recordings with their words, and questions in a synthetic guest's voice, each clip at SPEECH_DB. They are laid one
after the other into one long hall, LEAD_S into it, GAP_S apart, and the hall is heard in each of these ways:

    clean             the speech alone, straight to detector and recogniser
    cleaned           the speech alone, through the canceller as the robot has it: what cleaning costs where there is nothing to clean
    babble_uncleaned  with six guests who talk at once, SNR_DB softer, straight to the detector
    babble            the same, through the canceller
    echo              with the robot's own voice, which tells stories and gives way to each guest as late as it may: lowered after
                      DUCKED_MS, silent after SILENT_MS; it comes back ECHO_DB softer than it is played and ECHO_DELAY_MS later,
                      through a room, and the canceller has what was played
    echo_and_babble   both
    …_throughout      the same with a robot that does not give way and talks over all that is said: no live robot does
"""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from agent.audio import wav
from agent.audio.echo.canceller import PIECE_BYTES, PIECE_SAMPLES, Echo
from agent.audio.endpoint import Listener
from agent.bench.speech import errors, normal
from agent.bench.talk.barge_in import REACH_MS
from agent.bench.talk.questions import chosen, said, spoken
from agent.clock import seeded
from agent.engines.asr_moonshine import AsrMoonshine
from agent.engines.vad_silero import VadSilero
from agent.ports import EngineSettings
from agent.profile import Hearing, Profile, Sound
from agent.sim.guests import GuestVoice
from agent.sim.sound.detect import Samples, floats, pcm, speech_level_db
from agent.sim.sound.hall import SPEECH_DB
from agent.sim.sound.room import Ring, at_level, babble, response
from agent.values import FRAME_SAMPLES, RATE_HZ, AudioChunk
from agent.weights import catalog, verify

SNR_DB, ECHO_DB, ECHO_DELAY_MS = 10.0, -10.0, 100

LEAD_S, GAP_S, AROUND_S = 6.0, 2.0, 0.5
"""A canceller has heard the robot before a guest speaks; around each clip so much of the hall is listened to."""

DUCKED_MS, SILENT_MS = REACH_MS["ducked"], REACH_MS["silent"]

GUEST_QUESTIONS = 20

CROWD_TEXTS, CROWD_SPEEDS = 8, (0.86, 0.93, 1.0, 1.07, 1.15)
"""What the others say, and in which voices: sayings of the corpus that no guest of the measurement asks."""

POINTS_MAX = 8.0

JUDGED = ("echo_and_babble", "echo_and_babble_throughout")
"""What is to reach it: by a robot that gives way; and by one that does not, told beside it."""


class Way(NamedTuple):
    """What is in the hall besides the guest, and whether the canceller is at work."""

    babble: bool
    robot: Literal["silent", "gives way", "talks on"]
    cleaned: bool = True


WAYS = {
    "clean": Way(babble=False, robot="silent", cleaned=False),
    "cleaned": Way(babble=False, robot="silent"),
    "babble_uncleaned": Way(babble=True, robot="silent", cleaned=False),
    "babble": Way(babble=True, robot="silent"),
    "echo": Way(babble=False, robot="gives way"),
    "echo_and_babble": Way(babble=True, robot="gives way"),
    "echo_throughout": Way(babble=False, robot="talks on"),
    "echo_and_babble_throughout": Way(babble=True, robot="talks on"),
}


@dataclass(frozen=True, slots=True)
class Clip:
    """Something said, and the words of it."""

    kind: str
    text: str
    sound: Samples


@dataclass(frozen=True, slots=True)
class Heard:
    """One way to hear the hall: what detector and recogniser get, and per piece whether it may be a guest."""

    sound: Samples
    guest: list[bool]


class Ears:
    """Detector, listener and recogniser, called directly."""

    def __init__(self, models: Path, hearing: Hearing) -> None:
        self._vad, self._asr = VadSilero(_settings("silero-vad", models)), AsrMoonshine(_settings("moonshine-tiny-en", models))
        self._hearing = hearing

    def words(self, heard: Heard, begin: int, end: int) -> str:
        """What is understood of a part of the hall."""
        frames = [(pcm(heard.sound[at : at + FRAME_SAMPLES]), at) for at in range(begin, end - FRAME_SAMPLES, FRAME_SAMPLES)]
        listener = Listener(self._hearing)
        chunks: list[AudioChunk] = []
        steps = self._vad.run(AudioChunk(frame) for frame, _ in frames)
        for (frame, at), (probability, _) in zip(frames, steps, strict=True):
            guest = any(heard.guest[at // PIECE_SAMPLES : -(-(at + FRAME_SAMPLES) // PIECE_SAMPLES)])
            chunks += listener.step(frame, probability or 0.0 if guest else 0.0)
        return " ".join(out.text for out, _ in self._asr.run(iter(chunks)) if out is not None and out.final) if chunks else ""


def measure(models: Path, corpus: Path, profile: Profile, robot: Samples, seed: int) -> dict[str, Any]:
    """Word errors of each way to hear; `robot` is what the robot says, at RATE_HZ, repeated as long as it takes."""
    clips, ears = [*human(models, corpus), *guests(corpus, seed)], Ears(models, profile.hearing)
    sound = profile.sound or Sound()
    hall, places = laid(clips)
    crowd = np.resize(babble(_crowd(corpus, seed), SPEECH_DB - SNR_DB, seed), len(hall))
    talking = np.resize(robot, len(hall))
    voices = {
        "silent": np.zeros(len(hall), np.float32),
        "gives way": talking * giving_way(places, len(hall), sound.duck_db),
        "talks on": talking,
    }
    told: dict[str, Any] = {}
    for name, way in WAYS.items():
        mixed = hall + echo_of(voices[way.robot], seed) + (crowd if way.babble else 0)
        heard = through(Echo(sound), mixed, voices[way.robot]) if way.cleaned else Heard(mixed, [True] * len(mixed))
        told[name] = _told(clips, [ears.words(heard, begin, end) for begin, end in places])
    for figures in told.values():
        figures["points"] = round(100 * (figures["wer"] - told["clean"]["wer"]), 1)
    for name in JUDGED:
        told[name] |= {"reach_points": POINTS_MAX, "reached": told[name]["points"] <= POINTS_MAX}
    return told | {"mixed": _mixed(clips, hall, robot)}


def _mixed(clips: Sequence[Clip], hall: Samples, robot: Samples) -> dict[str, Any]:
    return {
        "clips": len(clips),
        "words": sum(len(normal(clip.text).split()) for clip in clips),
        "seconds": round(len(hall) / RATE_HZ),
        "speech_db": SPEECH_DB,
        "babble_snr_db": SNR_DB,
        "robot_db": round(speech_level_db(robot, RATE_HZ), 1),
        "echo_db": ECHO_DB,
        "echo_delay_ms": ECHO_DELAY_MS,
        "gives_way_ms": [DUCKED_MS, SILENT_MS],
    }


def _told(clips: Sequence[Clip], heard: list[str]) -> dict[str, Any]:
    figures: dict[str, Any] = {"wer": round(errors([clip.text for clip in clips], heard), 4)}
    for kind in sorted({clip.kind for clip in clips}):
        pairs = [(clip.text, words) for clip, words in zip(clips, heard, strict=True) if clip.kind == kind]
        figures[f"wer_{kind}"] = round(errors([text for text, _ in pairs], [words for _, words in pairs]), 4)
    return figures | {"unheard": sum(not words for words in heard), "heard": heard}


def human(models: Path, corpus: Path) -> list[Clip]:
    """The recordings whose words are known."""
    recordings = verify.paths(catalog.read().find("recordings"), models)
    clips = [clip for group in tomllib.loads((corpus / "speech.toml").read_text(encoding="utf-8"))["set"] for clip in group["clip"]]
    return [Clip("human", clip["text"], _level(b"".join(wav.read(_path(clip["wav"], corpus, recordings))))) for clip in clips]


def _path(name: str, corpus: Path, recordings: dict[str, Path]) -> Path:
    return recordings[name.removeprefix("recordings:")] if name.startswith("recordings:") else corpus / name


def guests(corpus: Path, seed: int) -> list[Clip]:
    """Questions in a guest's voice."""
    return [Clip("guest", one.text, _level(one.pcm)) for one in spoken(chosen(GUEST_QUESTIONS, corpus, seed), seed)]


def _level(sound: bytes) -> Samples:
    return at_level(floats(sound), SPEECH_DB)


def _crowd(corpus: Path, seed: int) -> list[Samples]:
    """Pieces of talk for the babble."""
    voice, chance = GuestVoice(), seeded(seed)
    texts = tomllib.loads((corpus / "utterances.toml").read_text(encoding="utf-8"))["en"]["fishing"][:CROWD_TEXTS]
    return [floats(said(voice, text, chance.choice(CROWD_SPEEDS))) for text in texts]


def laid(clips: Sequence[Clip]) -> tuple[Samples, list[tuple[int, int]]]:
    """One hall with all clips in it, and where to listen for each."""
    gap, around = np.zeros(int(GAP_S * RATE_HZ), np.float32), int(AROUND_S * RATE_HZ)
    hall = [np.zeros(int(LEAD_S * RATE_HZ), np.float32)]
    places, at = [], len(hall[0])
    for clip in clips:
        places.append((at - around, at + len(clip.sound) + around))
        hall += [clip.sound, gap]
        at += len(clip.sound) + len(gap)
    whole = np.concatenate(hall)
    return whole[: len(whole) // PIECE_SAMPLES * PIECE_SAMPLES], places


def giving_way(places: Sequence[tuple[int, int]], length: int, duck_db: float) -> Samples:
    """The gain of a robot that stops for each guest as late as it may, and speaks again AROUND_S after him."""
    gain = np.ones(length, np.float32)
    for begin, end in places:
        onset = begin + int(AROUND_S * RATE_HZ)
        ducked, silent = (onset + ms * RATE_HZ // 1000 for ms in (DUCKED_MS, SILENT_MS))
        gain[ducked:silent] = 10 ** (-duck_db / 20)
        gain[silent:end] = 0
    return gain


def echo_of(played: Samples, seed: int) -> Samples:
    """What comes back of it."""
    ring, delay = Ring(response(ECHO_DB, seed)), ECHO_DELAY_MS * RATE_HZ // 1000
    before = np.zeros(ring.before + delay, np.float32)
    return ring.of(np.concatenate([before, played[: len(played) - delay]]))


def through(echo: Echo, microphone: Samples, played: Samples) -> Heard:
    """What the canceller makes of a microphone, piece by piece, each after what was played meanwhile."""
    inputs, references = pcm(microphone), pcm(played)
    cleaned: list[bytes] = []
    guest: list[bool] = []
    for at in range(0, len(inputs), PIECE_BYTES):
        echo.played(references[at : at + PIECE_BYTES])
        cleaned.append(echo.clean(inputs[at : at + PIECE_BYTES]))
        guest.append(echo.guest)
    return Heard(floats(b"".join(cleaned)), guest)


def _settings(name: str, models: Path) -> EngineSettings:
    model = catalog.read().find(name)
    return EngineSettings(model.engine, name, verify.paths(model, models))
