"""What an engine's process does for its memory."""

import mmap
import re
from pathlib import Path

from agent.engines.child import map_whole

MB = 1 << 20


def resident_kb(path: Path) -> int:
    """Of what this process has mapped of a file."""
    told = Path("/proc/self/smaps").read_text()
    (part,) = re.findall(rf"{re.escape(str(path))}\n(?:[A-Z].*\n)*?Rss: +(\d+) kB", told)
    return int(part)


def test_weights_that_are_mapped_are_there_before_anybody_asks_and_nothing_else_is(tmp_path: Path) -> None:
    weights, other = tmp_path / "model" / "model.weights", tmp_path / "other"
    weights.parent.mkdir()
    for path in (weights, other):
        path.write_bytes(bytes(8 * MB))
    with weights.open("rb") as held, other.open("rb") as held_too:
        maps = [mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) for file in (held, held_too)]
        assert resident_kb(weights) < 1024
        map_whole([weights.with_name("model.onnx")])
        assert resident_kb(weights) == 8 * 1024
        assert resident_kb(other) < 1024
        for one in maps:
            one.close()
