"""What polars filters of a scan is what it filters of the same rows in memory; Arrow only skips what it would skip."""

from __future__ import annotations

import datetime as dt
import decimal
from zoneinfo import ZoneInfo

import polars as pl
import pyarrow as pa
import pytest
from support.shelf import ALLOW, BreakingStore, Shelf

from stepout import ArtifactManager, resolve_artifact

BERLIN = ZoneInfo("Europe/Berlin")
NAN = float("nan")
DAYS = [dt.date(2026, 1, 1), dt.date(2026, 1, 2), None]
NUMBERS = range(240)


def _of(values: list[object], kind: pa.DataType) -> pa.Array:
    return pa.array([values[number // 3 % len(values)] for number in NUMBERS], kind)


TABLE = pa.table(
    {
        "id": NUMBERS,
        "score": _of([0.5, NAN, None, -0.0, float("inf")], pa.float64()),
        "single": _of([0.1, None], pa.float32()),
        "word": _of(["a", "B", None], pa.string()),
        "kind": _of(["a", "B", None], pa.string()).dictionary_encode(),
        "flag": _of([True, False, None], pa.bool_()),
        "large": _of([2**53 + 1, 2**53, None], pa.int64()),
        "unsigned": _of([2**64 - 1, 0, None], pa.uint64()),
        "price": _of([decimal.Decimal("1.10"), None], pa.decimal128(10, 2)),
        "when": _of([dt.datetime(2026, 1, 1, 2, tzinfo=BERLIN), None], pa.timestamp("us", "Europe/Berlin")),
        "naive": _of([dt.datetime.fromisoformat("2026-01-01T01:00:00"), None], pa.timestamp("ns")),
        "day": pa.array([DAYS[number % 3] for number in NUMBERS], pa.date32()),
    }
)
FILTERS = [
    pl.col("score") > 0,
    pl.col("score") < NAN,
    pl.col("score") >= NAN,
    pl.col("score") == 0,
    pl.col("score").is_nan(),
    ~(pl.col("score") <= 0.5),
    pl.col("single") == 0.1,
    pl.col("word") != "a",
    pl.col("word") > "a",
    ~(pl.col("word") == "a"),
    pl.col("word").is_null(),
    pl.col("word").ne_missing("a"),
    pl.col("kind") == "a",
    pl.col("flag"),
    ~pl.col("flag"),
    pl.col("large") == 2**53 + 1,
    pl.col("large") > 1.5,
    pl.col("unsigned") == 2**64 - 1,
    pl.col("unsigned") > -1,
    pl.col("price") >= decimal.Decimal("1.1"),
    pl.col("when") == dt.datetime(2026, 1, 1, 2, tzinfo=BERLIN),
    pl.col("when").is_in([dt.datetime(2026, 1, 1, 2, tzinfo=BERLIN)]),
    pl.col("naive") <= dt.datetime.fromisoformat("2026-01-01T01:00:00"),
    pl.col("day") > DAYS[0],
    (pl.col("day") == DAYS[0]) & (pl.col("score") > 0) & (pl.col("word") == "a"),
    (pl.col("day") == DAYS[0]) | (pl.col("score") > 0),
    pl.col("id").is_between(3, 7),
]


@pytest.fixture(scope="module")
def store() -> BreakingStore:
    """A bucket in memory that counts what is asked of it."""
    return BreakingStore(Shelf().store, ())


@pytest.fixture(scope="module")
def scan(store: BreakingStore) -> pl.LazyFrame:
    """A scan of a dataset by day."""
    pointer = ArtifactManager("results", "runs", client=store).put_dataset("d", TABLE, partition_by=["day"])
    frame: pl.LazyFrame = resolve_artifact(pointer, allow=ALLOW, client=store).scan_polars()
    return frame


@pytest.mark.parametrize("wanted", FILTERS, ids=str)
def test_a_filter_keeps_what_polars_keeps_of_a_frame(scan: pl.LazyFrame, wanted: pl.Expr) -> None:
    """NaN, null, zones and numbers beyond what a fraction holds, whatever Arrow makes of them."""
    whole = pl.DataFrame(TABLE).filter(wanted)
    assert sorted(scan.filter(wanted).collect()["id"]) == sorted(whole["id"])
    assert sorted(scan.filter(wanted).select("id").collect()["id"]) == sorted(whole["id"])


def test_a_filter_on_a_partition_opens_no_other_file(scan: pl.LazyFrame, store: BreakingStore) -> None:
    """Also where another part of the filter is for polars alone."""
    store.requests.clear()
    found = scan.filter((pl.col("day") == DAYS[1]) & pl.col("score").is_nan()).select("id").collect()
    assert (found.height, len(store.requests)) == (16, 1)


def test_rows_are_counted_before_they_are_filtered(scan: pl.LazyFrame) -> None:
    """The first rows of a scan are those of its first batches, and nothing after them is yielded."""
    assert scan.head(5).collect().height == 5
    first = scan.head(50).collect()
    assert scan.head(50).filter(pl.col("score").is_nan()).collect().equals(first.filter(pl.col("score").is_nan()))
