"""Draws turns as a waterfall: per stage, when it began, when its first output came, when it ended."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

COLOURS = {"asr": "#4477aa", "llm": "#ccbb44", "tts": "#228833"}
"""A palette that colour-blind readers can tell apart."""

LABEL_ROOM = 1.35
"""The scale goes this far beyond the last end, so that its label fits."""

STAGES_SHOWN = ("asr", "llm", "tts")


def draw(turns: Sequence[tuple[str, dict[str, Any]]], path: Path) -> None:
    """Writes a PNG of turns `(title, what ask --json prints)`, one panel each, all on one time scale."""
    import matplotlib as mpl  # noqa: PLC0415  slow to load, and only pictures need it

    mpl.use("Agg")
    from matplotlib import pyplot as plot  # noqa: PLC0415  after choosing a backend without a screen

    figure, panels = plot.subplots(len(turns), 1, figsize=(11, 0.8 + 1.7 * len(turns)), sharex=True, squeeze=False, layout="constrained")
    for panel, (title, told) in zip(panels[:, 0], turns, strict=True):
        _panel(panel, title, told)
    ends = [stage["started_ms"] + stage["duration_ms"] for _, told in turns for stage in told["stages"]]
    panels[-1, 0].set_xlim(0, max(ends, default=1) * LABEL_ROOM)
    panels[-1, 0].set_xlabel("milliseconds from the start of the turn; a white line marks a stage's first output")
    figure.savefig(path, dpi=110)
    plot.close(figure)


def _panel(panel: Any, title: str, told: dict[str, Any]) -> None:
    latency = told["latency"]["speech_end_to_first_audio_ms"]
    sound = "no sound" if latency is None else f"first sound {latency} ms after the last sample"
    panel.set_title(f"{title}: {_short(told['transcript'])}   ({sound})", loc="left", fontsize=9)
    for stage in told["stages"]:
        row = STAGES_SHOWN.index(stage["stage"])
        panel.barh(row, max(stage["duration_ms"], 1), left=stage["started_ms"], color=COLOURS[stage["stage"]], height=0.6)
        if stage["first_output_ms"] is not None:
            panel.plot([stage["first_output_ms"]] * 2, [row - 0.3, row + 0.3], color="white", linewidth=2)
        label = f"  {stage['duration_ms']} ms, {stage['billed_tokens'] or '?'} tokens, {stage['outcome']}"
        panel.text(stage["started_ms"] + stage["duration_ms"], row, label, va="center", fontsize=8)
    panel.set_yticks(range(len(STAGES_SHOWN)), STAGES_SHOWN)
    panel.set_ylim(len(STAGES_SHOWN) - 0.5, -0.5)
    panel.spines[["top", "right"]].set_visible(False)


def _short(text: str) -> str:
    text = text.replace("$", r"\$")  # matplotlib would read mathematics
    return f"\N{LEFT DOUBLE QUOTATION MARK}{text[:70]}{'…' if len(text) > 70 else ''}\N{RIGHT DOUBLE QUOTATION MARK}"
