"""Values of a table as text for a page: short, whatever they are, and never taken apart further than is shown."""

from __future__ import annotations

import re
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from stepout.schemas.text.foreign_text import shown

if TYPE_CHECKING:
    import pyarrow as pa

LONGEST: Final = 80
"""Characters of a cell, at most."""

_ITEMS: Final = 6  # of a list or a struct, so many are shown
_DEPTH: Final = 4
_BYTES: Final = 16
_DIGITS: Final = {"halffloat": 4, "float": 7}  # what the type can tell apart, of a double what a reader can
_DOUBLE: Final = 10
_NO_FRACTION: Final = re.compile(r"\.0+$")
_UNSHOWN: Final = "(cannot be shown)"


def cell_text(value: pa.Scalar) -> str | None:
    """Return a value of a column as a page shows it; ``None`` for a null."""
    try:
        found = _scalar_text(value, _DEPTH)
    except Exception:  # noqa: BLE001 - a time that no calendar has, a text that is no UTF-8, an extension's own error
        found = _UNSHOWN
    return None if found is None else shown(found, LONGEST)


def statistic_text(value: Any, kind: pa.DataType) -> str | None:
    """Return a value of the footer's statistics as a page shows it; ``None`` where there is none.

    Args:
        value: As pyarrow gives it.
        kind: The column's type.
    """
    import pyarrow as pa

    if value is None:
        return None
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_duration(kind) and isinstance(value, int):
        return cell_text(pa.scalar(value, kind))
    if isinstance(value, bytes):
        return _bytes_text(value[:_BYTES], len(value))
    if isinstance(value, float):
        return _float_text(value + 0.0, str(kind))  # Parquet writes -0.0 for a least value of zero
    if isinstance(value, datetime | date):
        return value.isoformat().replace("T", " ").replace("+00:00", "Z")
    return shown(_decimal_text(value) if isinstance(value, Decimal) else str(value), LONGEST)


def type_text(kind: pa.DataType) -> str:
    """Return a column's type as a page shows it."""
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        return shown(f"dictionary of {kind.value_type}", LONGEST)
    return shown(str(kind), LONGEST)


def _scalar_text(value: Any, depth: int) -> str | None:  # noqa: PLR0911 - a table of cases
    import pyarrow as pa

    if not value.is_valid:
        return None
    kind = value.type
    if isinstance(value, pa.ExtensionScalar | pa.DictionaryScalar):
        return _scalar_text(value.value, depth)
    if pa.types.is_nested(kind):
        return _nested_text(value, depth)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        # A character takes four bytes at most, and what is cut in the middle of one is not shown.
        return str(value.as_buffer()[: 4 * (LONGEST + 1)].to_pybytes(), "utf-8", "replace")
    if hasattr(value, "as_buffer"):
        buffer = value.as_buffer()
        return _bytes_text(buffer[:_BYTES].to_pybytes(), buffer.size)
    if pa.types.is_floating(kind):
        return _float_text(float(value.as_py()), str(kind))
    if pa.types.is_timestamp(kind) or pa.types.is_time(kind):
        return _time_text(value)
    if pa.types.is_duration(kind):
        return f"{value.cast(pa.int64()).as_py():,} {kind.unit}"
    if pa.types.is_decimal(kind):
        return _decimal_text(value.as_py())
    return str(value.as_py())


def _nested_text(value: Any, depth: int) -> str:
    import pyarrow as pa

    if not depth:
        return "…"
    kind = value.type
    if pa.types.is_struct(kind):
        names = [kind.field(index).name for index in range(min(kind.num_fields, _ITEMS))]
        parts = [f"{name}: {_inner(value[index], depth)}" for index, name in enumerate(names)]
        return _joined("{", parts, kind.num_fields, "}")
    if not hasattr(value, "values"):
        return _UNSHOWN
    items = value.values
    if pa.types.is_map(kind):
        parts = [
            f"{_inner(item['key'], depth)}: {_inner(item['value'], depth)}"
            for item in (items[index] for index in range(min(len(items), _ITEMS)))
        ]
        return _joined("{", parts, len(items), "}")
    return _joined("[", [_inner(items[index], depth) for index in range(min(len(items), _ITEMS))], len(items), "]")


def _inner(value: Any, depth: int) -> str:
    found = _scalar_text(value, depth - 1)
    return "null" if found is None else found[:LONGEST]


def _joined(begin: str, parts: list[str], total: int, end: str) -> str:
    more = f", … {total:,} in all" if total > len(parts) else ""
    return f"{begin}{', '.join(parts)}{more}{end}"


def _bytes_text(start: bytes, size: int) -> str:
    return f"{start.hex(' ')}{' …' if size > len(start) else ''} ({size:,} byte{'' if size == 1 else 's'})"


def _float_text(value: float, kind: str) -> str:
    return f"{value:.{_DIGITS.get(kind, _DOUBLE)}g}"


def _decimal_text(value: Decimal) -> str:
    return f"{value:f}" if abs(value.adjusted()) < LONGEST else str(value)


def _time_text(value: Any) -> str:
    """Return a time in UTC, where it has a zone: Arrow would need the machine's list of zones for any other."""
    import pyarrow as pa

    kind, zone = value.type, ""
    if pa.types.is_timestamp(kind) and kind.tz is not None:
        value, zone = value.cast(pa.timestamp(kind.unit)), "Z"
    text = str(value.cast(pa.string()).as_py())
    return f"{_NO_FRACTION.sub('', text)}{zone}"
