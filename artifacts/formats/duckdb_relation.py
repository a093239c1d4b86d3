"""DuckDB's relations as record batches: types that Arrow has no type for are refused by name, before a query runs.

DuckDB 2.0 hands them over as something else, without a word: UHUGEINT as a signed decimal, BIT and BIGNUM as its own
bytes, TIME WITH TIME ZONE without its offset, VARIANT and GEOMETRY as bytes that it reads back as BLOB. So the types
that do keep their meaning are listed, and every other one is refused. HUGEINT becomes DECIMAL(38, 0), UUID and JSON
become text, ENUM a dictionary; unnamed structs get the names element1, element2, …
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from stepout.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

_PLAIN: Final = frozenset(
    [
        "boolean",
        "tinyint",
        "smallint",
        "integer",
        "bigint",
        "utinyint",
        "usmallint",
        "uinteger",
        "ubigint",
        "hugeint",
        "float",
        "double",
        "decimal",
        "varchar",
        "blob",
        "date",
        "time",
        "time_ns",
        "timestamp",
        "timestamp_s",
        "timestamp_ms",
        "timestamp_ns",
        "uuid",
        "enum",
        "null",
        "sqlnull",
    ]
)
_NESTED: Final = frozenset({"list", "array", "struct", "tuple", "map"})
_ZONED: Final = "timestamp with time zone"  # and its kin with nanoseconds
_DAY_MICROSECONDS: Final = 86_400_000_000


def check_relation(relation: Any) -> None:
    """Refuse columns whose values Arrow could not hold as what they are; nothing is executed.

    Raises:
        ConfigurationError: There is one; the message has the cast that helps.
    """
    for name, kind in zip(relation.columns, relation.types, strict=True):
        lost = _lost(kind)
        if lost is not None:
            where = "" if str(lost) == str(kind) else f" (in {str(kind)[:200]})"
            quoted = _quoted(name)
            cast = f"ST_AsText({quoted})" if str(kind).startswith("GEOMETRY") else f"CAST({quoted} AS {_cast(kind)})"
            msg = (
                f"column {name!r} is of DuckDB's type {str(lost)[:200]}{where}, which Arrow and Parquet cannot hold as "
                f"what it is: select {cast} AS {quoted} instead. Nothing was sent"
            )
            raise ConfigurationError(msg)


def _lost(kind: Any) -> Any | None:
    """Return the first type in a type that loses its meaning; ``None`` if none does."""
    name = str(kind.id)
    if str(kind).startswith("GEOMETRY"):  # DuckDB before 2.0 has it under the name of what it is made of
        return kind
    if name in _PLAIN or name.startswith(_ZONED):
        return None
    if name not in _NESTED:
        return kind
    return next((lost for _, child in _children(kind) if (lost := _lost(child)) is not None), None)


def _children(kind: Any) -> list[tuple[str, Any]]:
    return [(name, child) for name, child in kind.children if isinstance(child, type(kind))]


def _cast(kind: Any) -> str:
    """Return a type to cast to that keeps its meaning: the same one, with text for what does not."""
    if _lost(kind) is None:
        return str(kind)
    if kind.id not in _NESTED or kind.id == "tuple":
        return "VARCHAR"
    children = [(name, _cast(child)) for name, child in _children(kind)]
    if kind.id == "list":
        return f"{children[0][1]}[]"
    if kind.id == "array":
        return f"{children[0][1]}[{dict(kind.children)['size']}]"
    if kind.id == "map":
        return f"MAP({children[0][1]}, {children[1][1]})"
    return "STRUCT(" + ", ".join(f"{_quoted(name)} {child}" for name, child in children) + ")"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def query_reader(relation: Any, rows: int) -> Any:
    """Start a relation's query and return a ``pyarrow.RecordBatchReader`` of batches of ``rows`` rows.

    Raises:
        ConfigurationError: The query failed before its first rows came.
    """
    import duckdb

    start = getattr(relation, "to_arrow_reader", None) or relation.fetch_arrow_reader
    try:
        return start(rows)
    except duckdb.Error as error:
        failed = type(error).__name__
    msg = f"the relation's query failed ({failed}); the error's text may quote values, so it is left out: run it"
    raise ConfigurationError(f"{msg} without stepout to see it. Nothing was sent")


# Values ------------------------------------------------------------------------------------------------------------


def checked_values(batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Yield batches of a relation, and refuse values that Arrow would hold as another one.

    DuckDB's ``infinity`` would be the year 294,247, ``24:00:00`` is no time of a day, and a HUGEINT may have 39 digits.

    Raises:
        ConfigurationError: There is such a value.
    """
    watched = [index for index, column in enumerate(schema) if _watched(column.type)]
    for batch in batches:
        for index in watched:
            for leaf in _leaves(batch.column(index)):
                found = _unfit(leaf)
                if found is not None:
                    name = schema.field(index).name
                    quoted = _quoted(name)
                    msg = (
                        f"column {name!r} holds {found}, which Arrow has no value for: select CAST({quoted} AS VARCHAR)"
                    )
                    raise ConfigurationError(f"{msg} AS {quoted}, or NULL in its place. Nothing was kept")
        yield batch


def _watched(kind: pa.DataType) -> bool:
    import pyarrow.types as is_

    if is_.is_decimal128(kind):
        return bool(kind.precision == 38 and kind.scale == 0)  # noqa: PLR2004 - what HUGEINT becomes
    if is_.is_date32(kind) or is_.is_timestamp(kind) or is_.is_time64(kind):
        return True
    return any(_watched(kind.field(index).type) for index in range(kind.num_fields))


def _leaves(column: pa.Array) -> list[pa.Array]:
    import pyarrow.types as is_

    kind = column.type
    if is_.is_struct(kind):
        parts = column.flatten()
    elif is_.is_map(kind):
        parts = [column.keys, column.items]
    elif is_.is_list(kind) or is_.is_large_list(kind) or is_.is_fixed_size_list(kind):
        parts = [column.flatten()]
    else:
        return [column] if _watched(kind) else []
    return [leaf for part in parts for leaf in _leaves(part)]


def _unfit(leaf: pa.Array) -> str | None:
    """Name what a column of one type holds and must not."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_decimal(leaf.type):
        try:
            leaf.validate(full=True)
        except pa.ArrowInvalid:
            return "whole numbers of more than 38 digits"
        return None
    bits = pa.int32() if pa.types.is_date32(leaf.type) else pa.int64()
    ends = pc.min_max(leaf.view(bits)).as_py()
    if ends["max"] is None:
        return None
    if pa.types.is_time(leaf.type):
        day = _DAY_MICROSECONDS * (1000 if leaf.type.unit == "ns" else 1)
        return "the time 24:00:00" if ends["max"] >= day else None
    limit = 2 ** (bits.bit_width - 1) - 1
    return "infinite dates or times" if limit in (ends["max"], -ends["min"]) else None
