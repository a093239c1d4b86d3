"""A look into a Parquet file: schema and statistics from its footer, first and last rows, histograms of a row group.

One row group's columns are read, as many as the page may read; of the last row group the same, for the last rows.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from stepout.artifacts.reading.ranges.parquet_footer import TAIL, footer_of
from stepout.artifacts.reading.tables.preview import open_preview, whole_size
from stepout.page.budget import PageBudgetError
from stepout.page.insides.columns import COLUMNS, summary_of
from stepout.page.insides.rows import HEAD_ROWS, TAIL_ROWS, first_rows, last_rows, row_texts
from stepout.page.model import TableInside

if TYPE_CHECKING:
    from stepout.artifacts.reading.pinned_object import PinnedObject
    from stepout.page.insides.look import Look, ReadForLook

_HOW: Final = "the checksums of its footer, and of its blocks or pages"
_ONLY_WHOLE: Final = "Without a list of blocks and a digest of its footer it can only be verified as a whole."


def look_at_table(read: ReadForLook) -> Look:
    """Look into a Parquet file.

    Raises:
        PageBudgetError: Not even its footer may be read.
        UndecodableError: It is no Parquet file that pyarrow can read.
        StoreError: It could not be read.
    """
    check_footer(read, read.pinned)
    with open_preview(read.pinned) as preview:
        places = range(min(len(preview.schema), COLUMNS))
        one_group = len(preview.filled_groups) <= 1
        first = first_rows(read, preview, places)
        last = first if one_group else last_rows(read, preview, list(first.columns))
        inside = TableInside(
            rows=preview.rows,
            columns=tuple(
                summary_of(preview.schema.field(place), statistics, first.columns.get(place), all_values=one_group)
                for place, statistics in zip(places, preview.statistics(places), strict=True)
            ),
            total_columns=len(preview.schema),
            head=row_texts(first, places, 0, HEAD_ROWS),
            tail=row_texts(last, places, max(last.rows - TAIL_ROWS, HEAD_ROWS if one_group else 0), last.rows),
            histogram_rows=first.rows if first.columns else 0,
        )
        # Block by block is all of it where every column's blocks came, and as many bytes as the file has.
        every = one_group and len(first.columns) == len(preview.schema) and read.pinned.pointer.blocks is not None
        look = read.whole(inside) if preview.whole else read.part(inside, _HOW, every=every)
    look = replace(look, problem=first.problem or last.problem)
    return look.noting(first.note, "" if one_group else last.note)


def check_footer(read: ReadForLook, pinned: PinnedObject) -> None:
    """Raise if opening a file takes more than the page may read.

    Raises:
        PageBudgetError: It does; nothing was read.
    """
    whole, footer = whole_size(pinned), footer_of(pinned.pointer)
    try:
        read.budget.check(max(TAIL, footer.size if footer else 0) if whole is None else whole, requests=2)
    except PageBudgetError as error:
        raise PageBudgetError(f"{error}. {_ONLY_WHOLE}" if whole else str(error)) from error
