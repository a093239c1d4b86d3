"""Lazy datasets: what is fetched and when, partition values and types, and what is refused. No engine but pyarrow."""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import decimal
import io
import json
import random
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import settings
from support.shelf import ALLOW, BreakingStore, Shelf

import stepout
from stepout import (
    ArtifactChangedError,
    ArtifactManager,
    ArtifactNotFoundError,
    ChecksumMismatchError,
    ConfigurationError,
    InvalidDocumentError,
    Pointer,
    UndecodableError,
    resolve_artifact,
)
from stepout.artifacts.blocks import FOOTER_KEY
from stepout.artifacts.media_types import DATASET, DIRECTORY_1, PARQUET
from stepout.artifacts.reading.ranges import blocks as blocks_module
from stepout.artifacts.reading.ranges.block_cache import BlockCache
from stepout.artifacts.reading.tables import dataset as lazy
from stepout.schemas.runtime.process import PerProcess

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from stepout.artifacts.reading.artifact import Artifact

ROWS = 3_000
DAYS = [dt.date(2026, 1, 1), dt.date(2026, 1, 2), None]


def _table() -> pa.Table:
    numbers = range(ROWS)
    return pa.table(
        {
            "id": pa.array(numbers, pa.int64()),
            "score": pa.array([None if n % 7 == 0 else n / 2 for n in numbers]),
            "day": pa.array([DAYS[n % 3] for n in numbers], pa.date32()),
            "place": pa.array([("a/b", "c=d", "é 🎈")[n % 5 % 3] for n in numbers]),
        }
    )


@pytest.fixture
def store() -> BreakingStore:
    """A bucket in memory that counts what is asked of it."""
    return BreakingStore(Shelf().store, ())


@pytest.fixture
def written(store: BreakingStore) -> Artifact:
    """A dataset by day and place, and nothing asked for yet."""
    manager = ArtifactManager("results", "runs", client=store)
    pointer = manager.put_dataset("days", _table(), partition_by=["day", "place"])
    store.requests.clear()
    return resolve_artifact(pointer, allow=ALLOW, client=store)


def test_nothing_but_the_manifest_is_fetched_at_the_call(written: Artifact, store: BreakingStore) -> None:
    """Schema, files and partitions are known then."""
    dataset = written.dataset()
    assert len(store.requests) == 1
    assert dataset.schema == _table().schema
    assert len(dataset.files) == 9
    assert len(store.requests) == 1


def test_a_filter_on_the_partition_column_asks_for_no_other_file(written: Artifact, store: BreakingStore) -> None:
    """One file is read for one partition, null and odd texts included; counting needs footers."""
    dataset, table = written.dataset(), _table()
    for day in DAYS:
        for place in ("a/b", "c=d", "é 🎈"):
            store.requests.clear()
            on = pc.field("day").is_null() if day is None else pc.field("day") == day
            wanted = on & (pc.field("place") == place)
            assert dataset.to_table(filter=wanted).sort_by("id").equals(table.filter(wanted))
            assert len(store.requests) == 1
    store.requests.clear()
    assert dataset.count_rows(filter=pc.field("day") == dt.date(1999, 1, 1)) == 0
    assert store.requests == []


def test_a_scan_equals_the_table(written: Artifact) -> None:
    """Rows, types and nulls, whole and in columns of any order."""
    dataset, table = written.dataset(), _table()
    assert dataset.to_table().sort_by("id").equals(table)
    assert dataset.to_table(["place", "id"]).sort_by("id").equals(table.select(["place", "id"]))
    assert dataset.count_rows() == ROWS
    assert dataset.to_table(["day"]).num_rows == ROWS


@pytest.mark.parametrize(
    "values",
    [
        pa.array([True, False, None]),
        pa.array([-128, 127, None], pa.int8()),
        pa.array([2**64 - 1, 0, None], pa.uint64()),
        pa.array([decimal.Decimal("1.50"), decimal.Decimal("-0.01"), None], pa.decimal128(9, 2)),
        pa.array(["", "x", None][1:], pa.large_string()),
        pa.array([dt.date(1, 1, 1), dt.date(9999, 12, 31), None], pa.date64()),
        pa.array([0, -1, 2**40, None], pa.timestamp("ms")),
        pa.array([1, -1, None], pa.timestamp("ns", "Europe/Berlin")),
        pa.array(["a", "b", None]).dictionary_encode(),
    ],
    ids=lambda values: str(values.type),
)
def test_partition_values_come_back_with_their_types(values: Any) -> None:
    """From the manifest's texts, exactly; a dictionary as its values."""
    table = pa.table({"id": range(len(values)), "part": values})
    store = Shelf().store
    manager = ArtifactManager("results", "runs", client=store)
    pointer = manager.put_dataset("parts", table, partition_by=["part"])
    found = resolve_artifact(pointer, allow=ALLOW, client=store).dataset().to_table().sort_by("id")
    kind = values.type.value_type if pa.types.is_dictionary(values.type) else values.type
    assert found.schema.field("part").type == kind
    assert found["part"].to_pylist() == values.to_pylist() or found["part"].cast(pa.int64()) == values.cast(pa.int64())


def test_columns_and_filters_fetch_blocks_of_their_own_only(store: BreakingStore) -> None:
    """Of a large file: some columns, and the row groups whose statistics leave them."""
    numbers = random.Random(2)
    table = pa.table({f"c{n}": [numbers.random() for _ in range(60_000)] for n in range(8)} | {"id": range(60_000)})
    manager = ArtifactManager("results", "runs", client=store)
    pointer = manager.put_dataset("wide", table)
    dataset = resolve_artifact(pointer, allow=ALLOW, client=store).dataset()
    size = dataset.filesystem.get_file_info(dataset.files[0]).size
    assert size > 3 << 20
    assert dataset.schema.metadata is None or FOOTER_KEY not in dataset.schema.metadata
    store.requests.clear()
    assert dataset.to_table(["c3"]).equals(table.select(["c3"]))
    fetched = sum((size if stop is None else stop) - start for start, stop, _ in store.requests)
    assert fetched < size // 2
    store.requests.clear()
    assert dataset.to_table(["c1"], pc.field("id") < 0).num_rows == 0
    assert sum((size if stop is None else stop) - start for start, stop, _ in store.requests) <= 1 << 20


def _with_schema(schema: str) -> Callable[[dict[str, Any]], None]:
    return lambda manifest: manifest.update(schema=schema)


def _forged(artifact: Artifact, store: Any, change: Callable[[dict[str, Any]], None]) -> Artifact:
    """Return the dataset with another manifest, honestly stored."""
    document = json.loads(artifact.read_bytes())
    change(document)
    shelf = Shelf(store)
    return resolve_artifact(
        shelf.put(json.dumps(document).encode(), "forged.json", media_type=DATASET), allow=ALLOW, client=store
    )


def _schema(*fields: Any) -> str:
    return base64.b64encode(pa.schema(fields).serialize().to_pybytes()).decode()


def test_files_of_another_schema_are_refused(written: Artifact, store: BreakingStore) -> None:
    """Where Arrow would fill what a file lacks with nulls, or cast; the message names the columns."""
    day, place = ("day", pa.date32()), ("place", pa.string())
    for fields in (
        [("id", pa.int64()), ("score", pa.float64()), ("more", pa.int64())],
        [("id", pa.int64())],
        [("id", pa.int32()), ("score", pa.float64())],
        [("score", pa.float64()), ("id", pa.int64())],
    ):
        forged = _forged(written, store._inner, _with_schema(_schema(*fields, day, place)))
        dataset = forged.dataset()
        for read in (dataset.to_table, lambda dataset=dataset: dataset.to_table(["id"]), dataset.count_rows):
            with pytest.raises(InvalidDocumentError, match="has other columns than the manifest"):
                read()


def test_manifests_that_arrow_cannot_follow_are_refused(written: Artifact, store: BreakingStore) -> None:
    """Before any file is asked for."""
    good = [("id", pa.int64()), ("score", pa.float64())]
    for schema in (
        base64.b64encode(b"\xff\xff\xff\xff nonsense").decode(),
        _schema(*good),
        _schema(("day", pa.date32()), ("place", pa.string()), *good),
        _schema(*good, ("day", pa.int8()), ("place", pa.string())),
        _schema(*good, ("id", pa.int64()), ("day", pa.date32()), ("place", pa.string())),
    ):
        forged = _forged(written, store._inner, _with_schema(schema))
        store.requests.clear()
        with pytest.raises(InvalidDocumentError):
            resolve_artifact(forged.pointer, allow=ALLOW, client=store).dataset()
        assert len(store.requests) == 1


def test_a_file_that_was_deleted_or_replaced_is_told(written: Artifact, store: BreakingStore) -> None:
    """Whatever the dataset was opened before."""
    dataset, inner = written.dataset(), store._inner
    file = written.manifest().files[0].pointer
    inner.replace(file.key, bytes(file.size))
    with pytest.raises(ArtifactChangedError):
        dataset.to_table()
    inner.delete(file.key)
    for read in (dataset.to_table, dataset.count_rows, lambda: list(dataset.to_batches())):
        with pytest.raises(ArtifactNotFoundError):
            read()


def test_every_flip_in_any_file_is_our_error(store: BreakingStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random bytes of all files, page headers and footers included; a scan of some columns is never wrong."""
    monkeypatch.setattr(blocks_module, "BLOCKS", PerProcess(lambda: BlockCache(0)))  # footers that were verified, too
    numbers = random.Random(7)
    table = pa.table(
        {
            "id": range(40_000),
            "score": [numbers.random() for _ in range(40_000)],
            "note": [None if n % 9 == 0 else f"n{n % 11}" for n in range(40_000)],
            "day": [n % 2 for n in range(40_000)],
        }
    )
    manager = ArtifactManager("results", "runs", client=store)
    artifact = resolve_artifact(manager.put_dataset("d", table, partition_by=["day"]), allow=ALLOW, client=store)

    def unpinned(document: dict[str, Any]) -> None:  # as if the server had damaged the bytes and not noticed
        for file in document["files"]:
            file["pointer"].pop("etag", None)
            file["pointer"].pop("versionId", None)

    forged = _forged(artifact, store._inner, unpinned)
    wanted = (pc.field("day") == 1) & (pc.field("score") > 0.5)
    whole, narrow = forged.dataset().to_table(), forged.dataset().to_table(["id", "score"], wanted)
    caught = 0
    rounds = settings().max_examples * 3
    for _ in range(rounds):
        pointer = numbers.choice(forged.manifest().files).pointer
        good = b"".join(store._inner.get(pointer.key).__enter__().blocks())
        near_end = numbers.random() < 0.3
        position = numbers.randrange(len(good) - 4_000 if near_end else 0, len(good))
        flipped = bytearray(good)
        flipped[position] ^= 1 << numbers.randrange(8)
        store._inner.replace(pointer.key, bytes(flipped))
        fresh = resolve_artifact(forged.pointer, allow=ALLOW, client=store)
        with pytest.raises(ChecksumMismatchError):
            fresh.dataset().to_table()
        try:
            assert fresh.dataset().to_table(["id", "score"], wanted).equals(narrow), position
        except ChecksumMismatchError:
            caught += 1
        store._inner.replace(pointer.key, good)
    assert caught > rounds // 8
    assert forged.dataset().to_table().equals(whole)


# Without a manifest ---------------------------------------------------------------------------------------------------


def _parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, write_page_checksum=True)
    return sink.getvalue()


def _directory(shelf: Shelf, files: dict[str, bytes]) -> Pointer:
    entries = [
        {"path": path, "pointer": shelf.put(data, f"d/{number}", media_type=PARQUET).to_dict()}
        for number, (path, data) in enumerate(files.items())
    ]
    listing = json.dumps({"stepout": "directory/1", "files": entries}).encode()
    return shelf.put(listing, "d.json", media_type=DIRECTORY_1)


def test_a_partitioned_folder_keeps_its_partition_column(store: BreakingStore) -> None:
    """Folders named column=value give it back, and a filter on it opens no other file but the first."""
    shelf = Shelf(store._inner)
    files = {f"day=2026-01-0{day}/n={day}/p.parquet": _parquet(pa.table({"id": [day, day]})) for day in (1, 2, 3)}
    files["day=__HIVE_DEFAULT_PARTITION__/n=4/p.parquet"] = _parquet(pa.table({"id": [4]}))
    artifact = resolve_artifact(_directory(shelf, files), allow=ALLOW, client=store)
    dataset = artifact.dataset()
    assert len(store.requests) == 2
    found = dataset.to_table().sort_by("id").to_pydict()
    assert found == {
        "id": [1, 1, 2, 2, 3, 3, 4],
        "day": ["2026-01-01"] * 2 + ["2026-01-02"] * 2 + ["2026-01-03"] * 2 + [None],
        "n": [1, 1, 2, 2, 3, 3, 4],
    }
    store.requests.clear()
    assert dataset.to_table(filter=pc.field("n") == 3).num_rows == 2
    assert len(store.requests) == 1


def test_a_file_that_is_no_parquet_is_named(store: BreakingStore, tmp_path: Path) -> None:
    """Also where it is not the first of its folder, which is all that is looked at before a scan."""
    pq.write_table(pa.table({"id": [1]}), tmp_path / "a.parquet")
    (tmp_path / "b.parquet").write_bytes(b"no Parquet at all")
    pointer = ArtifactManager("results", "runs", client=store).put_directory("folder", tmp_path)
    dataset = resolve_artifact(pointer, allow=ALLOW, client=store).dataset()
    with pytest.raises(UndecodableError, match=r"b\.parquet is no Parquet file that can be read: .*magic bytes"):
        dataset.to_table()


def test_a_lone_parquet_file_is_a_dataset(store: BreakingStore) -> None:
    """Its schema is the file's, without our list of blocks; verify="pinned" reads ranges."""
    numbers = random.Random(3)
    table = pa.table({"id": range(60_000), "x": [numbers.random() for _ in range(60_000)]}, metadata={"who": "me"})
    pointer = ArtifactManager("results", "runs", client=store).put_table("t", table)
    artifact = resolve_artifact(pointer, allow=ALLOW, client=store)
    for dataset in (artifact.dataset(), artifact.dataset(verify="pinned")):
        assert dataset.schema.equals(table.schema, check_metadata=True)
        assert dataset.to_table().equals(table)
    with pytest.raises(ConfigurationError):
        artifact.dataset(verify="md5")  # type: ignore[arg-type]
    bare = dataclasses.replace(pointer, blocks=None)
    with pytest.raises(ConfigurationError, match='verify="pinned"'):
        resolve_artifact(bare, allow=ALLOW, client=store).dataset(max_size=1000)


def _words(kind: pa.DataType) -> pa.Array:
    return pa.array(["a", None, "a"]).cast(kind)


def _times(kind: pa.DataType, storage: pa.DataType) -> pa.Array:
    return pa.array([1, None, 86_400_000], storage).cast(pa.int64()).cast(storage).view(kind)


DAY = pa.array([dt.date(2026, 1, 1), None, dt.date(2026, 1, 1)])
EVERY_TYPE: dict[str, pa.Array] = {
    **{f"zoned_{unit}": _times(pa.timestamp(unit, "Europe/Berlin"), pa.int64()) for unit in ("s", "ms", "us", "ns")},
    **{f"duration_{unit}": _times(pa.duration(unit), pa.int64()) for unit in ("s", "ms", "us", "ns")},
    "clock_s": pa.array([1, None, 2], pa.int32()).view(pa.time32("s")),
    "clock_ms": pa.array([1, None, 2], pa.int32()).view(pa.time32("ms")),
    "clock_ns": pa.array([1, None, 2], pa.int64()).view(pa.time64("ns")),
    "date64": _times(pa.date64(), pa.int64()),
    "large": pa.array([2**53 + 1, None, -(2**63)]),
    "unsigned": pa.array([2**64 - 1, None, 0], pa.uint64()),
    "half": pa.array([1.5, None, float("inf")], pa.float16()),
    "decimal": pa.array([decimal.Decimal("0.0000000001"), None, decimal.Decimal("-1.10")], pa.decimal128(38, 10)),
    "decimal256": pa.array([decimal.Decimal("1.10"), None, decimal.Decimal(0)], pa.decimal256(70, 10)),
    "decimal32": pa.array([decimal.Decimal("1.10"), None, decimal.Decimal(0)], pa.decimal32(5, 2)),
    "text_view": _words(pa.string_view()),
    "fixed": pa.array([b"ab", None, b"cd"], pa.binary(2)),
    "words": _words(pa.string()).dictionary_encode(),
    "large_words": _words(pa.large_string()).dictionary_encode(),
    "bytes_words": _words(pa.binary()).dictionary_encode(),
    "ordered": pa.DictionaryArray.from_arrays(pa.array([0, None, 1], pa.uint8()), ["a", "b"], ordered=True),
    "number_words": pa.array([1, None, 1]).dictionary_encode(),
    "float_words": pa.array([0.5, None, 0.5]).dictionary_encode(),
    "flag_words": pa.array([True, None, False]).dictionary_encode(),
    "day_words": DAY.dictionary_encode(),
    "time_words": DAY.cast(pa.timestamp("s")).dictionary_encode(),
    "runs": pa.RunEndEncodedArray.from_arrays(pa.array([2, 3], pa.int32()), pa.array(["a", None])),
    "list": pa.array([[1, None], None, []]),
    "list_of_times": pa.array([[1], None, []], pa.list_(pa.int64())).cast(pa.list_(pa.timestamp("s"))),
    "list_of_words": pa.ListArray.from_arrays([0, 1, 2, 3], DAY.dictionary_encode()),
    "struct": pa.array([{"a": 1, "b": [1]}, None, {"a": None, "b": None}]),
    "struct_of_words": pa.StructArray.from_arrays([pa.array([1, None, 1]).dictionary_encode()], ["x"]),
    "map": pa.array([[("a", 1)], None, []], pa.map_(pa.string(), pa.int64())),
    "nothing": pa.nulls(3),
    "uuid": pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"x" * 16, None, b"y" * 16], pa.binary(16))),
}


def test_every_type_is_read_back_as_a_table_gives_it_back(store: BreakingStore) -> None:
    """Also where Parquet gives back another type: times in seconds, dates in ms, dictionaries of other than text."""
    manager = ArtifactManager("results", "runs", client=store)
    table = pa.table({**EVERY_TYPE, "p": ["x", "y", "x"], "row": [0, 1, 2]})
    written = manager.put_dataset("d", table, partition_by=["p"])
    once = resolve_artifact(manager.put_table("t", table), allow=ALLOW, client=store).read_table()
    dataset = resolve_artifact(written, allow=ALLOW, client=store)
    found = dataset.dataset().to_table().select(table.column_names)
    assert found.schema.equals(once.schema)
    order = [0, 2, 1]  # in the order of partitions
    assert [found[name].to_pylist() for name in found.column_names] == [
        [once[name][row].as_py() for row in order] for name in once.column_names
    ]
    again = resolve_artifact(
        manager.put_dataset("more", table, partition_by=["p"], append_to=dataset), allow=ALLOW, client=store
    )
    assert again.dataset().count_rows() == 6


def test_statistics_that_lie_lose_no_rows(store: BreakingStore, written: Artifact) -> None:
    """They are a hint for others: scans skip by partition values and by the footer."""
    manifest = json.loads(written.manifest().to_bytes())
    for file in manifest["files"]:
        file["statistics"] = {"id": {"min": -2, "max": -1}, "score": {"min": 0, "max": 0}}
    pointer = ArtifactManager("results", "runs", client=store).put_json("d", manifest, media_type=DATASET)
    lying = resolve_artifact(pointer, allow=ALLOW, client=store)
    wanted = pc.field("id") > ROWS - 5
    assert lying.dataset().count_rows(filter=wanted) == lying.dataset().to_table(filter=wanted).num_rows == 4
    assert lying.scan_polars().collect().height == ROWS


def test_an_empty_dataset_is_empty(store: BreakingStore) -> None:
    """With its schema, on every way to read it."""
    pointer = ArtifactManager("results", "runs", client=store).put_dataset(
        "none", _table().slice(0, 0), partition_by=["day"]
    )
    artifact = resolve_artifact(pointer, allow=ALLOW, client=store)
    assert artifact.dataset().to_table().num_rows == 0
    assert artifact.dataset().schema.names == ["id", "score", "place", "day"]
    assert len(artifact.to_dask().compute()) == 0
    assert artifact.scan_polars().collect().height == 0
    assert artifact.to_duckdb().fetchall() == []


def test_pieces_are_small(written: Artifact) -> None:
    """What goes to a worker names its own file and no other."""
    cut = lazy.in_pieces(written._pinned, "days", [("day", "==", DAYS[0])])
    assert len(cut.pieces) == 3
    assert sum(piece.rows or 0 for piece in cut.pieces) == ROWS // 3
    assert {len(piece.dataset.filesystem.handler.files._pointers) for piece in cut.pieces} == {1}
    with pytest.raises(ConfigurationError, match="filters do not fit"):
        lazy.in_pieces(written._pinned, "days", [("nope", "==", 1)])
    with pytest.raises(ConfigurationError, match="expected names"):
        written.to_dask(columns=["nope"])


@pytest.mark.parametrize(
    ("verb", "module"),
    [("to_dask", "dask.dataframe"), ("to_ray", "ray.data"), ("scan_polars", "polars"), ("to_duckdb", "duckdb")],
)
def test_an_engine_that_is_missing_is_asked_for(
    written: Artifact, verb: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message says what to install."""
    monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(ConfigurationError, match=r"pip install '"):
        getattr(written, verb)()
    assert stepout.resolve_artifact(written.pointer, allow=ALLOW, client=Shelf().store)


def test_a_file_of_an_older_version_is_read_in_ranges_by_its_page_checksums(store: BreakingStore) -> None:
    """No list of blocks: its footer's digest is compared, and then the checksum of every page that is fetched."""
    table = pa.table({name: random.Random(seed).sample(range(1 << 40), 40_000) for seed, name in enumerate("abcdef")})
    manager = ArtifactManager("results", "runs", client=store)
    pointer = manager.put_table("table", table, blocks="none", compression="none", row_group_bytes=1 << 20)
    artifact = resolve_artifact(pointer, allow=ALLOW, client=store)
    store.requests.clear()
    assert artifact.dataset().to_table(columns=["b"]).equals(table.select(["b"]))
    fetched = [(start, pointer.size if stop is None else stop) for start, stop, _ in store.requests]
    assert sum(stop - start for start, stop in fetched) < pointer.size // 2
    data = bytearray(store._inner.objects[pointer.key].data)
    for seed in range(40):
        damaged = bytearray(data)
        damaged[random.Random(seed).randrange(len(data))] ^= 1 << seed % 8
        store._inner.replace(pointer.key, bytes(damaged))
        try:
            found = resolve_artifact(dataclasses.replace(pointer, etag=None), allow=ALLOW, client=store).dataset()
            assert found.to_table(columns=["b"]).equals(table.select(["b"]))  # the flip was elsewhere
        except OSError:  # pyarrow's of a page, or ours of the footer
            pass
