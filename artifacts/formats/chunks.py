"""An iterator of tables as one stream of batches: the first item decides what the columns are.

Of a column of which the first items know nothing (only missing values, only empty lists), the first that knows more
decides. Of pandas' indices, the first frame's decides: one that only counts rows is not kept, any other is a column.
Frames without rows decide nothing. Later items are then held to that; ``conform`` says what is forgiven.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, Protocol

from stepout.artifacts.formats.conform import first_known, is_unknown, says_nothing
from stepout.artifacts.formats.pandas_frame import FrameIndex, frame_table, is_frame
from stepout.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

_LOOK_AHEAD: Final = 64 << 20
"""Arrow memory that is held to learn the types of columns with only nulls: a row group's, which is gathered anyway."""

Labelled = tuple[str, "pa.RecordBatch"]
"""What messages call a batch, and the batch."""


class Opener(Protocol):
    """Opens an item that is no pandas frame."""

    def __call__(self, item: object, label: str, /) -> tuple[pa.Schema, Iterator[Labelled], int | None]:
        """Return its schema, its batches, and its size in bytes where it is in memory; messages call it ``label``."""
        ...


def labelled(batches: Iterator[pa.RecordBatch], label: str = "") -> Iterator[Labelled]:
    """Give all batches one name, or number them."""
    return ((label or f"batch {number}", batch) for number, batch in enumerate(batches))


def chained(items: Iterator[Any], opened: Opener) -> tuple[pa.Schema, Iterator[Labelled]]:
    """Read as many items as it takes to know the schema; the rest as they come.

    Args:
        items: Tables, pandas frames, batches, or what else ``opened`` takes.
        opened: Opens an item that is no pandas frame.

    Returns:
        The schema, and all batches.

    Raises:
        ConfigurationError: There are no items, one is no table, or pandas' index does not go with the first one's.
    """
    reader, schema, held = _OpenedItems(opened), _Schema(), []
    numbered = enumerate(items)
    weight = 0
    for number, item in numbered:
        opened_item = reader.open(item, number)
        schema.learn(opened_item)
        held.append(opened_item.batches)
        weight += opened_item.weight
        if schema.settled or weight >= _LOOK_AHEAD:
            break
    if not held:
        msg = "the iterator of batches has none, so the columns are unknown: pass an empty table with a schema instead"
        raise ConfigurationError(f"{msg}. Nothing was sent")
    rest = chain.from_iterable(reader.open(item, number).batches for number, item in numbered)
    return schema.value(), chain(chain.from_iterable(held), rest)


@dataclass(frozen=True)
class _Item:
    """One item, open.

    Attributes:
        schema: Its columns.
        batches: Its rows.
        weight: Its Arrow memory in bytes. A reader's is unknown and counts as much: nothing is opened beside one.
        rows: Whether it has some, as far as that is known.
        unknown: Columns in which pandas has numbers, or a dictionary of no categories, only because all values are
            missing.
    """

    schema: pa.Schema
    batches: Iterator[Labelled]
    weight: int = _LOOK_AHEAD
    rows: bool = True
    unknown: frozenset[str] = frozenset()


class _OpenedItems:
    """Opens items, and holds pandas' frames to the index of the first."""

    def __init__(self, opened: Opener) -> None:
        self._opened = opened
        self._index: FrameIndex | None = None

    def open(self, item: Any, number: int) -> _Item:
        import pyarrow as pa

        if is_frame(item):
            return self._frame(item, f"chunk {number}")
        kind = "batch" if isinstance(item, pa.RecordBatch) else "chunk"
        schema, batches, weight = self._opened(item, f"{kind} {number}")
        return _Item(schema, batches, _LOOK_AHEAD if weight is None else weight)

    def _frame(self, frame: Any, label: str) -> _Item:

        if len(frame) and self._index is None:
            self._index = FrameIndex(frame)
        elif len(frame) and self._index is not None:
            self._index.check(frame, label)
        table = frame_table(frame, label=label, keep_index=self._index is not None and self._index.kept)
        if not len(frame):  # its types and its index are accidents
            return _Item(table.schema, iter(()), 0, rows=False)
        named = zip(table.schema.names, table.columns, strict=True)
        unknown = frozenset(name for name, column in named if _decides_nothing(column))
        return _Item(table.schema, labelled(iter(table.to_batches()), label), table.nbytes, unknown=unknown)


def _decides_nothing(column: pa.ChunkedArray) -> bool:
    """Return whether pandas had to choose a type because all values are missing; categories are a choice of its own."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        return not any(len(chunk.dictionary) for chunk in column.chunks)
    return bool(pa.types.is_floating(column.type) and column.null_count == len(column))


class _Schema:
    """The columns as the first items give them."""

    def __init__(self) -> None:
        self._known: pa.Schema | None = None
        self._empty: pa.Schema | None = None
        self._guessed: set[str] = set()

    @property
    def settled(self) -> bool:
        """Whether later items cannot say more of any column."""
        return self._known is not None and not self._guessed and not any(map(is_unknown, self._known.types))

    def learn(self, item: _Item) -> None:
        """Take what an item says of columns that are unknown."""
        if not item.rows:
            self._empty = self._empty or item.schema
        elif self._known is None:
            self._known, self._guessed = item.schema, set(item.unknown)
        else:
            for position, field in enumerate(self._known):
                if item.schema.names.count(field.name) == 1 and field.name not in item.unknown:
                    kind = self._type_of(field, item.schema.field(field.name).type)
                    self._known = self._known.set(position, field.with_type(kind))

    def value(self) -> pa.Schema:
        """Return the schema of the stream."""
        return self._known if self._known is not None else self._empty

    def _type_of(self, field: pa.Field, later: pa.DataType) -> pa.DataType:
        import pyarrow as pa

        if field.name in self._guessed and not says_nothing(later):
            self._guessed.discard(field.name)
            number = pa.types.is_integer(later) or pa.types.is_floating(later)
            return field.type if number and pa.types.is_floating(field.type) else later
        return first_known(field.type, later)
