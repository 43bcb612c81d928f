"""What is known of the time of the records of a batch: anchors of their boots, few enough to leave room for the records."""

import sqlite3
from collections import defaultdict
from typing import Any

BESIDE = 3
"""Anchors before and after a boot's records: the nearest place them, the others show whether the nearest can be believed."""

ANCHORS_MAX = 200
"""In one batch, 25 KiB: a robot that runs for months makes an anchor every ten minutes, which would leave no room for records."""

ANCHORS = "SELECT boottimems, time, quality FROM anchor WHERE bootid = ? AND boottimems"
BEFORE = f"{ANCHORS} <= ? ORDER BY boottimems DESC LIMIT ?"
BETWEEN = f"{ANCHORS} > ? AND boottimems < ? ORDER BY boottimems"
AFTER = f"{ANCHORS} > ? AND boottimems >= ? ORDER BY boottimems LIMIT ?"


def of_rows(connection: sqlite3.Connection, rows: list[Any]) -> list[dict[str, str]]:
    """The anchors between the records of these rows and some on either side, thinned out evenly, as a batch holds them."""
    boots: defaultdict[str, list[int]] = defaultdict(list)
    for row in rows:
        boot, at = moment(row)
        boots[boot].append(at)
    share = ANCHORS_MAX // len(boots) - 2 * BESIDE
    found = [(boot, *anchor) for boot, times in sorted(boots.items()) for anchor in _around(connection, boot, times, share)]
    return [{"bootid": boot, "boottimems": str(at), "time": time, "quality": quality} for boot, at, time, quality in found]


def moment(row: Any) -> tuple[str, int]:
    """Boot and boot time of the record in a row, whose last column is its decoded body."""
    record = row[5]
    return record["bootid"], int(record["boottimems"])


def _around(connection: sqlite3.Connection, boot: str, times: list[int], share: int) -> list[Any]:
    """Anchors of a boot by boot time, of those between the first and the last of `times` at most `share`."""
    begin, end = min(times), max(times)
    before = connection.execute(BEFORE, (boot, begin, BESIDE)).fetchall()[::-1]
    between = connection.execute(BETWEEN, (boot, begin, end)).fetchall()
    after = connection.execute(AFTER, (boot, begin, end, BESIDE)).fetchall()
    kept = min(share, len(between))
    return [*before, *(between[index * len(between) // kept] for index in range(kept)), *after]
