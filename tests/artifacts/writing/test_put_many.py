"""``ArtifactManager.put_many``: each as ``put`` writes it, and one report of everything that failed."""

from __future__ import annotations

import hashlib
import io
import pickle
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from support.fast_store import fast_store
from support.seaweed import READER, Seaweed
from support.wire import Wire

import stepout
from stepout.artifacts.memory import MemoryStore
from stepout.artifacts.s3.request_bodies import SMALL
from stepout.artifacts.store_writes import StoreProfile, Written
from stepout.schemas.errors import (
    ArtifactExistsError,
    ConfigurationError,
    InvalidDocumentError,
    StoreError,
    StoreUnavailableError,
)
from stepout.schemas.many_failed import ManyFailedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PARTS = StoreProfile(name="compatible", multipart_checksum="parts")


@pytest.fixture(params=["memory", "seaweed", "seaweed-quick", "seaweed-light"])
def manager(request: pytest.FixtureRequest) -> stepout.ArtifactManager:
    """A manager over every store, and over every route to one."""
    if request.param == "memory":
        return stepout.ArtifactManager(MemoryStore("memory"), "runs")
    client, bucket = request.getfixturevalue("seaweed_client"), request.getfixturevalue("bucket")
    if request.param == "seaweed":
        return stepout.ArtifactManager(bucket, "runs", client=client, profile=PARTS)
    store = fast_store(client, bucket, profile=PARTS, obstore=request.param == "seaweed-quick")
    return stepout.ArtifactManager(store, "runs")


def _values(count: int) -> dict[str, bytes]:
    return {f"n{number}": f"value {number}".encode() * 100 for number in range(count)}


def _read(manager: stepout.ArtifactManager, pointers: dict[str, stepout.Pointer]) -> dict[str, bytes]:
    document = {"stepout": "output/1", "artifacts": {name: each.to_dict() for name, each in pointers.items()}}
    output = stepout.resolve_output(document, allow=[stepout.ANY_BUCKET], client=manager._writes.store)
    return dict(output.read_many())


def test_many_values_are_written_and_read_back(manager: stepout.ArtifactManager) -> None:
    """The pointers come in the order of the values, are recorded, and lead to exactly those bytes."""
    values = _values(60)
    pointers = manager.put_many(values)
    assert list(pointers) == list(values)
    assert dict(manager.pointers) == pointers
    assert all(pointers[name].checksum["sha256"] == hashlib.sha256(value).hexdigest() for name, value in values.items())
    assert all(pointers[name].etag for name in values)
    assert _read(manager, pointers) == values


def test_each_value_is_written_as_its_type_calls_for(manager: stepout.ArtifactManager, tmp_path: Path) -> None:
    """Text, JSON, files and large buffers may be mixed; options hold for all."""
    file = tmp_path / "rows.csv"
    file.write_bytes(b"a,b\n1,2\n")
    large = bytes(range(256)) * (10 << 12)
    pointers = manager.put_many(
        [("text", "ä"), ("json", {"a": 1}), ("file", file), ("large", large)], annotations={"batch": 3}
    )
    assert [each.media_type for each in pointers.values()] == [
        "text/plain; charset=utf-8", "application/json", "text/csv", "application/octet-stream",
    ]  # fmt: skip
    assert all(each.annotations == {"batch": 3} for each in pointers.values())
    assert _read(manager, pointers) == {"text": "ä".encode(), "json": b'{"a":1}', "file": b"a,b\n1,2\n", "large": large}


def test_all_failures_are_reported_together(manager: stepout.ArtifactManager, tmp_path: Path) -> None:
    """Bad names, bad values, missing files and names twice are one report; everything else is written."""
    items: list[tuple[str, Any]] = [
        ("good", b"1"), ("no name", b"2"), ("nan", {"x": float("nan")}), ("gone", tmp_path / "gone"), ("good", b"3"),
        ("also_good", b"4"), ("odd", object()),
    ]  # fmt: skip
    with pytest.raises(ManyFailedError) as caught:
        manager.put_many(iter(items))
    error = caught.value
    assert {name: type(each) for name, each in error.failures.items()} == {
        "no name": InvalidDocumentError, "nan": InvalidDocumentError, "gone": FileNotFoundError,
        "good": ArtifactExistsError, "odd": ConfigurationError,
    }  # fmt: skip
    assert sorted(error.pointers) == ["also_good", "good"]
    assert not error.stopped
    assert not error.retryable
    assert "put_many: 5 failed, 2 done" in str(error)
    assert _read(manager, dict(error.pointers)) == {"good": b"1", "also_good": b"4"}


def test_a_name_that_was_written_before_is_a_failure_of_its_own(manager: stepout.ArtifactManager) -> None:
    """What this manager wrote already is not replaced, unless the mode says so."""
    manager.put("n1", b"old")
    with pytest.raises(ManyFailedError) as caught:
        manager.put_many(_values(3))
    assert list(caught.value.failures) == ["n1"]
    assert isinstance(caught.value.failures["n1"], ArtifactExistsError)
    replaced = manager.put_many({"n1": b"new"}, mode="overwrite")
    assert _read(manager, replaced) == {"n1": b"new"}


def test_a_failed_name_is_free_again(manager: stepout.ArtifactManager) -> None:
    """After the report, the same name can be written."""
    with pytest.raises(ManyFailedError):
        manager.put_many({"x": object()})
    assert manager.put_many({"x": b"1"})["x"].size == 1


def test_nothing_to_write_is_nothing_written(manager: stepout.ArtifactManager) -> None:
    """No items, no pointers."""
    assert manager.put_many({}) == {}


@pytest.mark.parametrize("items", ["text", 3, None, b"x"])
def test_arguments_that_are_no_items_are_refused(items: Any) -> None:
    """What is no mapping and no iterable of pairs is refused before anything is sent."""
    with pytest.raises(ConfigurationError, match="nothing was sent"):
        stepout.ArtifactManager(MemoryStore("results")).put_many(items)


@pytest.mark.parametrize("item", ["ab", ("a", 1, 2), (1, b"x"), None])
def test_items_that_are_no_pairs_end_it(item: Any) -> None:
    """A thing among the items that is no pair of a name and a value is the caller's mistake."""
    manager = stepout.ArtifactManager(MemoryStore("results"))
    with pytest.raises(ConfigurationError, match="pairs"):
        manager.put_many([("good", b"1"), item])


@pytest.mark.parametrize("connections", [0, -1, 257, 1.5, True])
def test_connections_are_checked(connections: Any) -> None:
    """Numbers of connections are whole and from 1 to 256."""
    with pytest.raises(ConfigurationError, match="connections"):
        stepout.ArtifactManager(MemoryStore("results")).put_many({}, connections=connections)


def test_values_are_made_as_they_are_needed() -> None:
    """A generator is taken in the caller's thread, and never far ahead of what has been written."""
    written = 0
    lock = threading.Lock()
    ahead: list[int] = []

    class Counting(MemoryStore):
        def put(self, *args: Any, **options: Any) -> Written:
            nonlocal written
            result = super().put(*args, **options)
            with lock:
                written += 1
            return result

    def items() -> Iterator[tuple[str, bytes]]:
        for number in range(300):
            assert threading.current_thread() is threading.main_thread()
            with lock:
                ahead.append(number - written)
            yield f"n{number}", b"x" * 100

    stepout.ArtifactManager(Counting("results")).put_many(items(), connections=2)
    assert max(ahead) <= 8


def test_an_abort_from_another_thread_ends_it() -> None:
    """After ``abort`` nothing more is begun, and the report says that the rest was not tried."""
    begun, lock = 0, threading.Lock()

    class Aborting(MemoryStore):
        def put(self, *args: Any, **options: Any) -> Written:
            nonlocal begun
            with lock:
                begun += 1
                number = begun
            if number == 5:
                threading.Thread(target=aborted.abort).start()
            while number >= 5 and not aborted._writes.registry.ended:
                time.sleep(0.001)
            return super().put(*args, **options)

    aborted = stepout.ArtifactManager(Aborting("results"))
    with pytest.raises(ManyFailedError) as caught:
        aborted.put_many(((f"n{number}", b"x") for number in range(10_000)), connections=2)
    assert caught.value.stopped
    assert begun < 30
    with pytest.raises(StoreError, match="aborted"):
        aborted.put_many({"later": b"x"})


def test_a_missing_bucket_ends_it_early(seaweed_client: Any) -> None:
    """What would make all others fail alike is not tried ten thousand times."""
    manager = stepout.ArtifactManager(fast_store(seaweed_client, "no-such-bucket", profile=PARTS))
    with pytest.raises(ManyFailedError) as caught:
        manager.put_many(_values(2000), connections=2)
    assert caught.value.stopped
    assert len(caught.value.failures) < 50
    assert "rest was not tried" in str(caught.value)


def test_denied_writes_end_it_early(seaweed: Seaweed, bucket: str) -> None:
    """Permissions are the folder's, so that one refusal stands for all."""
    manager = stepout.ArtifactManager(fast_store(seaweed.client(READER), bucket, profile=PARTS))
    with pytest.raises(ManyFailedError) as caught:
        manager.put_many(_values(2000), connections=2)
    assert caught.value.stopped
    assert all(isinstance(each, stepout.AccessDeniedError) for each in caught.value.failures.values())


def test_a_silent_store_is_given_up() -> None:
    """A store that fails 32 times in a row is not asked 10,000 times, and the report is retryable."""

    class Silent(MemoryStore):
        def put(self, *_args: Any, **_options: Any) -> Written:
            raise StoreUnavailableError("nobody there")

        def head(self, *_args: Any, **_options: Any) -> Any:
            raise StoreUnavailableError("nobody there")

    manager = stepout.ArtifactManager(Silent("results"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stepout.artifacts.retries.RetryPolicy.pause_before", lambda *_: 0.001)
        with pytest.raises(ManyFailedError) as caught:
            manager.put_many(_values(2000), connections=4)
    assert caught.value.retryable
    assert caught.value.stopped
    assert len(caught.value.failures) < 80


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("obstore", [True, False])
@pytest.mark.parametrize("kind", ["reset", "status", "lost", "flip_request", "late_error", "truncate"])
def test_every_fault_of_the_wire_is_survived(seaweed: Seaweed, bucket: str, kind: Any, *, obstore: bool) -> None:
    """Faults on a quick route are settled as they are on the ordinary one: all is written, once and right."""
    with Wire(seaweed.endpoint) as wire:
        store = fast_store(seaweed.client(endpoint=wire.endpoint), bucket, profile=PARTS, obstore=obstore)
        manager = stepout.ArtifactManager(store, "runs")
        manager.put("first", b"learned")
        fault = wire.when("PutObject", kind, times=3)
        values = _values(12)
        pointers = manager.put_many(values, connections=3)
        assert fault.hits == 3
        assert _read(manager, pointers) == values


def test_ten_thousand_artifacts_fit_through_a_manifest() -> None:
    """Their pointers exceed the budget, so that the document spills, and the consumer reads all of them back."""
    from stepout.schemas.output import TaskOutput
    from stepout.schemas.spill import fit

    store = MemoryStore("results")
    manager = stepout.ArtifactManager(store, "runs")
    values = {f"n{number}": str(number).encode() for number in range(10_000)}
    pointers = manager.put_many(values)
    document = TaskOutput(artifacts=pointers, result={"rows": 10_000})
    fitted = fit(document, write=manager.put_document)
    text = fitted.to_json()
    assert len(text) < 64 * 1024
    output = stepout.resolve_output(text, allow=["s3://results/runs/"], client=store)
    assert len(output) == 10_000
    assert dict(output.read_many()) == values


def test_the_report_survives_pickling() -> None:
    """A report crosses process borders whole."""
    manager = stepout.ArtifactManager(MemoryStore("results"))
    with pytest.raises(ManyFailedError) as caught:
        manager.put_many({"good": b"1", "bad": object()})
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.pointers, list(again.failures)) == (str(caught.value), caught.value.pointers, ["bad"])


def test_small_artifacts_are_known_by_their_sha256_and_take_no_ring_of_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in memory and small is hashed once, with SHA-256, and sent from where it is."""
    monkeypatch.setattr("stepout.artifacts.transfer.upload.BufferPool", None)  # it cannot be called
    manager = stepout.ArtifactManager(MemoryStore("results"), "runs")
    pointers = manager.put_many({"small": b"x" * SMALL, "empty": b""})
    assert [dict(each.checksum) for each in pointers.values()] == [
        {"sha256": hashlib.sha256(data).hexdigest()} for data in (b"x" * SMALL, b"")
    ]


def test_pointers_of_one_kind_share_nothing_but_their_settings() -> None:
    """Pointers that are made after one pattern differ in key, size and annotations as their artifacts do."""
    manager = stepout.ArtifactManager(MemoryStore("results"), "runs")
    first, second = manager.put("first", b"1"), manager.put("second", b"22", annotations={"rows": 2})
    third = manager.put("third", b"333")
    assert [each.key.rpartition("/")[2] for each in (first, second, third)] == ["first", "second", "third"]
    assert [each.size for each in (first, second, third)] == [1, 2, 3]
    assert [each.annotations for each in (first, second, third)] == [None, {"rows": 2}, None]
    assert stepout.Pointer.from_dict(first.to_dict()) == first


def test_a_closed_buffer_fails_alone() -> None:
    """A value that cannot even be weighed is its own failure: those beside it are written."""
    closed, released = io.BytesIO(b"x"), memoryview(b"x")
    closed.close()
    released.release()
    manager = stepout.ArtifactManager(MemoryStore("memory"), "runs")
    with pytest.raises(ManyFailedError) as caught:
        manager.put_many({"a": b"1", "closed": closed, "released": released, "b": b"2"})
    assert set(caught.value.failures) == {"closed", "released"}
    assert set(caught.value.pointers) == {"a", "b"}
