"""Our loop for the language model against onnxruntime-genai's on the same weights: prompts taken in and tokens made, per second.

Each lives in a process of its own with the environment of an engine; they are asked in turns, never at once. A round starts both
anew, the other one first: where the kernel happens to lay the weights is worth a fifth of the speed.
"""

import contextlib
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from agent.engines.life import environment
from agent.errors import BadInput

REACH = 0.95
THREADS = (1, 2)
SENTENCE = "The sea was calm that morning, and the old fisherman rowed out before the sun had risen over the harbour."
PROMPTS = {"60": 1, "250": 10, "500": 21}
"""About so many tokens, by how often the sentence stands in it."""

DECODED = 48
"""Tokens made after the shortest prompt; after the others only the first."""

NOT_BUILT = "not built, see docs/genai-reference.md"


def measure(models: Path, rounds: int, genai: Path | None = None) -> dict[str, Any]:
    """Medians in tokens per second, and the median ratio of pairs; without a model of the reference our own figures."""
    if genai is not None and not (genai / "genai_config.json").is_file():
        raise BadInput(f"{genai} holds no genai_config.json", "name a folder that onnxruntime_genai.models.builder wrote")
    folders = {"ours": models / "smollm2-135m-instruct"} | ({"genai": genai} if genai else {})
    told: dict[str, Any] = {f"threads_{threads}": _compared(folders, threads, rounds) for threads in THREADS}
    return told | {"rounds": rounds, "reach": REACH} | ({} if genai else {"genai": NOT_BUILT})


def _compared(folders: dict[str, Path], threads: int, rounds: int) -> dict[str, Any]:
    seen: dict[str, dict[str, list[float]]] = {}
    for round_ in range(rounds):
        order = list(folders) if round_ % 2 else list(folders)[::-1]
        with _Asked(folders, order, threads) as asked:
            for prompt, times in PROMPTS.items():
                for which in order:
                    _keep(seen, which, prompt, asked.best(which, f"Go on with this story. {SENTENCE * times}", prompt))
    return {figure: _told(by) for figure, by in seen.items()}


def _keep(seen: dict[str, dict[str, list[float]]], which: str, prompt: str, speeds: tuple[float, float]) -> None:
    names = (f"prefill_{prompt}", "decode") if prompt == "60" else (f"prefill_{prompt}",)
    for name, speed in zip(names, speeds, strict=False):
        seen.setdefault(name, {}).setdefault(which, []).append(speed)


def _told(by: dict[str, list[float]]) -> dict[str, float]:
    told = {f"{which}_tokens_per_s": round(statistics.median(speeds), 1) for which, speeds in by.items()}
    if "genai" in by:
        told["ratio"] = round(statistics.median(a / b for a, b in zip(by["ours"], by["genai"], strict=True)), 3)
    return told


class _Asked:
    """The processes, as long as a round."""

    def __init__(self, folders: dict[str, Path], order: list[str], threads: int) -> None:
        self._running = {which: _started(which, folders[which], threads) for which in order}

    def __enter__(self) -> "_Asked":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._running.values():
            process.communicate()

    def best(self, which: str, text: str, prompt: str) -> tuple[float, float]:
        """Tokens per second of prompt and of reply, the better of two goes after one that warms up."""
        goes = [self._ask(which, text, DECODED if prompt == "60" else 1) for _ in range(3)][1:]
        return max(given / first for given, first, _, _ in goes), max(others / max(rest, 1e-9) for _, _, rest, others in goes)

    def _ask(self, which: str, text: str, tokens: int) -> list[float]:
        process = self._running[which]
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended, as the next line finds
            process.stdin.write(json.dumps([text, tokens]) + "\n")
            process.stdin.flush()
        line = process.stdout.readline()
        if not line:
            raise BadInput(f"the process that runs {which} ended (exit {process.wait()})", "what it said stands above")
        answer: list[float] = json.loads(line)
        return answer


def _started(which: str, folder: Path, threads: int) -> subprocess.Popen[str]:
    words = [sys.executable, "-P", "-m", "agent.bench.engines.thinking", which, str(folder), str(threads)]
    pipe = subprocess.PIPE
    return subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True, env=environment("llm_onnx"))
