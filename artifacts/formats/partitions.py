"""Splits a table's rows by the values of its partition columns, in Arrow: encoded, sorted and taken, never row by row.

A partition's values are in paths, as text: so each type of a partition column must be one whose text says which value
it is, and that Arrow casts back: no fractions (0.1 has several texts, and NaN is unequal to itself), no bytes, nothing
nested, no times of day.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stepout.artifacts.dataset_manifest import DATASET_FILES_LIMIT, column_fault
from stepout.artifacts.formats.tables import schema_given_back, weight_of
from stepout.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa

Values = tuple[str | None, ...]
"""The value of each partition column, as Arrow casts it to text; ``None`` for null."""


@dataclass(frozen=True)
class Partitioning:
    """How a table is split.

    Attributes:
        columns: The partition columns.
        schema: Of the dataset, as it is read: what Parquet gives back, and the partition columns last. One with a
            dictionary has its values' type: in a path there are only values.
        file_schema: Of every file: without them.
    """

    columns: tuple[str, ...]
    schema: pa.Schema
    file_schema: pa.Schema

    def split(self, table: pa.Table) -> Iterator[tuple[Values, pa.RecordBatch]]:
        """Yield the rows of each partition, in their order, in memory of their own.

        A slice would keep the whole table in memory for as long as one partition waits for more rows.

        Args:
            table: With the columns of ``file_schema`` and the partition columns.

        Raises:
            ConfigurationError: There are more partitions than a dataset has files.
        """
        table = table.unify_dictionaries().combine_chunks()
        (batch,) = table.select(self.file_schema.names).to_batches()
        codes, values = _coded(table, self.columns)
        if len(values) == 1:
            yield values[0], batch
            return
        import pyarrow.compute as pc

        order = pc.array_sort_indices(codes)  # stable: rows keep their order
        runs = pc.run_end_encode(codes.take(order))
        start = 0
        for code, stop in zip(runs.values.to_pylist(), runs.run_ends.to_pylist(), strict=True):
            yield values[code], batch.take(order.slice(start, stop - start))
            start = stop


class WaitingRows:
    """Rows of one partition that wait to be a row group.

    Args:
        schema: Of the files.
    """

    def __init__(self, schema: pa.Schema) -> None:
        self.weight = 0
        self._schema = schema
        self._batches: list[pa.RecordBatch] = []

    def add(self, batch: pa.RecordBatch) -> int:
        """Take rows, and return how much Arrow memory they have, in bytes."""
        weight = weight_of(batch)
        self._batches.append(batch)
        self.weight += weight
        return weight

    def take(self) -> pa.Table:
        """Return all rows that wait; none waits then."""
        import pyarrow as pa

        table = pa.Table.from_batches(self._batches, self._schema)
        self._batches, self.weight = [], 0
        return table


def _coded(table: pa.Table, columns: Sequence[str]) -> tuple[pa.Array, list[Values]]:
    """Number the partitions that occur, and return each row's number and each partition's values."""
    import pyarrow as pa
    import pyarrow.compute as pc

    codes: pa.Array = pa.repeat(pa.scalar(0, pa.int64()), table.num_rows) if len(columns) == 0 else None
    values: list[Values] = [()]
    for name in columns:
        column = table[name].combine_chunks()
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        indices, texts = _told_apart(name, column)
        own = indices.cast(pa.int64())
        # Numbered anew after each column, so that the numbers never exceed the rows times the values of one column.
        numbered = (own if codes is None else pc.add(pc.multiply(codes, len(texts)), own)).dictionary_encode()
        if len(numbered.dictionary) > DATASET_FILES_LIMIT:
            msg = (
                f"the data has more than {DATASET_FILES_LIMIT:,} partitions by {', '.join(columns)}, and each is a file"
            )
            raise ConfigurationError(f"{msg}: partition by something coarser. Nothing can be read of what was sent")
        values = [(*values[at // len(texts)], texts[at % len(texts)]) for at in numbered.dictionary.to_pylist()]
        codes = numbered.indices.cast(pa.int64())
    return codes, values


def _told_apart(name: str, column: pa.Array) -> tuple[pa.Array, list[str | None]]:
    """Number the values of a column, and return each row's number and each value's text.

    Raises:
        ConfigurationError: Arrow has no text for a value, or one that it reads as another: of years beyond 9999, and of
            zones whose offset had seconds, as all had once.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        encoded = pc.dictionary_encode(column, null_encoding="encode")
        texts = encoded.dictionary.cast(pa.string())
        if texts.cast(column.type).equals(encoded.dictionary):
            return encoded.indices, texts.to_pylist()
    except (pa.ArrowException, ValueError):  # it quotes the value
        pass
    msg = f"a value of the partition column {name!r}, which is of type {column.type}, has no text that Arrow reads back"
    raise ConfigurationError(f"{msg} as that value: cast the column to text. Nothing can be read of what was sent")


def partitioning_of(schema: pa.Schema, columns: Sequence[str]) -> Partitioning:
    """Check by which columns a table is to be split.

    Args:
        schema: Of the table, as Parquet holds it.
        columns: The partition columns.

    Raises:
        ConfigurationError: One is not there, occurs twice, or cannot be in paths; or no other column is left.
    """
    import pyarrow as pa

    if isinstance(columns, str) or not all(isinstance(name, str) for name in columns):
        raise ConfigurationError("partition_by: expected a list of columns' names, such as ['day']. Nothing was sent")
    columns = tuple(columns)
    for name, count in Counter(columns).items():
        fault = f"it is named {count} times" if count > 1 else column_fault(name) or _type_fault(schema, name)
        if fault is not None:
            raise ConfigurationError(f"the data cannot be partitioned by {name!r}: {fault}. Nothing was sent")
    if columns and len(columns) == len(schema):
        msg = "partition_by names all columns, so the files would have none: leave one out. Nothing was sent"
        raise ConfigurationError(msg)
    own = [_with_values(schema.field(name)) for name in columns]
    held = pa.schema([field for field in schema if field.name not in columns], schema.metadata)
    return Partitioning(columns, pa.schema([*schema_given_back(held), *own], schema.metadata), held)


def _type_fault(schema: pa.Schema, name: str) -> str | None:
    import pyarrow.types as is_

    if name not in schema.names:
        return f"there is no such column, only {', '.join(map(repr, schema.names[:10]))}"
    kind = _with_values(schema.field(name)).type
    if is_.is_floating(kind):
        return (
            "it holds fractions, of which several texts mean one value, and NaN none; cast it to a decimal or to text"
        )
    plain = (is_.is_boolean, is_.is_integer, is_.is_decimal128, is_.is_decimal256, is_.is_string, is_.is_large_string)
    if not any(each(kind) for each in (*plain, is_.is_date, is_.is_timestamp)):
        return f"it is of type {kind}, which Arrow cannot read back from a folder's name; cast it to text"
    return None


def _with_values(field: pa.Field) -> pa.Field:
    """Return a field with the type of its values in place of a dictionary."""
    import pyarrow as pa

    return field.with_type(field.type.value_type) if pa.types.is_dictionary(field.type) else field


def schema_message(schema: pa.Schema) -> bytes:
    """Return a schema as a manifest has it."""
    message: bytes = schema.serialize().to_pybytes()
    return message


def schema_difference(ours: bytes, theirs: bytes) -> str | None:
    """Return how the schema of another dataset differs, in words; ``None`` where its columns are the same.

    Raises:
        ConfigurationError: One of them is no schema.
    """
    first, other = _schema_of(ours), _schema_of(theirs)
    if first.equals(other):  # their metadata, such as pandas' row numbers, may differ
        return None
    if first.names != other.names:
        if sorted(first.names) == sorted(other.names):
            return "its columns have another order"
        odd = sorted(set(first.names) ^ set(other.names))[:5]
        return f"only one of the two has {', '.join(map(repr, odd))}"
    name = next(name for name in first.names if not first.field(name).equals(other.field(name)))
    return f"column {name!r} is {_told(other.field(name))} instead of {_told(first.field(name))}"


def _told(field: pa.Field) -> str:
    return f"{field.type}{'' if field.nullable else ' not null'}"


def _schema_of(message: bytes) -> Any:
    import pyarrow as pa

    try:
        return pa.ipc.read_schema(pa.py_buffer(message))
    except (pa.ArrowException, OSError) as error:
        msg = f"a dataset's manifest has a schema that Arrow cannot read ({type(error).__name__}). Nothing was written"
        raise ConfigurationError(msg) from error
