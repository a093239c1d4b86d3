"""The rows of a table that a page shows: read from one row group, as many columns as the page may read."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from stepout.artifacts.reading.tables.preview import DECODED
from stepout.page.budget import PageBudgetError
from stepout.page.insides.cells import cell_text
from stepout.page.model import CardProblem
from stepout.page.words import count
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
    return _rows(read, preview, groups[0], places, _BudgetPart(size, _FIRST_REQUESTS))


def last_rows(read: ReadForLook, preview: TablePreview, places: Sequence[int]) -> RowsRead:
    """Read the last row group that has rows; ``first_rows`` describes the arguments."""
    groups = preview.filled_groups
    if not groups or not places:
        return RowsRead()
    share = _BudgetPart(read.budget.share // (_FIRST_SHARE - 1), _LAST_REQUESTS, " of the last rows")
    return _rows(read, preview, groups[-1], places, share)


class _BudgetPart(NamedTuple):
    """What reading some rows may take, and which rows these are, for a note."""

    size: int
    requests: int
    rows: str = ""


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


def _rows(read: ReadForLook, preview: TablePreview, group: int, places: Sequence[int], share: _BudgetPart) -> RowsRead:
    budget = read.budget
    share = share._replace(requests=min(share.requests, budget.requests_left))
    try:
        chosen = preview.affordable(group, places, share.size, share.requests)
        columns = preview.columns(group, chosen)
    except PageBudgetError as error:
        return RowsRead(note=error.sentence)
    except StepoutError as error:
        return RowsRead(problem=CardProblem(error=error.error_name, message=str(error)))
    note = ""
    if len(columns) < len(places):
        budget.leave_out()
        large = [
            place for place in places if place not in columns and (place in chosen or preview.unfolds(group, place))
        ]
        fetchable = preview.fetchable(group, places)
        named = [place for place in places if place not in fetchable and place not in large]
        note = " ".join(
            f"The values{share.rows} of {count(len(left), 'column was', 'columns were')} not read: {why}."
            for left, why in (
                *_beyond(preview, group, fetchable, chosen, share),
                (large, f"decoded, they take more than {DECODED >> 20} MiB of memory"),
                (named, "they cannot be told from others of the same name"),
            )
            if left
        )
    return RowsRead(columns=columns, rows=preview.rows_of(group), note=note)


def _beyond(
    preview: TablePreview, group: int, fetchable: list[int], chosen: list[int], share: _BudgetPart
) -> tuple[tuple[list[int], str], tuple[list[int], str]]:
    """Return the columns that take too many bytes, and those that take too many requests, each with how to say so."""
    paid = preview.affordable(group, fetchable, share.size, sys.maxsize)
    bytes_short = [place for place in fetchable if place not in chosen and place not in paid]
    requests_short = [place for place in fetchable if place not in chosen and place in paid]
    return (
        (bytes_short, f"they take more than the {share.size:,} bytes that {_LEFT}: allow more with --budget-bytes"),
        (requests_short, f"they take more than the {share.requests:,} requests that {_LEFT}"),
    )


_LEFT: Final = "the page's budget leaves for these rows"
