"""Looks into Parquet files: what the footer says, a few rows, and histograms of one row group."""

from __future__ import annotations

import hashlib
import io
import math
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.looks import Bench
from support.parquet_reader import ReadingProcess

from stepout.artifacts.media_types import PARQUET
from stepout.page.budget import PageBudget
from stepout.page.insides.columns import COLUMNS
from stepout.page.insides.rows import NOT_READ
from stepout.page.model import ColumnSummary, TableInside

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stepout.page.insides import Look
    from stepout.schemas import Pointer


def _inside(look: Look) -> TableInside:
    assert isinstance(look.inside, TableInside), look
    return look.inside


def _column(look: Look, name: str) -> ColumnSummary:
    return next(column for column in _inside(look).columns if column.name == name)


def _look(table: pa.Table, budget: PageBudget | None = None) -> Look:
    bench = Bench()
    return bench.look(bench.artifacts.put_table("t", table), budget)


def _grouped(bench: Bench, table: pa.Table, rows: int, **options: Any) -> Pointer:
    """Put a file of many row groups, whose footer and pages can be verified in ranges."""
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=rows, write_page_checksum=True, **options)
    data = sink.getvalue()
    size = int.from_bytes(data[-8:-4], "little") + 8
    note = {"pageChecksums": True, "footerSize": size, "footerSha256": hashlib.sha256(data[-size:]).hexdigest()}
    return bench.shelf.put(data, "t.parquet", media_type=PARQUET, annotations={"parquet": note})


def _wide_rows(rows: int = 120_000, columns: int = 4) -> pa.Table:
    draw = np.random.default_rng(5)
    return pa.table({"row": np.arange(rows), **{f"c{index}": draw.random(rows) for index in range(1, columns)}})


# Schema and statistics ------------------------------------------------------------------------------------------------

_NOON = 1_767_355_200_000_000  # microseconds
TYPES = pa.table(
    {
        "whole": pa.array([3, None, 1], pa.int32()),
        "unsigned": pa.array([2**63 + 1, 1, None], pa.uint64()),
        "double": pa.array([float("nan"), 0.0, 2.5]),
        "half": pa.array([1.5, -2.0, None], pa.float16()),
        "flag": pa.array([True, None, False]),
        "text": ["b", "a" * 300, None],
        "bytes": pa.array([b"\x00\xff", b"\x01", None]),
        "fixed": pa.array([b"ab", b"zz", None], pa.binary(2)),
        "decimal": pa.array([Decimal("1.25"), Decimal("-3.50"), None]),
        "day": [date(2026, 1, 2), date(1969, 12, 31), None],
        "micros": pa.array([_NOON, _NOON - 1, None], pa.timestamp("us")),
        "zoned": pa.array([datetime(2026, 1, 2, tzinfo=UTC), None, None], pa.timestamp("us", "Europe/Berlin")),
        "nanos": pa.array([1, 2, None], pa.timestamp("ns")),
        "length": pa.array([5, 7, None], pa.duration("ms")),
        "category": pa.array(["x", "y", "x"]).dictionary_encode(),
        "list": [[1, 2], [], None],
        "struct": [{"a": 1, "b": "z"}, None, {"a": None, "b": None}],
        "map": pa.array([[("k", 1)], [], None], pa.map_(pa.string(), pa.int64())),
        "nothing": pa.nulls(3),
    }
)


def test_every_type_has_a_column_that_says_what_there_is() -> None:
    """Nulls, the least and the greatest value: from statistics, or from the rows where they are all there."""
    look = _look(TYPES)
    assert (look.problem, look.verified) == (None, "whole")
    told = {column.name: (column.nulls, column.minimum, column.maximum) for column in _inside(look).columns}
    assert told == {
        "whole": (1, "1", "3"),
        "unsigned": (1, "1", str(2**63 + 1)),
        "double": (0, "0", "2.5"),
        "half": (1, "-2", "1.5"),
        "flag": (1, "False", "True"),
        "text": (1, "a" * 79 + "…", "b"),
        "bytes": (1, "00 ff (2 bytes)", "01 (1 byte)"),
        "fixed": (1, "61 62 (2 bytes)", "7a 7a (2 bytes)"),
        "decimal": (1, "-3.50", "1.25"),
        "day": (1, "1969-12-31", "2026-01-02"),
        "micros": (1, "2026-01-02 11:59:59.999999", "2026-01-02 12:00:00"),
        "zoned": (2, "2026-01-02 00:00:00Z", "2026-01-02 00:00:00Z"),
        "nanos": (1, "1970-01-01 00:00:00.000000001", "1970-01-01 00:00:00.000000002"),
        "length": (1, "5 ms", "7 ms"),
        "category": (0, "x", "y"),
        "list": (1, None, None),
        "struct": (1, None, None),
        "map": (1, None, None),
        "nothing": (3, None, None),
    }


def test_every_type_has_cells() -> None:
    """A null is no text; what is long is cut; bytes are hexadecimal; what is nested is short."""
    head = _inside(_look(TYPES)).head
    names = TYPES.column_names
    first = dict(zip(names, head[0], strict=True))
    assert first["text"] == "b"
    assert first["bytes"] == "00 ff (2 bytes)"
    assert first["zoned"] == "2026-01-02 00:00:00Z"
    assert first["list"] == "[1, 2]"
    assert first["struct"] == "{a: 1, b: z}"
    assert first["map"] == "{k: 1}"
    assert first["category"] == "x"
    assert dict(zip(names, head[1], strict=True))["text"] == "a" * 79 + "…"
    assert [cell for name, cell in zip(names, head[2], strict=True) if cell is None] == [None] * 14


def test_hostile_text_is_escaped_and_cut() -> None:
    """Names and values: controls, and what turns the reading direction."""
    look = _look(pa.table({"na\x1b[2Jme\u202e" + "x" * 1000: ["\u202eevil\x07" * 1000, "<script>alert(1)</script>"]}))
    (column,) = _inside(look).columns
    assert column.name.startswith("na\\x1b[2Jme\\u202exx")
    assert len(column.name) <= 200
    cells = [row[0] or "" for row in _inside(look).head]
    assert all(cell.isprintable() and len(cell) <= 80 for cell in cells)
    assert cells[1] == "<script>alert(1)</script>"


def test_huge_values_are_cut_and_never_taken_apart() -> None:
    """A text of megabytes, a list of 200,000 values, a struct of 200 members."""
    table = pa.table(
        {
            "text": ["é" * 500_000],
            "list": pa.array([np.arange(200_000)]),
            "struct": pa.array([{f"m{index}": index for index in range(200)}]),
            "deep": pa.array([[[[[[[1]]]]]]]),
        }
    )
    cells = _inside(_look(table)).head[0]
    assert all(len(cell or "") <= 80 for cell in cells)
    assert cells[1] == "[0, 1, 2, 3, 4, 5, … 200,000 in all]"
    assert (cells[2] or "").endswith("… 200 in all}")
    assert cells[3] == "[[[[…]]]]"


def test_a_table_without_rows_has_its_schema() -> None:
    """And nothing else."""
    look = _look(pa.table({"a": pa.array([], pa.int64()), "b": pa.array([], pa.string())}))
    inside = _inside(look)
    assert (inside.rows, inside.head, inside.tail, inside.histogram_rows) == (0, (), (), 0)
    assert [(column.name, column.type) for column in inside.columns] == [("a", "int64"), ("b", "string")]
    assert look.problem is None


def test_a_table_without_columns_has_its_schema() -> None:
    """Nothing of it, that is."""
    inside = _inside(_look(pa.table({})))
    assert (inside.rows, inside.columns, inside.total_columns) == (0, (), 0)


def _values(kind: Any) -> Any:
    return st.lists(st.none() | kind, min_size=1, max_size=40)


@given(
    whole=_values(st.integers(-(2**63), 2**63 - 1)),
    real=_values(st.floats(-1e300, 1e300) | st.sampled_from([math.nan, math.inf, -math.inf])),
    text=_values(st.text(max_size=6)),
)
def test_statistics_and_histograms_are_those_of_the_values(whole: Any, real: Any, text: Any) -> None:
    """Counts of all finite values, the nulls, and bounds that hold for every value."""
    table = pa.table({"whole": pa.array(whole, pa.int64())})
    look = _column(_look(table), "whole")
    known = [value for value in whole if value is not None]
    assert (look.nulls, sum(look.histogram)) == (len(whole) - len(known), len(known))
    assert (look.minimum, look.maximum) == ((str(min(known)), str(max(known))) if known else (None, None))

    look = _column(_look(pa.table({"real": pa.array(real, pa.float64())})), "real")
    assert look.nulls == real.count(None)
    assert sum(look.histogram) == sum(value is not None and math.isfinite(value) for value in real)
    ordered = [value for value in real if value is not None and not math.isnan(value)]
    if ordered:
        assert float(look.minimum or "nan") == pytest.approx(min(ordered), rel=1e-9)
        assert float(look.maximum or "nan") == pytest.approx(max(ordered), rel=1e-9)

    look = _column(_look(pa.table({"text": pa.array(text, pa.string())})), "text")
    assert (look.nulls, look.histogram) == (text.count(None), ())


def test_a_histogram_has_equal_intervals() -> None:
    """Whole numbers that are close together have an interval each; what is all the same has one."""
    few = pa.array([0, 0, 1, 3, 3, 3])
    look = _look(pa.table({"few": few, "same": [7] * 6, "flag": [True, False, True, True, True, None]}))
    assert _column(look, "few").histogram == (2, 1, 0, 3)
    assert _column(look, "same").histogram == (6,)
    assert _column(look, "flag").histogram == (1, 4)
    even = _column(_look(pa.table({"even": np.linspace(0, 1, 2000)})), "even").histogram
    assert len(even) == 20
    assert all(95 <= count <= 105 for count in even)


# What is read ---------------------------------------------------------------------------------------------------------


def test_of_a_large_file_a_part_is_read_and_verified() -> None:
    """The footer, one row group, and the last one for the last rows: never the whole."""
    bench, table = Bench(), _wide_rows()
    pointer = _grouped(bench, table, 12_000)
    look = bench.look(pointer)
    inside = _inside(look)
    assert (look.verified, look.problem) == ("part", None)
    assert (inside.rows, inside.histogram_rows) == (120_000, 12_000)
    assert [row[0] for row in inside.head] == [str(index) for index in range(10)]
    assert [row[0] for row in inside.tail] == [str(index) for index in range(119_995, 120_000)]
    row = _column(look, "row")
    assert (row.nulls, row.minimum, row.maximum, sum(row.histogram)) == (0, "0", "119999", 12_000)
    assert bench.budget.spent().bytes_read < pointer.size / 3
    assert f"of its {pointer.size:,} bytes" in look.verified_note


def test_a_file_with_blocks_is_verified_by_them() -> None:
    """What stepout itself writes: a flipped bit of a column that is read is a problem, and statistics are shown."""
    bench = Bench()
    pointer = bench.artifacts.put_table("t", _wide_rows())
    look = bench.look(pointer)
    assert look.verified == "whole"
    assert f"All of its {pointer.size:,} bytes were read and compared, block by block" in look.verified_note
    assert bench.budget.spent().bytes_read == pointer.size
    assert bench.look(pointer, PageBudget(bytes=2 << 20)).verified == "part"
    data = bytearray(bench.shelf.store.read(pointer.key))
    data[len(data) // 2] ^= 1
    bench.shelf.store.replace(pointer.key, bytes(data))
    look = bench.look(pointer.from_dict(_without_pin(pointer)))
    assert look.problem is not None
    assert look.problem.error == "Stepout.ChecksumMismatch"
    assert (_inside(look).rows, _inside(look).head) == (120_000, ())
    assert _column(look, "row").maximum == "119999"


def _without_pin(pointer: Pointer) -> dict[str, Any]:
    return {name: value for name, value in pointer.to_dict().items() if name not in ("etag", "versionId")}


def test_a_damaged_page_is_a_problem_where_pages_have_checksums() -> None:
    """The footer is fine, so what it says is shown."""
    bench = Bench()
    pointer = _grouped(bench, _wide_rows(), 12_000)
    data = bytearray(bench.shelf.store.read(pointer.key))
    data[5_000] ^= 1
    bench.shelf.store.replace(pointer.key, bytes(data))
    look = bench.look(pointer.from_dict(_without_pin(pointer)))
    assert look.problem is not None
    assert look.problem.error in ("Stepout.ChecksumMismatch", "Stepout.Undecodable")
    assert _inside(look).rows == 120_000


def test_columns_that_take_too_much_are_said_to_be_unread() -> None:
    """The small ones are shown, statistics of all."""
    bench = Bench()
    table = _wide_rows(60_000, 8).append_column("small", pa.array(np.zeros(60_000, np.int8)))
    look = bench.look(_grouped(bench, table, 30_000), PageBudget(bytes=1 << 20))
    inside = _inside(look)
    assert _column(look, "small").values_read
    unread = [column for column in inside.columns if not column.values_read]
    assert unread
    assert all(column.minimum is not None and not column.histogram for column in unread)
    assert {row[inside.columns.index(column)] for row in inside.head for column in unread} == {NOT_READ}
    assert f"values of {len(unread)} column" in look.verified_note
    assert "allow more with --budget-bytes" in look.verified_note
    assert "same name" not in look.verified_note
    assert bench.budget.spent().bytes_read <= 1 << 20


def test_a_file_that_can_only_be_verified_whole_stays_unread_beyond_the_budget() -> None:
    """Nothing is requested, and the card says why."""
    bench = Bench()
    sink = io.BytesIO()
    pq.write_table(_wide_rows(), sink)
    pointer = bench.shelf.put(sink.getvalue(), "t.parquet", media_type=PARQUET)
    look = bench.look(pointer, PageBudget(bytes=pointer.size))
    assert (look.inside, look.problem, bench.budget.spent().requests) == (None, None, 0)
    assert "verified as a whole" in look.verified_note
    assert bench.look(pointer).verified == "whole"


def test_a_table_of_5000_columns_is_bounded() -> None:
    """The first ones are shown; their number is said; what is read is a small part."""
    table = pa.table({f"column {index}": np.arange(30) for index in range(5000)})
    bench = Bench()
    pointer = bench.artifacts.put_table("t", table)
    look = bench.look(pointer)
    inside = _inside(look)
    assert (len(inside.columns), inside.total_columns) == (COLUMNS, 5000)
    assert {len(row) for row in (*inside.head, *inside.tail)} == {COLUMNS}
    assert inside.head[3][0] == "3"
    assert bench.budget.spent().bytes_read < pointer.size


def test_columns_of_one_name_keep_their_statistics() -> None:
    """Which of them a value is of cannot be told, so no values are shown."""
    bench, sink = Bench(), io.BytesIO()
    pq.write_table(pa.table([pa.array([1, 2]), pa.array([3, 4]), pa.array([5, 6])], names=["a", "a", "b"]), sink)
    look = bench.look(bench.shelf.put(sink.getvalue(), "t.parquet", media_type=PARQUET))
    inside = _inside(look)
    assert [(column.maximum, column.values_read) for column in inside.columns] == [
        ("2", False),
        ("4", False),
        ("6", True),
    ]
    assert inside.head[0] == (NOT_READ, NOT_READ, "5")


def test_a_column_that_unfolds_into_too_much_is_left_out() -> None:
    """A dictionary of one long text that a hundred thousand rows point to; the other column is shown."""
    bench, sink = Bench(), io.BytesIO()
    long = pa.DictionaryArray.from_arrays(pa.array(np.zeros(100_000, np.int32)), pa.array(["x" * 20_000]))
    pq.write_table(pa.table({"long": long, "id": np.arange(100_000)}), sink, store_schema=False)
    look = bench.look(bench.shelf.put(sink.getvalue(), "t.parquet", media_type=PARQUET))
    assert [column.values_read for column in _inside(look).columns] == [False, True]
    assert look.problem is None
    assert "128 MiB of memory" in look.verified_note
    assert "budget" not in look.verified_note


def test_what_is_no_parquet_is_a_problem() -> None:
    """Though its bytes are those that were written."""
    bench = Bench()
    look = bench.look(bench.shelf.put(b"a,b\n1,2\n", "t.parquet", media_type=PARQUET))
    assert look.inside is None
    assert look.problem is not None
    assert look.problem.error == "Stepout.Undecodable"


@pytest.fixture(scope="module")
def reading() -> Iterator[ReadingProcess]:
    """A process that may die of what it reads."""
    process = ReadingProcess()
    yield process
    process.close()


@given(st.data())
def test_a_damaged_file_makes_a_card_and_never_an_error(reading: ReadingProcess, data: st.DataObject) -> None:
    """Whatever its bytes are, if they are those that were written."""
    whole = bytearray(_SMALL)
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    assert reading.outcomes(bytes(whole))["look"] in {"TableInside", "CardProblem"}


def _small() -> bytes:
    sink = io.BytesIO()
    pq.write_table(TYPES, sink, write_page_checksum=False)
    return sink.getvalue()


_SMALL = _small()


def test_reads_that_are_not_to_be_verified_say_so() -> None:
    """``verify="pinned"``: ranges are read, and the card says that they were compared with nothing."""
    bench = Bench()
    look = bench.look(_grouped(bench, _wide_rows(), 12_000), verify="pinned")
    assert look.verified == "not"
    assert "compared with nothing" in look.verified_note
    assert _inside(look).rows == 120_000


def test_without_pyarrow_the_card_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is wrong with the artifact."""
    import sys

    bench = Bench()
    pointer = bench.artifacts.put_table("t", TYPES)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    look = bench.look(pointer)
    assert (look.inside, look.problem, look.verified) == (None, None, "not")
    assert 'its extra "parquet"' in look.verified_note


def test_what_is_no_number_is_counted_beside_the_nulls() -> None:
    """Half a column of NaN is no perfect column: the card says so, and of how many values the histogram is."""
    values = [math.nan] * 50 + [math.inf, -math.inf, None] + [20.0 + index % 5 for index in range(47)]
    look = _look(pa.table({"double": values, "half": pa.array(values, pa.float16()), "whole": range(100)}))
    for name in ("double", "half"):
        column = _column(look, name)
        assert (column.nulls, column.nan, column.infinite, sum(column.histogram)) == (1, 50, 2, 47)
    whole = _column(look, "whole")
    assert (whole.nan, whole.infinite, sum(whole.histogram)) == (0, 0, 100)
