"""Where documents may lie: inside each other, beside failures, and never inside what a failure says."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.schema_cases import base

from stepout.schemas import TaskOutput, find_documents, find_failures, the_document
from stepout.schemas.errors import InvalidDocumentError, TaskFailedError
from stepout.schemas.search.locate import survey

OUTPUT, POINTER = base("output"), base("pointer")
MANIFEST = {"stepout": "output/1", "manifest": POINTER}
CAUSE = json.dumps({"message": "dark", "run": {}, "traceback": "…", "output": OUTPUT})
FAILURE = {"Error": "Demo.Error", "Cause": CAUSE}

NAMES = st.sampled_from(["score", "steps", "a", "producer2", "odd name"])


def merged(outer: dict[str, Any], path: list[str], value: Any) -> dict[str, Any]:
    """Put a value where ``ResultPath`` would: at a path of names, made as it goes."""
    whole = deepcopy(outer)
    place = whole
    for name in path[:-1]:
        place = place.setdefault(name, {})
    place[path[-1]] = value
    return whole


@given(
    outer=st.sampled_from([OUTPUT, MANIFEST, POINTER]),
    path=st.lists(NAMES, min_size=1, max_size=4),
    inner=st.sampled_from([OUTPUT, MANIFEST, POINTER]),
)
def test_what_is_merged_into_a_document_is_found_wherever_it_went(outer: Any, path: list[str], inner: Any) -> None:
    """Both are found, each once, the outer one first."""
    found = find_documents(merged(outer, path, inner))
    assert [each.document["stepout"] for each in found] == [outer["stepout"], inner["stepout"]]
    assert found[0].location == "$"


@pytest.mark.parametrize(
    ("path", "place"),
    [
        (["producer", "score"], "$.producer.score"),
        (["artifacts", "features", "score"], "$.artifacts.features.score"),
        (["artifacts", "score"], "$.artifacts.score"),
        (["a", "b", "c"], "$.a.b.c"),
    ],
)
def test_a_document_merged_into_a_known_member_is_found_too(path: list[str], place: str) -> None:
    """``ResultPath`` may lead anywhere; only the task's own result and annotations are its own."""
    outer = {"stepout": "output/1", "artifacts": {"features": POINTER}, "producer": {}}
    value = merged(outer, path, OUTPUT)
    assert [each.location for each in find_documents(value)] == ["$", place]
    with pytest.raises(InvalidDocumentError, match="of 2") as caught:
        the_document(value)
    assert [problem.location for problem in caught.value.problems] == ["$", place]


def test_several_merges_and_merges_into_merges_are_all_found() -> None:
    """A chain of three states, two results of which went beside the first and one into the second."""
    second = merged(OUTPUT, ["deeper"], OUTPUT)
    value = merged(merged(OUTPUT, ["a"], second), ["b", "c"], POINTER)
    assert [each.location for each in find_documents(value)] == ["$", "$.a", "$.a.deeper", "$.b.c"]


@pytest.mark.parametrize("member", ["result", "annotations"])
def test_what_a_task_says_itself_is_data(member: str) -> None:
    """A result may hold outputs, pointers and failures: there is one output all the same, and no failure."""
    said = {"best": POINTER, "inner": OUTPUT, "failed": FAILURE, "text": json.dumps(OUTPUT)}
    value: dict[str, Any] = {"stepout": "output/1", "artifacts": {}, "result": said}
    if member == "annotations":
        value = {**POINTER, "annotations": said}
    assert the_document([value]).location == "$[0]"
    assert find_failures(value) == {}
    assert not survey(value).texts


@pytest.mark.parametrize(
    "failure",
    [
        FAILURE,
        {"error": "Demo.Error", "cause": CAUSE},
        {"error": "Demo.Error", "cause": json.loads(CAUSE)},
        {"Error": "Demo.Error", "Cause": json.loads(CAUSE)},
        {"Cause": CAUSE},
        {"Cause": {"output": OUTPUT}},
        {"details": json.loads(CAUSE)},
        {"error": {"S": "Demo.Error"}, "cause": {"S": CAUSE}, "status": {"S": "FAILED"}},
        {"ExecutionArn": "arn:1", "Status": "FAILED", "Input": json.dumps(OUTPUT), **FAILURE},
        {"ExecutionArn": "arn:1", "Status": "TIMED_OUT", "Input": json.dumps(OUTPUT), "Output": OUTPUT},
        {"executionArn": "arn:1", "status": "ABORTED", "input": OUTPUT, "output": None},
        {"taskFailedEventDetails": {"resourceType": "ecs", "error": "Demo.Error", "cause": CAUSE}},
    ],
)
@pytest.mark.parametrize("around", ["%s", '{"error": %s}', '{"detail": {"a": [%s]}}'])
def test_nothing_of_a_failure_is_an_outcome(failure: dict[str, Any], around: str) -> None:
    """Its partial output is not found, as text or parsed; alone it raises with its own error and cause."""
    value = json.loads(around % json.dumps(failure))
    assert find_documents(value) == []
    assert not survey(value).texts
    assert len(find_failures(value)) == 1
    with pytest.raises(TaskFailedError) as caught:
        the_document(value)
    assert caught.value.error in {"Demo.Error", ""}
    assert "output/1" not in str(caught.value)
    assert [each.location for each in find_documents([value, OUTPUT])] == ["$[1]"]


ENVIRONMENT = [{"Name": "STEPOUT_INPUT", "Value": json.dumps(OUTPUT)}]
LOWER = [{"name": "STEPOUT_INPUT", "value": json.dumps(OUTPUT)}]
STOPPED = {"StopCode": "EssentialContainerExited", "LastStatus": "STOPPED"}
OVERRIDES = {"Overrides": {"ContainerOverrides": [{"Environment": ENVIRONMENT, "Command": [json.dumps(OUTPUT)]}]}}
POD = {"spec": {"containers": [{"env": LOWER, "args": [json.dumps(OUTPUT)]}]}}
JOB = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"annotations": {"last": json.dumps(OUTPUT)}}, **POD}


@pytest.mark.parametrize(
    "failure",
    [
        {**STOPPED, "Containers": [{"ExitCode": 0}, {"ExitCode": 1}], **OVERRIDES},
        {"StopCode": "TaskFailedToStart", "StoppedReason": json.dumps(OUTPUT), "Containers": [{}], **OVERRIDES},
        {"stopCode": "UserInitiated", "containers": [], "overrides": {"containerOverrides": [{"environment": LOWER}]}},
        {"containers": [{"exitCode": 137}], "overrides": {"containerOverrides": [{"environment": LOWER}]}},
        {"errorType": "X", "errorMessage": json.dumps(OUTPUT), "stackTrace": [json.dumps(OUTPUT)]},
        {"Status": "FAILED", "StatusReason": json.dumps(OUTPUT)},
        {"JobQueue": "q", "Status": "FAILED", "Container": {"Environment": ENVIRONMENT}, "later": OUTPUT},
        {"jobQueue": "q", "status": "FAILED", "container": {"environment": LOWER}},
        {"JobRunState": "TIMEOUT", "ErrorMessage": json.dumps(OUTPUT), "Arguments": {"--input": json.dumps(OUTPUT)}},
        {**JOB, "status": {"failed": 1, "conditions": [{"type": "Failed", "status": "True"}]}},
    ],
)
@pytest.mark.parametrize("around", [lambda value: value, lambda value: {"job": [value]}])
def test_what_a_service_says_of_a_task_that_failed_is_a_failure(failure: dict[str, Any], around: Any) -> None:
    """Neither the input nor the reason in it is an outcome, and beside an output it stays a failure."""
    value = around(failure)
    assert (find_documents(value), survey(value).texts) == ([], False)
    with pytest.raises(TaskFailedError) as caught:
        the_document(value)
    assert caught.value.error in {"X", ""}
    assert len(find_failures([OUTPUT, value])) == 1
    if "later" not in failure:
        merged_in = survey({**OUTPUT, **failure})
        assert (len(merged_in.found), len(merged_in.failures), merged_in.texts) == (1, 1, False)


@pytest.mark.parametrize(
    "success",
    [
        {**STOPPED, "Containers": [{"ExitCode": 0}], **OVERRIDES},
        {"JobQueue": "q", "Status": "SUCCEEDED", "Container": {"Command": [json.dumps(OUTPUT)]}, "Parameters": OUTPUT},
        {"JobRunState": "SUCCEEDED", "Arguments": {"--input": json.dumps(OUTPUT)}},
        {**JOB, "status": {"succeeded": 1, "conditions": [{"type": "Complete", "status": "True"}]}},
        {"Container": {"Environment": ENVIRONMENT}},
    ],
)
def test_the_input_of_a_task_that_succeeded_is_not_its_outcome(success: dict[str, Any]) -> None:
    """A ``.sync`` answer carries the task's input; what a state machine put beside it is found all the same."""
    assert (find_documents(success), find_failures(success), survey(success).texts) == ([], {}, False)
    assert the_document({**success, "score": OUTPUT}).location == "$.score"


@pytest.mark.parametrize(
    "value",
    [
        {"error": "none", "result": OUTPUT},
        {"message": "go", "run": {}, "o": OUTPUT},
        {"cause": {"o": OUTPUT}},
        {"Status": "FAILED", "o": OUTPUT},
        {"errorType": "X", "o": OUTPUT},
        {"containers": [{"name": "a"}], "Overrides": OUTPUT},
        {"environment": [OUTPUT]},
        {"apiVersion": {}, "kind": {}, "JobRunState": [], "StopCode": "", "spec": OUTPUT},
    ],
)
def test_what_only_looks_like_a_failure_is_none(value: Any) -> None:
    """Common words of others' JSON hide no document."""
    assert the_document(value).kind == "output"
    assert find_failures(value) == {}


def test_a_caught_failure_beside_an_output_is_history() -> None:
    """``Catch`` with ``ResultPath: "$.error"``, and JSONata's ``$merge``, leave the earlier output where it was."""
    for value in ({**OUTPUT, "error": FAILURE}, {**OUTPUT, **FAILURE}, {"a": OUTPUT, **FAILURE}):
        assert the_document(value).document["stepout"] == "output/1"
        assert [failure.error for failure in find_failures(value).values()] == ["Demo.Error"]
    assert the_document({**FAILURE, "recovered": OUTPUT}).location == "$.recovered"


def test_a_failure_among_the_items_of_an_array_keeps_one_output_from_standing_for_all() -> None:
    """A Map of two, one of which failed, has no single output."""
    for value in ([OUTPUT, FAILURE], {"items": [{"ok": OUTPUT}, {"error": FAILURE}]}, [[FAILURE], OUTPUT]):
        with pytest.raises(InvalidDocumentError, match="failure of another task") as caught:
            the_document(value)
        assert {problem.kind for problem in caught.value.problems} == {"several", "failed"}
    assert the_document([{"a": OUTPUT, "error": FAILURE}]).location == "$[0].a"


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_json_does_not_have_are_refused_with_their_places(number: float) -> None:
    """A value that was parsed leniently may hold them beside a document."""
    for value, place in (({"o": OUTPUT, "x": [1, number]}, "$.x[1]"), ({**OUTPUT, "later": number}, "$.later")):
        with pytest.raises(InvalidDocumentError) as caught:
            find_documents(value)
        assert [(problem.location, problem.kind) for problem in caught.value.problems] == [(place, "not-finite")]


def test_members_that_a_search_goes_through_are_kept_and_written_back() -> None:
    """A reader that passes an output on passes on what was merged into it."""
    value = merged(OUTPUT, ["score"], OUTPUT)
    assert TaskOutput.from_dict(value).to_dict() == value
