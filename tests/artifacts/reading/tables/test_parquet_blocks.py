"""Parquet files with a list of blocks in their footer: what column reads and datasets fetch is verified by it."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import io
import random
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.shelf import ALLOW, BreakingStore, Shelf

from stepout.artifacts.blocks import FOOTER_KEY, BlockList, digest_of, in_footer
from stepout.artifacts.manager import ArtifactManager
from stepout.artifacts.media_types import PARQUET
from stepout.artifacts.reading.access import access_from
from stepout.artifacts.reading.pinned_object import PinnedObject
from stepout.artifacts.reading.ranges import blocks as blocks_module
from stepout.artifacts.reading.ranges.block_cache import BlockCache
from stepout.artifacts.reading.ranges.random_access import open_random
from stepout.artifacts.reading.tables import parquet
from stepout.artifacts.resolve import resolve_artifact
from stepout.schemas.errors import (
    ArtifactNotFoundError,
    ArtifactTooLargeError,
    ChecksumMismatchError,
    ConfigurationError,
    InvalidDocumentError,
)
from stepout.schemas.runtime.process import PerProcess

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepout.schemas import Pointer

BLOCK = 64 << 10
ROWS = 12_000
_draw = np.random.default_rng(4)
TABLE = pa.table(
    {
        "id": np.arange(ROWS),
        "score": _draw.random(ROWS),
        "other": _draw.random(ROWS),
        "name": [f"name{i % 40}" for i in range(ROWS)],
    },
    metadata={"who": "me"},
)


def _written(shorter: int = 0, key: bytes = FOOTER_KEY) -> tuple[bytes, BlockList]:
    """Write the table with the list in its footer, as a put does; ``shorter`` cuts that many bytes off the list."""
    sink = io.BytesIO()
    writer = pq.ParquetWriter(sink, TABLE.schema, write_page_checksum=True)
    writer.write_table(TABLE, row_group_size=4000)
    body = sink.getvalue()
    digests = b"".join(digest_of("crc64nvme", body[at : at + BLOCK]) for at in range(0, len(body), BLOCK))
    writer.add_key_value_metadata({key: base64.b64encode(digests[: len(digests) - shorter])})
    writer.close()
    return sink.getvalue(), BlockList(algorithm="crc64nvme", size=BLOCK, covered=len(body), digests=digests)


DATA, LIST = _written()


def _note(data: bytes) -> dict[str, Any]:
    size = int.from_bytes(data[-8:-4], "little") + 8
    footer = {"footerSize": size, "footerSha256": hashlib.sha256(data[-size:]).hexdigest()}
    return {"parquet": {"pageChecksums": True, **footer}}


def _put(shelf: Shelf, data: bytes = DATA, **members: Any) -> Pointer:
    said = {"media_type": PARQUET, "annotations": _note(data), "blocks": in_footer(LIST), **members}
    return shelf.put(data, "t.parquet", **said)


def _artifact(pointer: Pointer, store: Any) -> Any:
    return resolve_artifact(pointer, allow=ALLOW, client=store)


def _random(pointer: Pointer, store: Any) -> Any:
    return open_random(PinnedObject(access_from(allow=ALLOW, client=store), pointer), True)


@pytest.fixture(autouse=True)
def ranged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read ranges of small files too, and keep no block from one test to the next."""
    monkeypatch.setattr(parquet, "WHOLE_BELOW", 0)
    monkeypatch.setattr(blocks_module, "BLOCKS", PerProcess(lambda: BlockCache(0)))


def test_columns_and_datasets_come_back_without_the_list_in_their_schema() -> None:
    """Whole, by columns, by a filter, and as a dataset: the values are equal, and the metadata is the table's own."""
    shelf = Shelf()
    artifact = _artifact(_put(shelf), shelf.store)
    for found in (
        artifact.read_table(),
        artifact.read_table(verify="sha256"),
        artifact.read_table(filters=[("id", ">=", 0)]),
        artifact.dataset().to_table(),
    ):
        assert found.equals(TABLE, check_metadata=True)
    wanted = TABLE.select(["score"])
    assert artifact.read_table(columns=["score"]).equals(wanted, check_metadata=True)
    assert artifact.read_table(columns=["score"], verify="pinned").equals(wanted, check_metadata=True)
    assert artifact.dataset().schema.metadata == {b"who": b"me"}
    assert pq.read_table(_random(_put(shelf), shelf.store)).equals(TABLE)


def _column(pointer: Pointer, store: Any) -> pa.Table:
    return _artifact(pointer, store).read_table(columns=["score"])


def _scanned(pointer: Pointer, store: Any) -> pa.Table:
    return _artifact(pointer, store).dataset().to_table(columns=["score"])


def _by_engine(pointer: Pointer, store: Any) -> pa.Table:
    return pq.read_table(_random(pointer, store), columns=["score"])


@pytest.mark.parametrize("read", [_column, _scanned, _by_engine])
def test_no_flip_changes_a_value_and_every_one_in_a_column_is_refused(read: Callable[..., pa.Table]) -> None:
    """Page headers, pages, footer, and random bytes: a read raises where it fetches the byte, or is equal."""
    shelf, wanted = Shelf(), TABLE.select(["score"])
    pointer = dataclasses.replace(_put(shelf), etag=None)
    described, draw = pq.read_metadata(io.BytesIO(DATA)), random.Random(6)
    chunks = [described.row_group(group).column(1) for group in range(3)]
    # The first page header of each chunk, byte by byte: what no checksum of Parquet covers.
    starts = [min(chunk.dictionary_page_offset or 1 << 60, chunk.data_page_offset) for chunk in chunks]
    headers = [at for start in starts for at in range(start, start + 24, 2)]
    inside = [start + draw.randrange(chunk.total_compressed_size) for start, chunk in zip(starts, chunks, strict=True)]
    footer = [len(DATA) - 1 - draw.randrange(_note(DATA)["parquet"]["footerSize"]) for _ in range(5)]
    refused = {*headers, *inside, *footer}
    for position in [*refused, *(draw.randrange(len(DATA)) for _ in range(40))]:
        flipped = bytearray(DATA)
        flipped[position] ^= 1 << draw.randrange(8)
        shelf.store.replace(pointer.key, bytes(flipped))
        try:
            found = read(pointer, shelf.store)
        except (ChecksumMismatchError, OSError):
            continue
        assert position not in refused
        assert found.equals(wanted)


def test_the_error_of_a_column_read_names_the_block() -> None:
    """Not pyarrow's words: which bytes, expected and got."""
    shelf = Shelf()
    pointer = dataclasses.replace(_put(shelf), etag=None)
    at = pq.read_metadata(io.BytesIO(DATA)).row_group(0).column(1).data_page_offset
    flipped = bytearray(DATA)
    flipped[at + 3] ^= 4
    shelf.store.replace(pointer.key, bytes(flipped))
    with pytest.raises(ChecksumMismatchError, match="are not those that were written: expected crc64nvme"):
        _column(pointer, shelf.store)


def test_a_list_that_a_pointer_does_not_announce_is_not_believed() -> None:
    """A file of ours under an older pointer reads as before, whatever its metadata says."""
    shelf = Shelf()
    data, _ = _written(shorter=8)
    artifact = _artifact(_put(shelf, data, blocks=None), shelf.store)
    assert artifact.read_table(columns=["score"]).equals(TABLE.select(["score"]), check_metadata=True)


@pytest.mark.parametrize(
    ("data", "members"),
    [
        (_written(shorter=8)[0], {}),
        (_written(key=b"another.key")[0], {}),
        (DATA, {"blocks": {**in_footer(LIST), "size": 2 * BLOCK}}),
        (DATA, {"blocks": {**in_footer(LIST), "algorithm": "md5"}}),
        (DATA, {"annotations": {"parquet": {"pageChecksums": True}}}),
        (DATA, {"annotations": None}),
    ],
)
def test_an_announced_list_that_the_footer_does_not_have_is_refused(data: bytes, members: dict[str, Any]) -> None:
    """Cut off, absent, of another size, or without a digest of the footer: an error says so, and whole reads go on."""
    shelf = Shelf()
    artifact = _artifact(_put(shelf, data, **members), shelf.store)
    for read in (lambda: artifact.read_table(columns=["score"]), lambda: artifact.open().read(1), artifact.dataset):
        with pytest.raises(InvalidDocumentError, match="blocks"):
            read()
    assert artifact.read_bytes() == data
    assert artifact.read_table(columns=["score"], verify="pinned").num_rows == ROWS


def test_no_block_is_fetched_twice_by_a_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranges of columns that share or touch blocks come in one request; borders between row groups are kept."""
    monkeypatch.setattr(blocks_module, "BLOCKS", PerProcess(lambda: BlockCache(1 << 20)))
    shelf = Shelf()
    store = BreakingStore(shelf.store, ())
    assert _artifact(_put(shelf), store).read_table(columns=["id", "other"]).num_rows == ROWS
    spans = [(start, len(DATA) if stop is None else stop) for start, stop, _ in store.requests]
    fetched = [index for start, stop in spans for index in range(start // BLOCK, -(-stop // BLOCK))]
    assert len(fetched) == len(set(fetched))
    assert all(start % BLOCK == 0 for start, _ in spans)


def test_a_footer_is_fetched_once_however_often_a_file_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines open a file for its schema, for its rows, in each thread; what is kept of it was verified."""
    monkeypatch.setattr(blocks_module, "BLOCKS", PerProcess(lambda: BlockCache(1 << 20)))
    shelf = Shelf()
    pointer = _put(shelf, etag=None)
    for position in (LIST.covered - 1, len(DATA) - 20):  # in what lies before the footer, and in the footer
        shelf.store.replace(pointer.key, DATA[:position] + bytes([DATA[position] ^ 1]) + DATA[position + 1 :])
        for _ in range(2):
            with pytest.raises(ChecksumMismatchError):
                _random(pointer, shelf.store).read(1)
    shelf.store.replace(pointer.key, DATA)
    store = BreakingStore(shelf.store, ())
    for _ in range(3):
        file = _random(pointer, store)
        file.seek(-8, io.SEEK_END)
        assert file.read() == DATA[-8:]
    assert len(store.requests) == 1
    file = _random(dataclasses.replace(pointer, key="runs/another.parquet"), store)
    with pytest.raises(ArtifactNotFoundError):
        file.read(1)


def test_sha256_takes_no_byte_out_of_order_by_a_crc_from_beside_the_footer() -> None:
    """What is fetched with the footer is held to CRCs like the rest: only a read in order proves its SHA-256."""
    shelf = Shelf()
    for offset in (LIST.covered - 10, len(DATA) - 4):
        file = _artifact(_put(shelf), shelf.store).open(verify="sha256").detach()
        assert file.read(10) == DATA[:10]
        file.seek(offset)
        with pytest.raises(ConfigurationError, match="in order"):
            file.read(4)
        file.seek(0)
        assert file.read() == DATA


def test_a_footer_beyond_what_may_be_read_into_memory_is_not_fetched() -> None:
    """Its size is a document's word: it is held to `max_size` before any request, wherever footers are fetched."""
    shelf = Shelf()
    note = {"parquet": {"pageChecksums": True, "footerSize": 4 << 20, "footerSha256": "0" * 64}}
    store = BreakingStore(shelf.store, ())
    for blocks in (in_footer(LIST), None):
        pointer = shelf.put(bytes(5 << 20), "t.parquet", media_type=PARQUET, annotations=note, blocks=blocks)
        artifact = resolve_artifact(pointer, allow=ALLOW, client=store, max_size=3 << 20)
        with pytest.raises(ArtifactTooLargeError, match="footer"):
            artifact.read_table(columns=["id"])
        if blocks is not None:
            with pytest.raises(ArtifactTooLargeError, match="footer"):
                artifact.open().read(1)
    assert store.requests == []


def test_any_range_of_a_parquet_file_is_verified_up_to_its_last_byte() -> None:
    """`open()` and `open_random` cross the border of blocks and footer as a file in memory does, in two requests."""
    shelf = Shelf()
    pointer = _put(shelf)
    for file in (_artifact(pointer, shelf.store).open(), _random(pointer, shelf.store)):
        memory, draw = io.BytesIO(DATA), random.Random(9)
        for _ in range(60):
            start, length = draw.randrange(len(DATA) + 5), draw.randrange(2 * BLOCK)
            assert (file.seek(start), file.read(length)) == (memory.seek(start), memory.read(length))
    store = BreakingStore(shelf.store, ())
    file = _random(pointer, store)
    assert store.requests == []
    file.seek(10)
    assert file.read(10) == DATA[10:20]
    file.seek(len(DATA) - 100)
    assert file.read() == DATA[-100:]
    assert len(store.requests) == 2


def test_a_file_of_5000_columns_gives_one_of_them() -> None:
    """A put of ours: its footer of megabytes is searched for the list, and one column comes back verified."""
    shelf = Shelf()
    numbers = np.arange(200)
    wide = pa.table({f"c{index}": numbers + index for index in range(5000)})
    pointer = ArtifactManager("results", prefix="runs", client=shelf.store).put_table("wide", wide)
    assert pointer.blocks is not None
    assert pointer.blocks["place"] == "footer"
    found = _artifact(pointer, shelf.store).read_table(columns=["c4711"])
    assert found.equals(wide.select(["c4711"]), check_metadata=True)
