"""Structs of Thrift's compact protocol as trees that tests change and write back: the footers of Parquet files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

I32, I64, BINARY, LIST, STRUCT = 5, 6, 8, 9, 12
_NUMBERS = (4, I32, I64)
_FIXED = {3: 1, 7: 8}


@dataclass
class Field:
    """One field of a struct; the value of a boolean is in its kind, 1 or 2."""

    number: int
    kind: int
    value: Any = None


@dataclass
class Items:
    """A list."""

    kind: int
    values: list[Any]


class Tree(list[Field]):
    """A struct."""

    def at(self, *way: int) -> Any:
        """Return what is at a way: numbers of fields, and places in lists."""
        value: Any = self
        for step in way:
            value = value.values[step] if isinstance(value, Items) else value.field(step).value
        return value

    def field(self, number: int) -> Field:
        """Return a field."""
        return next(field for field in self if field.number == number)

    def put(self, number: int, kind: int, value: Any = None) -> None:
        """Set a field, in its place among the others."""
        self[:] = sorted([*(field for field in self if field.number != number), Field(number, kind, value)], key=_by)

    def without(self, number: int) -> None:
        """Take a field out."""
        self[:] = [field for field in self if field.number != number]


def _by(field: Field) -> int:
    return field.number


def fields_in(tree: Tree) -> Iterator[tuple[Tree, Field]]:
    """Yield every field of a struct, at any depth, with the struct that it is in."""
    for field in tree:
        yield tree, field
        values = field.value.values if isinstance(field.value, Items) else [field.value]
        for value in values:
            if isinstance(value, Tree):
                yield from fields_in(value)


def footer_of(data: bytes) -> Tree:
    """Return the footer of a Parquet file."""
    size = int.from_bytes(data[-8:-4], "little")
    return _Reader(data[-8 - size : -8]).struct()


def with_footer(data: bytes, footer: Tree) -> bytes:
    """Return a Parquet file with another footer."""
    size, written = int.from_bytes(data[-8:-4], "little"), encoded(footer)
    return data[: -8 - size] + written + len(written).to_bytes(4, "little") + data[-4:]


def encoded(tree: Tree) -> bytes:
    """Write a struct; fields stand in the order in which the tree has them."""
    out, before = bytearray(), 0
    for field in tree:
        step = field.number - before
        before = field.number
        out += (
            bytes([step << 4 | field.kind]) if 0 < step < 16 else bytes([field.kind]) + _varint(_zigzag(field.number))
        )
        out += _written(field.kind, field.value)
    return bytes(out) + b"\0"


def _written(kind: int, value: Any) -> bytes:
    if kind in _NUMBERS:
        return _varint(_zigzag(value))
    if kind == BINARY:
        return bytes(_varint(len(value)) + value)
    if kind == STRUCT:
        return encoded(value)
    if kind == LIST:
        count = len(value.values)
        head = bytes([count << 4 | value.kind]) if count < 15 else bytes([0xF0 | value.kind]) + _varint(count)
        return head + b"".join(_written(value.kind, each) for each in value.values)
    rest: bytes = value or b""
    return rest


def _zigzag(number: int) -> int:
    return number << 1 if number >= 0 else (-number << 1) - 1


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes(out) + bytes([number])


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def struct(self) -> Tree:
        tree, number = Tree(), 0
        while head := self._taken(1)[0]:
            number = number + (head >> 4) if head >> 4 else self._zigzagged()
            tree.append(Field(number, head & 15, self._value(head & 15)))
        return tree

    def _value(self, kind: int) -> Any:
        if kind in _NUMBERS:
            return self._zigzagged()
        if kind == BINARY:
            return self._taken(self._number())
        if kind == STRUCT:
            return self.struct()
        if kind == LIST:
            head = self._taken(1)[0]
            count = head >> 4 if head >> 4 < 15 else self._number()
            return Items(head & 15, [self._value(head & 15) for _ in range(count)])
        return self._taken(_FIXED.get(kind, 0))

    def _taken(self, size: int) -> bytes:
        self._position += size
        return self._data[self._position - size : self._position]

    def _zigzagged(self) -> int:
        value = self._number()
        return value >> 1 ^ -(value & 1)

    def _number(self) -> int:
        result = shift = 0
        while True:
            byte = self._taken(1)[0]
            result |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return result
