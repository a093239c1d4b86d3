"""`open()`: a file like any other, that hashes what is read in order and never shows bytes of another version."""

from __future__ import annotations

import csv
import io
import zipfile
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.csv
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from support.shelf import ALLOW, BreakingStore, Shelf

from stepout.artifacts import reader as reader_module
from stepout.artifacts.reader import ArtifactReader
from stepout.artifacts.resolve import resolve_artifact
from stepout.schemas.errors import ArtifactChangedError, ArtifactNotFoundError, ChecksumMismatchError

if TYPE_CHECKING:
    from collections.abc import Callable

SIZE = 3000
steps = st.lists(
    st.one_of(
        st.tuples(st.just("read"), st.integers(-1, SIZE + 10)),
        st.tuples(st.just("readinto"), st.integers(0, SIZE + 10)),
        st.tuples(st.just("seek"), st.integers(0, SIZE + 100)),
        st.tuples(st.just("end"), st.integers(-SIZE, 10)),
        st.tuples(st.just("by"), st.integers(0, 500)),
        st.tuples(st.just("line"), st.just(0)),
    ),
    max_size=12,
)


def _do(file: Any, step: str, number: int) -> Any:
    if step == "read":
        return file.read(number)
    if step == "readinto":
        buffer = bytearray(number)
        count = file.readinto(buffer)
        return bytes(buffer[:count])
    if step == "line":
        return file.readline()
    whence = {"seek": io.SEEK_SET, "end": io.SEEK_END, "by": io.SEEK_CUR}[step]
    return file.seek(number, whence), file.tell()


@given(data=st.binary(max_size=SIZE), steps=steps, buffered=st.booleans(), window=st.sampled_from([1, 64, 1 << 20]))
def test_any_sequence_of_reads_and_seeks_equals_bytesio(
    data: bytes, steps: list[tuple[str, int]], buffered: bool, window: int
) -> None:
    """Whatever is read, skipped or sought, in whatever order, the answers are those of io.BytesIO."""
    model, artifact = io.BytesIO(data), Shelf().artifact(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader_module, "FIRST_WINDOW", window)
        patch.setattr(reader_module, "SKIP", window)
        with artifact.open() as file:
            target: Any = file if buffered else file.raw
            for step, number in steps:
                if step == "end" and number < -len(data):
                    continue
                assert _do(target, step, number) == _do(model, step, number)


@given(data=st.binary(min_size=1, max_size=SIZE), choice=st.data(), size=st.integers(1, SIZE))
def test_the_read_that_reaches_the_end_raises(data: bytes, choice: st.DataObject, size: int) -> None:
    """In-order reads of a damaged object raise at the end, and go on raising."""
    artifact = Shelf().damage(data, choice.draw(st.integers(0, len(data) - 1)))
    with artifact.open() as file:
        raw: Any = file.raw
        with pytest.raises(ChecksumMismatchError):
            list(iter(lambda: raw.read(size), b""))
        assert raw.verified_to == len(data)
        for again in (lambda: raw.read(1), raw.read, lambda: file.read(1)):
            raw.seek(0)
            with pytest.raises(ChecksumMismatchError):
                again()


def test_seeking_away_and_back_still_verifies(shelf: Shelf) -> None:
    """Readers that look at the end first and then read all are verified as well."""
    artifact = shelf.damage(b"0123456789" * 1000, 17)
    with artifact.open() as file:
        file.seek(-4, io.SEEK_END)
        assert file.read() == b"6789"  # pinned, not verified
        file.seek(0)
        with pytest.raises(ChecksumMismatchError):
            file.read()


def test_ranges_after_a_seek_are_pinned(shelf: Shelf) -> None:
    """Parts of two versions are never mixed: the first response pins the rest."""
    data = bytes(range(256)) * (16 << 10)
    pointer = shelf.put(data, etag=None)
    with resolve_artifact(pointer, allow=ALLOW, client=shelf.store).open() as file:
        file.seek(3 << 20)
        assert file.read(3) == data[:3]
        shelf.store.replace(pointer.key, bytes(len(data)))
        file.seek(1000)
        with pytest.raises(ArtifactChangedError):
            file.read(10)


def test_requests_follow_what_is_read(shelf: Shelf, breaking: Callable[..., BreakingStore]) -> None:
    """In order: one request. After a seek: windows that grow. A short skip reads on."""
    store = breaking()
    data = bytes(12 << 20)
    artifact = resolve_artifact(shelf.put(data), allow=ALLOW, client=store)
    with artifact.open() as file:
        assert store.requests == []  # nothing before the first read
        while file.read(1 << 20):
            pass
    assert [(start, stop) for start, stop, _ in store.requests] == [(0, None)]
    store.requests.clear()
    with artifact.open() as file:
        file.seek(4 << 20)
        file.read(100)
        file.seek(100, io.SEEK_CUR)
        while file.read(1 << 20):
            pass
    mib = 1 << 20
    assert [(start, stop) for start, stop, _ in store.requests] == [
        (4 * mib, 5 * mib),
        (5 * mib, 7 * mib),
        (7 * mib, 11 * mib),
        (11 * mib, None),
    ]


def test_a_skip_forward_within_the_stream_asks_for_nothing(
    shelf: Shelf, breaking: Callable[..., BreakingStore]
) -> None:
    """A gap of up to 256 KiB is read and hashed, so the checksum stays in reach."""
    store = breaking()
    artifact = resolve_artifact(shelf.put(bytes(2 << 20)), allow=ALLOW, client=store)
    raw: Any = artifact.open().detach()
    raw.read(10)
    raw.seek(200_000)
    raw.read(10)
    assert len(store.requests) == 1
    assert raw.verified_to == 200_010
    raw.seek(0)
    raw.read(10)
    assert len(store.requests) == 2
    raw.close()


def test_a_skip_over_several_blocks_reads_them(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks that a skip passes are hashed as if they had been read."""
    monkeypatch.setattr(reader_module, "SKIP", 4 << 20)
    artifact = shelf.damage(bytes(3 << 20), 2 << 20)
    with artifact.open() as file:
        raw: Any = file.raw
        raw.read(10)
        raw.seek((3 << 20) - 5)
        with pytest.raises(ChecksumMismatchError):
            raw.read(5)


def test_broken_connections_are_taken_up(shelf: Shelf, breaking: Callable[..., BreakingStore]) -> None:
    """A file that is being read does not notice."""
    data = bytes(range(256)) * 100
    artifact = resolve_artifact(shelf.put(data), allow=ALLOW, client=breaking(1000))
    with artifact.open() as file:
        assert b"".join(iter(lambda: file.read(777), b"")) == data


def test_an_empty_object_is_asked_for_too(shelf: Shelf) -> None:
    """Zero bytes may be missing, or no longer zero."""
    artifact = shelf.artifact(b"")
    assert artifact.open().read() == b""
    assert artifact.open().read(10) == b""
    shelf.store.delete("runs/a.bin")
    for size in (-1, 1):
        with pytest.raises(ArtifactNotFoundError):
            artifact.open().read(size)


def test_zip_pil_csv_and_pyarrow_read_it(shelf: Shelf) -> None:
    """What reads files reads it."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.txt", "hello" * 1000)
    with shelf.artifact(sink.getvalue()).open() as file, zipfile.ZipFile(file) as archive:
        assert archive.read("a.txt") == b"hello" * 1000
    sink = io.BytesIO()
    Image.new("L", (10, 10)).save(sink, "PNG")
    with shelf.artifact(sink.getvalue()).open() as file:
        assert Image.open(file).size == (10, 10)
    text = b"id,score\r\n1,0.5\r\n2,0.25\r\n"
    with io.TextIOWrapper(shelf.artifact(text).open(), newline="") as lines:
        assert list(csv.DictReader(lines))[1] == {"id": "2", "score": "0.25"}
    with shelf.artifact(text).open() as file:
        assert pa.csv.read_csv(file).num_rows == 2
    with shelf.artifact(text).open() as file:
        assert list(file) == text.splitlines(keepends=True)


def test_it_is_a_well_behaved_raw_file(shelf: Shelf) -> None:
    """Names, modes, bad seeks and closed files are as io has them."""
    file = shelf.artifact(b"12345").open()
    raw: Any = file.raw
    assert isinstance(raw, ArtifactReader)
    assert (file.name, file.mode, file.readable(), file.seekable(), file.writable()) == (
        "s3://results/runs/a.bin",
        "rb",
        True,
        True,
        False,
    )
    for offset, whence in ((-1, 0), (0, 7)):
        with pytest.raises(ValueError, match=r"seek|whence"):
            raw.seek(offset, whence)
    file.close()
    for use in (raw.tell, raw.readall, lambda: raw.seek(0), lambda: raw.readinto(bytearray(1)), raw.read):
        with pytest.raises(ValueError, match="closed"):
            use()
    file.close()
