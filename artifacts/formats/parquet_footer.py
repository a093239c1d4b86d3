"""The footer of a Parquet file, looked at before pyarrow looks at its column chunks.

pyarrow reads most of a footer with care, and reports what is wrong. What it finds out when a column chunk's metadata or
statistics are asked for, it throws where nobody catches, and the process ends with ``SIGABRT`` (pyarrow 26,
``RowGroupMetaData.column``, filters of datasets). All of that is compared here first. Formats: parquet.thrift in
apache/parquet-format; what is compared: ``ColumnChunkMetaData`` and ``MakeColumnStats`` in Arrow's
cpp/src/parquet/metadata.cc.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from stepout.artifacts.formats.thrift_compact import BINARY, I32, I64, STRUCT, CompactReader, Each

if TYPE_CHECKING:
    from collections.abc import Callable

FIRST_READ: Final = 64 << 10
"""What pyarrow reads first of a file, in bytes; more only if the footer is larger."""

_TRAILER: Final = 8  # its length, and the magic number
_WIDTHS: Final = {  # of a value in the statistics, in bytes, in the order of the types' numbers
    "BOOLEAN": 1,
    "INT32": 4,
    "INT64": 8,
    "INT96": 12,
    "FLOAT": 4,
    "DOUBLE": 8,
    "BYTE_ARRAY": 0,
    "FIXED_LEN_BYTE_ARRAY": 0,
}
_NUMBERS: Final = {name: number for number, name in enumerate(_WIDTHS)}
_CODECS: Final = range(8)
_TEXT: Final = "BYTE_ARRAY"
_OTHER_COLUMNS: Final = "the footer has a row group whose column chunks are not one for each column"

# Every list that pyarrow knows is here: it takes the items for what they should be, whatever their type is said to be.
_PAIRS: Final = Each(STRUCT)
_STATISTICS: Final = {1: BINARY, 2: BINARY, 5: BINARY, 6: BINARY}
_SIZES: Final = {1: I64, 2: Each(I64), 3: Each(I64)}
_METADATA: Final = {
    1: I32,
    2: Each(I32),
    3: Each(BINARY),
    4: I32,
    8: _PAIRS,
    12: _STATISTICS,
    13: Each(STRUCT),
    16: _SIZES,
    17: {2: Each(I32)},
}
_CHUNK: Final = {3: _METADATA, 8: {1: {}, 2: {1: Each(BINARY)}}}


class _Leaf(NamedTuple):
    """What the column chunks of one column must be like; ``width`` as in ``_WIDTHS``."""

    number: int
    type: int
    width: int
    text: bool
    definitions: int
    repetitions: int


def read_end(read_at: Callable[[int, int], memoryview], size: int) -> memoryview:
    """Read the end of a file, with all of its footer; as pyarrow does, which reads it once more if it is large.

    Args:
        read_at: Reads from a position so many bytes.
        size: Of the file.
    """
    end = read_at(max(size - FIRST_READ, 0), min(size, FIRST_READ))
    whole = int.from_bytes(end[-_TRAILER:-4], "little") + _TRAILER
    return read_at(size - whole, whole) if len(end) < whole <= size else end


def check_footer(end: bytes | memoryview, metadata: Any, *, statistics: bool = True) -> None:
    """Compare the column chunks that a footer describes with its columns.

    Args:
        end: The end of the file, with all of its footer.
        metadata: The ``pyarrow.parquet.FileMetaData`` that pyarrow made of it; no column chunk was asked for.
        statistics: Whether somebody looks at statistics. Where nobody does, those of a ``FIXED_LEN_BYTE_ARRAY`` may be
            shorter than its values: the format permits it, arrow-rs cuts them off at 64 bytes, and pyarrow then reads
            the values and ends the process at the statistics.

    Raises:
        ValueError: They do not fit, and pyarrow may end the process if it looks at them.
    """
    size = int.from_bytes(end[-_TRAILER:-4], "little")
    footer = bytes(end[-_TRAILER - size : -_TRAILER])
    schema = metadata.schema
    columns = map(schema.column, range(metadata.num_columns))
    groups = _Groups([_leaf(index, column, statistics) for index, column in enumerate(columns)])
    chunks = Each(STRUCT, _CHUNK, groups.chunk)
    group = {1: chunks, 4: Each(STRUCT)}
    shape = {2: Each(STRUCT), 4: Each(STRUCT, group, groups.group), 5: _PAIRS, 7: Each(STRUCT)}
    fields = CompactReader(footer, "the footer").read(shape)
    if fields.get(4) != metadata.num_row_groups:
        msg = "the footer has other row groups than pyarrow sees"
        raise ValueError(msg)


def _leaf(number: int, column: Any, statistics: bool) -> _Leaf:
    kind = column.physical_type
    width = column.length if statistics and kind == "FIXED_LEN_BYTE_ARRAY" else _WIDTHS.get(kind, 0)
    levels = column.max_definition_level, column.max_repetition_level
    return _Leaf(number, _NUMBERS.get(kind, -1), width, kind == _TEXT, *levels)


class _Groups:
    """Compares one column chunk after the other.

    Args:
        leaves: The columns.
    """

    def __init__(self, leaves: list[_Leaf]) -> None:
        self._leaves = leaves
        self._next = 0

    def group(self, _: dict[int, Any]) -> None:
        """Compare the number of column chunks that came since the last call."""
        if self._next != len(self._leaves):
            raise ValueError(_OTHER_COLUMNS)
        self._next = 0

    def chunk(self, fields: dict[int, Any]) -> None:
        """Compare a column chunk."""
        if self._next == len(self._leaves):
            raise ValueError(_OTHER_COLUMNS)
        leaf = self._leaves[self._next]
        self._next += 1
        described = fields.get(3)
        if described is None or fields.get(8):
            raise _refused(leaf, "is not described, or encrypted")
        if described.get(1) != leaf.type:
            raise _refused(leaf, "is of another type than the schema says")
        if described.get(4) not in _CODECS:
            raise _refused(leaf, "is of a compression that the format has not")
        statistics, sizes = described.get(12), described.get(16)
        if statistics and leaf.width and min(statistics.values()) < leaf.width:
            raise _refused(leaf, "has statistics that are shorter than its values")
        if sizes:
            if 1 in sizes and not leaf.text:
                raise _refused(leaf, "has sizes of texts, and is none")
            if sizes.get(2, 0) not in (0, leaf.repetitions + 1) or sizes.get(3, 0) not in (0, leaf.definitions + 1):
                raise _refused(leaf, "has histograms of other levels than its own")


def _refused(leaf: _Leaf, fault: str) -> ValueError:
    return ValueError(f"a column chunk {fault}: that of the column {leaf.number:,}, counted from 0, in the footer")
