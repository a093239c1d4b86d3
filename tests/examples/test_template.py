"""The template of the ECS example: what `stepout` prints, clean for the linter, and a stack that runs."""

from __future__ import annotations

import io
import json
import shlex
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.cloudformation import camel, create_stack, lint, plain, resources
from support.ministack import unique, wait_execution, wait_until

from stepout.cli import main
from stepout.local import lambda_zip

if TYPE_CHECKING:
    from stepout.local import LocalAws

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "ecs"
PARTITION = "--partition ${AWS::Partition}"
WHERE = f"--bucket ${{Bucket}} --prefix runs {PARTITION}"
POLICIES = {
    ("TaskRole", "producer"): f"iam producer {WHERE}",
    ("ConsumerRole", "consumer"): f"iam consumer {WHERE}",
    ("StateMachineRole", "ecs"): (
        f"iam machine --kind ecs --cluster ${{Cluster}} --task-definition ${{AWS::StackName}} {PARTITION}"
    ),
    ("StateMachineRole", "consumer"): f"iam machine --kind consumer --function ${{Consumer}} {PARTITION}",
}
MACHINE = (
    "asl chain --state Compute=ecs:${TaskDefinition} --state Read=consumer:${Consumer} --cluster ${Cluster} "
    "--subnets ${Subnets} --security-groups ${SecurityGroups} --public-ip --bucket ${Bucket} --prefix runs"
)


@pytest.fixture
def template() -> dict[str, Any]:
    """The template, read anew."""
    return dict(json.loads((EXAMPLE / "template.json").read_text("utf-8")))


def printed(command: str, capsys: pytest.CaptureFixture[str]) -> Any:
    """Return what a command of `stepout` prints."""
    assert main(shlex.split(command)) == 0
    return json.loads(capsys.readouterr().out)


def the_machine(template: dict[str, Any]) -> Any:
    """Return the state machine as `stepout asl` prints it, which writes one subnet where the template has a list."""
    machine = plain(resources(template, "AWS::StepFunctions::StateMachine")["StateMachine"]["Definition"])
    network = machine["States"]["Compute"]["Parameters"]["NetworkConfiguration"]["AwsvpcConfiguration"]
    assert network == {name: f"${{{name}}}" for name in ("Subnets", "SecurityGroups", "AssignPublicIp")}
    network |= {"Subnets": ["${Subnets}"], "SecurityGroups": ["${SecurityGroups}"], "AssignPublicIp": "ENABLED"}
    return machine


def test_the_linter_finds_nothing() -> None:
    """No error and no warning: types, references, policies, the state machine."""
    assert lint(EXAMPLE / "template.json") == ""


def test_the_state_machine_is_what_stepout_asl_prints(
    template: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """One command makes it; every name in it is a resource."""
    assert the_machine(template) == printed(MACHINE, capsys)
    substituted = resources(template, "AWS::StepFunctions::StateMachine")["StateMachine"]["DefinitionSubstitutions"]
    assert substituted == {name: {"Ref": name} for name in ("Bucket", "Cluster", "Consumer", "TaskDefinition")}


def test_the_policies_are_what_stepout_iam_prints(template: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    """All of them, and no role has one besides."""
    found = {
        (role, policy["PolicyName"]): plain(policy["PolicyDocument"])
        for role, properties in resources(template, "AWS::IAM::Role").items()
        for policy in properties.get("Policies", [])
    }
    assert found == {key: printed(command, capsys) for key, command in POLICIES.items()}


def test_the_buckets_rules_are_what_stepout_lifecycle_prints(
    template: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """CloudFormation spells two members differently."""
    (bucket,) = resources(template, "AWS::S3::Bucket").values()
    (rule,) = bucket["LifecycleConfiguration"]["Rules"]
    rule["ID"] = rule.pop("Id")
    rule["Filter"] = {"Prefix": rule.pop("Prefix")}
    rule["Expiration"] = {"ExpiredObjectDeleteMarker": rule.pop("ExpiredObjectDeleteMarker")}
    assert {"Rules": [rule]} == printed("lifecycle --prefix runs", capsys)


def test_the_doctor_finds_nothing_wrong(
    template: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """State machine, task definition and bucket together, as the APIs have them."""
    (task,) = resources(template, "AWS::ECS::TaskDefinition").values()
    (bucket,) = resources(template, "AWS::S3::Bucket").values()
    text = json.dumps(camel(plain(task))).replace("${Image}", "mask:1.0.0")
    documents = {
        "machine.json": the_machine(template),
        "task.json": json.loads(text),
        "versioning.json": bucket["VersioningConfiguration"],
        "access.json": {"PublicAccessBlockConfiguration": bucket["PublicAccessBlockConfiguration"]},
    }
    for name, document in documents.items():
        (tmp_path / name).write_text(json.dumps(document), "utf-8")
    assert main(["doctor", *(str(tmp_path / name) for name in documents)]) == 0, capsys.readouterr().out


def test_a_stack_runs(template: dict[str, Any], local_aws: LocalAws) -> None:
    """The container writes a table and the Lambda reads it, in a bucket that only the stack names.

    The local AWS has no images and no VPC, knows no redrives, and takes pyarrow from a layer of its own.
    """
    (task,) = resources(template, "AWS::ECS::TaskDefinition").values()
    (container,) = task["ContainerDefinitions"]
    container["Command"] = ["sh", "-c", 'cd "$0" && exec "$@"', str(EXAMPLE), *container["Command"]]
    machine = resources(template, "AWS::StepFunctions::StateMachine")["StateMachine"]["Definition"]
    (override,) = machine["States"]["Compute"]["Parameters"]["Overrides"]["ContainerOverrides"]
    override["Environment"] = [each for each in override["Environment"] if each["Name"] != "STEPOUT_REDRIVE"]
    function = resources(template, "AWS::Lambda::Function")["Consumer"]
    function["Runtime"] = f"python{sys.version_info.major}.{sys.version_info.minor}"
    function["Environment"]["Variables"]["STEPOUT_S3_PROFILE"] = "compatible"
    parameters = {"Image": "job:1", "Subnets": "subnet-0a1b2c3d,subnet-1a1b2c3d", "SecurityGroups": "sg-0a1b2c3d"}
    parameters |= _consumer(local_aws)
    outputs = create_stack(local_aws, template, parameters)
    name = outputs["Consumer"]
    client = local_aws.client("lambda")
    wait_until(lambda: client.get_function(FunctionName=name)["Configuration"]["State"] == "Active", what="the Lambda")

    started = local_aws.client("stepfunctions").start_execution(
        stateMachineArn=outputs["StateMachine"], input=json.dumps({"rows": 1000})
    )
    ended = wait_execution(local_aws, started["executionArn"])
    assert ended["status"] == "SUCCEEDED", ended
    assert json.loads(ended["output"]) == {"rows": 1000, "largest": 999 * 999}
    listed = local_aws.client("s3").list_objects_v2(Bucket=outputs["Bucket"], Prefix="runs/")["Contents"]
    assert {each["Key"].rpartition("/")[2] for each in listed} >= {"squares.parquet", "_output.json"}


def _consumer(aws: LocalAws) -> dict[str, str]:
    """Put the consumer's zip into a bucket, and return the parameters that lead to it."""
    buffer = io.BytesIO(lambda_zip())
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.write(EXAMPLE / "consumer.py", "consumer.py")
    bucket = unique("code")
    client = aws.client("s3")
    client.create_bucket(Bucket=bucket)
    client.put_object(Bucket=bucket, Key="consumer.zip", Body=buffer.getvalue())
    layer = aws.publish_layer("tables", "pyarrow")
    return {"ConsumerBucket": bucket, "ConsumerKey": "consumer.zip", "ConsumerLayer": layer}
