"""Charts as SVG, made by hand: percentages where they must not be stretched, classes where the style colours them.

Foreign text gets in through ``Markup.format`` alone, which escapes it, after ``shown`` has made it visible.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from markupsafe import Markup

from stepout.page.words import count, duration, shortened, state
from stepout.schemas.text.foreign_text import shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepout.page.model import ChildCell, ColumnSummary
    from stepout.page.rendering.children import CellRun, Field
    from stepout.page.rendering.lineage import LineageRow
    from stepout.page.rendering.timeline import Bar, CrowdRow, Timeline

_LEAST_WIDTH: Final = 0.35
"""Per cent: what took no time is still seen."""
_NAME: Final = 80
_EDGE: Final = 6.0
_RAIL_WIDTH: Final = 20
_LABEL_EVERY: Final = 10
_BIG_FIELD: Final = 30

HATCH: Final = Markup(
    '<svg class="defs" width="0" height="0" aria-hidden="true" focusable="false"><defs>'
    '<pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    '<rect class="hatch-ground" width="6" height="6"/><rect class="hatch-line" width="2.5" height="6"/></pattern>'
    "</defs></svg>"
)
"""Patterns that the charts of a page share: once in the page, before the first chart."""

_ICONS: Final = {
    "good": "M6.6 11.4 3.2 8l1.1-1.1 2.3 2.3 5.1-5.1L12.8 5.2z",
    "bad": "M4.6 3.5 8 6.9l3.4-3.4 1.1 1.1L9.1 8l3.4 3.4-1.1 1.1L8 9.1l-3.4 3.4-1.1-1.1L6.9 8 3.5 4.6z",
    "odd": "M7.2 3.5h1.6v5.5H7.2zM7.2 10.7h1.6v1.6H7.2z",
    "busy": "M7.2 3.5h1.6v4.2l3 1.8-.8 1.3-3.8-2.3z",
}


def icon(tone: str) -> Markup:
    """Return the sign of a tone, so that colour is not the only one."""
    return Markup(
        '<svg class="icon" viewBox="0 0 16 16" width="16" height="16" aria-hidden="true" focusable="false">'
        '<circle class="disc" cx="8" cy="8" r="8"/><path class="sign" d="{}"/></svg>'
    ).format(_ICONS[tone])


def _titled(title: str, description: str = "") -> Markup:
    text = Markup("<title>{}</title>").format(shown(title, None))
    return text + Markup("<desc>{}</desc>").format(shown(description, None)) if description else text


def _grid(timeline: Timeline) -> Markup:
    line = Markup('<line class="grid" x1="{0}%" x2="{0}%" y1="0" y2="100%"/>')
    redrive = Markup('<line class="redrive" x1="{0}%" x2="{0}%" y1="0" y2="100%"><title>redriven</title></line>')
    lines = [line.format(_number(place)) for place, _ in timeline.ticks]
    return Markup("").join([*lines, *(redrive.format(_number(place)) for place in timeline.redrives)])


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def axis(timeline: Timeline) -> Markup:
    """Return the marks of the time axis, in seconds since the execution began."""
    labels = [
        Markup('<text class="tick" x="{}%" y="12" text-anchor="{}">{}</text>').format(
            _number(place),
            "start" if place < _EDGE else "end" if place > 100 - _EDGE else "middle",
            duration(seconds).replace(".0 ", " ") if seconds else "0",
        )
        for place, seconds in timeline.ticks
    ]
    return Markup('<svg class="axis" width="100%" height="16" aria-hidden="true" focusable="false">{}</svg>').format(
        Markup("").join(labels)
    )


def bars(row_bars: Sequence[Bar], timeline: Timeline, says: str) -> Markup:
    """Return a row's bars.

    Args:
        row_bars: The bars.
        timeline: Whose axis they share.
        says: What they show, as a sentence.
    """
    drawn = Markup("").join(_bar(bar) for bar in row_bars)
    return Markup('<svg class="bars" width="100%" height="22" role="img">{}{}{}</svg>').format(
        _titled(says), _grid(timeline), drawn
    )


def _bar(bar: Bar) -> Markup:
    if bar.kind in {"waiting", "unknown"} and not bar.width and not (bar.failed or bar.stopped):
        return Markup("")
    width = max(bar.width, _LEAST_WIDTH)
    start = min(bar.start, 100 - width)
    if bar.kind == "between":
        line = Markup('<line class="bar-between" x1="{}%" x2="{}%" y1="11" y2="11"><title>{}</title></line>')
        return line.format(_number(start), _number(start + width), shown(bar.says, None))
    top, height, rounding = (7, 8, 2) if bar.kind == "inside" else (3, 16, 3)
    text = Markup(
        '<rect class="bar-{}{}" x="{}%" y="{}" width="{}%" height="{}" rx="{}"><title>{}</title></rect>'
    ).format(
        bar.kind,
        " failed" if bar.failed else "",
        _number(start),
        top,
        _number(width),
        height,
        rounding,
        shown(bar.says, None),
    )
    if not bar.failed and not bar.stopped:
        return text
    at = _number(min(max(start + width, 1.5), 98.5))
    if bar.stopped:
        mark = Markup(
            '<svg class="stop" x="{}%" y="3" width="16" height="16" overflow="visible">'
            '<rect class="stop-sign" x="-6" y="2" width="12" height="12" rx="2"/></svg>'
        )
        return text + mark.format(at)
    mark = Markup(
        '<svg class="cross" x="{0}%" y="3" width="16" height="16" overflow="visible">'
        '<circle class="cross-disc" cx="0" cy="8" r="8"/><path class="cross-sign" d="M-3-3 3 3M3-3-3 3" '
        'transform="translate(0 8)"/></svg>'
    ).format(at)
    return text + mark


def crowd(row: CrowdRow, timeline: Timeline) -> Markup:
    """Return how many visits of a state waited and worked at each time."""
    height = 44
    scale = (height - 6) / max(row.most, 1)
    both = [a + b for a, b in zip(row.waiting, row.working, strict=True)]
    says = (
        f"{count(row.visits, 'visit')} of {shortened(row.name, _NAME)}: at most {row.most:,} at once, "
        f"{row.failed:,} failed"
    )
    area = Markup(
        '<svg x="0" y="0" width="100%" height="{}" viewBox="0 0 {} {}" preserveAspectRatio="none">'
        '<path class="area-waiting" d="{}"/><path class="area-working" d="{}"/></svg>'
    ).format(height, len(both), height, _area(both, scale, height), _area(row.working, scale, height))
    ticks = Markup("").join(
        Markup('<rect class="fail-tick" x="{}%" y="{}" width="2" height="6"/>').format(
            _number(min(place, 99.6)), height - 6
        )
        for place in row.failed_at
    )
    return Markup('<svg class="bars" width="100%" height="{}" role="img">{}{}{}{}</svg>').format(
        height, _titled(says), _grid(timeline), area, ticks
    )


def _area(values: Sequence[int], scale: float, height: int) -> str:
    """Return the outline of a stepped area; equal neighbours are one step."""
    path, before = [f"M0 {height}"], None
    for index, value in enumerate(values):
        if value != before:
            path.append(f"H{index}V{_number(height - value * scale)}")
        before = value
    return "".join([*path, f"H{len(values)}V{height}z"])


def histogram(column: ColumnSummary, rows: int) -> Markup:
    """Return how a column's values are spread.

    Args:
        column: A column with a histogram.
        rows: How many rows it is of.
    """
    most = max(column.histogram)
    height = 28
    path = "".join(
        f"M{index} {height}v-{_number(max(value / most * (height - 1), 1.0))}h.86V{height}z"
        for index, value in enumerate(column.histogram)
        if value
    )
    says = (
        f"{shortened(column.name, _NAME)}: {count(sum(column.histogram), 'value')} of {count(rows, 'row')} in "
        f"{count(len(column.histogram), 'interval')}"
    )
    counts = ", ".join(f"{value:,}" for value in column.histogram)
    return Markup(
        '<svg class="histogram" width="120" height="{}" viewBox="0 0 {} {}" preserveAspectRatio="none" role="img">{}'
        '<path class="histogram-bars" d="{}"/></svg>'
    ).format(height, len(column.histogram), height, _titled(says, f"Counts, from the least value on: {counts}"), path)


def rails(row: LineageRow) -> Markup:
    """Return one row of the rails of artifacts: a full dot where one was written, a ring where it was given."""
    width = _RAIL_WIDTH * len(row.marks)
    drawn = [
        _rail(index, mark, from_above=from_above, goes_on=goes_on)
        for index, (mark, from_above, goes_on) in enumerate(row.marks)
    ]
    return Markup('<svg class="rails" width="{}" height="100%" aria-hidden="true" focusable="false">{}</svg>').format(
        width, Markup("").join(drawn)
    )


def _rail(index: int, mark: str, *, from_above: bool, goes_on: bool) -> Markup:
    x = _RAIL_WIDTH * index + _RAIL_WIDTH // 2
    line = Markup('<line class="rail rail-{}" x1="{x}" x2="{x}" y1="{}" y2="{}"/>')
    parts = [Markup("")]
    if from_above:
        parts.append(line.format(index % 5, "-1", "20", x=x))
    if goes_on:
        parts.append(line.format(index % 5, "20", "101%", x=x))
    if mark in {"wrote", "given"}:
        parts.append(Markup('<circle class="rail-{} {}" cx="{}" cy="20" r="6"/>').format(index % 5, mark, x))
    return Markup("").join(parts)


def field(cells: Field) -> Markup:
    """Return the field of a Map's children, each a cell."""
    big = cells.rows >= _BIG_FIELD
    left = 9 if big else 0
    drawn = _runs(cells, left) + Markup("").join(_cell(run, left) for run in cells.runs if run.cell is not None)
    lines = "".join(
        [f"M{left + column} 0V{cells.rows}" for column in range(1, cells.columns)]
        + [f"M{left} {row}H{left + cells.columns}" for row in range(1, cells.rows)]
    )
    labels = Markup("").join(
        Markup('<text class="field-label" x="{}" y="{}" text-anchor="end">{}</text>').format(
            left - 0.6, row + 2, f"{row * cells.columns:,}"
        )
        for row in range(0, cells.rows if big else 0, _LABEL_EVERY)
    )
    title = _titled("One cell for each child, in the order of their index", "The failed ones are listed below")
    return Markup(
        '<svg class="field columns-{}" viewBox="0 0 {} {}" width="100%" role="group">{}{}{}'
        '<path class="field-lines" d="{}"/></svg>'
    ).format(cells.columns, cells.columns + left, cells.rows, title, labels, drawn, lines)


def _runs(cells: Field, left: int) -> Markup:
    """Return the runs of cells, one path a tone."""
    paths: dict[str, list[str]] = {}
    for run in cells.runs:
        if run.cell is None:
            outline = f"M{left + run.column} {run.row}h{run.length}v1h-{run.length}z"
            paths.setdefault(run.tone, []).append(outline)
    return Markup("").join(
        Markup('<path class="cell-{}" d="{}"/>').format(tone, "".join(path)) for tone, path in paths.items()
    )


def _cell(run: CellRun, left: int) -> Markup:
    """Return a cell to point at, which leads to where the child is listed."""
    if run.cell is None:
        return Markup("")
    drawn = Markup('<rect class="cell-{}" x="{}" y="{}" width="1" height="1"><title>{}</title></rect>').format(
        run.tone, left + run.column, run.row, _told(run.cell)
    )
    return Markup('<a href="#c{}" tabindex="-1">{}</a>').format(run.cell.index, drawn) if run.listed else drawn


def _told(cell: ChildCell) -> str:
    error = f": {shortened(cell.error, _NAME)}" if cell.error else ""
    return shown(f"{cell.index}, {state(cell.status).lower()}{error}", None)
