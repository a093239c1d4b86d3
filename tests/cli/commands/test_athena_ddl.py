"""``stepout athena-ddl``: statements and lists of files, as text; nothing here is run on Athena."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from stepout import ArtifactManager, ConfigurationError, Pointer
from stepout.artifacts.dataset_manifest import DatasetFile, DatasetManifest
from stepout.athena import athena_table, athena_type

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from stepout.local import LocalAws

SCHEMA = pa.schema([("id", pa.int64()), ("note text", pa.string()), ("day", pa.date32()), ("n", pa.int32())])
CREATED = """\
CREATE EXTERNAL TABLE `db`.`t` (
  `id` bigint,
  `note text` string
)
PARTITIONED BY (`day` date, `n` int)
STORED AS PARQUET
LOCATION 's3://b/runs/ds/';
"""
ADDED = """\
ALTER TABLE `db`.`t` ADD IF NOT EXISTS
  PARTITION (`day` = '2026-01-01', `n` = 1) LOCATION 's3://b/runs/ds/day=2026-01-01/n=1/'
  PARTITION (`day` = '2026-01-02', `n` = 1) LOCATION 's3://b/runs/ds/day=2026-01-02/n=1/';
"""
SYMLINKED = """\
CREATE EXTERNAL TABLE `t` (
  `id` bigint,
  `note text` string
)
PARTITIONED BY (`day` date, `n` int)
ROW FORMAT SERDE 'org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe'
STORED AS INPUTFORMAT 'org.apache.hadoop.hive.ql.io.SymlinkTextInputFormat'
OUTPUTFORMAT 'org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat'
LOCATION 's3://b/lists/';
"""


def _file(path: str, partition: dict[str, str | None], key: str | None = None) -> DatasetFile:
    pointer = Pointer(bucket="b", key=key or f"runs/ds/{path}", size=1, checksum={"sha256": "0" * 64})
    return DatasetFile(path=path, pointer=pointer, rows=1, partition=partition)


def _manifest(*files: DatasetFile, columns: tuple[str, ...] = ("day", "n")) -> DatasetManifest:
    return DatasetManifest(schema=b"", columns=columns, rows=len(files), files=files)


DAYS = (
    _file("day=2026-01-01/n=1/part-00000.parquet", {"day": "2026-01-01", "n": "1"}),
    _file("day=2026-01-01/n=1/part-00001.parquet", {"day": "2026-01-01", "n": "1"}),
    _file("day=2026-01-02/n=1/part-00000.parquet", {"day": "2026-01-02", "n": "1"}),
)


def test_a_table_and_its_partitions() -> None:
    """Columns of the files, partition columns apart, and one location for each partition."""
    made = athena_table(_manifest(*DAYS), SCHEMA, "db.t", None)
    assert made.statements == (CREATED, ADDED)
    assert made.lists == {}


def test_a_table_over_symlinks_names_exactly_the_files() -> None:
    """Each partition has a list of its own files, wherever they lie; the table reads lists."""
    moved = _file("day=2026-01-02/n=1/part-00000-1.parquet", {"day": "2026-01-02", "n": "1"}, "runs/earlier/x.parquet")
    made = athena_table(_manifest(*DAYS, moved), SCHEMA, "t", "s3://b/lists")
    assert made.statements[0] == SYMLINKED
    assert "LOCATION 's3://b/lists/day=2026-01-02/n=1/'" in made.statements[1]
    assert made.lists == {
        "day=2026-01-01/n=1/symlink.txt": "".join(f"{file.pointer.url}\n" for file in DAYS[:2]),
        "day=2026-01-02/n=1/symlink.txt": f"{DAYS[2].pointer.url}\ns3://b/runs/earlier/x.parquet\n",
    }
    with pytest.raises(ConfigurationError, match=r"lie in 2 folders.*Use --symlink"):
        athena_table(_manifest(*DAYS, moved), SCHEMA, "t", None)
    together = dataclasses.replace(DAYS[0], pointer=dataclasses.replace(DAYS[0].pointer, key=DAYS[2].pointer.key))
    with pytest.raises(ConfigurationError, match=r"several partitions.*Use --symlink"):
        athena_table(_manifest(together, DAYS[2]), SCHEMA, "t", None)


def test_a_dataset_without_partitions_is_one_folder() -> None:
    """Its location is the table's, and there is no statement for partitions."""
    (statement,) = athena_table(_manifest(_file("part-00000.parquet", {}), columns=()), SCHEMA, "t", None).statements
    assert "LOCATION 's3://b/runs/ds/'" in statement
    assert "PARTITIONED" not in statement
    assert "`n` int\n)" in statement


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (pa.bool_(), "boolean"),
        (pa.int8(), "tinyint"),
        (pa.uint16(), "int"),
        (pa.float32(), "float"),
        (pa.large_string(), "string"),
        (pa.binary(), "binary"),
        (pa.timestamp("us", "Europe/Berlin"), "timestamp"),
        (pa.decimal128(38, 10), "decimal(38,10)"),
        (pa.list_(pa.struct([("a", pa.int32()), ("b", pa.list_(pa.date32()))])), "array<struct<a:int,b:array<date>>>"),
        (pa.map_(pa.string(), pa.float64()), "map<string,double>"),
    ],
)
def test_types(kind: Any, expected: str) -> None:
    """Arrow's types become Athena's, nested ones as well."""
    assert athena_type(kind, "x") == expected


@pytest.mark.parametrize(
    "kind",
    [
        pa.uint64(),
        pa.uint32(),
        pa.float16(),
        pa.time64("us"),
        pa.duration("s"),
        pa.null(),
        pa.binary(16),
        pa.decimal256(76, 1),
        pa.struct([]),
        pa.struct([("a:int,b", pa.int8())]),
        pa.struct([("A", pa.int8()), ("a", pa.int8())]),
        pa.map_(pa.string(), pa.struct([("a" * 256, pa.int8())])),
        pa.list_(pa.uint64()),
        pa.dictionary(pa.int8(), pa.string()),
    ],
    ids=str,
)
def test_types_that_athena_cannot_hold_are_told(kind: Any) -> None:
    """The message names the column."""
    with pytest.raises(ConfigurationError, match=r"column 'x'.*Nothing was made"):
        athena_type(kind, "x")


def test_no_name_and_no_value_leaves_its_quotes() -> None:
    """Quotes and backslashes are escaped in texts; names with a backtick, and control characters, are refused."""
    value = "it's \\ '; DROP TABLE x; --"
    file = _file("t=x/part-00000.parquet", {"t": value})
    schema = pa.schema([("id", pa.int64()), ("t", pa.string())])
    _, added = athena_table(_manifest(file, columns=("t",)), schema, "t", "s3://b/l'x/").statements
    assert r"(`t` = 'it\'s \\ \'; DROP TABLE x; --') LOCATION 's3://b/l\'x/t=x/'" in added
    wrongs: list[tuple[DatasetManifest, Any, str]] = [
        (_manifest(file, columns=("t",)), pa.schema([("a` int) --", pa.int8()), ("t", pa.string())]), "t"),
        (_manifest(file, columns=("t",)), pa.schema([("a\nb", pa.int8()), ("t", pa.string())]), "t"),
        (_manifest(file, columns=("t",)), pa.schema([("A", pa.int8()), ("a", pa.int8()), ("t", pa.string())]), "t"),
        (_manifest(file, columns=("t",)), schema, "t; DROP TABLE x"),
        (_manifest(file, columns=("t",)), schema, "a.b.c"),
        (_manifest(file, columns=("t",)), schema, "a" * 256),
        (
            _manifest(file, columns=("t",)),
            pa.schema([("\N{GREEK SMALL LETTER ALPHA}" * 128, pa.int8()), ("t", pa.string())]),
            "t",
        ),
        (_manifest(_file("t=x/p", {"t": "a\nb"}), columns=("t",)), schema, "t"),
        (_manifest(_file("t=x/p", {"t": None}), columns=("t",)), schema, "t"),
        (_manifest(file, columns=("t",)), pa.schema([("id", pa.int8()), ("t", pa.timestamp("s"))]), "t"),
        (_manifest(columns=("t",)), schema, "t"),
    ]
    for manifest, wrong, table in wrongs:
        with pytest.raises(ConfigurationError):
            athena_table(manifest, wrong, table, None)
    with pytest.raises(ConfigurationError, match="line end"):
        athena_table(_manifest(_file("p", {}, "runs/a\nb"), columns=()), schema, "t", "s3://b/l/")


def test_many_partitions_are_several_statements() -> None:
    """Each stays below what Athena takes of one statement."""
    files = [_file(f"day={n}/p.parquet", {"day": f"{n:0200}"}) for n in range(1500)]
    schema = pa.schema([("id", pa.int64()), ("day", pa.string())])
    _, *added = athena_table(_manifest(*files, columns=("day",)), schema, "t", None).statements
    assert len(added) > 1
    assert max(len(statement.encode()) for statement in added) <= 262_144
    assert sum(statement.count("PARTITION (") for statement in added) == 1500


def test_the_command(
    run: Callable[..., tuple[int, str, str]], bucket: str, local_aws: LocalAws, tmp_path: Path
) -> None:
    """It prints statements and what Athena does not do, writes lists where it is told, and refuses other artifacts."""
    manager = ArtifactManager(bucket, "runs", client=local_aws.client("s3"), profile="compatible")
    table = pa.table({"id": [1, 2, 3], "day": ["a", "b", "b"]})
    artifacts = {
        "days": manager.put_dataset("days", table, partition_by=["day"]).to_dict(),
        "notes": manager.put_text("notes", "text").to_dict(),
    }
    (tmp_path / "output.json").write_text(json.dumps({"stepout": "output/1", "artifacts": artifacts}))
    code, out, err = run("athena-ddl", "output.json", "days", "--table", "db.days")
    assert (code, out.count("PARTITION (")) == (0, 2)
    assert "CREATE EXTERNAL TABLE `db`.`days` (" in out
    assert "-- Athena verifies nothing" in out
    assert "Athena verifies nothing" in err
    code, out, _ = run("athena-ddl", "output.json", "days", "--symlink", f"s3://{bucket}/l/", "--lists", "lists")
    assert (code, "SymlinkTextInputFormat" in out) == (0, True)
    assert (tmp_path / "lists" / "day=b" / "symlink.txt").read_text().startswith(f"s3://{bucket}/runs/")
    for words, told in (
        (("output.json",), "which dataset"),
        (("output.json", "notes"), "put_dataset writes one"),
        (("output.json", "days", "--symlink", "s3://x/"), "go together"),
        (("output.json", "days", "--symlink", "x", "--lists", "l"), "expected s3://"),
        (("output.json", "days", "--table", "a b"), "DATABASE.TABLE"),
    ):
        code, out, err = run("athena-ddl", *words)
        assert (code, out) == (2, ""), err
        assert told in err
