"""The rows of a table that a page shows: read from one row group, as many columns as the page may read."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
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

_FIRST_SHARE: Final = 3  # two of three parts of what a table may read are for its first rows
_FIRST_REQUESTS: Final = 40
_LAST_REQUESTS: Final = 20


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
    groups, budget = preview.filled_groups, read.budget
    if not groups:
        return RowsRead()
    size = budget.share - budget.share // _FIRST_SHARE if len(groups) > 1 else budget.share
    found = _rows(read, preview, groups[0], places, size, _FIRST_REQUESTS)
    left_out = len(places) - len(found.columns)
    if not left_out or found.problem or found.note:
        return found
    return replace(found, note=f"{_columns(left_out)} not read: {_WHY}.")


def last_rows(read: ReadForLook, preview: TablePreview, places: Sequence[int]) -> RowsRead:
    """Read the last row group that has rows; ``first_rows`` describes the arguments."""
    groups = preview.filled_groups
    if not groups or not places:
        return RowsRead()
    found = _rows(read, preview, groups[-1], places, read.budget.share // (_FIRST_SHARE - 1), _LAST_REQUESTS)
    left_out = len(places) - len(found.columns)
    if not left_out or found.problem or found.note:
        return found
    return replace(found, note=f"{_columns(left_out)} not read of the last rows.")


_WHY: Final = "they take more than a page reads of one table, or cannot be told from others of the same name"


def _columns(count: int) -> str:
    return f"The values of {count:,} column{' was' if count == 1 else 's were'}"


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


def _rows(  # noqa: PLR0913, PLR0917 - what is read, and how much it may take
    read: ReadForLook, preview: TablePreview, group: int, places: Sequence[int], size: int, requests: int
) -> RowsRead:
    budget = read.budget
    try:
        chosen = preview.affordable(group, places, size, min(requests, budget.requests_left))
        columns = preview.columns(group, chosen)
    except PageBudgetError as error:
        return RowsRead(note=error.sentence)
    except StepoutError as error:
        return RowsRead(problem=CardProblem(error=error.error_name, message=str(error)))
    if len(columns) < len(places):
        budget.leave_out()
    return RowsRead(columns=columns, rows=preview.rows_of(group))
