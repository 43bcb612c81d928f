"""When something begins, falls silent or is lowered in a recording, and where in it a known sound lies: pure.

Samples are floats of full scale 1. Times are seconds from the first sample.
"""

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]

STEP_S = 0.005
"""Levels are looked at in steps of this; what is found is exact to it, a beginning to the sample."""

SOUND_DB = -50.0
"""What is played is digital: between pieces of speech there is nothing at all."""

SOUND_STEPS_MIN = 3
"""A shorter sound is a click of the sound system."""

HUSH_S = 0.25
"""No pause within a sentence is as long and as silent."""

ACTIVE_DB = 30.0
"""Steps within so much of the loudest are speech, the others its pauses."""

ALIKE_MIN = 0.25
"""Correlation from which a sound is found: even below babble it has more, and noise has less than a tenth."""

REFERENCE_DB_MIN = -45.0
"""Softer steps of the reference say nothing about the gain."""


def floats(pcm: bytes) -> Samples:
    """Of s16le."""
    return np.frombuffer(pcm, "<i2").astype(np.float32) / np.float32(32_768)


def pcm(samples: Samples) -> bytes:
    """s16le; what is louder than full scale is clipped."""
    return (np.clip(samples, -1, 32_767 / 32_768) * 32_768).astype("<i2").tobytes()


def levels_db(samples: Samples, rate_hz: int) -> Samples:
    """Root mean square of each whole step, dB of full scale, -100 for silence."""
    step = int(rate_hz * STEP_S)
    count = len(samples) // step
    power = np.mean(samples[: count * step].reshape(count, step) ** 2, axis=1)
    return np.asarray(10 * np.log10(power + 1e-10), np.float32)


def speech_level_db(samples: Samples, rate_hz: int) -> float:
    """Of what is speech in it, pauses left out; -100 for silence."""
    levels = levels_db(samples, rate_hz)
    if not len(levels):
        return -100.0
    active = levels[levels > levels.max() - ACTIVE_DB]
    return float(10 * np.log10(np.mean(10 ** (active / 10))))


def first_sound(samples: Samples, rate_hz: int, after: float = 0.0) -> float | None:
    """When the first sound after that moment begins, clicks left out."""
    start = int(after * rate_hz)
    loud = levels_db(samples[start:], rate_hz) > SOUND_DB
    for at in _runs(loud, SOUND_STEPS_MIN):
        step = int(rate_hz * STEP_S)
        inside = np.abs(samples[start + at * step : start + (at + 1) * step])
        return (start + at * step + int(np.argmax(inside > 10 ** (SOUND_DB / 20)))) / rate_hz
    return None


def silent_at(samples: Samples, rate_hz: int, after: float = 0.0) -> float | None:
    """When a silence of at least HUSH_S begins after that moment; None if the sound goes on to the end."""
    start = int(after * rate_hz)
    quiet = levels_db(samples[start:], rate_hz) <= SOUND_DB
    return next((start / rate_hz + at * STEP_S for at in _runs(quiet, int(HUSH_S / STEP_S))), None)


def ducked_at(samples: Samples, reference: Samples, rate_hz: int, after: float = 0.0, by_db: float = 6.0) -> float | None:
    """When it is played softer, by so much or more, than `reference`: the same sound as played without an interruption.

    None if it never is, or if the two are not the same sound up to `after`.
    """
    shift = place(samples[: int(after * rate_hz)], reference)
    if shift is None:
        return None
    played, meant = (levels_db(each, rate_hz) for each in (samples, reference[shift:]))
    count = min(len(played), len(meant))
    lower = (meant[:count] > REFERENCE_DB_MIN) & (played[:count] < meant[:count] - by_db)
    lower[: int(after / STEP_S)] = False
    return next((at * STEP_S for at in _runs(lower, 2)), None)


def place(known: Samples, recording: Samples) -> int | None:
    """At which of its samples the recording begins to sound like `known`, whatever the level; None where it does not."""
    if not len(known) or len(recording) < len(known):
        return None
    size = 1 << (len(recording) + len(known) - 1).bit_length()
    product = np.fft.rfft(recording, size) * np.conj(np.fft.rfft(known, size))
    likeness = np.fft.irfft(product, size)[: len(recording) - len(known) + 1]
    power = np.concatenate([[0.0], np.cumsum(recording.astype(np.float64) ** 2)])
    loudness = np.sqrt(np.maximum(power[len(known) :] - power[: -len(known)], 1e-9) * max(float(np.sum(known**2)), 1e-9))
    best = int(np.argmax(likeness / loudness))
    return best if likeness[best] / loudness[best] > ALIKE_MIN else None


def _runs(steps: npt.NDArray[np.bool_], long: int) -> list[int]:
    """Where stretches of at least so many true steps begin."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], steps.astype(np.int8), [0]])))
    return [int(begin) for begin, end in zip(edges[::2], edges[1::2], strict=True) if end - begin >= long]
