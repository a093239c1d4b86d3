"""Thrift's compact protocol, read strictly: what the caller expects is kept, everything else is passed over.

pyarrow reads the same bytes. So that both see the same in them, what no writer writes is refused: a field that occurs
twice or out of order, or that is not of its type, and a list whose items are not of theirs.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

BOOL, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, STRUCT = 1, 3, 4, 5, 6, 7, 8, 9, 12

_FALSE: Final = 2
_SIZES: Final = {BOOL: 1, _FALSE: 1, BYTE: 1, DOUBLE: 8}  # of what always takes as much, in bytes
_DEEPEST: Final = 16
_MOST_ITEMS: Final = 1_000_000  # more than pyarrow takes
_LAST_NUMBER: Final = 32767
_NUMBERS: Final = bytes(step << 4 | kind for step in range(1, 16) for kind in (I16, I32, I64))
_ONLY_NUMBERS: Final = re.compile(rb"(?:[%b][\x80-\xff]{0,9}[\x00-\x7f])*\0" % re.escape(_NUMBERS))
"""A struct of numbers alone, which need not be read one by one."""


class Each(NamedTuple):
    """A list.

    Attributes:
        kind: Of each item.
        shape: Of each item that is a struct.
        visit: Given the fields of each item, if anything is expected of them.
    """

    kind: int
    shape: dict[int, Any] | None = None
    visit: Callable[[dict[int, Any]], object] = dict


Shape = dict[int, Any]
"""The fields of a struct that are expected: each a scalar's kind, the shape of a struct, or ``Each`` item of a list."""


class CompactReader:
    """Reads structs that lie one behind the other.

    Args:
        data: The bytes.
        what: What they are, for messages.

    Attributes:
        position: Where the next struct begins.
    """

    def __init__(self, data: bytes | memoryview, what: str) -> None:
        self._data = data
        self._what = what
        self.position = 0

    def read(self, shape: Shape) -> dict[int, Any]:
        """Read a struct.

        Args:
            shape: What is expected of it.

        Returns:
            Those of the expected fields that there are: numbers and structs as such, the sizes of binaries and lists.

        Raises:
            ValueError: It is invalid.
        """
        try:
            return self._struct(shape, 0)
        except IndexError:
            raise self._refused("ends too early") from None

    # One loop, though it is long: a call for each field would cost more than the field.
    def _struct(self, shape: Shape, depth: int) -> dict[int, Any]:  # noqa: C901, PLR0912
        data, position, number = self._data, self.position, 0
        fields: dict[int, Any] = {}
        while head := data[position]:
            position += 1
            kind = head & 15
            if head > 15:  # noqa: PLR2004 - the step from the number before
                number += head >> 4
            else:
                number, position = self._next_number(number, position)
            expected = shape.get(number)
            if 4 <= kind <= 6 or kind == BINARY:  # noqa: PLR2004 - a number, or how long the bytes are
                value = data[position]
                position += 1
                if value > 127:  # noqa: PLR2004 - the last byte has no high bit
                    value, position = self._long(value, position)
                    if value >> 32 and kind != I64:  # pyarrow takes the lower bits
                        raise self._refused("has a number that is too large")
                if kind == BINARY:
                    position += value
                else:
                    value = value >> 1 ^ -(value & 1)
                if expected is not None:
                    if kind != expected:
                        raise self._refused(f"has a field {number} of another type")
                    fields[number] = value
            elif kind <= _FALSE:
                if not kind or expected is not None:  # a step with the type 0 is the end to pyarrow
                    raise self._refused(f"has a field {number} of another type")
            else:
                self.position = position
                if kind == LIST and (expected is None or isinstance(expected, Each)):
                    value = self._list(expected, depth + 1)
                else:
                    value = self._composite(kind, expected, depth + 1)
                if expected is not None:
                    fields[number] = value
                position = self.position
        if number > _LAST_NUMBER:
            raise self._refused("has a field whose number is too large")
        self.position = position + 1
        return fields

    def _composite(self, kind: int, expected: Any, depth: int) -> Any:
        if depth > _DEEPEST:
            raise self._refused("is nested too deeply")
        if kind == STRUCT and (expected is None or isinstance(expected, dict)):
            return self._struct(expected or {}, depth)
        if kind == LIST and expected is None:
            return self._list(expected, depth)
        if kind in _SIZES and expected is None:
            self.position += _SIZES[kind]
            return None
        raise self._refused(f"has a field of the type {kind} that it should not have")

    def _list(self, expected: Each | None, depth: int) -> int:
        head = self._data[self.position]
        self.position += 1
        count, kind = head >> 4, head & 15
        if depth > _DEEPEST:
            raise self._refused("is nested too deeply")
        if count == 15:  # noqa: PLR2004 - the count follows
            count, self.position = self._long(0, self.position, shift=0)
        if count > _MOST_ITEMS or (count and expected is not None and kind != expected.kind):
            raise self._refused("has a list of too many items, or of items of another type")
        if kind == STRUCT and expected is not None and expected.shape:
            for _ in range(count):
                expected.visit(self._struct(expected.shape, depth))
        elif kind == STRUCT:
            self._pass_over_structs(count, depth)
        else:
            self._pass_over(kind, count)
        return count

    def _pass_over(self, kind: int, count: int) -> None:
        """Pass over the items of a list that are no structs."""
        data, position = self._data, self.position
        if I16 <= kind <= I64:
            for _ in range(count):
                while data[position] > 127:  # noqa: PLR2004 - the last byte has no high bit
                    position += 1
                position += 1
        elif kind == BINARY:
            for _ in range(count):
                size, position = self._long(0, position, shift=0)
                position += size
        elif kind in _SIZES:
            position += count * _SIZES[kind]
        elif count:
            raise self._refused(f"has a list of items of the type {kind}")
        self.position = position

    def _pass_over_structs(self, count: int, depth: int) -> None:
        for _ in range(count):
            if plain := _ONLY_NUMBERS.match(self._data, self.position):
                self.position = plain.end()
            else:
                self._struct({}, depth)

    def _next_number(self, before: int, position: int) -> tuple[int, int]:
        value, position = self._long(0, position, shift=0)
        number = value >> 1 ^ -(value & 1)
        if not before < number <= _LAST_NUMBER:
            raise self._refused("has its fields in disorder")
        return number, position

    def _long(self, first: int, position: int, *, shift: int = 7) -> tuple[int, int]:
        """Return a number of several bytes, of which one may be read already, and where it ends."""
        data, result = self._data, first & 127
        while shift < 70:  # noqa: PLR2004 - ten bytes hold 64 bits
            byte = data[position]
            position += 1
            result |= (byte & 127) << shift
            if byte < 128:  # noqa: PLR2004 - the last byte has no high bit
                return result, position
            shift += 7
        raise self._refused("has a number of more than 64 bits")

    def _refused(self, fault: str) -> ValueError:
        return ValueError(f"{self._what} {fault}")
