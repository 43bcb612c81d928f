"""Draws what `bench talk` measured: each first sound and each interruption as a point, with what the medians and tails should reach."""

from pathlib import Path
from typing import Any, NamedTuple

MEDIAN_COLOUR, TAIL_COLOUR = "#228833", "#aa3377"

SPREAD = 0.3
"""Half the height over which points of one row are spread, so that they can be told apart."""

GOLDEN = 0.618
"""Fractions of its multiples are spread evenly, whatever their number."""

TITLES = {
    "llm": "the model's own words",
    "ready": "FAQ entry or certain phrase",
    "faq": "of these, FAQ entries",
    "gave_way": "phrase instead of the model's words",
    "unknown": "admitted, or a person offered",
}


class Row(NamedTuple):
    """One distribution; a reach is None where nothing is promised."""

    title: str
    values: list[float]
    median: float | None
    tail: float | None
    median_max: float | None
    tail_max: float | None


def draw(told: dict[str, Any], path: Path) -> None:
    """Writes a PNG."""
    import matplotlib as mpl  # noqa: PLC0415  slow to load, and only pictures need it

    mpl.use("Agg")
    from matplotlib import pyplot as plot  # noqa: PLC0415  after choosing a backend without a screen

    figure, (above, below) = plot.subplots(2, 1, figsize=(11, 7.5), height_ratios=(5, 2.2), layout="constrained")
    machine = told["machine"]
    words = f"profile {told['profile']}, seed {told['seed']}, {machine['cores']} cores, load before {machine['load_at_start'][0]:.1f}"
    figure.suptitle(f"voxmeter bench talk: {words}")
    _panel(above, first_sounds(told), "milliseconds from the end of speech to the first sound at the loudspeaker")
    _panel(below, interruptions(told), "milliseconds from the onset of an interruption")
    figure.savefig(path, dpi=110)
    plot.close(figure)


def first_sounds(told: dict[str, Any]) -> list[Row]:
    """A row per group, with its reach where one is promised."""
    groups = told["latency"]["first_sound"]
    return [_row(title, groups[name]) for name, title in TITLES.items()]


def _row(title: str, group: dict[str, Any]) -> Row:
    return Row(title, group["each_ms"], group["median_ms"], group["p95_ms"], *group.get("reach_ms", (None, None)))


def interruptions(told: dict[str, Any]) -> list[Row]:
    """A row for the lowered voice, one for silence."""
    measured = told["barge_in"]
    parts = (("voice lowered", measured["ducked_ms"]), ("silent", measured["silent_ms"]))
    return [Row(title, part["each"], part["median"], part["p95"], None, part["reach_p95"]) for title, part in parts]


def _panel(panel: Any, rows: list[Row], axis: str) -> None:
    for at, row in enumerate(rows):
        heights = [at + SPREAD * (2 * (GOLDEN * number % 1) - 1) for number in range(len(row.values))]
        panel.scatter(row.values, heights, s=14, color="#4477aa", alpha=0.6, linewidths=0, zorder=3)
        for value, most, colour in ((row.median, row.median_max, MEDIAN_COLOUR), (row.tail, row.tail_max, TAIL_COLOUR)):
            if value is not None:
                panel.plot([value] * 2, [at - 0.4, at + 0.4], color=colour, linewidth=2.5)
            if most is not None:
                panel.plot([most] * 2, [at - 0.45, at + 0.45], color=colour, linewidth=1.5, linestyle=":")
    panel.set_yticks(range(len(rows)), [_label(row) for row in rows])
    panel.set_ylim(len(rows) - 0.5, -0.5)
    panel.set_xlim(left=0)
    panel.set_xlabel(axis)
    panel.grid(axis="x", alpha=0.3)
    panel.spines[["top", "right"]].set_visible(False)
    _legend(panel)


def _label(row: Row) -> str:
    if not row.values:
        return f"{row.title}\nnone"
    return f"{row.title}\n{len(row.values)}: median {row.median:.0f}, p95 {row.tail:.0f} ms"


def _legend(panel: Any) -> None:
    lines = [(MEDIAN_COLOUR, "-", "median"), (MEDIAN_COLOUR, ":", "its reach"), (TAIL_COLOUR, "-", "p95"), (TAIL_COLOUR, ":", "its reach")]
    for colour, style, name in lines:
        panel.plot([], [], color=colour, linestyle=style, linewidth=2, label=name)
    panel.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8, frameon=False)
