"""Tables: whole reads verify every byte, column reads the footer and the pages they fetch; a byte-flip over it all."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import random
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from support.profile import THOROUGH
from support.shelf import ALLOW, BreakingStore, Shelf

from stepout.artifacts.media_types import PARQUET
from stepout.artifacts.memory import MemoryStore
from stepout.artifacts.reading.ranges.parquet_footer import footer_of
from stepout.artifacts.reading.tables import parquet
from stepout.artifacts.resolve import resolve_artifact
from stepout.artifacts.store import Arrived
from stepout.schemas.errors import (
    ArtifactChangedError,
    ArtifactNotFoundError,
    ArtifactTooLargeError,
    ChecksumMismatchError,
    ConfigurationError,
    IntegrityError,
    InvalidDocumentError,
    UndecodableError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepout.artifacts.store import Download
    from stepout.schemas import Pointer

ROWS = 1500


def _table(rows: int = ROWS) -> pa.Table:
    numbers = random.Random(7)
    return pa.table(
        {
            "id": list(range(rows)),
            "score": [numbers.random() for _ in range(rows)],
            "name": [f"name{i % 40}" for i in range(rows)],
            "deep": [{"a": i, "b": [i]} for i in range(rows)],
        }
    )


def _file(table: pa.Table, *, checksums: bool = True, group: int = 500) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=group, write_page_checksum=checksums)
    return sink.getvalue()


def _note(data: bytes, *, checksums: bool = True) -> dict[str, Any]:
    size = int.from_bytes(data[-8:-4], "little") + 8
    footer = {"footerSize": size, "footerSha256": hashlib.sha256(data[-size:]).hexdigest()}
    return {"parquet": {"pageChecksums": checksums, **footer}}


def _put(shelf: Shelf, data: bytes, **members: Any) -> Pointer:
    said: dict[str, Any] = {"media_type": PARQUET, "annotations": _note(data), **members}
    return shelf.put(data, "t.parquet", **said)


@pytest.fixture
def ranged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read ranges of small files too, as if they were large."""
    monkeypatch.setattr(parquet, "WHOLE_BELOW", 0)


def _resolved(pointer: Pointer, store: Any, **options: Any) -> Any:
    return resolve_artifact(pointer, allow=ALLOW, client=store, **options)


class _Redirecting(MemoryStore):
    """A store whose cheaper way brings what another server has."""

    def get_small(self, key: str, *, size: int, version_id: str | None = None, if_match: str | None = None) -> Download:
        with self.get(key, version_id=version_id, if_match=if_match) as there:
            return Arrived(there.info, memoryview(b"x" * size))


def test_what_is_not_hashed_never_comes_by_a_way_that_may_be_redirected() -> None:
    """Also where one read is told less than resolve was; what is hashed is asked for there, and found out."""
    shelf, table = Shelf(_Redirecting("results")), _table()
    artifact = _resolved(_put(shelf, _file(table)), shelf.store)
    assert artifact.read_table(verify="pinned").equals(table)
    for read in (artifact.read_table, artifact.read_bytes, lambda: artifact.open().read()):
        with pytest.raises(ChecksumMismatchError):
            read()


def test_a_table_comes_back_whole_or_in_part(shelf: Shelf) -> None:
    """All of it, some columns, nested fields, some rows by list or by expression."""
    table = _table()
    artifact = _resolved(_put(shelf, _file(table)), shelf.store)
    assert artifact.read_table().equals(table)
    assert artifact.read_table(columns=["name", "id"]).num_columns == 2
    assert artifact.read_table(columns=["deep.a"]).column("deep").type == pa.struct({"a": pa.int64()})
    assert artifact.read_table(["id"], [("id", ">=", 1490)]).column("id").to_pylist() == list(range(1490, 1500))
    assert artifact.read_table(filters=pc.field("name") == "name3").num_rows == ROWS // 40 + 1
    assert artifact.dataset().count_rows() == ROWS
    keeping = pa.table({"keep": [1, None, 3], "keep_": ["a", "b", "c"]}, metadata={"who": "me"})
    artifact = _resolved(_put(shelf, _file(keeping)), shelf.store)
    assert artifact.read_table(filters=[("keep", ">", 1)]).to_pydict() == {"keep": [3], "keep_": ["c"]}
    assert artifact.read_table(["keep_"], [("keep", "<", 0)]).schema.metadata[b"who"] == b"me"


@pytest.mark.usefixtures("ranged")
def test_column_reads_fetch_what_they_need(shelf: Shelf, breaking: Callable[..., BreakingStore]) -> None:
    """The footer and the chunks of the columns, each in a pinned range; a filter skips row groups."""
    store, table = breaking(), _table(20_000)
    data = _file(table, group=5000)
    pointer = _put(shelf, data)
    assert _resolved(pointer, store).read_table(columns=["id"]).equals(table.select(["id"]))
    fetched = sum((stop or len(data)) - start for start, stop, _ in store.requests)
    assert fetched < len(data) // 2
    assert {pin for _, _, pin in store.requests} == {pointer.etag}
    store.requests.clear()
    found = _resolved(pointer, store).read_table(columns=["id", "score"], filters=[("id", "<", 10)])
    assert found.num_rows == 10
    assert sum((stop or len(data)) - start for start, stop, _ in store.requests) < fetched
    store.requests.clear()
    # A dataset takes a file of up to 1 MiB without a list of blocks whole.
    assert _resolved(pointer, store).dataset().to_table(columns=["id"], filter=pc.field("id") < 10).num_rows == 10
    assert {(start, stop) for start, stop, _ in store.requests} == {(0, None)}


@pytest.mark.usefixtures("ranged")
def test_every_flip_is_caught_or_harmless_in_a_column_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte-flip over the file: a column read raises, or returns the right values.

    Every 19th byte is flipped, and every byte of the first page header of each column chunk, which no checksum covers;
    a twelfth of them on an ordinary day.
    """
    monkeypatch.setattr(parquet, "TAIL", 100)  # so that pages come in ranges of their own
    table, shelf = _table(), Shelf()
    data = _file(table)
    columns = ["id", "score", "name"]
    wanted = table.select(columns)
    pointer = _put(shelf, data, etag=None)
    caught = 0
    positions = _positions(data, columns)
    for position in positions:
        flipped = bytearray(data)
        flipped[position] ^= 1 << (position % 8)
        shelf.store.replace(pointer.key, bytes(flipped))
        try:
            assert _resolved(pointer, shelf.store).read_table(columns=columns).equals(wanted), position
        except IntegrityError:
            caught += 1
    assert caught > len(positions) // 3  # what is fetched; the columns that are not asked for are not read


@pytest.mark.usefixtures("ranged")
def test_flips_in_the_page_headers_of_a_lone_column_are_caught_or_harmless() -> None:
    """Every bit of the first page headers of one column: with no other column's length to compare with."""
    table, shelf = _table(), Shelf()
    data = _file(table)
    pointer = _put(shelf, data, etag=None)
    chunk = pq.ParquetFile(io.BytesIO(data)).metadata.row_group(1).column(1)
    start, caught = min(chunk.dictionary_page_offset or chunk.data_page_offset, chunk.data_page_offset), 0
    for position in range(start, start + 40):
        for bit in range(8) if THOROUGH else [position % 8]:
            flipped = bytearray(data)
            flipped[position] ^= 1 << bit
            shelf.store.replace(pointer.key, bytes(flipped))
            for filters in (None, pc.field("score") >= 0):
                try:
                    found = _resolved(pointer, shelf.store).read_table(["score"], filters)
                    assert found.equals(table.select(["score"]))
                except IntegrityError:
                    caught += 1
    assert caught > (200 if THOROUGH else 25)


def _positions(data: bytes, columns: list[str]) -> list[int]:
    metadata = pq.ParquetFile(io.BytesIO(data)).metadata
    heads = []
    for group in range(metadata.num_row_groups):
        for index in range(metadata.num_columns):
            chunk = metadata.row_group(group).column(index)
            if chunk.path_in_schema in columns:
                starts = [chunk.dictionary_page_offset, chunk.data_page_offset]
                heads += [start + byte for start in starts if start for byte in range(30)]
    return sorted({*range(0, len(data), 19), *heads})[:: 1 if THOROUGH else 12]


def test_every_flip_is_caught_in_a_whole_read() -> None:
    """No byte of the file is left out when the whole is read."""
    shelf = Shelf()
    data = _file(_table(200))
    pointer = _put(shelf, data, etag=None)
    for position in range(0, len(data), 7 if THOROUGH else 7 * 23):
        flipped = bytearray(data)
        flipped[position] ^= 1 << (position % 8)
        shelf.store.replace(pointer.key, bytes(flipped))
        with pytest.raises(ChecksumMismatchError):
            _resolved(pointer, shelf.store).read_table(columns=["id"])


@pytest.mark.usefixtures("ranged")
def test_a_flip_in_a_page_is_named_as_damage(shelf: Shelf) -> None:
    """The error of pyarrow becomes ours; filters and datasets go the same way, pinned reads do not look."""
    table = _table()
    data = bytearray(_file(table))
    pointer = _put(shelf, bytes(data), etag=None)
    chunk = pq.ParquetFile(io.BytesIO(bytes(data))).metadata.row_group(1).column(1)
    data[chunk.data_page_offset + chunk.total_compressed_size // 2 % 1000 + 200] ^= 1
    shelf.store.replace(pointer.key, bytes(data))
    artifact = _resolved(pointer, shelf.store)
    for wanted in ({"columns": ["score"]}, {"filters": [("id", ">", 600)]}):
        with pytest.raises(ChecksumMismatchError, match="page"):
            artifact.read_table(**wanted)
    assert artifact.read_table(columns=["score"], filters=[("id", "<", 10)]).num_rows == 10  # another row group
    with pytest.raises(ChecksumMismatchError):
        artifact.dataset().to_table()
    with pytest.raises(ChecksumMismatchError):
        artifact.read_table(columns=["id"], verify="sha256")
    assert artifact.read_table(columns=["score"], verify="pinned").num_rows == ROWS


@pytest.mark.usefixtures("ranged")
def test_another_footer_is_found_by_its_digest(shelf: Shelf) -> None:
    """Before pyarrow parses it."""
    data = bytearray(_file(_table()))
    pointer = _put(shelf, bytes(data), etag=None)
    data[-20] ^= 1
    shelf.store.replace(pointer.key, bytes(data))
    artifact = _resolved(pointer, shelf.store)
    with pytest.raises(ChecksumMismatchError, match="footer"):
        artifact.read_table(columns=["id"])
    with pytest.raises(ChecksumMismatchError):
        artifact.dataset()


@pytest.mark.usefixtures("ranged")
def test_without_page_checksums_the_whole_is_verified_first(
    shelf: Shelf, breaking: Callable[..., BreakingStore]
) -> None:
    """Unless pinned ranges are asked for; a damaged byte anywhere is caught, in columns that are not read as well."""
    data = _file(_table(), checksums=False)
    for note in (None, {}, {"parquet": 3}, _note(data, checksums=False)):
        store = breaking()
        pointer = _put(shelf, data, annotations=note)
        assert _resolved(pointer, store).read_table(columns=["id"]).num_rows == ROWS
        assert [(start, stop) for start, stop, _ in store.requests] == [(0, None)]
        assert _resolved(pointer, shelf.store).dataset().count_rows() == ROWS
        pinned = _resolved(pointer, shelf.store).read_table(columns=["id"], verify="pinned")
        assert pinned.num_rows == ROWS
        with pytest.raises(ArtifactTooLargeError, match="pinned"):
            _resolved(pointer, store).read_table(columns=["id"], max_size=100)


@pytest.mark.parametrize(
    "change",
    [
        {"footerSize": 11},
        {"footerSize": 10**12},
        {"footerSize": True},
        {"footerSize": "900"},
        {"footerSha256": "F" * 64},
        {"footerSha256": None},
        {"pageChecksums": 1},
    ],
)
def test_annotations_are_untrusted(shelf: Shelf, change: dict[str, Any]) -> None:
    """What could not be a footer is as good as none."""
    data = _file(_table(10))
    assert footer_of(_put(shelf, data)) is not None
    note = {"parquet": {**_note(data)["parquet"], **change}}
    assert footer_of(dataclasses.replace(_put(shelf, data), annotations=note)) is None


@pytest.mark.usefixtures("ranged")
def test_faults_of_the_store_come_through_pyarrow(shelf: Shelf, breaking: Callable[..., BreakingStore]) -> None:
    """Changed or gone while pages are fetched is what it is, not a broken page."""
    pointer = _put(shelf, _file(_table(20_000)))
    for fault, error in (
        (lambda: shelf.store.delete(pointer.key), ArtifactNotFoundError),
        (lambda: shelf.store.replace(pointer.key, bytes(pointer.size)), ArtifactChangedError),
    ):
        _put(shelf, _file(_table(20_000)))
        store = breaking()

        def later(store: BreakingStore = store, fault: Callable[[], None] = fault) -> None:
            if len(store.requests) > 1:
                fault()

        store.before = later
        with pytest.raises(error):
            _resolved(pointer, store).read_table(columns=["score"])


def test_what_is_no_parquet_is_told(shelf: Shelf) -> None:
    """Another media type, and a file that only claims to be one."""
    with pytest.raises(InvalidDocumentError, match=r"text/csv.*Parquet only"):
        shelf.artifact(b"id\n1\n", "t.csv", media_type="text/csv").read_table()
    with pytest.raises(UndecodableError, match="no Parquet file that can be read, though"):
        _resolved(_put(shelf, b"PAR1 nothing PAR1", annotations=None), shelf.store).read_table()
    unspecific = shelf.artifact(_file(_table(3)), "t.parquet", media_type="application/octet-stream")
    assert unspecific.read_table().num_rows == 3


def test_columns_and_filters_must_fit(shelf: Shelf) -> None:
    """Where pyarrow passes over unknown columns in silence, we do not."""
    artifact = _resolved(_put(shelf, _file(_table(10))), shelf.store)
    wrongs: list[dict[str, Any]] = [
        {"columns": ["id", "nope"]},
        {"columns": "id"},
        {"columns": ["id", "id"]},
        {"columns": ["id", "id"], "filters": [("id", ">", 1)]},
        {"filters": [("nope", ">", 1)]},
        {"filters": [("id", ">", "text")]},
        {"filters": "id > 1"},
        {"filters": [("id", ">", 1)], "columns": ["deep.a"]},
        {"verify": "crc32"},
    ]
    for wrong in wrongs:
        with pytest.raises(ConfigurationError):
            artifact.read_table(**wrong)
    assert artifact.read_table(columns=[]).num_columns == 0


def test_a_small_file_that_unfolds_is_stopped(shelf: Shelf) -> None:
    """The footer says how large the table gets; it is not decoded beyond the limit."""
    bomb = pa.table({"x": pa.array([0] * 3_000_000, pa.int8()), "y": [1] * 3_000_000})
    artifact = _resolved(_put(shelf, _file(bomb, group=1 << 20)), shelf.store)
    assert artifact.size < 100_000
    with pytest.raises(ArtifactTooLargeError, match="not decoded"):
        artifact.read_table(max_size=200_000)
    with pytest.raises(ArtifactTooLargeError, match="not decoded any further"):
        artifact.read_table(filters=[("x", "==", 0)], max_size=200_000)
    assert artifact.read_table(filters=[("x", "==", 1)], max_size=200_000).num_rows == 0
    with pytest.raises(ArtifactTooLargeError, match="not decoded"):
        artifact.read_table(columns=["x"], max_size=artifact.size)  # the footer's sum of all columns says more
    with pytest.raises(ArtifactTooLargeError, match="at least 3,000,000 bytes"):
        artifact.read_table(columns=["x"], max_size=2_999_999)  # a byte each, though the file has next to nothing
    assert artifact.read_table(columns=["x"], max_size=3_000_000).num_rows == 3_000_000
    wide = pa.table({"x": [1] * 1000, "y": [random.Random(3).random() for _ in range(1000)] * 1})
    artifact = _resolved(_put(shelf, _file(wide)), shelf.store)
    with pytest.raises(ArtifactTooLargeError, match="nothing was read"):
        artifact.read_table(columns=["x"], max_size=artifact.size - 1)


@pytest.mark.parametrize("column", [pa.nulls(100_000, pa.float64()), pa.array(["x" * 1000] * 1000)])
def test_what_a_read_returns_is_never_over_the_limit(shelf: Shelf, column: Any) -> None:
    """Neither nulls nor a text that a dictionary holds once and the column a thousand times get past it."""
    artifact = _resolved(_put(shelf, _file(pa.table({"x": column}))), shelf.store)
    for limit in (column.nbytes // 2, column.nbytes + 100):
        try:
            assert artifact.read_table(max_size=limit).nbytes <= limit
        except ArtifactTooLargeError:
            assert limit < column.nbytes


def test_want_of_memory_is_no_damage(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """What pyarrow cannot allocate says nothing about the file."""
    artifact = _resolved(_put(shelf, _file(_table(10))), shelf.store)

    def exhausted(*_: Any, **__: Any) -> None:
        raise pa.ArrowMemoryError("realloc of size 409600000 failed")

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", exhausted)
    with pytest.raises(MemoryError):
        artifact.read_table()


def test_a_directory_of_parquet_files_is_one_dataset(shelf: Shelf) -> None:
    """Other files in it are left out; one without any is told."""
    from stepout.artifacts.media_types import DIRECTORY_1

    files = [shelf.put(_file(_table(10 + i)), f"d/{i}", media_type=PARQUET) for i in range(2)]
    entries = [{"path": f"part{i}.parquet", "pointer": each.to_dict()} for i, each in enumerate(files)]
    entries.append({"path": "notes.txt", "pointer": shelf.put(b"x", "d/n").to_dict()})
    for chosen, rows in ((entries, 21), (entries[2:], None)):
        import json

        listing = json.dumps({"stepout": "directory/1", "files": chosen}).encode()
        artifact = shelf.artifact(listing, "d.json", media_type=DIRECTORY_1)
        if rows is None:
            with pytest.raises(InvalidDocumentError, match="without Parquet"):
                artifact.dataset()
        else:
            assert artifact.dataset().count_rows() == rows
    with pytest.raises(InvalidDocumentError, match="Parquet only"):
        artifact.read_table()


def test_pyarrow_is_asked_for_where_it_is_missing(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says which extra to install."""
    import sys

    artifact = _resolved(_put(shelf, _file(_table(3))), shelf.store)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ConfigurationError, match='its extra "parquet"'):
        artifact.read_table()
