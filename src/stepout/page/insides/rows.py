"""The rows of a table that a page shows: read from one row group, as many columns as the page may read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from stepout.page.budget import PageBudgetError
from stepout.page.insides.cells import cell_text
from stepout.page.model import CardProblem
from stepout.schemas.errors import StepoutError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa

    from stepout.artifacts.reading.tables.preview import TablePreview
    from stepout.page.insides.look import ReadForLook

HEAD_ROWS: Final = 10
TAIL_ROWS: Final = 5

NOT_READ: Final = "not read"
"""Stands in the cells of a column whose values were not read."""

_FIRST = (2, 3, 40)  # two of three parts of what a table may read are for its first rows, in so many requests
_LAST = (1, 3, 20)


@dataclass(frozen=True, kw_only=True)
class RowsRead:
    """Rows of one row group, or none.

    Attributes:
        columns: What was read, by the place of its column in the schema that the page shows.
        rows: How many.
        note: Why some of it was not read: a sentence, or empty.
        problem: Why none of it could be.
    """

    columns: Mapping[int, pa.ChunkedArray] = field(default_factory=dict)
    rows: int = 0
    note: str = ""
    problem: CardProblem | None = None


def first_rows(read: ReadForLook, preview: TablePreview, places: Sequence[int]) -> RowsRead:
    """Read the first row group that has rows.

    Args:
        read: The artifact that is looked into.
        preview: The file.
        places: Of the columns that are wanted, in the file's schema.
    """
    groups = preview.filled_groups
    return _rows(read, preview, groups[0], places, _FIRST) if groups else RowsRead()


def last_rows(read: ReadForLook, preview: TablePreview, places: Sequence[int]) -> RowsRead:
    """Read the last row group that has rows; ``first_rows`` describes the arguments."""
    groups = preview.filled_groups
    return _rows(read, preview, groups[-1], places, _LAST) if groups and places else RowsRead()


def row_texts(rows: RowsRead, places: Sequence[int], start: int, stop: int) -> tuple[tuple[str | None, ...], ...]:
    """Return rows ``start`` to ``stop`` as text; nothing where not one column was read.

    Args:
        rows: What was read.
        places: The columns, each a cell.
        start: The first row, within ``rows``.
        stop: One behind the last.
    """
    if not rows.columns:
        return ()
    columns = [rows.columns.get(place) for place in places]
    return tuple(
        tuple(NOT_READ if column is None else cell_text(column[row]) for column in columns)
        for row in range(max(start, 0), min(stop, rows.rows))
    )


def _rows(
    read: ReadForLook, preview: TablePreview, group: int, places: Sequence[int], share: tuple[int, int, int]
) -> RowsRead:
    budget, (part, parts, requests) = read.budget, share
    try:
        size = budget.share * part // parts
        chosen = preview.affordable(group, places, size, min(requests, budget.requests_left))
        columns = preview.columns(group, chosen)
    except PageBudgetError as error:
        return RowsRead(note=error.sentence)
    except StepoutError as error:
        return RowsRead(problem=CardProblem(error=error.error_name, message=str(error)))
    left_out = len(places) - len(columns)
    note = ""
    if left_out:
        budget.leave_out()
        note = (
            f"The values of {left_out:,} columns were not read: they take more than the page may read of one artifact, "
            "or share their names with others."
        )
    rows = preview.rows_of(group)
    return RowsRead(columns=columns, rows=rows, note=note)
