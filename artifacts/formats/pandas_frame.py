"""pandas' frames as Arrow tables: what the conversion would change in silence, and what it cannot do, by column."""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from stepout.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

_SHOWN: Final = 5


def is_frame(value: object) -> bool:
    """Return whether a value is a pandas frame, or a subclass's; imports nothing."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(value, pandas.DataFrame)


def frame_table(frame: Any, *, label: str = "", keep_index: bool | None = None) -> pa.Table:
    """Turn a frame into a table.

    Args:
        frame: A pandas frame.
        label: What messages call it, for example ``chunk 3``; empty for a frame that stands alone.
        keep_index: Whether its index becomes columns; ``None``: as pyarrow does, all but one that counts rows.

    Raises:
        ConfigurationError: A column holds what Arrow has no one type for, or would change in silence.
    """
    import pyarrow as pa

    _check_columns(frame, label)
    try:
        return pa.Table.from_pandas(frame, preserve_index=keep_index)
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
        # Their messages may quote values: nothing of them is repeated.
        raise ConfigurationError(_why(frame, label, error)) from None


class FrameIndex:
    """What the first frame of a stream decides about the index of all.

    An index without a name that counts up by one is row numbers, and nothing is lost without it.

    Args:
        first: The first frame.
    """

    def __init__(self, first: Any) -> None:
        import pandas as pd

        self._names = list(first.index.names)
        self.kept = not (isinstance(first.index, pd.RangeIndex) and _counts(first.index))

    def check(self, frame: Any, label: str) -> None:
        """Refuse a later frame whose index cannot be treated as the first one's without loss.

        Raises:
            ConfigurationError: It cannot.
        """
        names = list(frame.index.names)
        if self.kept and names != self._names:
            msg = f"{label} has the index {_shown(names)}, the first chunk had {_shown(self._names)}"
        elif not self.kept and not _counts(frame.index):
            msg = f"{label} has an index of its own, {_shown(names)}; the first one's only counted rows and is not kept"
        else:
            return
        raise ConfigurationError(
            f"{msg}: give all chunks the same index, make it a column with .reset_index(), or drop it with "
            ".reset_index(drop=True)"
        )


def _counts(index: Any) -> bool:
    """Return whether an index is row numbers: no name, whole numbers, each one more than the last."""
    import pandas as pd

    if index.nlevels > 1 or index.name is not None or not pd.api.types.is_integer_dtype(index.dtype):
        return False
    if isinstance(index, pd.RangeIndex):
        return bool(index.step == 1 or len(index) <= 1)
    return bool(len(index) == 0 or index.equals(pd.RangeIndex(index[0], index[0] + len(index))))


def _shown(names: list[Any]) -> str:
    return ", ".join("without a name" if name is None else repr(name) for name in names)


# Columns -----------------------------------------------------------------------------------------------------------


def _check_columns(frame: Any, label: str) -> None:
    """Refuse what pyarrow would convert, and change."""
    for position, (name, dtype) in enumerate(frame.dtypes.items()):
        problem, kind = None, str(dtype)
        if kind == "geometry":
            problem = "holds geometries, which Arrow has no type for: pass frame.to_wkb(), and keep frame.crs apart"
        elif kind.startswith("Sparse"):
            problem = "is sparse, which Arrow has no type for: make it dense with .sparse.to_dense()"
        elif kind == "object":
            problem = _mixed(frame.iloc[:, position])
        if problem is not None:
            raise ConfigurationError(f"{_what(name, label)} {problem}. Nothing was sent")


def _mixed(column: Any) -> str | None:
    """Say what is wrong with a column of Python objects that Arrow would make one type of by changing values."""
    import datetime as dt

    values = column.to_numpy()
    kinds = {*map(type, values)}
    texts = any(issubclass(kind, str) for kind in kinds)
    if texts and any(issubclass(kind, bytes | bytearray) for kind in kinds):
        return f"holds {_named(kinds)}: make them one type, for example with .str.decode() or .astype(str)"
    times = any(issubclass(kind, dt.datetime) for kind in kinds)
    if times and any(issubclass(kind, dt.date) and not issubclass(kind, dt.datetime) for kind in kinds):
        return f"holds {_named(kinds)}: make them one type with pandas.to_datetime()"
    if times and len({each.tzinfo is None for each in values if isinstance(each, dt.datetime)}) > 1:
        return "holds times with and without a time zone: make them one type with pandas.to_datetime(…, utc=True)"
    if any(hasattr(kind, "__geo_interface__") for kind in kinds):
        return "holds geometries, which Arrow has no type for: make them text with .to_wkt(), or bytes with .to_wkb()"
    return None


def _why(frame: Any, label: str, error: Exception) -> str:
    """Find the column that cannot be converted, and say what to do about it; quote no value."""
    import pyarrow as pa

    start = f"{label}: a" if label else "a"
    msg = f"{start} pandas DataFrame could not be turned into an Arrow table ({type(error).__name__})"
    if len(set(frame.columns)) != len(frame.columns):
        return f"{msg}: it has more than one column of one name. Nothing was sent"
    for name, column in [*_columns(frame), *_levels(frame)]:
        try:
            pa.array(column, from_pandas=True)
            str(name).encode()
        except UnicodeEncodeError:
            problem = "has text with lone surrogates, which UTF-8 has no bytes for: replace them, for example with"
            problem += ' .str.encode("utf-8", "replace").str.decode("utf-8")'
        except (pa.ArrowException, ValueError, TypeError, OverflowError):
            problem = _unconvertible(column)
        else:
            continue
        what = _what(name, label).encode("utf-8", "backslashreplace").decode()
        return f"{what} of type {column.dtype} {problem} ({type(error).__name__}). Nothing was sent"
    return f"{msg}. Nothing was sent"


def _unconvertible(column: Any) -> str:
    kinds = {*map(type, column.to_numpy())} if str(column.dtype) in ("object", "category") else set()
    if kinds and all(issubclass(kind, int) for kind in kinds) and bool not in kinds:
        return (
            "holds whole numbers beyond 64 bits, or on both sides of what 64 bits hold: make them text with "
            ".astype(str), or decimal.Decimal"
        )
    advice = "make them one type, for example with .astype(str), or drop it"
    named = f" ({_named(kinds)})" if kinds else ""
    return f"holds what Arrow has no one type for{named}: {advice}"


def _columns(frame: Any) -> Iterator[tuple[Any, Any]]:
    for position, name in enumerate(frame.columns):
        yield name, frame.iloc[:, position]


def _levels(frame: Any) -> Iterator[tuple[Any, Any]]:
    for number, name in enumerate(frame.index.names):
        values = frame.index.get_level_values(number)
        yield ("index" if name is None else name), values


def _what(name: Any, label: str) -> str:
    return f"column {name!r}" + (f" of {label}" if label else "")


def _named(kinds: set[type]) -> str:
    counted = Counter(kind.__qualname__ for kind in kinds if kind is not type(None))
    names = sorted(counted)
    return " and ".join(names[:_SHOWN]) + (" and others" if len(names) > _SHOWN else "")
