"""Where bytes come from, and what ends an upload: files that change, streams that break, interruptions, aborts."""

from __future__ import annotations

import gc
import hashlib
import io
import logging
import os
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from stepout.artifacts.memory import MemoryStore
from stepout.artifacts.process.servers import ServerState
from stepout.artifacts.s3.request_bodies import Views
from stepout.artifacts.store import ConflictError
from stepout.artifacts.store_writes import PartReceipt, WriteOptions
from stepout.artifacts.transfer.buffer_pool import BufferPool
from stepout.artifacts.transfer.multipart import Multipart
from stepout.artifacts.transfer.part_requests import PendingPart
from stepout.artifacts.transfer.plan import MIB, TransferSettings
from stepout.artifacts.transfer.progress import for_artifact
from stepout.artifacts.transfer.upload import Upload
from stepout.schemas.errors import (
    ArtifactChangedError,
    ConfigurationError,
    StoreError,
    StoreUnavailableError,
    TaskInterrupted,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepout.artifacts.transfer.sources import ByteSource

SETTINGS = TransferSettings(memory=16 * MIB, part_size=5 * MIB)
LARGE = os.urandom(11 * MIB + 7)


def upload(store: MemoryStore, **options: Any) -> Upload:
    """Return an upload to ``key``."""
    return Upload(store, "key", options=WriteOptions(), settings=SETTINGS, **options)


def is_clean(store: MemoryStore) -> None:
    """Assert that nothing came of it and nothing is left."""
    assert store.keys() == []
    assert store.open_uploads == []


# Files -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 10, 5 * MIB, 5 * MIB + 1, 11 * MIB])
def test_a_file_arrives_whole(tmp_path: Path, size: int) -> None:
    """From nothing to several parts; what fits in one part begins no multipart upload."""
    path, store = tmp_path / "file", MemoryStore()
    path.write_bytes(LARGE[:size])
    uploaded = upload(store).send_file(path)
    assert store.read("key") == LARGE[:size]
    assert uploaded.checksum["sha256"] == hashlib.sha256(LARGE[:size]).hexdigest()
    assert ("-" in (uploaded.etag or "")) == (size > 5 * MIB)
    assert store.open_uploads == []


class Meddling(MemoryStore):
    """A store that does something to the source when the first part, or the whole, arrives."""

    def __init__(self, meddle: Callable[[], object]) -> None:
        super().__init__()
        self._meddle: Callable[[], object] | None = meddle

    def start_upload(self, key: str, *, options: WriteOptions) -> str:
        """Meddle once."""
        meddle, self._meddle = self._meddle, None
        if meddle:
            meddle()
        return super().start_upload(key, options=options)


@pytest.mark.parametrize("change", ["grow", "shrink", "rewrite", "replace", "remove"])
def test_a_file_that_changes_while_it_is_read_is_an_error(tmp_path: Path, change: str) -> None:
    """Whatever is done to it, no mixture of two states becomes an artifact."""
    path, data = tmp_path / "file", os.urandom(40 * MIB)  # more than the memory, so reading waits for sending
    path.write_bytes(data)

    def meddle() -> None:
        if change == "grow":
            with path.open("ab") as file:
                file.write(b"more")
        elif change == "shrink":
            os.truncate(path, 39 * MIB)
        elif change == "rewrite":
            with path.open("r+b") as file:
                file.write(b"other")
            os.utime(path, ns=(1, 1))
        elif change == "replace":
            (tmp_path / "new").write_bytes(data)
            (tmp_path / "new").replace(path)
        else:
            path.unlink()

    store = Meddling(meddle)
    with pytest.raises(ArtifactChangedError, match="Nothing was stored"):
        upload(store).send_file(path)
    is_clean(store)


def test_a_missing_file_is_the_systems_own_error(tmp_path: Path) -> None:
    """Nothing is sent, and the error is the one that Python users know."""
    store = MemoryStore()
    with pytest.raises(FileNotFoundError, match="nowhere"):
        upload(store).send_file(tmp_path / "nowhere")
    is_clean(store)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_read_to_its_end(tmp_path: Path) -> None:
    """A pipe has no size to compare with; its end is its end."""
    path, store = tmp_path / "pipe", MemoryStore()
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(LARGE,))
    writer.start()
    upload(store).send_file(path)
    writer.join()
    assert store.read("key") == LARGE


def test_a_file_beyond_the_ceiling_is_refused_before_it_is_read(tmp_path: Path) -> None:
    """A sparse file of 100 GB does not fit in 10,000 parts of 5 MiB."""
    path, store = tmp_path / "file", MemoryStore()
    with path.open("wb") as file:
        file.truncate(100_000_000_000)
    with pytest.raises(ConfigurationError, match="Raise part_size"):
        upload(store).send_file(path)
    is_clean(store)


# Streams and buffers -----------------------------------------------------------------------------------------------


class ReadOnly:
    """A file object that has ``read`` alone."""

    def __init__(self, data: Any, chunk: int) -> None:
        self._data, self._chunk = data, chunk

    def read(self, size: int) -> Any:
        """Return less than was asked."""
        piece, self._data = self._data[: min(size, self._chunk)], self._data[min(size, self._chunk) :]
        return piece


def test_streams_may_give_less_than_asked() -> None:
    """Objects with ``read`` alone, in odd pieces."""
    store = MemoryStore()
    assert upload(store).send_stream(ReadOnly(LARGE, 777_777)).size == len(LARGE)
    assert store.read("key") == LARGE


def test_streams_that_break_the_rules_are_refused() -> None:
    """Text has no bytes; "nothing now" would be cut short; more than was asked for does not fit."""

    class Idle(io.RawIOBase):
        def readinto(self, _room: Any) -> None:
            return None

    class Generous:
        def read(self, size: int) -> bytes:
            return bytes(size + 1)

    store = MemoryStore()
    with pytest.raises(TypeError, match="binary mode"):
        upload(store).send_stream(ReadOnly("text", 2))
    with pytest.raises(BlockingIOError, match="pass one that blocks"):
        upload(store).send_stream(Idle())
    with pytest.raises(OSError, match="is at fault"):
        upload(store).send_stream(Generous())
    is_clean(store)


def test_buffers_of_any_kind_are_bytes() -> None:
    """Arrays, typed views and strided views."""
    import array

    numbers = array.array("d", range(1000))
    kinds: list[Any] = [numbers, memoryview(numbers), memoryview(bytes(range(100)))[::2], bytearray(b"x")]
    for number, data in enumerate(kinds):
        store = MemoryStore()
        one = upload(store)
        assert one.write(data) == memoryview(data).nbytes
        one.commit()
        Upload(store, "other", options=WriteOptions()).send_buffer(data)
        assert store.read("key") == store.read("other") == memoryview(data).tobytes(), number


def test_the_writer_may_reuse_its_buffer() -> None:
    """What was written is copied before ``write`` returns."""
    store, buffer = MemoryStore(), bytearray(MIB)
    one = upload(store)
    for number in range(12):
        buffer[:] = bytes([number]) * MIB
        one.write(buffer)
    one.commit()
    assert store.read("key") == b"".join(bytes([number]) * MIB for number in range(12))


class Slow(MemoryStore):
    """A store whose parts wait at a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.arrived = threading.Event()
        self.starting = threading.Event()

    def start_upload(self, key: str, *, options: WriteOptions) -> str:
        """Say that it began."""
        self.starting.set()
        return super().start_upload(key, options=options)

    def put_part(self, *args: Any, **options: Any) -> PartReceipt:
        """Wait at the gate."""
        self.arrived.set()
        assert self.gate.wait(60)
        return super().put_part(*args, **options)


def test_memory_is_bounded_whatever_is_written() -> None:
    """A writer that is faster than the store waits once the pool is empty."""
    store = Slow()
    one, written = upload(store), []

    def write() -> None:
        for _ in range(40):
            one.write(bytes(MIB))
            written.append(MIB)
        one.commit()

    writer = threading.Thread(target=write)
    writer.start()
    assert store.arrived.wait(60)
    writer.join(0.3)
    assert writer.is_alive()
    assert sum(written) <= SETTINGS.memory
    store.gate.set()
    writer.join(60)
    assert len(store.read("key")) == 40 * MIB


# Interruptions -----------------------------------------------------------------------------------------------------


class Breaking(io.RawIOBase):
    """A stream that raises after a while."""

    def __init__(self, error: BaseException, after: int) -> None:
        self._error, self._left = error, after

    def readable(self) -> bool:
        """It can be read."""
        return True

    def readinto(self, room: Any) -> int:
        """Give zeros, then raise."""
        if self._left <= 0:
            raise self._error
        self._left -= len(room)
        return len(room)


@pytest.mark.parametrize("after", [0, 2 * MIB, 30 * MIB])
@pytest.mark.parametrize("error", [ValueError("bad row"), KeyboardInterrupt(), TaskInterrupted()], ids=repr)
def test_an_exception_in_the_middle_leaves_nothing(error: BaseException, after: int) -> None:
    """Never completed on an exception, be it the user's, Ctrl-C or a signal's; the exception itself comes through."""
    store = MemoryStore()
    with pytest.raises(type(error)) as caught:
        upload(store).send_stream(Breaking(error, after))
    assert caught.value is error
    is_clean(store)


@pytest.mark.parametrize("size", [0, 100, 11 * MIB])
def test_abort_forgets_what_was_written(size: int) -> None:
    """At any stage, twice, and with every later call an error."""
    store = MemoryStore()
    one = upload(store)
    one.write(LARGE[:size])
    one.abort()
    one.abort()
    for call in (lambda: one.write(b"x"), one.commit, lambda: one.send_buffer(b"x"), lambda: one.send_buffer(LARGE)):
        with pytest.raises(StoreError, match="aborted"):
            call()
    is_clean(store)


def test_abort_from_another_thread_wakes_a_waiting_writer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that waits for memory raises, and nothing is left once the parts in flight have returned."""
    monkeypatch.setattr("stepout.artifacts.transfer.upload._ABORT_SECONDS", 600.0)
    store = Slow()
    one, raised = upload(store), []

    def write() -> None:
        try:
            one.send_stream(io.BytesIO(bytes(60 * MIB)))
        except StoreError as error:
            raised.append(str(error))

    writer = threading.Thread(target=write)
    writer.start()
    assert store.arrived.wait(60)
    threading.Timer(0.2, store.gate.set).start()
    one.abort()
    writer.join(60)
    assert "aborted" in raised[0]
    is_clean(store)


def test_abort_after_the_commit_does_nothing() -> None:
    """The artifact stays, and the upload takes no more bytes."""
    store = MemoryStore()
    one = upload(store)
    one.write(b"data")
    one.commit()
    one.abort()
    assert store.read("key") == b"data"
    with pytest.raises(StoreError, match="committed"):
        one.write(b"more")
    with pytest.raises(StoreError, match="committed"):
        one.commit()


def test_abort_while_the_only_request_is_under_way_is_an_error() -> None:
    """A small artifact may be there then, whole; but nobody is told of it."""

    class Aborting(MemoryStore):
        def put(self, key: str, *args: Any, **options: Any) -> Any:
            one.abort()
            return super().put(key, *args, **options)

    store = Aborting()
    one = upload(store)
    with pytest.raises(StoreError, match="aborted"):
        one.send_buffer(b"data")
    assert store.keys() in ([], ["key"])
    assert "s3://memory/key" in repr(one)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(("error", "tries"), [(ConflictError("409"), 3), (StoreUnavailableError("503"), 6)], ids=str)
def test_a_small_artifact_is_sent_as_often_as_the_policy_says(error: StoreError, tries: int) -> None:
    """It is in memory, so each try sends all of it; no other layer repeats it."""
    bodies: list[bytes] = []

    class Failing(MemoryStore):
        def put(self, *args: Any, **_options: Any) -> Any:
            bodies.append(b"".join(args[1]))
            raise error

    with pytest.raises(type(error)):
        upload(Failing()).send_buffer(b"data")
    assert bodies == [b"data"] * tries


def test_a_failed_part_reaches_the_writer() -> None:
    """The writer's own thread raises what the sender met, and says it again afterwards."""

    class Denying(MemoryStore):
        def put_part(self, *_args: Any, **_options: Any) -> PartReceipt:
            raise RefusedError("UploadPart s3://memory/key: access denied")

    store = Denying()
    with pytest.raises(RefusedError, match="access denied"):
        upload(store).send_stream(io.BytesIO(bytes(60 * MIB)))
    is_clean(store)


class RefusedError(StoreError):
    """A denial."""


def test_an_upload_that_cannot_be_removed_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The log names the rule that removes it; the original error comes through."""

    class Stubborn(MemoryStore):
        def abort_upload(self, *_args: Any) -> None:
            raise StoreUnavailableError("503")

        def complete_upload(self, *_args: Any, **_options: Any) -> Any:
            raise RefusedError("denied")

    with caplog.at_level(logging.WARNING, "stepout"), pytest.raises(RefusedError):
        upload(Stubborn()).send_buffer(LARGE)
    assert "AbortIncompleteMultipartUpload" in caplog.text


def test_a_faulty_progress_callback_does_not_cost_the_artifact(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged once and not called again."""
    calls: list[tuple[int, int | None]] = []

    def progress(done: int, total: int | None) -> None:
        calls.append((done, total))
        raise RuntimeError("a bug in a progress bar")

    store = MemoryStore()
    upload(store, progress=for_artifact(lambda _name, *call: progress(*call), "a")).send_buffer(LARGE)
    assert len(calls) == 1
    assert calls[0][1] == len(LARGE)
    assert "progress" in caplog.text


def test_progress_counts_every_byte_once() -> None:
    """It ends at the total; a stream's total is unknown."""
    calls: list[tuple[int, int | None]] = []
    upload(MemoryStore(), progress=lambda *call: calls.append(call)).send_buffer(LARGE)
    assert calls[-1] == (len(LARGE), len(LARGE))
    assert sorted(calls) == calls
    unknown: list[tuple[int, int | None]] = []
    upload(MemoryStore(), progress=lambda *call: unknown.append(call)).send_stream(io.BytesIO(LARGE))
    assert unknown[-1] == (len(LARGE), None)


def test_a_stream_beyond_the_ceiling_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """After 10,000 parts there is no other way than more memory; nothing is stored."""
    monkeypatch.setattr("stepout.artifacts.transfer.upload.MAX_PARTS", 3)
    store = MemoryStore()
    with pytest.raises(ConfigurationError, match="Raise memory"):
        upload(store).send_stream(io.BytesIO(bytes(40 * MIB)))
    is_clean(store)


def test_a_small_upload_starts_no_thread_and_maps_no_memory() -> None:
    """One request from the caller's own thread."""
    before = set(threading.enumerate())  # some of other tests may be ending
    one = upload(MemoryStore())
    one.send_buffer(b"x" * 10_000)
    assert set(threading.enumerate()) <= before
    assert one._pool is None


def test_the_pool_goes_with_its_upload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or its buffers would stay until the garbage collector comes by, which does not know how large they are."""
    pools: list[weakref.ref[BufferPool]] = []

    class Noted(BufferPool):
        def __init__(self, memory: int) -> None:
            super().__init__(memory)
            pools.append(weakref.ref(self))

    monkeypatch.setattr("stepout.artifacts.transfer.upload.BufferPool", Noted)
    (tmp_path / "large").write_bytes(LARGE)
    gc.disable()
    try:
        upload(MemoryStore("results")).send_file(tmp_path / "large")
        deadline = time.monotonic() + 60
        while any(pool() for pool in pools) and time.monotonic() < deadline:
            time.sleep(0.01)  # until the upload's threads have ended
        assert [pool() for pool in pools] == [None]
    finally:
        gc.enable()


def test_the_pool_reuses_its_buffers() -> None:
    """A buffer that was given back is handed out again, empty; who waits for one can be woken without."""
    pool = BufferPool(2 * MIB)
    first, second = pool.take(), pool.take()
    assert first is not None
    assert first.fill(memoryview(b"abc")) == 3
    threading.Timer(0.05, pool.wake).start()
    assert pool.take() is None
    threading.Timer(0.05, pool.give_back, [[first]]).start()
    while (third := pool.take()) is None:
        pass
    assert third is first
    assert (third.size, len(third.memory)) == (0, MIB)
    assert second is not first


def test_a_part_is_kept_until_it_is_sent_and_hashed() -> None:
    """Only the last of both gives its buffers back."""
    pool = BufferPool(2 * MIB)
    multipart = Multipart(
        MemoryStore(),
        "key",
        options=WriteOptions(),
        plan=lambda _: 1,
        server=ServerState(),
        pool=pool,
    )
    buffer = pool.take()
    assert buffer is not None
    part = PendingPart(1, Views([buffer.memory]), [buffer])
    multipart._release(part)
    assert pool._free == [other for other in pool._free if other is not buffer]
    multipart._release(part)
    assert pool._free[-1] is buffer


STALLED = """
import socket, sys, threading
from stepout.artifacts.s3.clients import make_client
from stepout.artifacts.s3.store import S3Store
from stepout.artifacts.store_writes import WriteOptions
from stepout.artifacts.transfer.upload import Upload

listener = socket.create_server(("127.0.0.1", 0))   # takes connections and never answers
client = make_client(endpoint_url=f"http://127.0.0.1:{listener.getsockname()[1]}", region="us-east-1",
                     aws_access_key_id="a", aws_secret_access_key="b")
upload = Upload(S3Store(client, "bucket"), "key", options=WriteOptions())
for _ in range(20):
    upload.write(bytes(1 << 20))
listener.accept()
print("stalled", flush=True)
if sys.argv[1] == "abort":
    upload.abort()
raise SystemExit(7)
"""


@pytest.mark.parametrize("how", ["exit", "abort"])
def test_a_server_that_stalls_does_not_hold_the_process(how: str) -> None:
    """The interpreter ends although a request is in flight."""
    done = subprocess.run(
        [sys.executable, "-c", STALLED, how], capture_output=True, text=True, timeout=300, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (7, "stalled\n", "")


def test_an_empty_file_that_grows_is_an_error(tmp_path: Path) -> None:
    """A file that announces nothing is read to its end, but must not have grown by then."""
    path, store = tmp_path / "file", MemoryStore()
    path.write_bytes(b"")
    one = upload(store)
    drain = one._drain

    def growing(source: ByteSource) -> int:
        path.write_bytes(b"late")
        return drain(source)

    one._drain = growing  # type: ignore[method-assign] # the moment between opening and reading cannot be met otherwise
    with pytest.raises(ArtifactChangedError, match="grew"):
        one.send_file(path)
    is_clean(store)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc here")
def test_a_file_that_says_it_is_empty_is_read_all_the_same() -> None:
    """Files of /proc announce 0 bytes."""
    store = MemoryStore()
    assert upload(store).send_file("/proc/self/status").size > 100
