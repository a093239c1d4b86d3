"""Tables that several pages have."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.stats import integrity_of, memory_of, ratio_between

if TYPE_CHECKING:
    from benchmarks.measure import Row
    from benchmarks.sections import Section
    from benchmarks.targets import Outcome

__all__ = ["section_table", "table_line", "target_lines"]


def table_line(cells: list[str]) -> str:
    """Return one row of a table."""
    return "| " + " | ".join(cells) + " |"


def target_lines(found: list[Outcome]) -> list[str]:
    """Return what every target came to, with its heading; nothing where there is none."""
    if not found:
        return []
    lines = ["## Targets", "", table_line(["in", "target", "got", ""]), table_line(["---"] * 4)]
    words = {True: "met", False: "**missed**"}
    lines += [table_line([each.section, each.text, each.got, words[each.met]]) for each in found]
    return [*lines, ""]


def section_table(section: Section) -> list[str]:
    """Return a section's table, and what is to be said below it."""
    with_floor = section.floor is not None
    with_integrity = any(integrity_of(row) for row in section.rows)
    head = ["contender", f"wall × {section.baseline}", f"CPU × {section.baseline}"]
    head += [f"wall × {section.floor}", f"CPU × {section.floor}"] if with_floor else []
    head += ["extra memory"] + (["integrity seen"] if with_integrity else [])
    lines = [table_line(head), table_line(["---"] * len(head))]
    for group, title in (("same job", ""), ("less", "less: "), ("floor", "floor: ")):
        for row in section.rows:
            if row.group == group:
                cells = _cells(section, row, title, with_floor)
                lines.append(table_line(cells + ([integrity_of(row)] if with_integrity else [])))
    counts = {len([result for result in row.rounds if result]) for row in section.rows if not row.reason}
    shown = f"{min(counts)}" if len(counts) == 1 else f"{min(counts, default=0)} to {max(counts, default=0)}"
    above = f" Times are those above a {section.above}." if section.above else ""
    written = f" Files were written to {section.downloads}." if section.downloads else ""
    commit = f" Commit {section.commit}." if section.commit else ""
    return [*lines, "", f"Rounds: {shown}.{above}{written}{commit}", *_profile(section)]


def _profile(section: Section) -> list[str]:
    """Say where the CPU time of an upload goes: each floor does one thing more than the one before."""
    sending = "reading, encrypting and sending" if "HTTPS" in section.name else "reading and sending"
    steps = [
        ("SHA-256 alone", "SHA-256 of the whole"),
        ("SHA-256 and CRC64NVME", "CRC64NVME of the parts"),
        ("by hand", f"{sending} by hand"),
        ("by hand, signed", "SHA-256 of the parts for the signature"),
        ("stepout", "everything else of stepout"),
    ]
    found = [(ratio_between(section, label, "SHA-256 alone", "cpu"), text) for label, text in steps]
    known = [(ratio.median, text) for ratio, text in found if ratio is not None]
    if section.suite != "upload" or len(known) < 4:
        return []
    before = [0.0, *(total for total, _ in known)]
    parts = [f"{text} {total - less:.2f}" for (total, text), less in zip(known, before, strict=False)]
    return ["", f"CPU time, where hashing the object once is 1: {', '.join(parts)}; together {known[-1][0]:.2f}."]


def _cells(section: Section, row: Row, title: str, with_floor: bool) -> list[str]:
    name = f"**{row.label}**" if row.label.startswith("stepout") else row.label
    if row.reason:
        return [title + name, " ".join(row.reason.split()).replace("|", "/"), "", *(["", ""] if with_floor else []), ""]
    ratios = [ratio_between(section, row.label, section.baseline, metric) for metric in ("wall", "cpu")]
    if with_floor:
        ratios += [ratio_between(section, row.label, section.floor, metric) for metric in ("wall", "cpu")]
    cells = [str(ratio) if ratio else "" for ratio in ratios]
    if with_floor:
        cells[2:] = [f"{ratio.median:.2f}" if ratio else "" for ratio in ratios[2:]]
    memory = memory_of(row)
    return [title + name, *cells, "" if memory is None else f"{memory:.0f} MiB"]
