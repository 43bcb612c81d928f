"""A voice of a few weights, built as Piper's are but with names of its own."""

from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

IDS = 256
CHANNELS = 4
HOP = 6


def toy_voice(*, speakers: int = 1, without: str = "", twice: str = "") -> Any:
    """One frame for each phoneme. `without` leaves out a kind of node, `twice` has one too many."""
    chance = np.random.default_rng(1)
    weights: list[Any] = []
    nodes: list[Any] = []

    def weight(name: str, *shape: int) -> str:
        weights.append(numpy_helper.from_array(chance.normal(size=shape).astype(np.float32) * 0.3, name))
        return name

    def node(kind: str, inputs: list[str], out: str, **attributes: Any) -> str:
        nodes.append(
            helper.make_node("Identity" if kind == without else kind, inputs[: 1 if kind == without else None], [out], **attributes)
        )
        if kind == twice:
            nodes.append(helper.make_node(kind, [out], [f"{out}_again"], **attributes))
            return f"{out}_again"
        return out

    letters = node("Transpose", [node("Gather", [weight("letters", IDS, CHANNELS), "input"], "a")], "b", perm=[0, 2, 1])
    length = node("Abs", [node("Conv", [letters, weight("timing", 1, CHANNELS, 1)], "c")], "d")
    mask = node("Sign", [node("Ceil", [length], "lengths")], "e")
    noise = node("RandomNormalLike", [letters], "f")
    scaled = node("Mul", [noise, node("Gather", ["scales", "zero"], "g")], "h")
    prior = node("Add", [letters, scaled], "thoughts")
    flowed = node("Conv", [prior, weight("flow", CHANNELS, CHANNELS, 3)], "i", pads=[1, 1])
    latents = node("Mul", [flowed, mask], "j")
    pre = node("Conv", [latents, weight("pre", CHANNELS, CHANNELS, 3)], "k", pads=[1, 1])
    if speakers > 1:
        who = node("Unsqueeze", [node("Gather", [weight("speakers", speakers, CHANNELS), "sid"], "l"), "last"], "m")
        pre = node("Add", [pre, node("Conv", [who, weight("colour", CHANNELS, CHANNELS, 1)], "n")], "o")
    up = node("ConvTranspose", [node("LeakyRelu", [pre], "p"), weight("up", CHANNELS, 1, HOP)], "q", strides=[HOP])
    node("Tanh", [up], "sound")
    weights += [numpy_helper.from_array(np.array(value, np.int64), name) for name, value in (("zero", 0), ("last", [2]))]
    return _model(nodes, weights, speakers)


def _model(nodes: list[Any], weights: list[Any], speakers: int) -> Any:
    inputs = [
        helper.make_tensor_value_info("input", TensorProto.INT64, [1, "n"]),
        helper.make_tensor_value_info("input_lengths", TensorProto.INT64, [1]),
        helper.make_tensor_value_info("scales", TensorProto.FLOAT, [3]),
        *([helper.make_tensor_value_info("sid", TensorProto.INT64, [1])] if speakers > 1 else []),
    ]
    outputs = [helper.make_tensor_value_info("sound", TensorProto.FLOAT, [1, 1, "samples"])]
    body = helper.make_graph(nodes, "toy", inputs, outputs, weights)
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
