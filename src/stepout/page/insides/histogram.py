"""A small histogram of the values of a column: counts of equal intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import pyarrow as pa

BINS: Final = 20
"""Intervals of a histogram; whole numbers that are closer together have one each."""


def histogram_of(column: pa.ChunkedArray) -> tuple[int, ...]:
    """Return counts of equal intervals from the least to the greatest value; nothing for what has no such order.

    Nulls, NaN and infinities are in no interval; ``count_unordered`` says how many of these there are.

    Args:
        column: Any column.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    numbers, whole = _as_numbers(column)
    if numbers is None:
        return ()
    numbers = numbers.filter(pc.is_finite(numbers))
    if not len(numbers):
        return ()
    ends = pc.min_max(numbers).as_py()
    # Halved: the distance between two numbers may be larger than the largest.
    least, width = ends["min"] / 2, ends["max"] / 2 - ends["min"] / 2
    if not width:
        return (len(numbers),)
    bins = min(BINS, round(2 * width) + 1) if whole else BINS
    place = pc.divide(pc.subtract(pc.divide(numbers, 2.0), least), width)
    place = pc.min_element_wise(pc.floor(pc.multiply(place, float(bins))), float(bins - 1)).cast(pa.int8())
    counted = {item["values"]: item["counts"] for item in pc.value_counts(place).to_pylist()}
    return tuple(counted.get(index, 0) for index in range(bins))


def count_unordered(column: pa.ChunkedArray) -> tuple[int, int]:
    """Return how many values are NaN, and how many infinite: what a histogram cannot place, and no null either.

    Args:
        column: Any column; those of other types than floating point have none.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_floating(column.type):
        return 0, 0
    # Half precision has no such kernels in every pyarrow.
    numbers = column.drop_null().cast(pa.float64())
    nan, infinite = (pc.sum(found(numbers)).as_py() or 0 for found in (pc.is_nan, pc.is_inf))
    return nan, infinite


def _as_numbers(column: pa.ChunkedArray) -> tuple[Any, bool]:
    """Return a column as doubles without nulls, and whether they are whole numbers; ``None`` for other types."""
    import pyarrow as pa

    kind = column.type
    if pa.types.is_boolean(kind):
        column, whole = column.cast(pa.int8()), True
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        whole = pa.types.is_integer(kind)
    elif pa.types.is_date32(kind) or pa.types.is_time32(kind):
        column, whole = column.cast(pa.int32()), True
    elif pa.types.is_temporal(kind) and not pa.types.is_interval(kind):
        column, whole = column.cast(pa.int64()), True
    else:
        return None, False
    try:
        return column.drop_null().cast(pa.float64(), safe=False), whole
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None, False
