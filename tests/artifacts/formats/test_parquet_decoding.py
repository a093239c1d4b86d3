"""Parquet from strangers: what unfolds stays below the limit, what cannot be decoded is said to be just that."""

from __future__ import annotations

import hashlib
import io
import pickle
import struct
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import support
from hypothesis import given, settings
from hypothesis import strategies as st
from support.shelf import ALLOW, Shelf

from stepout.artifacts import ArtifactManager, MemoryStore
from stepout.artifacts.formats.parquet_pages import read_pages
from stepout.artifacts.media_types import PARQUET
from stepout.artifacts.reading.tables import parquet
from stepout.artifacts.resolve import resolve_artifact
from stepout.schemas.errors import (
    ArtifactTooLargeError,
    ChecksumMismatchError,
    IntegrityError,
    StepoutError,
    UndecodableError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

MIB = 1 << 20
LIMIT = 4 * MIB
POOLS: list[Any] = []
"""Memory outlives the test that counted it, and its pool must outlive the memory."""


def _written(column: Any, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({"a": column}), sink, compression="zstd", write_page_checksum=True, **options)
    return sink.getvalue()


def _often(value: Any, times: int = 64) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array([0] * times, pa.int32()), pa.array([value]))


def _list_of(values: Any) -> pa.ListArray:
    return pa.ListArray.from_arrays(pa.array([0, len(values)], pa.int32()), values)


TEXT = "x" * MIB
BOMBS: dict[str, Callable[[], bytes]] = {
    "a long text in a dictionary": lambda: _written(_often(TEXT), store_schema=False),
    "the same in a list": lambda: _written(_list_of(_often(TEXT)), store_schema=False),
    "the same in a struct": lambda: _written(pa.StructArray.from_arrays([_often(TEXT)], ["s"]), store_schema=False),
    "long bytes in a dictionary": lambda: _written(_often(TEXT.encode()), store_schema=False),
    "wide values in a dictionary": lambda: _written(
        pa.DictionaryArray.from_arrays(
            pa.array([0] * 64, pa.int32()), pa.array([TEXT.encode()], pa.binary(MIB))
        ), store_schema=False),
    "prefixes that repeat": lambda: _written(
        pa.array([TEXT] * 64), use_dictionary=False, column_encoding={"a": "DELTA_BYTE_ARRAY"}),
    "compressed text": lambda: _written(pa.array([TEXT] * 64), use_dictionary=False),
    "compressed numbers": lambda: _written(pa.array(memoryview(bytes(64 * MIB)).cast("q")), use_dictionary=False),
    "runs of numbers": lambda: _written(pa.array(memoryview(bytes(64 * MIB)).cast("q"))),
    "runs of nulls": lambda: _written(pa.nulls(8 * MIB, pa.int64())),
    "nulls in one list": lambda: _written(_list_of(pa.nulls(8 * MIB, pa.int8()))),
    "nulls of no type in one list": lambda: _written(_list_of(pa.nulls(8 * MIB))),
}  # fmt: skip


@pytest.fixture(scope="module")
def bombs() -> dict[str, bytes]:
    """Each file, made when it is first asked for."""
    return {}


@pytest.mark.parametrize("case", BOMBS)
def test_what_unfolds_stays_below_the_limit(
    shelf: Shelf, bombs: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    """Read whole, in ranges, or filtered: an error that names the limit, and little more than it was allocated."""
    data = bombs.setdefault(case, BOMBS[case]())
    assert len(data) < MIB // 4
    monkeypatch.setattr(parquet, "WHOLE_BELOW", 0)
    artifact = shelf.artifact(data, "t.parquet", media_type=PARQUET)
    for wanted in ({}, {"columns": ["a"], "verify": "pinned"}, {"filters": ~pc.field("a").is_null()}):
        pool = pa.default_memory_pool()
        counting = pa.proxy_memory_pool(pool)
        POOLS.append(counting)
        pa.set_memory_pool(counting)
        try:
            found = artifact.read_table(max_size=LIMIT, **wanted)
        except ArtifactTooLargeError as error:
            assert f"the limit here is {LIMIT:,}" in str(error)  # noqa: PT017 - a read without any rows is right as well
            assert "pass max_size=" in str(error)  # noqa: PT017
        else:
            assert ("filters" in wanted, found.num_rows) == (True, 0)
        finally:
            pa.set_memory_pool(pool)
        assert counting.max_memory() < 4 * LIMIT


@pytest.mark.parametrize("case", ["a long text in a dictionary", "the same in a list", "prefixes that repeat"])
def test_what_fits_is_read_however_it_is_made(shelf: Shelf, bombs: dict[str, bytes], case: str) -> None:
    """With a higher limit, just below what a careful guess would allow, the table is the one that pyarrow reads."""
    data = bombs.setdefault(case, BOMBS[case]())
    artifact = shelf.artifact(data, "t.parquet", media_type=PARQUET)
    wanted = pq.read_table(pa.BufferReader(data))
    for limit in (wanted.nbytes + 1024, 4 * wanted.nbytes):
        found = artifact.read_table(max_size=limit)
        assert found.schema.equals(wanted.schema)
        assert found.equals(wanted)


def test_a_footer_that_claims_less_is_not_believed(shelf: Shelf) -> None:
    """The sizes in the footer are promises; those in the page headers are what the decoder goes by."""
    data = _written(pa.array([TEXT] * 64), use_dictionary=False, store_schema=False, write_statistics=False)
    size = pq.read_metadata(io.BytesIO(data)).row_group(0).total_byte_size
    claimed = data.replace(_zigzag(size), _zigzag(1 << 20 | size & 127))
    assert len(claimed) == len(data)
    footer = claimed[-8 - struct.unpack("<I", claimed[-8:-4])[0] :]
    assert pq.read_metadata(io.BytesIO(data[: -len(footer)] + footer)).row_group(0).total_byte_size < 2 * MIB
    artifact = shelf.artifact(data[: -len(footer)] + footer, "t.parquet", media_type=PARQUET)
    with pytest.raises(ArtifactTooLargeError, match="not decoded"):
        artifact.read_table(max_size=LIMIT)


def _zigzag(number: int) -> bytes:
    """A number as Thrift's compact protocol has it, in as many bytes as a size of some MiB takes."""
    number, found = number << 1, b""
    for last in (False, False, False, True):
        found += bytes([number & 127 | (0 if last else 128)])
        number >>= 7
    return found


# Undecodable, not damaged ---------------------------------------------------------------------------------------------


def _unreadable() -> bytes:
    """A file whose one page claims an encoding that does not exist, and whose checksums are right."""
    data = bytearray(_written(pa.array(range(1000)), use_dictionary=False, write_statistics=False))
    position = data.index(b"\x15\x00\x15", 4)
    data[position + 1] = 0x7E
    return bytes(data)


@pytest.mark.parametrize("wanted", [{}, {"columns": ["a"]}, {"filters": [("a", ">", 1)]}, {"verify": "pinned"}])
@pytest.mark.parametrize("limit", [100 * MIB, 8100])
def test_what_the_decoder_does_not_like_is_no_damage(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, wanted: dict[str, Any], limit: int
) -> None:
    """The bytes are those that were written: not an ``IntegrityError``, and not worth another try."""
    monkeypatch.setattr(parquet, "WHOLE_BELOW", 0)
    data = _unreadable()
    size = int.from_bytes(data[-8:-4], "little") + 8
    note = {"footerSize": size, "footerSha256": hashlib.sha256(data[-size:]).hexdigest(), "pageChecksums": True}
    pointer = shelf.put(data, "t.parquet", media_type=PARQUET, annotations={"parquet": note})
    artifact = resolve_artifact(pointer, allow=ALLOW, client=shelf.store)
    with pytest.raises(StepoutError) as caught:
        artifact.read_table(max_size=limit, **wanted)
    assert isinstance(caught.value, UndecodableError)
    assert not isinstance(caught.value, IntegrityError)
    assert (caught.value.retryable, caught.value.error_name) == (False, "Stepout.Undecodable")


def test_rows_are_counted_by_row_group(shelf: Shelf) -> None:
    """A footer that says 0 rows of a row group that has 6, as one in apache/parquet-testing: all readers have the 6."""
    data = _written(pa.array([7] * 6), store_schema=False, write_statistics=False)
    metadata = pq.read_metadata(io.BytesIO(data))
    assert metadata.num_rows == 6
    start = len(data) - 8 - struct.unpack("<I", data[-8:-4])[0]
    position = data.index(b"\x16\x0c", start)  # FileMetaData.num_rows comes before the row groups
    changed = data[: position + 1] + b"\x00" + data[position + 2 :]
    assert pq.read_metadata(io.BytesIO(changed)).num_rows == 0
    artifact = shelf.artifact(changed, "t.parquet", media_type=PARQUET)
    for wanted in ({}, {"columns": ["a"]}, {"filters": [("a", "==", 7)]}, {"verify": "pinned"}):
        assert artifact.read_table(**wanted)["a"].to_pylist() == [7] * 6


def test_damage_is_still_told_from_that(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte that is not the one that was written is an ``IntegrityError``, in a pinned read as well."""
    monkeypatch.setattr(parquet, "WHOLE_BELOW", 0)
    data = _written(pa.array(range(1000)), use_dictionary=False)
    artifact = shelf.damage(data, 6, 3, name="t.parquet", media_type=PARQUET)
    with pytest.raises(ChecksumMismatchError):
        artifact.read_table(verify="pinned")


@settings(max_examples=settings().max_examples * 2)
@given(st.binary(max_size=64), st.integers(0, 1 << 40))
def test_page_headers_of_any_bytes_end_in_numbers_or_a_value_error(data: bytes, values: int) -> None:
    """Nothing else leaves the parser, and it ends."""
    try:
        pages = read_pages(memoryview(data), values)
    except ValueError:
        return
    assert min(pages.size, pages.values, pages.dictionary, pages.largest) >= 0


# Datasets -------------------------------------------------------------------------------------------------------------

PROGRAM = """
import copy, io, pickle, sys
sys.path.insert(0, {tests!r})
import pyarrow as pa, pyarrow.parquet as pq
from support.shelf import Shelf
shelf, sink = Shelf(), io.BytesIO()
pq.write_table(pa.table({{"a": list(range(1000))}}), sink)
dataset = shelf.artifact(sink.getvalue(), "t.parquet", media_type="application/vnd.apache.parquet").dataset()
fragment = next(iter(dataset.get_fragments()))
refused = 0
for thing in [dataset, dataset.filesystem, dataset.replace_schema(dataset.schema)]:
    try:
        pickle.dumps(thing)
    except TypeError as error:
        assert "cannot be pickled" in str(error), error
        refused += 1
filtered = dataset.filter(pa.compute.field("a") > 1)
for way in (copy.copy, copy.deepcopy, lambda thing: pickle.loads(pickle.dumps(thing))):
    for thing in (dataset, fragment, filtered):
        try:
            way(thing)
        except (TypeError, ValueError):  # pyarrow's own, or ours
            refused += 1
print(refused, repr(dataset), dataset.files, dataset.filesystem.type_name, fragment.filesystem, fragment.path)
file = dataset.filesystem.open_input_file("artifact")
assert file.read() == sink.getvalue()
for way in (dataset.filesystem.delete_file, dataset.filesystem.create_dir, dataset.filesystem.open_output_stream):
    try:
        way("artifact/x")
    except PermissionError:
        pass
assert dataset.count_rows() == dataset.to_table().num_rows == 1000
"""


def test_no_dataset_ends_the_interpreter() -> None:
    """Its file system, files, fragments and pickles, in a process of their own: errors, no segmentation fault."""
    program = textwrap.dedent(PROGRAM).format(tests=str(Path(support.__file__).parent.parent))
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    assert int(run.stdout.split()[0]) >= 9, run.stdout  # how many of the copies pyarrow itself refuses may change
    assert "py::stepout" in run.stdout


def test_a_dataset_can_be_written_again(shelf: Shelf) -> None:
    """What reads it is closed; a put of a dataset reads it as often as it is asked for."""
    data = _written(pa.array(range(1000)))
    dataset = shelf.artifact(data, "t.parquet", media_type=PARQUET).dataset()
    manager = ArtifactManager(MemoryStore("results"))
    for name in ("first", "second"):
        pointer = manager.put_table(name, dataset)
        assert pointer.annotations is not None
        assert pointer.annotations["rows"] == 1000
    with pytest.raises(TypeError, match="Send the pointer"):
        pickle.dumps(dataset)
