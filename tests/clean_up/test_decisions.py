"""What may go, as a table: how executions stand, and what an object says of itself."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from support.left_behind import execution

from stepout.artifacts.commit_record import RecordedTask
from stepout.clean_up.decisions import ExecutionStatus, by_executions, is_record, status_of, task_of

OWN, PARENT, CHILD = execution("own"), execution("parent", "Outer"), execution("9c1e", "Outer/Tiles")
RECORD = "runs/Segment/own/S/0-ab/_output.json"


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ({"status": "RUNNING"}, "runs"),
        ({"status": "PENDING_REDRIVE"}, "runs"),
        ({"status": "SUCCEEDED", "redriveStatus": "NOT_REDRIVABLE"}, "over"),
        ({"status": "SUCCEEDED"}, "over"),
        ({"status": "FAILED"}, "over"),
        ({"status": "FAILED", "redriveStatus": "NOT_REDRIVABLE"}, "over"),
        ({"status": "FAILED", "redriveStatus": "REDRIVABLE"}, "runs"),
        ({"status": "TIMED_OUT", "redriveStatus": "REDRIVABLE_BY_MAP_RUN"}, "runs"),
        ({"status": "ABORTED", "redriveStatus": "REDRIVABLE"}, "runs"),
        ({"status": "SOMETHING_NEW"}, "unknown"),
        ({}, "unknown"),
    ],
)
def test_an_answer_of_step_functions_says_whether_it_is_over(answer: dict[str, str], kind: str) -> None:
    """Over is what neither runs nor can be redriven; a status that nobody knows is not over."""
    assert status_of(answer).kind == kind


@pytest.mark.parametrize(
    ("own", "parent", "days", "kind"),
    [
        ("over", None, 1, "leftover"),
        ("runs", None, 1, "kept"),
        ("unknown", None, 400, "unknown"),
        ("gone", None, 89, "unknown"),
        ("gone", None, 90, "leftover"),
        ("over", "over", 1, "leftover"),
        ("over", "runs", 1, "kept"),
        ("runs", "over", 1, "kept"),
        ("over", "unknown", 400, "unknown"),
        ("over", "gone", 1, "unknown"),
        ("gone", "over", 1, "unknown"),
        ("gone", "gone", 90, "leftover"),
    ],
)
def test_both_executions_must_be_over(own: str, parent: str | None, days: int, kind: str) -> None:
    """One that runs keeps, one that nobody knows leaves it open, unless it must have been forgotten."""
    known: dict[str, Any] = {OWN: own, PARENT: parent}
    task = RecordedTask(
        record=RECORD, prefix="runs", execution=OWN, parent_execution=None if parent is None else PARENT
    )
    found = by_executions(task, timedelta(days=days), lambda arn: ExecutionStatus(known[arn], "told"))
    assert found.kind == kind
    assert found.hindered == ("unknown" in (own, parent))


@pytest.mark.parametrize(("own", "parent", "kind"), [("unknown", "over", "leftover"), ("gone", "unknown", "unknown")])
def test_a_child_of_a_map_that_nobody_knows_is_as_its_parent(own: str, parent: str, kind: str) -> None:
    """Children of a Distributed Map end with the execution that has the map."""
    known: dict[str, Any] = {CHILD: own, PARENT: parent}
    task = RecordedTask(record=RECORD, prefix="runs", execution=CHILD, parent_execution=PARENT)
    assert by_executions(task, timedelta(1), lambda arn: ExecutionStatus(known[arn], "told")).kind == kind


@pytest.mark.parametrize(
    ("key", "record", "prefix", "ours"),
    [
        ("runs/Segment/own/S/0-ab/a", RECORD, "runs", True),
        ("runs/Segment/own/S/0-ab/folder/a", RECORD, "runs", True),
        ("Segment/own/S/0-ab/a", "Segment/own/S/0-ab/_output.json", "", True),
        ("runs/Segment/own/S/0-abc/a", RECORD, "runs", False),
        ("archive/runs/Segment/own/S/0-ab/a", RECORD, "runs", False),
        ("runs/Segment/own/S/0-ab/a", RECORD, "other", False),
        ("runs/Segment/own/S/0-ab/a", RECORD, "run", False),
        ("runs/Segment/a", "runs/Segment/_output.json", "runs", False),
        ("a", "_output.json", "", False),
        ("runs/Segment/own/S/0-ab/a", "runs/Segment/own/S/0-ab/other.json", "runs", False),
    ],
)
def test_metadata_counts_only_where_the_key_fits(key: str, record: str, prefix: str, ours: bool) -> None:
    """A copy keeps its metadata, and metadata may say anything."""
    metadata = RecordedTask(record=record, prefix=prefix, execution=OWN).to_metadata()
    assert (task_of(key, metadata) is not None) == ours
    assert task_of(key, {}) is None


def test_records_and_undelivered_documents_are_known_by_their_names() -> None:
    """In whatever folder they lie."""
    assert all(map(is_record, ("a/_output.json", "_output.json", "a/stepout-undelivered.json")))
    assert not any(map(is_record, ("a/_output.json/b", "a/output.json", "a/stepout-output.json")))
