"""Reading Parquet: whole and verified, or only some columns, verified by what the format offers.

A column read fetches the footer, compares its SHA-256 with the pointer's ``annotations.parquet.footerSha256``, and then
fetches only the column chunks it needs, in pinned ranges, while pyarrow compares the CRC32 of every page's body.

What that does not cover are the page *headers*, some 20 to 60 bytes a page: the format gives them no checksum. A
flipped bit there fails to decode or changes nothing; in our flips of every byte no value came out wrong, but the
format does not promise that. A whole read (``columns=None`` and ``filters=None``) hashes every byte and depends on
none of this.
"""

from __future__ import annotations

import hashlib
import re
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from stepout.artifacts.media import PARQUET
from stepout.artifacts.reader import ArtifactReader
from stepout.artifacts.reading import Source, Verifier, check_cap, read_whole, verifier_for
from stepout.schemas.errors import (
    ArtifactTooLargeError,
    ChecksumMismatchError,
    ConfigurationError,
    InvalidDocumentError,
    StepoutError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from stepout.artifacts.access import Verify
    from stepout.schemas.pointer import Pointer

__all__ = ["Footer", "ParquetRead", "dataset_of", "footer_of", "is_parquet", "read_table"]

WHOLE_BELOW: Final = 1 << 20
"""A file of at most this size is read and verified whole: that takes one request as well, in bytes."""

_TAIL: Final = 64 << 10  # what pyarrow reads first, so that opening the file takes no second request
_FOOTER_LIMIT: Final = 64 << 20
_TRAILER: Final = 12  # length, magic, and the magic at the start: less is no file
_TYPES: Final = frozenset({PARQUET, "application/x-parquet", "application/parquet", "application/vnd.apache.parquet"})


@dataclass(frozen=True)
class Footer:
    """The footer as a pointer's annotations describe it: the last ``size`` bytes, trailer included."""

    size: int
    sha256: str


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
    def pinned(self) -> bool:
        """Whether nothing is to be verified but the version."""
        return self.verify is False or self.verify == "pinned"


# Decisions on values ----------------------------------------------------------------------------------------------


def is_parquet(pointer: Pointer) -> bool:
    """Tell whether a pointer names a Parquet file, by its media type, or by its key where that says nothing."""
    media_type = pointer.media_type.partition(";")[0].strip().lower()
    unspecific = media_type in {"application/octet-stream", "binary/octet-stream"}
    return media_type in _TYPES or (unspecific and pointer.key.lower().endswith((".parquet", ".parq", ".pq")))


def footer_of(pointer: Pointer) -> Footer | None:
    """Return the footer that ``annotations.parquet`` describes; ``None`` without page checksums or a digest."""
    note = (pointer.annotations or {}).get("parquet")
    if not isinstance(note, dict) or note.get("pageChecksums") is not True:
        return None
    size, sha256 = note.get("footerSize"), note.get("footerSha256")
    if type(size) is not int or not _TRAILER <= size <= min(pointer.size, _FOOTER_LIMIT):
        return None
    if not isinstance(sha256, str) or not re.fullmatch("[0-9a-f]{64}", sha256):
        return None
    return Footer(size, sha256)


def _by_columns(pointer: Pointer, read: ParquetRead) -> bool:
    """Decide whether ranges are read: if less than all is wanted, and what comes can be verified or need not be."""
    if pointer.size <= WHOLE_BELOW or read.verify == "sha256":
        return False
    if read.pinned:
        return True
    return footer_of(pointer) is not None and (read.columns is not None or read.filters is not None)


# Reading ----------------------------------------------------------------------------------------------------------


def read_table(source: Source, read: ParquetRead) -> Any:
    """Read a table, or some of its columns and rows; see the module.

    Returns:
        A ``pyarrow.Table``.

    Raises:
        ChecksumMismatchError: The bytes are not those that were written.
        InvalidDocumentError: It is no Parquet file, though its bytes are those that were written.
        ConfigurationError: pyarrow is missing, a column does not exist, or a filter does not fit its columns.
        ArtifactTooLargeError: It is larger than ``max_size``.
        StoreError: Missing, expired, denied, changed, or unreachable.
    """
    _require_parquet(source.pointer)
    _pyarrow()
    if _by_columns(source.pointer, read):
        return _read(_ranges(source, read), source.pointer, read)
    return _read(_whole(source, read), source.pointer, read)


def dataset_of(sources: Sequence[Source], read: ParquetRead) -> Any:
    """Return a ``pyarrow.dataset.Dataset`` over Parquet files, read in verified or pinned ranges as it is scanned."""
    for source in sources:
        _require_parquet(source.pointer)
    _pyarrow()
    import pyarrow.dataset as ds

    inputs = []
    for source in sources:
        inputs.append(_dataset_input(source, read))
        if inputs[-1].reader is None:  # it was read whole, and stays in memory beside the others
            read = replace(read, max_size=read.max_size - source.pointer.size)
    with _translated(sources[0].pointer, whole=False):
        fragments = [_format(file.checked).make_fragment(file.handle) for file in inputs]
        return ds.FileSystemDataset(fragments, fragments[0].physical_schema, _format(checked=True))


@dataclass(frozen=True)
class _Input:
    """A file for pyarrow: what it reads from, whether pages are to be compared, and whether all was verified before."""

    handle: Any
    checked: bool
    whole: bool
    reader: ArtifactReader | None = None


def _dataset_input(source: Source, read: ParquetRead) -> _Input:
    by_ranges = read.pinned or (footer_of(source.pointer) is not None and read.verify != "sha256")
    if by_ranges and source.pointer.size > WHOLE_BELOW:
        return _ranges(source, read)
    return _whole(source, read)


def _whole(source: Source, read: ParquetRead) -> _Input:
    import pyarrow as pa

    instead = 'download it, pass max_size=, or verify="pinned" to read ranges that are not verified'
    check_cap(source.pointer, read.max_size, instead=instead)
    data = read_whole(source, verifier_for(source.pointer, read.verify))
    return _Input(pa.BufferReader(data), checked=False, whole=not read.pinned)


def _ranges(source: Source, read: ParquetRead) -> _Input:
    import pyarrow as pa

    footer = None if read.pinned else footer_of(source.pointer)
    tail = b"" if read.pinned and footer is None else _tail(source, footer)
    reader = ArtifactReader(source, Verifier(source.pointer, None), exact=True, tail=tail)
    return _Input(pa.PythonFile(reader, mode="r"), checked=footer is not None, whole=False, reader=reader)


def _tail(source: Source, footer: Footer | None) -> bytes:
    """Fetch the end of the file in one request and compare the footer's digest."""
    assert footer is not None  # noqa: S101 - callers without one pin only
    pointer = source.pointer
    start = pointer.size - min(max(footer.size, _TAIL), pointer.size)
    tail = b"".join(map(bytes, source.blocks(start, pointer.size)))
    actual = hashlib.sha256(memoryview(tail)[-footer.size :]).hexdigest()
    if actual != footer.sha256:
        msg = (
            f"{pointer.url}: the Parquet footer is not the one that was written: expected sha256 {footer.sha256}, "
            f"got {actual}. No column was read. Read again; if it persists, the stored object is damaged"
        )
        raise ChecksumMismatchError(msg)
    return tail


def _read(file: _Input, pointer: Pointer, read: ParquetRead) -> Any:
    import pyarrow.parquet as pq

    with _translated(pointer, whole=file.whole, reader=file.reader):
        parquet = pq.ParquetFile(file.handle, page_checksum_verification=file.checked, pre_buffer=True)
    columns = _checked_columns(parquet, read, pointer)
    if read.filters is not None:
        return _filtered(file, pointer, read)
    _check_decoded(pointer, read, parquet, columns)
    with _translated(pointer, whole=file.whole, reader=file.reader):
        table = parquet.read(columns=columns)
        _check_rows(table.num_rows, parquet.metadata.num_rows)
    if table.nbytes > read.max_size:
        raise _too_large(pointer, table.nbytes, read.max_size)
    return table


def _filtered(file: _Input, pointer: Pointer, read: ParquetRead) -> Any:
    """Read the row groups that may match, batch by batch, and keep the rows that do.

    The condition is computed as a column of its own, so that every row comes and can be counted: a damaged page header
    can make a lone column shorter without any other sign.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    with _translated(pointer, whole=file.whole, reader=file.reader):
        fragment = _format(file.checked).make_fragment(file.handle)
        schema = fragment.physical_schema
    names = schema.names if read.columns is None else list(read.columns)
    keep = _unused_name(names)
    try:
        condition = pq.filters_to_expression(read.filters)
        found = fragment.subset(condition)
        fields = [schema.field(name) for name in names]
    except Exception as error:
        msg = (
            f"{pointer.url}: the filter or the columns do not fit the table ({type(error).__name__}); nothing was "
            "read. With filters, columns are named whole, not by a nested path"
        )
        raise ConfigurationError(msg) from error
    expected = sum(group.num_rows for group in found.row_groups)
    with _translated(pointer, whole=file.whole, reader=file.reader):
        wanted = {**{name: pc.field(name) for name in names}, keep: condition}
        batches = _kept(found.scanner(columns=wanted).to_batches(), expected, pointer, read)
        return pa.Table.from_batches(list(batches), pa.schema(fields, metadata=schema.metadata))


def _kept(batches: Iterator[Any], expected: int, pointer: Pointer, read: ParquetRead) -> Iterator[Any]:
    """Yield the rows for which the last column is true, without that column."""
    rows = size = 0
    for batch in batches:
        rows += batch.num_rows
        *names, keep = batch.schema.names
        kept = batch.filter(batch.column(keep)).select(names)
        size += kept.nbytes
        if size > read.max_size:
            raise _too_large(pointer, size, read.max_size)
        yield kept
    _check_rows(rows, expected)


def _check_rows(rows: int, expected: int) -> None:
    if rows != expected:
        msg = f"{rows:,} rows came, the footer says {expected:,}"
        raise ValueError(msg)


def _unused_name(names: Sequence[str]) -> str:
    name = "keep"
    while name in names:
        name += "_"
    return name


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


def _pyarrow() -> None:
    try:
        import pyarrow.parquet  # noqa: F401 - tried here, used by the functions that need it
    except ImportError as error:
        msg = "tables need pyarrow, which is not installed: pip install 'stepout[parquet]'"
        raise ConfigurationError(msg) from error


def _format(checked: bool) -> Any:
    import pyarrow.dataset as ds

    options = ds.ParquetFragmentScanOptions(page_checksum_verification=checked, pre_buffer=True)
    return ds.ParquetFileFormat(default_fragment_scan_options=options)


def _require_parquet(pointer: Pointer) -> None:
    if not is_parquet(pointer):
        msg = (
            f"{pointer.url} has the media type {pointer.media_type!r}; read_table reads Parquet only. Open it with "
            "open() and a reader for that format, e.g. pyarrow.csv.read_csv(artifact.open())"
        )
        raise InvalidDocumentError(msg)


@contextmanager
def _translated(pointer: Pointer, *, whole: bool, reader: ArtifactReader | None = None) -> Iterator[None]:
    """Turn what pyarrow raises into an error of ours: damage where not all was verified, else no Parquet file."""
    try:
        yield
    except (StepoutError, MemoryError):  # pyarrow's own want of memory is a MemoryError: no damage
        raise
    except Exception as error:
        if reader is not None and reader.failure is not None:
            raise reader.failure from error
        told = str(error).partition("\n")[0][:200]
        if whole:
            msg = f"{pointer.url} is no Parquet file that can be read, though its bytes are those written: {told}"
            raise InvalidDocumentError(msg) from error
        msg = (
            f"{pointer.url}: a page or the footer is not what was written, or it is no Parquet file: {told}. "
            "Nothing was returned. Read again; if it persists, the stored object is damaged"
        )
        raise ChecksumMismatchError(msg) from error
