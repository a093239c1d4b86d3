"""Decoding Parquet within a limit: nothing is decoded before it is known to fit, or counted in steps that do.

A small file can unfold into a large table: by compression, by a dictionary's long text that occurs often, by prefixes
that repeat, by runs of nulls. And its footer can be false. So before a row group is decoded, the headers of its pages
say what the decoder will allocate (``parquet_pages``). Where that may be over the limit because of a dictionary, its
longest text is looked at; where it still may be, texts are first decoded as indices into their dictionary, and counted;
and where texts repeat prefixes, or few rows may be kept, so few rows are decoded at once that they fit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from stepout.artifacts.formats.parquet_pages import Pages, read_pages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import pyarrow as pa

_SLOT: Final = 8  # an offset, or a pair of levels and a bit of validity: what a value takes beside itself, in bytes
_DECIMAL: Final = 32
_WIDTHS: Final = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 8, "FLOAT": 4, "DOUBLE": 8}
_EXCESS: Final = 4  # how often the limit may be taken meanwhile where only an upper bound of it is known
_MOST_STEPS: Final = 100_000
_STEP: Final = 8  # the share of the limit that rows decoded at once may take


class TooMuchError(Exception):
    """Decoding would take more than the limit, in bytes."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.size = size


@dataclass(frozen=True)
class _Chunk:
    """One column chunk of a row group: what its pages and the footer say."""

    path: str
    width: int
    nested: bool
    categorical: bool
    pages: Pages
    rows: int

    @property
    def values(self) -> int:
        """How many values are decoded at most."""
        return self.pages.values if self.nested else min(self.pages.values, self.rows)

    @property
    def text(self) -> bool:
        """Whether its values have no fixed width."""
        return not self.width

    def most(self, longest: int | None = None) -> int:
        """Return the most memory that its decoded values can take.

        Args:
            longest: Bytes of the longest text of its dictionary, where that is known.
        """
        slots = _SLOT * self.values
        if self.categorical:
            return slots + self.pages.dictionary + self.pages.size
        if not self.text:
            return slots + self.width * self.values
        by_index = min(self.pages.by_dictionary, self.values) * (self.pages.dictionary if longest is None else longest)
        by_prefix = min(self.pages.by_prefix, self.values) * self.pages.largest
        return slots + self.pages.size + by_index + by_prefix

    def row(self, longest: int | None = None) -> int:
        """Return the most memory that one row can take; of a nested column, what one does take on average."""
        if self.nested:
            return self.most(longest) // max(self.rows, 1)
        if not self.text:
            return _SLOT + self.width
        by_index = (self.pages.dictionary if longest is None else longest) if self.pages.by_dictionary else 0
        plain = self.pages.values > self.pages.by_dictionary
        return _SLOT + max(by_index, self.pages.largest if plain else 0)

    @property
    def least(self) -> int:
        """Return the least memory that its decoded values take, where their number does not follow from the rows."""
        return self.values * max(1, min(self.width, 4)) if self.nested else 0

    @property
    def slots(self) -> int:
        """Return what levels, offsets and values of a fixed width take while a nested column is decoded."""
        return self.values * (_SLOT + self.width) if self.nested else 0


class GroupDecoder:
    """Decodes row groups, one after the other, within one limit.

    Args:
        parquet: A ``pyarrow.parquet.ParquetFile``.
        columns: As pyarrow takes them; ``None`` for all.
        limit: The most memory that everything that is kept may take, and everything that is decoded at once, in bytes.
        sifted: Whether few rows may be kept of what is decoded.
        reopen: Opens the file once more, with the given options of ``ParquetFile``.
    """

    def __init__(
        self, parquet: Any, columns: list[str] | None, limit: int, *, sifted: bool, reopen: Callable[..., Any]
    ) -> None:
        self._parquet = parquet
        self._columns = columns
        self._named = None if columns is None else frozenset(columns)
        self._limit = limit
        self._sifted = sifted
        self._reopen = reopen
        self._metadata = parquet.metadata
        self._schema = parquet.schema_arrow
        self._leaves = [index for index in range(self._metadata.num_columns) if self._wanted(index)]
        self.kept = 0

    def keep(self, table: pa.Table) -> pa.Table:
        """Count a table that is kept.

        Raises:
            TooMuchError: It is too much, with what was kept before.
        """
        self.kept += table.nbytes
        if self.kept > self._limit:
            raise TooMuchError(self.kept)
        return table

    def spans(self, group: int) -> list[tuple[int, int]]:
        """Return where the column chunks lie that decoding a row group takes."""
        described = self._metadata.row_group(group)
        return [span_of(described.column(index)) for index in self._leaves]

    def tables(self, group: int, pieces: Sequence[memoryview]) -> Iterator[pa.Table]:
        """Yield the rows of a row group.

        Args:
            group: Its index.
            pieces: The bytes of each of its ``spans``; pyarrow reads them next, from the file.

        Raises:
            TooMuchError: They would take more than is left of the limit.
            ValueError: A page header is invalid.
        """
        chunks = self._chunks(group, pieces)
        left = self._limit if self._sifted else self._limit - self.kept
        self._check(chunks, left)
        longest: dict[str, int] = {}
        if sum(chunk.most() for chunk in chunks) > left:
            longest = {chunk.path: self._longest(group, chunk) for chunk in chunks if chunk.text}
        if sum(chunk.most(longest.get(chunk.path)) for chunk in chunks) <= left:
            yield self._parquet.read_row_group(group, columns=self._columns)
        elif self._sifted or any(chunk.pages.by_prefix for chunk in chunks if chunk.text):
            yield from self._in_steps(group, chunks, longest)
        else:
            yield self._counted(group, chunks, left)

    def _check(self, chunks: list[_Chunk], left: int) -> None:
        """Refuse what is too much, however it is decoded."""
        dictionaries = sum(chunk.pages.dictionary for chunk in chunks)
        pages = sum(chunk.pages.largest if self._sifted else chunk.pages.size for chunk in chunks)
        if dictionaries + pages > self._limit:
            raise TooMuchError(dictionaries + pages)
        least = sum(chunk.least for chunk in chunks)
        slots = sum(chunk.slots for chunk in chunks)
        if (least > left and not self._sifted) or slots > _EXCESS * self._limit:
            raise TooMuchError(max(least, slots))

    def _wanted(self, index: int) -> bool:
        path = self._metadata.schema.column(index).path
        return self._named is None or not self._named.isdisjoint(prefixes_of(path))

    def _chunks(self, group: int, pieces: Sequence[memoryview]) -> list[_Chunk]:
        described = self._metadata.row_group(group)
        return [
            self._chunk(index, described.column(index), piece, described.num_rows)
            for index, piece in zip(self._leaves, pieces, strict=True)
        ]

    def _chunk(self, index: int, column: Any, piece: memoryview, rows: int) -> _Chunk:
        leaf = self._metadata.schema.column(index)
        decimal = _DECIMAL if leaf.logical_type.type == "DECIMAL" or leaf.converted_type == "DECIMAL" else 0
        width = _WIDTHS.get(leaf.physical_type, 0)
        if leaf.physical_type == "FIXED_LEN_BYTE_ARRAY":
            width = leaf.length
        name = leaf.path.partition(".")[0]
        return _Chunk(
            path=leaf.path,
            width=max(width, decimal),
            nested=leaf.max_repetition_level > 0,
            categorical=leaf.path == name and self._is_categorical(name),
            pages=read_pages(piece, column.num_values),
            rows=rows,
        )

    def _is_categorical(self, name: str) -> bool:
        import pyarrow as pa

        return name in self._schema.names and bool(pa.types.is_dictionary(self._schema.field(name).type))

    # Row groups that may be too large --------------------------------------------------------------------------------

    def _longest(self, group: int, chunk: _Chunk) -> int:
        """Return how long the longest text of a chunk's dictionary is, in bytes; the dictionary alone is decoded."""
        import pyarrow.compute as pc

        if not chunk.pages.by_dictionary or chunk.categorical:
            return 0
        parquet = self._reopen(read_dictionary=[chunk.path])
        for batch in parquet.iter_batches(batch_size=1, row_groups=[group], columns=[chunk.path]):
            for leaf in _dictionaries(batch.column(0)):
                return int(pc.max(pc.binary_length(leaf.dictionary)).as_py() or 0)
        return chunk.pages.dictionary

    def _in_steps(self, group: int, chunks: list[_Chunk], longest: dict[str, int]) -> Iterator[pa.Table]:
        """Decode few rows at once."""
        import pyarrow as pa

        rows = self._metadata.row_group(group).num_rows
        each = sum(chunk.row(longest.get(chunk.path)) for chunk in chunks)
        # One row of a list may have all the values there are, and arrays of a fixed width are made for 1,024 rows.
        lists = sum(chunk.most(longest.get(chunk.path)) for chunk in chunks if chunk.nested)
        wide = sum(chunk.width * min(rows, 1024) for chunk in chunks if not chunk.nested)
        if lists + wide > _EXCESS * self._limit:
            raise TooMuchError(lists + wide)
        step = max(1, self._limit // _STEP // max(each, 1))
        if rows // step > _MOST_STEPS:
            raise TooMuchError(rows * each)
        for batch in self._parquet.iter_batches(batch_size=step, row_groups=[group], columns=self._columns):
            yield pa.Table.from_batches([batch])

    def _counted(self, group: int, chunks: list[_Chunk], left: int) -> pa.Table:
        """Decode texts as indices into their dictionary, count, and only then put them in their place."""
        import pyarrow as pa

        paths = [chunk.path for chunk in chunks if chunk.text]
        table = self._reopen(read_dictionary=paths).read_row_group(group, columns=self._columns)
        kinds = [_as(column.type, self._schema.field(column.name).type) for column in table.schema]
        size = sum(
            _size(part, kind) for column, kind in zip(table.columns, kinds, strict=True) for part in column.chunks
        )
        if size > left:
            raise TooMuchError(self.kept + size)
        fields = [column.with_type(kind) for column, kind in zip(table.schema, kinds, strict=True)]
        return table.cast(pa.schema(fields, metadata=table.schema.metadata))


def prefixes_of(path: str) -> list[str]:
    """Return the names that pyarrow knows a column of the file by: its path, and those of what it is nested in.

    >>> prefixes_of("a.list.element"), prefixes_of("a")
    (['a', 'a.list', 'a.list.element'], ['a'])
    """
    parts = path.split(".")
    return [".".join(parts[:depth]) for depth in range(1, len(parts) + 1)]


def span_of(column: Any) -> tuple[int, int]:
    """Return where a column chunk begins and ends in the file, as Arrow reads it."""
    start, dictionary = column.data_page_offset, column.dictionary_page_offset
    if dictionary is not None and 0 < dictionary < start:
        start = dictionary
    return start, start + column.total_compressed_size


def _parts(column: pa.Array) -> list[pa.Array]:
    """Return the arrays that a nested array is made of."""
    import pyarrow.types as is_

    kind = column.type
    if is_.is_struct(kind):
        return [column.field(index) for index in range(kind.num_fields)]
    if is_.is_map(kind):
        return [column.keys, column.items]
    if is_.is_list(kind) or is_.is_large_list(kind) or is_.is_fixed_size_list(kind):
        return [column.values]
    return []


def _dictionaries(column: pa.Array) -> Iterator[pa.DictionaryArray]:
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        yield column
    for part in _parts(column):
        yield from _dictionaries(part)


def _size(column: pa.Array, kind: pa.DataType | None) -> int:
    """Return how many bytes a column takes once it is of another type: its texts stand in their places then."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if column.type == kind:
        return int(column.nbytes)
    if pa.types.is_dictionary(column.type):
        lengths = pc.binary_length(column.dictionary).cast(pa.int64())
        offsets = 4 if kind is not None and kind in (pa.string(), pa.binary()) else _SLOT
        return int(pc.sum(lengths.take(column.indices)).as_py() or 0) + offsets * len(column)
    return _SLOT * len(column) + sum(_size(part, None) for part in _parts(column)) if _parts(column) else column.nbytes


def _as(kind: pa.DataType, wanted: pa.DataType) -> pa.DataType:
    """Return a type with texts where the file has texts; it may have fewer members than the file."""
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        return wanted
    if pa.types.is_struct(kind):
        members = [kind.field(index) for index in range(kind.num_fields)]
        return pa.struct([each.with_type(_as(each.type, wanted.field(each.name).type)) for each in members])
    if pa.types.is_map(kind):
        item = kind.item_field.with_type(_as(kind.item_type, wanted.item_type))
        return pa.map_(kind.key_field.with_type(_as(kind.key_type, wanted.key_type)), item, kind.keys_sorted)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        make = pa.list_ if pa.types.is_list(kind) else pa.large_list
        return make(kind.value_field.with_type(_as(kind.value_type, wanted.value_type)))
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(kind.value_field.with_type(_as(kind.value_type, wanted.value_type)), kind.list_size)
    return kind
