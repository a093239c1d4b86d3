"""Where progress lies in pull mode: beside the outcome, or in its item; and that no reader takes it for one."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from support.ministack import unique
from support.outcomes import make_table
from support.wire import Fault, Wire

import stepout
from stepout.artifacts.gather import gather
from stepout.callbacks import RecordingTarget, Task
from stepout.callbacks.named_failure import handler
from stepout.callbacks.targets.dynamodb import DynamoDbTarget
from stepout.callbacks.targets.pull import PullTarget
from stepout.cli import main
from stepout.schemas import RunIdentity
from stepout.schemas.errors import (
    ArtifactNotFoundError,
    ConfigurationError,
    InvalidDocumentError,
    TaskClosedError,
    TaskFailedError,
)
from stepout.schemas.progress import TaskProgress, read_progress_text

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from stepout.local import LocalAws

EXECUTION = "arn:aws:states:eu-west-1:123456789012:execution:Segment:7f3c"
LOGGER = "stepout.callbacks.progress"


def run_of(attempt: int = 0) -> RunIdentity:
    """The run that every test here is."""
    return RunIdentity(execution=EXECUTION, state="Mask", attempt=attempt, nonce="a1b2")


PROGRESS = TaskProgress(done=3, total=10, message="tile 3", run=run_of())
DOCUMENT = stepout.TaskOutput(result={"rows": 3}, producer=run_of()).to_dict()


@pytest.fixture
def aws(local_aws: LocalAws, monkeypatch: pytest.MonkeyPatch) -> LocalAws:
    """The local AWS, which the environment speaks of."""
    for name, value in local_aws.environ.items():
        monkeypatch.setenv(name, value)
    return local_aws


@pytest.fixture(params=["s3", "dynamodb"])
def url(request: pytest.FixtureRequest, aws: LocalAws) -> str:
    """Where outcomes go."""
    name = unique("progress")
    if request.param == "s3":
        aws.client("s3").create_bucket(Bucket=name)
        return f"s3://{name}/outputs/Mask.json"
    make_table(aws.client("dynamodb"), name, "id")
    return f"dynamodb://{name}/outputs/Mask"


def target_at(url: str, attempt: int = 0, client: Any = None) -> Any:
    """The target of a URL."""
    if url.startswith("s3://"):
        return PullTarget(url, run_of(attempt), client)
    table, _, key = url.removeprefix("dynamodb://").partition("/")
    return DynamoDbTarget(table, key, run_of(attempt), client)


def place_of(url: str) -> str:
    """The bucket or the table, as an allow-list names it."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}/"


def test_no_reader_takes_it_for_an_outcome(url: str) -> None:
    """Every reader says that nothing was reported, as if there were no progress."""
    allow = [place_of(url)]
    target_at(url).report_progress(PROGRESS)
    for resolve in (stepout.resolve, stepout.resolve_output, stepout.resolve_all):
        with pytest.raises(ArtifactNotFoundError, match=r"has not (reported|succeeded) yet"):
            resolve(url, allow=allow)
    answer = handler({"url": url, "execution": EXECUTION, "state": "Mask", "raise": False}, None)
    assert answer["failure"]["error"] == "Stepout.NothingReported"
    task = stepout.open_task(environ={}, targets=RecordingTarget(), input=url, allow=allow)
    with pytest.raises(ArtifactNotFoundError):
        _ = task.input


def test_no_reader_of_an_array_takes_it_for_a_child(url: str) -> None:
    """A child that has told only its progress is missing; the other one counts."""
    allow = [place_of(url)]
    target_at(f"{url}/0").success(DOCUMENT)
    if url.startswith("s3://"):
        target_at(f"{url}/0").report_progress(PROGRESS)
    target_at(f"{url}/1").report_progress(PROGRESS)
    children = {child.index: child for child in gather(url, count=2, allow=allow, execution=EXECUTION)}
    assert children[0].error is None
    assert isinstance(children[1].error, ArtifactNotFoundError)
    answer = handler({"url": url, "count": 2, "raise": False}, None)
    assert answer["failure"]["error"] == "Stepout.NothingReported"
    assert json.loads(answer["failure"]["cause"])["array"] == {"count": 2, "failed": "", "missing": "1"}


def test_progress_alone_does_not_make_an_array(url: str) -> None:
    """Whoever asks for one output where a child has told only its progress learns of the missing outcome."""
    target_at(f"{url}/0").report_progress(PROGRESS)
    with pytest.raises((ArtifactNotFoundError, ConfigurationError)) as caught:
        stepout.resolve_output(url, allow=[place_of(url)])
    assert "array job" in str(caught.value)


@pytest.mark.parametrize("outcome", ["success", "failure"])
def test_an_outcome_is_read_whether_or_not_progress_came_before_or_after(url: str, outcome: str) -> None:
    """Progress changes neither; once there is a success in an item, none is taken any more."""
    allow, target = [place_of(url)], target_at(url)
    target.report_progress(PROGRESS)
    if outcome == "success":
        target.success(DOCUMENT)
        if url.startswith("dynamodb://"):
            with pytest.raises(TaskClosedError, match="holds a success"):
                target.report_progress(PROGRESS)
        else:
            target.report_progress(PROGRESS)
        assert stepout.resolve_output(url, allow=allow, execution=EXECUTION).result == {"rows": 3}
        assert handler({"url": url}, None) == DOCUMENT
        return
    target.failure("Demo.NothingToSee", '{"message": "too dark"}')
    target_at(url, attempt=1).report_progress(PROGRESS)
    with pytest.raises(TaskFailedError, match=r"Demo\.NothingToSee: too dark"):
        stepout.resolve_output(url, allow=allow)
    target_at(url, attempt=1).success(DOCUMENT)
    assert stepout.resolve_output(url, allow=allow).result == {"rows": 3}


def test_progress_itself_is_no_outcome_where_somebody_resolves_it(aws: LocalAws) -> None:
    """The URL of the progress is not that of an output."""
    bucket = unique("progress")
    aws.client("s3").create_bucket(Bucket=bucket)
    target_at(f"s3://{bucket}/a.json").report_progress(PROGRESS)
    with pytest.raises(InvalidDocumentError):
        stepout.resolve_output(f"s3://{bucket}/a.json.progress.json", allow=[f"s3://{bucket}/"])


def test_the_doctor_takes_it_for_none_of_its_documents(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither a state machine nor an output: it is skipped, and said to be."""
    for name, value in (("progress.json", PROGRESS.to_dict()), ("item.json", {"progress": {"S": PROGRESS.to_text()}})):
        (tmp_path / name).write_text(json.dumps(value))
        assert main(["doctor", str(tmp_path / name)]) != 0
        captured = capsys.readouterr()
        assert "skipped" in captured.out + captured.err


def _client(wire: Wire) -> Any:
    return boto3.client("s3", endpoint_url=wire.endpoint, config=Config(retries={"total_max_attempts": 1}))


def _is_progress(line: str) -> bool:
    return line.startswith("PUT ") and ".progress.json" in line


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        ({"kind": "status", "status": 403, "code": "AccessDenied"}, "AccessDenied"),
        ({"kind": "status", "status": 503, "code": "SlowDown"}, "SlowDown"),
        ({"kind": "reset"}, "after 1 tries"),
    ],
)
def test_a_side_channel_that_s3_refuses_costs_a_warning(
    spoil: dict[str, Any], says: str, aws: LocalAws, caplog: pytest.LogCaptureFixture
) -> None:
    """Denied, throttled, or cut off: one try, one warning that names the object; the outcome is there all the same."""
    bucket = unique("progress")
    aws.client("s3").create_bucket(Bucket=bucket)
    url = f"s3://{bucket}/Mask.json"
    with Wire(aws.endpoint) as wire:
        fault = wire.arm(Fault(_is_progress, times=100, **spoil))
        with Task(target_at(url, client=_client(wire))) as task:
            task.progress(1, 2, "tile 1")
            assert fault.struck.wait(60)
    assert stepout.resolve_output(url, allow=[place_of(url)]).result == {}
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert f"PutObject {url}.progress.json" in warnings[0]
    assert says in warnings[0]


def test_a_table_that_may_not_be_updated_costs_a_warning_that_names_the_right(
    aws: LocalAws, caplog: pytest.LogCaptureFixture
) -> None:
    """The right to put an item is not the right to update one: an older policy lacks it, and the outcome is written."""
    table, client = unique("progress"), aws.client("dynamodb")
    make_table(client, table, "id")

    def deny(**_: Any) -> None:
        raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": "not authorized"}}, "UpdateItem")

    client.meta.events.register("before-call.dynamodb.UpdateItem", deny)
    url = f"dynamodb://{table}/Mask"
    with Task(target_at(url, client=client)) as task:
        task.progress(1, 2)
    assert stepout.resolve_output(url, allow=[place_of(url)]).result == {}
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert "Allow dynamodb:UpdateItem" in warning


def test_a_side_channel_that_s3_does_not_answer_holds_nothing_up(aws: LocalAws) -> None:
    """The outcome is there while the request for the progress still hangs."""
    bucket = unique("progress")
    aws.client("s3").create_bucket(Bucket=bucket)
    url = f"s3://{bucket}/Mask.json"
    with Wire(aws.endpoint) as wire:
        fault = wire.arm(Fault(_is_progress, "stall", times=100))
        with Task(target_at(url, client=_client(wire))) as task:
            task.progress(1, 2, "tile 1")
            assert fault.struck.wait(60)
        assert stepout.resolve_output(url, allow=[place_of(url)]).result == {}
        with pytest.raises(ClientError, match="NoSuchKey"):
            aws.client("s3").get_object(Bucket=bucket, Key="Mask.json.progress.json")


@pytest.fixture
def kept(url: str, aws: LocalAws) -> Callable[[], TaskProgress]:
    """What is kept at the URL."""
    place, _, key = url.partition("://")[2].partition("/")

    def read() -> TaskProgress:
        if url.startswith("s3://"):
            body = aws.client("s3").get_object(Bucket=place, Key=f"{key}.progress.json")["Body"].read()
            return read_progress_text(body)
        item = aws.client("dynamodb").get_item(TableName=place, Key={"id": {"S": key}})["Item"]
        return read_progress_text(item["progress"]["S"])

    return read


def test_what_is_kept_says_how_far_it_is_and_whose_it_is(url: str, kept: Callable[[], TaskProgress]) -> None:
    """The newest replaces the one before."""
    for done in (3, 4):
        target_at(url).report_progress(TaskProgress(done=done, total=10, message="tile", run=run_of()))
    assert kept() == TaskProgress(done=4, total=10, message="tile", run=run_of())
