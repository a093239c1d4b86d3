"""The writer of ``open()``: committed when closed, or nothing at all."""

from __future__ import annotations

import contextlib
import csv
import gc
import gzip
import io
import logging
import shutil
import tarfile
import threading
import wave
import zipfile
from typing import TYPE_CHECKING, Any, Literal

import pytest

from stepout.artifacts import ArtifactManager, MemoryStore, TransferSettings
from stepout.schemas.errors import ArtifactExistsError, ConfigurationError, StoreError, StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

LARGE = 30 << 20


class JobError(Exception):
    """What a job raises."""


@pytest.fixture
def store() -> MemoryStore:
    """An empty bucket."""
    return MemoryStore("results")


@pytest.fixture
def manager(store: MemoryStore) -> ArtifactManager:
    """A manager whose uploads become multipart early."""
    return ArtifactManager(store, settings=TransferSettings(memory=16 << 20))


def test_what_is_written_is_committed_when_the_block_ends(manager: ArtifactManager, store: MemoryStore) -> None:
    """Before the end nothing is visible; after it the pointer is there."""
    with manager.open("a", "wb", media_type="text/csv") as writer:
        assert (writer.writable(), writer.readable(), writer.seekable()) == (True, False, False)
        assert writer.write(b"a,b\n") == 4
        writer.flush()
        assert writer.tell() == 4
        assert store.keys() == []
        with pytest.raises(ConfigurationError, match="not closed"):
            _ = writer.pointer
        assert "open, 4 bytes" in repr(writer)
    assert store.read(writer.pointer.key) == b"a,b\n"
    assert writer.pointer == manager.pointers["a"]
    assert writer.pointer.key.endswith("/a.csv")
    assert "committed" in repr(writer)


def test_large_and_small_writes_arrive_in_order(manager: ArtifactManager, store: MemoryStore) -> None:
    """Writes of any size are one stream of bytes."""
    pieces = [bytes([n % 251]) * size for n, size in enumerate([1, 0, 7, 1 << 20, 3, 9 << 20, 5, 1 << 16] * 3)]
    with manager.open("a") as writer:
        for piece in pieces:
            writer.write(piece)
    assert store.read(writer.pointer.key) == b"".join(pieces)


def test_an_empty_writer_makes_an_empty_artifact(manager: ArtifactManager) -> None:
    """Opening and closing is enough."""
    with manager.open("a", suffix=".json") as writer:
        pass
    assert (writer.pointer.size, writer.pointer.media_type) == (0, "application/json")


@pytest.mark.parametrize("size", [0, 10, LARGE])
def test_an_exception_leaves_nothing(manager: ArtifactManager, store: MemoryStore, size: int) -> None:
    """The exception leaves the block unchanged; no object, no upload, and the name is free."""

    def job() -> None:
        with manager.open("a") as writer:
            writer.write(bytes(size))
            raise JobError

    with pytest.raises(JobError):
        job()
    assert store.keys() == store.open_uploads == []
    manager.put("a", b"x")


def test_an_interruption_leaves_nothing(manager: ArtifactManager, store: MemoryStore) -> None:
    """Ctrl-C is no Exception, and aborts all the same."""

    def job() -> None:
        with manager.open("a") as writer:
            writer.write(bytes(LARGE))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        job()
    assert store.keys() == store.open_uploads == []


def test_a_forgotten_writer_never_commits(manager: ArtifactManager, store: MemoryStore) -> None:
    """The garbage collector aborts what was not closed."""
    manager.open("a").write(bytes(LARGE))
    manager.open("b", "w").write("x")
    gc.collect()
    assert store.keys() == store.open_uploads == []
    assert manager.unfinished == ["a", "b"]
    manager.put("a", b"x")
    manager.put("b", b"x")
    assert manager.unfinished == []


def test_closing_twice_is_fine_and_writing_after_is_not(manager: ArtifactManager) -> None:
    """As with any file."""
    writer = manager.open("a")
    writer.close()
    writer.close()
    writer.abort()
    assert writer.pointer.size == 0
    for act in (lambda: writer.write(b"x"), writer.flush):
        with pytest.raises(ValueError, match="closed"):
            act()


def test_an_aborted_writer_has_no_pointer(manager: ArtifactManager, store: MemoryStore) -> None:
    """``abort()`` is final and idempotent, and may come from another thread."""
    writer = manager.open("a")
    writer.write(bytes(LARGE))
    thread = threading.Thread(target=writer.abort)
    thread.start()
    thread.join()
    writer.abort()
    writer.close()
    with pytest.raises(ConfigurationError, match="was aborted"):
        _ = writer.pointer
    with pytest.raises(ValueError, match="closed"):
        writer.write(b"x")
    assert "aborted" in repr(writer)
    assert store.keys() == store.open_uploads == []


def test_what_is_no_bytes_is_refused_and_the_writer_lives(manager: ArtifactManager, store: MemoryStore) -> None:
    """A TypeError for text, as from any binary file; what came before is kept."""
    with manager.open("a") as writer:
        writer.write(b"x")
        with pytest.raises(TypeError):
            writer.write("text")  # type: ignore[arg-type]  # the wrong type is the point
        writer.write(b"y")
    assert store.read(writer.pointer.key) == b"xy"


def test_a_store_that_fails_ends_the_writer() -> None:
    """The store's error comes from the write or the commit, and the name is free again."""

    class Failing(MemoryStore):
        def put_part(self, *_: Any, **__: Any) -> Any:
            """Fail."""
            raise StoreError("no")

        def put(self, *_: Any, **__: Any) -> Any:
            """Fail."""
            raise StoreUnavailableError("no")

    store = Failing("results")
    manager = ArtifactManager(store, settings=TransferSettings(memory=16 << 20))

    def job(size: int) -> None:
        with manager.open("a") as writer:
            for _ in range(0, size, 1 << 20):
                writer.write(bytes(1 << 20))

    for size in (1, 200 << 20):
        with pytest.raises(StoreError, match="no"):
            job(size)
    assert store.open_uploads == []
    assert manager.pointers == {}


def test_only_writing_is_offered(manager: ArtifactManager) -> None:
    """Reading, appending and updating are refused; the builtin's keyword is understood."""
    for kind in ("rb", "ab", "r+b", "x"):
        with pytest.raises(ConfigurationError, match="expected 'wb' or 'w'"):
            manager.open("a", kind)  # type: ignore[call-overload]  # the wrong value is the point
    with manager.open("a", mode="w") as writer:  # type: ignore[call-overload]  # as the builtin has it
        writer.write("é")
    assert writer.pointer.size == 2


def test_overwriting_is_an_option_of_open(manager: ArtifactManager, store: MemoryStore) -> None:
    """``mode="overwrite"`` replaces; without it the name is taken."""
    manager.put("a", b"x")
    with pytest.raises(ArtifactExistsError):
        manager.open("a")
    with manager.open("a", mode="overwrite") as writer:
        writer.write(b"y")
    assert store.read(writer.pointer.key) == b"y"


# Text --------------------------------------------------------------------------------------------------------------


def test_text_is_utf8_with_newlines_as_written(manager: ArtifactManager, store: MemoryStore) -> None:
    """``open(name, "w")`` gives the same bytes on every system."""
    with manager.open("a", "w") as writer:
        writer.write("é\n")
        csv.writer(writer).writerow(["a", "b"])
    assert store.read(writer.pointer.key) == b"\xc3\xa9\na,b\r\n"
    assert writer.pointer.media_type == "text/plain; charset=utf-8"


def test_an_exception_leaves_no_text(manager: ArtifactManager, store: MemoryStore) -> None:
    """Text that waits in a buffer is not committed either, nor after an explicit abort."""

    def job() -> None:
        with manager.open("a", "w") as writer:
            writer.write("x")
            raise JobError

    with pytest.raises(JobError):
        job()
    text = manager.open("a", "w")
    text.write("x")
    text.abort()
    del text
    gc.collect()
    assert store.keys() == []


def _fail() -> None:
    raise JobError


# Closed while an exception is under way ------------------------------------------------------------------------------


def _closed_in_a_handler(writer: Any) -> None:
    try:
        _fail()
    except JobError:
        writer.close()


def _closed_in_a_finally_clause(writer: Any) -> None:
    with contextlib.suppress(JobError):
        try:
            _fail()
        finally:
            writer.close()


def _block_in_a_handler(writer: Any) -> None:
    try:
        _fail()
    except JobError:
        with writer:
            pass


def _stack_closed_in_a_handler(writer: Any) -> None:
    stack = contextlib.ExitStack()
    stack.enter_context(writer)
    try:
        _fail()
    except JobError:
        stack.close()


def _helper_in_a_handler(writer: Any) -> None:
    try:
        _fail()
    except JobError:
        with contextlib.closing(writer):
            pass


def _closed_in_a_group_handler(writer: Any) -> None:
    try:
        raise ExceptionGroup("", [JobError()])
    except* JobError:
        writer.close()


def _closed_in_an_exit_that_handles(writer: Any) -> None:
    class Handles:
        def __enter__(self) -> None: ...

        def __exit__(self, *_: object) -> bool:
            _closed_in_a_handler(writer)
            return True

    with Handles():
        _fail()


COMMITS = [_block_in_a_handler, _stack_closed_in_a_handler]


@pytest.mark.parametrize("kind", ["wb", "w"])
@pytest.mark.parametrize("close", COMMITS)
def test_a_block_that_ends_well_commits_whatever_is_being_handled(
    manager: ArtifactManager, store: MemoryStore, close: Callable[[Any], None], kind: Any
) -> None:
    """The clean end of a block says that all is written, inside an ``except`` clause as anywhere else."""
    writer = manager.open("a", kind)
    writer.write(b"x" if kind == "wb" else "x")
    close(writer)
    assert store.read(manager.pointers["a"].key) == b"x"
    assert manager.unfinished == []


def _own_block(writer: Any) -> None:
    with contextlib.suppress(JobError), writer:
        _fail()


def _closing(writer: Any) -> None:
    with contextlib.suppress(JobError), contextlib.closing(writer):
        _fail()


def _callback(writer: Any) -> None:
    with contextlib.suppress(JobError), contextlib.ExitStack() as stack:
        stack.callback(writer.close)
        _fail()


def _entered_by_a_stack(writer: Any) -> None:
    with contextlib.suppress(JobError), contextlib.ExitStack() as stack:
        stack.enter_context(writer)
        _fail()


def _buffered(writer: Any) -> None:
    with contextlib.suppress(JobError), io.BufferedWriter(writer):
        _fail()


def _generator(writer: Any) -> None:
    def rows() -> Generator[int, None, None]:
        with writer:
            yield 1
            yield 2

    for _ in (made := rows()):
        break
    made.close()


def _generator_that_wraps(writer: Any) -> None:
    def rows() -> Generator[int, None, None]:
        with contextlib.closing(writer):
            yield 1

    next(made := rows())
    made.close()


LOSES = [
    _own_block,
    _closing,
    _callback,
    _entered_by_a_stack,
    _buffered,
    _generator,
    _generator_that_wraps,
    _closed_in_a_handler,
    _closed_in_a_finally_clause,
    _helper_in_a_handler,
    _closed_in_a_group_handler,
    _closed_in_an_exit_that_handles,
]


@pytest.mark.parametrize("leave", LOSES)
def test_what_an_exception_kept_from_its_commit_stays_unfinished(
    manager: ArtifactManager, store: MemoryStore, leave: Callable[[Any], None]
) -> None:
    """What may be cut short by an exception makes no half file, and is not forgotten until the name is written."""
    writer = manager.open("a")
    writer.write(b"x")
    leave(writer)
    assert (store.keys(), store.open_uploads, manager.unfinished) == ([], [], ["a"])
    manager.put("a", b"y")
    assert manager.unfinished == []


@pytest.mark.parametrize("leave", LOSES)
def test_a_job_may_do_without_what_was_lost(manager: ArtifactManager, leave: Callable[[Any], None]) -> None:
    """``abort()`` says so, before or after the writing ended."""
    writer = manager.open("a")
    leave(writer)
    writer.abort()
    assert manager.unfinished == []
    manager.close()


def test_text_in_a_block_that_an_exception_left_is_unfinished(manager: ArtifactManager, store: MemoryStore) -> None:
    """The text writer says so as the binary one does, and its ``abort()`` waives it."""
    writer = manager.open("a", "w")
    _own_block(writer)
    assert (store.keys(), manager.unfinished) == ([], ["a"])
    writer.abort()
    assert manager.unfinished == []


# Other people's writers --------------------------------------------------------------------------------------------


def _text_wrapper(file: Any) -> None:
    with io.TextIOWrapper(file, encoding="utf-8") as text:
        text.write("x" * 100)
        raise JobError


def _zip(file: Any) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a", bytes(100))
        raise JobError


def _parquet(file: Any) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({"a": [1]})
    with pq.ParquetWriter(file, table.schema) as parquet:
        parquet.write_table(table)
        raise JobError


@pytest.mark.parametrize("write", [_text_wrapper, _zip, _parquet])
def test_a_wrapper_that_closes_on_an_exception_commits_nothing(
    manager: ArtifactManager, store: MemoryStore, write: Callable[[Any], None]
) -> None:
    """Wrappers close their file on the way out, exception or not: that is no commit."""

    def job() -> None:
        with manager.open("a") as writer:
            write(writer)

    with pytest.raises(JobError):
        job()
    assert store.keys() == store.open_uploads == []


def test_a_wrapper_without_a_block_of_its_own_commits_nothing(
    manager: ArtifactManager, store: MemoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    """``with TextIOWrapper(manager.open(…))`` aborts too, and the log says so."""
    with caplog.at_level(logging.WARNING), pytest.raises(JobError):
        _text_wrapper(manager.open("a"))
    assert store.keys() == []
    assert "nothing is kept" in caplog.text


def test_an_exception_that_is_handled_inside_the_block_is_no_failure(
    manager: ArtifactManager, store: MemoryStore
) -> None:
    """What counts is what leaves the block; closing inside a handler waits for its end."""
    with manager.open("a") as writer:
        try:
            _fail()
        except JobError:
            writer.write(b"handled")
            writer.close()
    assert store.read(writer.pointer.key) == b"handled"


def test_writing_while_an_older_exception_is_handled_commits(manager: ArtifactManager, store: MemoryStore) -> None:
    """A report that is written inside an ``except`` block is committed."""
    try:
        _fail()
    except JobError:
        with manager.open("a") as writer:
            writer.write(b"report")
        loose = manager.open("b")
        loose.write(b"report")
        loose.close()
    assert [store.read(pointer.key) for pointer in (writer.pointer, loose.pointer)] == [b"report"] * 2


def test_the_usual_writers_write_what_can_be_read_back(manager: ArtifactManager, store: MemoryStore) -> None:
    """numpy, Pillow, pyarrow, csv and zipfile take the writer for a file."""
    import numpy as np
    import pandas as pd
    import polars as pl
    import pyarrow as pa
    import pyarrow.parquet as pq
    from PIL import Image

    def content(name: str) -> pa.BufferReader:
        return pa.BufferReader(store.read(manager.pointers[name].key))

    numbers = np.arange(1000.0).reshape(10, 100)[:, ::2]
    with manager.open("array", suffix=".npy") as writer:
        np.save(writer, numbers)
    with manager.open("image", suffix=".png") as writer:
        Image.new("RGB", (5, 4), "red").save(writer, format="PNG")
    with (
        manager.open("table", suffix=".parquet") as writer,
        pq.ParquetWriter(writer, pa.schema({"a": pa.int64()})) as pw,
    ):
        pw.write_table(pa.table({"a": [1, 2, 3]}))
    with manager.open("rows", suffix=".csv") as writer, io.TextIOWrapper(writer, newline="") as text:
        csv.writer(text).writerow(["a", 1])
    with manager.open("frame", suffix=".parquet") as writer:
        pd.DataFrame({"a": [1]}).to_parquet(writer)
    with manager.open("sunk", suffix=".parquet") as writer:
        pl.LazyFrame({"a": [1]}).sink_parquet(writer)
    with manager.open("unsinkable") as writer, pytest.raises(io.UnsupportedOperation, match="seek"):
        Image.new("RGB", (5, 4)).save(writer, format="TIFF")
    with manager.open("archive", suffix=".zip") as writer, zipfile.ZipFile(writer, "w") as archive:
        archive.writestr("a/b.txt", "x")
    assert np.array_equal(np.load(io.BytesIO(content("array").read())), numbers)
    assert Image.open(io.BytesIO(content("image").read())).size == (5, 4)
    assert pq.read_table(content("table")).to_pydict() == {"a": [1, 2, 3]}
    assert pq.read_table(content("frame")).to_pydict() == pq.read_table(content("sunk")).to_pydict() == {"a": [1]}
    assert content("rows").read() == b"a,1\r\n"
    assert zipfile.ZipFile(io.BytesIO(content("archive").read())).read("a/b.txt") == b"x"
    assert manager.pointers["table"].media_type == "application/vnd.apache.parquet"


# As io has it -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["wb", "w"])
@pytest.mark.parametrize(
    "use",
    [
        "readable", "seekable", "writable", "isatty", "tell", "flush", "fileno", "write", "seek", "truncate", "read",
        "readline", "__enter__", "__iter__", "writelines",
    ],
)  # fmt: skip
def test_a_closed_writer_raises_valueerror_wherever_a_file_does(
    manager: ArtifactManager, use: str, kind: Literal["wb", "w"]
) -> None:
    """Committed or aborted, it answers nothing about itself any more, as closed files do."""
    committed, aborted = manager.open("a", kind), manager.open("b", kind)
    committed.close()
    aborted.abort()
    content = "x" if kind == "w" else b"x"
    arguments = {"write": (content,), "writelines": ([content],), "seek": (0,)}.get(use, ())
    for writer in (committed, aborted):
        assert writer.closed
        with pytest.raises(ValueError, match=r"closed|not |fileno|truncate|seek|read"):
            getattr(writer, use)(*arguments)


@pytest.mark.parametrize("kind", ["wb", "w"])
def test_what_a_forward_only_writer_cannot_do_is_unsupported(
    manager: ArtifactManager, kind: Literal["wb", "w"]
) -> None:
    """Seeking, cutting and reading raise what io says for it, and the writer lives."""
    with manager.open("a", kind) as writer:
        assert (writer.mode, writer.name, writer.closed) == (kind, "a", False)
        assert (writer.readable(), writer.writable(), writer.seekable(), writer.isatty()) == (False, True, False, False)
        for refused in (writer.fileno, writer.read, writer.readline, writer.truncate, lambda: writer.seek(0)):
            with pytest.raises(io.UnsupportedOperation):
                refused()
    assert writer.pointer.size == 0


FRAMES = bytes(range(200)) * 10


def _gzip(file: Any) -> None:
    with gzip.GzipFile(fileobj=file) as packed:
        packed.write(FRAMES)


def _wave(file: Any) -> None:
    with wave.open(file) as sound:  # its mode says "wb"
        sound.setparams((1, 2, 8000, len(FRAMES) // 2, "NONE", ""))
        for start in range(0, len(FRAMES), 100):
            sound.writeframesraw(FRAMES[start : start + 100])


def _wave_at_once(file: Any) -> None:
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(FRAMES)


def _zip_streamed(file: Any) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a", "w") as member:
        shutil.copyfileobj(io.BytesIO(FRAMES), member, 100)


def _tar(mode: str) -> Callable[[Any], None]:
    def write(file: Any) -> None:
        with tarfile.open(fileobj=file, mode=mode) as archive:  # type: ignore[call-overload]  # any mode
            member = tarfile.TarInfo("a")
            member.size = len(FRAMES)
            archive.addfile(member, io.BytesIO(FRAMES))

    return write


def _untar(file: io.BytesIO) -> bytes:
    with tarfile.open(fileobj=file) as archive:
        member = archive.extractfile("a")
        assert member is not None
        return bytes(member.read())


def _unwave(file: io.BytesIO) -> bytes:
    with wave.open(file) as sound:
        return bytes(sound.readframes(sound.getnframes()))


STREAMS: list[tuple[Callable[[Any], None], Callable[[io.BytesIO], bytes]]] = [
    (_gzip, lambda file: gzip.decompress(file.read())),
    (_wave, _unwave),
    (_wave_at_once, _unwave),
    (_zip_streamed, lambda file: zipfile.ZipFile(file).read("a")),
    *((_tar(mode), _untar) for mode in ("w", "w|", "w:gz", "w|xz", "x:bz2")),
]


@pytest.mark.filterwarnings("ignore:GzipFile was opened for writing:FutureWarning")  # Python's, where no mode is said
@pytest.mark.parametrize(("write", "read"), STREAMS)
def test_the_standard_librarys_writers_take_it_for_a_file_to_write(
    manager: ArtifactManager, store: MemoryStore, write: Callable[[Any], None], read: Callable[[io.BytesIO], bytes]
) -> None:
    """Those that look at ``mode`` find that it is one to write, and what they write can be read back."""
    with manager.open("a") as writer:
        write(writer)
    assert read(io.BytesIO(store.read(writer.pointer.key))) == FRAMES


def test_sound_of_unknown_length_fails_instead_of_being_stored_wrongly(
    manager: ArtifactManager, store: MemoryStore
) -> None:
    """The wave module wants to go back to its header then: an error, and nothing is kept."""

    def job() -> None:
        with manager.open("a") as writer, wave.open(writer, "wb") as sound:
            sound.setparams((1, 2, 8000, 0, "NONE", ""))
            sound.writeframes(FRAMES)
            sound.writeframes(FRAMES)

    with pytest.raises(io.UnsupportedOperation, match="seek"):
        job()
    assert store.keys() == []
