"""From sources to a page: documents and what made them, lineage, pull mode, children, and what could not be read."""

from __future__ import annotations

import io
import json
import sys
from typing import TYPE_CHECKING, Any

import pytest
from support.histories import ARN, BEGAN, TOKEN, RecordedHistory, RecordedStepFunctions, described
from support.shelf import ALLOW, Shelf

import stepout
from stepout.page.collect import collect_run
from stepout.schemas import TaskOutput
from stepout.schemas.errors import ConfigurationError
from stepout.schemas.identity import RunIdentity

if TYPE_CHECKING:
    from pathlib import Path

    from stepout.page.model import OutputCard, RunPage, StateVisit


@pytest.fixture
def shelf() -> Shelf:
    """A bucket in memory."""
    return Shelf()


def output(shelf: Shelf, state: str, *names: str, **run: Any) -> dict[str, Any]:
    """Store artifacts, and return the output of the task that wrote them, in this execution."""
    attempt = run.pop("attempt", 0)
    pointers = {name: shelf.put(f"{state} {name}".encode(), f"{state}/{name}.txt") for name in names}
    producer = RunIdentity(execution=ARN, state=state, attempt=attempt, **run)
    return TaskOutput(artifacts=pointers, result={"of": state}, producer=producer).to_dict()


def page_of(shelf: Shelf, *sources: object, history: RecordedHistory | None = None, **more: Any) -> RunPage:
    """Collect a page; of the recorded execution, if there is a history and no source."""
    client = RecordedStepFunctions(history.events if history else (), **more.pop("client", {}))
    found = sources or (ARN,)
    return collect_run(found, **{"allow": ALLOW, "client": shelf.store, "step_functions": client, **more})


def visits(page: RunPage) -> dict[str, StateVisit]:
    """Return the visits by the names of their states."""
    assert page.execution is not None
    return {each.name: each for each in page.execution.visits}


def cards(page: RunPage) -> dict[str, OutputCard]:
    """Return the cards by their labels."""
    return {each.label: each for each in page.outputs}


# Lineage --------------------------------------------------------------------------------------------------------------


def test_an_artifact_goes_from_the_state_that_wrote_it_to_those_that_were_given_it(shelf: Shelf) -> None:
    """One card for a document however often it comes up, merged or not; each later Task that its input names."""
    mask = output(shelf, "Mask", "image", "table")
    score = output(shelf, "Score", "scores")
    merged = {**mask, "score": score}
    history = RecordedHistory()
    history.task("Mask", mask, given={"scene": 1})
    history.enter("Which", "Choice", given=mask)
    history.leave("Which", "Choice", output=mask)
    history.enter("Score", given=mask)
    history.run()
    history.succeed(score)
    history.leave("Score", output=merged)
    history.task("Tell", {}, given={"only": score["artifacts"]["scores"]})
    history.add("ExecutionSucceeded", output=json.dumps(merged))
    page = page_of(shelf, history=history)
    assert [each.label for each in page.outputs] == ["Mask", "Score"]
    names = {each.artifact_id: each.name for card in page.outputs for each in card.artifacts}
    found = visits(page)
    assert [names[each] for each in found["Score"].given] == ["image", "table"]
    assert [names[each] for each in found["Tell"].given] == ["scores"]
    assert found["Which"].given == ()
    assert cards(page)["Mask"].artifacts[0].given_to == (found["Score"].visit_id,)
    assert found["Mask"].output_id == cards(page)["Mask"].output_id
    assert cards(page)["Mask"].visit_id == found["Mask"].visit_id
    assert {each.verified for card in page.outputs for each in card.artifacts} == {"whole"}


def test_a_document_that_another_state_passes_on_is_its_producers(shelf: Shelf) -> None:
    """A function that reads an outcome returns the document of the state before it; the document says whose it is."""
    mask = output(shelf, "Mask", "image", attempt=1)
    history = RecordedHistory()
    history.enter("Mask")
    history.run("ecs:runTask.sync")
    history.fail("States.TaskFailed", "", "ecs:runTask.sync")
    history.run("ecs:runTask.sync")
    history.succeed({"Containers": []}, "ecs:runTask.sync")
    history.leave("Mask")
    history.enter("Read")
    history.run("lambda:invoke")
    history.succeed({"Payload": mask, "StatusCode": 200}, "lambda:invoke")
    history.leave("Read", output=mask)
    found = visits(page_of(shelf, history=history))
    assert (found["Mask"].output_id, found["Read"].output_id) == ("o1", None)


def test_iterations_keep_their_documents_apart(shelf: Shelf) -> None:
    """Equal states of a Map's iterations each have their own, and the grid has a cell for each."""
    history = RecordedHistory()
    history.enter("All", "Map")
    started = history.add("MapStateStarted", length=4)
    for index in range(3):
        history.at = started
        history.add("MapIterationStarted", name="All", index=index)
        history.enter("Mask")
        history.run()
        if index == 1:
            history.fail("Demo.TooDark", json.dumps({"message": "too dark", "run": {}}))
            history.add("MapIterationFailed", name="All", index=index)
            continue
        history.succeed(output(shelf, "Mask", f"image_{index}", map_index=str(index)))
        history.leave("Mask")
        history.add("MapIterationSucceeded", name="All", index=index)
    page = page_of(shelf, history=history, client={"description": described("RUNNING")})
    assert [each.label for each in page.outputs] == ["Mask [0]", "Mask [2]"]
    assert page.children is not None
    assert page.children.total == 4
    found = [(each.index, each.status, each.error, each.cause, each.artifacts) for each in page.children.cells]
    assert found == [
        (0, "SUCCEEDED", "", "", 1),
        (1, "FAILED", "Demo.TooDark", "too dark", 0),
        (2, "SUCCEEDED", "", "", 1),
    ]
    assert page.children.cells[0].seconds == 7.0
    assert "Open now: All" in page.notes[0]


def test_a_document_that_was_spilled_is_the_same_to_its_readers(shelf: Shelf) -> None:
    """A state is given the manifest; what is in it counts as given."""
    whole = output(shelf, "Mask", "image")
    spilled = {
        "stepout": "output/1",
        "manifest": shelf.put(json.dumps(whole).encode(), "Mask/whole.json", media_type="application/json").to_dict(),
        "producer": whole["producer"],
    }
    history = RecordedHistory()
    history.task("Mask", spilled)
    history.task("Score", {}, given=spilled)
    page = page_of(shelf, history=history)
    assert [each.name for each in page.outputs[0].artifacts] == ["image"]
    assert visits(page)["Score"].given == ("a1",)


# When work began ------------------------------------------------------------------------------------------------------


def test_waiting_for_capacity_ends_where_somebody_says_that_work_began(shelf: Shelf) -> None:
    """The document's first artifact tells, unless it was made before the try or after its end."""
    created = {"in": "2026-11-22T12:00:04Z", "before": "2026-11-22T11:00:00Z", "after": "2026-11-22T13:00:00Z"}
    for when, at in created.items():
        pointer = shelf.put(b"x", "x.txt", created_at=at)
        history = RecordedHistory()
        history.task("Mask", TaskOutput(artifacts={"x": pointer}).to_dict())
        attempt = visits(page_of(shelf, history=history))["Mask"].attempts[0]
        if when == "in":
            assert attempt.working_at is not None
            assert (attempt.working_at - BEGAN).total_seconds() == 4.0
            assert attempt.working_said_by == "its first artifact"
        else:
            assert (attempt.working_at, attempt.working_said_by) == (None, "")


def test_a_task_says_itself_when_it_began(shelf: Shelf) -> None:
    """In the document of the try that succeeded, and in the cause of the one that failed."""
    began = {"startedAt": "2026-11-22T12:00:03.500Z"}
    history = RecordedHistory(seconds=1)
    history.enter("Mask")
    history.run()
    history.fail("Demo.TooDark", json.dumps({"message": "too dark", "run": began}))
    history.run()
    history.succeed(output(shelf, "Mask", attempt=1, started_at="2026-11-22T12:00:08Z"))
    attempts = visits(page_of(shelf, history=history))["Mask"].attempts
    assert [each.working_said_by for each in attempts] == ["the container", "the container"]
    assert [(each.working_at - BEGAN).total_seconds() for each in attempts if each.working_at] == [3.5, 8.0]


# Pull mode ------------------------------------------------------------------------------------------------------------


def pull(url: str, state: str = "Mask", *, fails: bool = False) -> RecordedHistory:
    """Return the history of a state whose task was told to write its outcome to a URL."""
    variables = [{"Name": "STEPOUT_OUTPUT", "Value": url}]
    history = RecordedHistory()
    history.enter(state)
    history.run("ecs:runTask.sync", {"Overrides": {"ContainerOverrides": [{"Name": "job", "Environment": variables}]}})
    if fails:
        history.fail("States.TaskFailed", "Essential container in task exited", "ecs:runTask.sync")
        history.add("ExecutionFailed", error="States.TaskFailed")
    else:
        history.succeed({"Containers": []}, "ecs:runTask.sync")
        history.leave(state)
    return history


def test_an_outcome_in_pull_mode_is_read_where_the_task_was_told_to_write_it(shelf: Shelf) -> None:
    """The URL stands in the state's parameters; the document there is the state's."""
    document = output(shelf, "Mask", "image")
    shelf.put(json.dumps(document).encode(), "outcome.json")
    page = page_of(shelf, history=pull("s3://results/runs/outcome.json"))
    assert cards(page)["Mask"].problem is None
    assert [each.name for each in cards(page)["Mask"].artifacts] == ["image"]
    assert visits(page)["Mask"].output_id == "o1"


def test_a_failure_in_pull_mode_tells_why_its_task_failed(shelf: Shelf) -> None:
    """ECS knows that a container exited; what the task said lies beside the URL."""
    failure = {"error": "Demo.TooDark", "cause": json.dumps({"message": "too dark", "traceback": "line 3", "run": {}})}
    shelf.put(json.dumps(failure).encode(), "outcome.json.0-abc.failure.json")
    attempt = visits(page_of(shelf, history=pull("s3://results/runs/outcome.json", fails=True)))["Mask"].attempts[0]
    assert (attempt.error, attempt.cause) == ("States.TaskFailed", "too dark")
    assert attempt.details == "Essential container in task exited\n\nline 3"


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("s3://elsewhere/outcome.json", "Stepout.NotAllowed"),
        ("s3://results/runs/missing.json", "Stepout.ArtifactNotFound"),
        ("s3://results/runs/other.json", "Stepout.InvalidDocument"),
    ],
)
def test_an_outcome_that_cannot_be_had_is_a_card_that_says_why(shelf: Shelf, url: str, error: str) -> None:
    """Outside the allow-list, not there although the task succeeded, or another run's: the page is made."""
    document = output(shelf, "Mask", "image") | {"producer": {"execution": f"{ARN}0", "state": "Mask"}}
    shelf.put(json.dumps(document).encode(), "other.json")
    problem = cards(page_of(shelf, history=pull(url)))["Mask"].problem
    assert problem is not None
    assert problem.error == error


# Documents ------------------------------------------------------------------------------------------------------------


def test_documents_come_from_files_text_values_and_standard_input(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each source is a card, named after where it comes from; equal ones are one."""
    documents = [output(shelf, f"S{number}", "image") for number in range(5)]
    texts = [json.dumps(each) for each in documents]
    (tmp_path / "first.json").write_text(texts[0], encoding="utf-8")
    stdin = io.TextIOWrapper(io.BytesIO(texts[1].encode()))
    monkeypatch.setattr(sys, "stdin", stdin)
    resolved = stepout.resolve_output(documents[4], allow=ALLOW, client=shelf.store)
    sources = [tmp_path / "first.json", str(tmp_path / "first.json"), "-", texts[2], documents[3], resolved]
    page = page_of(shelf, *sources)
    labels = ["first.json", "standard input", "the document", "the document", "the document"]
    assert [each.label for each in page.outputs] == labels
    assert [json.loads(each.result) for each in page.outputs] == [{"of": f"S{number}"} for number in range(5)]
    assert page.execution is None


def test_a_url_is_read_and_a_lone_pointer_is_a_card_too(shelf: Shelf) -> None:
    """An outcome by its URL; a pointer is one artifact, named after its key."""
    document = output(shelf, "Mask", "image")
    shelf.put(json.dumps(document).encode(), "outcome.json")
    page = page_of(shelf, "s3://results/runs/outcome.json", document["artifacts"]["image"])
    assert [each.label for each in page.outputs] == ["s3://results/runs/outcome.json", "the document"]
    assert [each.artifacts[0].name for each in page.outputs] == ["image", "image.txt"]


def test_what_cannot_be_read_is_a_card_that_says_why(shelf: Shelf) -> None:
    """No JSON, nothing in it, a document of the future, one that is invalid, one that leads elsewhere: all of them."""
    document = output(shelf, "Mask", "image")
    elsewhere = json.loads(json.dumps(document).replace('"results"', '"elsewhere"'))
    sources = [
        "{",
        '{"a": 1}',
        json.dumps({**document, "stepout": "output/2"}),
        json.dumps({"stepout": "output/1"}),
        json.dumps(elsewhere),
        "s3://results/runs/none.json",
    ]
    page = page_of(shelf, *sources)
    problems = [each.problem.message if each.problem else "" for each in page.outputs]
    assert "is not valid JSON" in problems[0] or "JSON" in problems[0]
    assert "has no task output" in problems[1]
    assert '"output/2"' in problems[2]
    assert "upgrade" in problems[2]
    assert "$.artifacts" in problems[3]
    assert problems[4] == ""
    refused = page.outputs[4].artifacts[0].problem
    assert refused is not None
    assert refused.error == "Stepout.NotAllowed"
    outcome = page.outputs[5].outcome
    assert outcome is not None
    assert (outcome.status, "no task output" in outcome.note) == ("NOTHING", True)


def test_an_artifact_that_is_gone_leaves_the_others_on_the_page(shelf: Shelf) -> None:
    """Its card says so; the other one is read."""
    document = output(shelf, "Mask", "gone", "here")
    shelf.store.delete("runs/Mask/gone.txt")
    page = page_of(shelf, json.dumps(document))
    found = {each.name: each for each in page.outputs[0].artifacts}
    assert found["gone"].problem is not None
    assert found["gone"].problem.error == "Stepout.ArtifactNotFound"
    assert (found["here"].verified, found["here"].problem) == ("whole", None)


def test_without_an_allow_list_the_page_says_what_documents_say(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is read from S3, and a note says what to pass."""
    monkeypatch.delenv("STEPOUT_ALLOW", raising=False)
    page = page_of(shelf, json.dumps(output(shelf, "Mask", "image")), allow=None)
    artifact = page.outputs[0].artifacts[0]
    assert (artifact.verified, artifact.problem) == ("not", None)
    assert "nothing says what may be read" in artifact.verified_note
    assert "--allow" in page.notes[0]
    assert page.spent.requests == 0


def test_documents_beside_an_execution_are_put_where_they_were_made(shelf: Shelf) -> None:
    """Where the history may not be read with its data, the documents can be passed beside it."""
    history = RecordedHistory()
    history.enter("Mask")
    history.run()
    history.succeed({})
    history.leave("Mask")
    page = page_of(shelf, ARN, json.dumps(output(shelf, "Mask", "image")), history=history)
    assert visits(page)["Mask"].output_id == "o1"
    assert page.outputs[0].visit_id == visits(page)["Mask"].visit_id


@pytest.mark.parametrize("sources", [[], "output.json", [ARN, f"{ARN}1"], [""], ["arn:aws:s3:::bucket"]])
def test_what_is_no_source_is_refused(shelf: Shelf, sources: Any) -> None:
    """None, text in place of a list, two executions, nothing, the ARN of something else."""
    with pytest.raises(ConfigurationError):
        collect_run(sources, allow=ALLOW, client=shelf.store, step_functions=RecordedStepFunctions())


def test_the_consoles_address_of_an_execution_is_one(shelf: Shelf) -> None:
    """People copy what the browser shows."""
    console = f"https://eu-west-1.console.aws.amazon.com/states/home?region=eu-west-1#/v2/executions/details/{ARN}"
    assert page_of(shelf, console).execution is not None


# Bounds and secrets ---------------------------------------------------------------------------------------------------


def test_an_execution_of_25_000_events_makes_a_page(shelf: Shelf) -> None:
    """All events are read, the cards are bounded, and a note says how many documents have none."""
    document = output(shelf, "Mask")
    history = RecordedHistory()
    while len(history.events) < 24_990:
        number = len(history.events)
        history.task("Mask", {**document, "result": {"n": number}} if number % 60 == 0 else {})
    page = page_of(shelf, history=history)
    assert page.execution is not None
    assert (page.execution.events, page.execution.more_events) == (len(history.events), False)
    assert len(page.execution.visits) == len(history.events) // 6
    assert len(page.outputs) == 100
    assert "leaves out" in page.notes[-1]


def test_a_token_in_a_history_reaches_no_page(shelf: Shelf) -> None:
    """It stands in the parameters, in overrides, and in a cause that was cut short."""
    overrides = {"Overrides": {"ContainerOverrides": [{"Environment": [{"Name": "TASK_TOKEN", "Value": TOKEN}]}]}}
    history = RecordedHistory()
    history.enter("Mask", given={"TaskToken": TOKEN})
    history.run("ecs:runTask.sync", overrides)
    cause = json.dumps({"StopCode": "TaskFailedToStart", "StoppedReason": "no image", **overrides})
    history.fail("States.TaskFailed", cause, "ecs:runTask.sync")
    history.run("ecs:runTask.sync", overrides)
    history.fail("States.TaskFailed", cause[:-20], "ecs:runTask.sync")
    history.add("ExecutionFailed", error="States.TaskFailed", cause=cause)
    page = page_of(shelf, history=history, client={"description": described("FAILED", cause=cause)})
    assert "AQCEAAAA" not in repr(page)
    assert visits(page)["Mask"].attempts[0].cause == "no image"


# Task tokens ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "parameters",
    [
        lambda token: {"Overrides": {"Environment": [{"Name": "STEPOUT_TASK_TOKEN", "Value": token}]}},
        lambda token: {"Environment": [{"Value": token, "Name": "TASK_TOKEN"}]},
        lambda token: {"MessageBody": json.dumps({"body": json.dumps({"token": token})})},
        lambda token: {"Payload": {"TaskToken": token}},
        lambda token: {"Command": ["job", "--task-token", token]},
    ],
)
@pytest.mark.parametrize("token", ["AQCEAAAAKgAAAAMAAAAAAAAAA" + "bC3dE+/9" * 85 + "=", "local/+" * 30 + "=="])
def test_a_token_that_a_state_passed_on_is_nowhere_on_the_page(shelf: Shelf, parameters: Any, token: str) -> None:
    """Not in a cause that quotes it without saying what it is, not in a result, an artifact or an error's name."""
    pointer = shelf.put(json.dumps({"seen": [token]}).encode(), "j.json", media_type="application/json")
    history = RecordedHistory()
    history.enter("Mask")
    history.run(parameters=json.dumps(parameters(token)))
    history.fail("Demo.TooDark", json.dumps({"message": f"spot {token} gone", "traceback": f"line 3: {token[:60]}"}))
    history.run(parameters=json.dumps(parameters(token)))
    document = {"stepout": "output/1", "artifacts": {"j": pointer.to_dict()}, "result": {"tok": token}}
    history.succeed(document)
    history.leave("Mask", output=document)
    page = page_of(shelf, history=history)
    (attempt, _) = visits(page)["Mask"].attempts
    assert attempt.cause == "spot [redacted] gone"
    assert attempt.details == "line 3: [redacted]"
    told = repr(page)
    assert token[:24] not in told
    assert '"tok": "[redacted]"' in page.outputs[0].result
    assert "[redacted]" in str(page.outputs[0].artifacts[0].inside)


def test_what_looks_like_a_token_is_not_shown_even_if_nothing_says_that_it_is_one(shelf: Shelf) -> None:
    """A document by itself has no history that would know its tokens; digests and names stay."""
    result = {"a": TOKEN, "b": "AQC-short", "digest": "ab" * 32}
    page = page_of(shelf, {"stepout": "output/1", "artifacts": {}, "result": result})
    assert TOKEN[:24] not in page.outputs[0].result
    assert "AQC-short" in page.outputs[0].result
    assert result["digest"] in page.outputs[0].result


# One bad member -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", ["key", "name", "result", "producer"])
def test_one_bad_member_hides_none_that_is_valid_by_itself(shelf: Shelf, bad: str) -> None:
    """The problem is told, and every other pointer has its card; what it points to is read as ever."""
    document = json.loads(json.dumps(output(shelf, "Mask", "image", "table")))
    pointer = document["artifacts"]["image"]
    match bad:
        case "key":
            document["artifacts"]["evil"] = {**pointer, "key": "k" * 2000}
        case "name":
            document["artifacts"]["n\u202e" * 600] = pointer
        case "result":
            document["result"] = ["no object"]
        case "producer":
            document["producer"] = {"attempt": "many"}
    (card,) = page_of(shelf, document).outputs
    assert card.problem is not None
    assert card.problem.error == "Stepout.InvalidDocument"
    found = {each.name: each for each in card.artifacts}
    assert {"image", "table"} <= found.keys()
    assert "evil" not in found
    assert {each.verified for each in card.artifacts} == {"whole"}
    assert (card.result == "") is (bad == "result")
    assert (card.producer is None) is (bad == "producer")


def test_an_invalid_outcome_that_is_not_said_to_be_of_the_run_shows_nothing(shelf: Shelf) -> None:
    """What is there may be an earlier run's."""
    document = {**output(shelf, "Other", "image"), "result": ["no object"]}
    shelf.put(json.dumps(document).encode(), "outcome.json")
    card = cards(page_of(shelf, history=pull("s3://results/runs/outcome.json")))["Mask"]
    assert card.problem is not None
    assert card.artifacts == ()
