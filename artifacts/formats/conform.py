"""Later batches brought to the schema of the first: forgiving where nothing is lost, refused where something is.

What is lossless: nulls of any type; numbers that are exactly the same in the other type; the same text or bytes in
another layout; the same instants and times in another unit; lists, maps and structs of such. Categories that have an
order keep the order of the first batch: a batch whose categories contradict it, or that has others, is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stepout.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    import pyarrow as pa


class Conformer:
    """Brings batches to one schema.

    Args:
        schema: What is written.
    """

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._ordered = [_has_order(column.type) for column in schema]
        self._categories: dict[str, Any] = {}

    def conform(self, batch: pa.RecordBatch, label: str) -> pa.RecordBatch:
        """Return a batch of the schema, with the rows of ``batch``.

        Args:
            batch: Its columns may stand in another order.
            label: What messages call it, for example ``batch 3``.

        Raises:
            ConfigurationError: It has other columns, or a column that could not become the schema's without loss.
        """
        import pyarrow as pa

        if batch.schema.equals(self._schema) and not any(self._ordered):
            return batch
        names = self._schema.names
        if batch.schema.names != names:
            batch = _reordered(batch, names, label)
        columns = [
            self._column(batch.column(index), column, f"column {column.name!r} of {label}", ordered)
            for index, (column, ordered) in enumerate(zip(self._schema, self._ordered, strict=True))
        ]
        return pa.RecordBatch.from_arrays(columns, schema=self._schema)

    def _column(self, column: pa.Array, wanted: pa.Field, what: str, ordered: bool) -> pa.Array:
        if not wanted.nullable and column.null_count:
            raise ConfigurationError(f"{what} has nulls; its schema says it has none")
        if ordered:
            column = self._in_order(column, wanted, what)
        found = column if column.type == wanted.type else _lossless(column, wanted.type)
        if found is None:
            msg = f"{what} is of type {column.type}, in the first batch it was of {wanted.type}: to make it that would"
            raise ConfigurationError(f"{msg} lose or change values; give all batches one schema")
        return found

    def _in_order(self, column: pa.Array, wanted: pa.Field, what: str) -> pa.Array:
        """Hold categories that have an order against those of the first batch."""
        import pyarrow as pa

        if not pa.types.is_dictionary(wanted.type):
            for path, categories in _ordered_categories(column, wanted.name):
                if not self._categories.setdefault(path, categories).equals(categories):
                    raise ConfigurationError(_other_order(what))
            return column
        if not pa.types.is_dictionary(column.type) or not len(column.dictionary):
            return column  # not lossless, which is said of it next; or only nulls, which decide no order
        try:
            categories = _plain(column.dictionary, wanted.type.value_type)
        except pa.ArrowException:  # categories of another type, in words that quote one
            return column
        first = self._categories.setdefault(wanted.name, categories)
        if first is categories or categories.equals(first):
            return column
        if column.null_count == len(column):
            return pa.nulls(len(column), wanted.type)
        return _recoded(column, categories, first, what)


def first_known(kind: pa.DataType, later: pa.DataType) -> pa.DataType:
    """Return a type in which what is unknown (only nulls, only empty lists) is as a later batch has it."""
    import pyarrow as pa

    if says_nothing(kind):
        return later
    names = [[each.field(index).name for index in range(each.num_fields)] for each in (kind, later)]
    if kind.id != later.id or not is_unknown(kind):
        return kind
    if pa.types.is_struct(kind) and names[0] == names[1]:
        members = [kind.field(index) for index in range(kind.num_fields)]
        return pa.struct([each.with_type(first_known(each.type, later.field(each.name).type)) for each in members])
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        make = pa.list_ if pa.types.is_list(kind) else pa.large_list
        return make(kind.value_field.with_type(first_known(kind.value_type, later.value_type)))
    return kind


def is_unknown(kind: pa.DataType) -> bool:
    """Return whether a later batch could say more of a type: it is null, or has null in it."""
    return says_nothing(kind) or any(is_unknown(kind.field(index).type) for index in range(kind.num_fields))


def says_nothing(kind: pa.DataType) -> bool:
    """Return whether a type is that of nulls, or of a dictionary of them."""
    import pyarrow as pa

    return bool(pa.types.is_null(kind) or (pa.types.is_dictionary(kind) and pa.types.is_null(kind.value_type)))


# Columns -----------------------------------------------------------------------------------------------------------


def _reordered(batch: pa.RecordBatch, names: list[str], label: str) -> pa.RecordBatch:
    if sorted(batch.schema.names) == sorted(names):
        return batch.select(names)
    got, expected = ", ".join(batch.schema.names[:20]), ", ".join(names[:20])
    raise ConfigurationError(f"{label} has the columns {got}; the first one had {expected}")


def _lossless(column: pa.Array, wanted: pa.DataType) -> pa.Array | None:
    """Return the same values in another type; ``None`` where that would lose or change some."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if column.null_count == len(column):
        return pa.nulls(len(column), wanted)  # whatever its type: pandas has numbers of what is missing
    if not _same_meaning(column.type, wanted):
        return None
    try:
        if pa.types.is_run_end_encoded(column.type):
            column = pc.run_end_decode(column)
        if pa.types.is_dictionary(column.type) and not pa.types.is_dictionary(wanted):
            column = column.dictionary_decode()
        if pa.types.is_dictionary(wanted) and not pa.types.is_dictionary(column.type):
            column = _plain(column, wanted.value_type).dictionary_encode()
        return column if column.type == wanted else column.cast(wanted)
    except pa.ArrowException:  # Arrow casts in safety: what does not fit is an error
        return None


def _plain(values: pa.Array, kind: pa.DataType) -> pa.Array:
    return values if values.type == kind else values.cast(kind)


def _same_meaning(kind: pa.DataType, wanted: pa.DataType) -> bool:
    """Tell whether values of one type mean the same in another, if they fit."""
    import pyarrow as pa

    if kind == wanted or pa.types.is_null(kind):
        return True
    if pa.types.is_dictionary(kind):
        if pa.types.is_dictionary(wanted):
            return (wanted.ordered or not kind.ordered) and _same_meaning(kind.value_type, wanted.value_type)
        return not kind.ordered and _same_meaning(kind.value_type, wanted)
    if pa.types.is_dictionary(wanted):
        return not wanted.ordered and _same_meaning(kind, wanted.value_type)
    if pa.types.is_run_end_encoded(kind):
        return _same_meaning(kind.value_type, wanted)
    return _same_scalar(kind, wanted) or _same_nested(kind, wanted)


def _same_scalar(kind: pa.DataType, wanted: pa.DataType) -> bool:
    import pyarrow.types as is_

    def text(each: pa.DataType) -> bool:
        return bool(is_.is_string(each) or is_.is_large_string(each) or is_.is_string_view(each))

    def binary(each: pa.DataType) -> bool:
        return bool(is_.is_binary(each) or is_.is_large_binary(each) or is_.is_binary_view(each))

    if is_.is_floating(wanted) and is_.is_floating(kind):
        return bool(kind.bit_width <= wanted.bit_width)  # Arrow narrows fractions without a word
    if is_.is_timestamp(wanted) and is_.is_timestamp(kind):
        return bool(kind.tz == wanted.tz)
    whole, fraction, decimal = is_.is_integer, is_.is_floating, is_.is_decimal
    checked = [(whole, whole), (whole, fraction), (fraction, whole), (whole, decimal), (decimal, decimal)]
    same = [(each, each) for each in (text, binary, is_.is_time, is_.is_duration, is_.is_date)]
    return any(one(kind) and other(wanted) for one, other in checked + same)


def _same_nested(kind: pa.DataType, wanted: pa.DataType) -> bool:
    import pyarrow.types as is_

    def listed(each: pa.DataType) -> bool:
        return bool(is_.is_list(each) or is_.is_large_list(each))

    if is_.is_struct(kind) and is_.is_struct(wanted):
        members = {kind.field(index).name: kind.field(index).type for index in range(kind.num_fields)}
        theirs = {wanted.field(index).name: wanted.field(index).type for index in range(wanted.num_fields)}
        return list(members) == list(theirs) and all(_same_meaning(members[name], theirs[name]) for name in members)
    if is_.is_map(kind) and is_.is_map(wanted):
        return _same_meaning(kind.key_type, wanted.key_type) and _same_meaning(kind.item_type, wanted.item_type)
    sizes = [each.list_size if is_.is_fixed_size_list(each) else None for each in (kind, wanted)]
    fixed = sizes[0] is not None and sizes[0] == sizes[1]
    return (fixed or (listed(kind) and listed(wanted))) and _same_meaning(kind.value_type, wanted.value_type)


# Categories with an order ------------------------------------------------------------------------------------------


def _has_order(kind: pa.DataType) -> bool:
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        return bool(kind.ordered)
    return any(_has_order(kind.field(index).type) for index in range(kind.num_fields))


def _ordered_categories(column: pa.Array, path: str) -> list[tuple[str, pa.Array]]:
    """Return the categories of every dictionary with an order in a column, by their place."""
    import pyarrow as pa

    kind = column.type
    if pa.types.is_dictionary(kind):
        return [(path, column.dictionary)] if kind.ordered and len(column.dictionary) else []
    if pa.types.is_map(kind):
        parts = [("key", column.keys), ("value", column.items)]
    elif pa.types.is_struct(kind):
        parts = [(kind.field(index).name, column.field(index)) for index in range(kind.num_fields)]
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        parts = [("item", column.values)]
    else:
        parts = []
    return [found for name, part in parts for found in _ordered_categories(part, f"{path}.{name}")]


def _recoded(column: Any, categories: pa.Array, first: pa.Array, what: str) -> pa.Array:
    """Return a column with the first batch's categories, if its own are some of them in the same order."""
    import pyarrow as pa
    import pyarrow.compute as pc

    places = pc.index_in(categories, value_set=first)
    steps = [place for place in places.to_pylist() if place is not None]
    if len(steps) < len(places) or steps != sorted(steps):
        raise ConfigurationError(_other_order(what))
    return pa.DictionaryArray.from_arrays(places.take(column.indices), first, ordered=True)


def _other_order(what: str) -> str:
    msg = f"{what} has other categories than the first batch, or in another order, and its categories have an order"
    return f"{msg}: give all batches the same ones (pandas: one CategoricalDtype for all)"
