"""The children of a Map: a field of cells that stays small at 10,000, and those that failed, by error. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Final

from stepout.page.words import state, tone

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stepout.page.model import ChildCell, ChildGrid

_ERRORS: Final = 20
_LISTED: Final = 60
"""Children that are listed of one error."""
_ALONE: Final = 300
"""Failed children that have a cell of their own to point at; where there are more, runs of cells are drawn."""
_SLOWEST: Final = 5
_WIDTHS: Final = ((40, 10), (200, 20), (1_250, 50))
_WIDEST: Final = 100


@dataclass(frozen=True, kw_only=True)
class ErrorGroup:
    """The children that failed with one error; ``cells`` are the first of them."""

    error: str
    status: str
    count: int
    cells: tuple[ChildCell, ...]


@dataclass(frozen=True, kw_only=True)
class CellRun:
    """Cells of one tone beside each other, in one row of the field; a cell of its own may be listed by its error."""

    tone: str
    column: int
    row: int
    length: int
    cell: ChildCell | None = None
    listed: bool = False


@dataclass(frozen=True, kw_only=True)
class Field:
    """The cells.

    Attributes:
        columns: Cells in a row.
        rows: Rows.
        runs: What is drawn: children that are alike and beside each other are one piece.
    """

    columns: int
    rows: int
    runs: tuple[CellRun, ...]


@dataclass(frozen=True, kw_only=True)
class ShownChildren:
    """What the page shows of a Map's children.

    Attributes:
        counts: How many ended how, the failed first: status in words, tone, number.
        unknown: Children of which nothing was read.
    """

    total: int
    counts: tuple[tuple[str, str, int], ...]
    unknown: int
    field: Field
    errors: tuple[ErrorGroup, ...]
    more_errors: int
    slowest: tuple[ChildCell, ...]
    middle: float | None
    longest: float | None


def children_of(grid: ChildGrid) -> ShownChildren:
    """Return what the page shows of a Map's children."""
    statuses = Counter(cell.status for cell in grid.cells)
    order = {"bad": 0, "odd": 1, "busy": 2, "good": 3}
    counts = [(state(status), tone(status), number) for status, number in statuses.items()]
    errors = _errors(grid.cells)
    seconds = sorted(cell.seconds for cell in grid.cells if cell.seconds is not None)
    timed = [cell for cell in grid.cells if cell.seconds is not None]
    timed.sort(key=lambda cell: -(cell.seconds or 0))
    return ShownChildren(
        total=max(grid.total, len(grid.cells)),
        counts=tuple(sorted(counts, key=lambda each: order[each[1]])),
        unknown=max(grid.total - len(grid.cells), 0),
        field=_field(grid.cells, {cell.index for group in errors[:_ERRORS] for cell in group.cells}),
        errors=tuple(errors[:_ERRORS]),
        more_errors=max(len(errors) - _ERRORS, 0),
        slowest=tuple(timed[:_SLOWEST]),
        middle=median(seconds) if seconds else None,
        longest=seconds[-1] if seconds else None,
    )


def _errors(cells: Iterable[ChildCell]) -> list[ErrorGroup]:
    """Return the failed children by error, the most frequent first."""
    groups: dict[tuple[str, str], list[ChildCell]] = {}
    for cell in cells:
        if tone(cell.status) in {"bad", "odd"} or cell.error:
            groups.setdefault((cell.error, cell.status), []).append(cell)
    found = [
        ErrorGroup(error=error, status=status, count=len(group), cells=tuple(group[:_LISTED]))
        for (error, status), group in groups.items()
    ]
    return sorted(found, key=lambda each: -each.count)


def _field(cells: tuple[ChildCell, ...], listed: set[int]) -> Field:
    columns = next((width for most, width in _WIDTHS if len(cells) <= most), _WIDEST)
    tones = [tone(cell.status) for cell in cells]
    alone = sum(each != "good" for each in tones) <= _ALONE
    runs: list[CellRun] = []
    for index, cell in enumerate(cells):
        row, column = divmod(index, columns)
        single = alone and tones[index] != "good"
        last = runs[-1] if runs else None
        if last and last.cell is None and not single and last.row == row and last.tone == tones[index]:
            runs[-1] = CellRun(tone=last.tone, column=last.column, row=row, length=last.length + 1)
        else:
            is_listed = single and cell.index in listed
            own = cell if single else None
            runs.append(CellRun(tone=tones[index], column=column, row=row, length=1, cell=own, listed=is_listed))
    return Field(columns=columns, rows=-(-len(cells) // columns), runs=tuple(runs))
