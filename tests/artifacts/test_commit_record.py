"""What an object's metadata says of the task that wrote it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stepout.artifacts.commit_record import RecordedTask, recorded_task
from stepout.schemas import RunIdentity

TEXT = st.text(st.characters(codec="utf-8"), max_size=40)


@given(TEXT, TEXT, st.none() | TEXT)
def test_metadata_gives_back_the_task(record: str, prefix: str, execution: str | None) -> None:
    """Whatever the keys are, ASCII metadata holds them, in whatever case the server sends its names."""
    task = RecordedTask(record=record, prefix=prefix, execution=execution)
    metadata = task.to_metadata()
    assert all(value.isascii() and value.isprintable() for value in metadata.values())
    assert RecordedTask.from_metadata({name.upper(): value for name, value in metadata.items()}) == task


def test_other_metadata_is_no_task() -> None:
    """An object of somebody else, or of a task without a record, says nothing."""
    assert RecordedTask.from_metadata({}) is None
    assert RecordedTask.from_metadata({"stepout-record": "a"}) is None


def test_a_run_has_its_record_in_its_folder() -> None:
    """The record lies beside the artifacts, and both executions are named."""
    run = RunIdentity(execution="arn:child", parent_execution="arn:parent")
    assert recorded_task("runs/x/0-ab", "runs", run) == RecordedTask(
        record="runs/x/0-ab/_output.json", prefix="runs", execution="arn:child", parent_execution="arn:parent"
    )
