"""A stream to or from the sound server that keeps sample and moment together: PulseAudio's own library, called directly.

The library is told which server by its argument, not by the environment: another thread that reads a variable while one is being set may
read freed memory. Only the cookie has no argument; nobody asks for it, and it is set once, before there are threads.

A stream that plays is told to wait for nothing (`prebuf` 0): what comes too late is lost, and what follows sounds when it should.
pacat can't be told that; after each gap it would lag for good.
"""

import ctypes
import os

from agent.errors import MissingPart, NoLink
from agent.sim.sound.server import SoundServer
from agent.values import RATE_HZ

LIBRARY = "libpulse-simple.so.0"

PLAY, RECORD = 1, 2
S16LE = 3
ANY = 0xFFFF_FFFF
"""The server chooses."""

os.environ.setdefault("PULSE_COOKIE", "/dev/zero")  # where there is none the library makes one in the user's home

PRIORITY = 1
"""Above all that computes: a sound card does not wait for a processor either. Without the right to it, as it is."""


class SampleSpec(ctypes.Structure):
    _fields_ = (("format", ctypes.c_int), ("rate", ctypes.c_uint32), ("channels", ctypes.c_uint8))


class BufferAttributes(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint32) for name in ("maxlength", "tlength", "prebuf", "minreq", "fragsize"))


class Stream:
    """s16le mono at RATE_HZ. For one thread; another may only ask it to end. Raises NoLink when the server is gone."""

    def __init__(self, server: SoundServer, device: str, *, plays: bool, latency_ms: int) -> None:
        try:
            self._library = ctypes.CDLL(LIBRARY)
        except OSError as error:
            raise MissingPart("PulseAudio's client library is not installed", "apt-get install libpulse0") from error
        self._library.pa_simple_new.restype = ctypes.c_void_p
        size = RATE_HZ * 2 * latency_ms // 1000
        spec = SampleSpec(S16LE, RATE_HZ, 1)
        attributes = BufferAttributes(ANY, size, 0, size // 4, size)
        code = ctypes.c_int(0)
        self._stream = self._library.pa_simple_new(
            *(server.address.encode(), b"voxmeter hall", PLAY if plays else RECORD, device.encode(), b"hall"),
            *(ctypes.byref(spec), None, ctypes.byref(attributes), ctypes.byref(code)),
        )
        self._problem(0 if self._stream else -1, code)

    def write(self, pcm: bytes) -> None:
        """Returns when there is room for more."""
        code = ctypes.c_int(0)
        done = self._library.pa_simple_write(ctypes.c_void_p(self._stream), pcm, ctypes.c_size_t(len(pcm)), ctypes.byref(code))
        self._problem(done, code)

    def read(self, size: int) -> bytes:
        """Returns when so many bytes are there."""
        block, code = ctypes.create_string_buffer(size), ctypes.c_int(0)
        done = self._library.pa_simple_read(ctypes.c_void_p(self._stream), block, ctypes.c_size_t(size), ctypes.byref(code))
        self._problem(done, code)
        return block.raw

    def close(self) -> None:
        self._library.pa_simple_free(ctypes.c_void_p(self._stream))

    def _problem(self, done: int, code: ctypes.c_int) -> None:
        if done < 0:
            self._library.pa_strerror.restype = ctypes.c_char_p
            raise NoLink(f"the sound server: {self._library.pa_strerror(code).decode()}", "is it still running?")


def hurry(task: int) -> None:
    """Gives a thread or a process of the simulation the priority that sound has on a robot."""
    try:
        os.sched_setscheduler(task, os.SCHED_RR, os.sched_param(PRIORITY))
    except PermissionError:
        return
