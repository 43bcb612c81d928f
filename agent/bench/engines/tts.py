"""The voice that speaks while it makes the sentence, against Piper's own whole sentences: the same weights, threads and noise.

Piper may run only in the voice's own child, so both are hosted engines; the one with the option `whole` takes Piper's way. Both start
with the same noise and are given the same texts in the same order, so what they say can be compared sample by sample.
"""

import asyncio
import math
import statistics
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from agent.clock import SystemClock
from agent.engines.host import Hosted, start
from agent.ports import EngineSettings
from agent.processes import pss_mb
from agent.values import Speech
from agent.weights import catalog, verify

MODEL = "piper-en-us-joe-medium"
REACH = 0.55
REACH_DB = 60

SENTENCES = (
    "Breakfast is served from half past six until ten in the restaurant on the ground floor, right next to the lobby.",
    "The swimming pool on the fourth floor is open every day from seven in the morning until ten in the evening.",
    "You can leave your luggage at the reception after you check out, and collect it at any time before midnight.",
)
"""About five seconds each."""

CLAUSES = {2: "Good morning, ", 5: "Breakfast is served at seven, ", 10: "The pool is open from seven until ten every evening, "}
"""By their words: what an answer begins with."""


def measure(models: Path, rounds: int) -> dict[str, Any]:
    """Milliseconds from a sentence to its first sound (median), their ratio (median of pairs), how far the sounds are alike (decibel, the
    least alike sentence), seconds of computing per second of sound, first sounds of short clauses, megabytes of each process."""
    return asyncio.run(_measure(models, rounds))


async def _measure(models: Path, rounds: int) -> dict[str, Any]:
    ours = await start(_settings(models), SystemClock())
    try:
        whole = await start(_settings(models, whole=True), SystemClock())
        try:
            return await _compare(ours, whole, rounds)
        finally:
            await whole.aclose()
    finally:
        await ours.aclose()


def _settings(models: Path, **options: Any) -> EngineSettings:
    known = catalog.read().find(MODEL)
    return EngineSettings(known.engine, MODEL, verify.paths(known, models), 1, options)


async def _compare(ours: Hosted[str, Speech], whole: Hosted[str, Speech], rounds: int) -> dict[str, Any]:
    pairs = [(await _say(ours, text), await _say(whole, text)) for _ in range(rounds) for text in SENTENCES]
    clauses = {words: [(await _say(ours, text))[0] for _ in range(rounds)] for words, text in CLAUSES.items()}
    sounds = [(_samples(one[2]), _samples(other[2])) for one, other in pairs]
    return {
        "ours_ms": _median(one[0] for one, _ in pairs),
        "whole_ms": _median(other[0] for _, other in pairs),
        "ratio": round(statistics.median(one[0] / other[0] for one, other in pairs), 3),
        "reach": REACH,
        "snr_db": round(min(snr_db(whole, streamed) for streamed, whole in sounds), 1),
        "reach_db": REACH_DB,
        "rtf": round(statistics.median(one[1] / _ms(one[2]) for one, _ in pairs), 3),
        "rtf_whole": round(statistics.median(other[1] / _ms(other[2]) for _, other in pairs), 3),
        "sound_ms": _median(_ms(one[2]) for one, _ in pairs),
        "clauses_ms": {words: _median(held) for words, held in clauses.items()},
        "pss_mb": {"ours": round(pss_mb([ours.process_id])), "whole": round(pss_mb([whole.process_id]))},
    }


def _median(figures: Iterable[float]) -> float:
    return round(statistics.median(figures), 1)


async def _say(host: Hosted[str, Speech], text: str) -> tuple[float, float, list[Speech]]:
    """Milliseconds to the first sound and to the last, and the sound."""
    call = host.open()
    since = time.perf_counter()
    await call.send(text)
    await call.finish()
    first, said = 0.0, []
    async for speech in call:
        said.append(speech)
        first = first or time.perf_counter() - since
    return first * 1000, (time.perf_counter() - since) * 1000, said


def _samples(said: list[Speech]) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.frombuffer(b"".join(speech.pcm for speech in said), "<i2").astype(np.float64)


def _ms(said: list[Speech]) -> float:
    return sum(len(speech.pcm) // 2 * 1000 / speech.rate_hz for speech in said)


def snr_db(whole: np.ndarray[Any, Any], pieces: np.ndarray[Any, Any]) -> float:
    """How little pieces differ from the unbroken sound; 0 for sounds of different lengths, 120 at most."""
    if len(whole) != len(pieces):
        return 0.0
    error = float(np.square(whole - pieces).sum())
    return min(120.0, 10 * math.log10(float(np.square(whole).sum()) / error)) if error else 120.0
