"""What a Parquet file's footer says of its columns: nulls, the least and the greatest value; and the latter as JSON.

As JSON it is a hint that lets an engine skip files: bounds of the values that are neither null nor NaN. A column is
left out where a row group does not tell, where JSON cannot say the value (whole numbers beyond 2**53 - 1, infinity,
decimals, bytes), and where a text is long: one that was cut would be no bound.
"""

from __future__ import annotations

import math
import struct
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, Final

from stepout.schemas.text.json_value import INTEGER_LIMIT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa

_COLUMNS: Final = 32
"""The first so many columns have statistics, as Delta Lake has it: a manifest of thousands of columns is not read."""

_TEXT: Final = 64


@dataclass(frozen=True)
class ColumnStatistics:
    """What the footer says of one column of simple values, all row groups together.

    Attributes:
        nulls: How many values are null; ``None`` if a row group does not say.
        least: Neither null nor NaN, as pyarrow gives it; ``None`` if a row group does not say.
        greatest: As ``least``.
    """

    nulls: int | None = None
    least: Any = None
    greatest: Any = None


def statistics_of_leaf(groups: Sequence[Any], leaf: int) -> ColumnStatistics:
    """Return what row groups say of one of a file's columns.

    Args:
        groups: Each a ``pyarrow.parquet.RowGroupMetaData``.
        leaf: From ``leaf_places``.
    """
    found = [group.column(leaf).statistics for group in groups]
    told = [each for each in found if each is not None and each.has_null_count]
    nulls = sum(each.null_count for each in told) if len(told) == len(found) else None
    extremes = _extremes(found)
    return ColumnStatistics(nulls) if extremes is None else ColumnStatistics(nulls, *extremes)


def leaf_places(schema: pa.Schema) -> list[int | None]:
    """Return for each top-level column its place among the columns of the file; ``None`` for one of several, a list.

    Args:
        schema: The file's, as Arrow has it.
    """
    places: list[int | None] = []
    leaf = 0
    for field in schema:
        places.append(None if _storage(field.type).num_fields else leaf)
        leaf += _leaves(field.type)
    return places


def statistics_of(metadata: Any, schema: pa.Schema) -> dict[str, dict[str, Any]]:
    """Return ``min`` and ``max`` of top-level columns of simple types.

    Args:
        metadata: A ``pyarrow.parquet.FileMetaData``.
        schema: What was written.
    """
    groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
    found = {}
    for leaf, field in _simple_columns(schema):
        bounds = _bounds([group.column(leaf).statistics for group in groups])
        if bounds is not None:
            found[field.name] = bounds
    return found


def _simple_columns(schema: pa.Schema) -> Iterator[tuple[int, pa.Field]]:
    """Yield the columns that have statistics, each with its place among the columns of the file."""
    import pyarrow.types as is_

    leaf = 0
    for field in list(schema)[:_COLUMNS]:
        kind = field.type.value_type if is_.is_dictionary(field.type) else field.type
        simple = (is_.is_boolean, is_.is_integer, is_.is_floating, is_.is_string, is_.is_large_string, is_.is_date)
        if any(each(kind) for each in simple) or (is_.is_timestamp(kind) and kind.unit != "ns"):
            yield leaf, field
        leaf += _leaves(field.type)


def _storage(kind: pa.DataType) -> pa.DataType:
    import pyarrow as pa

    return kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind


def _leaves(kind: pa.DataType) -> int:
    """Return how many columns of a Parquet file a type takes."""
    kind = _storage(kind)
    return sum(_leaves(kind.field(index).type) for index in range(kind.num_fields)) or 1


def _bounds(statistics: list[Any]) -> dict[str, Any] | None:
    extremes = _extremes(statistics)
    if extremes is None:
        return None
    try:
        least, greatest = map(_plain, extremes)
    except (ValueError, OverflowError):  # a time that Python cannot hold in UTC
        return None
    return None if least is None or greatest is None else {"min": least, "max": greatest}


def _extremes(statistics: list[Any]) -> tuple[Any, Any] | None:
    """Return the least and the greatest value; ``None`` where one row group does not tell, or all is null or NaN."""
    known = [each for each in statistics if each is not None and each.has_min_max]
    # A group without bounds has only nulls, or does not tell: which of the two, its count of values says.
    silent = [each for each in statistics if each is None or not each.has_min_max]
    if not known or any(each is None or each.num_values for each in silent):
        return None
    with suppress(ValueError, OverflowError):  # a time that Python cannot hold, a text that is no UTF-8
        return min(_value(each, "min") for each in known), max(_value(each, "max") for each in known)
    return None


def _value(statistics: Any, end: str) -> Any:
    value = getattr(statistics, end)
    if isinstance(value, bytes) and str(statistics.logical_type.type) == "FLOAT16":
        (value,) = struct.unpack("<e", value)
    if isinstance(value, float) and math.isnan(value):  # of a writer that did not leave it out: it says nothing
        raise ValueError
    return value


def _plain(value: Any) -> Any:
    """Return a value as JSON has it; ``None`` where it has none, or a long one."""
    if isinstance(value, datetime):  # in UTC: texts of another zone are not in the order of their times
        return (value.astimezone(UTC) if value.tzinfo else value).isoformat(timespec="microseconds")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, str):
        return value if len(value) <= _TEXT else None
    if isinstance(value, bool):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, int) and abs(value) <= INTEGER_LIMIT else None
