"""The grid's cells as ratios to the best peer of each."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.stats import Ratio, best_peer, memory_of, ratio_between, row_of

if TYPE_CHECKING:
    from benchmarks.sections import Section

__all__ = ["MINE", "Cell", "cells", "mean"]

MINE = ("stepout", "stepout, 64 MiB")


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        section: What was measured.
        operation: ``"upload"`` or ``"download"``.
        size: Bytes of the object.
        latency: Seconds.
        rate: Bytes per second.
        stalls: The share of requests that stalled.
        https: Whether it was measured over TLS.
        best: The fastest peer.
        memory: Its extra memory in MiB.
        ratios: Ours to it, by the names in ``MINE``.
    """

    section: Section
    operation: str
    size: int
    latency: float
    rate: float
    stalls: float
    https: bool
    best: str
    memory: float
    ratios: dict[str, Ratio]


def cells(sections: list[Section]) -> list[Cell]:
    """Return the cells among sections that have a peer to be compared with, in the order of a reader."""
    found = []
    for section in sections:
        best, what = best_peer(section), section.cell
        if best is None or what is None:
            continue
        pairs = {mine: ratio_between(section, mine, best, "wall") for mine in MINE}
        ratios = {mine: ratio for mine, ratio in pairs.items() if ratio is not None}
        memory = memory_of(row_of(section, best)) or 0
        where = what["latency"], what["rate"], what["stalls"], what.get("https", False)
        found.append(Cell(section, what["operation"], what["size"], *where, best, memory, ratios))
    return sorted(
        found, key=lambda each: (-each.size, each.operation, each.https, each.stalls, each.latency, each.rate)
    )


def mean(found: list[Cell], mine: str) -> float | None:
    """Return the geometric mean of the cells' medians, in which 2 and 0.5 balance."""
    medians = [cell.ratios[mine].median for cell in found if mine in cell.ratios]
    return statistics.geometric_mean(medians) if medians else None
