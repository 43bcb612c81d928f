"""Cuts a Piper voice in three where it may speak before it has thought to the end: encoder, flow and decoder.

A VITS graph turns phonemes into durations and, spread over frames by them, a noisy prior; the flow turns the prior into latents,
the decoder latents into sound. Flow and decoder are convolutions: they can work on windows. The cuts are found by what the nodes
do, as every export names its tensors differently:

    phonemes -> ... Ceil: durations -> ... RandomNormalLike -> Mul -> Mul -> Add: prior
    prior -> ... latents
    latents -> Conv -> ... ConvTranspose -> ... sound
"""

import json
import math
import shutil
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

PARTS = ("encoder.onnx", "flow.onnx", "decoder.onnx")


class NoCut(Exception):
    """The graph is not built as this module knows voices to be."""


def piper_split(source: Path, folder: Path) -> list[Path]:
    """Writes the three parts and `split.json` into `folder`; returns their paths.

    A voice that can't be cut stays whole, as the encoder, and the other parts are empty files: it speaks by whole sentences.
    """
    paths = [folder / name for name in (*PARTS, "split.json")]
    try:
        parts, told = cut(onnx.load(source))
    except NoCut as reason:
        shutil.copyfile(source, paths[0])
        for path in paths[1:3]:
            path.write_bytes(b"")
        told = {"cut": False, "reason": str(reason)}
    else:
        for part, path in zip(parts, paths[:3], strict=True):
            onnx.save(part, path)
    paths[3].write_text(json.dumps(told, sort_keys=True, indent=1) + "\n")
    return paths


def cut(model: Any) -> tuple[list[Any], dict[str, Any]]:
    """The three models, and what an engine must know of them. Raises NoCut."""
    graph = _Graph(model)
    durations, prior, latents = graph.landmarks()
    sound = model.graph.output[0].name
    flow = graph.below([prior]) & graph.above(latents)
    decoder = graph.below([latents]) & graph.above(sound)
    into_flow, into_decoder = graph.entering(flow), graph.entering(decoder)
    if prior not in into_flow or latents not in into_decoder:
        raise NoCut("flow and decoder do not follow one another")
    entering = dict.fromkeys([durations, *into_flow, *(name for name in into_decoder if name != latents)])
    parts = [
        graph.part([value.name for value in model.graph.input], list(entering)),
        graph.part(into_flow, [latents]),
        graph.part(into_decoder, [sound]),
    ]
    return parts, {"cut": True, "durations": durations, "hop": graph.hop(decoder)}


class _Graph:
    """A graph seen by what feeds what; nodes are told by their place in the list."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.nodes = list(model.graph.node)
        self._weights = {weight.name: weight for weight in model.graph.initializer}
        self._maker = {name: at for at, node in enumerate(self.nodes) for name in node.output}
        self._readers: dict[str, list[int]] = defaultdict(list)
        for at, node in enumerate(self.nodes):
            for name in node.input:
                self._readers[name].append(at)

    def above(self, name: str) -> set[int]:
        """The nodes that have a part in a tensor."""
        seen: set[int] = set()
        wanted = [name]
        while wanted:
            at = self._maker.get(wanted.pop())
            if at is not None and at not in seen:
                seen.add(at)
                wanted += self.nodes[at].input
        return seen

    def below(self, names: Iterable[str]) -> set[int]:
        """The nodes that a tensor has a part in."""
        seen: set[int] = set()
        wanted = list(names)
        while wanted:
            for at in self._readers[wanted.pop()]:
                if at not in seen:
                    seen.add(at)
                    wanted += self.nodes[at].output
        return seen

    def landmarks(self) -> tuple[str, str, str]:
        """Durations, prior and latents."""
        latents = self._latents()
        above = self.above(latents)
        durations = self._only([at for at in above if self.nodes[at].op_type == "Ceil"], "rounding of durations")
        timing = self.above(durations)
        noise = [at for at in above - timing if self.nodes[at].op_type == "RandomNormalLike"]
        prior = self._only(noise, "source of noise")
        while self.nodes[self._maker[prior]].op_type != "Add":
            readers = self._readers[prior]
            if len(readers) != 1 or self.nodes[readers[0]].op_type not in ("Mul", "Add"):
                raise NoCut("the noise is not scaled and added to a prior")
            prior = self.nodes[readers[0]].output[0]
        return durations, prior, latents

    def _latents(self) -> str:
        """What the first convolution of the decoder reads: the widest of those that nothing but activations parts from upsampling."""
        upsampling = [at for at in sorted(self.above(self._model.graph.output[0].name)) if self.nodes[at].op_type == "ConvTranspose"]
        if not upsampling:
            raise NoCut("no upsampling")
        first, wanted = [], [self.nodes[upsampling[0]].input[0]]
        while wanted:
            at = self._maker.get(wanted.pop())
            if at is None:
                continue
            if self.nodes[at].op_type == "Conv":
                first.append(at)
            else:
                wanted += self.nodes[at].input
        if not first:
            raise NoCut("no convolution before upsampling")
        return str(self.nodes[max(first, key=self._width)].input[0])

    def _width(self, at: int) -> int:
        """A speaker's embedding is added through a convolution of width 1."""
        weight = self._weights.get(self.nodes[at].input[1])
        return int(weight.dims[-1]) if weight is not None else 0

    def _only(self, found: list[int], what: str) -> str:
        if len(found) != 1:
            raise NoCut(f"{len(found)} times a {what} instead of once")
        return str(self.nodes[found[0]].output[0])

    def entering(self, part: set[int]) -> list[str]:
        """The tensors a part reads that others make from the graph's inputs; constants it takes with it."""
        varying = self.below(value.name for value in self._model.graph.input)
        made = {name for at in part for name in self.nodes[at].output}
        read = dict.fromkeys(name for at in sorted(part) for name in self.nodes[at].input if name not in made)
        inputs = {value.name for value in self._model.graph.input}
        return [name for name in read if name in inputs or self._maker.get(name) in varying]

    def part(self, inputs: list[str], outputs: list[str]) -> Any:
        """A model of the nodes that lead from inputs to outputs."""
        needed: set[int] = set()
        wanted = list(outputs)
        while wanted:
            name = wanted.pop()
            at = self._maker.get(name)
            if name not in inputs and at is not None and at not in needed:
                needed.add(at)
                wanted += self.nodes[at].input
        nodes = [self.nodes[at] for at in sorted(needed)]
        weights = [self._weights[name] for name in dict.fromkeys(name for node in nodes for name in node.input) if name in self._weights]
        body = helper.make_graph(nodes, "voice", [self._value(name) for name in inputs], [self._value(name) for name in outputs], weights)
        return helper.make_model(body, opset_imports=self._model.opset_import, ir_version=self._model.ir_version)

    def _value(self, name: str) -> Any:
        graph = self._model.graph
        for value in (*graph.input, *graph.output):
            if value.name == name:
                return value
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, None)

    def hop(self, decoder: set[int]) -> int:
        """Samples of a frame: what upsampling multiplies a length by."""
        strides = [
            attribute.ints[0]
            for at in decoder
            if self.nodes[at].op_type == "ConvTranspose"
            for attribute in self.nodes[at].attribute
            if attribute.name == "strides"
        ]
        return math.prod(strides)
