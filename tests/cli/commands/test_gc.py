"""``stepout gc`` and ``stepout lifecycle`` from the command line, on the local AWS."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest
from support.left_behind import LeftBehind
from support.terminal import pseudo_terminal

from stepout.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stepout.artifacts.manager import ArtifactManager
    from stepout.local import LocalAws

    Run = Callable[..., tuple[int, str, str]]

ROLE = "arn:aws:iam::000000000000:role/none"


@pytest.fixture
def ended(local_aws: LocalAws) -> Iterator[str]:
    """The ARN of an execution that has succeeded."""
    states = local_aws.client("stepfunctions")
    definition = json.dumps({"StartAt": "A", "States": {"A": {"Type": "Succeed"}}})
    machine = states.create_state_machine(name="clean-up", definition=definition, roleArn=ROLE)["stateMachineArn"]
    arn = str(states.start_execution(stateMachineArn=machine)["executionArn"])
    while states.describe_execution(executionArn=arn)["status"] == "RUNNING":
        pass
    yield arn
    states.delete_state_machine(stateMachineArn=machine)


@pytest.fixture
def failed(local_aws: LocalAws, bucket: str, ended: str) -> Iterator[ArtifactManager]:
    """A task that has left an artifact and no record."""
    left = LeftBehind(local_aws.client("s3"), bucket)
    manager = left.task(ended)
    manager.put("half", b"12345")
    yield manager
    for key in left.stored():
        left.client.delete_object(Bucket=bucket, Key=key)


def test_leftovers_are_listed_then_removed(run: Run, failed: ArtifactManager, bucket: str, ended: str) -> None:
    """A line says what, how much, why and whose; a summary goes to standard error."""
    words = ("gc", f"s3://{bucket}/runs/", "--older-than", "0s")
    code, out, err = run(*words)
    url = failed.pointers["half"].url
    line = f"leftover         5 B  {url}  no record names it; its execution is over (SUCCEEDED) [{ended}]\n"
    assert (code, out) == (0, line)
    assert err.startswith("stepout: 1 left over (5 B), 0 removed; of 1: 0 named, 0 of executions that run")
    code, out, err = run(*words, "--delete", "--json")
    found = json.loads(out)
    assert (code, err, found["tally"]["removed"], found["unreadable"]) == (0, "", 1, {})
    assert [(each["url"], each["removed"]) for each in found["found"]] == [(url, True)]
    assert run(*words, "--delete", "--quiet")[:2] == (0, "")


@pytest.mark.usefixtures("failed")
def test_a_record_that_cannot_be_read_is_named_and_the_exit_code_says_so(
    run: Run, local_aws: LocalAws, bucket: str
) -> None:
    """Exit code 1, nothing removed, and the record's key on standard error."""
    key = "runs/other/e/S/0-aa/_output.json"
    local_aws.client("s3").put_object(Bucket=bucket, Key=key, Body=b"not JSON")
    code, out, err = run("gc", f"s3://{bucket}/runs/", "--older-than", "0s", "--delete")
    assert (code, out.startswith("unknown "), "0 removed" in err) == (1, True, True)
    assert f"stepout: the record {key} could not be read: " in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("s3://results/runs/",), "--older-than"),
        (("s3://results/runs/", "--older-than", "14"), "no duration"),
        (("results/runs", "--older-than", "14d"), "no s3://bucket/prefix/"),
    ],
)
def test_misuse_is_refused(run: Run, words: tuple[str, ...], said: str) -> None:
    """A missing or senseless age, and a place that is no URL, end with exit code 2."""
    code, _, err = run("gc", *words)
    assert (code, said in err) == (2, True), err


def test_lifecycle_prints_rules_that_s3_takes(run: Run, local_aws: LocalAws, bucket: str) -> None:
    """One rule for everything, and one for each time that objects are kept; twelve hours are one day."""
    code, out, err = run("lifecycle", "--prefix", "runs", "--keep", "30d", "--keep", "12h", "--keep", "24h")
    rules = json.loads(out)
    assert (code, "merge them first" in err) == (0, True)
    local_aws.client("s3").put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration=rules)
    assert [rule["ID"] for rule in rules["Rules"]] == ["stepout-clean-up", "stepout-keep-1d", "stepout-keep-30d"]
    everything, day, _month = rules["Rules"]
    assert everything["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 7}
    assert everything["Expiration"] == {"ExpiredObjectDeleteMarker": True}
    tag = {"Key": "stepout-keep", "Value": "1d"}
    assert day["Filter"] == {"And": {"Prefix": "runs/", "Tags": [tag]}}
    assert json.loads(run("lifecycle", "--keep", "1d", "--json")[1])["Rules"][1]["Filter"] == {"Tag": tag}
    assert run("lifecycle", "--keep", "0d")[0] == 2


def test_on_a_terminal_it_says_how_far_it_is(
    failed: ArtifactManager, local_aws: LocalAws, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On one line of standard error, which is gone before anything else is printed."""
    for name, value in local_aws.environ.items():
        monkeypatch.setenv(name, value)
    with pseudo_terminal() as terminal:
        monkeypatch.setattr(sys, "stderr", terminal.stream)
        assert main(["gc", f"s3://{bucket}/runs/", "--older-than", "14d"]) == 0
    assert terminal.drawn[0] == "objects looked at: 1"
    assert terminal.drawn[1].startswith("stepout: 0 left over (0 B), 0 removed; of 1: ")
    assert failed.pointers
