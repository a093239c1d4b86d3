"""The list of a table's blocks: in the footer of the file, over every byte before it, and no request more."""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stepout.artifacts import ArtifactManager, MemoryStore, TransferSettings, checksums
from stepout.artifacts.blocks import FOOTER_KEY, decoded, read_list

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from stepout.schemas import Pointer

ROWS = 150_000
TABLE = pa.table(
    {
        "n": pa.array(range(ROWS)),
        "b": pa.array([os.urandom(8) for _ in range(ROWS)]),
        "d": pa.array([f"d{n % 1000}" for n in range(ROWS)]).dictionary_encode(),
        "l": pa.array([[n, n + 1] for n in range(ROWS)]),
    },
    metadata={"mine": "kept"},
)


@pytest.fixture
def store() -> MemoryStore:
    """An empty bucket."""
    return MemoryStore("results")


@pytest.fixture
def manager(store: MemoryStore) -> ArtifactManager:
    """A manager whose uploads become multipart early."""
    return ArtifactManager(store, settings=TransferSettings(memory=16 << 20))


def _metadata(data: bytes) -> Mapping[bytes, bytes]:
    return pq.ParquetFile(io.BytesIO(data)).metadata.metadata or {}


def _check(store: MemoryStore, pointer: Pointer, algorithm: str) -> None:
    """Hold each digest in the footer against the bytes before it, and the rest against the footer's own digest."""
    data = store.read(pointer.key)
    assert pointer.annotations is not None
    covered = len(data) - pointer.annotations["parquet"]["footerSize"]
    member = pointer.blocks
    assert member is not None
    assert (member["algorithm"], member["place"], set(member)) == (algorithm, "footer", {"algorithm", "size", "place"})
    footer = pq.read_metadata(io.BytesIO(data))
    assert covered == len(data) - footer.serialized_size - 8
    listed = read_list(member, decoded(_metadata(data)[FOOTER_KEY], pointer.url), covered, pointer.url)
    blocks = range(0, covered, listed.size)
    assert all(listed.holds(n, data[start : min(start + listed.size, covered)]) for n, start in enumerate(blocks))
    columns = [footer.row_group(0).column(n) for n in range(footer.num_columns)]
    assert not any(column.has_offset_index or column.has_column_index for column in columns)
    assert store.keys() == [pointer.key]


@pytest.mark.parametrize("options", [{}, {"compression": "zstd"}, {"row_group_bytes": 1 << 20}, {"blocks": "sha256"}])
def test_the_footer_has_the_digests_of_all_bytes_before_it(
    manager: ArtifactManager, store: MemoryStore, options: Any
) -> None:
    """In one part and in several, one row group and many; no object is written but the table."""
    big = pa.concat_tables([TABLE] * 3) if options else TABLE
    algorithm = "sha256" if "blocks" in options else "crc64nvme"
    _check(store, manager.put_table("t", big.to_reader(20_000), **options), algorithm)


def test_without_awscrt_they_are_crc32(
    monkeypatch: pytest.MonkeyPatch, manager: ArtifactManager, store: MemoryStore
) -> None:
    """The pointer names the algorithm."""
    monkeypatch.setitem(sys.modules, "awscrt", None)
    checksums._native_crc64nvme.cache_clear()
    try:
        _check(store, manager.put_table("t", TABLE), "crc32")
    finally:
        checksums._native_crc64nvme.cache_clear()


def test_every_reader_reads_on(manager: ArtifactManager, store: MemoryStore, tmp_path: Path) -> None:
    """pyarrow, pandas, polars and duckdb pass over the key that they do not know."""
    import duckdb
    import pandas as pd
    import polars as pl

    path = tmp_path / "t.parquet"
    path.write_bytes(store.read(manager.put_table("t", TABLE).key))
    assert FOOTER_KEY in _metadata(path.read_bytes())
    total = sum(range(ROWS))
    assert pq.read_table(path, page_checksum_verification=True).equals(TABLE)
    assert pd.read_parquet(path)["n"].sum() == total
    assert pl.read_parquet(path)["n"].sum() == total
    assert pl.scan_parquet(path).select(pl.col("n").sum()).collect().item() == total
    with duckdb.connect() as connection:
        found = connection.execute("select sum(n), count(distinct d) from read_parquet(?)", [str(path)]).fetchall()
    assert found == [(total, 1000)]


@pytest.mark.parametrize(("rows", "options"), [(3, {}), (0, {}), (ROWS, {"blocks": "none"})])
def test_one_block_and_who_wants_none_get_none(
    manager: ArtifactManager, store: MemoryStore, rows: int, options: Any
) -> None:
    """Neither in the pointer nor in the file."""
    pointer = manager.put_table("t", TABLE.slice(0, rows), **options)
    assert pointer.blocks is None
    assert FOOTER_KEY not in _metadata(store.read(pointer.key))


def test_the_list_of_another_file_is_not_carried_on() -> None:
    """A schema that came with that of a file of ours, read by other means, is written without it."""
    table = TABLE.replace_schema_metadata({FOOTER_KEY: b"AAAA", "mine": "kept"})
    for name, again in (("small", table.slice(0, 3)), ("large", table), ("stream", _batches(table))):
        store = MemoryStore("results")
        pointer = ArtifactManager(store).put_table(name, again)
        data = store.read(pointer.key)
        assert _metadata(data)[b"mine"] == b"kept"
        assert data.count(FOOTER_KEY) == (0 if name == "small" else 1)
        if name != "small":
            _check(store, pointer, "crc64nvme")


def _batches(table: pa.Table) -> Iterator[pa.RecordBatch]:
    yield from table.to_batches(max_chunksize=10_000)
