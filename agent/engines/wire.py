"""The frames between an engine's process and ours: a length, then a pickle. Both ends are this package, started by itself."""

import pickle
import struct
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

if TYPE_CHECKING:
    from asyncio import StreamReader  # whose import is 6 MB that an engine's process has no use for

FRAME_BYTES_MAX = 64 * 1024 * 1024
"""Far above any piece of sound; a longer frame means the stream is out of step."""

HEADER = struct.Struct("!I")

Frame: TypeAlias = tuple[Any, ...]
"""To the child: ("settings", s), then ("open" | "finish" | "cancel", call) and ("item", call, x).
From it: ("ready",), then ("step", call, output, usage), ("took", call, items), and ("end", call) or ("failed", call, message, todo);
call 0 is the start."""


def pack(frame: Frame) -> bytes:
    body = pickle.dumps(frame, protocol=pickle.HIGHEST_PROTOCOL)
    return HEADER.pack(len(body)) + body


async def read(stream: "StreamReader") -> Frame | None:
    """The next frame, or None where the other end is gone."""
    try:
        (length,) = HEADER.unpack(await stream.readexactly(HEADER.size))
        return _decode(await stream.readexactly(length)) if length <= FRAME_BYTES_MAX else None
    except (EOFError, ConnectionError):  # IncompleteReadError is an EOFError
        return None


def receive(stream: BinaryIO) -> Frame | None:
    """The same for a process that blocks."""
    header = stream.read(HEADER.size)
    length = HEADER.unpack(header)[0] if len(header) == HEADER.size else 0
    body = stream.read(length)
    return _decode(body) if length and len(body) == length else None


def _decode(body: bytes) -> Frame:
    frame: Frame = pickle.loads(body)  # noqa: S301  a socket pair that only our own child holds
    return frame
