"""Whatever speaks Arrow as one schema and a stream of record batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, runtime_checkable

from stepout.artifacts.formats.chunks import Labelled, chained, labelled
from stepout.artifacts.formats.duckdb_relation import check_relation, checked_values, query_reader
from stepout.artifacts.formats.pandas_frame import frame_table, is_frame
from stepout.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    import pyarrow as pa

_STREAM: Final = "__arrow_c_stream__"
_ARRAY: Final = "__arrow_c_array__"
_BATCH_ROWS: Final = 1 << 17


@runtime_checkable
class Closable(Protocol):
    """An iterator that holds something: a generator, or what pandas reads a file with."""

    def close(self) -> object:
        """Let go of it."""
        ...


def _nothing() -> None:
    return None


@dataclass(frozen=True)
class Batches:
    """A schema and the batches that follow it, to be read once.

    Attributes:
        schema: The columns.
        batches: What messages call a batch, and the batch.
        close: Lets go of what the batches come from: a query, a file, a generator. Safe to call at any time.
    """

    schema: pa.Schema
    batches: Iterator[Labelled]
    close: Callable[[], object] = _nothing


def is_table(value: object) -> bool:
    """Return whether a value offers an Arrow interface; imports nothing."""
    return hasattr(value, _STREAM) or hasattr(value, _ARRAY) or _kind(value) in _SPECIAL


def batches_of(table: object) -> Batches:
    """Open a table for reading, once.

    Args:
        table: See ``table_source``.

    Raises:
        ConfigurationError: It is no table, or cannot be turned into Arrow.
    """
    try:
        import pyarrow as pa
    except ImportError as error:
        msg = 'tables need pyarrow, which is not installed: install stepout with its extra "parquet"'
        raise ConfigurationError(msg) from error

    if is_frame(table):
        return _whole(frame_table(table))
    if (special := _SPECIAL.get(_kind(table))) is not None:
        return special(table)
    if isinstance(table, pa.RecordBatchReader):
        # As it is: through the C interface, an exception of its source would lose its type.
        return _read(table)
    if isinstance(table, pa.Table | pa.RecordBatch):
        return _whole(table)
    if hasattr(table, _STREAM) or hasattr(table, _ARRAY):
        return _through_interface(table)
    if isinstance(table, Iterable) and not isinstance(table, str | bytes | bytearray | memoryview | Mapping):
        return _chained(iter(table))
    raise ConfigurationError(_no_table(table))


def _kind(value: object) -> tuple[str, str]:
    """Where a type comes from, without importing its library: its package and its name."""
    kind = type(value)
    return kind.__module__.partition(".")[0], kind.__name__


def _whole(table: pa.Table | pa.RecordBatch) -> Batches:
    import pyarrow as pa

    batches = table.to_batches() if isinstance(table, pa.Table) else [table]
    return Batches(table.schema, labelled(iter(batches)))


def _read(reader: pa.RecordBatchReader, what: str = "a reader of record batches") -> Batches:
    return Batches(reader.schema, labelled(_told(reader, what)), reader.close)


def _told(reader: pa.RecordBatchReader, what: str) -> Iterator[pa.RecordBatch]:
    """Yield a reader's batches. Arrow's and DuckDB's own errors may quote values: nothing of them is repeated.

    Raises:
        ConfigurationError: It failed. What a job's own Python code behind the reader raises leaves unchanged, and so
            does what the operating system said.
    """
    import pyarrow as pa

    while True:
        try:
            batch = reader.read_next_batch()
        except StopIteration:
            return
        except (pa.ArrowException, OSError) as error:
            if isinstance(error, MemoryError) or getattr(error, "errno", None) or _raised_in_python(error):
                raise
            failed = type(error).__name__
        else:
            yield batch
            continue
        msg = f"{what} failed while it was read ({failed}); the error's text may quote values, so it is left out: read"
        raise ConfigurationError(f"{msg} it without stepout to see it. Nothing was kept")


def _raised_in_python(error: BaseException) -> bool:
    """Return whether Python code that a reader called raised an error: Cython's frames name no file that exists."""
    trace = error.__traceback__
    frames = []
    while trace is not None:
        frames.append(trace.tb_frame.f_code.co_filename)
        trace = trace.tb_next
    return any(not name.endswith((".pxi", ".pyx")) for name in frames[1:])  # the first is the caller's here


def _lazy_frame(_: object) -> Batches:
    msg = "a polars LazyFrame is a query, not a table: pass frame.collect(), or stream it with frame.collect_batches()"
    raise ConfigurationError(f"{msg}. Nothing was sent")


def _polars(table: Any) -> Batches:
    # Through the interface, a column of Python objects would be the addresses that they have in memory.
    for name, kind in table.schema.items():
        if str(kind) == "Object":
            msg = f"column {name!r} holds Python objects, which Arrow has no type for: cast or drop it"
            raise ConfigurationError(f"{msg}. Nothing was sent")
        if "Int128" in str(kind):
            msg = f"column {name!r} is of type {str(kind)[:200]}, which Arrow has no type for: cast it to a"
            raise ConfigurationError(f"{msg} pl.Decimal(38, 0) or to pl.String. Nothing was sent")
    return _through_interface(table)


def _dataset(table: Any) -> Batches:
    # Little read-ahead: Arrow's default keeps up to 16 batches of 4 files in memory.
    return _scanner(table.scanner(batch_readahead=2, fragment_readahead=1, batch_size=_BATCH_ROWS))


def _scanner(table: Any) -> Batches:
    return _read(table.to_reader(), "a pyarrow dataset or scanner")


def _duckdb(table: Any) -> Batches:
    check_relation(table)
    # A reader pulls rows as they are needed; other ways out would hold the whole result. Until it is closed, its
    # connection takes no other query.
    reader = query_reader(table, _BATCH_ROWS)
    batches = checked_values(_told(reader, "the relation's query"), reader.schema)
    return Batches(reader.schema, labelled(batches), reader.close)


def _duckdb_connection(_: object) -> Batches:
    msg = "a duckdb connection is not a table: pass a relation, connection.sql('select …') or connection.table('name')"
    raise ConfigurationError(f"{msg}. Nothing was sent")


_SPECIAL: Final[Mapping[tuple[str, str], Callable[[Any], Batches]]] = {
    ("_duckdb", "DuckDBPyRelation"): _duckdb,
    ("duckdb", "DuckDBPyRelation"): _duckdb,
    ("_duckdb", "DuckDBPyConnection"): _duckdb_connection,
    ("duckdb", "DuckDBPyConnection"): _duckdb_connection,
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
            return _read(pa.RecordBatchReader.from_stream(table), _named(table))
        batch = pa.record_batch(table)
        return Batches(batch.schema, labelled(iter((batch,))))
    except (pa.ArrowException, ValueError, TypeError) as error:
        # Their messages may quote values: nothing of them is repeated.
        raise ConfigurationError(_failed_conversion(table, error)) from None


def _failed_conversion(table: object, error: Exception) -> str:
    where = ": it is one column; pass its .to_frame()" if hasattr(table, "to_frame") else ""
    return f"{_named(table)} could not be turned into an Arrow table ({type(error).__name__}){where}. Nothing was sent"


def _named(table: object) -> str:
    return f"a {type(table).__module__.partition('.')[0]} {type(table).__name__}"


def _chained(items: Iterator[Any]) -> Batches:
    inner: list[Batches] = []

    def opened(item: object, label: str) -> tuple[pa.Schema, Iterator[Labelled], int | None]:
        if not is_table(item):
            raise ConfigurationError(_no_item(item, label))
        try:
            found = batches_of(item)
        except ConfigurationError as error:
            raise ConfigurationError(f"{label}: {error}") from error
        inner[:] = [found]
        return found.schema, ((label, batch) for _, batch in found.batches), _size(item)

    def close() -> None:
        for each in inner:
            each.close()
        if isinstance(items, Closable):
            items.close()

    try:
        schema, batches = chained(items, opened)
    except BaseException:
        with suppress(Exception):
            close()
        raise
    return Batches(schema, batches, close)


def _size(item: Any) -> int | None:
    """Return how many bytes of memory a table takes; ``None`` where it is still to be read."""
    import pyarrow as pa

    if isinstance(item, pa.Table | pa.RecordBatch):
        return int(item.nbytes)
    return int(item.estimated_size()) if _kind(item) == ("polars", "DataFrame") else None


def _no_item(item: object, label: str) -> str:
    kind, number = type(item), label.rpartition(" ")[2]
    if isinstance(item, Mapping):
        advice = "for rows as dictionaries, pass pyarrow.Table.from_pylist(rows)"
    else:
        advice = "expected a record batch or a table"
    if number == "0":
        return f"{_no_table(item, 'an iterator of ')[: -len('. Nothing was sent')]}: {advice}. Nothing was sent"
    return f"item {number} of the iterator is of type {kind.__name__}, not a record batch: {advice}"


def _no_table(value: object, prefix: str = "") -> str:
    msg = f"expected a table (pyarrow, pandas, polars, duckdb, …), or an iterator of batches; got {prefix}"
    return f"{msg}{type(value).__module__}.{type(value).__qualname__}. Nothing was sent"
