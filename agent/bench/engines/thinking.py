"""One language model in a process of its own, asked by the bench a line at a time: `python -m agent.bench.engines.thinking`.

A line in is `[text, tokens]`; a line out is `[prompt tokens, seconds to the first token, seconds for the others, how many]`.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from agent.engines.llm_onnx import LlmOnnx, render
from agent.ports import EngineSettings
from agent.values import Message, Prompt

CONTEXT = 2048
"""Of the converted model; the reference's cache is as long."""

Ask = Callable[[str, int], Iterator[int]]
"""Begins with the prompt's tokens, then gives a number per token made."""


def ours(folder: Path, threads: int) -> Ask:
    """The engine as it is, without what its cache holds from before."""
    llm = LlmOnnx(EngineSettings("llm_onnx", folder.name, {path.name: path for path in folder.iterdir()}, threads))

    def ask(text: str, tokens: int) -> Iterator[int]:
        llm.forget()
        made = -1
        for _, usage in llm.run(iter([Prompt((Message("user", text),), tokens)])):
            if made < 0:
                yield usage.input_tokens or 0
            if (usage.output_tokens or 0) > max(made, 0):
                yield usage.output_tokens or 0
            made = usage.output_tokens or 0

    return ask


def genai(folder: Path, threads: int) -> Ask:
    """onnxruntime-genai on a model its own builder made, with its own cache and tokenizer."""
    import onnxruntime_genai as og  # noqa: PLC0415  only the bench has it

    config = og.Config(str(folder))
    config.overlay(json.dumps({"model": {"decoder": {"session_options": {"intra_op_num_threads": threads}}}}))
    model = og.Model(config)
    tokenizer = og.Tokenizer(model)

    def ask(text: str, tokens: int) -> Iterator[int]:
        how = og.GeneratorParams(model)
        how.set_search_options(max_length=CONTEXT, do_sample=False)
        generator, stream = og.Generator(model, how), tokenizer.create_stream()
        ids = tokenizer.encode(render((Message("user", text),), open_reply=True))
        yield len(ids)
        generator.append_tokens(ids)
        for made in range(1, tokens + 1):
            generator.generate_next_token()
            if generator.is_done():
                return
            stream.decode(generator.get_next_tokens()[0])
            yield made

    return ask


def timed(ask: Ask, text: str, tokens: int) -> list[float]:
    began = time.perf_counter()
    steps = ask(text, tokens)
    given = next(steps)
    next(steps)
    first = time.perf_counter()
    others = sum(1 for _ in steps)
    return [given, first - began, time.perf_counter() - first, others]


def main(which: str, folder: str, threads: str) -> None:
    makers: dict[str, Callable[[Path, int], Any]] = {"ours": ours, "genai": genai}
    ask = makers[which](Path(folder), int(threads))
    for line in sys.stdin:
        text, tokens = json.loads(line)
        sys.stdout.write(json.dumps(timed(ask, text, tokens)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
