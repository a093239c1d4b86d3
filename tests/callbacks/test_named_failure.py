"""The Lambda that turns what lies at a URL into a result or into an error with a name."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from support.ministack import unique
from support.outcomes import make_table

import stepout
from stepout.callbacks.named_failure import handler, named
from stepout.callbacks.targets.dynamodb import DynamoDbTarget
from stepout.callbacks.targets.pull import PullTarget
from stepout.schemas import RunIdentity
from stepout.schemas.pull import Failure

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepout.local import LocalAws

RUN = RunIdentity(execution="arn:aws:states:eu-west-1:123456789012:execution:Segment:7f3c", state="Mask", attempt=0)
DOCUMENT = stepout.TaskOutput(result={"rows": 3}, producer=RUN).to_dict()
ASKED = {"execution": RUN.execution, "state": "Mask"}
STOPPED = {
    "TaskArn": "arn:aws:ecs:eu-west-1:123456789012:task/default/1",
    "StopCode": "EssentialContainerExited",
    "StoppedReason": "Essential container in task exited",
    "CreatedAt": 1_795_000_000_000,
    "Containers": [
        {"Name": "log", "ExitCode": 0},
        {"Name": "job", "ExitCode": 137, "Reason": "OutOfMemoryError: killed"},
    ],
    "Overrides": {
        "ContainerOverrides": [{"Name": "job", "Environment": [{"Name": "STEPOUT_OUTPUT", "Value": "s3://x/y"}]}]
    },
}
"""The cause of ``States.TaskFailed`` of an ``ecs:runTask.sync``: the task, its members with capitals."""


@pytest.fixture
def aws(local_aws: LocalAws, monkeypatch: pytest.MonkeyPatch) -> LocalAws:
    """The local AWS, which the environment speaks of."""
    for name, value in local_aws.environ.items():
        monkeypatch.setenv(name, value)
    return local_aws


@pytest.fixture
def url(aws: LocalAws) -> str:
    """Where the outcome goes, in a fresh bucket."""
    bucket = unique("outcome")
    aws.client("s3").create_bucket(Bucket=bucket)
    return f"s3://{bucket}/outputs/Mask.json"


def _raised(event: dict[str, Any]) -> tuple[str, str]:
    """What Lambda would report as ``errorType`` and ``errorMessage``."""
    with pytest.raises(Exception) as caught:
        handler(event, None)
    return type(caught.value).__name__, str(caught.value)


def _caught(cause: Any, error: str = "States.TaskFailed") -> dict[str, Any]:
    return {"Error": error, "Cause": cause if isinstance(cause, str) else json.dumps(cause)}


@pytest.fixture(params=["s3", "dynamodb"])
def target(request: pytest.FixtureRequest, aws: LocalAws) -> Callable[[], Any]:
    """Both places for an outcome."""
    if request.param == "s3":
        return lambda: PullTarget(request.getfixturevalue("url"), RUN, aws.client("s3"))
    client, table = aws.client("dynamodb"), unique("outcomes")
    make_table(client, table, "id")
    return lambda: DynamoDbTarget(table, None, RUN, client)


def test_a_success_is_returned_and_a_failure_raised_by_its_name(target: Callable[[], Any]) -> None:
    """Nothing, a failure, a success: an error with a name, the failure's own name, the document."""
    made = target()
    event = {"url": made.url, **ASKED}
    error, message = _raised(event)
    assert error == "Stepout.NothingReported"
    assert "no reason is known" in json.loads(message)["message"]
    made.failure("Demo.NothingToSee", json.dumps({"message": "too dark"}))
    error, message = _raised(event)
    assert (error, json.loads(message)) == ("Demo.NothingToSee", {"message": "too dark"})
    returned = handler({**event, "raise": False})
    assert returned["failure"]["error"] == "Demo.NothingToSee"
    made.success(DOCUMENT)
    assert handler(event) == DOCUMENT
    assert handler({"url": made.url}) == DOCUMENT
    assert _raised({**event, "state": "Other"})[0] == "Stepout.InvalidDocument"


def test_a_death_without_a_word_is_named_by_what_ecs_says(url: str) -> None:
    """The cause that a Catch of the task's state was given names the error, wherever the state passed it on."""
    for event in ({"caught": _caught(STOPPED)}, {"input": {"x": 1, "caught": _caught(STOPPED)}}):
        error, message = _raised({"url": url, **event})
        cause = json.loads(message)
        assert (error, cause["container"]) == ("Stepout.OutOfMemory", "job")
        assert cause["containers"][1] == {"name": "job", "exitCode": 137, "reason": "OutOfMemoryError: killed"}
    for caught in (
        _caught("JobFailed: no capacity", "Batch.Job"),
        _caught({"StatusReason": "no capacity"}),
        {"Cause": 3},
    ):
        error, message = _raised({"url": url, "caught": caught})
        assert error == "Stepout.NothingReported"
        assert "no capacity" in message or caught == {"Cause": 3}
    assert _raised({"url": url, "input": 3, "caught": "nonsense"})[0] == "Stepout.NothingReported"


def test_an_earlier_attempts_failure_is_not_taken_for_this_ones(aws: LocalAws, url: str) -> None:
    """What was written before the task was made does not say how it ended."""
    PullTarget(url, RUN, aws.client("s3")).failure("Demo.Earlier", "{}")
    now = time.time()
    later = {**STOPPED, "CreatedAt": int((now + 60) * 1_000)}
    assert _raised({"url": url, "caught": _caught(later)})[0] == "Stepout.OutOfMemory"
    earlier = {**STOPPED, "CreatedAt": int((now - 60) * 1_000)}
    assert _raised({"url": url, "caught": _caught(earlier)})[0] == "Demo.Earlier"
    seconds = {**STOPPED, "CreatedAt": now + 60}  # not in milliseconds: nothing follows from it
    assert _raised({"url": url, "caught": _caught(seconds)})[0] == "Demo.Earlier"


def test_another_runs_failure_is_not_taken_for_this_ones(target: Callable[[], Any]) -> None:
    """The URL was used before: what ECS says of this task's end names the error."""
    made = target()
    made.failure("Demo.Earlier", json.dumps({"message": "m", "run": RUN.to_dict()}))
    event = {"url": made.url, **ASKED, "caught": _caught({**STOPPED, "CreatedAt": 0})}
    assert _raised(event)[0] == "Demo.Earlier"
    assert _raised({**event, "execution": "arn:other"})[0] == "Stepout.OutOfMemory"
    assert _raised({**event, "state": "Other"})[0] == "Stepout.OutOfMemory"


def test_a_cause_that_was_cut_short_is_not_passed_on(url: str) -> None:
    """It lists the overrides, and so whatever the task was given in its environment."""
    overrides = {"Overrides": {"ContainerOverrides": [{"Environment": [{"Name": "PASSWORD", "Value": "x9"}]}]}}
    error, message = _raised({"url": url, "caught": _caught(json.dumps({**STOPPED, **overrides})[:-1])})
    assert error == "Stepout.NothingReported"
    assert "x9" not in message


def test_a_document_that_no_state_can_take_is_an_error_that_can_be_caught(aws: LocalAws) -> None:
    """An item holds more than a state does; returned, it would end the execution past every Catch."""
    client, table = aws.client("dynamodb"), unique("outcomes")
    make_table(client, table, "id")
    target = DynamoDbTarget(table, None, RUN, client)
    target.success(stepout.TaskOutput(result={"text": "x" * 300_000}, producer=RUN).to_dict())
    error, message = _raised({"url": target.url, **ASKED})
    assert (error, "262,144 bytes" in message) == ("Stepout.InvalidDocument", True)


def test_what_cannot_be_read_is_raised_by_our_names(aws: LocalAws, url: str) -> None:
    """No URL, a wrong one, a missing bucket, what is no output, what is too large for a state."""
    assert _raised({})[0] == "Stepout.InvalidDocument"
    for wrong in ("https://x/y", "s3://bucket", "dynamodb://x", "dynamodb://outcomes"):
        assert _raised({"url": wrong})[0] == "Stepout.Configuration"
    error, message = _raised({"url": "s3://no-such-bucket-here/key"})
    assert error == "Stepout.Task"
    assert "NoSuchBucket" in message
    client, bucket = aws.client("s3"), url.split("/")[2]
    for body in (b"{}", b'{"stepout": "output/1"' + b" " * 300_000 + b"}"):
        client.put_object(Bucket=bucket, Key="outputs/Mask.json", Body=body)
        assert _raised({"url": url})[0] == "Stepout.InvalidDocument"


def test_an_error_may_be_called_anything() -> None:
    """The class bears whatever name a job gave, as far as a class can."""
    for name in ("Demo.NothingToSee", "not an identifier!", "é", "a\0b", "\ud800"):
        error = named(Failure(name, "cause"))
        assert isinstance(error, Exception)
        assert type(error).__name__ == name.replace("\0", "").replace("\ud800", "?")
