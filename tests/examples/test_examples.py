"""Every example runs: its state machine, its program as a real process, and its Lambda, on the local AWS."""

from __future__ import annotations

import importlib.metadata
import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.docs import blocks
from support.ministack import ROLE, unique, wait_execution, wait_until

from stepout.callbacks import named_failure
from stepout.cli import main
from stepout.local import lambda_zip

if TYPE_CHECKING:
    from stepout.local import LocalAws

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
FOLDERS = sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir() and not path.name.startswith("_"))


class Deployment:
    """One example on the local AWS."""

    def __init__(self, aws: LocalAws, name: str, folder: Path) -> None:
        self.aws = aws
        self.folder = shutil.copytree(EXAMPLES / name, folder / name)
        self.bucket = unique("example")
        aws.client("s3").create_bucket(Bucket=self.bucket)
        self.names = {"Bucket": self.bucket, "Cluster": "default", "Subnet": "subnet-0a1b2c3d", "Image": "ignored:1"}
        self.names |= {"LogGroup": "/jobs", "Region": aws.region}
        self.names |= {"TaskRole": ROLE, "ExecutionRole": ROLE, "TaskDefinition": unique("example")}
        self.names |= {name: unique("task") for name in ("MaskTask", "ScoreTask", "PlanTask")}
        self.names["ConsumerFunction"] = self._function("consumer.handler")

    def document(self, name: str) -> Any:
        """Return a file of the example with its names filled in."""
        text = (self.folder / name).read_text("utf-8")
        return json.loads(re.sub(r"\$\{(\w+)\}", lambda found: self.names[found[1]], text))

    def register(self) -> None:
        """Register the task definitions; without images, their commands run in the example's folder."""
        for path in sorted(self.folder.glob("task-definition*.json")):
            definition = self.document(path.name)
            for container in definition["containerDefinitions"]:
                container["command"] = self.in_folder(container["command"])
            self.aws.client("ecs").register_task_definition(**definition)

    def in_folder(self, command: list[str]) -> list[str]:
        """Return a command that runs where the example's files are."""
        return ["sh", "-c", 'cd "$0" && exec "$@"', str(self.folder), *command]

    def run(self, document: object, definition: Any = None) -> dict[str, Any]:
        """Create the state machine, start it, and wait for its end."""
        return wait_execution(self.aws, self.start(document, definition))

    def start(self, document: object, definition: Any = None) -> str:
        """Create the state machine and start it."""
        states = self.aws.client("stepfunctions")
        machine = states.create_state_machine(
            name=unique("example"),
            definition=json.dumps(definition or self.document("state-machine.asl.json")),
            roleArn=ROLE,
        )
        started = states.start_execution(stateMachineArn=machine["stateMachineArn"], input=json.dumps(document))
        return str(started["executionArn"])

    def named_failure(self) -> None:
        """Deploy the Lambda that raises what a failure document names."""
        self.names["NamedFailureFunction"] = self._function("stepout.callbacks.named_failure.handler")

    def _function(self, handler: str) -> str:
        buffer = io.BytesIO(lambda_zip())
        with zipfile.ZipFile(buffer, "a") as archive:
            archive.write(self.folder / "consumer.py", "consumer.py")
        client, name = self.aws.client("lambda"), unique("example")
        allow = f"s3://{self.bucket}/runs/ s3://{self.bucket}/outputs/"
        client.create_function(
            FunctionName=name,
            Runtime=f"python{sys.version_info.major}.{sys.version_info.minor}",
            Role=ROLE,
            Handler=handler,
            Code={"ZipFile": buffer.getvalue()},
            Layers=[self.aws.publish_layer("tables", "pyarrow")],
            Timeout=60,
            Environment={"Variables": {"STEPOUT_ALLOW": allow, "STEPOUT_S3_PROFILE": "compatible"}},
        )
        wait_until(
            lambda: client.get_function(FunctionName=name)["Configuration"]["State"] == "Active", what="the Lambda"
        )
        return name


@pytest.fixture
def deployment(request: pytest.FixtureRequest, local_aws: LocalAws, tmp_path: Path) -> Deployment:
    """The example that the test's parameter names."""
    return Deployment(local_aws, request.param, tmp_path)


def example(name: str) -> pytest.MarkDecorator:
    """Run a test with this example deployed."""
    return pytest.mark.parametrize("deployment", [name], indirect=True, ids=[name])


def output_of(execution: dict[str, Any]) -> Any:
    """Return the output of an execution that succeeded."""
    assert execution["status"] == "SUCCEEDED", json.dumps(execution, default=str, indent=1)
    return json.loads(execution["output"])


@example("ecs")
def test_ecs_reports_with_its_token_and_a_lambda_reads_the_table(deployment: Deployment) -> None:
    """The figures at the end are only known to who read the file."""
    deployment.register()
    assert output_of(deployment.run({"rows": 1000})) == {"rows": 1000, "largest": 999 * 999}


@example("ecs")
def test_ecs_fails_by_the_name_of_the_jobs_own_exception(deployment: Deployment) -> None:
    """Input that the job cannot use ends the execution with its error, not with a timeout."""
    deployment.register()
    ended = deployment.run({"lines": 3})
    assert (ended["status"], ended["error"]) == ("FAILED", "KeyError")


@example("chain")
def test_a_chain_hands_on_from_container_to_container_to_lambda(deployment: Deployment) -> None:
    """Each reads what the one before wrote; the figures at the end are only known to who read the last table."""
    deployment.register()
    assert output_of(deployment.run({"rows": 100})) == {"rows": 100, "largest": 99 * 99}


@example("chain")
def test_a_chain_is_ended_by_the_failure_of_one_of_its_tasks(deployment: Deployment) -> None:
    """The error is the job's own exception, and nothing that comes after it runs."""
    deployment.register()
    ended = deployment.run({"lines": 3})
    assert (ended["status"], ended["error"]) == ("FAILED", "KeyError")


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("chain", {"chain.json", "task-definition-mask.json", "task-definition-score.json"}),
        ("distributed-map", {"task-definition.json", "task-definition-plan.json"}),
    ],
)
def test_the_files_of_an_example_are_what_its_page_says_they_are_made_by(
    name: str, given: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every command of the page runs, and what it prints is the file that is there."""
    monkeypatch.chdir(shutil.copytree(EXAMPLES / name, tmp_path / name))
    (block,) = (each for each in blocks(Path("README.md")) if each.language == "sh")
    commands = [line.partition(" > ") for line in block.text.splitlines()]
    assert len(commands) > 6
    for command, redirected, file in commands:
        assert main(shlex.split(command)[1:]) == 0
        if redirected:
            assert json.loads(capsys.readouterr().out) == json.loads(Path(file).read_text("utf-8")), file
    made = {file for _, _, file in commands if file}
    assert {path.name for path in Path().glob("*.json")} - made == given


@example("any-language")
def test_a_shell_script_hands_on_a_file_and_a_result(deployment: Deployment) -> None:
    """It knows nothing of stepout: it writes files and ends."""
    deployment.register()
    assert output_of(deployment.run({"rows": 12})) == {"rows": 12, "last": "11,121"}


@example("any-language")
def test_a_shell_scripts_exit_code_is_a_permanent_failure(deployment: Deployment) -> None:
    """Exit code 64 is named permanent, so it is not retried; what the script said is in the cause."""
    deployment.register()
    ended = deployment.run({"rows": "none"})
    assert ended["status"] == "FAILED"
    assert ended["error"] == "Stepout.Permanent"
    assert "the input has no rows" in ended["cause"]


@example("sqs-worker")
def test_a_worker_takes_tasks_from_a_queue(deployment: Deployment) -> None:
    """Two executions, one worker with its command from the Dockerfile; it ends in order when it is asked to."""
    queue = deployment.aws.client("sqs").create_queue(QueueName=unique("example"))["QueueUrl"]
    deployment.names["QueueUrl"] = queue
    executions = [deployment.start({"rows": rows}) for rows in (5, 7)]
    variables = {"STEPOUT_BUCKET": deployment.bucket, "STEPOUT_PREFIX": "runs", "QUEUE_URL": queue}
    variables["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # The container's python.
    # An idle worker ends with its poll, which nobody is to wait for here.
    command = [word.replace("stepout worker", "stepout worker --poll 2") for word in _default_command(deployment)]
    assert command != _default_command(deployment)
    worker = subprocess.Popen(command, cwd=deployment.folder, env={**os.environ, **deployment.aws.environ, **variables})
    try:
        ended = [output_of(wait_execution(deployment.aws, execution)) for execution in executions]
    finally:
        worker.send_signal(signal.SIGTERM)
        code = worker.wait(timeout=300)
    assert ended == [{"rows": 5, "largest": 16}, {"rows": 7, "largest": 36}]
    assert code in {0, 143}


def _default_command(deployment: Deployment) -> list[str]:
    """Return what the image runs: the Dockerfile's CMD, as there is no ENTRYPOINT."""
    lines = (deployment.folder / "Dockerfile").read_text("utf-8").splitlines()
    (line,) = (each for each in lines if each.startswith(("CMD", "ENTRYPOINT")))
    return list(json.loads(line.removeprefix("CMD")))


@example("pull-mode")
def test_the_outcome_is_found_where_the_state_machine_said(deployment: Deployment) -> None:
    """No token anywhere: the next step resolves the URL."""
    deployment.register()
    deployment.named_failure()
    assert output_of(deployment.run({"rows": 30})) == {"largest": 29 * 29}


@example("pull-mode")
def test_a_failure_left_beside_the_url_is_caught_by_its_name(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state only knows that a container failed; the Lambda raises what its failure document says."""
    deployment.register()
    deployment.named_failure()
    ended = deployment.run({"rows": 0}, _failing(deployment))
    assert "the input asks for no rows" in output_of(ended)["error"]["Cause"]
    for name, value in deployment.aws.environ.items():
        monkeypatch.setenv(name, value)
    url = f"s3://{deployment.bucket}/outputs/{ended['name']}/Compute.json"
    with pytest.raises(Exception, match="the input asks for no rows") as raised:
        named_failure.handler({"url": url, "execution": ended["executionArn"], "state": "Compute"})
    assert raised.type.__name__ == "Example.NoRows"


def _failing(deployment: Deployment) -> Any:
    """Return the state machine as the local AWS needs it.

    There a ``.sync`` state succeeds whatever became of the container, and every exception of a Lambda has one name.
    """
    definition = deployment.document("state-machine.asl.json")
    definition["States"]["Compute"]["Next"] = "WhatFailed"
    (caught,) = definition["States"]["WhatFailed"]["Catch"]
    assert caught["ErrorEquals"] == ["Example.NoRows"]
    caught["ErrorEquals"] = ["Runtime.HandlerError"]
    return definition


@example("eks")
def test_a_kubernetes_job_leaves_its_outcome_at_the_url(deployment: Deployment) -> None:
    """The job's command runs with the variables that the state gives it; everything else is the state machine's."""
    deployment.named_failure()
    deployment.names |= {"CertificateAuthority": "none", "ClusterEndpoint": "https://none", "ServiceAccount": "job"}
    definition = deployment.document("state-machine.asl.json")
    (container,) = definition["States"]["Compute"]["Parameters"]["Job"]["spec"]["template"]["spec"]["containers"]
    deployment.aws.client("ecs").register_task_definition(
        family=deployment.names["TaskDefinition"],
        containerDefinitions=[
            {"name": "job", "image": "ignored", "command": deployment.in_folder(container["command"])}
        ],
    )
    environment = [{key.capitalize(): value for key, value in each.items()} for each in container["env"]]
    definition["States"]["Compute"] |= {
        "Resource": "arn:aws:states:::ecs:runTask.sync",
        "Parameters": {
            "LaunchType": "FARGATE",
            "Cluster": "default",
            "TaskDefinition": deployment.names["TaskDefinition"],
            "Overrides": {"ContainerOverrides": [{"Name": "job", "Environment": environment}]},
        },
    }
    assert output_of(deployment.run({"rows": 20}, definition)) == {"largest": 19 * 19}


@example("distributed-map")
def test_every_child_of_a_distributed_map_hands_on_its_own_table(deployment: Deployment) -> None:
    """Twenty items, twenty containers, of which one fails; the Lambda adds up what it read from all others."""
    s3 = deployment.aws.client("s3")
    s3.put_bucket_versioning(Bucket=deployment.bucket, VersioningConfiguration={"Status": "Enabled"})
    deployment.register()
    shards = [{"lines": 3} if number == 7 else {"rows": number} for number in range(20)]
    total = sum(square * square for number in range(20) if number != 7 for square in range(number))
    assert output_of(deployment.run({"shards": shards})) == {"children": 19, "total": total, "failed": ["KeyError"]}
    listed = s3.list_objects_v2(Bucket=deployment.bucket, Prefix="runs/")["Contents"]
    keys = [each["Key"].split("/") for each in listed if each["Key"].endswith("/squares.json")]
    # All in the folder of the parent's execution, each in that of its own index.
    assert len({tuple(parts[:3]) for parts in keys}) == 1
    assert {parts[5] for parts in keys} == {str(number) for number in range(20) if number != 7}


@pytest.mark.parametrize("name", FOLDERS)
def test_the_doctor_finds_nothing_wrong_with_an_example(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """State machine and task definition together, with a tag for the image; notes are no reason to change anything."""
    files = []
    for path in sorted((EXAMPLES / name).glob("*.json")):
        if not path.name.startswith("iam-") and path.name not in {"chain.json", "template.json"}:
            files.append(tmp_path / path.name)
            files[-1].write_text(path.read_text("utf-8").replace("${Image}", "mask:1.0.0"), "utf-8")
    assert main(["doctor", *map(str, files)]) == 0, capsys.readouterr().out


@pytest.mark.parametrize("name", FOLDERS)
def test_policies_grant_nothing_that_could_be_narrower(name: str) -> None:
    """Every policy is JSON; ``*`` stands only where Step Functions' callback actions know no resource."""
    policies = sorted((EXAMPLES / name).glob("iam-*.json"))
    assert policies
    for path in policies:
        for statement in json.loads(path.read_text("utf-8"))["Statement"]:
            actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
            assert not any("*" in action for action in actions)
            assert statement["Resource"] != "*" or all(action.startswith("states:SendTask") for action in actions)


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize("version", [importlib.metadata.version("stepout"), "9.8.7"])
def test_an_image_gets_the_wheel_that_it_is_given(name: str, version: str, tmp_path: Path) -> None:
    """By default that of this version; its extras are stepout's, and the page of the example says how to make it."""
    text = (EXAMPLES / name / "Dockerfile").read_text("utf-8")
    wheel = f"stepout-{version}-py3-none-any.whl"
    (default,) = re.findall(r"^ARG STEPOUT_WHEEL=(\S+)$", text, re.MULTILINE)
    assert default == f"stepout-{importlib.metadata.version('stepout')}-py3-none-any.whl"
    (folder,) = re.findall(r"^COPY \$\{STEPOUT_WHEEL\} (/\S+/)$", text, re.MULTILINE)
    (command,) = re.findall(r"^RUN (pip install .*)$", text, re.MULTILINE)
    pip = tmp_path / "pip"
    pip.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n', "utf-8")
    pip.chmod(0o755)
    variables = {"PATH": f"{tmp_path}{os.pathsep}{os.defpath}", "STEPOUT_WHEEL": wheel}  # an ARG is a variable of RUN
    done = subprocess.run(["sh", "-ec", command], env=variables, capture_output=True, text=True, check=True)
    installed, _, extras = done.stdout.splitlines()[-1].rstrip("]").partition("[")
    assert installed == folder + wheel
    assert set(extras.split(",")) <= set(importlib.metadata.metadata("stepout").get_all("Provides-Extra", []))
    assert f"pip wheel --no-deps -w examples/{name} ." in (EXAMPLES / name / "README.md").read_text("utf-8")


def test_every_folder_is_in_the_index() -> None:
    """The table names all of them, and every one has a state machine and a consumer."""
    text = (EXAMPLES / "README.md").read_text("utf-8")
    for name in FOLDERS:
        assert f"| `{name}` |" in text
        assert (EXAMPLES / name / "state-machine.asl.json").is_file()
        assert (EXAMPLES / name / "consumer.py").is_file()


ROLES = sorted(path for path in EXAMPLES.rglob("*.json") if '"WriteArtifacts"' in path.read_text("utf-8"))


@pytest.mark.parametrize("path", ROLES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_who_writes_artifacts_may_do_what_stepout_iam_prints(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No more and no less."""
    assert main(["iam", "producer", "--pull"]) == 0
    (printed,) = json.loads(capsys.readouterr().out)["Statement"]
    granted = re.findall(
        r'"Sid": "WriteArtifacts",\s*"Effect": "Allow",\s*"Action": (\[[^]]*\])', path.read_text("utf-8")
    )
    assert [sorted(json.loads(each)) for each in granted] == [printed["Action"]]
