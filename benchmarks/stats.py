"""From rounds to ratios: pair by pair within each round, then median, least and most."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.measure import Row
    from benchmarks.sections import Section

__all__ = ["Ratio", "best_peer", "integrity_of", "memory_of", "ratio_between", "row_of", "section_values"]

_KINDS = {
    "header_checksum": "checksum header",
    "trailer_checksum": "checksum trailer",
    "md5": "MD5",
    "signed_sha256": "signed SHA-256",
    "unchecked": "none",
}


@dataclass(frozen=True)
class Ratio:
    """A ratio of two contenders over all rounds that both finished."""

    median: float
    least: float
    most: float
    pairs: int

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.least:.2f}–{self.most:.2f})"


def _times(section: Section, row: Row, metric: str) -> list[float | None]:
    """One value a round; what a bare interpreter takes is subtracted where the section says so."""
    bare = row_of(section, section.above)
    found: list[float | None] = []
    for number, result in enumerate(row.rounds):
        base = bare.rounds[number] if bare and row is not bare and number < len(bare.rounds) else None
        if result is None or (bare is not None and row is not bare and base is None):
            found.append(None)
        else:
            found.append(max(result[metric] - (base[metric] if base else 0), 1e-6))
    return found


def ratio_between(section: Section, label: str, other: str | None, metric: str) -> Ratio | None:
    """Compare two rows round by round.

    Args:
        section: Holds both.
        label: Whose ratio it is.
        other: To whom.
        metric: ``"wall"`` or ``"cpu"``.

    Returns:
        ``None`` where one of them never finished.
    """
    row, base = row_of(section, label), row_of(section, other)
    if row is None or base is None or section.above in {label, other}:
        return None
    pairs = zip(_times(section, row, metric), _times(section, base, metric), strict=True)
    ratios = [mine / theirs for mine, theirs in pairs if mine is not None and theirs is not None]
    if not ratios:
        return None
    return Ratio(statistics.median(ratios), min(ratios), max(ratios), len(ratios))


def best_peer(section: Section) -> str | None:
    """Name the peer that did the same job fastest; whoever ran in one round only is not in the race."""
    ratios = {
        row.label: ratio
        for row in section.rows
        if row.group == "same job" and not row.label.startswith("stepout")
        if (ratio := ratio_between(section, row.label, section.baseline, "wall")) is not None
    }
    return min(ratios, key=lambda label: ratios[label].median, default=None)


def row_of(section: Section, label: str | None) -> Row | None:
    """Return the row of that name."""
    return next((row for row in section.rows if row.label == label), None)


def memory_of(row: Row | None) -> float | None:
    """Return the median of the extra memory, in MiB."""
    if row is None:
        return None
    known = [result["memory"] for result in row.rounds if result and result.get("memory") is not None]
    return statistics.median(known) / (1 << 20) if known else None


def integrity_of(row: Row) -> str:
    """Say what the server could hold the bodies against, as the sink saw it."""
    seen = [text for kind, text in _KINDS.items() if (row.counters or {}).get(kind)]
    return ", ".join(seen)


def section_values(section: Section) -> dict[str, Any]:
    """Return a section as JSON can hold it, absolute times included."""
    rows = []
    for row in section.rows:
        values: dict[str, Any] = {"label": row.label, "group": row.group, "rounds": row.rounds}
        if row.reason:
            values["reason"] = row.reason
        if row.counters:
            values["serverSaw"] = row.counters
        finished = [result for result in row.rounds if result]
        for metric in ("wall", "cpu") if finished else ():
            median = statistics.median(result[metric] for result in finished)
            values[f"{metric}Seconds"] = round(median, 4)
            if section.size:
                values[f"{metric}SecondsPerGiB"] = round(median / section.size * (1 << 30), 4)
            for name, other in (("baseline", section.baseline), ("floor", section.floor)):
                ratio = ratio_between(section, row.label, other, metric)
                if ratio:
                    values[f"{metric}To{name.capitalize()}"] = [
                        round(v, 3) for v in (ratio.median, ratio.least, ratio.most)
                    ]
        memory = memory_of(row)
        values["memoryMiB"] = None if memory is None else round(memory, 1)
        rows.append(values)
    return {
        "suite": section.suite, "name": section.name, "bytes": section.size, "baseline": section.baseline,
        "floor": section.floor, "above": section.above, "downloads": section.downloads, "commit": section.commit,
        **({"cell": section.cell} if section.cell else {}), **({"line": section.line} if section.line else {}),
        "rows": rows,
    }  # fmt: skip
