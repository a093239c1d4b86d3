"""Every library's types, written by it through ``put_table`` and read by every library: the same values, or refused."""

from __future__ import annotations

import datetime as dt
import decimal
from typing import TYPE_CHECKING, Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stepout.artifacts import ArtifactManager, MemoryStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ENUM = pl.Enum(["b", "a"])
WORDS: list[Any] = ["a", "b", None]
NOON = dt.datetime.fromisoformat("2020-01-01T12:00:00.123456")
ZONED = NOON.astimezone(dt.UTC)


def _polars(values: list[Any], kind: Any) -> pl.DataFrame:
    return pl.DataFrame({"c": pl.Series(values, dtype=kind)})


def _arrow(values: list[Any], kind: pa.DataType) -> pa.Table:
    return pa.table({"c": pa.array(values, kind)})


def _words(kind: pa.DataType) -> pa.Table:
    return pa.table({"c": pa.array(WORDS).cast(kind)})


def _pandas(values: Any, dtype: Any = None) -> pd.DataFrame:
    return pd.DataFrame({"c": pd.Series(values, dtype=dtype)})


def _listed(kind: pa.DataType) -> pa.Table:
    words = pa.array(["a", "b", "a"]).cast(kind)
    return pa.table({"c": pa.ListArray.from_arrays([0, 2, 2, 3], words)})


# What is written, and the values as Python has them. Where a library reads another Python type of the same value (a
# tuple, say), ``_plain`` makes them one.
CASES: dict[str, tuple[Callable[[], Any], list[Any]]] = {
    "polars enum": (lambda: _polars(WORDS, ENUM), WORDS),
    "polars categorical": (lambda: _polars(WORDS, pl.Categorical), WORDS),
    "polars list of enum": (lambda: _polars([["a"], ["b", "a"], []], pl.List(ENUM)), [["a"], ["b", "a"], []]),
    "polars list of categorical": (lambda: _polars([["a"], ["b"]], pl.List(pl.Categorical)), [["a"], ["b"]]),
    "polars struct of enum": (lambda: _polars([{"x": "a"}], pl.Struct({"x": ENUM})), [{"x": "a"}]),
    "polars struct of categorical": (lambda: _polars([{"x": "a"}], pl.Struct({"x": pl.Categorical})), [{"x": "a"}]),
    "polars array of enum": (lambda: _polars([["a", "b"]], pl.Array(ENUM, 2)), [["a", "b"]]),
    "polars list of struct of enum": (
        lambda: _polars([[{"x": "a"}]], pl.List(pl.Struct({"x": ENUM}))), [[{"x": "a"}]]),
    "polars list of list of categorical": (lambda: _polars([[["a"]]], pl.List(pl.List(pl.Categorical))), [[["a"]]]),
    "polars text": (lambda: _polars(WORDS, pl.String), WORDS),
    "polars bytes": (lambda: _polars([b"x", None], pl.Binary), [b"x", None]),
    "polars time": (lambda: _polars([NOON.time()], pl.Time), [NOON.time()]),
    "polars zoned": (lambda: _polars([ZONED], pl.Datetime("us", "UTC")), [ZONED]),
    "polars decimal": (lambda: _polars([decimal.Decimal("1.50")], pl.Decimal(10, 2)), [decimal.Decimal("1.50")]),
    "polars unsigned": (lambda: _polars([2**64 - 1], pl.UInt64), [2**64 - 1]),
    "pandas categories": (lambda: _pandas(WORDS, "category"), WORDS),
    "pandas ordered": (lambda: _pandas(WORDS, pd.CategoricalDtype(["b", "a"], ordered=True)), WORDS),
    "pandas nullable": (lambda: _pandas([1, None], "Int8"), [1, None]),
    "pandas times": (lambda: _pandas([NOON]), [NOON]),
    "pandas bytes": (lambda: _pandas([b"x"], object), [b"x"]),
    "pyarrow dictionary": (lambda: _words(pa.dictionary(pa.int8(), pa.string())), WORDS),
    "pyarrow unsigned dictionary": (lambda: _words(pa.dictionary(pa.uint8(), pa.string())), WORDS),
    "pyarrow list of dictionary": (lambda: _listed(pa.dictionary(pa.int16(), pa.string())), [["a", "b"], [], ["a"]]),
    "pyarrow list of unsigned": (lambda: _listed(pa.dictionary(pa.uint16(), pa.string())), [["a", "b"], [], ["a"]]),
    "pyarrow dates": (lambda: _arrow([NOON.date()], pa.date32()), [NOON.date()]),
    "pyarrow zoned": (lambda: _arrow([ZONED], pa.timestamp("us", "UTC")), [ZONED]),
    "pyarrow struct": (lambda: _arrow([{"x": 1, "y": None}], pa.struct({"x": pa.int8(), "y": pa.string()})),
                       [{"x": 1, "y": None}]),
    "pyarrow view": (lambda: _arrow(WORDS, pa.string_view()), WORDS),
    "duckdb enum": (lambda: duckdb.sql("select unnest(['a', 'b', null])::enum('b', 'a') as c"), WORDS),
    "duckdb list of enum": (lambda: duckdb.sql("select ['a', 'b']::enum('b', 'a')[] as c"), [["a", "b"]]),
    "duckdb struct": (lambda: duckdb.sql("select {'x': 1, 'y': [1, 2]} as c"), [{"x": 1, "y": [1, 2]}]),
    "duckdb hugeint": (lambda: duckdb.sql("select sum(i) as c from range(4) t(i)"), [6]),
    "duckdb date": (lambda: duckdb.sql("select date '2020-01-01' as c"), [NOON.date()]),
}  # fmt: skip


def _by_duckdb(path: str) -> list[Any]:
    return [row[0] for row in duckdb.execute(f"select c from '{path}'").fetchall()]


READERS: dict[str, Callable[[str], list[Any]]] = {
    "pyarrow": lambda path: list(pq.read_table(path)["c"].to_pylist()),
    "pandas": lambda path: pd.read_parquet(path)["c"].astype(object).tolist(),
    "polars": lambda path: pl.read_parquet(path)["c"].to_list(),
    "duckdb": _by_duckdb,
}


def _plain(value: Any) -> Any:
    """Return a value as the simplest Python type that has it."""
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple) or type(value).__name__ == "ndarray":
        return [_plain(each) for each in value]
    if value is None or value is pd.NaT or value is pd.NA or (isinstance(value, float) and value != value):  # noqa: PLR0124 - NaN
        return None
    if isinstance(value, pd.Timestamp):
        return value.to_pydatetime()
    if isinstance(value, bytearray):
        return bytes(value)
    return value


@pytest.mark.parametrize("case", CASES)
def test_every_reader_has_the_values_of_every_writer(tmp_path: Path, case: str) -> None:
    """All four libraries read the file, and none of them another value."""
    make, wanted = CASES[case]
    store = MemoryStore("results")
    written = make()
    path = tmp_path / "t.parquet"
    path.write_bytes(store.read(ArtifactManager(store).put_table("t", written).key))
    for name, reader in READERS.items():
        if name == "duckdb" and case.endswith("zoned"):
            continue  # duckdb needs pytz to make Python's times of it
        assert [_plain(value) for value in reader(str(path))] == wanted, name
    if case.startswith("polars"):
        assert pl.read_parquet(path).schema == written.schema
    if case.startswith("pandas"):
        assert pd.read_parquet(path).equals(written)
