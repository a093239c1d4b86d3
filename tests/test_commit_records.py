"""Tasks keep their output document beside its artifacts, before anybody is told of a success."""
# ruff: noqa: PT012 - what happens in the block is what is tested

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

import stepout
from stepout.artifacts import ArtifactManager
from stepout.artifacts.commit_record import RecordedTask
from stepout.callbacks import Task
from stepout.schemas.errors import AccessDeniedError, StoreUnavailableError, TaskClosedError
from stepout.testing import MemoryStore, RecordingTarget

if TYPE_CHECKING:
    from collections.abc import Mapping

ENVIRON = {"STEPOUT_EXECUTION": "arn:x", "STEPOUT_STATE": "Mask"}


class Refusing(MemoryStore):
    """A bucket whose policy does not allow records, or in which something else happens when one is written."""

    def __init__(self, happens: Any = None) -> None:
        super().__init__("results")
        self.happens = happens

    def put(self, key: str, *args: Any, **kwargs: Any) -> Any:
        """Refuse a record, or let what happens happen."""
        if key.endswith("/_output.json"):
            if self.happens is None:
                raise AccessDeniedError(f"PutObject s3://results/{key}: denied")
            self.happens()
        return super().put(key, *args, **kwargs)


def opened(store: MemoryStore, target: Any, **more: Any) -> stepout.OpenTask:
    """A task in a bucket."""
    settings = {"environ": ENVIRON, **more}
    return stepout.open_task(bucket=store, prefix="runs", targets=target, **settings)


def record_of(store: MemoryStore) -> Any:
    """The one record of a bucket; ``None`` without one."""
    keys = [key for key in list(store.keys()) if key.endswith("/_output.json")]
    assert len(keys) <= 1
    return json.loads(store.read(keys[0])) if keys else None


def test_the_record_is_the_document_and_comes_before_success() -> None:
    """Beside the artifacts, which name it."""
    store, seen = MemoryStore("results"), []

    class Looking(RecordingTarget):
        def success(self, document: Mapping[str, Any]) -> None:
            seen.append(record_of(store))
            super().success(document)

    target = Looking()
    with opened(store, target) as task:
        pointer = task.artifacts.put_json("features", {"rows": 3})
        task.result["rows"] = 3
    assert seen == target.successes
    said = RecordedTask.from_metadata(store.head(pointer.key).metadata, pointer.key)
    assert said is not None
    assert json.loads(store.read(said.record)) == target.successes[0]


def test_a_task_without_artifacts_keeps_a_record_and_one_without_a_bucket_none() -> None:
    """Its result is read from the record, too."""
    store, target = MemoryStore("results"), RecordingTarget()
    with opened(store, target) as task:
        task.result["rows"] = 3
    assert record_of(store) == target.successes[0]
    with stepout.open_task(environ=ENVIRON, targets=RecordingTarget()) as without:
        without.result["rows"] = 3


@pytest.mark.parametrize("budget", [1_200, 600])
def test_spilled_documents_are_named_by_the_record(budget: int) -> None:
    """The record is what is reported: its result, or the whole of it, lies in the document that it names."""
    store, target = MemoryStore("results"), RecordingTarget()
    with opened(store, target, budget=budget) as task:
        task.artifacts.put_bytes("mask", b"m")
        task.result["text"] = "x" * 2_000
    record = record_of(store)
    assert record == target.successes[0]
    spilled = record["manifest"] if budget == 600 else record["result"]
    assert RecordedTask.from_metadata(store.head(spilled["key"]).metadata, spilled["key"]) is not None
    output = stepout.resolve_output(record, allow=["s3://results/runs/"], client=store)
    assert (output.result["text"], output["mask"].read_bytes()) == ("x" * 2_000, b"m")


def test_a_record_that_cannot_be_written_fails_the_task_retryably() -> None:
    """The state hears of a failure that trying again may help, and of what to allow."""
    target = RecordingTarget()
    with (
        pytest.raises(StoreUnavailableError, match="s3:PutObject below the prefix") as caught,
        opened(Refusing(), target) as task,
    ):
        task.artifacts.put_bytes("mask", b"m")
    assert isinstance(caught.value.__cause__, AccessDeniedError)
    assert target.successes == []
    (failure,) = target.failures
    assert (failure["error"], failure["cause"]["retryable"]) == ("Stepout.StoreUnavailable", True)


@pytest.mark.parametrize(
    "setting", [{"commit_record": False}, {"environ": {**ENVIRON, "STEPOUT_COMMIT_RECORD": "off"}}]
)
def test_no_record_where_none_is_wanted(setting: dict[str, Any]) -> None:
    """And no object says that it belongs to a task with one."""
    store, target = Refusing(), RecordingTarget()
    with opened(store, target, **setting) as task:
        pointer = task.artifacts.put_bytes("mask", b"m")
    assert len(target.successes) == 1
    assert (record_of(store), store.head(pointer.key).metadata) == (None, {})


def test_a_manager_of_ones_own_decides() -> None:
    """A bare one keeps none; one that marks its objects keeps the record."""
    for wanted in (False, True):
        store, target = MemoryStore("results"), RecordingTarget()
        with Task(target, artifacts=ArtifactManager(store, commit_record=wanted)) as task:
            task.artifacts.put_bytes("mask", b"m")
        assert record_of(store) == (target.successes[0] if wanted else None)


def test_a_failure_leaves_no_record() -> None:
    """What a failed run has left is named by nobody."""
    store = MemoryStore("results")
    with pytest.raises(KeyError), opened(store, RecordingTarget()) as task:
        task.artifacts.put_bytes("mask", b"m")
        raise KeyError("no such scene")
    assert record_of(store) is None


def test_no_record_after_an_interruption() -> None:
    """A signal at the end of the block comes before the record."""
    store, target = MemoryStore("results"), RecordingTarget()
    with pytest.raises(SystemExit), opened(store, target) as task:
        task.artifacts.put_bytes("mask", b"m")
        os.kill(os.getpid(), signal.SIGTERM)
        task.cancelled.wait(60)
    assert (record_of(store), target.failures[0]["error"]) == (None, "Stepout.Interrupted")


def test_no_record_after_a_cancellation() -> None:
    """Nobody waits any more: nothing is committed."""
    store, target = MemoryStore("results"), RecordingTarget()
    with pytest.raises(TaskClosedError), opened(store, target, heartbeat=1.0) as task:
        task.artifacts.put_bytes("mask", b"m")
        target.close()
        task.cancelled.wait(60)
    assert record_of(store) is None


def test_a_signal_while_the_record_is_written_is_an_interruption() -> None:
    """It came before the success: the failure is reported, once, and the record is that of a task that failed."""

    def signalled() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        task.cancelled.wait(60)

    store, target = Refusing(signalled), RecordingTarget()
    with pytest.raises(SystemExit), opened(store, target) as task:
        task.artifacts.put_bytes("mask", b"m")
    assert (target.successes, len(target.failures)) == ([], 1)
    assert target.failures[0]["error"] == "Stepout.Interrupted"


def test_an_undelivered_document_is_kept_beside_the_record() -> None:
    """The record is there, and so is the document that the message names, which says nothing of a record."""
    store, target = MemoryStore("results"), RecordingTarget()
    with pytest.raises(stepout.OutcomeUndeliveredError, match="stepout-undelivered"), opened(store, target) as task:
        task.artifacts.put_bytes("mask", b"m")
        target.unreachable = True
    (kept,) = [key for key in list(store.keys()) if "stepout-undelivered" in key]
    assert json.loads(store.read(kept)) == record_of(store)
    assert store.head(kept).metadata == {}


def test_two_tasks_of_one_run_in_one_process_have_a_record_each() -> None:
    """A message that is delivered again, for example: neither finds the other's record in its place."""
    store = MemoryStore("results")
    for rows in (1, 2):
        target = RecordingTarget()
        with opened(store, target) as task:
            task.artifacts.put_json("features", {"rows": rows})
        assert len(target.successes) == 1
    assert len([key for key in list(store.keys()) if key.endswith("/_output.json")]) == 2


def test_children_of_one_parent_have_their_records_in_its_folder() -> None:
    """Allow-lists, lifecycle rules and clean-up of one run hold for its children's artifacts and records."""
    store = MemoryStore("results")
    arn = "arn:aws:states:eu-west-1:123456789012:execution"
    for child in ("one", "two"):
        environ = {"STEPOUT_EXECUTION": f"{arn}:Tile:{child}", "STEPOUT_PARENT_EXECUTION": f"{arn}:Segment:7f3c"}
        with opened(store, RecordingTarget(), environ=environ) as task:
            task.artifacts.put_bytes("mask", b"m")
    keys = list(store.keys())
    assert len(keys) == 4
    assert all(key.startswith("runs/Segment/7f3c/") for key in keys)


def test_the_output_of_a_child_is_its_parents_too() -> None:
    """A consumer in the parent's execution may ask for that one; another run's child is refused."""
    producer = {"execution": "arn:c", "parentExecution": "arn:p", "state": "Mask"}
    document = {"stepout": "output/1", "artifacts": {}, "producer": producer}
    for asked in ("arn:c", "arn:p"):
        assert stepout.resolve_output(document, allow=[], execution=asked).producer is not None
    with pytest.raises(stepout.InvalidDocumentError, match="another run's"):
        stepout.resolve_output(document, allow=[], execution="arn:q")
