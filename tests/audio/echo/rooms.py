"""Speech, rooms and what a microphone hears in them, made from seeds."""

import numpy as np

from agent.values import RATE_HZ

PIECE = 160


def voice(seconds: float, seed: int) -> np.ndarray:
    """Syllables of a buzz through moving resonances: loud, soft and silent as speech is. Root mean square 0.1."""
    chance = np.random.default_rng(seed)
    count = int(seconds * RATE_HZ)
    pitch = 100 + 80 * chance.random() + np.repeat(chance.normal(0, 12, count // 1600 + 1), 1600)[:count]
    buzz = np.sign(np.sin(2 * np.pi * np.cumsum(pitch) / RATE_HZ)) + chance.normal(0, 0.3, count)
    sound = np.zeros(count)
    for start in range(0, count, 3200):  # a syllable of 200 ms
        piece = buzz[start : start + 3200]
        bands = np.fft.rfftfreq(len(piece), 1 / RATE_HZ)
        shape = sum(np.exp(-(((bands - center) / 150) ** 2)) for center in chance.uniform((300, 900, 2200), (800, 2000, 3200)))
        loudness = 0 if chance.random() < 0.2 else np.hanning(len(piece)) * chance.uniform(0.4, 1)
        sound[start : start + 3200] = np.fft.irfft(np.fft.rfft(piece) * shape, len(piece)) * loudness
    return np.asarray(sound * 0.1 / np.sqrt(np.mean(sound**2)))


def echo(sound: np.ndarray, delay_ms: int, level_db: float = -10, seed: int = 1) -> np.ndarray:
    """The sound as it comes back from a room of 0.3 s."""
    count = RATE_HZ * 3 // 10
    response = np.random.default_rng(seed).normal(0, 0.15, count) * 10 ** (-3 * np.arange(count) / count)
    response[0] = 1
    response *= 10 ** (level_db / 20) / np.sqrt(np.sum(response**2))
    size = len(sound) + count
    heard = np.fft.irfft(np.fft.rfft(sound, size) * np.fft.rfft(response, size), size)
    return np.concatenate([np.zeros(delay_ms * RATE_HZ // 1000), heard])[: len(sound)]


def pieces(sound: np.ndarray) -> list[bytes]:
    """Of 10 ms, s16le."""
    pcm = (np.clip(sound, -1, 0.9999) * 32768).astype("<i2").tobytes()
    return [pcm[at : at + 2 * PIECE] for at in range(0, len(pcm) - 2 * PIECE + 1, 2 * PIECE)]


def level_db(sound: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(sound**2) + 1e-12))
