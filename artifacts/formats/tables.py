"""Tables to Parquet, streamed: one row group in memory, however long the stream.

What the pointer's ``annotations.parquet`` says, and a reader builds on:

- ``rows``, ``rowGroups``, ``columns`` (top-level ones), ``pageChecksums`` (``true``: every page header has a CRC);
- ``footerSize``: the length in bytes of the file's tail that holds the footer's metadata, the four bytes of its length,
  and the final ``PAR1``: the last ``footerSize`` bytes of the file, the trailer of 8 bytes included;
- ``footerSha256``: the SHA-256, lower-case hex, over exactly these ``footerSize`` bytes.

The digests of the file's blocks are in its footer, under the key "stepout:blocks" (see ``artifacts.blocks``), unless
the bytes before the footer are one block. They cover every byte before it: no page index and no Bloom filter is
written, which Arrow would put between the row groups and the footer, after the digests are taken.

What changes on the way, because Parquet or its readers could not give it back: dictionary indices become 32-bit (row
groups may need more values than the index type of one batch counts), unsigned ones stay unsigned (polars panics on a
file whose metadata says otherwise), view types become large text and binary, run-end encoded columns are decoded.
Compression is Snappy unless asked otherwise: every reader of Parquet has it, and on a network inside AWS a stronger one
costs more time than it saves.
"""

from __future__ import annotations

import hashlib
import io
import struct
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Protocol

from stepout.artifacts.blocks import FOOTER_KEY, BlockDigests, encoded, in_footer, listed
from stepout.artifacts.formats.arrow import Batches, batches_of
from stepout.artifacts.formats.conform import Conformer
from stepout.artifacts.formats.row_groups import ROW_GROUP_BYTES
from stepout.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    import pyarrow as pa
    from typing_extensions import Buffer

    from stepout.artifacts.blocks import WantedBlocks
    from stepout.artifacts.formats.chunks import Labelled


_MAX_ROWS: Final = 1 << 26
_GATHERED: Final = 1 << 16
"""What is longer goes on as it is, without a copy."""

_MAGIC: Final = b"PAR1"
_TRAILER: Final = 8


class ByteWriter(Protocol):
    """Where the encoded file goes, in order."""

    def write(self, data: memoryview, /) -> int:
        """Take all of ``data``, which is another's memory as soon as this returns."""
        ...


@dataclass(frozen=True)
class TableSource:
    """A table that has passed every check that needs no data.

    Attributes:
        schema: What is written.
        batches: What is read, once.
        close: Lets go of what the batches come from, whether they were read or not.
    """

    schema: pa.Schema
    batches: Iterator[Labelled]
    close: Callable[[], object]


def table_source(table: object) -> TableSource:
    """Check what a table is made of, before anything is sent.

    Args:
        table: Anything with the Arrow C stream, array or device interface, a pyarrow dataset or scanner, or an iterator
            of such things.

    Returns:
        What ``encode_table`` takes; close it. Of a one-shot source, nothing but its first batch was read, or as many as
        it takes to know every column's type.

    Raises:
        ConfigurationError: It is no table, has two columns of one name, has rows but no columns, or has a column of a
            type that Parquet cannot hold.
    """
    source: Batches = batches_of(table)
    try:
        _check_names(source.schema)
        if len(source.schema) == 0:
            return TableSource(source.schema, _no_rows(source.batches), source.close)
        _check_known(source.schema)
        storable = _storable_schema(source.schema)
        _check_storable(storable)
    except BaseException:
        with suppress(Exception):  # a refused query would keep its connection busy
            source.close()
        raise
    return TableSource(storable, source.batches, source.close)


class EncodedTable(NamedTuple):
    """What a pointer says of a table.

    Attributes:
        annotation: The members of ``annotations.parquet``; see the module's docstring.
        blocks: ``Pointer.blocks``; ``None`` if the file holds no list of them.
        metadata: The footer that was written, a ``pyarrow.parquet.FileMetaData``.
    """

    annotation: Mapping[str, Any]
    blocks: Mapping[str, Any] | None
    metadata: Any


class TableEncoder:
    """Writes one Parquet file, row group by row group. Call ``end`` or ``drop``, whatever happens.

    Args:
        schema: What is written.
        sink: Where the file goes; an exception that it raises ends the writing, unchanged.
        compression: From ``checked_compression``.
        blocks: Which digests of blocks the footer holds; ``None`` for none.
    """

    def __init__(self, schema: pa.Schema, sink: ByteWriter, compression: str, blocks: WantedBlocks | None) -> None:
        import pyarrow.parquet as pq

        self.rows = 0
        self._groups, self._columns = 0, len(schema)
        self._footer: list[Any] = []
        self._digests = None if blocks is None else BlockDigests(blocks.algorithm)
        self._tail = _KeptEnd(sink, self._digests)
        # Arrow writes headers and lengths in pieces of some bytes: gathered, a page costs the sink two calls, not ten.
        self._gathered = io.BufferedWriter(self._tail, _GATHERED)
        self._writer = pq.ParquetWriter(
            self._gathered,
            schema,
            compression=compression,
            write_page_checksum=True,
            metadata_collector=self._footer,
        )

    def write(self, group: pa.Table) -> None:
        """Write one row group.

        Raises:
            ConfigurationError: It holds what Parquet cannot.
        """
        _write_group(self._writer, group)
        self.rows += group.num_rows
        self._groups += 1

    def end(self) -> EncodedTable:
        """Write the footer."""
        # What Arrow writes on closing is the footer, which the digest in the annotations is of: nothing before it may
        # still be on its way when the copy begins.
        self._gathered.flush()
        self._tail.mode = "keep"
        member = None if self._digests is None else _add_list(self._writer, self._digests)
        self._writer.close()
        self._gathered.flush()
        size, digest = self._tail.footer()
        annotation = {
            "rows": self.rows,
            "rowGroups": self._groups,
            "columns": self._columns,
            "pageChecksums": True,
            "footerSize": size,
            "footerSha256": digest,
        }
        return EncodedTable(annotation, member, self._footer[0])

    def drop(self) -> None:
        """End without a file: a writer that is left closes itself when it is collected, and would write a footer."""
        self._tail.mode = "drop"
        with suppress(Exception):
            self._writer.close()


def encode_table(
    source: TableSource,
    sink: ByteWriter,
    compression: str = "snappy",
    row_group_bytes: int = ROW_GROUP_BYTES,
    blocks: WantedBlocks | None = None,
) -> EncodedTable:
    """Write a table as one Parquet file.

    Args:
        source: From ``table_source``; it is used up.
        sink: See ``TableEncoder``, as for what follows.
        compression: ``"snappy"``, ``"zstd"``, ``"gzip"``, ``"lz4"``, ``"brotli"`` or ``"none"``.
        row_group_bytes: Arrow memory in one row group, about.
        blocks: Which digests the footer holds.

    Raises:
        ConfigurationError: A batch does not fit the schema of the first, or holds what Parquet cannot.
    """
    if not isinstance(row_group_bytes, int) or row_group_bytes < 1:
        raise ConfigurationError(f"row_group_bytes is {row_group_bytes!r}: expected a whole number, 1 or more")
    encoder = TableEncoder(source.schema, sink, checked_compression(compression), blocks)
    try:
        for group in row_groups(source, row_group_bytes):
            encoder.write(group)
        return encoder.end()
    except BaseException:
        encoder.drop()
        raise


def _add_list(writer: Any, digests: BlockDigests) -> Mapping[str, Any] | None:
    """Put the list of all that is written into the footer, which is yet to come, and return ``Pointer.blocks``."""
    blocks = listed(digests.algorithm, digests.digests(), digests.covered)
    if blocks is None:
        return None
    writer.add_key_value_metadata({FOOTER_KEY: encoded(blocks)})
    return in_footer(blocks)


def checked_compression(compression: str) -> str:
    """Return a compression that this pyarrow can write.

    Raises:
        ConfigurationError: It cannot.
    """
    import pyarrow as pa

    wanted = compression.lower() if isinstance(compression, str) else ""
    if wanted != "none" and not (
        wanted in ("snappy", "zstd", "gzip", "lz4", "brotli") and pa.Codec.is_available(wanted)
    ):
        msg = f"compression {compression!r}: expected snappy, zstd, gzip, lz4, brotli or none; nothing was sent"
        raise ConfigurationError(msg)
    return wanted


# Checks ------------------------------------------------------------------------------------------------------------


def _check_names(schema: pa.Schema) -> None:
    twice = sorted(name for name, count in Counter(schema.names).items() if count > 1)
    if twice:
        shown = ", ".join(map(repr, twice[:5])) + ("" if len(twice) <= 5 else f" and {len(twice) - 5} more")  # noqa: PLR2004 - enough to see
        msg = f"the table has more than one column named {shown}: Parquet could not give them back; rename them"
        raise ConfigurationError(f"{msg}. Nothing was sent")


def _no_rows(batches: Iterable[Labelled]) -> Iterator[Labelled]:
    rows = sum(batch.num_rows for _, batch in batches)
    if rows:
        msg = f"the table has {rows:,} rows but no columns: Parquet could not give the rows back. Nothing was sent"
        raise ConfigurationError(msg)
    return iter(())


def _check_known(schema: pa.Schema) -> None:
    """Refuse what only DuckDB can read, and DuckDB only from Arrow: Parquet would give it back as bytes."""
    for column in schema:
        own = next((kind for kind in _types_in(column.type) if getattr(kind, "vendor_name", "") == "DuckDB"), None)
        if own is not None:
            msg = f"column {column.name!r} holds DuckDB's type {own.type_name}, which Parquet would give back as bytes"
            raise ConfigurationError(f"{msg}: cast it in the query, CAST(… AS VARCHAR). Nothing was sent")


def _types_in(kind: pa.DataType) -> Iterator[pa.DataType]:
    yield kind
    for index in range(kind.num_fields):
        yield from _types_in(kind.field(index).type)


def _check_storable(schema: pa.Schema) -> None:
    """Let Parquet itself say which column it cannot hold: it refuses a schema before it writes a byte of data."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for column in schema:
        error: Exception | None = None
        try:
            pq.ParquetWriter(pa.BufferOutputStream(), pa.schema([column])).close()
        except (pa.ArrowException, NotImplementedError, OSError) as refused:  # OSError: a decimal's negative scale
            error = refused
        if error is not None or _has_empty_lists(column.type):
            msg = f"column {column.name!r} is of type {column.type}, which Parquet cannot hold; cast or drop it"
            raise ConfigurationError(f"{msg}. Nothing was sent") from error


def schema_given_back(schema: pa.Schema) -> pa.Schema:
    """Return the schema that Parquet gives back: it has no times in seconds, and few types of dictionaries.

    Args:
        schema: A ``TableSource``'s.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = pa.BufferOutputStream()
    pq.ParquetWriter(file, schema).close()
    return pq.read_schema(pa.BufferReader(file.getvalue()))


def _has_empty_lists(kind: pa.DataType) -> bool:
    """Return whether there are lists of a fixed size of 0 in a type: Arrow writes them, and cannot read them back."""
    import pyarrow as pa

    if pa.types.is_fixed_size_list(kind) and kind.list_size == 0:
        return True
    return any(_has_empty_lists(kind.field(index).type) for index in range(kind.num_fields))


def _storable_schema(schema: pa.Schema) -> pa.Schema:
    import pyarrow as pa

    # A table that was read from a file of ours, by other means than stepout, may carry that file's list of blocks.
    metadata = {name: value for name, value in (schema.metadata or {}).items() if name != FOOTER_KEY}
    return pa.schema([column.with_type(_storable(column.type)) for column in schema], metadata=metadata or None)


def _storable(kind: pa.DataType) -> pa.DataType:
    """Return the type to write in a type's place; the module's docstring says why."""
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        unsigned = str(kind.index_type).startswith("u")
        return pa.dictionary(pa.uint32() if unsigned else pa.int32(), _storable(kind.value_type), kind.ordered)
    if pa.types.is_run_end_encoded(kind):
        return _storable(kind.value_type)
    if pa.types.is_string_view(kind):
        return pa.large_string()
    if pa.types.is_binary_view(kind):
        return pa.large_binary()
    return _storable_nested(kind)


def _storable_nested(kind: pa.DataType) -> pa.DataType:
    import pyarrow as pa

    def inner(child: pa.Field) -> pa.Field:
        return child.with_type(_storable(child.type))

    if pa.types.is_struct(kind):
        return pa.struct([inner(kind.field(index)) for index in range(kind.num_fields)])
    if pa.types.is_large_list(kind):
        return pa.large_list(inner(kind.value_field))
    if pa.types.is_list(kind):
        return pa.list_(inner(kind.value_field))
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(inner(kind.value_field), kind.list_size)
    return kind


# Row groups --------------------------------------------------------------------------------------------------------


def row_groups(source: TableSource, limit: int) -> Iterator[pa.Table]:
    """Gather batches into tables of about ``limit`` bytes of Arrow memory, all with the schema that is written."""
    import pyarrow as pa

    pending: list[pa.RecordBatch] = []
    gathered = rows = 0
    for batch in _pieces(source, limit):
        # Dictionaries count for every batch that brings one, although a row group unifies them: too early a cut costs
        # some bytes of the file, too late a one memory.
        weight = weight_of(batch)
        if pending and (gathered + weight > limit or rows + batch.num_rows > _MAX_ROWS):
            yield pa.Table.from_batches(pending, source.schema)
            pending, gathered, rows = [], 0, 0
        pending.append(batch)
        gathered += weight
        rows += batch.num_rows
    if pending:
        yield pa.Table.from_batches(pending, source.schema)


def _pieces(source: TableSource, limit: int) -> Iterator[pa.RecordBatch]:
    """Cut batches that are larger than a row group, and give every piece the schema that is written."""
    conformer = Conformer(source.schema)
    for label, batch in source.batches:
        if batch.num_rows == 0:
            continue
        rows = max(1, min(_MAX_ROWS, batch.num_rows * limit // max(1, weight_of(batch, dictionaries=False))))
        for start in range(0, batch.num_rows, rows):
            yield conformer.conform(batch.slice(start, rows), label)


def weight_of(batch: pa.RecordBatch, *, dictionaries: bool = True) -> int:
    """Return the Arrow memory of a batch in bytes, with or without its dictionaries."""
    import pyarrow as pa

    total = 0
    for column in batch.columns:
        if pa.types.is_dictionary(column.type):
            total += int(column.indices.nbytes) + dictionaries * int(column.dictionary.nbytes)
        else:
            total += int(column.nbytes)
    return total


def _write_group(writer: Any, group: pa.Table) -> None:
    import pyarrow as pa

    try:
        writer.write_table(group.unify_dictionaries(), row_group_size=group.num_rows)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        # Arrow's messages quote values, so its own is not repeated.
        where = next((f", column {name!r} of type {kind}" for name, kind in _culprits(group)), "")
        msg = f"a row group of {group.num_rows:,} rows{where} could not be encoded as Parquet ({type(error).__name__})"
        raise ConfigurationError(f"{msg}; nothing was kept") from None


def _culprits(group: pa.Table) -> Iterator[tuple[str, pa.DataType]]:
    """Encode each column alone, and yield those that cannot be."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for column in group.schema:
        try:
            pq.write_table(group.select([column.name]), pa.BufferOutputStream())
        except pa.ArrowException:
            yield column.name, column.type


class _KeptEnd(io.RawIOBase):
    """A file object for Arrow: digests everything and passes it on; keeps a copy instead, or drops it, once told."""

    def __init__(self, sink: ByteWriter, digests: BlockDigests | None) -> None:
        self._sink, self._digests = sink, digests
        self._kept: list[bytes] = []
        self.mode: Literal["pass", "keep", "drop"] = "pass"

    def writable(self) -> bool:
        return True

    def write(self, data: Buffer, /) -> int:
        piece = memoryview(data)
        if self.mode == "keep":
            self._kept.append(bytes(piece))
        elif self._digests is not None and self.mode == "pass":
            self._digests.update(piece)
        if self.mode != "drop":
            self._sink.write(piece)
        return len(piece)

    def footer(self) -> tuple[int, str]:
        """Return the size of the file's tail and its digest, as the module's docstring defines them."""
        tail = b"".join(self._kept)
        (length,) = struct.unpack("<I", tail[-_TRAILER:-4])
        size = length + _TRAILER
        if tail[-4:] != _MAGIC or size != len(tail):
            raise AssertionError("pyarrow wrote its footer before it was closed, or more than that afterwards")
        return size, hashlib.sha256(tail[-size:]).hexdigest()
