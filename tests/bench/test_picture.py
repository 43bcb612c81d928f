"""The picture of a live conversation's figures."""

from pathlib import Path
from typing import Any

from agent.bench import picture
from agent.bench.talk import latency

PNG = b"\x89PNG"


def told() -> dict[str, Any]:
    figures = latency.told([])
    figures["first_sound"]["faq"] |= {"each_ms": [200, 260, 330], "median_ms": 260.0, "p95_ms": 330.0}
    part = {"each": [40, 60], "median": 50.0, "p95": 60.0, "reach_p95": 100}
    barge_in = {"ducked_ms": part, "silent_ms": part | {"each": [], "median": None, "p95": None, "reach_p95": 300}}
    return {"profile": "hotel", "seed": 1, "machine": {"cores": 2, "load_at_start": [0.1]}, "latency": figures, "barge_in": barge_in}


def test_a_reach_is_drawn_where_one_is_promised() -> None:
    rows = {row.title: row for row in picture.first_sounds(told())}
    ready, entries = rows["FAQ entry or certain phrase"], rows["of these, FAQ entries"]
    assert (ready.median_max, ready.tail_max) == (350, 600)
    assert (entries.values, entries.tail_max) == ([200, 260, 330], None)
    assert [row.tail_max for row in picture.interruptions(told())] == [100, 300]


def test_groups_without_answers_can_be_drawn(tmp_path: Path) -> None:
    picture.draw(told(), tmp_path / "talk.png")
    assert (tmp_path / "talk.png").read_bytes().startswith(PNG)
