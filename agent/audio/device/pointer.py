"""Makes of a Python function what PortAudio can call, without memory that is writable and executable at once.

The bindings' own callbacks need such memory, and a hardened service has none (systemd's MemoryDenyWriteExecute=); those of ctypes
come out of trampolines that libffi brings along.
"""

import ctypes
from collections.abc import Callable
from typing import Any

from agent.audio.devices import Kind

INPUT_OVERFLOW, OUTPUT_UNDERFLOW = 0x2, 0x4
"""PaStreamCallbackFlags."""

CONTINUE, ABORT = 0, 2
"""PaStreamCallbackResult."""

SAMPLE_BYTES = 2


class Times(ctypes.Structure):
    """PaStreamCallbackTimeInfo: seconds by the stream's clock."""

    _fields_ = (("input", ctypes.c_double), ("now", ctypes.c_double), ("output", ctypes.c_double))


Called = Callable[[memoryview, int, Times, int], None]
"""(the samples' bytes, to be read or written, valid during the call; frames; times; flags)."""

PROTOTYPE = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_ulong, ctypes.POINTER(Times), ctypes.c_ulong, ctypes.c_void_p
)
"""PaStreamCallback."""


def pointer(kind: Kind, channels: int, called: Called) -> Any:
    """A function of PortAudio's form; whoever opens a stream with it keeps it. One that raises ends its stream, which is then healed."""

    def callback(heard: int | None, spoken: int | None, frames: int, times: Any, flags: int, _: object) -> int:
        address = (heard if kind == "input" else spoken) or 0
        try:
            block = (ctypes.c_char * (frames * channels * SAMPLE_BYTES)).from_address(address)
            called(memoryview(block).cast("B"), frames, times.contents, flags)
        except Exception:  # noqa: BLE001  nobody above could take it: the caller is a C library's thread
            return ABORT
        return CONTINUE

    return PROTOTYPE(callback)


def address_of(function: Any) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0
