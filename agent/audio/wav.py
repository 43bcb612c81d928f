"""Reads a WAV of any rate, width and channel count as 16 kHz mono chunks, a piece at a time; writes replies."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
import soxr

from agent.errors import BadInput
from agent.values import FRAME_SAMPLES, RATE_HZ, Speech

BLOCK_FRAMES = 65_536
"""Frames read at a time, so that a long recording never stands in memory whole."""

FORMATS = ("WAV", "WAVEX", "RF64")

STREAMED_SIZES = (0xFFFF_FFFF, 0x7FFF_FFFF, 0x7FFF_F000)
"""Data sizes that programs write when they do not know the length: the data then goes to the end of the file."""

RATE_HZ_MIN, RATE_HZ_MAX = 4_000, 384_000

FRAME_BYTES = FRAME_SAMPLES * 2


def read(path: Path) -> Iterator[bytes]:
    """Chunks of FRAME_SAMPLES samples, s16le mono at RATE_HZ, the last filled up with silence.

    Raises BadInput, before the first chunk, for what is not a whole WAV with samples in it.
    """
    problem = _problem(path)
    if problem:
        raise BadInput(f"{path}: {problem}")
    try:
        file = soundfile.SoundFile(path)
    except (soundfile.SoundFileError, OSError) as error:
        raise BadInput(f"{path}: not a WAV file that can be read: {error}") from error
    if file.format not in FORMATS or not RATE_HZ_MIN <= file.samplerate <= RATE_HZ_MAX:
        file.close()
        raise BadInput(f"{path}: {file.format} at {file.samplerate} Hz", "give a WAV of 4 to 384 kHz")
    return _chunks(file)


def check_writable(path: Path) -> None:
    """Raises BadInput where a reply could not be written: before the customer is billed for it."""
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise BadInput(f"{path}: the reply can't be written there", "name a file in a folder you can write to")


def write(path: Path, pieces: Iterable[Speech]) -> int:
    """Writes speech as a 16-bit mono WAV at the voice's rate; returns its length in milliseconds."""
    held = [piece for piece in pieces if piece.pcm]
    rate_hz = held[0].rate_hz if held else RATE_HZ
    sound = np.frombuffer(b"".join(piece.pcm for piece in held), "<i2")
    try:
        soundfile.write(path, sound, rate_hz, subtype="PCM_16", format="WAV")
    except (soundfile.SoundFileError, OSError) as error:
        raise BadInput(f"{path}: the reply can't be written there", "name a file in a folder you can write to") from error
    return len(sound) * 1000 // rate_hz


def _chunks(file: soundfile.SoundFile) -> Iterator[bytes]:
    resampler = soxr.ResampleStream(file.samplerate, RATE_HZ, 1, dtype="float32") if file.samplerate != RATE_HZ else None
    held = bytearray()
    with file:
        more = True
        while more:
            try:
                block = file.read(BLOCK_FRAMES, dtype="float32", always_2d=True)
            except (soundfile.SoundFileError, OSError) as error:
                raise BadInput(f"{file.name}: it can't be read to its end: {error}") from error
            more = len(block) == BLOCK_FRAMES
            mono = np.clip(np.nan_to_num(block), -1, 1).mean(axis=1, dtype=np.float32)
            if resampler is not None:
                mono = resampler.resample_chunk(mono, last=not more)
            held += (np.clip(mono, -1, 32767 / 32768) * 32768).astype("<i2").tobytes()
            whole = len(held) - len(held) % FRAME_BYTES
            yield from (bytes(held[at : at + FRAME_BYTES]) for at in range(0, whole, FRAME_BYTES))
            del held[:whole]
    if held:
        yield bytes(held.ljust(FRAME_BYTES, b"\0"))


def _problem(path: Path) -> str:
    """What a RIFF reader would forgive and a bill should not: a file that is not there whole."""
    try:
        if path.is_dir():
            return "it is a folder; name a WAV file"
        with path.open("rb") as file:
            return _riff_problem(file.read(12), file, path.stat().st_size)
    except OSError as error:
        return f"{(error.strerror or str(error)).lower()}; name a WAV file that can be read"


def _riff_problem(head: bytes, file: BinaryIO, size: int) -> str:
    if not head:
        return "the file is empty; record it again"
    if len(head) < 12 or head[:4] not in (b"RIFF", b"RF64") or head[8:] != b"WAVE":
        return "not a WAV file (no RIFF header); convert it first, for example with ffmpeg"
    formatted, long_data = False, 0
    while len(header := file.read(8)) == 8:
        name, length = header[:4], int.from_bytes(header[4:], "little")
        here = file.tell()
        if name == b"ds64":  # RF64 keeps its sizes here, in 64 bits: of the file, then of the data
            long_data = int.from_bytes(file.read(16)[8:], "little")
        if name == b"data":
            return _data_problem(long_data or length, size - here, formatted=formatted)
        formatted = formatted or (name == b"fmt " and here + length <= size)
        file.seek(here + length + length % 2)
    return "its header is cut short: there is no data; record it again"


def _data_problem(length: int, held: int, *, formatted: bool) -> str:
    if not formatted:
        return "its header says nothing of the format; record it again"
    if length == 0 or held <= 0:
        return "it holds no samples; record it again"
    if length not in STREAMED_SIZES and held < length:
        return f"its sound is cut short ({held} of {length} bytes); record it again"
    return ""
