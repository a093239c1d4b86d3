"""Large reads: blocks travel from the socket through threads in reused buffers, and nothing is lost on the way."""

from __future__ import annotations

import errno
import gc
import hashlib
import http.client
import os
import sys
import threading
import weakref
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.shelf import ALLOW, BreakingStore, Shelf

from stepout.artifacts.reading.files.preallocation import WORTHWHILE, preallocate
from stepout.artifacts.resolve import resolve_artifact
from stepout.artifacts.s3 import internals
from stepout.artifacts.s3 import response_body as s3_body
from stepout.artifacts.s3.clients import make_client
from stepout.artifacts.s3.store import S3Store
from stepout.artifacts.transfer.stages import BLOCK, Pipeline
from stepout.schemas.errors import ChecksumMismatchError, StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

BIG = b"".join(hashlib.sha256(str(number).encode()).digest() * 512 for number in range(400))  # 6.25 MiB, no two alike


# The pipeline -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("slots", [1, 2, 8])
@pytest.mark.parametrize("lent", [True, False])
def test_every_stage_gets_every_byte_in_order(slots: int, lent: bool) -> None:
    """Whether blocks were read into the buffers that were lent or come from elsewhere, of any size."""
    first, second = bytearray(), bytearray()
    with Pipeline(first.extend, second.extend, slots=slots) as pipeline:
        for start in range(0, len(BIG), 700_001):
            data = BIG[start : start + 700_001]
            if lent:
                view = pipeline.lend()[: len(data)]
                view[:] = data
                pipeline.add(view)
            else:
                pipeline.add(memoryview(data))
        if not lent:
            pipeline.add(memoryview(BIG))
    assert first == second == BIG + (b"" if lent else BIG)


def test_a_buffer_that_was_not_used_is_lent_again() -> None:
    """A download that broke and is taken up again does not use the ring up."""
    with Pipeline(bytes, slots=1) as pipeline:
        assert {id(pipeline.lend().obj) for _ in range(5)} == {id(pipeline.lend().obj)}


def test_what_is_in_the_file_is_not_read_into_a_buffer_that_somebody_has() -> None:
    """A connection that was given up for it may still read into what it was lent."""

    class _File:
        def write_at(self, view: memoryview, at: int) -> None:
            raise NotImplementedError

        def read_at(self, view: memoryview, at: int) -> None:
            view[:] = BIG[at : at + len(view)]

    given_up, taken = threading.Event(), bytearray()

    def take(view: memoryview) -> None:
        assert given_up.wait(60)
        taken.extend(view)

    with Pipeline(take, file=_File()) as pipeline:
        lent = pipeline.lend()
        pipeline.pass_written(0, BLOCK)
        lent[:] = b"?" * len(lent)
        given_up.set()
        pipeline.pass_written(BLOCK, 1000)
    assert taken == BIG[: BLOCK + 1000]


def test_the_buffers_go_with_the_pipeline() -> None:
    """Eight MiB a file would add up until the garbage collector comes by, which does not know how large they are."""
    gc.disable()
    try:
        pipeline = Pipeline(bytes, bytes)
        gone = weakref.ref(pipeline)
        with pipeline:
            pipeline.add(memoryview(BIG))
        del pipeline
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("broken", [0, 1])
def test_what_a_stage_raises_ends_the_pipeline_and_its_threads(broken: int) -> None:
    """The error comes out at the next buffer, or at the end; nobody waits for a thread that gave up."""
    before = set(threading.enumerate())  # some of other tests may be ending

    def fail(_view: memoryview) -> None:
        raise OSError(errno.ENOSPC, "full")

    stages: list[Any] = [bytes, bytes]
    stages[broken] = fail

    def send() -> None:
        with Pipeline(*stages, slots=2) as pipeline:
            for _ in range(1000):
                pipeline.add(pipeline.lend())

    with pytest.raises(OSError, match="full"):
        send()
    assert set(threading.enumerate()) <= before


def test_an_error_of_the_receiver_comes_through_and_ends_the_threads() -> None:
    """It is the receiver's own that is raised, not a stage's."""
    before = set(threading.enumerate())  # some of other tests may be ending

    def send() -> None:
        with Pipeline(bytes) as pipeline:
            pipeline.add(pipeline.lend())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        send()
    assert set(threading.enumerate()) <= before


def test_a_thread_that_cannot_start_leaves_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """At a limit of threads the first one ends again."""
    before, start, calls = set(threading.enumerate()), threading.Thread.start, iter([True, False])

    def limited(thread: threading.Thread) -> None:
        if not next(calls):
            msg = "can't start new thread"
            raise RuntimeError(msg)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)
    pipeline = Pipeline(bytes, bytes)
    with pytest.raises(RuntimeError, match="new thread"):
        pipeline.__enter__()
    for thread in threading.enumerate():
        if thread.name == "stepout-verify":
            thread.join(60)
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize("lengths", [[1], [BLOCK + 1, None], [5, BLOCK, 3 * BLOCK + 7, None]])
def test_a_large_download_that_breaks_is_taken_up_in_place(
    shelf: Shelf, tmp_path: Path, lengths: list[int | None]
) -> None:
    """Into memory, into a file, and for verify alone."""
    pointer = shelf.put(BIG)
    for read in ("read_bytes", "download", "verify"):
        store = BreakingStore(shelf.store, lengths)
        artifact = resolve_artifact(pointer, allow=ALLOW, client=store)
        if read == "download":
            assert artifact.download(tmp_path / "x").read_bytes() == BIG
        elif read == "verify":
            assert artifact.verify() == {"sha256": hashlib.sha256(BIG).hexdigest()}
        else:
            assert artifact.read_bytes() == BIG
        assert len(store.requests) > 1 or lengths == [1]


# The socket -------------------------------------------------------------------------------------------------------


class _Server(ThreadingHTTPServer):
    """Serves ``BIG`` at every path, in a form that the path names, and counts connections and requests."""

    daemon_threads = True

    def __init__(self) -> None:
        self.connections = 0
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        self.server.connections += 1
        super().setup()

    def do_GET(self) -> None:
        form = self.path.rpartition("/")[2]
        self.send_response(200)
        self.send_header("ETag", '"e"')
        self.send_header("Content-Length", str(len(BIG)))
        if form == "encoded":
            self.send_header("Content-Encoding", "aws-chunked")
        self.end_headers()
        half = len(BIG) // 2
        if form == "damaged":
            self.wfile.write(BIG[:half] + bytes([BIG[half] ^ 1]) + BIG[half + 1 :])
        elif form == "short":
            self.wfile.write(BIG[:half])
            self.close_connection = True
        else:
            self.wfile.write(BIG)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[_Server]:
    """A server of its own for each test."""
    with _Server() as found:
        threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield found
        found.shutdown()


@pytest.fixture
def client(server: _Server) -> Any:
    """The client that stepout makes."""
    return make_client(
        endpoint_url=f"http://127.0.0.1:{server.server_address[1]}",
        region="eu-west-1",
        aws_access_key_id="a",
        aws_secret_access_key="b",
    )


def _artifact(client: Any, form: str) -> Any:
    document = {
        "stepout": "pointer/1",
        "bucket": "results",
        "key": f"runs/{form}",
        "size": len(BIG),
        "checksum": {"sha256": hashlib.sha256(BIG).hexdigest()},
        "mediaType": "text/plain",
    }
    return resolve_artifact(document, allow=["s3://results/runs/"], client=client)


def _counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count what is read straight from the standard library's response."""
    sizes: list[int] = []
    original = s3_body._Direct.readinto

    def readinto(self: Any, buffer: memoryview, /) -> int:
        sizes.append(count := original(self, buffer))
        return count

    monkeypatch.setattr(s3_body._Direct, "readinto", readinto)
    return sizes


def test_bytes_are_read_straight_into_the_buffers(
    client: Any, server: _Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In whole blocks, each byte once; the connection goes back to the pool every time."""
    sizes = _counted(monkeypatch)
    assert _artifact(client, "plain").read_bytes() == BIG
    assert _artifact(client, "plain").download(tmp_path / "x").read_bytes() == BIG
    _artifact(client, "plain").verify()
    whole = [BLOCK] * (len(BIG) // BLOCK) + [len(BIG) % BLOCK, 0]
    assert sizes == whole * 3
    assert server.connections == 1


@pytest.mark.parametrize("private", ["_raw_stream", "_fp", "release_conn", "chunked", "length", "nothing"])
def test_another_version_of_a_library_is_read_the_public_way(
    client: Any, server: _Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, private: str
) -> None:
    """Where something private is missing or otherwise, the bytes are the same and connections are still kept."""
    sizes = _counted(monkeypatch)
    known = internals.response_below

    class Without:
        def __init__(self, inner: Any) -> None:
            self._inner = inner

        def __getattr__(self, name: str) -> Any:
            if name == private:
                raise AttributeError(name)
            found = getattr(self._inner, name)
            return Without(found) if name in ("_raw_stream", "_fp") and private not in ("chunked", "length") else found

    def below(body: Any, length: int) -> Any:
        from botocore import response

        if private == "chunked":
            body._raw_stream._fp.chunked = True
            found = known(body, length)
            body._raw_stream._fp.chunked = False
            return found
        if private == "length":
            return known(body, length + 1)
        with monkeypatch.context() as patch:
            patch.setattr(response, "StreamingBody", Without)
            patch.setattr(http.client, "HTTPResponse", Without)
            return known(Without(body), length)

    monkeypatch.setattr(s3_body, "response_below", below)
    assert _artifact(client, "plain").download(tmp_path / "x").read_bytes() == BIG
    assert _artifact(client, "plain").read_bytes() == BIG
    assert (bool(sizes), server.connections) == (private == "nothing", 1)


def test_a_client_that_checks_bodies_itself_goes_on_doing_so(
    server: _Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such bodies are botocore's own kind; they are read through it."""
    from botocore.httpchecksum import StreamingChecksumBody

    sizes = _counted(monkeypatch)
    seen: list[Any] = []

    class Body:
        def __init__(self, body: Any) -> None:
            known: Any = StreamingChecksumBody
            self.checked = known(body._raw_stream, len(BIG), _Sum(), None)
            seen.append(self.checked)

    client = make_client(
        endpoint_url=f"http://127.0.0.1:{server.server_address[1]}",
        region="eu-west-1", aws_access_key_id="a", aws_secret_access_key="b",
    )  # fmt: skip
    client.meta.events.register("after-call.s3.GetObject", lambda parsed, **_: parsed.update(
        Body=Body(parsed["Body"]).checked))  # fmt: skip
    assert _artifact(client, "plain").download(tmp_path / "x").read_bytes() == BIG
    assert sizes == []
    assert seen[0].checksum.taken == len(BIG)


class _Sum:
    """A checksum as botocore knows it."""

    taken = 0

    def update(self, data: bytes) -> None:
        """Count."""
        self.taken += len(data)


def test_a_content_encoding_is_no_business_of_ours(client: Any) -> None:
    """The bytes are those that were stored, whatever S3 was told that they are."""
    assert _artifact(client, "encoded").read_bytes() == BIG


def test_damage_and_a_short_body_are_found(client: Any, server: _Server, tmp_path: Path) -> None:
    """The connection that broke is closed, nothing is left in the folder."""
    with pytest.raises(ChecksumMismatchError):
        _artifact(client, "damaged").download(tmp_path / "x")
    with S3Store(client, "results").get("runs/short") as body, pytest.raises(StoreUnavailableError, match="broke"):
        for _ in body.blocks():
            pass
    assert list(tmp_path.iterdir()) == []
    assert server.connections == 1
    assert _artifact(client, "plain").read_bytes() == BIG
    assert server.connections == 2


# Space ------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="fallocate is Linux's")
def test_space_is_set_aside_where_that_is_cheap(tmp_path: Path) -> None:
    """A large file has its size at once; a small one, and a device that knows no such thing, are left alone."""
    with (tmp_path / "x").open("wb") as file:
        preallocate(file.fileno(), WORTHWHILE - 1)
        assert os.fstat(file.fileno()).st_size == 0
        preallocate(file.fileno(), WORTHWHILE)
        assert os.fstat(file.fileno()).st_size == WORTHWHILE
    with Path(os.devnull).open("wb") as file:
        preallocate(file.fileno(), WORTHWHILE)


@pytest.mark.skipif(sys.platform != "linux", reason="fallocate is Linux's")
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG])
def test_a_disk_too_small_is_found_before_the_first_byte_is_written(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """The system's own error comes through, named after the target."""
    monkeypatch.setattr("stepout.artifacts.reading.files.preallocation.WORTHWHILE", 1)
    monkeypatch.setattr("stepout.artifacts.reading.files.preallocation._fallocate", lambda _file, _size: number)
    written: list[int] = []
    monkeypatch.setattr(
        "stepout.artifacts.reading.files.download.os.write", lambda _file, view: written.append(len(view))
    )
    with pytest.raises(OSError, match=os.strerror(number)) as caught:
        shelf.artifact(BIG).download(tmp_path / "x")
    assert (caught.value.errno, written, list(tmp_path.iterdir())) == (number, [], [])
