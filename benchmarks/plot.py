"""One picture: wall time of the large transfers as a ratio to boto3."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

from benchmarks.stats import ratio_between

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.sections import Section

__all__ = ["draw"]

OURS, PEER, INK, FLOOR = "#0b6e4f", "#b8c4cc", "#22313a", "#b3261e"


def draw(path: Path, sections: list[Section]) -> bool:
    """Draw the upload and download sections, or else whatever was measured; say whether there was anything."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    chosen = [section for section in sections if section.suite in {"upload", "download"}] or sections[:4]
    if not chosen:
        return False
    mpl.rcParams.update({"svg.hashsalt": "stepout", "font.size": 9, "axes.edgecolor": INK, "text.color": INK})
    columns = min(2, len(chosen))
    rows = -(-len(chosen) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(5.2 * columns, 3.3 * rows), squeeze=False)
    for axis, section in zip(axes.flat, chosen, strict=False):
        _panel(axis, section)
    for axis in list(axes.flat)[len(chosen) :]:
        axis.set_visible(False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None, "Creator": None})
    plt.close(figure)
    return True


def _panel(axis: Any, section: Section) -> None:
    found = [
        (row.label, ratio)
        for row in section.rows
        if row.group == "same job"
        and (ratio := ratio_between(section, row.label, section.baseline, "wall")) is not None
    ]
    found.sort(key=lambda pair: pair[1].median, reverse=True)
    names = [label for label, _ in found]
    medians = [ratio.median for _, ratio in found]
    spread = [
        [ratio.median - ratio.least for _, ratio in found],
        [ratio.most - ratio.median for _, ratio in found],
    ]
    colours = [OURS if name.startswith("stepout") else PEER for name in names]
    axis.barh(names, medians, color=colours, xerr=spread, error_kw={"ecolor": INK, "elinewidth": 0.8, "capsize": 2})
    for at, median in enumerate(medians):
        axis.text(0.02, at, f"{median:.2f}", va="center", color="white" if colours[at] == OURS else INK, fontsize=8)
    floor = ratio_between(section, section.floor, section.baseline, "wall") if section.floor else None
    if floor is not None:
        axis.axvline(floor.median, color=FLOOR, linewidth=1, linestyle="--")
        axis.text(floor.median, len(names) - 0.4, f" {section.floor}", color=FLOOR, fontsize=7, va="bottom")
    axis.set_title(f"{section.name}\nwall time ÷ {section.baseline}, same job", fontsize=9, loc="left", pad=12)
    axis.set_xlim(0, max([1.05, *(statistics.median([ratio.most]) for _, ratio in found)]) * 1.02)
    axis.spines[["top", "right"]].set_visible(False)
