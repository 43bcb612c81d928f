"""Moonshine, a speech recogniser for English: encoder and greedy decoder on ONNX Runtime.

The model reads a whole segment at once, and its memory grows with the longest one; so the utterance is cut at pauses while it
arrives, and each segment is recognised while the next is being spoken.
"""

import re
from collections.abc import Generator, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime

from agent.engines.worker import Step, session_options
from agent.ports import EngineSettings
from agent.values import FRAME_MS, RATE_HZ, AudioChunk, StageUsage, Transcript

SEGMENT_MS_MIN = 9_000
"""A pause cuts only after this much speech: a short rest is heard less well ("Fell better" for "Fail better")."""

SEGMENT_MS_MAX = 15_000
"""No segment is longer: 854 MB were seen after 44 s in one piece."""

SAMPLES_MIN = RATE_HZ // 2
"""Shorter sound is filled up with silence; the encoder's convolutions need some length."""

TOKENS_PER_SECOND_MAX = 6.5
"""The model's authors stop here; faster output is a loop, not speech."""

START, END = 1, 2
"""Token ids; what comes before 3 is never text."""

LAYERS, HEADS, HEAD = 6, 8, 36

BYTE_TOKEN = re.compile(rb"^<0x([0-9A-F]{2})>$")

Samples = npt.NDArray[np.float32]


class AsrMoonshine:
    """Worker of the stage `asr`. Output tokens are those of the transcript, by the model's own vocabulary."""

    def __init__(self, settings: EngineSettings) -> None:
        options = session_options(settings.threads)
        self._encoder = onnxruntime.InferenceSession(str(settings.files["encoder_model.ort"]), options)
        self._decoder = onnxruntime.InferenceSession(str(settings.files["decoder_model_merged.ort"]), options)
        self._vocabulary = read_vocabulary(settings.files["tokenizer.bin"])
        self._past = [node.name for node in self._decoder.get_inputs() if node.name.startswith("past_key_values")]
        self._present = [node.name.replace("present", "past_key_values") for node in self._decoder.get_outputs()[1:]]
        next(self._recognise(np.zeros(RATE_HZ, np.float32)), None)  # the first run allocates; no customer should wait for it

    def run(self, inputs: Iterator[AudioChunk]) -> Generator[Step[Transcript]]:
        heard_ms = tokens = 0
        yield None, StageUsage(output_tokens=0, audio_in_ms=0)
        for segment in segments(inputs):
            heard_ms += len(segment) * 1000 // RATE_HZ
            yield None, StageUsage(output_tokens=tokens, audio_in_ms=heard_ms)
            ids: list[int] = []
            for token in self._recognise(segment):
                ids.append(token)
                yield None, StageUsage(output_tokens=tokens + len(ids), audio_in_ms=heard_ms)
            tokens += len(ids)
            yield Transcript(self._text(ids)), StageUsage(output_tokens=tokens, audio_in_ms=heard_ms)

    def _recognise(self, samples: Samples) -> Iterator[int]:
        """Greedy token ids of one segment, as they are chosen."""
        sound = np.pad(samples, (0, max(0, SAMPLES_MIN - len(samples))))[None]
        mask = np.ones(sound.shape, np.int64)
        hidden = self._encoder.run(None, {"input_values": sound, "attention_mask": mask})[0]
        feed = {"encoder_attention_mask": mask, "encoder_hidden_states": hidden}  # the decoder's mask, too, is as long as the sound
        past = {name: np.zeros((1, HEADS, 0, HEAD), np.float32) for name in self._past}
        token, most = START, int(sound.shape[1] / RATE_HZ * TOKENS_PER_SECOND_MAX) + 8
        for step in range(most):
            now = {"input_ids": np.array([[token]], np.int64), "use_cache_branch": np.array([step > 0])}
            logits, *present = self._decoder.run(None, feed | now | past)
            token = int(logits[0, -1].argmax())
            if token == END:
                return
            yield token
            kept = zip(self._present, present, strict=True)
            past |= {name: value for name, value in kept if step == 0 or ".decoder." in name}  # the encoder's part never changes

    def _text(self, ids: list[int]) -> str:
        text = b"".join(self._vocabulary[token] for token in ids if token > END)
        return text.decode("utf-8", "replace").replace("▁", " ").strip()


def segments(chunks: Iterator[AudioChunk]) -> Iterator[Samples]:
    """Cuts an utterance at pauses into pieces of SEGMENT_MS_MIN to SEGMENT_MS_MAX; the last may be shorter."""
    held: list[bytes] = []
    cut = 0  # chunks up to the last pause seen; where to cut when the limit comes first
    for chunk in chunks:
        held.append(chunk.pcm)
        if chunk.pause:
            cut = len(held)
        full = len(held) * FRAME_MS >= SEGMENT_MS_MAX
        if full or (chunk.pause and len(held) * FRAME_MS >= SEGMENT_MS_MIN):
            at = cut or len(held)
            yield _samples(held[:at])
            del held[:at]
            cut = 0
    if held:
        yield _samples(held)


def _samples(pieces: list[bytes]) -> Samples:
    return np.frombuffer(b"".join(pieces), "<i2").astype(np.float32) / np.float32(32768)


def read_vocabulary(path: Path) -> list[bytes]:
    """Tokens by id: each is prefixed by its length, in two bytes where the first is 128 or more."""
    raw, tokens, at = path.read_bytes(), [], 0
    while at < len(raw):
        length = raw[at]
        at += 1
        if length >= 128:
            length = length - 128 + raw[at] * 128
            at += 1
        token = raw[at : at + length]
        byte = BYTE_TOKEN.match(token)
        tokens.append(bytes([int(byte[1], 16)]) if byte else token)
        at += length
    return tokens
