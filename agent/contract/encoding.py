"""What compression a batch travels in, over MQTT and HTTPS alike: when it is worth it, and how much of it is ever unpacked.

Sent is only gzip: zstd has no module in the standard library of every Python this runs on. It is taken where its library is installed,
which comes with the backend.
"""

import zlib
from collections.abc import Callable

from agent.contract.batch import BatchTooBig
from agent.errors import BadInput

try:
    import zstandard
except ImportError:  # on a robot
    zstandard = None  # type: ignore[assignment]  # the way a module that may be missing is typed

GZIP = "gzip"
ZSTD = "zstd"
PLAIN = ("", "identity")

GZIP_WINDOW = 31
"""zlib's word for a gzip stream with the largest window."""

ZSTD_WINDOW_BYTES_MAX = 8 * 1024 * 1024
"""What RFC 9659 allows over HTTP; a stream that asks for more memory is refused."""

LEVEL = 1
"""The quickest: it runs for each batch on a robot's processor, and higher levels save little of base64."""

WORTH_BYTES_MIN = 512
"""Less fits into one packet either way."""


def encoded(content: bytes) -> tuple[bytes, str]:
    """(bytes to send, their encoding): `gzip` where that makes them smaller, else the content itself and ``""``."""
    if len(content) < WORTH_BYTES_MIN:
        return content, ""
    packer = zlib.compressobj(LEVEL, zlib.DEFLATED, GZIP_WINDOW)
    packed = packer.compress(content) + packer.flush()
    return (packed, GZIP) if len(packed) < len(content) else (content, "")


def decoded(content: bytes, encoding: str, limit: int) -> bytes:
    """The content as it was before `encoded`, at most `limit` bytes of it.

    Raises BatchTooBig as soon as there are more, without unpacking the rest; BadInput for an encoding that isn't known here, or for
    bytes that are no whole stream of it.
    """
    name = encoding.strip().lower()
    if name in PLAIN:
        return _within(content, limit)
    if name == ZSTD and zstandard is None:
        raise BadInput(f"{ZSTD} can't be unpacked here", f"send {GZIP}, or none")
    if name not in UNPACKING:
        raise BadInput(f"the encoding {encoding[:40]!r} is not known", f"send {GZIP}, or none")
    unpacked, whole, more = UNPACKING[name](content, limit)
    if not whole:
        raise BadInput(f"the {name} stream is cut short")
    if more:
        raise BadInput(f"{more} bytes follow the {name} stream")
    return unpacked


def _gzip(content: bytes, limit: int) -> tuple[bytes, bool, int]:
    unpacker = zlib.decompressobj(GZIP_WINDOW)
    try:
        unpacked = _within(unpacker.decompress(content, limit + 1), limit)
    except zlib.error as error:
        raise BadInput(f"the content is not {GZIP}: {error}") from error
    return unpacked, unpacker.eof, len(unpacker.unused_data)


def _zstd(content: bytes, limit: int) -> tuple[bytes, bool, int]:
    """The reader knows a limit but not how the stream ends; the other knows no limit. So the first goes ahead."""
    unpacking = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_BYTES_MAX)
    try:
        with unpacking.stream_reader(content) as reader:
            _within(reader.read(limit + 1), limit)
        unpacker = unpacking.decompressobj()
        unpacked = unpacker.decompress(content)
    except zstandard.ZstdError as error:
        raise BadInput(f"the content is not {ZSTD}: {error}") from error
    return unpacked, unpacker.eof, len(unpacker.unused_data)


UNPACKING: dict[str, Callable[[bytes, int], tuple[bytes, bool, int]]] = {GZIP: _gzip, ZSTD: _zstd}
"""By encoding: (at most `limit` bytes, whether the stream is whole, bytes that follow it). Raises BatchTooBig or BadInput."""


def _within(content: bytes, limit: int) -> bytes:
    if len(content) > limit:
        raise BatchTooBig(f"the content has more than {limit} bytes before compression", "send half of it")
    return content
