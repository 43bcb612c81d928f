"""Draws turns as a waterfall: per stage, when it began, when its first output came, when it ended.

As a program it draws turns from its standard input, `[[title, turn], …]` as JSON, to the path in its argument.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

COLOURS = {"asr": "#4477aa", "llm": "#ccbb44", "tts": "#228833"}
"""A palette that colour-blind readers can tell apart."""

LABEL_ROOM = 1.35
"""The scale goes this far beyond the last end, so that its label fits."""

STAGES_SHOWN = ("asr", "llm", "tts")

FREE = ("faq", "cache")
"""Engines that are none: they take no time, and are on the books when the answer has sounded."""

PALE = 0.35
"""Opacity of an attempt that was superseded."""

MARKS = {"speech_end_ms": ":", "first_sound_ms": "-"}
"""Moments of a live turn, in milliseconds from its start: the customer had finished, the answer began to sound; and their lines."""

AXIS = "milliseconds from the start of the turn; a white line marks a stage's first output"

LIVE_AXIS = f"{AXIS}; dotted: the customer has finished; solid: first sound; pale: superseded"


def draw(turns: Sequence[tuple[str, dict[str, Any]]], path: Path) -> None:
    """Writes a PNG of turns `(title, what ask --json prints)`, one panel each, all on one time scale."""
    import matplotlib as mpl  # noqa: PLC0415  slow to load, and only pictures need it

    mpl.use("Agg")
    from matplotlib import pyplot as plot  # noqa: PLC0415  after choosing a backend without a screen

    figure, panels = plot.subplots(len(turns), 1, figsize=(11, 0.8 + 1.7 * len(turns)), sharex=True, squeeze=False, layout="constrained")
    for panel, (title, told) in zip(panels[:, 0], turns, strict=True):
        _panel(panel, title, told)
    ends = [stage["started_ms"] + stage["duration_ms"] for _, told in turns for stage in told["stages"] if stage["engine"] not in FREE]
    ends += [at for _, told in turns for at in told.get("marks", {}).values()]
    panels[-1, 0].set_xlim(0, max(ends, default=1) * LABEL_ROOM)
    panels[-1, 0].set_xlabel(LIVE_AXIS if any("marks" in told for _, told in turns) else AXIS)
    figure.savefig(path, dpi=110)
    plot.close(figure)


def _panel(panel: Any, title: str, told: dict[str, Any]) -> None:
    latency = told["latency"]["speech_end_to_first_audio_ms"]
    sound = "no sound" if latency is None else f"first sound {latency} ms after the last sample"
    panel.set_title(f"{title}{_short(told['transcript'])}   ({sound})", loc="left", fontsize=9)
    for stage in told["stages"]:
        if stage["engine"] in FREE:
            panel.text(0, STAGES_SHOWN.index(stage["stage"]), f"  {stage['engine']}, {stage['outcome']}", va="center", fontsize=8)
            continue
        row, superseded = STAGES_SHOWN.index(stage["stage"]), stage["outcome"] == "superseded"
        colour, opacity = COLOURS[stage["stage"]], PALE if superseded else 1
        panel.barh(row, max(stage["duration_ms"], 1), left=stage["started_ms"], color=colour, alpha=opacity, height=0.6)
        if stage["first_output_ms"] is not None:
            panel.plot([stage["first_output_ms"]] * 2, [row - 0.3, row + 0.3], color="white", linewidth=2)
        if superseded:
            continue  # its label would lie under the next attempt's bar
        label = f"  {stage['duration_ms']} ms, {stage['billed_tokens'] or '?'} tokens, {stage['outcome']}"
        panel.text(stage["started_ms"] + stage["duration_ms"], row, label, va="center", fontsize=8)
    for name, at in told.get("marks", {}).items():
        panel.axvline(at, color="black", linewidth=1, linestyle=MARKS[name])
    panel.set_yticks(range(len(STAGES_SHOWN)), STAGES_SHOWN)
    panel.set_ylim(len(STAGES_SHOWN) - 0.5, -0.5)
    panel.spines[["top", "right"]].set_visible(False)


def _short(text: str) -> str:
    """Nothing of a turn whose words are not given."""
    if not text:
        return ""
    text = text.replace("$", r"\$")  # matplotlib would read mathematics
    return f": \N{LEFT DOUBLE QUOTATION MARK}{text[:70]}{'…' if len(text) > 70 else ''}\N{RIGHT DOUBLE QUOTATION MARK}"


if __name__ == "__main__":
    draw(json.load(sys.stdin), Path(sys.argv[1]))
