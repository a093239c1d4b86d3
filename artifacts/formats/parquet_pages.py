"""What a column chunk's page headers say: how large each page is, how many values it holds, and how they are encoded.

The footer's sizes are promises that a hostile file need not keep. A decoder allocates what the page headers say, and no
more: so these are read, all of them, before anything is decoded. Format: parquet.thrift in apache/parquet-format
(``PageHeader``), in Thrift's compact protocol.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

DICTIONARY_ENCODINGS: Final = frozenset({2, 8})  # PLAIN_DICTIONARY, RLE_DICTIONARY
DELTA_BYTE_ARRAY: Final = 7

_DATA, _DICTIONARY, _DATA_V2 = 0, 2, 3
_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(1, 13)
_DEEPEST: Final = 16


@dataclass
class Pages:
    """The pages of one column chunk, added up.

    Attributes:
        size: Bytes of the data pages, decompressed.
        values: Values in them, nulls included.
        dictionary: Bytes of the dictionary, decompressed.
        by_dictionary: Values that are an index into the dictionary.
        by_prefix: Values that repeat a prefix of the value before.
        largest: Bytes of the largest data page.
    """

    size: int = 0
    values: int = 0
    dictionary: int = 0
    by_dictionary: int = 0
    by_prefix: int = 0
    largest: int = 0


def read_pages(chunk: memoryview, values: int) -> Pages:
    """Read the page headers of a column chunk that a decoder reads: until there are as many values as it has.

    Args:
        chunk: Its bytes, from its first page on.
        values: How many values it has, as the footer says.

    Raises:
        ValueError: A header is invalid.
    """
    pages, position = Pages(), 0
    while position < len(chunk) and pages.values < values:
        header = _Compact(chunk, position)
        fields = header.struct()
        kind, size, stored = (_number(fields, number) for number in (1, 2, 3))
        position = header.position + stored
        if kind == _DICTIONARY:
            pages.dictionary += size
        elif kind in (_DATA, _DATA_V2):
            inner = fields.get(5 if kind == _DATA else 8)
            if not isinstance(inner, dict):
                msg = "a data page has no header of its kind"
                raise ValueError(msg)
            _add(pages, size, _number(inner, 1), _number(inner, 2 if kind == _DATA else 4))
    return pages


def _add(pages: Pages, size: int, values: int, encoding: int) -> None:
    pages.size += size
    pages.values += values
    pages.largest = max(pages.largest, size)
    if encoding in DICTIONARY_ENCODINGS:
        pages.by_dictionary += values
    elif encoding == DELTA_BYTE_ARRAY:
        pages.by_prefix += values


def _number(fields: dict[int, object], number: int) -> int:
    value = fields.get(number)
    if not isinstance(value, int) or value < 0:
        msg = "a page header lacks a size or a count, or has a negative one"
        raise ValueError(msg)
    return value


class _Compact:
    """Reads one struct of Thrift's compact protocol; numbers and structs are kept, everything else is passed over."""

    def __init__(self, data: memoryview, position: int) -> None:
        self._data = data
        self.position = position

    def struct(self, depth: int = 0) -> dict[int, object]:
        """Return the fields by their number."""
        if depth > _DEEPEST:
            msg = "a page header is nested too deeply"
            raise ValueError(msg)
        fields: dict[int, object] = {}
        number = 0
        while (head := self._byte()) != 0:
            step, kind = head >> 4, head & 15
            number = number + step if step else self._zigzag()
            value = self._value(kind, depth)
            if value is not None:
                fields[number] = value
        return fields

    def _value(self, kind: int, depth: int) -> object:
        if kind in (_TRUE, _FALSE):
            return None
        if kind in (_I16, _I32, _I64):
            return self._zigzag()
        if kind == _STRUCT:
            return self.struct(depth + 1)
        if kind == _BINARY:
            self._skip(self._varint())
        elif kind == _BYTE:
            self._skip(1)
        elif kind == _DOUBLE:
            self._skip(8)
        else:  # the format has no lists and maps here
            msg = f"a page header has a field of the type {kind}"
            raise ValueError(msg)
        return None

    def _byte(self) -> int:
        if self.position >= len(self._data):
            msg = "a page header ends behind its column chunk"
            raise ValueError(msg)
        value = self._data[self.position]
        self.position += 1
        return value

    def _varint(self) -> int:
        result = shift = 0
        while shift < 70:  # noqa: PLR2004 - ten bytes hold 64 bits
            byte = self._byte()
            result |= (byte & 127) << shift
            if byte < 128:  # noqa: PLR2004 - the last byte has no high bit
                return result
            shift += 7
        msg = "a page header has a number of more than 64 bits"
        raise ValueError(msg)

    def _zigzag(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

    def _skip(self, size: int) -> None:
        self.position += size
