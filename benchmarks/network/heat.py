"""Heat maps: time relative to the best peer, over latency and rate."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from benchmarks.network.grid import MINE, Cell, cells
from benchmarks.sections import human

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.sections import Section

__all__ = ["draw"]

INK = "#22313a"
FAR = math.log(1.5)
"""Ratios beyond 1.5 or below 1/1.5 are as dark as it gets."""
DARK = 0.7 * FAR


def draw(path: Path, sections: list[Section]) -> bool:
    """Draw a panel for each direction, size and memory; say whether there was anything."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    found = cells(sections)
    rows = _rows(found)
    if not rows:
        return False
    mpl.rcParams.update({"svg.hashsalt": "stepout", "font.size": 8, "axes.edgecolor": INK, "text.color": INK})
    figure, axes = plt.subplots(len(rows), 4, figsize=(12.5, 2.7 * len(rows)), squeeze=False)
    for line, (words, chosen) in zip(axes, rows, strict=True):
        panels = [(operation, mine) for operation in ("upload", "download") for mine in MINE]
        for axis, (operation, mine) in zip(line, panels, strict=True):
            _panel(axis, [cell for cell in chosen if cell.operation == operation and mine in cell.ratios], mine)
            axis.set_title(f"{operation} {words}\n{mine} ÷ best peer", fontsize=8, loc="left")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None, "Creator": None})
    plt.close(figure)
    return True


def _rows(found: list[Cell]) -> list[tuple[str, list[Cell]]]:
    kinds = sorted({(cell.https, cell.stalls, -cell.size) for cell in found})
    return [
        (
            human(-size) + (", HTTPS" if https else "") + (f", {100 * stalls:g} % stall" if stalls else ""),
            [cell for cell in found if (cell.https, cell.stalls, -cell.size) == (https, stalls, size)],
        )
        for https, stalls, size in kinds
    ]


def _panel(axis: Any, chosen: list[Cell], mine: str) -> None:
    latencies = sorted({cell.latency for cell in chosen})
    rates = sorted({cell.rate for cell in chosen})
    grid = [[math.nan] * len(rates) for _ in latencies]
    for cell in chosen:
        row, column = latencies.index(cell.latency), rates.index(cell.rate)
        ratio = cell.ratios[mine].median
        grid[row][column] = math.log(ratio)
        ink = "white" if abs(grid[row][column]) > DARK else INK
        words = f"{ratio:.2f}\n{cell.best.partition(',')[0]}"
        axis.text(column, row, words, ha="center", va="center", fontsize=6.5, color=ink)
    if chosen:
        axis.imshow(grid, cmap="RdYlGn_r", vmin=-FAR, vmax=FAR, aspect="auto")
    axis.set_xticks(range(len(rates)), [f"{rate / 1e6:g} MB/s" for rate in rates])
    axis.set_yticks(range(len(latencies)), [f"{1000 * latency:g} ms" for latency in latencies])
    axis.tick_params(length=0)
