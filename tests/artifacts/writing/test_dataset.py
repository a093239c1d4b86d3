"""Datasets: Hive partitions in bounded memory, one manifest that is there once every file is, and merging."""

from __future__ import annotations

import datetime as dt
import decimal
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import support.dataset_memory
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.profile import THOROUGH

from stepout.artifacts import ArtifactManager, MemoryStore, TransferSettings
from stepout.artifacts.dataset_manifest import partition_segment
from stepout.artifacts.resolve import resolve_artifact
from stepout.schemas.errors import (
    ArtifactExistsError,
    ConfigurationError,
    InvalidDocumentError,
    NotAllowedError,
    StoreUnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stepout.artifacts.reading.artifact import Artifact
    from stepout.schemas import Pointer

ALLOW = ["s3://results/runs/"]
DAYS = [dt.date(2026, 1, 1) + dt.timedelta(days=number) for number in range(3)]


@pytest.fixture
def store() -> MemoryStore:
    """An empty bucket."""
    return MemoryStore("results")


@pytest.fixture
def manager(store: MemoryStore) -> ArtifactManager:
    """A manager."""
    return ArtifactManager(store, "runs")


def resolved(pointer: Pointer, store: MemoryStore, **options: Any) -> Artifact:
    """Return the artifact of a pointer that was put."""
    return resolve_artifact(pointer.to_dict(), allow=ALLOW, client=store, **options)


def manifests(store: MemoryStore) -> list[str]:
    """Return the keys of all manifests in a bucket."""
    return sorted(key for key in store.objects if key.endswith(".json"))


def rows_of(artifact: Artifact) -> pa.Table:
    """Read every file, put its partition's values back, and return all rows, in the manifest's order."""
    manifest = artifact.manifest()
    schema = pa.ipc.read_schema(pa.py_buffer(manifest.schema))
    files = artifact.files()
    tables = [schema.empty_table()]
    for file in manifest.files:
        table = files[file.path].read_table()
        assert table.num_rows == file.rows
        assert table.schema.names == [name for name in schema.names if name not in manifest.columns]
        for name in manifest.columns:
            text = pa.array([file.partition[name]] * file.rows, pa.string())
            table = table.append_column(schema.field(name), text.cast(schema.field(name).type))
        tables.append(table.cast(schema))
    return pa.concat_tables(tables)


def days(count: int = 300, first: int = 0) -> pa.Table:
    """Return rows of three days, interleaved."""
    numbers = range(first, first + count)
    return pa.table({"id": list(numbers), "day": [DAYS[number % 3] for number in numbers]})


def test_a_dataset_is_files_and_a_manifest(manager: ArtifactManager, store: MemoryStore) -> None:
    """Keys end in Hive's paths; the pointer says how much there is, and each file's what a table's pointer says."""
    pointer = manager.put_dataset("d", days(), partition_by=["day"], annotations={"source": "x"})
    manifest = resolved(pointer, store).manifest()
    paths = [f"day={day}/part-00000.parquet" for day in DAYS]
    assert [file.path for file in manifest.files] == paths
    assert [file.pointer.key for file in manifest.files] == [f"{pointer.key[:-5]}/{path}" for path in paths]
    assert store.keys() == sorted([pointer.key, *(file.pointer.key for file in manifest.files)])
    assert pointer.media_type == "application/vnd.stepout.dataset+json"
    assert pointer.annotations == {
        "source": "x",
        "rows": 300,
        "files": 3,
        "bytes": sum(file.pointer.size for file in manifest.files),
        "partitioning": {"flavor": "hive", "columns": ["day"]},
    }
    first = manifest.files[0]
    assert (first.rows, first.partition, first.statistics) == (
        100,
        {"day": "2026-01-01"},
        {"id": {"min": 0, "max": 297}},
    )
    alone = ArtifactManager(store, "runs").put_table("t", days().slice(0, 3).select(["id"]))
    assert first.pointer.annotations is not None
    assert first.pointer.annotations.keys() == (alone.annotations or {}).keys()
    assert first.pointer.media_type == alone.media_type
    assert list(manager.pointers) == ["d"]


COLUMNS: dict[str, pa.Array] = {
    "boolean": pa.array([True, False, None, True]),
    "small": pa.array([1, 2, None, 255], pa.uint8()),
    "text": pa.array(["a/b", "x=y 50%", None, "\N{GRINNING FACE}é'~.+"]),
    "large": pa.array(["a", "b", "a", "b"], pa.large_string()),
    "date": pa.array([DAYS[0], DAYS[1], None, DAYS[0]]),
    "time": pa.array([1_767_232_984_000_005] * 3 + [None], pa.timestamp("us")),
    "utc": pa.array([1_767_232_800_000_000_000] * 4, pa.timestamp("ns", "UTC")),
    "zone": pa.array(
        [1_792_888_200_000_000, 1_792_891_800_000_000] * 2, pa.timestamp("us", "Europe/Berlin")
    ),  # 2:30 twice
    "category": pa.array(["b", "a", None, "b"]).dictionary_encode(),
}


@pytest.mark.parametrize("columns", [*([name] for name in COLUMNS), ["date", "category"], ["text", "small", "boolean"]])
def test_engines_read_what_pyarrow_itself_would_have_written(
    manager: ArtifactManager, store: MemoryStore, tmp_path: Path, columns: list[str]
) -> None:
    """A dataset that was downloaded equals pyarrow's own, folder by folder, and read with its partitioning."""
    table = pa.table(
        {"id": [1, 2, 3, 4], "nested": [[1], [], None, [2, 3]], **{name: COLUMNS[name] for name in columns}}
    )
    artifact = resolved(manager.put_dataset("d", table, partition_by=columns), store)
    plain = table
    if "category" in columns:  # in paths there are only values
        place = table.schema.get_field_index("category")
        plain = table.set_column(place, "category", table["category"].cast(pa.string()))
    part = ds.partitioning(pa.schema([plain.schema.field(name) for name in columns]), flavor="hive")
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    artifact.download(ours)
    ds.write_dataset(plain, theirs, format="parquet", partitioning=part)
    found = [ds.dataset(folder, partitioning=part).to_table().sort_by("id") for folder in (ours, theirs)]
    assert found[0].equals(found[1])
    assert found[0].equals(plain)
    assert rows_of(artifact).sort_by("id").equals(plain)
    if "zone" not in columns and "utc" not in columns:  # pyarrow's text in paths is in UTC, Arrow's own cast is not
        assert {file.parent.relative_to(ours) for file in ours.rglob("*.parquet")} == {
            file.parent.relative_to(theirs) for file in theirs.rglob("*.parquet")
        }


def test_decimals_are_partitions(manager: ArtifactManager, store: MemoryStore) -> None:
    """Arrow's own Hive reader does not know them; the manifest's values do."""
    table = pa.table({"id": [1, 2], "p": pa.array([decimal.Decimal("1.50"), None], pa.decimal128(5, 2))})
    artifact = resolved(manager.put_dataset("d", table, partition_by=["p"]), store)
    assert [file.partition["p"] for file in artifact.manifest().files] == ["1.50", None]
    assert rows_of(artifact).equals(table)


TEXTS = st.one_of(
    st.none(), st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=8)
)


@st.composite
def tables(draw: st.DrawFn) -> tuple[pa.Table, list[str]]:
    """Draw a table of some batches, and the columns to partition it by."""
    count = draw(st.integers(0, 60))
    words = draw(st.lists(TEXTS, min_size=1, max_size=5))
    column = st.lists(st.sampled_from(words), min_size=count, max_size=count)
    numbers = draw(st.lists(st.one_of(st.none(), st.integers(-3, 3)), min_size=count, max_size=count))
    table = pa.table(
        {
            "id": pa.array(range(count), pa.int64()),
            "word": pa.array(draw(column), pa.string()),
            "number": pa.array(numbers, pa.int8()),
            "kind": pa.array(draw(column), pa.string()).dictionary_encode(),
        }
    )
    columns = draw(st.lists(st.sampled_from(["word", "number", "kind"]), unique=True))
    size = draw(st.integers(1, 60))
    return pa.Table.from_batches(table.to_batches(max_chunksize=size), table.schema), columns


@settings(suppress_health_check=list(HealthCheck))
@given(tables(), st.one_of(st.none(), st.integers(1, 7)), st.sampled_from([1, 400, 1 << 20]), st.integers(1, 3))
def test_every_row_is_in_one_file_of_its_partition(
    drawn: tuple[pa.Table, list[str]], most: int | None, waiting: int, open_files: int
) -> None:
    """The union of all files is the table, each file's rows have its values, and no file has more rows than it may."""
    table, columns = drawn
    store = MemoryStore("results")
    pointer = ArtifactManager(store, "runs").put_dataset(
        "d",
        table,
        partition_by=columns,
        max_rows_per_file=most,
        row_group_bytes=waiting,
        max_open_files=open_files,
    )
    artifact = resolved(pointer, store)
    manifest, read = artifact.manifest(), rows_of(artifact)
    held = [name for name in table.schema.names if name not in columns]
    plain = table.set_column(3, "kind", table["kind"].cast(pa.string())) if "kind" in columns else table
    assert read.sort_by("id").equals(plain.select([*held, *columns]).combine_chunks().cast(read.schema))
    assert (pointer.annotations or {})["rows"] == manifest.rows == table.num_rows
    assert all(1 <= file.rows <= (most or table.num_rows) for file in manifest.files)
    assert len({file.path for file in manifest.files}) == len(manifest.files)
    for file in manifest.files:
        assert file.path.split("/")[:-1] == [partition_segment(name, file.partition[name]) for name in columns]
        ids = artifact.files()[file.path].read_table()["id"] if most is None and len(manifest.files) < 9 else None
        assert ids is None or ids.to_pylist() == sorted(ids.to_pylist())


def test_more_partitions_than_open_files(manager: ArtifactManager, store: MemoryStore) -> None:
    """The least recently used file ends, and later rows of its partition are in the next one."""
    table = pa.table({"id": range(3000), "p": [f"p{number % 20}" for number in range(3000)]})
    pointer = manager.put_dataset("d", table, partition_by=["p"], max_open_files=2, row_group_bytes=4000)
    manifest = resolved(pointer, store).manifest()
    assert len(manifest.files) > 20
    assert {file.path.rpartition("/")[2] for file in manifest.files} >= {"part-00000.parquet", "part-00001.parquet"}
    assert rows_of(resolved(pointer, store)).sort_by("id").equals(table)


def test_as_many_files_are_open_as_memory_carries(store: MemoryStore) -> None:
    """9 of the usual 64 MiB; more have to be asked for together with memory."""
    with pytest.raises(ConfigurationError, match=r"carries 9; settings=TransferSettings\(memory=([0-9_]+)\)") as caught:
        ArtifactManager(store).put_dataset("d", days(), partition_by=["day"], max_open_files=12)
    memory = int(str(caught.value).partition("memory=")[2].partition(")")[0].replace("_", ""))
    wide = ArtifactManager(store, "runs", settings=TransferSettings(memory=memory))
    assert wide.put_dataset("d", days(), partition_by=["day"], max_open_files=12).size
    narrow = ArtifactManager(store, "runs", settings=TransferSettings(memory=16 << 20))
    pointer = narrow.put_dataset("d", days(), partition_by=["day"])
    assert rows_of(resolved(pointer, store)).num_rows == 300


def test_all_that_put_table_takes(manager: ArtifactManager, store: MemoryStore) -> None:
    """Frames, readers, iterators of batches: a one-shot source is read as a stream, and closed."""
    batches = iter(days().to_batches(max_chunksize=7))
    reader = pa.RecordBatchReader.from_batches(days().schema, batches)
    for number, data in enumerate((days().to_pandas(), reader, iter(days().to_batches(max_chunksize=7)))):
        artifact = resolved(manager.put_dataset(f"d{number}", data, partition_by=["day"]), store)
        assert rows_of(artifact).sort_by("id").num_rows == 300
        assert {file.rows for file in artifact.manifest().files} == {100}


def test_an_empty_dataset_has_a_schema_and_no_files(manager: ArtifactManager, store: MemoryStore) -> None:
    """No rows are no error: the manifest says what the columns would be."""
    data = days().slice(0, 0)
    pointer = manager.put_dataset("d", data, partition_by=["day"])
    artifact = resolved(pointer, store)
    assert (artifact.manifest().files, artifact.manifest().rows, artifact.files()) == ((), 0, {})
    assert rows_of(artifact).equals(data)
    assert store.keys() == [pointer.key]


def test_a_dataset_without_partitions(manager: ArtifactManager, store: MemoryStore) -> None:
    """Files of so many rows each, in the order of the rows."""
    artifact = resolved(manager.put_dataset("d", days(), max_rows_per_file=120), store)
    assert [(file.path, file.rows) for file in artifact.manifest().files] == [
        ("part-00000.parquet", 120),
        ("part-00001.parquet", 120),
        ("part-00002.parquet", 60),
    ]
    assert rows_of(artifact).equals(days())


def test_what_files_hold_has_page_checksums_and_blocks(manager: ArtifactManager, store: MemoryStore) -> None:
    """As a table's file: the footer's digest is in the pointer, and the list of blocks in a large file's footer."""
    table = pa.table({"id": pc.cast(pa.array(range(100_000)), pa.int64()), "p": ["a"] * 100_000})
    file = resolved(manager.put_dataset("d", table, partition_by=["p"]), store).manifest().files[0]
    own = (file.pointer.annotations or {})["parquet"]
    assert (own["pageChecksums"], own["rows"], own["columns"]) == (True, 100_000, 1)
    assert file.pointer.size > 256 << 10
    assert (file.pointer.blocks or {})["place"] == "footer"
    assert pq.read_metadata(pa.BufferReader(store.read(file.pointer.key))).metadata is not None


BAD_COLUMNS: list[tuple[Any, str]] = [
    (["nope"], "there is no such column"),
    (["day", "day"], "named 2 times"),
    ("day", "expected a list"),
    ([5], "expected a list"),
    (["score"], "fractions"),
    (["nested"], "cast it to text"),
    (["bytes"], "cast it to text"),
    (["clock"], "cast it to text"),
    (["small"], "cast it to text"),
    (["a=b"], "other characters"),
    (["_hidden"], "does not begin with a letter"),
    (["day", "score", "nested", "bytes", "clock", "small", "a=b", "_hidden"], "cannot be partitioned|all columns"),
]


@pytest.mark.parametrize(("columns", "message"), BAD_COLUMNS)
def test_columns_that_cannot_be_partitions(
    manager: ArtifactManager, store: MemoryStore, columns: Any, message: str
) -> None:
    """Each is refused with its reason before anything is sent."""
    values: dict[str, Any] = {
        "score": [0.5],
        "nested": [[1]],
        "bytes": [b"x"],
        "clock": [dt.time(1)],
        "a=b": ["x"],
        "_hidden": ["x"],
    }
    values["small"] = pa.array([decimal.Decimal(1)], pa.decimal32(5, 2))
    with pytest.raises(ConfigurationError, match=message) as caught:
        manager.put_dataset("d", pa.table({"day": [DAYS[0]], **values}), partition_by=columns)
    assert "Nothing was sent" in str(caught.value)
    assert (store.keys(), manager.unfinished) == ([], [])
    with pytest.raises(ConfigurationError, match="all columns"):
        manager.put_dataset("d", days().select(["day"]), partition_by=["day"])


BAD_VALUES = ["", "a\0b", "x" * 1000, "\N{GRINNING FACE}" * 25, "__HIVE_DEFAULT_PARTITION__"]


@pytest.mark.parametrize("value", BAD_VALUES)
def test_values_that_cannot_be_folders(manager: ArtifactManager, store: MemoryStore, value: str) -> None:
    """Refused with their reason and without the value, before a row of that partition is sent."""
    table = pa.table({"id": [1, 2], "p": ["fine", value]})
    with pytest.raises(ConfigurationError, match=r"'p' cannot be the name of a folder") as caught:
        manager.put_dataset("d", table, partition_by=["p"])
    assert not value or value not in str(caught.value)
    assert (store.keys(), store.open_uploads, manager.pointers) == ([], [], {})


def test_a_null_below_a_long_name(manager: ArtifactManager) -> None:
    """What stands for null is counted, too: no manifest names a folder that readers refuse."""
    name = "p" * 235
    with pytest.raises(ConfigurationError, match="cannot be the name of a folder"):
        manager.put_dataset("d", pa.table({"id": [1], name: pa.array([None], pa.string())}), partition_by=[name])
    manager.put_dataset("d", pa.table({"id": [1], name: ["x"]}), partition_by=[name])


def _numbers(values: list[int], storage: pa.DataType, kind: pa.DataType) -> pa.Array:
    return pa.array(values, storage).view(kind)


# Arrow has no text of years beyond these four digits that it reads, and no seconds in the offset of a zone.
UNTOLD_VALUES = {
    "a year of five digits": _numbers([0, 2932897], pa.int32(), pa.date32()),
    "a year before 0": _numbers([-800000], pa.int32(), pa.date32()),
    "a far moment": _numbers([2**40], pa.int64(), pa.timestamp("s")),
    "the farthest": _numbers([-(2**63)], pa.int64(), pa.timestamp("us", "UTC")),
    "an offset with seconds": _numbers([0, -2840000000], pa.int64(), pa.timestamp("s", "Europe/Amsterdam")),
    "an unknown zone": _numbers([0], pa.int64(), pa.timestamp("us", "Mars/Base")),
    "no UTF-8": pa.array([b"\xff"]).view(pa.string()),
    "within a dictionary": _numbers([2932897], pa.int32(), pa.date32()).dictionary_encode(),
}


@pytest.mark.parametrize("values", UNTOLD_VALUES.values(), ids=UNTOLD_VALUES)
def test_values_whose_text_is_another_value(manager: ArtifactManager, store: MemoryStore, values: pa.Array) -> None:
    """Refused before a row is sent: a manifest would name another value, or one that nobody can read."""
    table = pa.table({"id": range(len(values)), "p": values})
    with pytest.raises(ConfigurationError, match=r"'p'.* has no text that Arrow reads back"):
        manager.put_dataset("d", table, partition_by=["p"])
    assert store.keys() == []


def test_a_key_that_is_too_long(store: MemoryStore) -> None:
    """S3 takes 1,024 bytes: long values of several columns are refused before a row of them is sent."""
    names = [f"p{number}" for number in range(5)]
    table = pa.table({"id": [1], **{name: ["x" * 240] for name in names}})
    with pytest.raises(ConfigurationError, match="S3 takes 1,024"):
        ArtifactManager(store).put_dataset("d", table, partition_by=names)
    assert store.keys() == []


def test_too_many_partitions(manager: ArtifactManager, store: MemoryStore) -> None:
    """One file for each row is a mistake, and is told before anything is sent."""
    with pytest.raises(ConfigurationError, match="partition by something coarser"):
        manager.put_dataset("d", pa.table({"x": [1] * 10_001, "p": range(10_001)}), partition_by=["p"])
    assert store.keys() == []


@pytest.mark.parametrize("name", ["max_rows_per_file", "max_open_files", "row_group_bytes"])
def test_settings_that_are_no_whole_numbers(manager: ArtifactManager, name: str) -> None:
    """0, fractions and booleans are refused."""
    for value in (0, -1, 1.5, True, "5"):
        wrong: Any = {name: value}
        with pytest.raises(ConfigurationError, match=name):
            manager.put_dataset("d", days(), partition_by=["day"], **wrong)
    with pytest.raises(ConfigurationError, match="compression"):
        manager.put_dataset("d", days(), partition_by=["day"], compression="zip")
    with pytest.raises(ConfigurationError, match="media_type"):
        manager.put_dataset("d", days(), partition_by=["day"], media_type="application/json")
    assert manager.put_dataset("d", days(), partition_by=["day"]).size


# What ends early ---------------------------------------------------------------------------------------------------


def wide(rows: int) -> pa.Table:
    """Return rows of a kilobyte that does not compress."""
    random = np.random.default_rng(1)
    data = pa.array([random.bytes(1 << 10) for _ in range(rows)])
    return pa.table({"data": data, "p": [number % 3 for number in range(rows)]})


def failing(table: pa.Table) -> Iterator[pa.RecordBatch]:
    """Yield a table's batches, then fail."""
    yield from table.to_batches()
    raise RuntimeError("the source broke")


def test_a_source_that_fails_leaves_no_manifest_and_no_upload(manager: ArtifactManager, store: MemoryStore) -> None:
    """Uploads in parts are aborted, the name is free again, and files of before are named by nothing."""
    with pytest.raises(RuntimeError, match="the source broke"):
        manager.put_dataset("d", failing(wide(24_000)), partition_by=["p"], row_group_bytes=1 << 20, compression="none")
    assert (store.open_uploads, manager.pointers, manager.unfinished) == ([], {}, [])
    assert manifests(store) == []
    assert manager.put_dataset("d", days(), partition_by=["day"]).size


def test_an_abort_ends_every_open_file(manager: ArtifactManager, store: MemoryStore) -> None:
    """As SIGTERM does in a task: no manifest, no multipart upload, and an error for whoever writes."""
    uploads: list[list[str]] = []

    def source() -> Iterator[pa.RecordBatch]:
        yield from wide(24_000).to_batches()
        stop = time.monotonic() + 60  # senders begin the uploads, in threads of their own
        while len(store.open_uploads) < 3 and time.monotonic() < stop:
            time.sleep(0.01)
        uploads.append(store.open_uploads)
        manager.abort()
        yield from wide(3000).to_batches()

    with pytest.raises(Exception, match="abort"):
        manager.put_dataset("d", source(), partition_by=["p"], row_group_bytes=1 << 20, compression="none")
    assert len(uploads[0]) == 3
    assert store.open_uploads == []
    assert manifests(store) == []


class Refusing(MemoryStore):
    """Refuses every file of one partition."""

    def put(self, key: str, *rest: Any, **options: Any) -> Any:
        """Refuse, or store."""
        if "p=1" in key:
            raise StoreUnavailableError("refused")
        return super().put(key, *rest, **options)


@pytest.mark.usefixtures("impatient")
def test_a_file_that_the_store_refuses_fails_the_dataset() -> None:
    """Its error is the put's; files that were committed beside it are named by nothing."""
    store = Refusing("results")
    manager = ArtifactManager(store, "runs")
    with pytest.raises(StoreUnavailableError):
        manager.put_dataset(
            "d", pa.table({"id": range(99), "p": [number % 9 for number in range(99)]}), partition_by=["p"]
        )
    assert manifests(store) == []
    assert (manager.pointers, manager.unfinished) == ({}, [])


class RefusingTwo(MemoryStore):
    """Refuses two objects, once both are there: the writer has gone on to a third by then."""

    both = threading.Barrier(2)

    def put(self, key: str, *rest: Any, **options: Any) -> Any:
        """Wait for the other one, and refuse."""
        del key, rest, options
        self.both.wait(60)
        raise StoreUnavailableError("refused")


@pytest.mark.usefixtures("impatient")
def test_a_failed_commit_ends_a_writer_that_waits_for_memory() -> None:
    """Files whose commit failed keep their buffers: who waits for them gets the error, and does not wait forever."""
    manager = ArtifactManager(RefusingTwo("results"), "runs", settings=TransferSettings(memory=16 << 20))
    random = np.random.default_rng(1)
    data = pa.array([random.bytes(1 << 10) for _ in range(3 * 5000)])
    table = pa.table({"data": data, "p": [number // 5000 for number in range(3 * 5000)]})
    with pytest.raises(StoreUnavailableError, match="refused"):
        manager.put_dataset("d", table, partition_by=["p"], row_group_bytes=1 << 20, compression="none")


# Several processes, appending --------------------------------------------------------------------------------------


def test_appending_names_the_old_files(manager: ArtifactManager, store: MemoryStore) -> None:
    """The new artifact has all rows, the old one its own; no byte was copied."""
    old = resolved(manager.put_dataset("d", days(), partition_by=["day"]), store)
    before = store.keys()
    later = ArtifactManager(store, "runs")
    pointer = later.put_dataset("d", days(30, first=300), partition_by=["day"], append_to=old)
    new = resolved(pointer, store)
    assert rows_of(new).sort_by("id").equals(pa.concat_tables([days(), days(30, first=300)]).combine_chunks())
    assert rows_of(old).num_rows == 300
    assert len(store.keys()) == len(before) + 4
    assert [file.path for file in new.manifest().files[:3]] == [file.path for file in old.manifest().files]
    assert [file.path for file in new.manifest().files[3:]] == [f"day={day}/part-00000-1.parquet" for day in DAYS]
    assert (pointer.annotations or {})["rows"] == 330
    kept = later.put_dataset("same", days().slice(0, 0), partition_by=["day"], append_to=new)
    assert resolved(kept, store).manifest() == new.manifest()


def test_merging_names_the_files_of_all_parts(store: MemoryStore, tmp_path: Path) -> None:
    """Paths that collide are told apart in order, keys stay, and the result is read, verified and downloaded."""
    parts = [
        resolved(
            ArtifactManager(store, "runs").put_dataset("d", days(30, first=30 * number), partition_by=["day"]), store
        )
        for number in range(3)
    ]
    before = store.keys()
    pointer = ArtifactManager(store, "runs").merge_datasets("all", parts, expires_at="2030-01-01T00:00:00Z")
    merged = resolved(pointer, store)
    assert len(store.keys()) == len(before) + 1
    names = ["part-00000.parquet", "part-00000-1.parquet", "part-00000-2.parquet"]
    assert [file.path for file in merged.manifest().files] == [f"day={day}/{name}" for name in names for day in DAYS]
    assert rows_of(merged).sort_by("id").equals(days(90))
    merged.verify()
    merged.download(tmp_path / "all")
    assert ds.dataset(tmp_path / "all", partitioning="hive").count_rows() == 90
    again = ArtifactManager(store, "runs").merge_datasets("all", parts)
    assert resolved(again, store).manifest() == merged.manifest()


def test_parts_that_do_not_go_together(manager: ArtifactManager, store: MemoryStore) -> None:
    """The error says which part differs and how; one file in two parts would count twice."""
    first = resolved(manager.put_dataset("a", days(), partition_by=["day"]), store)
    typed = days().set_column(0, "id", days()["id"].cast(pa.int32()))
    others = {
        "dataset 1 does not go .* partitioned by nothing instead of day": manager.put_dataset("b", days()),
        "dataset 1 .* column 'id' is int32 instead of int64": manager.put_dataset("c", typed, partition_by=["day"]),
        "dataset 1 .* only one of the two has 'more'": manager.put_dataset(
            "e", days().append_column("more", days()["id"]), partition_by=["day"]
        ),
        "datasets 0 and 1 both have the file": first.pointer,
    }
    before = store.keys()
    for message, pointer in others.items():
        with pytest.raises(ConfigurationError, match=message):
            manager.merge_datasets("all", [first, resolved(pointer, store)])
    with pytest.raises(ConfigurationError, match="no datasets"):
        manager.merge_datasets("all", [])
    with pytest.raises(ConfigurationError, match="part 1 is a Pointer"):
        manager.merge_datasets("all", [first, first.pointer])  # type: ignore[list-item]  # what users try
    with pytest.raises(ConfigurationError, match="column 'id'"):
        manager.put_dataset("all", typed, partition_by=["day"], append_to=first)
    with pytest.raises(InvalidDocumentError, match="no dataset"):
        manager.merge_datasets("all", [first, resolved(manager.put_text("text", "x"), store)])
    assert sorted(set(store.keys()) - set(before)) == [manager.pointers["text"].key]
    with pytest.raises(ArtifactExistsError):
        manager.merge_datasets("a", [first])


def test_readers_ask_the_allow_list_for_every_file(store: MemoryStore) -> None:
    """A merged manifest may name files elsewhere; what may not be read is refused, whatever the manifest says."""
    part = resolved(ArtifactManager(store, "runs/one").put_dataset("d", days(), partition_by=["day"]), store)
    pointer = ArtifactManager(store, "runs/all").merge_datasets("all", [part])
    narrow = resolve_artifact(pointer.to_dict(), allow=["s3://results/runs/all/"], client=store)
    for read in (narrow.manifest, narrow.files, narrow.verify):
        with pytest.raises(NotAllowedError):
            read()


# Memory ------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="getrusage is not there")
def test_two_hundred_partitions_take_the_memory_of_a_table() -> None:
    """They pass, interleaved, with far less above the idle process, whatever the number of partitions."""
    size, most = (600_000_000, 384 << 20) if THOROUGH else (300_000_000, 240 << 20)
    program = Path(support.dataset_memory.__file__)
    command = [sys.executable, str(program), str(size), "200"]
    environment = {**os.environ, "PYTHONPATH": str(program.parents[1])}
    run = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    measured = json.loads(run.stdout)
    assert measured["parquet"] > size // 2
    assert measured["files"] >= 200
    assert measured["above"] < most
