"""Policies that ``stepout iam`` prints: actions exist, resources are as narrow as IAM has them, nonsense is refused."""

from __future__ import annotations

import json
from typing import Any

import botocore.session
import pytest

from stepout.cli import main
from stepout.iam import MACHINE_KINDS, ROLES, Scope, policy

# The Service Authorization Reference: actions that know no resource, and those that are no operation of an API.
WITHOUT_RESOURCE = {
    "states:SendTaskSuccess",
    "states:SendTaskFailure",
    "states:SendTaskHeartbeat",
    "batch:DescribeJobs",
}
NO_OPERATION = {
    *("s3:GetObjectVersion", "s3:DeleteObjectVersion", "s3:ListBucket", "s3:ListBucketVersions"),
    *("s3:ListBucketMultipartUploads", "s3:ListMultipartUploadParts", "lambda:InvokeFunction", "iam:PassRole"),
}
SERVICES = {"states": "stepfunctions"}
WHERE = {"region": "eu-west-1", "account": "123456789012"}
FULL: dict[str, Any] = {
    "bucket": "results-bucket",
    "prefix": "runs",
    "kms_key": "arn:aws:kms:eu-west-1:123456789012:key/0a1b",
    "table": "outcomes",
    "token_table": "tokens",
    "topic": "done",
    "bus": "default",
    "cluster": "jobs",
    "task_definition": "mask",
    "function": "read",
    "job_queue": "spot",
    "job_definition": "mask",
    "job": "nightly",
    "state_machine": "scenes",
    "pass_roles": ("mask-task", "ecs-execution"),
    **WHERE,
}
NEEDED = [kind for kind in MACHINE_KINDS if kind not in ("eks", "activity")]
ALL = [
    *(
        (role, more)
        for role in ROLES
        if role != "machine"
        for more in ({"queue": "reports"}, {"queue": "jobs", "activity": "mask"})
    ),
    ("producer", {"tags": True, "object_lock": True, "resume": True}),
    *(("machine", {"kind": kind, "queue": "jobs"}) for kind in NEEDED),
]


def statements(role: str, **scope: Any) -> list[dict[str, Any]]:
    """Return a policy's statements."""
    document = policy(role, Scope(**scope))
    assert document["Version"] == "2012-10-17"
    return list(document["Statement"])


def actions(role: str, **scope: Any) -> set[str]:
    """Return all that a policy allows."""
    return {action for statement in statements(role, **scope) for action in statement["Action"]}


@pytest.mark.parametrize(("role", "more"), ALL, ids=str)
def test_actions_exist_and_resources_are_narrow(role: str, more: dict[str, Any]) -> None:
    """Every action is an operation of its service, and "*" stands alone for those that know no resource."""
    session = botocore.session.get_session()
    found = statements(role, **FULL, **more)
    assert len({statement["Sid"] for statement in found}) == len(found)
    for statement in found:
        assert statement["Effect"] == "Allow"
        resources = statement["Resource"] if isinstance(statement["Resource"], list) else [statement["Resource"]]
        for action in statement["Action"]:
            service, _, name = action.partition(":")
            if action not in NO_OPERATION:
                known = session.get_service_model(SERVICES.get(service, service)).operation_names
                assert name in known, action
            assert (resources == ["*"]) == (action in WITHOUT_RESOURCE), action
        for resource in resources:
            assert resource == "*" or resource.startswith("arn:aws:")
            assert "${" not in resource


def test_clean_up_asks_and_removes_below_its_prefix_alone() -> None:
    """Without the right to ask Step Functions it only lists, so that right stands in a statement of its own."""
    found = {each["Sid"]: each for each in statements("gc", bucket="results-bucket", prefix="runs", **WHERE)}
    assert found["ListVersions"]["Condition"] == {"StringLike": {"s3:prefix": "runs/*"}}
    assert found["LookAndRemove"]["Resource"] == "arn:aws:s3:::results-bucket/runs/*"
    assert found["AskWhatRuns"]["Action"] == ["states:DescribeExecution"]
    assert not any("s3:Put" in action for each in found.values() for action in each["Action"])


def test_producer_reports_the_way_it_is_asked_to() -> None:
    """By token, through a relay, by pull mode, into a table: each has its right, and no other's."""
    send = {"states:SendTaskSuccess", "states:SendTaskFailure", "states:SendTaskHeartbeat"}
    store = {"s3:PutObject", "s3:GetObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"}
    assert actions("producer") == store | send
    assert actions("producer", queue="q") == store | {"sqs:SendMessage"}
    assert actions("producer", pull=True) == store
    assert actions("producer", table="t") == actions("producer") | {"dynamodb:PutItem", "dynamodb:UpdateItem"}
    assert actions("producer", pull=True, table="t") == store | {"dynamodb:PutItem", "dynamodb:UpdateItem"}
    locked = {"s3:PutObjectTagging", "s3:PutObjectRetention", "s3:PutObjectLegalHold"}
    assert actions("producer", pull=True, tags=True, object_lock=True) == store | locked


def test_who_resumes_directories_may_list_below_the_prefix() -> None:
    """A worker's commands too; a directory bucket's session covers it."""
    for role in ("producer", "worker"):
        found = {each["Sid"]: each for each in statements(role, bucket="results-bucket", prefix="runs", resume=True)}
        assert found["FindEarlierTries"]["Action"] == ["s3:ListBucket"]
        assert found["FindEarlierTries"]["Resource"] == "arn:aws:s3:::results-bucket"
        assert found["FindEarlierTries"]["Condition"] == {"StringLike": {"s3:prefix": "runs/*"}}
    assert actions("producer", bucket="b--use1-az4--x-s3", resume=True) == actions(
        "producer", bucket="b--use1-az4--x-s3"
    )


def test_objects_are_those_under_the_prefix() -> None:
    """Bucket and prefix bound what is written, read and listed."""
    write = statements("producer", bucket="b-1", prefix="/runs/")[0]
    assert write["Resource"] == "arn:aws:s3:::b-1/runs/*"
    read, listed = statements("consumer", bucket="b-1", prefix="runs")
    assert read["Resource"] == "arn:aws:s3:::b-1/runs/*"
    assert listed["Resource"] == "arn:aws:s3:::b-1"
    assert listed["Condition"] == {"StringLike": {"s3:prefix": "runs/*"}}
    assert "s3:ListBucket" not in actions("consumer", listing=False)
    assert statements("producer", bucket="b-1", partition="aws-cn")[0]["Resource"] == "arn:aws-cn:s3:::b-1/*"


def test_directory_buckets_are_opened_by_a_session() -> None:
    """S3 Express knows one right to objects, CreateSession on the whole bucket, and read-only ones for consumers."""
    bucket = "results--use1-az4--x-s3"
    write = statements("producer", bucket=bucket, prefix="runs", pull=True, **WHERE)
    arn = f"arn:aws:s3express:eu-west-1:123456789012:bucket/{bucket}"
    assert [(each["Action"], each["Resource"]) for each in write] == [(["s3express:CreateSession"], arn)]
    (read,) = statements("consumer", bucket=bucket, prefix="runs", **WHERE)
    assert (read["Action"], read["Resource"]) == (["s3express:CreateSession"], arn)
    assert read["Condition"] == {"StringEquals": {"s3express:SessionMode": "ReadOnly"}}


def test_keys_serve_s3_alone() -> None:
    """The bucket's key may be used through S3 and for nothing else; a reader gets no right to encrypt."""
    used = statements("consumer", **FULL)[-1]
    assert (used["Action"], used["Resource"]) == (["kms:Decrypt"], FULL["kms_key"])
    assert used["Condition"] == {"StringEquals": {"kms:ViaService": "s3.eu-west-1.amazonaws.com"}}
    assert "kms:GenerateDataKey" in actions("producer", **FULL)


@pytest.mark.parametrize(
    "queue",
    [
        "jobs.fifo",
        "https://sqs.eu-west-1.amazonaws.com/123456789012/jobs.fifo",
        "sqs://sqs.eu-west-1.amazonaws.com/123456789012/jobs.fifo",
        "sqs:https://sqs.eu-west-1.amazonaws.com/123456789012/jobs.fifo",
        "arn:aws:sqs:eu-west-1:123456789012:jobs.fifo",
    ],
)
def test_queue_may_be_a_name_a_url_or_an_arn(queue: str) -> None:
    """Every form in which a queue is named, that of STEPOUT_TARGETS included, leads to one ARN."""
    taken = statements("relay", queue=queue, **WHERE)[0]
    assert taken["Resource"] == "arn:aws:sqs:eu-west-1:123456789012:jobs.fifo"


def test_an_arn_that_cloudformation_fills_in_stays() -> None:
    """``${Name.Arn}`` is an ARN once CloudFormation has put it in: nothing is written around it."""
    called = statements("machine", kind="lambda", function="${Read.Arn}", **WHERE)[0]
    assert called["Resource"] == ["${Read.Arn}", "${Read.Arn}:*"]
    assert statements("relay", queue="${Reports.Arn}", **WHERE)[0]["Resource"] == "${Reports.Arn}"


def test_a_distributed_map_may_start_children_of_its_own_machine_alone() -> None:
    """Start them, look at them and end them; read items, write results, below the prefix."""
    found = {each["Sid"]: each for each in statements("machine", kind="map", **FULL)}
    states = "arn:aws:states:eu-west-1:123456789012"
    assert found["StartChildren"]["Resource"] == f"{states}:stateMachine:scenes"
    assert found["WatchChildren"]["Resource"] == [f"{states}:execution:scenes:*", f"{states}:execution:scenes/*"]
    assert set(found["WatchChildren"]["Action"]) >= {"states:DescribeExecution", "states:StopExecution"}
    assert found["WriteResults"]["Resource"] == "arn:aws:s3:::results-bucket/runs/*"
    assert "s3:GetObjectVersion" in found["ReadItems"]["Action"]


def test_watching_states_get_what_step_functions_documents() -> None:
    """.sync needs the rule through which Step Functions learns of the end, and the right to stop what it started."""
    found = {
        statement["Sid"]: statement
        for statement in statements(
            "machine", kind="ecs-sync", **{**FULL, "pass_roles": ("a", "arn:aws:iam::1:role/b")}
        )
    }
    assert found["LearnOfTheEnd"]["Resource"].endswith(":rule/StepFunctionsGetEventsForECSTaskRule")
    assert found["WatchTasks"]["Resource"] == "arn:aws:ecs:eu-west-1:123456789012:task/jobs/*"
    assert found["RunTasks"]["Resource"] == "arn:aws:ecs:eu-west-1:123456789012:task-definition/mask:*"
    assert found["HandOverRoles"]["Resource"] == ["arn:aws:iam::123456789012:role/a", "arn:aws:iam::1:role/b"]
    assert set(actions("machine", kind="ecs", **FULL)) == {"ecs:RunTask", "iam:PassRole"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["machine"], "--kind"),
        (["machine", "--kind", "eks"], "access entry"),
        (["machine", "--kind", "activity"], "GetActivityTask"),
        (["producer", "--bucket", "Not a bucket"], "no bucket's name"),
        (["producer", "--prefix", "runs/*"], "name one folder"),
        (["producer", "--kms-key", "alias/mine"], "ARN of a key"),
        (["relay", "--bucket", "results-bucket"], "relay has no use for --bucket"),
        (["producer", "--no-list"], "producer has no use for --no-list"),
        (["producer", "--bucket", "s3://results-bucket/runs"], "--prefix"),
        (["producer", "--table", "dynamodb://outcomes/key"], "--table"),
        (["producer", "--topic", "https://example.com"], "--topic"),
        (["producer", "--topic", "arn:aws:sqs:eu-west-1:123456789012:done"], "--topic"),
        (["producer", "--token-table", "a table"], "--token-table"),
        (["relay", "--queue", "arn:aws:sns:eu-west-1:123456789012:done"], "--queue"),
        (["relay", "--queue", "a/b"], "--queue"),
        (["watcher", "--cluster", ""], "--cluster is empty"),
        (["relay", "--account", "12"], "--account"),
        (["relay", "--region", "Ireland"], "--region"),
        (["relay", "--partition", "amazon"], "--partition"),
        (["worker", "--queue", "jobs", "--activity", "mask"], "not both"),
        (["machine", "--kind", "ecs", "--queue", "jobs"], "ecs has no use for --queue"),
        (["machine", "--kind", "sqs", "--pass-role", "mask-task"], "sqs has no use for --pass-role"),
        (["producer", "--bucket", "b--use1-az4--x-s3", "--tags"], "directory bucket"),
        (["machine", "--kind", "ecs", "--bucket", "results-bucket"], "ecs has no use for --bucket"),
        (["producer", "--kind", "ecs"], "producer has no use for --kind"),
    ],
)
def test_what_makes_no_sense_is_refused(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A usage error names the option, and nothing is printed."""
    assert main(["iam", *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err


def test_command_prints_json_and_lists_placeholders(capsys: pytest.CaptureFixture[str]) -> None:
    """Standard output is the policy; names that were not said are placeholders, listed on standard error."""
    assert main(["iam", "watcher", "--cluster", "jobs", "--token-table", "tokens"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert json.loads(out)["Statement"][1]["Resource"] == "arn:aws:ecs:${AWS::Region}:${AWS::AccountId}:task/jobs/*"
    assert main(["iam", "relay"]) == 0
    assert capsys.readouterr().err == "stepout: to be filled in: ${Queue}\n"
