"""Moonshine, a speech recogniser for English: encoder and greedy decoder on ONNX Runtime.

The model reads a whole segment at once, and its memory grows with the longest one; so the utterance is cut at pauses while it
arrives, and each segment is recognised while the next is being spoken. What a segment sounded like before is the draft of what it
sounds like now, so that asking again costs little, and asking again about the same sound nothing.
"""

from collections.abc import Generator, Iterator
from dataclasses import dataclass

import numpy as np

from agent.engines.moonshine.network import Network, Samples
from agent.engines.moonshine.vocabulary import read_vocabulary, text_of
from agent.engines.worker import Step, session_options
from agent.ports import EngineSettings
from agent.values import FRAME_MS, RATE_HZ, AudioChunk, StageUsage, Transcript

SEGMENT_MS_MIN = 9_000
"""A pause cuts only after this much speech: a short rest is heard less well ("Fell better" for "Fail better")."""

SEGMENT_MS_MAX = 15_000
"""No segment is longer: 854 MB were seen after 44 s in one piece."""


class AsrMoonshine:
    """Worker of the stage `asr`. Output tokens are those made for final transcripts, by the model's own vocabulary; a partial
    transcript gives way to the next and its tokens are not counted."""

    def __init__(self, settings: EngineSettings) -> None:
        files = settings.files
        options = session_options(settings.threads)
        options.enable_cpu_mem_arena = False  # one grew with each longer utterance and kept 10 to 30 MB; it saves a fiftieth of the time
        self._network = Network(files["encoder_model.ort"], files["decoder_model_merged.ort"], options)
        self._vocabulary = read_vocabulary(files["tokenizer.bin"])

    def run(self, inputs: Iterator[AudioChunk]) -> Generator[Step[Transcript]]:
        yield None, StageUsage(output_tokens=0, audio_in_ms=0)
        tokens = heard_ms = covered = 0
        ids: list[int] = []  # of the segment under way, whose first `covered` samples they say
        for take in takes(inputs):
            heard_ms = max(heard_ms, take.until_ms)
            yield None, StageUsage(output_tokens=tokens, audio_in_ms=heard_ms)
            if len(take.samples) != covered:
                draft, ids, covered = ids, [], len(take.samples)
                for settled in self._network.tokens(take.samples, draft):
                    ids += settled
                    yield None, StageUsage(output_tokens=tokens + take.final * len(ids), audio_in_ms=heard_ms)
            tokens += take.final * len(ids)
            transcript = Transcript(text_of(ids, self._vocabulary), take.final, take.until_ms)
            yield transcript, StageUsage(output_tokens=tokens, audio_in_ms=heard_ms)
            if take.final:
                ids, covered = [], 0


@dataclass(frozen=True, slots=True)
class Take:
    """A segment, whole or as far as it has come."""

    samples: Samples
    """In [-1, 1], at RATE_HZ."""
    final: bool
    until_ms: int
    """Where it ends in the sound of the call."""


def takes(chunks: Iterator[AudioChunk]) -> Iterator[Take]:
    """Cuts an utterance at pauses into segments of SEGMENT_MS_MIN to SEGMENT_MS_MAX, the last may be shorter; and gives what there is
    of a segment after each chunk that wants a partial transcript, be it nothing."""
    held: list[bytes] = []
    cut = 0  # chunks up to the last pause seen; where to cut when the limit comes first
    gone = 0  # samples of segments that were cut off
    for chunk in chunks:
        held.append(chunk.pcm)
        if chunk.pause:
            cut = len(held)
        full = len(held) * FRAME_MS >= SEGMENT_MS_MAX
        if full or (chunk.pause and len(held) * FRAME_MS >= SEGMENT_MS_MIN):
            at = cut or len(held)
            yield (whole := _take(held[:at], gone, final=True))
            gone += len(whole.samples)
            del held[:at]
            cut = 0
        if chunk.partial:
            yield _take(held, gone, final=False)
    if held:
        yield _take(held, gone, final=True)


def _take(pieces: list[bytes], gone: int, *, final: bool) -> Take:
    samples = np.frombuffer(b"".join(pieces), "<i2").astype(np.float32) / np.float32(32768)
    return Take(samples, final, (gone + len(samples)) * 1000 // RATE_HZ)
