"""`open()`: a file like any other, that hashes what is read in order and never shows bytes of another version."""

from __future__ import annotations

import csv
import dataclasses
import errno
import gzip
import io
import shutil
import tarfile
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from support.shelf import ALLOW, BreakingStore, DamagingStore, Shelf

from stepout.artifacts.checksums import pure_crc64nvme
from stepout.artifacts.reading.pinned_object import PinnedObject, Verifier, verifier_for
from stepout.artifacts.reading.ranges import reader as reader_module
from stepout.artifacts.reading.ranges.reader import ArtifactReader
from stepout.artifacts.resolve import resolve_artifact
from stepout.schemas.errors import ArtifactChangedError, ArtifactNotFoundError, ChecksumMismatchError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from stepout.artifacts.reading.artifact import Artifact

MIB = 1 << 20
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


def unlisted(artifact: Artifact) -> io.BufferedReader:
    """Open an artifact as ``open()`` opens one that is too large to be read whole and has no list of blocks."""
    pinned = PinnedObject(artifact.access, artifact.pointer)
    return io.BufferedReader(ArtifactReader(pinned, verifier_for(artifact.pointer, verify=True)), MIB)


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
    with unlisted(artifact) as file:
        raw: Any = file.raw
        with pytest.raises(ChecksumMismatchError):
            list(iter(lambda: raw.read(size), b""))
        assert raw.verified_to == len(data)
        for again in (lambda: raw.read(1), raw.read, lambda: file.read(1)):
            raw.seek(0)
            with pytest.raises(ChecksumMismatchError):
                again()


def test_a_small_object_is_verified_wherever_the_first_read_begins(shelf: Shelf) -> None:
    """An object of one block has no list: the first read of it takes all of it, and refuses any flipped bit."""
    with shelf.damage(b"0123456789" * 1000, 17).open() as file:
        file.seek(-4, io.SEEK_END)
        with pytest.raises(ChecksumMismatchError):
            file.read()


def test_seeking_away_and_back_still_verifies(shelf: Shelf) -> None:
    """Of an object without a list, readers that look at the end first and then read all are verified as well."""
    artifact = shelf.damage(b"0123456789" * 1000, 17)
    with unlisted(artifact) as file:
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


def _npy() -> bytes:
    sink = io.BytesIO()
    np.save(sink, np.arange(10))
    return sink.getvalue()


def _tar(mode: str) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode=mode) as archive:  # type: ignore[call-overload]  # any mode
        member = tarfile.TarInfo("a")
        member.size = 5
        archive.addfile(member, io.BytesIO(b"hello"))
    return sink.getvalue()


def _untar(file: Any, mode: str) -> bytes:
    with tarfile.open(fileobj=file, mode=mode) as archive:  # type: ignore[call-overload]  # any mode
        member = archive.extractfile(next(iter(archive)))
        assert member is not None
        return bytes(member.read())


def _copy(file: Any) -> bytes:
    sink = io.BytesIO()
    shutil.copyfileobj(file, sink, 3)
    return sink.getvalue()


@pytest.mark.parametrize(
    ("data", "read", "expected"),
    [
        (b"a,b\n1,2\n", lambda file: pd.read_csv(file).to_dict("list"), {"a": [1], "b": [2]}),
        (_npy(), lambda file: np.load(file).tolist(), list(range(10))),
        (b"12345678", _copy, b"12345678"),
        (b"12345678", lambda file: io.BufferedReader(file.raw, 3).read(), b"12345678"),
        *((_tar(f"w:{kind}"), lambda file: _untar(file, "r:*"), b"hello") for kind in ("", "gz", "bz2", "xz")),
        *((_tar(f"w:{kind}"), lambda file: _untar(file, "r|*"), b"hello") for kind in ("", "gz", "bz2", "xz")),
        (gzip.compress(b"hello"), lambda file: gzip.GzipFile(fileobj=file).read(), b"hello"),
    ],
    # Not their bytes: compressors write the time.
    ids=[
        "pandas",
        "numpy",
        "shutil",
        "BufferedReader",
        *(f"tarfile {mode} {kind}" for mode in ("r:*", "r|*") for kind in ("tar", "gz", "bz2", "xz")),
        "gzip",
    ],
)
def test_what_takes_files_takes_it(shelf: Shelf, data: bytes, read: Callable[[Any], object], expected: object) -> None:
    """pandas, numpy, shutil, gzip and tarfile, seeking or not."""
    with shelf.artifact(data).open() as file:
        assert read(file) == expected


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
    for refused in (lambda: raw.write(b"x"), raw.truncate, raw.fileno, lambda: raw.seek(0, 7), lambda: raw.seek(0, 3)):
        with pytest.raises(io.UnsupportedOperation):
            refused()
    odd: list[Any] = [1.5, "1", None]
    for offset in odd:
        with pytest.raises(TypeError):
            raw.seek(offset)
    nothing: Any = np.empty((0, 3))
    assert (raw.readinto(nothing), raw.readinto(bytearray()), raw.tell()) == (0, 0, 0)


@pytest.mark.parametrize("layer", ["buffered", "raw", "text"])
@pytest.mark.parametrize(("offset", "whence"), [(-1, 0), (-6, 1), (-6, 2), (-(1 << 40), 2)])
def test_a_seek_before_the_start_is_an_oserror_as_of_every_file(
    shelf: Shelf, tmp_path: Path, layer: str, offset: int, whence: int
) -> None:
    """``EINVAL``, which zipfile and others look for; the position stays, and the file can be read on."""
    (tmp_path / "a").write_bytes(b"12345")
    with shelf.artifact(b"12345").open() as ours, (tmp_path / "a").open("rb") as real:
        for file in (ours, real):
            target = {"buffered": file, "raw": file.raw, "text": file}[layer]
            target.read(2) if layer == "raw" else None
            before = target.tell()
            with pytest.raises(OSError, match=r"(?i)invalid argument|before the start") as caught:
                target.seek(offset, whence)
            assert caught.value.errno == errno.EINVAL
            assert target.tell() == before
            assert target.read(1) == b"12345"[before : before + 1]


@pytest.mark.parametrize("size", [0, 1, 5, 21])
def test_a_file_that_is_too_short_for_an_archive_is_told_as_every_file_is(shelf: Shelf, size: int) -> None:
    """What looks for an end that cannot be there raises its own error, not ours."""
    data = b"PK\5\6" + bytes(17)
    with shelf.artifact(data[:size]).open() as file:
        assert not zipfile.is_zipfile(file)
        with pytest.raises(zipfile.BadZipFile):
            zipfile.ZipFile(file)
        file.seek(0)
        assert not tarfile.is_tarfile(file)
        file.seek(0)
        with pytest.raises(OSError, match="identify"):
            Image.open(file)


@pytest.mark.parametrize(
    "use",
    [
        "readable", "seekable", "writable", "isatty", "tell", "fileno", "flush", "read", "readall", "readline",
        "readlines", "__enter__", "__iter__", "truncate", "peek", "read1", "seek", "readinto", "write",
    ],
)  # fmt: skip
def test_a_closed_reader_raises_valueerror_wherever_a_closed_file_does(shelf: Shelf, tmp_path: Path, use: str) -> None:
    """The answers of closed files are those of the operating system's, buffered, raw and as text."""
    (tmp_path / "a").write_bytes(b"12345")
    arguments = {"seek": (0,), "readinto": (bytearray(1),), "write": (b"x",)}.get(use, ())
    pairs = [(shelf.artifact(b"12345").open(), (tmp_path / "a").open("rb"))]
    pairs.append((pairs[0][0].raw, pairs[0][1].raw))  # type: ignore[arg-type]  # a raw file is closed with its buffer
    texts = (io.TextIOWrapper(shelf.artifact(b"12345").open()), (tmp_path / "a").open())
    for file in (*pairs[0], *texts):
        file.close()
        file.close()
        assert file.closed
    for pair in (*pairs, texts):
        ours, real = (_answer(file, use, arguments) for file in pair)
        assert ours == real


def _answer(file: Any, use: str, arguments: tuple[Any, ...]) -> object:
    try:
        return getattr(file, use)(*arguments)
    except ValueError:  # io.UnsupportedOperation is one
        return ValueError
    except (AttributeError, TypeError) as error:
        return type(error)


# Passes -----------------------------------------------------------------------------------------------------------


def _look_then_read_all(file: Any, half: int) -> bytes:
    file.read(half)
    file.seek(0)
    return bytes(file.read())


def _middle_then_read_all(file: Any, half: int) -> bytes:
    file.seek(half)
    file.read(10)
    file.seek(0)
    return bytes(file.read())


def _read_all_twice(file: Any, half: int) -> bytes:
    first = b"".join(iter(lambda: file.read(half), b""))
    file.seek(0)
    assert first == file.read()
    return first


def _look_twice_then_read_all(file: Any, half: int) -> bytes:
    for size in (half, half // 2):
        file.read(size)
        file.seek(0)
    return bytes(file.read())


def _look_look_back_and_read_on(file: Any, half: int) -> bytes:
    first = bytes(file.read(half))
    file.seek(0)
    file.read(10)
    file.seek(half)
    return first + bytes(file.read())


ANSWERS = [
    (_look_then_read_all, 0),
    (_look_then_read_all, 1),
    (_middle_then_read_all, 1),
    (_read_all_twice, 0),
    (_read_all_twice, 1),
    (_look_twice_then_read_all, 0),
    (_look_twice_then_read_all, 1),
    (_look_twice_then_read_all, 2),
    (_look_look_back_and_read_on, 0),  # the second look is never read on: nothing says what it should have been
    (_look_look_back_and_read_on, 2),
]


@pytest.mark.parametrize("position", [5, MIB + 5, 4 * MIB - 1])
@pytest.mark.parametrize(("read", "request_number"), ANSWERS)
def test_damage_in_any_pass_is_caught(
    shelf: Shelf, read: Callable[[Any, int], bytes], request_number: int, position: int
) -> None:
    """Reading from the start again starts the checksum anew, and what was read before is held against it."""
    data = bytes(range(256)) * (16 << 10)
    store = DamagingStore(shelf.store, request_number, position)
    with resolve_artifact(shelf.put(data), allow=ALLOW, client=store).open() as file:
        try:
            assert read(file, 2 * MIB) == data
        except ChecksumMismatchError:
            assert store.damaged
        else:
            assert not store.damaged  # what an answer had behind the place where its reader stopped harms nobody


@given(
    sizes=st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=4), max_size=5),
    request_number=st.integers(0, 6),
    position=st.integers(0, 99),
    algorithm=st.sampled_from(["sha256", "crc64nvme"]),
)
def test_passes_raise_exactly_where_damage_was_given(
    sizes: list[list[int]], request_number: int, position: int, algorithm: str
) -> None:
    """However often a file is begun anew, the last whole pass raises if, and only if, any pass gave damaged bytes."""
    data, shelf = bytes(range(100)), Shelf()
    pointer = shelf.put(data)
    if algorithm == "crc64nvme":
        pointer = dataclasses.replace(pointer, checksum={algorithm: f"{pure_crc64nvme(data):016x}"})
    store = DamagingStore(shelf.store, request_number, position)
    damaged = raised = False
    with unlisted(resolve_artifact(pointer, allow=ALLOW, client=store)) as file:
        raw: Any = file.raw
        try:
            for size in (number for each in (*sizes, [60, 60]) for number in (0, *each)):
                if not size:
                    raw.seek(0)
                    continue
                start = raw.tell()
                piece = bytearray(size)
                count = raw.readinto(piece)
                damaged |= piece[:count] != data[start : start + count]
        except ChecksumMismatchError:
            raised = True
    assert raised or not damaged
    if not raised:
        assert raw.verified_to == len(data)
    elif not damaged:  # the read that raises gives nothing: the damage was in it
        assert len(store.requests) == request_number + 1


def test_a_second_pass_costs_one_request_and_its_own_hash(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """In order, every byte is asked for and hashed once; from the start again, once more; without a check, never."""
    hashed = 0
    update = Verifier.update

    def counted(self: Verifier, piece: memoryview) -> None:
        nonlocal hashed
        hashed += len(piece)
        update(self, piece)

    monkeypatch.setattr(Verifier, "update", counted)
    size = 4 * MIB
    pointer = shelf.put(bytes(size))
    store = BreakingStore(shelf.store, ())
    for verify, look, expected in ((True, 0, size), (True, 2 * MIB, size + 2 * MIB), ("pinned", 2 * MIB, 0)):
        hashed = 0
        store.requests.clear()
        with resolve_artifact(pointer, allow=ALLOW, client=store, verify=verify).open() as file:  # type: ignore[arg-type]
            if look:
                file.read(look)
                file.seek(0)
            while file.read(100_000):
                pass
        assert hashed == expected
        assert store.requests[1:] == ([(0, None, pointer.etag)] if look else [])
