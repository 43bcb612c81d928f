"""Builds the ONNX graph of a Llama-shaped model from tensors, in ONNX Runtime's own operators and with int8 weights.

Operators and their attributes: ONNX Runtime's `docs/ContribOperators.md` (GroupQueryAttention, MatMulNBits,
GatherBlockQuantized, SkipSimplifiedLayerNormalization).

Inputs: `input_ids` int64 [1, s] · `keep` int64 [k], positions whose logits are wanted · `seqlens_k` int32 [1], tokens in the
cache after this run, less one · `total_len` int32 [], the same, not less one · `past_key_values.L.{key,value}` float32
[1, kv_heads, context, head]. Outputs: `logits` float32 [1, k, vocabulary] · `present.L.{key,value}`, which a caller may bind to
the very buffers it bound as past: the operator then appends in place and nothing is copied.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, helper, numpy_helper

Array = npt.NDArray[Any]

BLOCK = 32
"""Weights that share one scale; the block of Q4_1 and Q8_0, so that requantising crosses no border."""

MICROSOFT = "com.microsoft"

INT8_ACCURACY = 4
"""`accuracy_level` of MatMulNBits: activations in int8 as well; 20 times quicker than the default on a CPU with int8 dot products."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The dimensions of the model, as its GGUF header gives them."""

    layers: int
    width: int
    heads: int
    kv_heads: int
    epsilon: float
    rope_base: float
    context: int
    """Rows of the rotary tables: the longest prompt and reply together."""

    @property
    def head(self) -> int:
        return self.width // self.heads


@dataclass(frozen=True, slots=True)
class Quantized:
    """A matrix [rows, columns] as unsigned bytes around 128 and one float scale per block of a row."""

    values: npt.NDArray[np.uint8]
    """[rows, columns / BLOCK, BLOCK]"""
    scales: npt.NDArray[np.float32]
    """[rows, columns / BLOCK]"""


def quantize(matrix: npt.NDArray[np.float32]) -> Quantized:
    """Rounds each block of a row to int8 with a scale of its own."""
    rows, columns = matrix.shape
    blocks = matrix.reshape(rows, columns // BLOCK, BLOCK)
    scales = np.abs(blocks).max(-1) / 127
    scales[scales == 0] = 1e-8
    values = np.clip(np.rint(blocks / scales[..., None]) + 128, 0, 255).astype(np.uint8)
    return Quantized(values, scales.astype(np.float32))


@dataclass(slots=True)
class _Graph:
    shape: Shape
    norms: Mapping[str, Array]
    matrices: Mapping[str, Quantized]
    nodes: list[Any] = field(default_factory=list)
    weights: list[Any] = field(default_factory=list)

    def weight(self, name: str, array: Array) -> str:
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def node(self, operator: str, inputs: list[str], outputs: str | list[str], domain: str = "", **attributes: Any) -> str:
        names = [outputs] if isinstance(outputs, str) else outputs
        self.nodes.append(helper.make_node(operator, inputs, names, name=names[0], domain=domain, **attributes))
        return names[0]

    def linear(self, matrix: Quantized, x: str, out: str) -> str:
        rows, blocks = matrix.scales.shape
        inputs = [x, self.weight(f"{out}.q", matrix.values), self.weight(f"{out}.s", matrix.scales)]
        sizes = {"K": blocks * BLOCK, "N": rows, "bits": 8, "block_size": BLOCK, "accuracy_level": INT8_ACCURACY}
        return self.node("MatMulNBits", inputs, out, MICROSOFT, **sizes)


def build(shape: Shape, norms: Mapping[str, Array], matrices: Mapping[str, Quantized]) -> Any:
    """The ONNX model. `norms` and `matrices` are keyed `L.attention`, `L.qkv`, … `final`, `embedding`."""
    graph = _Graph(shape, norms, matrices)
    embedding = matrices["embedding"]
    vocabulary = embedding.scales.shape[0]
    table = graph.weight("embedding.q", embedding.values.reshape(vocabulary, shape.width))
    scales = graph.weight("embedding.s", embedding.scales)
    gather = {"block_size": BLOCK, "bits": 8, "gather_axis": 0, "quantize_axis": 1}
    residual = graph.node("GatherBlockQuantized", [table, "input_ids", scales], "embedded", MICROSOFT, **gather)
    _rotary(graph)
    first = [residual, graph.weight("0.attention.norm", norms["0.attention"])]
    x = graph.node("SimplifiedLayerNormalization", first, "0.x", axis=-1, epsilon=shape.epsilon, stash_type=1)
    for layer in range(shape.layers):
        x, residual = _layer(graph, layer, x, residual)
    kept = graph.node("Gather", [x, "keep"], "kept", axis=1)
    graph.linear(embedding, kept, "logits")
    return _model(graph, vocabulary)


def _rotary(graph: _Graph) -> None:
    shape = graph.shape
    inverse = 1 / (shape.rope_base ** (np.arange(0, shape.head, 2) / shape.head))
    angles = np.outer(np.arange(shape.context), inverse)
    graph.weight("cos", np.cos(angles).astype(np.float32))
    graph.weight("sin", np.sin(angles).astype(np.float32))


def _layer(graph: _Graph, layer: int, x: str, residual: str) -> tuple[str, str]:
    shape, norms, matrices, at = graph.shape, graph.norms, graph.matrices, f"{layer}."
    qkv = graph.linear(matrices[at + "qkv"], x, at + "qkv")
    past = [f"past_key_values.{layer}.key", f"past_key_values.{layer}.value"]
    present = [f"present.{layer}.key", f"present.{layer}.value"]
    attention = {"num_heads": shape.heads, "kv_num_heads": shape.kv_heads, "scale": shape.head**-0.5, "do_rotary": 1}
    inputs = [qkv, "", "", *past, "seqlens_k", "total_len", "cos", "sin"]
    seen = graph.node("GroupQueryAttention", inputs, [at + "seen", *present], MICROSOFT, **attention)
    out = graph.linear(matrices[at + "out"], seen, at + "out")
    x, residual = _add_norm(graph, out, residual, at + "feed", norm=norms[at + "feed"])
    gate = graph.linear(matrices[at + "gate"], x, at + "gate")
    up = graph.linear(matrices[at + "up"], x, at + "up")
    opened = graph.node("Mul", [gate, graph.node("Sigmoid", [gate], at + "sigmoid")], at + "silu")
    down = graph.linear(matrices[at + "down"], graph.node("Mul", [opened, up], at + "gated"), at + "down")
    last = layer == shape.layers - 1
    norm = norms["final"] if last else norms[f"{layer + 1}.attention"]
    return _add_norm(graph, down, residual, at + "next", norm=norm, last=last)


def _add_norm(graph: _Graph, x: str, residual: str, name: str, *, norm: Array, last: bool = False) -> tuple[str, str]:
    """Adds the residual and normalises in one operator; the sum goes on as the new residual unless nothing follows."""
    outputs = [f"{name}.x"] if last else [f"{name}.x", "", "", f"{name}.residual"]
    inputs = [x, residual, graph.weight(f"{name}.norm", norm)]
    graph.node("SkipSimplifiedLayerNormalization", inputs, outputs, MICROSOFT, epsilon=graph.shape.epsilon)
    return f"{name}.x", f"{name}.residual"


def _model(graph: _Graph, vocabulary: int) -> Any:
    shape = graph.shape

    def value(name: str, kind: int, dimensions: list[Any]) -> Any:
        return helper.make_tensor_value_info(name, kind, dimensions)

    cache = [1, shape.kv_heads, "context", shape.head]
    names = [f"{layer}.{part}" for layer in range(shape.layers) for part in ("key", "value")]
    inputs = [
        value("input_ids", TensorProto.INT64, [1, "s"]),
        value("keep", TensorProto.INT64, ["k"]),
        value("seqlens_k", TensorProto.INT32, [1]),
        value("total_len", TensorProto.INT32, []),
        *(value(f"past_key_values.{name}", TensorProto.FLOAT, cache) for name in names),
    ]
    outputs = [
        value("logits", TensorProto.FLOAT, [1, "k", vocabulary]),
        *(value(f"present.{name}", TensorProto.FLOAT, cache) for name in names),
    ]
    body = helper.make_graph(graph.nodes, "voxmeter", inputs, outputs, graph.weights)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid(MICROSOFT, 1)]
    return helper.make_model(body, opset_imports=opsets, ir_version=10)
