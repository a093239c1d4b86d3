"""Whatever speaks Arrow as one schema and a stream of record batches."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from stepout.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Batches", "batches_of", "is_table"]

_STREAM: Final = "__arrow_c_stream__"
_ARRAY: Final = "__arrow_c_array__"
_BATCH_ROWS: Final = 1 << 17

# What pandas adds to a failed conversion: the column's name, and no value.
_FAILED_COLUMN = re.compile(r"Conversion failed for column (.+) with type (\w+)")


@dataclass(frozen=True)
class Batches:
    """A schema and the batches that follow it, to be read once."""

    schema: pa.Schema
    batches: Iterator[pa.RecordBatch]


def is_table(value: object) -> bool:
    """Return whether a value offers an Arrow interface; imports nothing."""
    return hasattr(value, _STREAM) or hasattr(value, _ARRAY) or _kind(value) in _SPECIAL


def batches_of(table: object) -> Batches:
    """Open a table for reading, once.

    Args:
        table: See ``table_source``.

    Raises:
        ConfigurationError: It is none, or cannot be turned into Arrow.
    """
    try:
        import pyarrow as pa
    except ImportError as error:
        msg = "tables need pyarrow, which is not installed: pip install 'stepout[parquet]'"
        raise ConfigurationError(msg) from error

    special = _SPECIAL.get(_kind(table))
    if special is not None:
        return special(table)
    if isinstance(table, pa.RecordBatchReader):
        # As it is: through the C interface, an exception of its source would lose its type.
        return Batches(table.schema, iter(table))
    if isinstance(table, pa.Table):
        return Batches(table.schema, iter(table.to_batches()))
    if isinstance(table, pa.RecordBatch):
        return Batches(table.schema, iter((table,)))
    if hasattr(table, _STREAM) or hasattr(table, _ARRAY):
        return _through_interface(table)
    if isinstance(table, Iterable) and not isinstance(table, str | bytes | bytearray | memoryview | Mapping):
        return _chained(iter(table))
    raise ConfigurationError(_no_table(table))


def _kind(value: object) -> tuple[str, str]:
    """Where a type comes from, without importing its library: its package and its name."""
    kind = type(value)
    return kind.__module__.partition(".")[0], kind.__name__


def _lazy_frame(_: object) -> Batches:
    msg = "a polars LazyFrame is a query, not a table: pass frame.collect(), or stream it with frame.collect_batches()"
    raise ConfigurationError(f"{msg}. Nothing was sent")


def _polars(table: Any) -> Batches:
    # Through the interface, a column of Python objects would be the addresses that they have in memory.
    for name, kind in table.schema.items():
        if str(kind) == "Object":
            msg = f"column {name!r} holds Python objects, which Arrow has no type for: cast or drop it"
            raise ConfigurationError(f"{msg}. Nothing was sent")
    return _through_interface(table)


def _dataset(table: Any) -> Batches:
    # Little read-ahead: Arrow's default keeps up to 16 batches of 4 files in memory.
    return _scanner(table.scanner(batch_readahead=2, fragment_readahead=1, batch_size=_BATCH_ROWS))


def _scanner(table: Any) -> Batches:
    reader = table.to_reader()
    return Batches(reader.schema, iter(reader))


def _duckdb(table: Any) -> Batches:
    # A reader pulls rows as they are needed; other ways out would hold the whole result.
    reader = (getattr(table, "to_arrow_reader", None) or table.fetch_arrow_reader)(_BATCH_ROWS)
    return Batches(reader.schema, iter(reader))


_SPECIAL: Final[Mapping[tuple[str, str], Callable[[Any], Batches]]] = {
    ("_duckdb", "DuckDBPyRelation"): _duckdb,
    ("duckdb", "DuckDBPyRelation"): _duckdb,
    ("polars", "DataFrame"): _polars,
    ("polars", "LazyFrame"): _lazy_frame,
    ("pyarrow", "FileSystemDataset"): _dataset,
    ("pyarrow", "InMemoryDataset"): _dataset,
    ("pyarrow", "UnionDataset"): _dataset,
    ("pyarrow", "Scanner"): _scanner,
}


def _through_interface(table: object) -> Batches:
    import pyarrow as pa

    try:
        if hasattr(table, _STREAM):
            reader = pa.RecordBatchReader.from_stream(table)
            return Batches(reader.schema, iter(reader))
        batch = pa.record_batch(table)
        return Batches(batch.schema, iter((batch,)))
    except (pa.ArrowException, ValueError, TypeError) as error:
        # Their messages may quote values: nothing of them is repeated but a column's name.
        raise ConfigurationError(_failed_conversion(table, error)) from None


def _failed_conversion(table: object, error: Exception) -> str:
    where = next((found for text in error.args if (found := _FAILED_COLUMN.fullmatch(str(text)))), None)
    column = f": column {where[1]!r} of type {where[2]} holds what Arrow has no one type for" if where else ""
    names = getattr(table, "columns", None)
    twice = "" if names is None or len(set(names)) == len(names) else ": it has more than one column of one name"
    column = column or (": it is one column; pass its .to_frame()" if hasattr(table, "to_frame") else "")
    what = f"a {type(table).__module__.partition('.')[0]} {type(table).__name__}"
    return f"{what} could not be turned into an Arrow table ({type(error).__name__}){column or twice}. Nothing was sent"


def _chained(items: Iterator[Any]) -> Batches:
    """Read the first item for its schema; the rest as they come."""
    first = next(items, None)
    if first is None:
        msg = "the iterator of batches has none, so the columns are unknown: pass an empty table with a schema instead"
        raise ConfigurationError(f"{msg}. Nothing was sent")
    if not is_table(first):
        raise ConfigurationError(_no_table(first, "an iterator of "))
    opened = batches_of(first)
    rest = chain.from_iterable(_each(item, number) for number, item in enumerate(items, start=1))
    return Batches(opened.schema, chain(opened.batches, rest))


def _each(item: object, number: int) -> Iterator[pa.RecordBatch]:
    if not is_table(item):
        raise ConfigurationError(f"item {number} of the iterator is of type {type(item).__name__}, not a record batch")
    return batches_of(item).batches


def _no_table(value: object, prefix: str = "") -> str:
    msg = f"expected a table (pyarrow, pandas, polars, duckdb, …), or an iterator of batches; got {prefix}"
    return f"{msg}{type(value).__module__}.{type(value).__qualname__}. Nothing was sent"
