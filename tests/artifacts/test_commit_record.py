"""What an object's metadata says of the task that wrote it, and the record that names it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.wire import Wire

from stepout.artifacts import ArtifactManager
from stepout.artifacts.commit_record import RecordedTask, commit_record_of, kept_by_parent, record_key, recorded_task
from stepout.artifacts.memory import MemoryStore
from stepout.schemas import RunIdentity
from stepout.schemas.errors import ArtifactExistsError, ConfigurationError, InvalidDocumentError

if TYPE_CHECKING:
    from pathlib import Path

    from support.seaweed import Seaweed

TEXT = st.text(st.characters(codec="utf-8"), max_size=40)


@given(TEXT, TEXT, st.none() | TEXT)
def test_metadata_gives_back_the_task(below: str, prefix: str, execution: str | None) -> None:
    """Whatever the keys are, ASCII metadata holds them, in whatever case the server sends its names."""
    folder = f"{prefix}/" if prefix else ""
    task = RecordedTask(record=f"{folder}{below}/_output.json", prefix=prefix, execution=execution)
    metadata = task.to_metadata()
    assert all(value.isascii() and value.isprintable() for value in metadata.values())
    key = f"{folder}{below}/features"
    assert RecordedTask.from_metadata({name.upper(): value for name, value in metadata.items()}, key) == task
    if prefix:
        assert RecordedTask.from_metadata(metadata, f"x{key}"[: len(prefix)]) is None


@pytest.mark.parametrize("said", ["", "4", "runs", "-4-x", "99999-x", "\u0664-x", "4-1f64fff08d787e74"])
def test_other_metadata_is_no_task(said: str) -> None:
    """An object of somebody else, or of a task without a record, says nothing."""
    assert RecordedTask.from_metadata({}, "runs/a") is None
    assert RecordedTask.from_metadata({"stepout-record": "a"}, "runs/a") is None
    assert RecordedTask.from_metadata({"stepout-record": "a", "stepout-prefix": said}, "runs/a") is None


def test_a_run_has_its_record_in_its_folder() -> None:
    """The record lies beside the artifacts, and both executions are named."""
    run = RunIdentity(execution="arn:child", parent_execution="arn:parent")
    assert recorded_task("runs/x/0-ab", "runs", run) == RecordedTask(
        record="runs/x/0-ab/_output.json", prefix="runs", execution="arn:child", parent_execution="arn:parent"
    )


RUN = RunIdentity(execution="arn:child", parent_execution="arn:parent", state="Mask", nonce="ab")


def tasks_of(store: MemoryStore) -> dict[str, RecordedTask | None]:
    """What each object of a store says of its task, by its key's end in the run's folder."""
    return {
        key.partition("/0-ab/")[2]: RecordedTask.from_metadata(store.head(key).metadata, key)
        for key in sorted(store.keys())
    }


def test_every_object_of_a_task_with_a_record_says_so(tmp_path: Path) -> None:
    """Small ones, parts, lists of blocks, files of directories and datasets with what names them, spilled documents."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.txt").write_bytes(b"a")
    store = MemoryStore("results")
    manager = ArtifactManager(store, "runs", run=RUN, metadata={"team": "maps"}, commit_record=True)
    manager.put_bytes("small", b"1")
    manager.put_bytes("large", b"m" * (9 << 20))  # in parts, and its list of blocks is an object
    manager.put_directory("folder", tmp_path)
    manager.put_dataset("rows", pa.table({"day": ["a", "b"], "n": [1, 2]}), partition_by=["day"])
    with manager.open("stream") as sink:
        sink.write(b"s" * (9 << 20))
    for stem in ("stepout-result", "stepout-output"):
        manager.put_document(stem, {"rows": 3})
    said = tasks_of(store)
    expected = recorded_task(manager.url.removeprefix("s3://results/").removesuffix("/"), "runs", manager.run)
    assert expected.record.startswith("runs/executions/arn-parent")
    assert {name.partition("/")[0].partition(".")[0].partition("-")[0] for name in said} == {
        *("small", "large", "folder", "rows", "stream", "blocks", "stepout")
    }
    assert set(said.values()) == {expected}
    assert {store.head(key).metadata["team"] for key in list(store.keys())} == {"maps"}


def test_what_no_record_names_says_nothing() -> None:
    """The record, an undelivered document, one of the caller's own: clean-up must never take them for garbage."""
    store = MemoryStore("results")
    manager = ArtifactManager(store, "runs", run=RUN, metadata={"team": "maps"}, commit_record=True)
    pointer = manager.put_record({"stepout": "output/1", "artifacts": {}})
    manager.put_document("stepout-undelivered", {"rows": 3})
    manager.put_document("my-own", {"rows": 3})
    assert pointer.key == record_key(manager.url.removeprefix("s3://results/").removesuffix("/"))
    assert store.read(pointer.key) == b'{"stepout":"output/1","artifacts":{}}'
    assert tasks_of(store) == {"_output.json": None, "my-own.json": None, "stepout-undelivered.json": None}
    assert {store.head(key).metadata["team"] for key in list(store.keys())} == {"maps"}


def test_a_bare_manager_keeps_no_record_and_says_nothing() -> None:
    """Nothing changes for who asks for nothing, and ``_output`` is a name like any other."""
    store = MemoryStore("results")
    manager = ArtifactManager(store, "runs", run=RUN)
    manager.put_json("_output", {"rows": 3})
    assert (manager.keeps_record, tasks_of(store)) == (False, {"_output.json": None})


@pytest.mark.parametrize("setting", [True, "parent"])
def test_the_records_name_is_no_artifacts(setting: Any, tmp_path: Path) -> None:
    """Whoever keeps the record: no put, writer, directory or adopted object is called ``_output``."""
    store = MemoryStore("results")
    manager = ArtifactManager(store, "runs", run=RUN, commit_record=setting)
    assert manager.keeps_record is (setting is True)
    for put in (
        lambda: manager.put("_output", {"rows": 3}),
        lambda: manager.open("_output"),
        lambda: manager.put_directory("_output", tmp_path),
        lambda: manager.adopt("_output", "s3://results/a"),
    ):
        with pytest.raises(InvalidDocumentError, match="the task's record"):
            put()
    assert store.keys() == []


def test_a_record_is_written_once_and_again_with_the_same_content() -> None:
    """Another content is refused; with keys that other processes make, too, the record follows the artifacts."""
    store = MemoryStore("results")
    manager = ArtifactManager(store, "runs", run=RUN, commit_record=True)
    first = manager.put_record({"a": 1})
    assert manager.put_record({"a": 1}).etag == first.etag
    with pytest.raises(ArtifactExistsError):
        manager.put_record({"a": 2})
    replacing: list[dict[str, Any]] = [{"layout": "fixed"}, {"mode": "overwrite"}]
    for setting in replacing:
        again = ArtifactManager(store, "again", run=RUN, commit_record=True, **setting)
        again.put_record({"a": 1})
        assert store.read(again.put_record({"a": 2}).key) == b'{"a":2}'


def test_metadata_that_s3_would_refuse_is_refused_before() -> None:
    """The caller's and the task's own count together; the message says what is whose, and what to do."""
    metadata = {"a": "x" * 2_000}
    with pytest.raises(ConfigurationError, match="STEPOUT_COMMIT_RECORD=off") as caught:
        ArtifactManager(MemoryStore("results"), "runs", run=RUN, metadata=metadata, commit_record=True)
    assert "2,001 are yours" in str(caught.value)
    ArtifactManager(MemoryStore("results"), "runs", run=RUN, metadata=metadata)


LONG = "arn:aws:states:eu-west-1:123456789012:execution:"


@pytest.mark.parametrize("prefix", ["", "p" * 768, "ü" * 384, "本" * 256, "/".join(["本" * 20] * 12)])
@pytest.mark.parametrize("names", ["M:e", f"{'m' * 80}:{'e' * 80}", f"{'本' * 80}:{'書' * 80}"])
def test_every_prefix_leaves_room_in_the_metadata(prefix: str, names: str) -> None:
    """No prefix and no execution stops a task; one whose name takes too much room is left out."""
    run = RunIdentity(execution=f"{LONG}{names}", parent_execution=f"{LONG}{names}2", state="S" * 80, nonce="a" * 16)
    store = MemoryStore("results")
    manager = ArtifactManager(store, prefix, run=run, commit_record=True)
    pointer = manager.put("features", {"a": 1})
    metadata = store.head(pointer.key).metadata
    assert sum(len(name) + len(value) for name, value in metadata.items()) <= 2_048
    task = RecordedTask.from_metadata(metadata, pointer.key)
    assert task is not None
    assert task.record == manager.put_record({"a": 1}).key
    assert task.execution == (run.execution if names.isascii() else None)


def test_metadata_of_the_tasks_own_names_is_refused() -> None:
    """Nobody else says which record an object belongs to."""
    with pytest.raises(ConfigurationError, match="stepout-record"):
        ArtifactManager(MemoryStore("results"), metadata={"Stepout-Record": "x"}, commit_record=True)


@pytest.mark.parametrize(
    ("said", "given_setting", "found"),
    [
        (None, None, True),
        ("", None, True),
        ("on", False, False),
        ("off", None, False),
        ("off", True, True),
        ("parent", None, "parent"),
        ("parent", True, "parent"),
        ("parent", False, False),
    ],
)
def test_a_task_keeps_a_record_unless_somebody_says_otherwise(
    said: str | None, given_setting: bool | None, found: bool | str
) -> None:
    """The argument comes before the variable; of a task whose parent keeps one there is no second."""
    environ = {} if said is None else {"STEPOUT_COMMIT_RECORD": said}
    assert commit_record_of(environ, given_setting) == found


@pytest.mark.parametrize(
    ("ours", "given_place", "found"),
    [
        ({}, {}, "parent"),
        ({}, {"bucket": "b", "prefix": "two words"}, "parent"),
        ({}, {"bucket": "other"}, True),
        ({}, {"prefix": ""}, True),
        ({"STEPOUT_PREFIX": "other"}, {}, True),
        ({"STEPOUT_PREFIX": "other"}, {"prefix": "two words"}, "parent"),
    ],
)
def test_the_parent_keeps_the_record_of_what_is_written_beside_its_own(
    ours: dict[str, str], given_place: dict[str, Any], found: bool | str
) -> None:
    """Clean-up would not find it elsewhere."""
    place = {"STEPOUT_BUCKET": "b", "STEPOUT_PREFIX": "two words"}
    environ = {**place, **kept_by_parent(place), **ours}
    assert commit_record_of(environ, **given_place) == found
    bare = {"STEPOUT_BUCKET": "b"}
    assert commit_record_of({**bare, **kept_by_parent(bare)}) == "parent"
    assert kept_by_parent({}) == kept_by_parent({**bare, "STEPOUT_COMMIT_RECORD": "off"}) == {}


def test_settings_that_mean_nothing_are_refused() -> None:
    """By name."""
    with pytest.raises(ConfigurationError, match="STEPOUT_COMMIT_RECORD"):
        commit_record_of({"STEPOUT_COMMIT_RECORD": "yes"})
    with pytest.raises(ConfigurationError, match="commit_record is 'on'"):
        ArtifactManager(MemoryStore("results"), commit_record="on")  # type: ignore[arg-type] # the mistake


@pytest.mark.parametrize("lost", ["lost", "status"])
def test_a_lost_answer_of_the_record_is_settled(seaweed: Seaweed, bucket: str, lost: Any) -> None:
    """S3 took it and the answer was lost, or did not take it at first: one record, on a real server, with its words."""
    with Wire(seaweed.endpoint) as wire:
        client = seaweed.client(endpoint=wire.endpoint)
        manager = ArtifactManager(bucket, "runs", client=client, run=RUN, profile="compatible", commit_record=True)
        put = manager.put_bytes("small", b"1")
        fault = wire.when("PutObject", lost)
        record = manager.put_record({"rows": 3})
        assert fault.hits == 1
        assert client.get_object(Bucket=bucket, Key=record.key)["Body"].read() == b'{"rows":3}'
        found = client.head_object(Bucket=bucket, Key=put.key)["Metadata"]
    assert RecordedTask.from_metadata(found, put.key) == recorded_task(
        record.key.removesuffix("/_output.json"), "runs", manager.run
    )


def test_a_record_is_one_request(seaweed: Seaweed, bucket: str) -> None:
    """Once the bucket is known from the artifacts, whatever the document's size."""
    with Wire(seaweed.endpoint) as wire:
        client = seaweed.client(endpoint=wire.endpoint)
        manager = ArtifactManager(bucket, "runs", client=client, run=RUN, profile="compatible", commit_record=True)
        manager.put_bytes("small", b"1")
        before = len(wire.operations)
        manager.put_record({"text": "x" * 250_000})
        assert wire.operations[before:] == ["PutObject"]
