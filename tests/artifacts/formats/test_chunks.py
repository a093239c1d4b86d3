"""Chunks: the first decides, what loses nothing is forgiven, what would is refused by chunk and column."""

from __future__ import annotations

import datetime as dt
import decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepout.artifacts import ArtifactManager, MemoryStore
from stepout.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable


def _ordered(*names: str) -> Any:
    return pd.CategoricalDtype(list(names), ordered=True)


LOW_HIGH = _ordered("low", "mid", "high")
NEW_YEAR = [dt.datetime.fromisoformat(f"{year}-01-01") for year in (2020, 2021)]


def _back(*chunks: Any) -> pa.Table:
    """Write chunks and read the file."""
    store = MemoryStore("results")
    pointer = ArtifactManager(store).put_table("t", iter(chunks))
    return pq.read_table(pa.BufferReader(store.read(pointer.key)))


def _frame(values: Any, index: Any = None, dtype: Any = None) -> pd.DataFrame:
    return pd.DataFrame({"a": pd.Series(values, dtype=dtype)}).set_axis(
        pd.RangeIndex(len(values)) if index is None else index, axis=0
    )


FORGIVEN: dict[str, tuple[list[Any], list[Any]]] = {
    "nulls later": ([_frame(["x"]), _frame([None])], ["x", None]),
    "nulls first": ([_frame([None]), _frame(["x"])], [None, "x"]),
    "nulls for long": ([*[_frame([None])] * 5, _frame([1])], [None] * 5 + [1]),
    "nulls only": ([_frame([None]), _frame([None])], [None, None]),
    "missing numbers first, then text": ([_frame([np.nan]), _frame(["x"])], [None, "x"]),
    "missing numbers first, then fractions": ([_frame([np.nan]), _frame([1]), _frame([1.5])], [None, 1, 1.5]),
    "missing numbers later": ([_frame(["x"]), _frame([np.nan])], ["x", None]),
    "integers with one missing": ([_frame([1, 2]), _frame([3, np.nan])], [1, 2, 3, None]),
    "integers among fractions": ([_frame([1.5]), _frame([2])], [1.5, 2.0]),
    "smaller integers": ([_frame([1], dtype="int64"), _frame([2], dtype="int8")], [1, 2]),
    "larger integers that fit": ([_frame([1], dtype="int8"), _frame([2], dtype="int64")], [1, 2]),
    "two layouts of text": ([_frame(["x"], dtype=object), _frame(["y"])], ["x", "y"]),
    "text among categories": ([_frame(["x"], dtype="category"), _frame(["y"])], ["x", "y"]),
    "categories among text": ([_frame(["x"]), _frame(["y"], dtype="category")], ["x", "y"]),
    "empty lists first": ([_frame([[]]), _frame([[1]])], [[], [1]]),
    "empty lists later": ([_frame([[1]]), _frame([[]])], [[1], []]),
    "unknown members": ([_frame([{"m": None}]), _frame([{"m": "x"}])], [{"m": None}, {"m": "x"}]),
    "decimals": ([_frame([decimal.Decimal("1.25")]), _frame([decimal.Decimal("1.5")])],
                 [decimal.Decimal("1.25"), decimal.Decimal("1.50")]),
    "no rows first": ([_frame([]), _frame([1])], [1]),
    "no rows between": ([_frame([1]), _frame([]), pd.DataFrame(), _frame([2])], [1, 2]),
    "fewer categories of an order": ([_frame(["mid"], dtype=LOW_HIGH), _frame(["high"], dtype=_ordered("low", "high"))],
                                     ["mid", "high"]),
    "only missing of an order": ([_frame(["mid"], dtype=LOW_HIGH), _frame([None], dtype=_ordered("z", "low"))],
                                 ["mid", None]),
    **{
        f"no categories ({ordered=}, {none}), then {name}": (
            [_frame([None], dtype=pd.CategoricalDtype(none, ordered)), later], [None, *later["a"]]
        )
        for ordered in (False, True)
        for none in (None, list[str]())
        for name, later in {
            "some": _frame(["x"], dtype=pd.CategoricalDtype(["y", "x"], ordered)),
            "numbers": _frame([2], dtype=pd.CategoricalDtype([2, 1], ordered)),
            "text": _frame(["x"]),
            "integers": _frame([1]),
        }.items()
    },
    "no categories later": ([_frame(["x"], dtype="category"), _frame([None], dtype="category")], ["x", None]),
    "a dictionary of nulls": ([pa.table({"a": pa.nulls(1).dictionary_encode()}),
                               pa.table({"a": pa.array(["x"]).dictionary_encode()})], [None, "x"]),
    "polars": ([pl.DataFrame({"a": [None]}), pl.DataFrame({"a": ["x"]})], [None, "x"]),
    "pyarrow": ([pa.record_batch({"a": pa.nulls(1)}), pa.table({"a": [1]})], [None, 1]),
    "units of time": ([_frame(pd.to_datetime(["2020"]).as_unit("ns")), _frame(pd.to_datetime(["2021"]).as_unit("s"))],
                      NEW_YEAR),
}  # fmt: skip


@pytest.mark.parametrize("case", FORGIVEN)
def test_what_loses_nothing_is_forgiven(case: str) -> None:
    """The values come back, and categories keep the order of the first chunk."""
    chunks, wanted = FORGIVEN[case]
    table = _back(*chunks)
    assert table.column_names == ["a"]
    assert table["a"].to_pylist() == wanted
    if "then some" in case:
        assert list(table.to_pandas()["a"].cat.categories) == ["y", "x"]
    if "of an order" in case:
        assert list(table.to_pandas()["a"].cat.categories) == ["low", "mid", "high"]


def _listed(*names: str) -> pa.RecordBatch:
    one = pa.DictionaryArray.from_arrays(pa.array([0]), pa.array(names), ordered=True)
    return pa.record_batch({"a": pa.ListArray.from_arrays([0, 1], one)})


LOST: dict[str, list[Any]] = {
    "fractions among integers": [_frame([1]), _frame([1.5])],
    "integers that fractions round": [_frame([1.5]), _frame([2**53 + 1])],
    "integers that are too large": [_frame([1], dtype="int8"), _frame([300], dtype="int64")],
    "narrower fractions": [_frame([1.5], dtype="float32"), _frame([0.1], dtype="float64")],
    "text among numbers": [_frame([1]), _frame(["x"])],
    "truth among numbers": [_frame([1]), _frame([True])],
    "numbers among truth": [_frame([True]), _frame([1])],
    "a time zone": [_frame(pd.to_datetime(["2020"])), _frame(pd.to_datetime(["2020"], utc=True))],
    "times among dates": [_frame([dt.date(2020, 1, 1)]), _frame(pd.to_datetime(["2020-01-01 05:00"]))],
    "finer times": [_frame(pd.to_datetime(["2020"]).as_unit("s")), _frame(pd.to_datetime(["2020-01-01 00:00:00.5"]))],
    "more decimals": [_frame([decimal.Decimal("1.5")]), _frame([decimal.Decimal("1.255")])],
    "another order": [_frame(["a"], dtype=_ordered("a", "b")), _frame(["b"], dtype=_ordered("b", "a"))],
    "a category within an order": [_frame(["a"], dtype=_ordered(*names)) for names in ("ac", "abc")],
    "an order that is given up": [_frame(["a"], dtype="category"), _frame(["b"], dtype=_ordered("b", "a"))],
    "text among an order": [_frame(["a"], dtype=_ordered("a", "b")), _frame(["b"])],
    "other categories in an order": [_frame([1], dtype=pd.CategoricalDtype([1], ordered=True)),
                                     _frame(["05:00"], dtype=_ordered("05:00"))],
    "another order in lists": [_listed("x", "y"), _listed("y", "x")],
    "another polars enum": [pl.DataFrame({"a": ["x"]}, schema={"a": pl.Enum(list(each))}) for each in ("xy", "yx")],
    "another member": [_frame([{"m": 1}]), _frame([{"n": 1}])],
    "mixed types": [_frame(["x"]), _frame(["x", 1], dtype=object)],
}  # fmt: skip


@pytest.mark.parametrize("case", LOST)
def test_what_would_lose_something_is_refused(case: str) -> None:
    """The message names the chunk and the column; the same chunk earlier or later is the same error."""
    first, second = LOST[case]
    for chunks, number in (([first, second], 1), ([first, first, first, second], 3)):
        with pytest.raises(ConfigurationError, match=f"column 'a' of (chunk|batch) {number} ") as caught:
            _back(*chunks)
        assert "05:00" not in str(caught.value)


# The index -----------------------------------------------------------------------------------------------------------

NAMED = pd.Index([5, 6], name="key")


@pytest.mark.parametrize(
    ("chunks", "wanted"),
    [
        ([_frame([1, 2]), _frame([3, 4])], range(4)),
        ([_frame([1, 2]), _frame([3, 4], pd.RangeIndex(7, 9))], range(4)),
        ([_frame([1, 2]), _frame([3, 4], pd.Index([2, 3]))], range(4)),
        ([_frame([1, 2], pd.Index([7, 9])), _frame([3, 4])], [7, 9, 0, 1]),
        ([_frame([1, 2], pd.RangeIndex(0, 4, 2)), _frame([3, 4], pd.Index([5, 9]))], [0, 2, 5, 9]),
        ([_frame([]), _frame([1, 2], pd.Index(["x", "y"])), _frame([3, 4], pd.Index(["z", "z"]))], list("xyzz")),
        ([_frame([1, 2], NAMED), _frame([3, 4], NAMED)], [5, 6, 5, 6]),
    ],
)
def test_the_first_chunk_decides_about_the_index(chunks: list[pd.DataFrame], wanted: Any) -> None:
    """Row numbers are not kept, any other index is; both in every chunk, whatever kind of index pandas chose."""
    back = _back(*chunks).to_pandas()
    assert list(back.index) == list(wanted)
    assert back["a"].tolist() == [1, 2, 3, 4]
    assert back.index.name == chunks[0].index.name


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (_frame([1, 2]), _frame([3, 4], pd.Index([7, 9]))),
        (_frame([1, 2]), _frame([3, 4], pd.Index(["x", "y"]))),
        (_frame([1, 2]), _frame([3, 4], NAMED)),
        (_frame([1, 2], NAMED), _frame([3, 4])),
        (_frame([1, 2], NAMED), _frame([3, 4], NAMED.rename("other"))),
        (_frame([1, 2]), _frame([3, 4], pd.MultiIndex.from_tuples([(1, 2), (3, 4)]))),
    ],
)
def test_an_index_that_would_be_lost_is_refused(first: pd.DataFrame, second: pd.DataFrame) -> None:
    """The message names the chunk and says how to make it a column or to drop it."""
    with pytest.raises(ConfigurationError, match=r"chunk 2 has .*index.*reset_index\(drop=True\)"):
        _back(first, first, second)
    assert _back(first, first.iloc[:0], first).num_rows == 4


def test_an_index_of_another_type_is_refused() -> None:
    """Labels of text do not go into a column of numbers."""
    with pytest.raises(ConfigurationError, match="column '__index_level_0__' of chunk 1 is of type"):
        _back(_frame([1, 2], pd.Index([7, 9])), _frame([3, 4], pd.Index(["x", "y"])))


def test_columns_in_another_order_are_the_same_columns() -> None:
    """They are found by name; a missing and a further one are refused."""
    both = pd.DataFrame({"a": [1], "b": ["x"]})
    assert _back(both, both[["b", "a"]]).to_pydict() == {"a": [1, 1], "b": ["x", "x"]}
    for other in (both[["a"]], both.assign(c=1)):
        with pytest.raises(ConfigurationError, match=r"chunk 1 has the columns a.*; the first one had a, b"):
            _back(both, other)


@settings(max_examples=settings().max_examples * 3 // 5)
@given(
    st.lists(
        st.lists(st.none() | st.integers(-(2**53), 2**53), max_size=4)
        | st.lists(st.none() | st.floats(allow_nan=False), max_size=4),
        min_size=1,
        max_size=4,
    )
)
def test_numbers_come_back_as_they_are_or_not_at_all(pieces: list[list[Any]]) -> None:
    """Whatever type pandas chose for each chunk, the values are the same, or the put is refused."""
    chunks = [pd.DataFrame({"a": pd.Series(piece)}) for piece in pieces]
    wanted = [None if pd.isna(value) else value for chunk in chunks for value in chunk["a"].tolist()]
    try:
        found = _back(*chunks)["a"].to_pylist()
    except ConfigurationError:
        return
    assert found == wanted


def test_a_reader_among_the_chunks_is_read_in_its_turn() -> None:
    """Nothing is opened beside it, even where the first chunk leaves a type open."""
    reader = pa.table({"a": [2, 3]}).to_reader()
    assert _back(pa.table({"a": pa.nulls(1)}), reader, pa.table({"a": [4]}))["a"].to_pylist() == [None, 2, 3, 4]


# One frame -----------------------------------------------------------------------------------------------------------


class Point:
    """What a geometry looks like where geopandas is not installed."""

    __geo_interface__ = {"type": "Point"}  # noqa: RUF012 - as the libraries have it


UNFIT: dict[str, tuple[Callable[[], Any], str]] = {
    "integers beyond 64 bits": (lambda: _frame([2**70]), "beyond 64 bits.*astype"),
    "integers on both sides": (lambda: _frame([2**63, -1], dtype=object), "64 bits"),
    "sparse": (lambda: _frame(pd.arrays.SparseArray([0, 1])), r"sparse.*to_dense\(\)"),
    "lone surrogates": (lambda: _frame(["secret\ud800"], dtype=object), "lone surrogates"),
    "geometries": (lambda: _frame([Point()], dtype=object), "geometries.*wkb"),
    "text and numbers": (lambda: _frame(["secret", 1], dtype=object), r"\(int and str\)"),
    "text and bytes": (lambda: _frame(["secret", b"y"], dtype=object), "bytes and str"),
    "dates and times": (lambda: _frame([dt.date(2020, 1, 1), NEW_YEAR[0]], dtype=object), "date and datetime"),
    "times with and without zone": (
        lambda: _frame([NEW_YEAR[0], NEW_YEAR[0].astimezone(dt.UTC)], dtype=object), "time zone"),
    "complex numbers": (lambda: _frame([1 + 2j]), "complex128"),
    "polars, 128 bits": (lambda: pl.DataFrame({"a": [2**70]}), r"Int128.*Decimal"),
    "polars, nested 128 bits": (lambda: pl.DataFrame({"a": [[2**70]]}), r"Int128.*Decimal"),
}  # fmt: skip


@pytest.mark.parametrize("case", UNFIT)
def test_a_column_that_cannot_be_written_is_named_and_told_what_to_do(case: str) -> None:
    """Alone and as a later chunk; beside columns that are fine; no value is quoted."""
    make, match = UNFIT[case]
    with pytest.raises(ConfigurationError, match=f"column 'a' .*{match}") as caught:
        ArtifactManager(MemoryStore("results")).put_table("t", make())
    assert "secret" not in str(caught.value)
    with pytest.raises(ConfigurationError, match=rf"chunk 1.*{match}"):
        _back(_frame(["x"]), make())


def test_an_index_that_cannot_be_written_is_named() -> None:
    """Its values are looked at as a column's are."""
    frame = pd.DataFrame({"a": [1]}, index=pd.Index(["\ud800"], dtype=object))
    with pytest.raises(ConfigurationError, match=r"column .index. .*lone surrogates"):
        ArtifactManager(MemoryStore("results")).put_table("t", frame)


def test_a_column_name_that_is_no_text_is_told() -> None:
    """UTF-8 has no bytes for a lone surrogate in a name."""
    frame = pd.DataFrame([[1]], columns=pd.Index(["a\ud800"], dtype=object))
    with pytest.raises(ConfigurationError, match=r"a\\ud800.*lone surrogates"):
        ArtifactManager(MemoryStore("results")).put_table("t", frame)


@pytest.mark.parametrize("rows", [[{"a": 1}], iter([{"a": 1}])])
def test_rows_as_dictionaries_are_told_how(rows: Any) -> None:
    """A list of dictionaries is JSON, or a table by pyarrow's own function."""
    with pytest.raises(ConfigurationError, match=r"from_pylist\(rows\)"):
        ArtifactManager(MemoryStore("results")).put_table("t", rows)
