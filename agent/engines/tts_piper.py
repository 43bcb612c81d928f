"""Piper, the robot's voice. GPL-3.0: this file is the only one that imports it, and it runs in a process of its own.

A sentence is understood whole, then made into sound piece by piece, each heard while the next is being made. What can't be spoken
so, for whatever reason, is spoken as Piper does it, by whole sentences.
"""

import functools
import json
import logging
import unicodedata
from collections.abc import Generator, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from piper import PiperVoice, SynthesisConfig, espeakbridge
from piper.config import PiperConfig
from piper.const import BOS, EOS, PAD

from agent.engines import windows
from agent.engines.alignment import align, timed, told
from agent.engines.vits import Vits
from agent.engines.worker import Step, session_options
from agent.errors import EngineFailed
from agent.ports import EngineSettings
from agent.values import Speech, StageUsage

PIECE_CHARACTERS_MAX = 240
"""Text synthesised in one run: bounds memory and the wait for a cancel; longer text is cut at a space."""

UNSPEAKABLE = ("C", "So", "Sk")
"""Unicode categories left out: controls, bidirectional marks and surrogates, emoji, modifiers."""

LOUDNESS = 0.1
"""Root mean square of speech, -20 dB. A voice's own level is measured once, at the start: Piper's way, every sentence's peak to 1,
must know the whole sentence, and makes short ones louder than long ones."""

GAIN_MAX = 4.0

KNEE = 0.8
"""Samples beyond it are bent towards 1, so that a loud one is not clipped."""

LEAD_SECONDS_MAX, LEAD_SECONDS_KEPT = 0.15, 0.02
"""Silence before the first word of an answer is left out but for a little: nobody hears more in it than waiting."""

QUIET = 330
"""A hundredth of full scale; breath and the voice's hum stay below."""

MEASURED = "Breakfast is at seven."
"""Spoken at the start, unheard."""

SEED = 1
"""Of the voice's noise: a start measures the same level each time, and the same texts then sound the same."""

SEAM_MAX = 1e-6
"""Energy by which pieces may differ from the whole, -60 dB; more could be heard."""

PACE_MIN, PACE_MAX = 0.5, 2.0

Sound = npt.NDArray[np.float32]

LOG = logging.getLogger(__name__)


class TtsPiper:
    """Worker of the stage `tts`: text in, pieces of sound out; their texts together are the text.

    Options: `length_scale` (1 is the voice's own pace, 2 half as fast), `speaker` (a number, of voices that have several), `whole`
    (true: every piece of text in one sound).
    """

    def __init__(self, settings: EngineSettings) -> None:
        onnxruntime.set_seed(SEED)
        keep_language()
        config = PiperConfig.from_dict(json.loads(settings.files["voice.onnx.json"].read_text()))
        self._rate_hz = int(config.sample_rate)
        self._chosen = chosen(settings.options, config)
        self._vits = load(settings)
        session = self._vits or onnxruntime.InferenceSession(str(settings.files["encoder.onnx"]), session_options(settings.threads))
        self._voice = PiperVoice(session=session, config=config)
        self._gain = 1.0
        self._streams = self._vits is not None and not settings.options.get("whole", False)
        self._warm_up()

    def run(self, inputs: Iterator[str]) -> Generator[Step[Speech]]:
        characters = samples = 0
        for text in inputs:
            for piece in pieces(text):
                for speech in self._spoken(piece):
                    given = speech if samples else without_lead(speech)
                    characters += len(given.text)
                    samples += len(given.pcm) // 2
                    usage = StageUsage(characters=characters, audio_out_ms=samples * 1000 // self._rate_hz)
                    yield given, usage

    def _spoken(self, piece: str) -> Iterator[Speech]:
        said = speakable(piece)
        given = 0
        try:
            if self._vits and self._streams and pronounced(said):
                for speech in self._streamed(self._vits, said):
                    yield replace(speech, text=piece[given : given + len(speech.text)])
                    given += len(speech.text)
        except Exception as error:  # noqa: BLE001  whatever a graph throws: the text is still to be said
            LOG.warning("%s: spoken whole: %s", type(error).__name__, error)
        if given < len(piece):
            yield Speech(self._whole(said[given:]), self._rate_hz, piece[given:])

    def _whole(self, text: str) -> bytes:
        if not pronounced(text):
            return b""
        return b"".join(pcm(chunk.audio_float_array, self._gain) for chunk in self._voice.synthesize(text, self._chosen))

    def _streamed(self, vits: Vits, text: str) -> Iterator[Speech]:
        sentences = [phonemes for phonemes in self._voice.phonemize(text) if phonemes]
        words = align(text, [phoneme for phonemes in sentences for phoneme in (*phonemes, " ")])
        given = offset = 0
        for left, phonemes in zip(range(len(sentences) - 1, -1, -1), sentences, strict=True):
            ids = self._voice.phonemes_to_ids(phonemes)
            utterance = vits.encode(self._feeds(ids))
            said = timed(words, offset, self._starts(phonemes, utterance.durations))
            offset += len(phonemes) + 1
            for first, last in windows.pieces(utterance.frames, [word.last for word in said]):
                until, marks = told(said, first, last, given, vits.hop)
                until = len(text) if not left and last == utterance.frames else until
                yield Speech(pcm(utterance.sound(first, last), self._gain), self._rate_hz, text[given:until], marks)
                given = until

    def _feeds(self, ids: list[int]) -> dict[str, Any]:
        """What the encoder reads, as Piper gives it to an uncut voice."""
        config, chosen = self._voice.config, self._chosen
        scales = (config.noise_scale, chosen.length_scale or config.length_scale, config.noise_w_scale)
        feeds = {"input": np.array([ids]), "input_lengths": np.array([len(ids)]), "scales": np.array(scales, np.float32)}
        speaker = config.default_speaker_id if chosen.speaker_id is None else chosen.speaker_id
        return feeds | {"sid": np.array([speaker])} if config.num_speakers > 1 else feeds

    def _starts(self, phonemes: list[str], durations: npt.NDArray[np.float32]) -> list[int]:
        """The frame at which each phoneme starts; evenly, where a voice counts its ids in a way of its own."""
        known = self._voice.config.phoneme_id_map
        ids = [len(known[phoneme]) + len(known[PAD]) if phoneme in known else 0 for phoneme in phonemes]
        before = len(known[BOS]) + len(known[PAD])
        frames = np.concatenate([[0], np.cumsum(durations)])
        if before + sum(ids) + len(known[EOS]) != len(durations):
            return [int(frames[-1]) * at // len(phonemes) for at in range(len(phonemes) + 1)]
        return [int(frames[at]) for at in before + np.concatenate([[0], np.cumsum(ids, dtype=int)])]

    def _warm_up(self) -> None:
        """The first runs allocate, and no customer should wait for them. Measures the level; distrusts a cut whose seams are heard."""
        if self._vits is None:
            sound = np.concatenate([chunk.audio_float_array for chunk in self._voice.synthesize(MEASURED, self._chosen)])
        else:
            utterance = self._vits.encode(self._feeds(self._voice.phonemes_to_ids(self._voice.phonemize(MEASURED)[0])))
            sound = utterance.whole()
            streamed = [utterance.sound(first, last) for first, last in windows.pieces(utterance.frames)]
            self._streams &= len(sound) == utterance.frames * self._vits.hop and same(sound, np.concatenate(streamed))
        self._gain = min(GAIN_MAX, LOUDNESS / max(1e-9, float(np.sqrt(np.mean(np.square(sound))))))


def keep_language() -> None:
    """Piper names espeak its language before every text, and each time espeak loses 1.4 KB; the same again is no longer passed on."""
    if not hasattr(espeakbridge.set_voice, "cache_info"):
        espeakbridge.set_voice = functools.lru_cache(maxsize=1)(espeakbridge.set_voice)


def load(settings: EngineSettings) -> Vits | None:
    """The voice in its parts; None where it could not be cut."""
    cut = json.loads(settings.files["split.json"].read_text())["cut"]
    return Vits(settings.files, settings.threads, arena=bool(settings.options.get("whole", False))) if cut else None


def chosen(options: Mapping[str, Any], config: PiperConfig) -> SynthesisConfig:
    """How to speak. Raises EngineFailed for what the voice can't do."""
    pace, speaker = options.get("length_scale"), options.get("speaker")
    if pace is not None and not (isinstance(pace, int | float) and PACE_MIN <= pace <= PACE_MAX):
        raise EngineFailed(f"length_scale is {pace!r}", f"give a number from {PACE_MIN} to {PACE_MAX}")
    if speaker is not None and not (isinstance(speaker, int) and 0 <= speaker < config.num_speakers):
        raise EngineFailed(f"speaker is {speaker!r}", f"this voice has {config.num_speakers}, counted from 0")
    return SynthesisConfig(speaker_id=speaker, length_scale=pace, normalize_audio=False)


def same(one: Sound, other: Sound) -> bool:
    return len(one) == len(other) and float(np.square(one - other).sum()) <= SEAM_MAX * float(np.square(one).sum())


def pcm(sound: Sound, gain: float) -> bytes:
    """At the voice's level, loud samples bent below 1."""
    size = np.abs(sound * gain)
    bent = np.where(size > KNEE, KNEE + (1 - KNEE) * np.tanh((size - KNEE) / (1 - KNEE)), size)
    samples: npt.NDArray[np.int16] = (np.sign(sound) * bent * 32767).astype("<i2")
    return samples.tobytes()


def without_lead(speech: Speech) -> Speech:
    """The sound without the silence at its beginning."""
    sound = np.frombuffer(speech.pcm, "<i2")
    heard = np.flatnonzero(np.abs(sound[: int(speech.rate_hz * LEAD_SECONDS_MAX)].astype(int)) > QUIET)
    cut = max(0, int(heard[0]) - int(speech.rate_hz * LEAD_SECONDS_KEPT)) if len(heard) else 0
    marks = tuple((samples - cut, characters) for samples, characters in speech.marks if samples > cut)
    return replace(speech, pcm=speech.pcm[2 * cut :], marks=marks)


def pronounced(text: str) -> bool:
    return any(character.isalnum() for character in text)


def speakable(text: str) -> str:
    """The text without what has no sound, as long as before, and without Piper's `[[phonemes]]` notation, which is not for customers."""
    kept = (" " if unicodedata.category(character).startswith(UNSPEAKABLE) else character for character in text)
    return "".join(kept).replace("[[", "[ ")


def pieces(text: str) -> Iterator[str]:
    """Cuts text into pieces of at most PIECE_CHARACTERS_MAX, at spaces where there are any; nothing is lost."""
    while len(text) > PIECE_CHARACTERS_MAX:
        space = text.rfind(" ", 1, PIECE_CHARACTERS_MAX)
        at = space + 1 if space > 0 else PIECE_CHARACTERS_MAX
        yield text[:at]
        text = text[at:]
    if text:
        yield text
