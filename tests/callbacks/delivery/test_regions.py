"""The region that reports and artifacts go to, in an environment where boto3 knows none."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

import stepout
from stepout.artifacts.s3.clients import make_client as make_s3
from stepout.artifacts.s3.clients import store_for
from stepout.callbacks import StepFunctionsTarget, Task
from stepout.callbacks.delivery.clients import build_client
from stepout.callbacks.environment import read_settings
from stepout.callbacks.targets.dynamodb import DynamoDbTarget
from stepout.callbacks.targets.pull import PullTarget
from stepout.callbacks.targets.sqs import SqsTarget
from stepout.schemas import RunIdentity
from stepout.schemas.errors import ConfigurationError
from stepout.schemas.runtime.regions import fallback_region

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

TOKEN = "AQCEAAAAKgAAAAMAAAAAAAAAAZ1secret" * 10
EXECUTION = "arn:aws:states:eu-west-1:123456789012:execution:nightly:7f3c"
ACCESS_POINT = "arn:aws:s3:eu-north-1:123456789012:accesspoint/results"


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An environment in which nothing names a region, but which has keys."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "STEPOUT_"))]:
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr("boto3.DEFAULT_SESSION", None)


def region_of(target: Any) -> str:
    """The region that a target's client asks."""
    return str(target.connect().meta.region_name)


def target_of(environ: Mapping[str, str]) -> Any:
    """The primary target that an environment means."""
    token = TOKEN if "s3:" not in environ.get("STEPOUT_TARGETS", "") else None
    return read_settings({"STEPOUT_EXECUTION": EXECUTION, **environ}, token=token).targets[-1]


NAMED = {
    "sfn": {},
    "events": {"STEPOUT_TARGETS": "sfn: events:default"},
    "dynamodb": {"STEPOUT_TARGETS": "sfn: dynamodb://table/key"},
    "s3": {"STEPOUT_TARGETS": "s3://bucket/key"},
    "local sqs": {"STEPOUT_TARGETS": "sqs://localhost:4566/000000000000/reports"},
}


@pytest.mark.parametrize("environ", NAMED.values(), ids=NAMED)
def test_the_execution_says_which_region_where_nothing_else_does(environ: dict[str, str]) -> None:
    """A task reports in its state machine's region."""
    assert region_of(target_of(environ)) == "eu-west-1"


@pytest.mark.parametrize("environ", NAMED.values(), ids=NAMED)
def test_aws_region_comes_before_the_execution_and_after_what_boto3_reads(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Be it the process's own or the task's; boto3 reads AWS_DEFAULT_REGION alone, and that stays first."""
    assert region_of(target_of({**environ, "AWS_REGION": "ap-south-1"})) == "ap-south-1"
    monkeypatch.setenv("AWS_REGION", "sa-east-1")
    assert region_of(target_of(environ)) == "sa-east-1"
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-west-2")
    monkeypatch.setattr("boto3.DEFAULT_SESSION", None)
    assert region_of(target_of(environ)) == "us-west-2"


@pytest.mark.parametrize(
    ("targets", "region"),
    [
        ("sqs://sqs.us-east-2.amazonaws.com/123456789012/reports", "us-east-2"),
        ("sqs:https://vpce-1-2.sqs.us-east-2.vpce.amazonaws.com/123456789012/reports", "us-east-2"),
        ("sfn: sns:arn:aws:sns:ca-central-1:123456789012:done", "ca-central-1"),
        ("sfn: events:arn:aws:events:ca-central-1:123456789012:event-bus/main", "ca-central-1"),
    ],
)
def test_a_target_that_names_its_region_is_asked_there(
    targets: str, region: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the environment says of others."""
    assert region_of(target_of({"STEPOUT_TARGETS": targets})) == region
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-west-2")
    assert region_of(target_of({"STEPOUT_TARGETS": targets})) == region


def test_s3_clients_fall_back_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """On an access point's ARN, the manager's execution, STEPOUT_EXECUTION, and AWS_REGION before them."""
    manager = stepout.ArtifactManager("results", run=RunIdentity(execution=EXECUTION, state="Mask"))
    assert manager.put_bytes.__self__._writes.store.region == "eu-west-1"  # type: ignore[attr-defined] # bound method
    assert PullTarget(f"s3://{ACCESS_POINT}/key", RunIdentity()).connect().meta.region_name == "eu-north-1"
    assert store_for(None, ACCESS_POINT).region == "eu-north-1"  # type: ignore[attr-defined] # an S3 store has one
    assert make_s3().meta.region_name == "us-east-1"
    monkeypatch.setenv("STEPOUT_EXECUTION", EXECUTION)
    assert make_s3().meta.region_name == "eu-west-1"
    monkeypatch.setenv("AWS_REGION", "sa-east-1")
    assert make_s3().meta.region_name == "sa-east-1"


@pytest.mark.parametrize(
    "make",
    [
        lambda: StepFunctionsTarget(TOKEN),
        lambda: SqsTarget("sqs://localhost:4566/000000000000/reports", TOKEN),
        lambda: DynamoDbTarget("table", "key", RunIdentity()),
    ],
)
def test_a_target_without_a_region_is_refused_before_the_block(make: Callable[[], Any]) -> None:
    """The work would be done, and nobody could be told."""
    with pytest.raises(ConfigurationError, match="set AWS_REGION"), Task(make()):
        pytest.fail("the block ran")


@pytest.mark.parametrize(("name", "value"), [("AWS_ENDPOINT_URL", "nonsense"), ("AWS_PROFILE", "missing")])
def test_other_settings_of_a_client_are_refused_before_the_block(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An endpoint that is no URL, a profile that is not there."""
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.setenv(name, value)
    made: list[Callable[[], Any]] = [lambda: build_client("sqs"), lambda: build_client("stepfunctions"), make_s3]
    for make in made:
        with pytest.raises(ConfigurationError, match=value):
            make()
    with pytest.raises(ConfigurationError, match=value), Task(StepFunctionsTarget(TOKEN)):
        pytest.fail("the block ran")


@pytest.mark.parametrize(
    "arn", [None, "", "batch-job-7", "arn:x", "arn:aws:states::1:a:b", "arn:aws:states:../x:1:a:b"]
)
def test_what_names_no_region_gives_none(arn: str | None) -> None:
    """An execution may be any name, a Batch job's for example."""
    assert fallback_region({"STEPOUT_EXECUTION": arn or "", "AWS_REGION": " "}, near=arn) is None


def test_the_advice_works_when_it_is_followed() -> None:
    """In a fresh process without any setting of AWS, what the error says is enough to get into the block."""
    code = (
        "import os, stepout\n"
        "try:\n"
        "    with stepout.open_task(): print('worked', flush=True), os._exit(0)\n"
        "except stepout.ConfigurationError as error: print(error)\n"
    )
    bare = {
        "PATH": os.defpath,
        "HOME": "/nonexistent",
        "STEPOUT_TASK_TOKEN": TOKEN,
        "AWS_EC2_METADATA_DISABLED": "true",
    }

    def run(**more: str) -> str:
        ran = [sys.executable, "-c", code]
        return subprocess.run(
            ran, env={**bare, **more}, capture_output=True, text=True, timeout=300, check=False
        ).stdout

    told = run()
    assert "worked" not in told
    name, _, value = told.rpartition("for example ")[2].strip().partition("=")
    nobody = "http://127.0.0.1:9"  # no client asks AWS in a test
    assert "worked" in run(**{name: value}, AWS_ENDPOINT_URL=nobody)
