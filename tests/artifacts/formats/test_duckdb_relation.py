"""DuckDB's types: each keeps its meaning on the way through Parquet, or is refused by name with a cast that helps."""

from __future__ import annotations

import io
import re
import traceback
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from stepout.artifacts import ArtifactManager, MemoryStore
from stepout.artifacts.store_writes import StoreProfile
from stepout.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def connection() -> Iterator[Any]:
    """A database in memory, in a time zone of its own."""
    with duckdb.connect() as opened:
        opened.execute("set TimeZone = 'UTC'")
        yield opened


def _put(relation: Any, path: Path) -> str:
    store = MemoryStore("results")
    pointer = ArtifactManager(store).put_table("t", relation)
    path.write_bytes(store.read(pointer.key))
    return str(path)


KEPT = [
    "true", "(-1)::tinyint", "200::utinyint", "(-3)::smallint", "60000::usmallint", "1", "4000000000::uinteger",
    "9223372036854775807", "18446744073709551615::ubigint", "1.5::float", "1.5::double", "12345.67::decimal(18, 3)",
    "99999999999999999999999999999999999999::decimal(38, 0)", "5::hugeint",
    "(-99999999999999999999999999999999999999)::hugeint",
    "'x'", "''", "'\\xAA\\x00'::blob", "date '2020-01-01'", "date '0044-03-15 (BC)'", "time '12:34:56.123456'",
    "'12:34:56.123456789'::time_ns", "timestamp '2020-01-01 12:34:56.123456'", "'2020-01-01 12:34:56'::timestamp_s",
    "'2020-01-01 12:34:56.123'::timestamp_ms", "'2020-01-01 12:34:56.123456789'::timestamp_ns",
    "'2020-01-01 12:34:56+05'::timestamptz", "'550e8400-e29b-41d4-a716-446655440000'::uuid", "'a'::enum('b', 'a')",
    "'{\"a\":1}'::json", "[1, null, 2]", "[1, 2, 3]::integer[3]", "{'a': 1, 'b': 'x'}", "map {'a': 1, 'b': 2}",
    "null", "[]",
    "['a'::enum('b', 'a')]", "{'u': '550e8400-e29b-41d4-a716-446655440000'::uuid}", "[5::hugeint]",
    "map {1: [date '2020-01-01']}",
]  # fmt: skip


@pytest.mark.parametrize("expression", KEPT)
def test_types_that_arrow_has_keep_their_values(connection: Any, tmp_path: Path, expression: str) -> None:
    """DuckDB reads back the text that it would have written; the type may be a wider one of the same values."""
    path = _put(connection.sql(f"select {expression} as c"), tmp_path / "t.parquet")
    wanted = connection.sql(f"select ({expression})::varchar").fetchall()
    assert connection.sql(f"select c::varchar from '{path}'").fetchall() == wanted


BIT, ZONED, LARGE = "'101'::bit", "'12:34:56+05:00'::timetz", "340282366920938463463374607431768211455::uhugeint"
LOST = {
    BIT: "BIT", ZONED: "TIME WITH TIME ZONE", LARGE: "UHUGEINT", "5::uhugeint": "UHUGEINT",
    "interval '3 months 2 days'": "INTERVAL", "'123456789012345678901234567890123456789012345'::bignum": "BIGNUM",
    "42::variant": "VARIANT", "union_value(num := 2)": "UNION(num INTEGER)", "'POINT (1 2)'::geometry": "GEOMETRY",
    f"[{LARGE}]": "UHUGEINT", f"[{BIT}]::bit[1]": "BIT", f"{{'a': 1, 'b\"c': {ZONED}}}": "TIME WITH TIME ZONE",
    f"map {{{BIT}: 1}}": "BIT", f"map {{1: [{{'x': {LARGE}}}]}}": "UHUGEINT", "[interval 1 day]": "INTERVAL",
    f"union_value(t := {ZONED})": "UNION(t TIME WITH TIME ZONE)", f"row(1, {BIT})": "BIT",
}  # fmt: skip


@pytest.mark.parametrize("expression", LOST)
def test_types_that_arrow_has_not_are_refused_with_a_cast_that_helps(
    connection: Any, tmp_path: Path, expression: str
) -> None:
    """The message names column and type, nested ones too; its cast is accepted, and keeps the text of the values."""
    connection.execute(f'create table t as select 1 as ok, {expression} as "my col"')
    with pytest.raises(ConfigurationError, match=r"column 'my col' is of DuckDB's type") as caught:
        _put(connection.sql("from t"), tmp_path / "t.parquet")
    assert f"type {LOST[expression]}" in str(caught.value)
    cast = re.search("select (.+) AS", str(caught.value))
    assert cast is not None
    connection.execute("insert into t select * from t")  # the connection is free
    if "ST_AsText" in cast[1]:  # needs the extension that has geometries
        return
    path = _put(connection.sql(f"select {cast[1]} as c from t"), tmp_path / "t.parquet")
    kept = connection.sql(f"select distinct c::varchar from '{path}'").fetchall()
    wanted = connection.sql('select distinct "my col"::varchar from t').fetchall()
    assert _digits(kept) == _digits(wanted)


def _digits(rows: list[tuple[str]]) -> str:
    """Texts inside of nested values are quoted, and were not."""
    return rows[0][0].replace("'", "")


@pytest.mark.parametrize(
    ("expression", "what"),
    [
        ("'infinity'::date", "infinite"),
        ("'-infinity'::timestamp", "infinite"),
        ("['infinity'::timestamptz]", "infinite"),
        ("{'a': '-infinity'::date}", "infinite"),
        ("time '24:00:00'", "24:00:00"),
        ("170141183460469231731687303715884105727", "more than 38 digits"),
        ("map {1: 170141183460469231731687303715884105727}", "more than 38 digits"),
    ],
)
def test_values_that_arrow_has_not_are_refused(connection: Any, tmp_path: Path, expression: str, what: str) -> None:
    """They would be other dates, times and numbers elsewhere; values beside them pass."""
    query = f"select {expression} as c from range(3) union all select null"
    with pytest.raises(ConfigurationError, match=f"column 'c' holds .*{what}"):
        _put(connection.sql(query), tmp_path / "t.parquet")
    connection.execute("create table free as select 1")


def test_duckdbs_own_types_in_a_reader_are_refused(connection: Any, tmp_path: Path) -> None:
    """A reader that the job made itself says of BIGNUM that it is DuckDB's; Parquet would give back bytes."""
    reader = connection.sql("select '12345678901234567890123456789012345678901'::bignum as c").to_arrow_reader(10)
    with pytest.raises(ConfigurationError, match="column 'c' holds DuckDB's type bignum"):
        _put(reader, tmp_path / "t.parquet")
    connection.execute("create table free as select 1")


def test_a_connection_is_told_from_a_relation(connection: Any) -> None:
    """The message says how to get one; ``put`` says so too."""
    for put in (ArtifactManager(MemoryStore("results")).put, ArtifactManager(MemoryStore("results")).put_table):
        with pytest.raises(ConfigurationError, match=r"connection\.sql\('select …'\)"):
            put("t", connection)


# Connections ---------------------------------------------------------------------------------------------------------


class _Failing(MemoryStore):
    """A store that takes nothing."""

    def put(self, *args: Any, **options: Any) -> Any:
        """Fail."""
        del args, options
        raise OSError("the store is away")

    start_upload = put


@pytest.mark.parametrize("rows", [1, 400_000])
@pytest.mark.parametrize("way", ["relation", "reader", "iterator"])
def test_a_query_that_fails_is_an_error_without_its_values(connection: Any, rows: int, way: str) -> None:
    """DuckDB and Arrow quote values in their errors, at the first rows or later; the connection is free again."""
    relation = connection.sql(
        f"select (case when i = {rows - 1} then 'secret' else '1' end)::int from range({rows}) t(i)"
    )
    table = {"relation": relation, "iterator": iter([relation]), "reader": _reader(rows)}[way]
    with pytest.raises(ConfigurationError, match="failed") as caught:
        ArtifactManager(MemoryStore("results")).put_table("t", table)
    assert "secret" not in "".join(traceback.format_exception(caught.value))
    connection.execute("create table free as select 1")


def _reader(rows: int) -> Any:
    """Return a reader of a CSV file that ends in what is no number, which Arrow finds out late."""
    text = b"a\n" + b"1\n" * (rows + 99) + b"secret\n"
    options = pyarrow.csv.ConvertOptions(column_types={"a": pa.int64()})
    return pyarrow.csv.open_csv(io.BytesIO(text), pyarrow.csv.ReadOptions(block_size=64), convert_options=options)


@pytest.mark.parametrize("error", [OSError("mine"), pa.ArrowInvalid("mine"), KeyError("mine")])
def test_what_a_generator_behind_a_reader_raises_is_unchanged(error: Exception) -> None:
    """It is the job's own exception, whatever its type."""

    def batches() -> Iterator[pa.RecordBatch]:
        yield pa.record_batch({"a": [1]})
        raise error

    reader = pa.RecordBatchReader.from_batches(pa.schema({"a": pa.int64()}), batches())
    for table in (reader, batches()):
        with pytest.raises(type(error), match="mine") as caught:
            ArtifactManager(MemoryStore("results")).put_table("t", table)
        assert caught.value is error


def _many(connection: Any) -> Any:
    return connection.sql("select range as a, range::varchar as b from range(300000)")


@pytest.mark.parametrize("case", ["type", "compression", "store", "query", "iterator", "generator", "reader"])
def test_whatever_fails_the_connection_is_free_again(connection: Any, case: str) -> None:
    """A refusal before, or a failure half-way, ends the query: the next one runs while the error is still held."""
    manager = ArtifactManager(MemoryStore("results", profile=StoreProfile(multipart_checksum="crc64nvme")))
    options: dict[str, Any] = {"compression": "lzo"} if case == "compression" else {}
    source: Any = _many(connection)
    if case == "type":
        source = connection.sql("select interval 1 day as i from range(300000)").to_arrow_reader(1000)
    elif case == "store":
        manager = ArtifactManager(_Failing("results"))
    elif case == "query":
        source = connection.sql("select if(range = 250000, error('no'), range) as a from range(300000)")
    elif case == "iterator":
        source = iter([_many(connection), 7])
    elif case == "generator":
        source = _then_fails(_many(connection).to_arrow_reader(1000))
    elif case == "reader":
        source = _many(connection).to_arrow_reader(1000)
        manager = ArtifactManager(_Failing("results"))
    with pytest.raises(Exception) as caught:
        manager.put_table("t", source, **options)
    connection.execute("create table free as select 1")
    assert caught.value is not None


def _then_fails(reader: Any) -> Iterator[pa.RecordBatch]:
    yield reader.read_next_batch()
    yield reader.read_next_batch().rename_columns(["x", "y"])
    yield from reader


def test_a_generator_is_ended_when_its_table_is_refused() -> None:
    """Its ``finally`` runs before the error leaves, though the caller still holds it."""
    ended = []

    def frames() -> Iterator[Any]:
        try:
            yield pa.table({"a": [1]})
            yield pa.table({"b": [1]})
            yield pa.table({"a": [2]})
        finally:
            ended.append(True)

    source = frames()
    with pytest.raises(ConfigurationError, match="chunk 1 has the columns b"):
        ArtifactManager(MemoryStore("results")).put_table("t", source)
    assert ended == [True]


def test_what_is_kept_is_read_by_pyarrow_as_well(connection: Any, tmp_path: Path) -> None:
    """UUID and JSON are text, HUGEINT a decimal, an enum a dictionary."""
    relation = connection.sql(
        "select '550e8400-e29b-41d4-a716-446655440000'::uuid u, '{}'::json j, sum(1) h, 'a'::enum('a') e"
    )
    table = pq.read_table(_put(relation, tmp_path / "t.parquet"))
    assert [str(kind) for kind in table.schema.types][:3] == ["string", "string", "decimal128(38, 0)"]
    assert pa.types.is_dictionary(table.schema.types[3])
