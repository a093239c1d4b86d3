"""Outputs inside outputs, and failures beside them, through the four functions that resolve."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from support.shelf import ALLOW, Shelf

from stepout.artifacts.reading.artifact import Artifact
from stepout.artifacts.reading.output import Output
from stepout.artifacts.resolve import read_result_writer, resolve, resolve_all, resolve_artifact, resolve_output
from stepout.schemas import TaskOutput
from stepout.schemas.errors import InvalidDocumentError, NotAllowedError, TaskFailedError

if TYPE_CHECKING:
    from collections.abc import Callable


def output_of(shelf: Shelf, name: str, **result: Any) -> dict[str, Any]:
    """Return an output with one artifact of that name."""
    return TaskOutput(artifacts={name: shelf.put(name.encode(), name)}, result=result or None).to_dict()


def failure_of(shelf: Shelf) -> dict[str, Any]:
    """Return what ``Catch`` gives of a job that kept its partial output."""
    cause = {"message": "dark", "run": {}, "exitCode": 1, "output": output_of(shelf, "partial")}
    return {"Error": "Demo.Error", "Cause": json.dumps(cause)}


FORMS: list[Callable[[Any], Any]] = [
    lambda value: value,
    json.dumps,
    lambda value: {"Records": [{"body": json.dumps(value)}]},
]


@pytest.mark.parametrize("form", FORMS)
def test_a_merged_output_is_resolved_and_the_first_is_never_taken_for_the_only_one(shelf: Shelf, form: Any) -> None:
    """``ResultPath: "$.score"``: both by their locations, or an error that has both."""
    event = form(
        {**output_of(shelf, "mask"), "score": output_of(shelf, "score"), "thumb": shelf.put(b"1", "t").to_dict()}
    )
    found = resolve_all(event, allow=ALLOW, client=shelf.store)
    first, second, third = found.values()
    assert isinstance(first, Output)
    assert isinstance(second, Output)
    assert isinstance(third, Artifact)
    assert (first["mask"].read_bytes(), second["score"].read_bytes()) == (b"mask", b"score")
    assert found.failures == {}
    for resolved in (resolve_output, resolve):
        with pytest.raises(InvalidDocumentError, match="resolve_all") as caught:
            resolved(event, allow=ALLOW, client=shelf.store)
        places = [problem.location for problem in caught.value.problems]
        assert places == list(found)[:2]
        assert places[1] == f"{places[0]}.score"


def test_what_was_merged_among_artifacts_is_found_and_the_rest_stays_strict(shelf: Shelf) -> None:
    """``ResultPath: "$.artifacts.score"``: both outputs by their locations; what is nothing known is still refused."""
    mask, score = output_of(shelf, "mask"), output_of(shelf, "score")
    for member, place in ((score, "$.artifacts.score"), ({"Payload": score}, "$.artifacts.score.Payload")):
        event = {**mask, "artifacts": {**mask["artifacts"], "score": member}}
        found = resolve_all(event, allow=ALLOW, client=shelf.store)
        assert {where: list(each) for where, each in found.items() if isinstance(each, Output)} == {
            "$": ["mask"],
            place: ["score"],
        }
        with pytest.raises(InvalidDocumentError, match="resolve_all"):
            resolve_output(event, allow=ALLOW, client=shelf.store)
    assert list(resolve_all({**mask, "producer": score}, allow=ALLOW, client=shelf.store)) == ["$", "$.producer"]
    caught = {**mask, "artifacts": {**mask["artifacts"], "error": failure_of(shelf)}}
    assert list(resolve_output(caught, allow=ALLOW, client=shelf.store)) == ["mask"]
    for broken in ({"rows": 1}, {"stepout": "pointer/1", "score": score}):
        event = {**mask, "artifacts": {**mask["artifacts"], "score": broken}}
        with pytest.raises(InvalidDocumentError, match=r"artifacts\.score\.bucket"):
            resolve_all(event, allow=ALLOW, client=shelf.store)


def test_an_output_merged_among_the_artifacts_of_a_spilled_one_is_found(shelf: Shelf) -> None:
    """The merge made the member ``artifacts`` beside the manifest, which is no part of the document."""
    whole = shelf.put(json.dumps(output_of(shelf, "mask")).encode(), "whole.json", media_type="application/json")
    event = {"stepout": "output/1", "manifest": whole.to_dict(), "artifacts": {"score": output_of(shelf, "score")}}
    found = resolve_all(event, allow=ALLOW, client=shelf.store)
    assert list(found) == ["$", "$.artifacts.score"]


def test_an_output_merged_beside_a_manifest_is_found_and_kept(shelf: Shelf) -> None:
    """The first output was spilled: its manifest is followed, and what stands beside it is not lost."""
    whole = shelf.put(json.dumps(output_of(shelf, "mask")).encode(), "whole.json", media_type="application/json")
    event = {"stepout": "output/1", "manifest": whole.to_dict(), "score": output_of(shelf, "score")}
    found = resolve_all(event, allow=ALLOW, client=shelf.store)
    assert list(found) == ["$", "$.score"]
    first = found["$"]
    assert isinstance(first, Output)
    assert (list(first), first.document.extra["score"]) == (["mask"], event["score"])


def test_a_spilled_document_with_another_output_in_it_is_refused(shelf: Shelf) -> None:
    """No writer spills one, and a manifest never leads on."""
    inner = {**output_of(shelf, "mask"), "score": {"stepout": "output/1", "manifest": shelf.put(b"{}", "m").to_dict()}}
    whole = shelf.put(json.dumps(inner).encode(), "whole.json", media_type="application/json")
    for resolved in (resolve_output, resolve_all):
        with pytest.raises(InvalidDocumentError, match=r"another output at \$.score"):
            resolved({"stepout": "output/1", "manifest": whole.to_dict()}, allow=ALLOW, client=shelf.store)


def test_a_result_may_hold_documents(shelf: Shelf) -> None:
    """There is one output all the same; ``resolve_all`` lists what is valid in it, and the rest stays data."""
    text = json.dumps(output_of(shelf, "text"))
    result = {
        "best": shelf.put(b"best", "best").to_dict(),
        "inner": [output_of(shelf, "inner")],
        "elsewhere": {**shelf.put(b"x", "x").to_dict(), "bucket": "other-bucket"},
        "broken": {"stepout": "pointer/1"},
        "newer": {"stepout": "output/2"},
        "text": text,
    }
    event = output_of(shelf, "mask", **result)
    output = resolve_output(event, allow=ALLOW, client=shelf.store)
    assert output.result == result
    found = resolve_all([event], allow=ALLOW, client=shelf.store)
    assert list(found) == ["$[0]", "$[0].result.best", "$[0].result.inner[0]"]
    whole = found["$[0]"]
    assert isinstance(whole, Output)
    assert whole.result["text"] == text
    with pytest.raises(NotAllowedError):
        resolve_all(result["elsewhere"], allow=ALLOW, client=shelf.store)


@pytest.mark.parametrize("form", FORMS)
def test_a_partial_output_in_a_cause_is_no_success(shelf: Shelf, form: Any) -> None:
    """Alone, a failure raises as one, with its own error; among others it is named and resolves to nothing."""
    failure = failure_of(shelf)
    for resolved in (resolve_output, resolve, resolve_artifact):
        with pytest.raises(TaskFailedError, match="dark") as caught:
            resolved(form({"error": failure}), allow=ALLOW, client=shelf.store)
        assert (caught.value.error, caught.value.cause) == ("Demo.Error", failure["Cause"])
    found = resolve_all(form([output_of(shelf, "mask"), failure]), allow=ALLOW, client=shelf.store)
    assert [list(each) for each in found.values() if isinstance(each, Output)] == [["mask"]]
    assert [each.error for each in found.failures.values()] == ["Demo.Error"]


def test_a_partial_output_is_resolved_by_those_who_ask_for_it(shelf: Shelf) -> None:
    """Passed by itself, it is a document like any other."""
    partial = json.loads(failure_of(shelf)["Cause"])["output"]
    assert list(resolve_output(partial, allow=ALLOW, client=shelf.store)) == ["partial"]


def test_the_handler_of_a_failure_gets_the_earlier_output(shelf: Shelf) -> None:
    """``Catch`` with ``ResultPath: "$.error"`` keeps it, and the failure is named beside it."""
    event = {**output_of(shelf, "mask"), "error": failure_of(shelf)}
    assert list(resolve_output(event, allow=ALLOW, client=shelf.store)) == ["mask"]
    found = resolve_all(event, allow=ALLOW, client=shelf.store)
    assert (list(found), list(found.failures)) == (["$"], ["$.error"])


def test_a_failure_document_of_pull_mode_is_a_failure(shelf: Shelf) -> None:
    """Its URL, given in place of the output's, raises what it says."""
    cause = {"message": "dark", "run": {}, "retryable": False, "output": output_of(shelf, "partial")}
    shelf.put(json.dumps({"error": "Demo.Error", "cause": cause}).encode(), "o.json.0-a1.failure.json")
    url = "s3://results/runs/o.json.0-a1.failure.json"
    with pytest.raises(TaskFailedError, match="dark") as caught:
        resolve_output(url, allow=ALLOW, client=shelf.store)
    assert caught.value.error == "Demo.Error"


def test_failed_children_of_a_distributed_map_are_named(shelf: Shelf) -> None:
    """Its FAILED and PENDING files, children that caught their failure, and rows that say so wherever they stand."""
    row = {"ExecutionArn": "arn:1", "Name": "n", "Input": json.dumps(output_of(shelf, "input"))}
    kept = {**row, "Status": "SUCCEEDED", "Output": json.dumps(output_of(shelf, "mask"))}
    caught = {**row, "Status": "SUCCEEDED", "Output": json.dumps(failure_of(shelf))}
    failed = {**row, "Status": "FAILED", **failure_of(shelf)}
    pending = {**row, "Status": "PENDING"}
    files = {"SUCCEEDED": [kept, caught, failed], "FAILED": [failed], "PENDING": [pending]}
    listed = {}
    for status, rows in files.items():
        file = shelf.put(json.dumps(rows).encode(), f"map/{status}_0.json")
        listed[status] = [{"Key": file.key, "Size": file.size}]
    manifest = shelf.put(
        json.dumps({"DestinationBucket": "results", "ResultFiles": listed}).encode(), "map/manifest.json"
    )
    event = {"ResultWriterDetails": {"Bucket": "results", "Key": manifest.key}}
    found = resolve_all(event, allow=ALLOW, client=shelf.store)
    place = "$.ResultWriterDetails"
    assert list(found) == [f"{place}.SUCCEEDED[0]"]
    assert {location: failure.error for location, failure in found.failures.items()} == {
        f"{place}.SUCCEEDED[1]": "Demo.Error",
        f"{place}.FAILED[0]": "Demo.Error",
        f"{place}.FAILED[1]": "Demo.Error",
        f"{place}.PENDING[0]": "PENDING",
    }
    statuses = [child.status for child in read_result_writer(event, allow=ALLOW, client=shelf.store)]
    assert statuses == ["SUCCEEDED", "SUCCEEDED", "FAILED", "FAILED", "PENDING"]
    for each in (failed, json.dumps(failed)):  # an ItemReader gives rows one by one
        with pytest.raises(TaskFailedError):
            resolve_output(each, allow=ALLOW, client=shelf.store)
