"""A VITS voice cut in three, on ONNX Runtime: phonemes are encoded once, then any frames can be made into sound.

Files: `encoder.onnx` (phonemes to durations and what the others read), `flow.onnx` (prior to latents), `decoder.onnx` (latents to
sound), `split.json` (samples of a frame, the name of the durations). Tensors of frames are read in windows, those of length 1 (a
speaker's embedding) as they are.
"""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy.typing as npt
import onnxruntime

from agent.engines.windows import Ahead, Frames, window
from agent.engines.worker import session_options

FLOW_OVERLAP, DECODER_OVERLAP = 24, 12
"""Frames a window must see beyond its own on either side: the sound then differs from the unbroken one by less than -115 dB."""

Tensors = dict[str, Frames]


class Vits:
    """The three parts. `run` has the face of the uncut voice's session."""

    def __init__(self, files: Mapping[str, Path], threads: int, *, arena: bool) -> None:
        """`arena`: the runtime keeps all memory it ever used. Pieces need none: it saves a fifth of the time, which is not waited for,
        and costs 35 MB. Whole sentences do: it saves a third of theirs."""
        told = json.loads(files["split.json"].read_text())
        self.hop = int(told["hop"])
        self.durations = str(told["durations"])
        options = session_options(threads)
        options.enable_cpu_mem_arena = arena
        parts = [onnxruntime.InferenceSession(str(files[f"{part}.onnx"]), options) for part in ("encoder", "flow", "decoder")]
        self._encoder, self.flow, self.decoder = parts

    def encode(self, feeds: Mapping[str, npt.NDArray[Any]]) -> "Utterance":
        names = [output.name for output in self._encoder.get_outputs()]
        return Utterance(self, dict(zip(names, self._encoder.run(None, dict(feeds)), strict=True)))

    def run(self, _outputs: None, feeds: Mapping[str, npt.NDArray[Any]]) -> list[Frames]:
        return [self.encode(feeds).whole()]


class Utterance:
    """An encoded sentence. Frames are made into sound in order."""

    def __init__(self, voice: Vits, encoded: Tensors) -> None:
        self.durations = encoded[voice.durations].reshape(-1)
        """Frames of each phoneme id."""
        self.frames = int(self.durations.sum())
        self._voice, self._encoded = voice, encoded
        run = partial(_run, voice.flow, encoded)  # no method: the cycle would keep a sentence's tensors until Python looks for cycles
        self._latents = Ahead(run, self.frames, FLOW_OVERLAP)

    def sound(self, first: int, last: int) -> Frames:
        """The samples of frames [first, last), float32 in [-1, 1]."""
        latents = self._latents.until(last + DECODER_OVERLAP)
        return window(lambda since, until: self._decode(latents, since, until), first, last, self.frames, DECODER_OVERLAP)

    def whole(self) -> Frames:
        """All samples in one run of each part, which nothing bounds."""
        return self._decode(_run(self._voice.flow, self._encoded, 0, self.frames), 0, self.frames)

    def _decode(self, latents: Frames, since: int, until: int) -> Frames:
        named = {self._voice.flow.get_outputs()[0].name: latents}
        return _run(self._voice.decoder, self._encoded | named, since, until).reshape(-1)


def _run(part: Any, tensors: Tensors, since: int, until: int) -> Frames:
    read = {value.name: tensors[value.name] for value in part.get_inputs()}
    cut = {name: tensor[..., since:until] if tensor.shape[-1] > 1 else tensor for name, tensor in read.items()}
    made: Frames = part.run(None, cut)[0]
    return made
