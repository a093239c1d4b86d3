"""Reading Parquet: whole and verified, or only some columns, verified by what the format offers.

A column read fetches the footer, compares its SHA-256 with the pointer's ``annotations.parquet.footerSha256``, and then
fetches only the column chunks it needs. Where the pointer has a list of blocks, each is verified by its blocks before
pyarrow sees a byte of it, page headers included. pyarrow compares the CRC32 of every page's body as well.

Without a list (older pointers) that is all, in pinned ranges. It does not cover the page *headers*, some 20 to 60 bytes
a page: the format gives them no checksum. A flipped bit there fails to decode or changes nothing; in our flips of every
byte no value came out wrong, but the format does not promise that. A whole read (``columns=None`` and
``filters=None``) hashes every byte and depends on none of this.

The list of blocks in a file's metadata is ours, and not the table's: no schema that is returned has it.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from stepout.artifacts.blocks import FOOTER_KEY
from stepout.artifacts.formats.parquet_decoding import GroupDecoder, TooMuchError
from stepout.artifacts.formats.parquet_footer import check_footer
from stepout.artifacts.listing import names_files
from stepout.artifacts.media_types import PARQUET
from stepout.artifacts.reading.pinned_object import PinnedObject, check_cap, verifier_for
from stepout.artifacts.reading.ranges.blocks import blocks_for
from stepout.artifacts.reading.ranges.parquet_footer import TAIL, footer_of, read_tail
from stepout.artifacts.reading.read_events import is_read
from stepout.artifacts.reading.tables.column_chunks import FetchedRanges
from stepout.artifacts.reading.whole_read import drain, read_whole
from stepout.schemas.errors import (
    ArtifactTooLargeError,
    ChecksumMismatchError,
    ConfigurationError,
    InvalidDocumentError,
    StepoutError,
    UndecodableError,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from stepout.artifacts.reading.access import Verify
    from stepout.schemas.pointer import Pointer

WHOLE_BELOW: Final = 1 << 20
"""A file of at most this size is read and verified whole: that takes one request as well, in bytes."""

_TYPES: Final = frozenset({PARQUET, "application/x-parquet", "application/parquet", "application/vnd.apache.parquet"})


@dataclass(frozen=True, kw_only=True)
class ParquetRead:
    """What is wanted of a file.

    Attributes:
        columns: Names, or dotted paths of nested fields; ``None`` for all.
        filters: As ``pyarrow.parquet.read_table`` takes them; ``None`` for none.
        verify: What it is held against.
        max_size: The most that may be read into memory, in bytes.
    """

    columns: Sequence[str] | None = None
    filters: Any = None
    verify: Verify = True
    max_size: int = 1 << 30

    @property
    def unverified(self) -> bool:
        """Whether nothing is to be verified but the version."""
        return self.verify is False or self.verify == "pinned"


# Decisions on values ----------------------------------------------------------------------------------------------


def is_parquet(pointer: Pointer) -> bool:
    """Tell whether a pointer names a Parquet file, by its media type, or by its key where that says nothing."""
    media_type = pointer.media_type.partition(";")[0].strip().lower()
    unspecific = media_type in {"application/octet-stream", "binary/octet-stream"}
    return media_type in _TYPES or (unspecific and pointer.key.lower().endswith((".parquet", ".parq", ".pq")))


def by_columns(pointer: Pointer, read: ParquetRead) -> bool:
    """Decide whether ranges are read: if less than all is wanted, and what comes can be verified or need not be.

    Args:
        pointer: What is read.
        read: What is wanted of it.
    """
    if pointer.size <= WHOLE_BELOW or read.verify == "sha256":
        return False
    if read.unverified:
        return True
    return _in_ranges(pointer) and (read.columns is not None or read.filters is not None)


def _in_ranges(pointer: Pointer) -> bool:
    """Say whether ranges of a file can be verified."""
    return pointer.blocks is not None or footer_of(pointer) is not None


# Reading ----------------------------------------------------------------------------------------------------------


@is_read("read_table")
def read_table(pinned: PinnedObject, read: ParquetRead) -> Any:
    """Read a table, or some of its columns and rows; see the module.

    Returns:
        A ``pyarrow.Table``.

    Raises:
        ChecksumMismatchError: The bytes are not those that were written.
        UndecodableError: The bytes are those that were written, but no Parquet that pyarrow can read.
        InvalidDocumentError: Its media type is another format's.
        ConfigurationError: pyarrow is missing, a column does not exist, or a filter does not fit its columns.
        ArtifactTooLargeError: It is larger than ``max_size``, or would be, decoded.
        StoreError: Missing, expired, denied, changed, or unreachable.
    """
    require_parquet(pinned.pointer)
    require_pyarrow()
    with closing(open_parquet(pinned, read)) as file:
        try:
            return _table(file, pinned.pointer, read)
        except (StepoutError, MemoryError):  # pyarrow's own want of memory is a MemoryError: no damage
            raise
        except Exception as error:
            if file.failure is not None:
                raise file.failure from error
            failed = error
    if file.verified:
        raise undecodable(pinned.pointer, failed) from failed
    return _second_look(pinned, read, failed)


def open_parquet(pinned: PinnedObject, read: ParquetRead) -> ParquetBytes:
    """Open a file for pyarrow: in ranges where less than all is wanted and they can be verified, else whole.

    Raises:
        ArtifactTooLargeError: It can only be read whole, and is larger than ``max_size``.
        StoreError: As for ``read_table``; so do the others.
    """
    return _ranges(pinned, read) if by_columns(pinned.pointer, read) else _whole(pinned, read)


def _second_look(pinned: PinnedObject, read: ParquetRead, failed: Exception) -> Any:
    """Tell damage from what the decoder does not like, by the checksum of the whole; decode again what was verified."""
    pointer = pinned.pointer
    try:
        if pointer.size > read.max_size:
            drain(pinned, verifier_for(pointer, verify=True))
            raise undecodable(pointer, failed) from failed
        data = read_whole(pinned, verify=True)
    except ChecksumMismatchError as error:
        msg = (
            f"{pointer.url}: a page or the footer is not what was written ({_told(failed)}; {error}). Nothing was "
            "returned. Read again; if it persists, the stored object is damaged"
        )
        raise ChecksumMismatchError(msg) from failed
    try:
        return _table(ParquetBytes(data, verified=True), pointer, read)
    except (StepoutError, MemoryError):
        raise
    except Exception as error:
        raise undecodable(pointer, error) from error


def _told(error: Exception) -> str:
    return str(error).partition("\n")[0][:200] or type(error).__name__


def undecodable(pointer: Pointer, error: Exception) -> UndecodableError:
    """Return the error for what is no Parquet file, though its bytes are those that were written."""
    msg = f"{pointer.url} is no Parquet file that can be read, though its bytes are those written: {_told(error)}"
    return UndecodableError(msg)


@dataclass(frozen=True)
class ParquetBytes:
    """A file for pyarrow, in memory or read in ranges; close it.

    Attributes:
        data: All of it; empty where ranges are read.
        ranges: Reads them, or has them.
        checked: Whether the CRC of every page is compared.
        verified: Whether all was verified before.
    """

    data: bytes = b""
    ranges: FetchedRanges | None = None
    checked: bool = False
    verified: bool = False

    def handle(self) -> Any:
        """Return what pyarrow reads from, anew."""
        import pyarrow as pa

        return pa.BufferReader(self.data) if self.ranges is None else pa.PythonFile(self.ranges.open_file(), mode="r")

    def opened(self, *, statistics: bool = True) -> Any:
        """Return a ``pyarrow.parquet.ParquetFile`` whose column chunks can be asked for.

        Args:
            statistics: Whether these can be, too.

        Raises:
            ValueError: They do not fit the columns; so does whatever pyarrow raises.
        """
        end = memoryview(self.data) if self.ranges is None else self.ranges.end
        parquet = self.reopened()
        check_footer(end, parquet.metadata, statistics=statistics)
        return parquet

    def reopened(self, **options: Any) -> Any:
        """Return the same once more, with the given options of ``ParquetFile``."""
        import pyarrow.parquet as pq

        return pq.ParquetFile(self.handle(), page_checksum_verification=self.checked, pre_buffer=False, **options)

    def fetch(self, spans: Sequence[tuple[int, int]]) -> list[memoryview]:
        """Return the bytes of each span."""
        if self.ranges is not None:
            return self.ranges.fetch(spans)
        whole = memoryview(self.data)
        return [whole[start:stop] for start, stop in spans]

    @property
    def failure(self) -> StepoutError | None:
        """What the store said, where pyarrow only said that it could not read."""
        return None if self.ranges is None else self.ranges.failure

    def close(self) -> None:
        """End what is being downloaded."""
        if self.ranges is not None:
            self.ranges.close()


def _whole(pinned: PinnedObject, read: ParquetRead) -> ParquetBytes:
    instead = 'download it, pass max_size=, or verify="pinned" to read ranges that are not verified'
    check_cap(pinned.pointer, read.max_size, instead=instead)
    return ParquetBytes(read_whole(pinned, read.verify), verified=not read.unverified)


def _ranges(pinned: PinnedObject, read: ParquetRead) -> ParquetBytes:
    footer = None if read.unverified else footer_of(pinned.pointer)
    blocks, tail = blocks_for(pinned, read.verify), b""
    if blocks is not None:
        blocks.load()
    elif footer is not None:
        # pyarrow opens a file by reading its last 64 KiB, whatever the footer's size: those are served from here too.
        tail = read_tail(pinned, footer, pinned.size - min(max(footer.size, TAIL), pinned.size))
    return ParquetBytes(ranges=FetchedRanges(pinned, tail, blocks), checked=footer is not None)


def _without_blocks(metadata: Any) -> Any:
    """Return a schema's metadata without the list of blocks; ``None`` where nothing else is in it."""
    return {name: value for name, value in (metadata or {}).items() if name != FOOTER_KEY} or None


def _table(file: ParquetBytes, pointer: Pointer, read: ParquetRead) -> Any:
    table = _read(file, pointer, read)
    return table.replace_schema_metadata(_without_blocks(table.schema.metadata))


def _read(file: ParquetBytes, pointer: Pointer, read: ParquetRead) -> Any:
    import pyarrow as pa

    parquet = file.opened(statistics=read.filters is not None)
    sifting = _Sifting(parquet.schema_arrow, _checked_columns(parquet, read, pointer), None)
    groups = list(range(parquet.metadata.num_row_groups))
    if read.filters is not None:
        sifting, groups = _sifting(file, parquet, pointer, read)
    else:
        _check_decoded(pointer, read, parquet, sifting.names)
    if not groups or sifting.names == []:
        return parquet.read_row_groups(groups, columns=sifting.names)
    sifted = sifting.condition is not None
    decoder = GroupDecoder(parquet, sifting.wanted, read.max_size, sifted=sifted, reopen=file.reopened)
    tables = []
    try:
        for group in groups:
            # Counted: a page header that was damaged, and that no checksum covers, may end a column early.
            rows = 0
            # Fetched before anything is decoded, all chunks of the group in as few requests as they allow: what pyarrow
            # asks for then is in memory, and the decoder looks at the same bytes that it will be given.
            for table in decoder.tables(group, file.fetch(decoder.spans(group))):
                rows += table.num_rows
                tables.append(decoder.keep(sifting.kept(table)))
            _check_rows(rows, parquet.metadata.row_group(group).num_rows)
    except TooMuchError as error:
        raise _too_large(pointer, error.size, read.max_size) from None
    return pa.concat_tables(tables)


@dataclass(frozen=True)
class _Sifting:
    """Which columns and rows are kept.

    Attributes:
        schema: The file's.
        names: The columns that are kept; ``None`` for all.
        condition: What a row must meet.
        wanted: The columns that are decoded: those that are kept, and those that the condition is about.
    """

    schema: pa.Schema
    names: list[str] | None
    condition: Any

    @property
    def wanted(self) -> list[str] | None:
        if self.condition is None or self.names is None:
            return self.names
        return [name for name in self.schema.names if name in self.names or self._asked(name)]

    def kept(self, table: pa.Table) -> pa.Table:
        """Return the rows and columns of a table that are kept, in their order."""
        import pyarrow.dataset as ds

        if self.condition is None:
            return table
        return ds.dataset(table).to_table(columns=self.names, filter=self.condition)

    def _asked(self, name: str) -> bool:
        """Return whether the condition is about a column: without it, it has no meaning."""
        import pyarrow.dataset as ds

        rest = self.schema.remove(self.schema.get_field_index(name)).empty_table()
        try:
            ds.dataset(rest).scanner(filter=self.condition)
        except Exception:  # noqa: BLE001 - whatever it does not like
            return True
        return False


def _sifting(file: ParquetBytes, parquet: Any, pointer: Pointer, read: ParquetRead) -> tuple[_Sifting, list[int]]:
    """Return what is kept, and the row groups that may have some of it."""
    import pyarrow.dataset as ds
    import pyarrow.parquet as pq

    schema = parquet.schema_arrow
    names = None if read.columns is None else list(read.columns)
    try:
        condition = pq.filters_to_expression(read.filters)
        for name in names or []:
            schema.field(name)
        ds.dataset(schema.empty_table()).to_table(columns=names, filter=condition)
        fragment = _format(file.checked).make_fragment(file.handle()).subset(condition)
    except Exception as error:
        if file.failure is not None:
            raise file.failure from error
        msg = (
            f"{pointer.url}: the filter or the columns do not fit the table ({type(error).__name__}); nothing was "
            "read. With filters, columns are named whole, not by a nested path"
        )
        raise ConfigurationError(msg) from error
    return _Sifting(schema, names, condition), [group.id for group in fragment.row_groups]


def _check_rows(rows: int, expected: int) -> None:
    if rows != expected:
        msg = f"{rows:,} rows came of a row group, the footer says {expected:,}"
        raise ValueError(msg)


def _checked_columns(parquet: Any, read: ParquetRead, pointer: Pointer) -> list[str] | None:
    """Refuse names that the file does not have; pyarrow passes over them in silence."""
    if read.columns is None:
        return None
    if isinstance(read.columns, str):
        msg = f"columns={read.columns!r}: expected a list of names"
        raise ConfigurationError(msg)
    columns = list(read.columns)
    if len(set(columns)) != len(columns):
        msg = f"columns={columns}: a column is named twice; nothing was read"
        raise ConfigurationError(msg)
    leaves = [parquet.metadata.schema.column(index).path for index in range(parquet.metadata.num_columns)]
    paths = {".".join(path.split(".")[:depth]) for path in leaves for depth in range(1, path.count(".") + 2)}
    known = paths | set(leaves) | set(parquet.schema_arrow.names)
    absent = [name for name in columns if name not in known]
    if absent:
        msg = f"{pointer.url} has no columns {absent}; it has {parquet.schema_arrow.names[:50]}"
        raise ConfigurationError(msg)
    return columns


def _check_decoded(pointer: Pointer, read: ParquetRead, parquet: Any, columns: list[str] | None) -> None:
    """Hold what the footer says of the decoded size against the limit: a small file can unfold into a large table.

    What it does not say is how often a dictionary's long texts occur: that is found out when they are decoded.
    """
    metadata = parquet.metadata
    groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
    size = sum(group.total_byte_size for group in groups)
    if size > read.max_size and columns is not None:
        size = sum(
            chunk.total_uncompressed_size
            for group in groups
            for chunk in map(group.column, range(group.num_columns))
            if any(chunk.path_in_schema == name or chunk.path_in_schema.startswith(name + ".") for name in columns)
        )
    types = {field.name: field.type for field in parquet.schema_arrow}
    names = types if columns is None else columns
    size = max(size, metadata.num_rows * sum(_least_bits(types.get(name)) for name in names) // 8)
    if size > read.max_size:
        raise _too_large(pointer, size, read.max_size)


def _least_bits(kind: Any) -> int:
    """Return how many bits a value of a type takes at least: numbers and times their width, everything else one."""
    try:
        return int(kind.bit_width)
    except (AttributeError, ValueError):  # a nested path, or a type without a width
        return 1


def _too_large(pointer: Pointer, size: int, limit: int) -> ArtifactTooLargeError:
    msg = (
        f"{pointer.url}: the table has at least {size:,} bytes, the limit here is {limit:,}; it was not decoded any "
        "further: choose columns or filters, use dataset(), or pass max_size="
    )
    return ArtifactTooLargeError(msg)


# pyarrow ----------------------------------------------------------------------------------------------------------


def require_pyarrow() -> None:
    """Raise ``ConfigurationError``, which says what to install, where pyarrow is missing."""
    try:
        import pyarrow.parquet  # noqa: F401 - tried here, used by the functions that need it
    except ImportError as error:
        msg = 'tables need pyarrow, which is not installed: install stepout with its extra "parquet"'
        raise ConfigurationError(msg) from error


def _format(checked: bool) -> Any:
    import pyarrow.dataset as ds

    options = ds.ParquetFragmentScanOptions(page_checksum_verification=checked, pre_buffer=True)
    return ds.ParquetFileFormat(default_fragment_scan_options=options)


def require_parquet(pointer: Pointer) -> None:
    """Raise ``InvalidDocumentError`` for what is no Parquet, by its media type."""
    if not is_parquet(pointer):
        instead = "Open it with open() and a reader for that format, e.g. pyarrow.csv.read_csv(artifact.open())"
        if names_files(pointer):
            instead = "It names files: dataset().to_table() reads them as one table, and files() has each"
        msg = f"{pointer.url} has the media type {pointer.media_type!r}; read_table reads Parquet only. {instead}"
        raise InvalidDocumentError(msg)
