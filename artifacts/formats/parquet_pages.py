"""What a column chunk's page headers say: how large each page is, how many values it holds, and how they are encoded.

The footer's sizes are promises that a hostile file need not keep. A decoder allocates what the page headers say, and no
more: so these are read, all of them, before anything is decoded. Format: parquet.thrift in apache/parquet-format
(``PageHeader``), in Thrift's compact protocol.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from stepout.artifacts.formats.thrift_compact import I32, CompactReader

DICTIONARY_ENCODINGS: Final = frozenset({2, 8})  # PLAIN_DICTIONARY, RLE_DICTIONARY
DELTA_BYTE_ARRAY: Final = 7

_DATA, _DICTIONARY, _DATA_V2 = 0, 2, 3
_HEADER: Final = {1: I32, 2: I32, 3: I32, 5: {1: I32, 2: I32}, 8: {1: I32, 4: I32}}


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
    pages, headers = Pages(), CompactReader(chunk, "a page header")
    while headers.position < len(chunk) and pages.values < values:
        fields = headers.read(_HEADER)
        kind, size, stored = (_number(fields, number) for number in (1, 2, 3))
        headers.position += stored
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
