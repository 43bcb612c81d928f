"""A Llama-shaped language model on ONNX Runtime: our own loop, with the key-value cache kept between calls.

The cache is one pair of buffers per layer, bound as past and as present at once, so the operator appends in place. What it
holds is the list of token ids behind it; a new prompt runs only from the first id that differs, and forgetting is cutting
that list. Dimensions come from `generation.json`, which the conversion wrote.
"""

import json
import math
import mmap
from collections.abc import Callable, Generator, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

from agent.engines.worker import Step, session_options
from agent.errors import EngineFailed
from agent.ports import EndOfWords, EngineSettings
from agent.values import Message, Prompt, StageUsage

PREFILL_TOKENS = 128
"""Prompt tokens per run: bounds the memory of a run, and the wait for a cancel to 0.2 s."""

REPLY_TOKENS_MIN = 16
"""A context that leaves fewer than these for the reply is refused rather than answered in half a sentence."""


CLOSING = ".?!"
"""A message may end with such a mark. Those a recogniser wrote are taken off, for it ends with one whatever it heard."""

SPACES = "ĠĊ"
"""How a vocabulary of bytes writes a space and the end of a line."""

NOTHING = StageUsage()
"""Being asked whether somebody has finished is not metered."""


class LlmOnnx:
    """Worker of the stage `llm`."""

    def __init__(self, settings: EngineSettings) -> None:
        generation = json.loads(settings.files["generation.json"].read_text())
        self._context: int = generation["context"]
        self._end: int = generation["end_token"]
        self._tokenizer = Tokenizer.from_file(str(settings.files["tokenizer.json"]))
        session = onnxruntime.InferenceSession(str(settings.files["model.onnx"]), session_options(settings.threads))
        self._run = _CachedRun(session, generation)
        marks = (token for text, token in self._tokenizer.get_vocab().items() if text.lstrip(SPACES).startswith(tuple(CLOSING)))
        self._closing = [self._end, *marks]  # tokens with which a message ends
        told = tuple(Message(role, text) for role, text in settings.options.get("opening", ()))
        if told:
            self._check_room(opening := self._encode(render(told, open_reply=False)), "the system prompt")
            for _ in self._run.prefill(opening):
                pass

    def run(self, inputs: Iterator[Prompt | EndOfWords]) -> Generator[Step[str | float]]:
        """Yields text as whole characters come out; the first steps, without text, tell of the prompt's tokens. To EndOfWords one number.

        What is read to give it is the beginning of what a reply to the same words would be made from, so that the cache only gains.
        """
        for asked in inputs:
            yield from self._ends(asked.prompt.messages) if isinstance(asked, EndOfWords) else self._reply(asked)

    def next_tokens(self, ids: list[int]) -> list[int]:
        """The likeliest token after each of these, for comparison with other runs of the same weights."""
        self.forget()
        return [int(self._run.step(token).argmax()) for token in ids]

    def forget(self) -> None:
        """Empties the cache, as if nothing had been read yet."""
        self._run.forget()

    def _reply(self, prompt: Prompt) -> Generator[Step[str]]:
        ids = self._encode(render(prompt.messages, open_reply=True))
        self._check_room(ids, "the prompt")
        cached = self._run.shared(ids)
        usage = StageUsage(input_tokens=len(ids), cached_tokens=cached, output_tokens=0)
        yield None, usage
        logits = np.zeros(0, np.float32)
        for piece in self._run.prefill(ids):
            logits = piece
            yield None, usage
        yield from self._generate(prompt, logits, usage)

    def _ends(self, messages: tuple[Message, ...]) -> Generator[Step[float]]:
        ids = self._encode(_open_ended(messages))
        self._check_room(ids, "the prompt")
        logits = np.zeros(0, np.float32)
        for piece in self._run.prefill(ids):
            logits = piece
            yield None, NOTHING
        likely = np.exp((logits - logits.max()).astype(np.float64))
        yield float(likely[self._closing].sum() / likely.sum()), NOTHING

    def _generate(self, prompt: Prompt, logits: npt.NDArray[np.float32], usage: StageUsage) -> Generator[Step[str]]:
        choose = Sampler(prompt)
        text = _Text(self._tokenizer, prompt.stop)
        for made in range(1, min(prompt.max_tokens, self._run.room) + 1):
            token = choose(logits)
            if token == self._end:
                break
            usage = StageUsage(input_tokens=usage.input_tokens, cached_tokens=usage.cached_tokens, output_tokens=made)
            yield text.take(token), usage
            if text.stopped:
                return
            logits = self._run.step(token)
        if rest := text.rest():
            yield rest, usage

    def _encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def _check_room(self, ids: list[int], what: str) -> None:
        most = self._context - REPLY_TOKENS_MIN
        if len(ids) > most:
            raise EngineFailed(f"{what} is {len(ids)} tokens and the model takes {most}", "shorten it")


def render(messages: tuple[Message, ...], *, open_reply: bool) -> str:
    """ChatML, the template of SmolLM2-Instruct. Control tokens inside a message's text are defused, never obeyed."""
    turns = [f"<|im_start|>{message.role}\n{_defused(message.text)}<|im_end|>\n" for message in messages]
    return "".join(turns) + ("<|im_start|>assistant\n" if open_reply else "")


def _open_ended(messages: tuple[Message, ...]) -> str:
    """The same up to the last word of the last message."""
    *before, last = messages
    words = _defused(last.text).strip().rstrip(CLOSING + "…,").rstrip()
    return render(tuple(before), open_reply=False) + f"<|im_start|>{last.role}\n{words}"


def _defused(text: str) -> str:
    return text.replace("\0", "").replace("<|", "< |")


class Sampler:
    """Chooses the next token as the prompt asks: greedily, or from the nucleus of a tempered distribution."""

    def __init__(self, prompt: Prompt) -> None:
        self._temperature = prompt.temperature
        self._top_p = prompt.top_p
        self._penalty = prompt.repetition_penalty
        self._draw: Callable[[], float] = _chance(prompt.seed) if prompt.temperature > 0 else float
        self._said: list[int] = []

    def __call__(self, logits: npt.NDArray[np.float32]) -> int:
        token = self._choose(self._penalised(logits))
        self._said.append(token)
        return token

    def _penalised(self, logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        if self._penalty == 1 or not self._said:
            return logits
        held = logits.copy()
        seen = np.unique(self._said)
        held[seen] = np.where(held[seen] > 0, held[seen] / self._penalty, held[seen] * self._penalty)
        return held

    def _choose(self, logits: npt.NDArray[np.float32]) -> int:
        if self._temperature <= 0:
            return int(logits.argmax())
        scaled = np.exp((logits - logits.max()).astype(np.float64) / self._temperature)
        order = np.argsort(-scaled)
        reached = np.cumsum(scaled[order]) / scaled.sum()
        kept = int(np.searchsorted(reached, min(self._top_p, 1.0))) + 1
        nucleus = reached[: min(kept, len(reached))]
        return int(order[int(np.searchsorted(nucleus, self._draw() * nucleus[-1], side="right"))])


def _chance(seed: int) -> Callable[[], float]:
    from agent.clock import seeded  # noqa: PLC0415  brings asyncio, 6 MB for a robot that only takes the likeliest

    return seeded(seed).random


class _Text:
    """Turns tokens into text, holding back what may be the beginning of a stop text."""

    def __init__(self, tokenizer: Tokenizer, stop: tuple[str, ...]) -> None:
        self._tokenizer = tokenizer
        self._stream = DecodeStream(skip_special_tokens=True)
        self._stop = stop
        self._held = ""
        self.stopped = False

    def take(self, token: int) -> str | None:
        """The text that became certain with this token, if any."""
        self._held += self._stream.step(self._tokenizer, token) or ""
        ends = [at for at in (self._held.find(stop) for stop in self._stop) if at >= 0]
        if ends:
            self.stopped = True
            return self._release(min(ends)) or None
        return self._release(len(self._held) - self._doubtful()) or None

    def rest(self) -> str:
        return "" if self.stopped else self._release(len(self._held))

    def _doubtful(self) -> int:
        """Length of the longest end of the held text that begins a stop text."""
        lengths = (n for stop in self._stop for n in range(len(stop) - 1, 0, -1) if self._held.endswith(stop[:n]))
        return max(lengths, default=0)

    def _release(self, length: int) -> str:
        out, self._held = self._held[:length], self._held[length:]
        return out


class _CachedRun:
    """The session, the ids whose keys and values stand in the cache, and what a run of one token reads and writes, bound once."""

    def __init__(self, session: Any, generation: dict[str, int]) -> None:
        self._session = session
        self._context = generation["context"]
        self._held: list[int] = []
        self._cache = _Cache(generation)
        self._one, self._many = session.io_binding(), session.io_binding()
        self._token = np.zeros((1, 1), np.int64)
        self._first = np.zeros(1, np.int64)
        self._last = np.zeros(1, np.int32)
        self._total = np.zeros((), np.int32)
        vocabulary = session.get_outputs()[0].shape[-1]
        self._logits = np.zeros((1, 1, vocabulary), np.float32)
        for binding in (self._one, self._many):
            self._cache.bind(binding)
            _bind(binding.bind_input, "keep", self._first)
            _bind(binding.bind_input, "seqlens_k", self._last)
            _bind(binding.bind_input, "total_len", self._total)
            _bind(binding.bind_output, "logits", self._logits)
        _bind(self._one.bind_input, "input_ids", self._token)

    @property
    def room(self) -> int:
        """Tokens that still fit."""
        return self._context - len(self._held)

    def shared(self, ids: list[int]) -> int:
        """How many of these ids need no computation. The last one always does: its logits are wanted."""
        same = 0
        for ours, theirs in zip(self._held, ids[:-1], strict=False):
            if ours != theirs:
                break
            same += 1
        return same

    def prefill(self, ids: list[int]) -> Iterator[npt.NDArray[np.float32]]:
        """Runs what the cache lacks, a piece at a time; yields each piece's last logits."""
        del self._held[self.shared(ids) :]
        for start in range(len(self._held), len(ids), PREFILL_TOKENS):
            yield self._forward(ids[start : start + PREFILL_TOKENS])

    def forget(self) -> None:
        self._held.clear()

    def step(self, token: int) -> npt.NDArray[np.float32]:
        self._token[0, 0] = token
        return self._after([token], self._one)

    def _forward(self, ids: list[int]) -> npt.NDArray[np.float32]:
        given = np.array([ids], np.int64)
        _bind(self._many.bind_input, "input_ids", given)
        return self._after(ids, self._many)

    def _after(self, ids: list[int], binding: Any) -> npt.NDArray[np.float32]:
        total = len(self._held) + len(ids)
        self._first[0], self._last[0], self._total[()] = len(ids) - 1, total - 1, total
        self._session.run_with_iobinding(binding)
        self._held += ids
        logits: npt.NDArray[np.float32] = self._logits[0, 0].copy()
        return logits


class _Cache:
    """Keys and values of all layers in memory that the kernel gives page by page: what was never written takes none."""

    def __init__(self, generation: dict[str, int]) -> None:
        self._shape = (1, generation["kv_heads"], generation["context"], generation["head"])
        self._bytes = math.prod(self._shape) * np.dtype(np.float32).itemsize
        self._names = [f"{layer}.{part}" for layer in range(generation["layers"]) for part in ("key", "value")]
        self._memory = mmap.mmap(-1, self._bytes * len(self._names))
        self._memory.madvise(mmap.MADV_NOHUGEPAGE)  # huge pages would take 2 MB for one token
        self._start = np.frombuffer(self._memory, np.uint8).ctypes.data

    def bind(self, binding: Any) -> None:
        """As past and as present at once, so that the operator appends in place."""
        for at, name in enumerate(self._names):
            place = ("cpu", 0, np.float32, self._shape, self._start + at * self._bytes)
            binding.bind_input(f"past_key_values.{name}", *place)
            binding.bind_output(f"present.{name}", *place)


def _bind(bind: Callable[..., None], name: str, array: npt.NDArray[Any]) -> None:
    """Binds an array where it lies; whoever changes it in place changes what the next run reads."""
    bind(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
