"""Greedy decoding of a piece of speech, made cheap by a draft: what an earlier part of the same speech sounded like.

The encoder reads the whole sound. The decoder takes the start and all tokens of the draft in one run, which gives its choice after
each of them; the draft holds up to the first token that is not what the decoder would have chosen there, and from that choice it
goes on token by token, its cache cut back to what held. A draft that is all wrong costs little more than none.

The weights are int8 and the runtime rounds activations by the largest of a run, so a run of many tokens rounds otherwise than runs
of one: logits differ by up to 1.7. Where the best two tokens are nearer than that, a draft may decide between them; each choice is
the best one or within that of it.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from agent.values import RATE_HZ

SAMPLES_MIN = RATE_HZ // 2
"""Shorter sound is filled up with silence; the encoder's convolutions need some length."""

QUIET_SAMPLES = RATE_HZ // 4
"""Silence added to the end: 64 ms after the last word it gave 95 of 96 questions their full stop instead of 88, and fewer wrong words."""

TOKENS_PER_SECOND_MAX = 6.5
"""The model's authors stop here; faster output is a loop, not speech."""

START, END = 1, 2
"""Token ids; what comes before 3 is never text."""

HEADS, HEAD = 8, 36

Samples = npt.NDArray[np.float32]
Cache = dict[str, npt.NDArray[np.float32]]


class Network:
    """Encoder and decoder, loaded."""

    def __init__(self, encoder: Path, decoder: Path, options: Any) -> None:
        self._encoder = onnxruntime.InferenceSession(str(encoder), options)
        self._decoder = onnxruntime.InferenceSession(str(decoder), options)
        self._present = [node.name.replace("present", "past_key_values") for node in self._decoder.get_outputs()[1:]]
        self._empty = {name: np.zeros((1, HEADS, 0, HEAD), np.float32) for name in self._present}
        for _ in self.tokens(np.zeros(RATE_HZ, np.float32), [END + 1]):
            """The first run allocates; no customer should wait for it."""

    def tokens(self, samples: Samples, draft: list[int]) -> Iterator[list[int]]:
        """Token ids of a piece of speech (in [-1, 1], at RATE_HZ), as many at a time as a run of the decoder settles."""
        heard, most = self._encode(samples)
        guess, last, cache, made = draft[:most], START, self._empty, 0
        while made < most:
            choices, present = self._decode(heard, [last, *guess], cache)
            held = next((at for at, token in enumerate(guess) if token != choices[at]), len(guess))
            fresh = (guess[:held] + choices[held : held + 1])[: most - made]
            if fresh[-1] == END:
                yield fresh[:-1]
                return
            yield fresh
            made += len(fresh)
            cache = self._kept(cache, present, made)
            last, guess = fresh[-1], []

    def _encode(self, samples: Samples) -> tuple[dict[str, Any], int]:
        """What the decoder reads of the sound, and the most tokens it may hold."""
        most = int(max(len(samples), SAMPLES_MIN) / RATE_HZ * TOKENS_PER_SECOND_MAX) + 8
        sound = np.pad(samples, (0, max(QUIET_SAMPLES, SAMPLES_MIN - len(samples))))[None]
        mask = np.ones(sound.shape, np.int64)
        hidden = self._encoder.run(None, {"input_values": sound, "attention_mask": mask})[0]
        return {"encoder_attention_mask": mask, "encoder_hidden_states": hidden}, most  # the decoder's mask, too, is as long as the sound

    def _decode(self, heard: dict[str, Any], tokens: list[int], cache: Cache) -> tuple[list[int], Cache]:
        """The best token after each of those given, and the cache grown by them."""
        now = {"input_ids": np.array([tokens], np.int64), "use_cache_branch": np.array([cache is not self._empty])}
        logits, *present = self._decoder.run(None, heard | now | cache)
        return logits[0].argmax(-1).tolist(), dict(zip(self._present, present, strict=True))

    def _kept(self, before: Cache, present: Cache, tokens: int) -> Cache:
        """The cache of so many tokens; the encoder's part comes from the first run and never changes."""
        ours = {name: held[:, :, :tokens] for name, held in present.items() if ".decoder." in name}
        return (present if before is self._empty else before) | ours
