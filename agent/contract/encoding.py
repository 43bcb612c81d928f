"""What compression a batch travels in, over MQTT and HTTPS alike: when it is worth it, and how much of it is ever unpacked.

Only gzip: zstd has no module in the standard library of every Python this runs on.
"""

import zlib

from agent.contract.batch import BatchTooBig
from agent.errors import BadInput

GZIP = "gzip"
PLAIN = ("", "identity")

GZIP_WINDOW = 31
"""zlib's word for a gzip stream with the largest window."""

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

    Raises BatchTooBig as soon as there are more, without unpacking the rest; BadInput for an encoding that isn't known, or for
    bytes that are no whole gzip stream.
    """
    name = encoding.strip().lower()
    if name in PLAIN:
        return _within(content, limit)
    if name != GZIP:
        raise BadInput(f"the encoding {encoding[:40]!r} is not known", f"send {GZIP}, or none")
    unpacker = zlib.decompressobj(GZIP_WINDOW)
    try:
        unpacked = _within(unpacker.decompress(content, limit + 1), limit)
    except zlib.error as error:
        raise BadInput(f"the content is not {GZIP}: {error}") from error
    if not unpacker.eof:
        raise BadInput(f"the {GZIP} stream is cut short")
    if unpacker.unused_data:
        raise BadInput(f"{len(unpacker.unused_data)} bytes follow the {GZIP} stream")
    return unpacked


def _within(content: bytes, limit: int) -> bytes:
    if len(content) > limit:
        raise BatchTooBig(f"the content has more than {limit} bytes before compression", "send half of it")
    return content
