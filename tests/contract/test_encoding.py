"""Compression of batches: what is packed comes back, and nothing unpacks more than it may."""

import contextlib
import gzip
import random
import tracemalloc
import zlib

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from agent.contract import encoding as encodings
from agent.contract.batch import BATCH_BYTES_MAX, BatchTooBig
from agent.contract.encoding import GZIP, WORTH_BYTES_MIN, ZSTD, ZSTD_WINDOW_BYTES_MAX, decoded, encoded
from agent.errors import BadInput

LIMIT = BATCH_BYTES_MAX


def wide() -> bytes:
    """Few bytes, for which the reader is to keep eight times the memory that we allow."""
    settings = zstandard.ZstdCompressionParameters(window_log=(ZSTD_WINDOW_BYTES_MAX * 8).bit_length() - 1, write_content_size=False)
    packer = zstandard.ZstdCompressor(compression_params=settings).compressobj()
    return packer.compress(b"small") + packer.flush()


@given(st.binary(max_size=300), st.integers(1, 40), st.integers(1, 19), st.booleans())
def test_what_others_packed_with_zstd_comes_back(piece: bytes, times: int, level: int, sized: bool) -> None:
    content = piece * times
    packer = zstandard.ZstdCompressor(level=level, write_content_size=sized, write_checksum=not sized)
    assert decoded(packer.compress(content), ZSTD, LIMIT) == content


@given(st.integers(0, 2**32), st.integers(1, 8))
def test_a_broken_zstd_stream_is_refused_or_comes_back_within_the_limit(seed: int, changes: int) -> None:
    dice = random.Random(seed)
    packed = bytearray(zstandard.compress(bytes(dice.choices(b"abcdef", k=2000))))
    for _ in range(changes):
        packed[dice.randrange(len(packed))] = dice.randrange(256)
    with contextlib.suppress(BadInput):  # BatchTooBig is one
        assert len(decoded(bytes(packed), ZSTD, 4000)) <= 4000


def test_where_zstd_is_not_installed_gzip_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encodings, "zstandard", None)
    with pytest.raises(BadInput, match="zstd can't be unpacked here; send gzip, or none"):
        decoded(zstandard.compress(b"x"), ZSTD, LIMIT)


@given(st.binary(max_size=300), st.integers(1, 40))
def test_what_was_packed_comes_back_and_is_never_longer(piece: bytes, times: int) -> None:
    content = piece * times
    packed, encoding = encoded(content)
    assert decoded(packed, encoding, LIMIT) == content
    assert len(packed) <= len(content)
    assert encoding in ("", GZIP)


def test_a_batch_is_packed_and_a_short_text_is_not() -> None:
    assert encoded(b"a" * WORTH_BYTES_MIN)[1] == GZIP
    assert encoded(b"a" * (WORTH_BYTES_MIN - 1)) == (b"a" * (WORTH_BYTES_MIN - 1), "")


def test_what_grows_by_packing_goes_as_it_is() -> None:
    noise = zlib.compress(bytes(range(256)) * 3) * 20
    assert encoded(noise)[1] == "" or len(encoded(noise)[0]) < len(noise)


@given(st.integers(0, 2000), st.integers(0, 2000))
def test_the_limit_is_exact_packed_or_not(size: int, limit: int) -> None:
    for packed, encoding in ((bytes(size), ""), (gzip.compress(bytes(size)), GZIP), (zstandard.compress(bytes(size)), ZSTD)):
        if size > limit:
            with pytest.raises(BatchTooBig):
                decoded(packed, encoding, limit)
        else:
            assert decoded(packed, encoding, limit) == bytes(size)


@pytest.mark.parametrize("encoding", [GZIP, ZSTD])
def test_a_zip_bomb_is_not_unpacked(encoding: str) -> None:
    content = bytes(100_000_000)
    bomb = gzip.compress(content, 9) if encoding == GZIP else zstandard.compress(content)
    assert len(bomb) < 200_000
    tracemalloc.start()
    with pytest.raises(BatchTooBig, match="more than 65536 bytes"):
        decoded(bomb, encoding, LIMIT)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 1_000_000


@pytest.mark.parametrize(
    ("content", "encoding", "said"),
    [
        (b"no gzip", GZIP, "not gzip"),
        (b"", GZIP, "cut short"),
        (gzip.compress(b"whole")[:-3], GZIP, "cut short"),
        (gzip.compress(b"one") + b"more", GZIP, "4 bytes follow"),
        (gzip.compress(b"one")[:-8] + bytes(8), GZIP, "not gzip"),
        (b"no zstd", ZSTD, "not zstd"),
        (b"", ZSTD, "cut short"),
        (zstandard.compress(b"whole" * 50)[:-3], ZSTD, "cut short|not zstd"),
        (zstandard.compress(b"one") + b"more", ZSTD, "4 bytes follow"),
        (wide(), ZSTD, "not zstd"),
        (b"x", "br", "'br' is not known; send gzip"),
        (b"x", "gzip, gzip", "not known"),
        (zlib.compress(b"x"), "deflate", "not known"),
    ],
)
def test_anything_else_is_refused_in_one_line(content: bytes, encoding: str, said: str) -> None:
    with pytest.raises(BadInput, match=said) as refused:
        decoded(content, encoding, LIMIT)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("encoding", ["", "identity", " Identity "])
def test_no_encoding_is_one_too(encoding: str) -> None:
    assert decoded(b"plain", encoding, LIMIT) == b"plain"


def test_the_name_of_an_encoding_is_taken_as_http_writes_it() -> None:
    assert decoded(gzip.compress(b"x"), " GZIP ", LIMIT) == b"x"
