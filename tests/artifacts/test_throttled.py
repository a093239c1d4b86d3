"""A server that takes so many requests a second and no more: everything succeeds, and the bytes are right.

How near the limit the rate comes is measured by ``benchmarks.throttle``: no test looks at a clock.
"""

from __future__ import annotations

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from support.settled import settled
from support.wire import Wire

import stepout
from stepout.artifacts.process.budget import process_budget
from stepout.artifacts.retries import WRITES
from stepout.artifacts.s3.clients import make_client, store_for
from stepout.artifacts.s3.fast_store import FastS3Store
from stepout.artifacts.s3.store import S3Store
from stepout.artifacts.store import SlowDownError
from stepout.artifacts.store_writes import WriteOptions
from stepout.artifacts.transfer.plan import MIB, TransferSettings
from stepout.artifacts.transfer.upload import Upload
from stepout.schemas.errors import StoreError
from stepout.schemas.runtime.process import PerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.seaweed import Seaweed

RATE = 60.0


@pytest.fixture
def wire(seaweed: Seaweed) -> Iterator[Wire]:
    """A proxy in front of a server; it takes everything until it is told a limit."""
    with Wire(seaweed.endpoint, keep_alive=True) as made:
        yield made


def _own(wire: Wire, seaweed: Seaweed, bucket: str) -> FastS3Store:
    """A store as stepout makes it by itself; what is tried out once in a process is tried out."""
    client = PerProcess(lambda: settled(seaweed.client(endpoint=wire.endpoint, tries=1), bucket))
    client.get()
    store = store_for(client, bucket, own=True)
    assert isinstance(store, FastS3Store)
    return store


def _manager(store: Any, bucket: str) -> stepout.ArtifactManager:
    return stepout.ArtifactManager(bucket, "runs", client=store)


@pytest.mark.parametrize("own", [True, False], ids=["ours", "a caller's"])
def test_many_small_objects_are_put_and_read(wire: Wire, seaweed: Seaweed, bucket: str, *, own: bool) -> None:
    """Through every route, at a limit that sixteen threads exceed at once."""
    client: Any = _own(wire, seaweed, bucket) if own else settled(seaweed.client(endpoint=wire.endpoint), bucket)
    manager = _manager(client, bucket)
    bodies = {f"n{number}": f"body {number} ".encode() * 100 for number in range(120)}
    fault = wire.limit(RATE, burst=20)
    pointers = manager.put_many(bodies)
    assert fault.hits
    document = {"stepout": "output/1", "artifacts": {name: pointer.to_dict() for name, pointer in pointers.items()}}
    output = stepout.resolve_output(document, allow=[f"s3://{bucket}/"], client=client)
    assert {name: bytes(body) for name, body in output.read_many()} == bodies
    # What a caller's client repeats by itself nobody else hears of.
    assert process_budget().server(S3Store(seaweed.client(endpoint=wire.endpoint), bucket)).slowed or not own


def test_a_large_object_is_sent_and_fetched(wire: Wire, seaweed: Seaweed, bucket: str, tmp_path: Path) -> None:
    """Parts wait their turn, and so do what begins and completes an upload, looks at it, and the ranges of a read."""
    store = _own(wire, seaweed, bucket)
    data = hashlib.shake_128(b"seed").digest(40 * MIB)
    (tmp_path / "data").write_bytes(data)
    fault = wire.limit(4, burst=2)
    settings = TransferSettings(part_size=5 * MIB)
    manager = stepout.ArtifactManager(bucket, "runs", client=store, settings=settings)
    pointer = manager.put_file("large", tmp_path / "data")
    assert fault.hits
    artifact = stepout.resolve_artifact(pointer.to_dict(), allow=[f"s3://{bucket}/"], client=store)
    artifact.download(tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == data


def test_a_directory_is_put_and_fetched(wire: Wire, seaweed: Seaweed, bucket: str, tmp_path: Path) -> None:
    """Its files, and what lists them."""
    store = _own(wire, seaweed, bucket)
    (tmp_path / "from").mkdir()
    for number in range(60):
        (tmp_path / "from" / f"f{number}").write_text(f"file {number}")
    fault = wire.limit(RATE, burst=20)
    pointer = _manager(store, bucket).put_directory("folder", tmp_path / "from")
    assert fault.hits
    artifact = stepout.resolve_artifact(pointer.to_dict(), allow=[f"s3://{bucket}/"], client=store)
    artifact.download(tmp_path / "to")
    assert {path.name: path.read_text() for path in (tmp_path / "to").iterdir()} == {
        f"f{number}": f"file {number}" for number in range(60)
    }


def test_a_refused_put_is_one_request(wire: Wire, seaweed: Seaweed, bucket: str) -> None:
    """Nothing was stored, so nobody looks; and no other route sends it again at once."""
    store = _own(wire, seaweed, bucket)
    for number in range(3):
        _put(store, f"before{number}")
    wire.lines.clear()
    fault = wire.when("PutObject", "status", times=2 * WRITES.tries, code="SlowDown")
    _put(store, "key")
    with ThreadPoolExecutor(1) as pool:
        pool.submit(_put, store, "in a thread").result()
    assert fault.hits == 2 * WRITES.tries
    assert wire.operations == ["PutObject"] * (2 * WRITES.tries + 2)


def _put(store: Any, key: str) -> None:
    Upload(store, key, options=WriteOptions()).send_buffer(b"data")


@pytest.mark.parametrize("size", [1000, 12 * MIB], ids=["small", "large"])
def test_an_abort_ends_the_wait_for_a_turn(wire: Wire, seaweed: Seaweed, bucket: str, size: int) -> None:
    """An upload that the server refuses for ever ends when somebody says so, not after its three minutes."""
    store = _own(wire, seaweed, bucket)
    _put(store, "before")
    upload = Upload(store, "key", options=WriteOptions(), settings=TransferSettings(part_size=5 * MIB))
    fault = wire.limit(0, burst=0)
    failed: list[BaseException] = []

    def send() -> None:
        try:
            upload.send_buffer(bytes(size))
        except StoreError as error:
            failed.append(error)

    thread = threading.Thread(target=send)
    thread.start()
    assert fault.struck.wait(60)
    fault.times = 0  # what the abort itself sends is answered
    upload.abort()
    thread.join(60)
    assert not thread.is_alive()
    assert [str(error) for error in failed] == [f"the upload of s3://{bucket}/key was aborted; no artifact came of it"]


def test_the_error_says_who_throttles_and_what_to_do(wire: Wire, bucket: str) -> None:
    """Of one try: the code, the rate that was left, and the remedy."""
    store = S3Store(make_client(endpoint_url=wire.endpoint, tries=1, **_KEYS), bucket)
    wire.limit(0, burst=0)
    with pytest.raises(SlowDownError) as caught:
        store.put("key", [memoryview(b"x")], checksum={"sha256": hashlib.sha256(b"x").hexdigest()}, options=_OVERWRITE)
    words = str(caught.value)
    assert "fewer requests (503 SlowDown)" in words
    assert "prefixes" in words
    assert "requests a second" in words


_KEYS: dict[str, Any] = {"aws_access_key_id": "a", "aws_secret_access_key": "b", "region": "us-east-1"}
_OVERWRITE = WriteOptions(mode="overwrite")
