"""Turns fetched weights into what an engine loads: a GGUF into an int8 ONNX model and its tokenizer."""

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
import onnx
from tokenizers import AddedToken, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Digits, PreTokenizer, Sequence

from agent.weights.graph import Quantized, Shape, build, quantize

CONTEXT_MAX = 2048
"""Tokens of prompt and reply together; a longer cache costs memory a robot does not have."""

SMALL_BYTES = 1024
"""Tensors up to this size stay in the graph, where its optimiser reads shapes and constants."""

CONTROL_TOKEN = 3
"""`tokenizer.ggml.token_type` of a token that never stands for text."""


def gguf_to_onnx(source: Path, folder: Path) -> list[Path]:
    """Writes `model.onnx`, `model.weights`, `tokenizer.json` and `generation.json` into `folder`; returns their paths.

    Takes the llama architecture with a byte-level BPE vocabulary split at single digits (SmolLM2). Weights become int8 with a
    scale per 32; the embedding, already Q8_0, is taken over exactly and shared with the head.
    """
    reader = gguf.GGUFReader(source)
    shape = _shape(reader)
    written = [folder / "model.onnx", folder / "model.weights", folder / "tokenizer.json", folder / "generation.json"]
    save_beside(build(shape, *_tensors(reader, shape)), written[0], written[1])
    _tokenizer(reader).save(str(written[2]), pretty=False)
    written[3].write_text(json.dumps(_generation(reader, shape), sort_keys=True, indent=1) + "\n")
    return written


def save_beside(model: Any, path: Path, weights: Path) -> None:
    """Saves a graph with its weights in a file of their own in the same folder.

    The runtime maps that file instead of reading it into memory it never gives back: a third of the process, and of the start.
    """
    weights.unlink(missing_ok=True)  # or they would be appended
    onnx.save(model, path, save_as_external_data=True, location=weights.name, size_threshold=SMALL_BYTES)
    weights.chmod(path.stat().st_mode)  # onnx makes it readable to its owner alone


def _read(reader: Any, key: str) -> Any:
    return reader.fields[key].contents()


def _shape(reader: Any) -> Shape:
    def header(key: str) -> Any:
        return _read(reader, f"llama.{key}")

    return Shape(
        layers=header("block_count"),
        width=header("embedding_length"),
        heads=header("attention.head_count"),
        kv_heads=header("attention.head_count_kv"),
        epsilon=header("attention.layer_norm_rms_epsilon"),
        rope_base=header("rope.freq_base"),
        context=min(CONTEXT_MAX, header("context_length")),
    )


def _generation(reader: Any, shape: Shape) -> dict[str, int]:
    """What the engine must know beyond the graph: the cache's dimensions and the token that ends a reply."""
    return {
        "context": shape.context,
        "layers": shape.layers,
        "kv_heads": shape.kv_heads,
        "head": shape.head,
        "end_token": _read(reader, "tokenizer.ggml.eos_token_id"),
    }


def _tensors(reader: Any, shape: Shape) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Quantized]]:
    held = {tensor.name: tensor for tensor in reader.tensors}

    def plain(name: str) -> npt.NDArray[np.float32]:
        tensor = held[f"{name}.weight"]
        return gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)  # type: ignore[no-any-return]

    def unpermuted(name: str, heads: int) -> npt.NDArray[np.float32]:
        """Undoes llama.cpp's interleaving of the rotary halves of each query and key head."""
        matrix = plain(name)
        halves = matrix.reshape(heads, shape.head // 2, 2, -1)
        return halves.swapaxes(1, 2).reshape(matrix.shape)

    norms = {"final": plain("output_norm")}
    matrices = {"embedding": _embedding(held["token_embd.weight"])}
    for layer in range(shape.layers):
        block = f"blk.{layer}."
        norms[f"{layer}.attention"], norms[f"{layer}.feed"] = plain(block + "attn_norm"), plain(block + "ffn_norm")
        query, key = unpermuted(block + "attn_q", shape.heads), unpermuted(block + "attn_k", shape.kv_heads)
        matrices[f"{layer}.qkv"] = quantize(np.concatenate([query, key, plain(block + "attn_v")]))
        for ours, theirs in (("out", "attn_output"), ("gate", "ffn_gate"), ("up", "ffn_up"), ("down", "ffn_down")):
            matrices[f"{layer}.{ours}"] = quantize(plain(block + theirs))
    return norms, matrices


def _embedding(tensor: Any) -> Quantized:
    if tensor.tensor_type != gguf.GGMLQuantizationType.Q8_0:
        return quantize(gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32))
    rows = int(tensor.shape[1])
    blocks = np.asarray(tensor.data).reshape(rows, -1, 34)  # two bytes of scale, 32 of weights
    scales = blocks[..., :2].copy().view(np.float16)[..., 0].astype(np.float32)
    values = (blocks[..., 2:].copy().view(np.int8).astype(np.int16) + 128).astype(np.uint8)
    return Quantized(values, scales)


def _tokenizer(reader: Any) -> Tokenizer:
    tokens: list[str] = _read(reader, "tokenizer.ggml.tokens")
    merges = [tuple(line.split(" ")) for line in _read(reader, "tokenizer.ggml.merges")]
    tokenizer = Tokenizer(BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=merges))
    split: list[PreTokenizer] = [Digits(individual_digits=True), ByteLevel(add_prefix_space=False)]
    tokenizer.pre_tokenizer = Sequence(split)
    tokenizer.decoder = ByteLevelDecoder()
    kinds = _read(reader, "tokenizer.ggml.token_type")
    control = [token for token, kind in zip(tokens, kinds, strict=True) if kind == CONTROL_TOKEN]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in control])
    return tokenizer
