"""The artifact manager: what every put promises."""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepout.artifacts import ArtifactManager, Encryption, MemoryStore, ObjectLock, StoreProfile, TransferSettings
from stepout.schemas import Pointer, RunIdentity
from stepout.schemas.errors import (
    ArtifactChangedError,
    ArtifactExistsError,
    ArtifactNotFoundError,
    ConfigurationError,
    InvalidDocumentError,
    StoreError,
    StoreUnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EXECUTION = "arn:aws:states:eu-west-1:123456789012:execution:Segment:7f3c"
RUN = RunIdentity(execution=EXECUTION, state="Mask", attempt=0, nonce="ab12")
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


class Unreachable(MemoryStore):
    """A store whose server has gone away."""

    def put(self, *_: Any, **__: Any) -> Any:
        """Fail."""
        raise StoreUnavailableError("the server has gone away")

    def start_upload(self, *_: Any, **__: Any) -> Any:
        """Fail."""
        raise StoreUnavailableError("the server has gone away")


@pytest.fixture
def store() -> MemoryStore:
    """An empty bucket."""
    return MemoryStore("results", versioned=True)


@pytest.fixture
def manager(store: MemoryStore) -> ArtifactManager:
    """A manager of one run."""
    return ArtifactManager(store, "runs", run=RUN, clock=lambda: NOON)


# Pointers ----------------------------------------------------------------------------------------------------------


def test_a_pointer_says_everything_that_is_known(store: MemoryStore) -> None:
    """Where, how large, which bytes, which version, when, by whose bucket, until when, and what the caller says."""
    manager = ArtifactManager(store, "runs", run=RUN, expected_bucket_owner="123456789012", clock=lambda: NOON)
    pointer = manager.put_bytes(
        "scores", b"a,b\n", media_type="text/csv", annotations={"rows": 1}, expires_at=NOON + timedelta(days=1)
    )
    stored = store.objects[pointer.key]
    assert pointer.to_dict() == {
        "stepout": "pointer/1",
        "bucket": "results",
        "key": "runs/Segment/7f3c/Mask/0-ab12/scores.csv",
        "versionId": stored.info.version_id,
        "etag": stored.info.etag,
        "size": 4,
        "checksum": {"sha256": hashlib.sha256(b"a,b\n").hexdigest()} | dict(pointer.checksum),
        "mediaType": "text/csv",
        "bucketOwner": "123456789012",
        "createdAt": "2026-11-22T12:00:00Z",
        "expiresAt": "2026-11-23T12:00:00Z",
        "annotations": {"rows": 1},
    }
    assert Pointer.from_dict(pointer.to_dict()) == pointer
    assert stored.options.media_type == "text/csv"


def test_pointers_lists_what_was_committed_in_order(manager: ArtifactManager) -> None:
    """``pointers`` is a copy: a later put does not change what was handed out."""
    manager.put("b", b"1")
    before = manager.pointers
    manager.put("a", b"2")
    assert list(before) == ["b"]
    assert list(manager.pointers) == ["b", "a"]


def test_two_managers_with_the_same_run_make_the_same_keys(store: MemoryStore) -> None:
    """The resolved run is all that a second manager needs; the same content again is a success."""
    first = ArtifactManager(store, "runs")
    second = ArtifactManager(store, "runs", run=first.run)
    assert first.put("a", b"x").key == second.put("a", b"x").key
    assert first.url == second.url


def test_managers_without_a_run_do_not_meet(store: MemoryStore) -> None:
    """Two managers in one process may use the same name."""
    keys = {ArtifactManager(store).put("a", content).key for content in (b"x", b"y")}
    assert len(keys) == 2


def test_the_fixed_layout_collides_as_documented(store: MemoryStore) -> None:
    """Other content under a fixed key is refused; the same content is a success; overwrite replaces it."""
    one = ArtifactManager(store, run=RUN, layout="fixed")
    key = one.put("a", b"x").key
    assert key == "Segment/7f3c/Mask/0/a"
    again = ArtifactManager(store, run=RUN, layout="fixed")
    with pytest.raises(ArtifactExistsError):
        again.put("a", b"y")
    assert again.put("a", b"x").key == key
    ArtifactManager(store, run=RUN, layout="fixed", mode="overwrite").put("a", b"z")
    assert store.read(key) == b"z"


# Names -------------------------------------------------------------------------------------------------------------


class Unread(io.RawIOBase):
    """A source that must not be read."""

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, _buffer: Any, /) -> int:
        """Fail the test."""
        raise AssertionError("it was read")


@pytest.mark.parametrize("name", ["1a", "a-b", "../a", ""])
def test_a_bad_name_is_refused_before_a_byte_is_read(manager: ArtifactManager, store: MemoryStore, name: str) -> None:
    """Whatever the put, a name that is none is a ValueError, and the source stays untouched."""
    for put in (manager.put, manager.put_file):
        with pytest.raises(InvalidDocumentError, match="artifact name"):
            put(name, Unread())
    for act in (lambda: manager.open(name), lambda: manager.adopt(name, "s3://results/x")):
        with pytest.raises(ValueError, match="artifact name"):
            act()
    assert store.keys() == []


def test_the_same_name_twice_is_refused_before_a_byte_is_read(manager: ArtifactManager) -> None:
    """A second put of a name reads nothing, whatever the first one was."""
    manager.put("a", b"x")
    with manager.open("b") as writer:
        for name in ("a", "b"):
            with pytest.raises(ArtifactExistsError, match=r"nothing was read"):
                manager.put_file(name, Unread())
        writer.write(b"x")
    with pytest.raises(ArtifactExistsError):
        manager.put_table("a", iter([Unread()]))


def test_overwriting_replaces_in_the_same_manager(manager: ArtifactManager, store: MemoryStore) -> None:
    """``mode="overwrite"`` is how a checkpoint is kept current under one name."""
    manager.put("a", b"x")
    manager.put("b", b"x")
    pointer = manager.put("a", b"y", mode="overwrite")
    assert manager.pointers["a"] == pointer
    assert list(manager.pointers) == ["b", "a"]
    assert store.read(pointer.key) == b"y"


def test_a_put_that_failed_frees_its_name(manager: ArtifactManager) -> None:
    """After a failure of the value or of the encoding, the name can be used."""
    with pytest.raises(InvalidDocumentError):
        manager.put_json("a", {"x": float("nan")})
    with pytest.raises(ConfigurationError):
        manager.put_table("a", [1, 2])
    assert manager.put_json("a", {"x": 1}).size == 7


def test_a_store_that_fails_frees_the_name_too() -> None:
    """A store's error comes through, and leaves no pointer."""
    manager = ArtifactManager(Unreachable("results"), settings=TransferSettings(memory=16 << 20))
    for _ in range(2):
        with pytest.raises(StoreUnavailableError):
            manager.put("a", bytes(9 << 20))
    assert manager.pointers == {}


def test_parallel_puts_of_different_names(store: MemoryStore) -> None:
    """Sixteen threads put at once; every artifact is there once, with its own bytes."""
    manager = ArtifactManager(store, run=RUN)
    with ThreadPoolExecutor(16) as pool:
        pointers = list(pool.map(lambda index: manager.put(f"a{index}", b"%d" % index * index), range(200)))
    assert len(manager.pointers) == 200
    assert all(store.read(pointer.key) == b"%d" % index * index for index, pointer in enumerate(pointers))


def test_one_of_many_threads_gets_a_name(store: MemoryStore) -> None:
    """Many threads want one name: exactly one gets it."""
    manager = ArtifactManager(store, run=RUN)
    gate = threading.Barrier(8)

    def attempt(index: int) -> bool:
        gate.wait()
        try:
            manager.put("a", b"%d" % index)
        except ArtifactExistsError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(attempt, range(8))) == 1


# Values ------------------------------------------------------------------------------------------------------------


@given(data=st.binary(max_size=1000), text=st.text(st.characters(codec="utf-8")))
def test_bytes_and_text_are_stored_as_they_are(data: bytes, text: str) -> None:
    """What is stored is what was given, and its SHA-256 is in the pointer."""
    store = MemoryStore("results")
    manager = ArtifactManager(store)
    for name, value, expected in (("a", data, data), ("b", text, text.encode())):
        pointer = manager.put(name, value)
        assert store.read(pointer.key) == expected
        assert pointer.checksum["sha256"] == hashlib.sha256(expected).hexdigest()
        assert pointer.size == len(expected)


def test_every_kind_of_bytes(manager: ArtifactManager, store: MemoryStore) -> None:
    """Byte arrays and views of wider items are bytes, too; an empty artifact is one."""
    import array

    wide = memoryview(array.array("i", [1, 2]))
    for name, value in (("a", bytearray(b"x")), ("b", memoryview(b"xy")), ("c", wide), ("d", b"")):
        assert store.read(manager.put(name, value).key) == bytes(value)
    with pytest.raises(ConfigurationError, match="expected bytes, got str"):
        manager.put_bytes("e", "text")  # type: ignore[arg-type]  # the wrong type is the point


def test_text_is_utf8_and_says_so(manager: ArtifactManager, store: MemoryStore) -> None:
    """Text has its charset in the media type and its newlines as they are."""
    pointer = manager.put("a", "é\r\n")
    assert (pointer.media_type, store.read(pointer.key)) == ("text/plain; charset=utf-8", b"\xc3\xa9\r\n")
    assert pointer.key.endswith("/a.txt")
    with pytest.raises(InvalidDocumentError, match="lone surrogate at character 1"):
        manager.put_text("b", "a\ud800")
    with pytest.raises(ConfigurationError, match="UTF-8"):
        manager.put_text("b", "a", encoding="latin-1")
    with pytest.raises(ConfigurationError, match="expected text, got bytes"):
        manager.put_text("b", b"a")  # type: ignore[arg-type]  # the wrong type is the point


def test_json_is_strict_and_names_what_is_wrong(manager: ArtifactManager, store: MemoryStore) -> None:
    """Every member that is not JSON is named, its value is not, and nothing is stored."""
    with pytest.raises(InvalidDocumentError, match=r"\$\.a\[1\].*\$\.b.*\$\.c") as caught:
        manager.put_json("a", {"a": [1, float("inf")], "b": NOON, "c": b"secret", "d": 1})
    assert [problem.location for problem in caught.value.problems] == ["$.a[1]", "$.b", "$.c"]
    assert "secret" not in str(caught.value)
    assert store.keys() == []
    for name, value in (("n", None), ("l", [1]), ("t", True), ("f", 1.5), ("u", {"é": "ü"})):
        assert json.loads(store.read(manager.put(name, value).key)) == value


def test_a_file_keeps_its_extension_and_gives_its_media_type(
    manager: ArtifactManager, store: MemoryStore, tmp_path: Path
) -> None:
    """The media type follows from the name alone; the caller may say otherwise."""
    cases = {
        "a.csv": ("text/csv", ".csv"),
        "b.tar.gz": ("application/gzip", ".tar.gz"),
        "c.PARQUET": ("application/vnd.apache.parquet", ".PARQUET"),
        "d": ("application/octet-stream", ""),
        "e.strange ext": ("application/octet-stream", ""),
    }
    for index, (file, (media_type, suffix)) in enumerate(cases.items()):
        path = tmp_path / file
        path.write_bytes(file.encode())
        pointer = manager.put(f"f{index}", path)
        assert (pointer.media_type, pointer.key.rpartition("/")[2]) == (media_type, f"f{index}{suffix}")
        assert store.read(pointer.key) == file.encode()
    pointer = manager.put_file("g", tmp_path / "d", media_type="application/json")
    assert pointer.key.endswith("/g.json")
    pointer = manager.put_file("h", tmp_path / "d", suffix=".bin", media_type="application/json")
    assert pointer.key.endswith("/h.bin")


def test_binary_files_are_streamed(manager: ArtifactManager, store: MemoryStore, tmp_path: Path) -> None:
    """An open file is read from where it stands; its name gives the media type."""
    path = tmp_path / "a.json"
    path.write_bytes(b"[1, 2]")
    with path.open("rb") as file:
        file.seek(1)
        pointer = manager.put("a", file)
    assert (store.read(pointer.key), pointer.media_type) == (b"1, 2]", "application/json")
    assert store.read(manager.put("b", io.BytesIO(b"x" * (9 << 20))).key) == b"x" * (9 << 20)
    with path.open() as text, pytest.raises(ConfigurationError, match="'rb'"):
        manager.put_file("c", text)
    with pytest.raises(ConfigurationError, match="use put_directory"):
        manager.put_file("c", tmp_path)
    with pytest.raises(FileNotFoundError):
        manager.put_file("c", tmp_path / "missing")


def test_a_file_that_changes_while_it_is_read_is_an_error(store: MemoryStore, tmp_path: Path) -> None:
    """A file that shrinks under the reader leaves nothing, and the name is free again."""
    path = tmp_path / "a"
    path.write_bytes(bytes(40 << 20))

    def shrink(_name: str, done: int, _total: int | None) -> None:
        if done:
            os.truncate(path, 1)

    shrinking = ArtifactManager(store, run=RUN, progress=shrink, settings=TransferSettings(memory=16 << 20))
    with pytest.raises(ArtifactChangedError):
        shrinking.put_file("a", path)
    assert store.keys() == store.open_uploads == []
    assert shrinking.put_file("a", path).size == 1


def test_values_that_nothing_writes_say_so(manager: ArtifactManager) -> None:
    """An object of a strange type is refused, and a pointer is sent to ``adopt``."""
    with pytest.raises(ConfigurationError, match=r"nothing here writes a builtins\.object"):
        manager.put("a", object())
    with pytest.raises(ConfigurationError, match="adopt"):
        manager.put("a", manager.put("b", b"x"))
    for value, remedy in (
        ({1}, "make it a list"),
        ((1, {2}), "make it a list"),
        (NOON, "isoformat"),
        (np.datetime64(NOON.replace(tzinfo=None)), "use str"),
    ):
        with pytest.raises(InvalidDocumentError, match=remedy):
            manager.put("a", value)


@pytest.mark.parametrize(
    ("library", "act"),
    [
        ("PIL", lambda m: m.put_image("a", np.zeros((2, 2), np.uint8))),
        ("pyarrow", lambda m: m.put_table("a", iter([1]))),
    ],
)
def test_a_missing_library_is_named(
    manager: ArtifactManager, monkeypatch: pytest.MonkeyPatch, library: str, act: Any
) -> None:
    """Without the extra, the error says what to install."""
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ConfigurationError, match="install stepout with its extra"):
        act(manager)


def test_options_that_are_none_count_as_absent(manager: ArtifactManager) -> None:
    """A caller may pass its own optional arguments through."""
    nothing: Any = dict.fromkeys(("media_type", "annotations", "mode", "expires_at", "suffix"))
    assert manager.put("a", "x", **nothing).media_type == "text/plain; charset=utf-8"


def test_an_abort_reaches_every_writer(manager: ArtifactManager, store: MemoryStore) -> None:
    """Several open writers end together."""
    writers = [manager.open(f"w{index}") for index in range(3)]
    for writer in writers:
        writer.write(bytes(20 << 20))
    manager.abort()
    assert store.open_uploads == []
    for writer in writers:
        writer.abort()
    with manager:
        pass


def test_a_document_lies_beside_the_artifacts(manager: ArtifactManager, store: MemoryStore) -> None:
    """``put_document`` writes JSON that is no artifact; its stem cannot be an artifact's name."""
    pointer = manager.put_document("task-output", {"a": 1})
    assert pointer.key == "runs/Segment/7f3c/Mask/0-ab12/task-output.json"
    assert store.read(pointer.key) == b'{"a":1}'
    assert manager.pointers == {}
    for stem in ("output", "a/b-c", "", "-a", "../a-b"):
        with pytest.raises(ConfigurationError, match="stem"):
            manager.put_document(stem, {})


# Options of a put --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"annotations": {"a": float("nan")}}, r"\$\.annotations\.a"),
        ({"annotations": {"a": NOON}}, r"\$\.annotations\.a"),
        ({"media_type": "no type"}, r"\$\.mediaType"),
        ({"expires_at": "tomorrow"}, r"\$\.expiresAt"),
        ({"expires_at": NOON.replace(tzinfo=None)}, "time zone"),
        ({"mode": "append"}, "expected 'create'"),
        ({"suffix": "/../x"}, "suffix"),
        ({"colour": "red"}, "put does not know colour"),
    ],
)
def test_bad_options_are_refused_before_anything_is_sent(
    manager: ArtifactManager, store: MemoryStore, options: Any, match: str
) -> None:
    """What no pointer could hold is a ValueError, and the name stays free."""
    with pytest.raises(ValueError, match=match):
        manager.put_bytes("a", b"x", **options)
    assert store.keys() == []
    manager.put_bytes("a", b"x")


def test_annotations_of_a_put_are_not_overruled(manager: ArtifactManager) -> None:
    """What the put itself writes, a caller cannot; other annotations stay beside it."""
    pixels = np.zeros((2, 3), np.uint8)
    with pytest.raises(ConfigurationError, match="image of artifact 'a'"):
        manager.put_image("a", pixels, annotations={"image": 1})
    pointer = manager.put_image("a", pixels, annotations={"camera": "left"})
    assert pointer.annotations == {"camera": "left", "image": {"width": 3, "height": 2, "mode": "L", "format": "png"}}


def test_expiry_is_written_in_utc(manager: ArtifactManager) -> None:
    """A time of another zone is converted, a text is kept."""
    there = NOON.astimezone(timezone(timedelta(hours=2)))
    assert manager.put_bytes("a", b"", expires_at=there).expires_at == "2026-11-22T12:00:00Z"
    assert manager.put_bytes("b", b"", expires_at="2030-01-01T00:00:00Z").expires_at == "2030-01-01T00:00:00Z"


# Settings ----------------------------------------------------------------------------------------------------------


def test_settings_ride_along_with_every_write(store: MemoryStore) -> None:
    """Encryption, tags, metadata, storage class, owner and lock reach small and large writes alike."""
    lock = ObjectLock(mode="GOVERNANCE", retain_until=NOON, legal_hold=True)
    manager = ArtifactManager(
        store,
        encryption=Encryption(kms_key="arn:aws:kms:eu-west-1:123456789012:key/k", bucket_key=True),
        tags={"team": "vision"},
        metadata={"origin": "camera"},
        storage_class="STANDARD_IA",
        expected_bucket_owner="123456789012",
        object_lock=lock,
        settings=TransferSettings(memory=16 << 20),
    )
    for name, size in (("small", 1), ("large", 12 << 20)):
        pointer = manager.put(name, bytes(size))
        options = store.objects[pointer.key].options
        assert options.encryption == Encryption(kms_key="arn:aws:kms:eu-west-1:123456789012:key/k", bucket_key=True)
        assert (dict(options.tags), dict(options.metadata)) == ({"team": "vision"}, {"origin": "camera"})
        assert (options.storage_class, options.expected_bucket_owner) == ("STANDARD_IA", "123456789012")
        assert options.extra == {
            "ObjectLockMode": "GOVERNANCE",
            "ObjectLockRetainUntilDate": NOON,
            "ObjectLockLegalHoldStatus": "ON",
        }


@pytest.mark.parametrize(("setting", "key"), [("AES256", None), ("arn:aws:kms:r:1:key/k", "arn:aws:kms:r:1:key/k")])
def test_encryption_may_be_named(store: MemoryStore, setting: str, key: str | None) -> None:
    """``AES256`` stands for SSE-S3, an ARN for SSE-KMS."""
    pointer = ArtifactManager(store, encryption=setting).put("a", b"")
    assert store.objects[pointer.key].options.encryption == Encryption(kms_key=key)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"mode": "append"}, "mode is 'append'"),
        ({"layout": "flat"}, "layout is 'flat'"),
        ({"prefix": "a//b"}, "empty segment"),
        ({"encryption": "rot13"}, "encryption is 'rot13'"),
        ({"tags": {str(n): "" for n in range(11)}}, "10 an object, got 11"),
        ({"tags": {"a": 1}}, "names and values are text"),
        ({"tags": {"a" * 129: "b"}}, "1 to 128"),
        ({"tags": {"a": "b" * 257}}, "values of 256"),
        ({"metadata": {"a": 1}}, "names and values are text"),
        ({"metadata": {"a": "é"}}, "printable ASCII"),
        ({"metadata": {"a b": "c"}}, "printable ASCII"),
        ({"metadata": {"a": "x" * 2048}}, "2,048 bytes"),
        ({"expected_bucket_owner": "me"}, "12 digits"),
        ({"request_payer": "owner"}, "request_payer"),
        ({"profile": "azure"}, "azure"),
        ({"progress": 7}, "progress is of type int"),
        ({"client": object()}, "a store already"),
    ],
)
def test_bad_settings_are_configuration_errors(store: MemoryStore, arguments: Any, match: str) -> None:
    """A setting outside its limits is refused when the manager is made, not at the first put."""
    with pytest.raises(ConfigurationError, match=match):
        ArtifactManager(store, **arguments)


@pytest.mark.parametrize("bucket", ["", None, 7, "a", "my bucket", "a/b", "s3://", "s3:///x", "s3://b/../x"])
def test_a_bucket_that_is_none_is_a_configuration_error(bucket: Any) -> None:
    """The message says what to set; nothing is sent."""
    with pytest.raises(ConfigurationError, match="othing was sent"):
        ArtifactManager(bucket, client=MemoryStore("results"))


def test_an_access_point_is_a_bucket() -> None:
    """An ARN goes where a bucket's name goes, alone or in a URL."""
    arn = "arn:aws:s3:eu-west-1:123456789012:accesspoint/results"
    for bucket in (arn, f"s3://{arn}/runs"):
        manager = ArtifactManager(bucket, client=MemoryStore(arn))
        assert manager.put("a", b"x").bucket == arn
    with pytest.raises(ConfigurationError, match="bucket 'x'"):
        ArtifactManager(MemoryStore("x"))


def test_an_abort_from_another_thread_ends_a_table(store: MemoryStore) -> None:
    """The encoder notices at its next write; nothing is left, and nothing is reported but the abort."""
    import pyarrow as pa

    manager = ArtifactManager(store, settings=TransferSettings(memory=16 << 20))
    started = threading.Event()

    def endless() -> Iterator[pa.RecordBatch]:
        while True:
            started.set()
            yield pa.record_batch({"a": np.random.default_rng(1).random(1 << 17)})

    def abort() -> None:
        started.wait()
        manager.abort()

    thread = threading.Thread(target=abort)
    thread.start()
    with pytest.raises(StoreError, match="aborted"):
        manager.put_table("a", endless(), row_group_bytes=1 << 20)
    thread.join()
    assert store.keys() == store.open_uploads == []


@pytest.mark.parametrize(
    "lock",
    [
        {"mode": "GOVERNANCE"},
        {"retain_until": NOON},
        {"mode": "X", "retain_until": NOON},
        {"mode": "COMPLIANCE", "retain_until": NOON.replace(tzinfo=None)},
    ],
)
def test_a_lock_is_whole_or_an_error(lock: Any) -> None:
    """Mode and date belong together, and the date has a zone."""
    with pytest.raises(ConfigurationError, match="object_lock"):
        ObjectLock(**lock)


def test_a_bucket_may_be_a_url(store: MemoryStore) -> None:
    """``s3://bucket/prefix`` gives both; a prefix is appended to it; a store may come as the client."""
    manager = ArtifactManager("s3://results/runs/", "team", client=store, run=RUN)
    assert manager.url == "s3://results/runs/team/Segment/7f3c/Mask/0-ab12/"
    assert manager.bucket == "results"
    assert repr(manager) == f"ArtifactManager('{manager.url}', 0 artifacts)"
    with pytest.raises(ArtifactNotFoundError):
        ArtifactManager("other", client=store)


def test_the_environment_configures_a_manager(store: MemoryStore) -> None:
    """Every variable of the producer is read; arguments win."""
    environ = {
        "STEPOUT_BUCKET": "results",
        "STEPOUT_PREFIX": "runs",
        "STEPOUT_EXECUTION": EXECUTION,
        "STEPOUT_STATE": "Mask",
        "STEPOUT_ATTEMPT": "1",
        "STEPOUT_S3_PROFILE": "compatible",
    }
    manager = ArtifactManager.from_env(environ, client=store)
    assert manager.url.startswith("s3://results/runs/Segment/7f3c/Mask/1-")
    assert ArtifactManager.from_env(environ, client=store, prefix=None, bucket=None, run=None).url.startswith(
        "s3://results/runs/"
    )
    other = ArtifactManager.from_env(environ, bucket=store, prefix="", run=RUN, profile=StoreProfile())
    assert other.url == "s3://results/Segment/7f3c/Mask/0-ab12/"
    url = ArtifactManager.from_env({**environ, "STEPOUT_BUCKET": "s3://results/a", "STEPOUT_PREFIX": ""}, client=store)
    assert url.url.startswith("s3://results/a/Segment/")


def test_the_environment_of_the_process_is_the_default(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """``from_env()`` reads ``os.environ`` when it is called."""
    monkeypatch.setenv("STEPOUT_BUCKET", "results")
    monkeypatch.setenv("STEPOUT_STATE", "Mask")
    assert ArtifactManager.from_env(client=store).run.state == "Mask"


@pytest.mark.parametrize(
    ("environ", "match"),
    [
        ({}, "set STEPOUT_BUCKET"),
        ({"STEPOUT_BUCKET": ""}, "set STEPOUT_BUCKET"),
        ({"STEPOUT_BUCKET": "results", "STEPOUT_ATTEMPT": "first"}, "STEPOUT_ATTEMPT"),
        ({"STEPOUT_BUCKET": "results", "STEPOUT_S3_PROFILE": "other"}, "STEPOUT_S3_PROFILE"),
    ],
)
def test_a_bad_environment_says_what_to_set(store: MemoryStore, environ: dict[str, str], match: str) -> None:
    """What is missing or wrong is named."""
    with pytest.raises(ConfigurationError, match=match):
        ArtifactManager.from_env(environ, client=store)


# The end -----------------------------------------------------------------------------------------------------------


def test_an_aborted_manager_writes_nothing_more(manager: ArtifactManager, store: MemoryStore) -> None:
    """After ``abort()``, a second one included, every put is refused and open writers are ended."""
    writer = manager.open("a")
    writer.write(bytes(30 << 20))
    manager.abort()
    manager.abort()
    for act in (
        lambda: manager.put("b", b"x"),
        lambda: manager.open("c"),
        lambda: manager.put_document("a-b", {}),
        lambda: writer.write(b"x"),
    ):
        with pytest.raises((StoreError, ValueError), match=r"abort|closed"):
            act()
    assert store.keys() == store.open_uploads == []
    manager.close()


def test_an_abort_from_another_thread_ends_a_put(store: MemoryStore) -> None:
    """A put that is under way in one thread ends with an error when another thread aborts."""
    started = threading.Event()
    manager = ArtifactManager(store, settings=TransferSettings(memory=16 << 20))

    class Endless(io.RawIOBase):
        def readinto(self, buffer: Any, /) -> int:
            started.set()
            return len(buffer)

    def abort() -> None:
        started.wait()
        manager.abort()

    thread = threading.Thread(target=abort)
    thread.start()
    with pytest.raises(StoreError, match="aborted"):
        manager.put("a", Endless())
    thread.join()
    assert store.keys() == store.open_uploads == []


def test_leaving_the_block_closes_the_manager(manager: ArtifactManager) -> None:
    """After the block, pointers can be read and nothing can be written."""
    with manager:
        manager.put("a", b"x")
    assert list(manager.pointers) == ["a"]
    with pytest.raises(StoreError, match="is closed"):
        manager.put("b", b"x")
    manager.close()


def test_a_closed_manager_still_takes_a_tasks_documents(manager: ArtifactManager) -> None:
    """A result that spills after ``with task.artifacts`` was left is kept; after an abort nothing is."""
    manager.close()
    assert manager.put_document("stepout-result", {"rows": 3}).size > 0
    manager.abort()
    with pytest.raises(StoreError, match="is closed"):
        manager.put_document("stepout-output", {"rows": 3})


def test_an_exception_in_the_block_aborts_open_writers(manager: ArtifactManager, store: MemoryStore) -> None:
    """The exception leaves unchanged; a writer that was open has left nothing."""

    def job() -> None:
        with manager:
            manager.open("a").write(bytes(30 << 20))
            raise KeyError("boom")

    with pytest.raises(KeyError, match="boom"):
        job()
    assert store.keys() == store.open_uploads == []


def test_a_writer_that_was_never_closed_is_no_silent_success(manager: ArtifactManager, store: MemoryStore) -> None:
    """Closing the manager with an open writer raises, and keeps nothing of it."""
    writer = manager.open("a")
    with pytest.raises(StoreError, match=r"not committed when.*: a;"), manager:
        writer.write(b"x")
    writer.abort()
    assert store.keys() == []


def test_the_public_names_are_there() -> None:
    """Every listed name can be imported, and another one is an AttributeError."""
    import stepout.artifacts

    for name in stepout.artifacts.__all__:
        assert getattr(stepout.artifacts, name) is not None
        assert name in dir(stepout.artifacts)
    with pytest.raises(AttributeError, match="nonsense"):
        stepout.artifacts.nonsense  # noqa: B018 - the access is the test


def test_runs_are_values() -> None:
    """A manager's run can be changed and passed on, for one worker that serves many tasks."""
    store = MemoryStore("results")
    first = ArtifactManager(store, run=RUN)
    second = ArtifactManager(store, run=replace(first.run, nonce="cd34"))
    assert first.put("a", b"1").key != second.put("a", b"2").key
