"""Tells a log that a power cut tore at its end from one that was changed in the middle. Format: sqlite.org/fileformat2."""

from collections import Counter
from pathlib import Path
from typing import Literal

LOG_HEADER = 32

FRAME_HEADER = 24

BYTE_ORDERS: dict[int, Literal["little", "big"]] = {0x377F0682: "little", 0x377F0683: "big"}
"""Of the words that a log's checksums add up, by the first word of its head."""

ROUNDS_MAX = 2**16
"""Between a head and frames that are still of use: a head that never reaches the disk is not lost so often in a row."""

Frame = tuple[int, int, bytes]
"""(number of its page, pages in the file if it ends a transaction else 0, its salts)."""


def is_cut_inside(log: bytes, frames_read: int, page_size: int, path: Path) -> bool:
    """Whether a log goes on after the frame at which SQLite stopped reading it, with what only later commits can have written.

    At a power cut one transaction is under way, so after the first bad frame there is at most one commit. Two mean that a frame
    which was on the disk has changed. `frames_read`: what `PRAGMA wal_checkpoint` says the log holds. `path`: the file it belongs to.
    """
    frames = _frames(log, page_size)
    if frames_read:
        return _transactions([frame for frame in frames[frames_read:] if _near(frame[2], log[16:24])]) >= 2
    # Not even the first frame was read. Under a whole head an earlier round does not count: it was in the file before the head was
    # written, and the frames of the first commit lie among it in pieces. Else the head may be what has changed. Left of an earlier
    # round, under a head that was being written when the power went, looks the same; but that is in the file.
    head = log[:LOG_HEADER]
    rounds = [salts for _, _, salts in frames[:2] if not (_is_whole(head) and _is_earlier(salts, head[16:24]))]
    return any(_is_news(log, frames, page_size, salts, path) for salts in rounds)


def _is_earlier(salts: bytes, head: bytes) -> bool:
    """Of a round before that of the head: SQLite adds one to the first salt at each. A head may also be lost, and the old one stand."""
    ahead = (int.from_bytes(salts[:4], "big") - int.from_bytes(head[:4], "big")) % 2**32
    return not _near(salts, head) and ahead >= ROUNDS_MAX


def _is_whole(head: bytes) -> bool:
    """Whether the checksum of a log's head is right."""
    order = BYTE_ORDERS.get(int.from_bytes(head[:4], "big"))
    if order is None:
        return False
    first = second = 0
    for at in range(0, 24, 8):
        first = (first + int.from_bytes(head[at : at + 4], order) + second) % 2**32
        second = (second + int.from_bytes(head[at + 4 : at + 8], order) + first) % 2**32
    return head[24:] == first.to_bytes(4, "big") + second.to_bytes(4, "big")


def _near(one: bytes, other: bytes) -> bool:
    """Whether salts are the same but for a changed byte. Those of an earlier round differ in five."""
    return sum(left != right for left, right in zip(one, other, strict=False)) <= 1


def _transactions(frames: list[Frame]) -> int:
    """How many there are at least: each ends with a commit, and none writes a page twice."""
    pages = [page for page, _, _ in frames if page]  # in a torn frame it is none
    return max(sum(commit > 0 for _, commit, _ in frames), max(Counter(pages).values(), default=0))


def _frames(log: bytes, page_size: int) -> list[Frame]:
    step = page_size + FRAME_HEADER
    starts = range(LOG_HEADER, len(log) - step + 1, step)
    number = int.from_bytes
    return [(number(log[at : at + 4], "big"), number(log[at + 4 : at + 8], "big"), log[at + 8 : at + 16]) for at in starts]


def _is_news(log: bytes, frames: list[Frame], page_size: int, salts: bytes, path: Path) -> bool:
    """Whether two commits or more of one round of the log left pages that are not in the file."""
    commits = [place for place, frame in enumerate(frames) if frame[1] and frame[2] == salts]
    if not commits or _transactions([frame for frame in frames if frame[2] == salts]) < 2:
        return False
    last = {frame[0]: place for place, frame in enumerate(frames[: commits[-1] + 1]) if frame[2] == salts}
    pages = frames[commits[-1]][1]
    with path.open("rb") as file:
        for page, place in last.items():
            if not 0 < page <= pages:  # torn: nothing was ever written there
                continue
            file.seek((page - 1) * page_size)
            begin = LOG_HEADER + place * (page_size + FRAME_HEADER) + FRAME_HEADER
            if file.read(page_size) != log[begin : begin + page_size]:
                return True
    return False
