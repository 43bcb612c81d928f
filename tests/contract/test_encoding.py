"""Compression of batches: what is packed comes back, and nothing unpacks more than it may."""

import gzip
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.contract.batch import BATCH_BYTES_MAX, BatchTooBig
from agent.contract.encoding import GZIP, WORTH_BYTES_MIN, decoded, encoded
from agent.errors import BadInput

LIMIT = BATCH_BYTES_MAX


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
    for packed, encoding in ((bytes(size), ""), (gzip.compress(bytes(size)), GZIP)):
        if size > limit:
            with pytest.raises(BatchTooBig):
                decoded(packed, encoding, limit)
        else:
            assert decoded(packed, encoding, limit) == bytes(size)


def test_a_zip_bomb_is_not_unpacked() -> None:
    bomb = gzip.compress(bytes(100_000_000), 9)
    assert len(bomb) < 200_000
    tracemalloc.start()
    with pytest.raises(BatchTooBig, match="more than 65536 bytes"):
        decoded(bomb, GZIP, LIMIT)
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
        (b"x", "zstd", "'zstd' is not known; send gzip"),
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
