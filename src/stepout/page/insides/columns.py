"""What a page says of one column of a table: from statistics where they say it, else from all of its values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stepout.page.insides.cells import cell_text, statistic_text, type_text
from stepout.page.insides.histogram import count_unordered, histogram_of
from stepout.page.model import ColumnSummary
from stepout.schemas.text.foreign_text import shown

if TYPE_CHECKING:
    import pyarrow as pa

    from stepout.artifacts.formats.column_statistics import ColumnStatistics

COLUMNS: Final = 64
"""Columns of one table that a page shows."""

_NAME: Final = 200


def summary_of(
    described: pa.Field, statistics: ColumnStatistics, values: pa.ChunkedArray | None, *, all_values: bool
) -> ColumnSummary:
    """Return what a page says of a column.

    Args:
        described: Its name and its type.
        statistics: Of the whole table, as far as somebody says.
        values: Those that were read; ``None`` if none were.
        all_values: Whether they are all that the table has.
    """
    kind, nulls = described.type, statistics.nulls
    least, greatest = statistic_text(statistics.least, kind), statistic_text(statistics.greatest, kind)
    if values is not None and all_values:
        nulls = values.null_count if nulls is None else nulls
        if least is None or greatest is None:
            least, greatest = _extremes(values)
    nan, infinite = (0, 0) if values is None else count_unordered(values)
    return ColumnSummary(
        name=shown(described.name, _NAME),
        type=type_text(kind),
        nulls=nulls,
        minimum=least,
        maximum=greatest,
        histogram=() if values is None else histogram_of(values),
        nan=nan,
        infinite=infinite,
        values_read=values is not None,
    )


def _extremes(values: pa.ChunkedArray) -> tuple[str | None, str | None]:
    """Return the least and the greatest value; nothing for types that have no order."""
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        kind = values.type
        plain = values.cast(kind.value_type) if pa.types.is_dictionary(kind) else values
        if pa.types.is_floating(plain.type):
            plain = plain.filter(pc.invert(pc.is_nan(plain)))
        ends = pc.min_max(plain)
        return cell_text(ends["min"]), cell_text(ends["max"])
    except (pa.ArrowException, ValueError):
        return None, None
