"""``stepout doctor`` from the command line: files, a local AWS, and a server that refuses."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config
from support.doctor_documents import bucket, machine, network, sound, task
from support.ministack import ROLE, unique

from stepout.callbacks.lifecycle.document import keep
from stepout.cli import main
from stepout.doctor.account import look_bucket, look_network, look_state_machine
from stepout.doctor.rules import RULES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stepout.local import LocalAws


def _written(folder: Path, **documents: Any) -> list[str]:
    paths = []
    for name, value in documents.items():
        path = folder / f"{name}.json"
        path.write_text(json.dumps(value), encoding="utf-8")
        paths.append(str(path))
    return paths


def _json(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    return dict(json.loads(capsys.readouterr().out))


# Files --------------------------------------------------------------------------------------------------------------


def test_sound_files_are_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each file is listed with its kind, nothing is found, and the exit code is 0."""
    files = _written(tmp_path, **sound())
    assert main(["doctor", *files, "--stop-budget", "60", "--longest-job", "30h"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.rpartition(": ")[2] for line in lines[:4]] == ["state machine", "task definition", "bucket", "network"]
    assert lines[-1] == "nothing found"


@pytest.mark.parametrize(("prefix", "code"), [("runs", 0), ("other", 1)])
def test_printed_rules_suit_printed_states(
    prefix: str, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The folder that the lifecycle rule must cover is the one that the states pass on."""
    assert main(["asl", "ecs", "--machine", "--bucket", "results-bucket", "--prefix", "runs"]) == 0
    machine_file, rules_file = tmp_path / "machine.json", tmp_path / "rules.json"
    machine_file.write_text(capsys.readouterr().out)
    assert main(["lifecycle", "--prefix", prefix]) == 0
    rules_file.write_text(capsys.readouterr().out)
    assert main(["doctor", str(machine_file), str(rules_file), "--json"]) == code
    found = {each["rule"] for each in _json(capsys)["findings"] if each["severity"] != "note"}
    assert found == ({"SO501"} if code else set())


def test_a_finding_is_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """People read the severity, the rule, the place, what it is, why it matters and what to write."""
    bad = machine()
    del bad["definition"]["States"]["Job"]["HeartbeatSeconds"]
    assert main(["doctor", *_written(tmp_path, machine=bad)]) == 1
    out = capsys.readouterr().out
    assert "error SO101  " in out
    assert "machine.json  States.Job\n  no HeartbeatSeconds.\n" in out
    assert f"  Why: {RULES['SO101'].why}\n  Do: {RULES['SO101'].do}\n" in out
    assert '{"HeartbeatSeconds": 300, "TimeoutSeconds": 21600}' in out
    assert out.endswith("1 error\n")


def test_a_document_cannot_write_to_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Names in a document are printed without their control characters."""
    states = {"bad\x1b[2J\x9b2J": {"Type": "Task", "Catch": [{"ErrorEquals": ["Stepout.\x1b[2J"]}]}}
    assert main(["doctor", *_written(tmp_path, machine={"StartAt": "a", "States": states})]) == 1
    out = capsys.readouterr().out
    assert "SO201" in out
    assert out.replace("\n", "").isprintable()


@pytest.mark.parametrize(
    ("state", "where"),
    [(7, "States.A"), (None, "States.A")]
    + [
        ({"Type": "Task", "Resource": "arn:aws:states:::lambda:invoke", name: value, "End": True}, f"States.A.{name}")
        for name, value in [("Resource", 7), ("Parameters", []), ("Arguments", 7), ("Retry", {}), ("Catch", "x")]
    ],
)
def test_what_is_not_understood_is_said(
    state: Any, where: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A state that is no object, and a member of the wrong type, are SO900 at their place, not "nothing found"."""
    files = _written(tmp_path, machine={"StartAt": "A", "States": {"A": state}})
    assert main(["doctor", *files, "--json"]) == 1
    assert ("SO900", where) in {(each["rule"], each["where"]) for each in _json(capsys)["findings"]}


def test_json_is_for_machines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``--json`` prints what was checked and what was found, on one line."""
    [file] = _written(tmp_path, task={**task(), "taskRoleArn": None})
    assert main(["doctor", file, "--json"]) == 1
    found = _json(capsys)
    assert found["checked"] == [{"source": file, "kind": "task definition"}]
    [finding] = found["findings"]
    assert set(finding) == {"rule", "severity", "source", "where", "what", "why", "do", "example"}
    assert (finding["rule"], finding["severity"], finding["source"]) == ("SO413", "warning", file)


@pytest.mark.parametrize(
    ("severity", "codes"),
    [
        ("note", {"error": 0, "warning": 0, "note": 1, "never": 0}),
        ("warning", {"error": 0, "warning": 1, "note": 1, "never": 0}),
        ("error", {"error": 1, "warning": 1, "note": 1, "never": 0}),
    ],
)
def test_the_exit_code_is_chosen(severity: str, codes: dict[str, int], tmp_path: Path) -> None:
    """``--fail-on`` says from which severity on the exit code is 1."""
    bad = machine()
    del bad["definition"]["States"]["Job"][
        {"error": "HeartbeatSeconds", "warning": "TimeoutSeconds", "note": "Retry"}[severity]
    ]
    [file] = _written(tmp_path, machine=bad)
    assert {least: main(["doctor", file, "--fail-on", least]) for least in codes} == codes


def test_unreadable_files_do_not_hide_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A missing file and text that is no JSON are errors, JSON of no kind is skipped; the others are checked."""
    (tmp_path / "broken.json").write_text("{ not json", encoding="utf-8")
    bad = machine()
    del bad["definition"]["States"]["Job"]["HeartbeatSeconds"]
    files = _written(tmp_path, other={"hello": 1}, machine=bad)
    missing = str(tmp_path / "missing.json")
    words = ["doctor", missing, str(tmp_path / "broken.json"), *files, "--json", "--fail-on", "never"]
    assert main(words) == 1
    rules = {(Path(each["source"]).name, each["rule"]) for each in _json(capsys)["findings"]}
    expected = {("missing.json", "SO900"), ("broken.json", "SO900"), ("other.json", "SO902"), ("machine.json", "SO101")}
    assert rules == expected


def test_what_is_no_document_of_these_kinds_is_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Other JSON and YAML beside a state machine have a line each, and fail nothing, whatever --fail-on says."""
    (tmp_path / "compose.yml").write_text("services:\n  db: {image: postgres}\n", encoding="utf-8")
    files = [*_written(tmp_path, machine=machine(), package={"name": "x"}), str(tmp_path / "compose.yml")]
    assert main(["doctor", *files, "--fail-on", "note"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(": ")[2][:7] for line in lines[:3]] == ["state m", "skipped", "skipped"]
    assert lines[3:] == ["", "nothing found, 2 skipped"]
    assert main(["doctor", *files, "--json"]) == 0
    assert [each["kind"] for each in _json(capsys)["checked"]] == ["state machine", None, None]


@pytest.mark.parametrize("fail_on", ["error", "never"])
def test_that_everything_was_skipped_is_no_success(
    fail_on: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong path in a pipeline must not look as if all were well."""
    assert main(["doctor", *_written(tmp_path, package={"name": "x"}), "--fail-on", fail_on]) == 1
    assert capsys.readouterr().out.endswith("\nnothing was looked at, 1 skipped\n")


@pytest.mark.parametrize(
    "text",
    [
        "StartAt: Job\nStates:\n  Job:\n    Type: Pass\n",
        "---\n# a machine\n\nComment: it\nStartAt: Job\nStates: {}\n",
        "\ufeffResources:\n  Machine:\n    Definition:\n      StartAt: Job\n",
        "family: job\ncontainerDefinitions:\n- name: job\n",
        '"StartAt": Job\n"States": {}\n',
    ],
)
def test_yaml_is_told_how_it_becomes_json(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """YAML of a kind that the doctor knows is an error that names the commands, with the file's name quoted."""
    file = tmp_path / "my machine.yaml"
    file.write_text(text, encoding="utf-8")
    assert main(["doctor", str(file), "--json"]) == 1
    [found] = _json(capsys)["findings"]
    assert (found["rule"], found["what"]) == ("SO900", "this is YAML, and only JSON is read")
    assert f"yq -o=json . '{file}' | stepout doctor -" in found["do"]
    assert f"yaml.safe_load(sys.stdin), sys.stdout)' < '{file}' | stepout doctor -" in found["do"]


@pytest.mark.parametrize(
    "text", ["hello", "{ StartAt: Job }", "[1, 2", "", "a note: of mine, with no states", "\n" * 9999]
)
def test_what_is_neither_is_not_taken_for_yaml(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Text of another kind is not said to be a state machine in YAML."""
    (tmp_path / "x").write_text(text, encoding="utf-8")
    assert main(["doctor", str(tmp_path / "x")]) == 1
    assert "YAML" not in capsys.readouterr().out


def test_outcomes_that_were_not_delivered_are_listed(
    temporary: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder with the only copy of an outcome is named with age and size, and fails nothing; the oldest is first.

    Only where this machine is looked at: whoever names a file is told of that file.
    """
    outcome = {"stepout": "output/1", "artifacts": {}, "result": {"secret": 7}}
    old, new = (keep(outcome, None).rpartition(" ")[2] for _ in range(2))
    os.utime(Path(old).parent, (time.time() - 3 * 86_400 - 60,) * 2)
    (temporary / "stepout-undelivered-file").write_text("no folder")
    (temporary / "stepout-undelivered-link").symlink_to(Path(old).parent)
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    size = Path(old).stat().st_size
    assert f"  {Path(old).parent}: the outcome of a task, {size} bytes, 3 days old\n  {Path(new).parent}: " in out
    assert out.count("Why: ") == 1
    assert out.endswith("2 notes\n")
    assert "secret" not in out
    assert main(["doctor", "--fail-on", "note", "--json"]) == 0
    found = _json(capsys)["findings"]
    assert [each["source"] for each in found] == [str(Path(old).parent), str(Path(new).parent)]
    assert main(["doctor", *_written(tmp_path, machine=machine()), "--json"]) == 0
    assert _json(capsys)["findings"] == []
    assert Path(old).is_file()


def test_a_folder_without_an_outcome_may_go(temporary: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder whose outcome could not be written is empty, and the advice is to remove it."""
    (temporary / "stepout-undelivered-abc\x1b").mkdir()
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "no output.json in it" in out
    assert "remove the folder" in out
    assert "\x1b" not in out


def test_standard_input_and_json_itself(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """``-`` reads standard input; an argument may be JSON itself."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(json.dumps(bucket()).encode())))
    assert main(["doctor", "-", json.dumps(task()), "--json"]) == 0
    assert [each["kind"] for each in _json(capsys)["checked"]] == ["bucket", "task definition"]


@pytest.mark.parametrize(
    "words", [[], ["x.json", "--longest-job", "soon"], ["x.json", "--fail-on", "sometimes"], ["x.json", "--bucket"]]
)
def test_usage_errors_are_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing to look at, a duration that is none and an unknown choice are exit code 2."""
    assert main(["doctor", *words]) == 2
    assert "doctor" in capsys.readouterr().err


def test_rules_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """``--rules`` prints every rule with its reason, for people and for machines."""
    assert main(["doctor", "--rules"]) == 0
    out = capsys.readouterr().out
    assert all(f"{rule.id} {rule.severity}: {rule.title}\n  Why: {rule.why}\n" in out for rule in RULES.values())
    assert main(["doctor", "--rules", "--json"]) == 0
    assert [rule["id"] for rule in json.loads(capsys.readouterr().out)["rules"]] == list(RULES)


def test_files_are_checked_without_boto3(tmp_path: Path) -> None:
    """A file is checked where boto3 is not even imported."""
    [file] = _written(tmp_path, machine=machine())
    code = f"import sys; from stepout.cli import main; print(main(['doctor', {file!r}]), sorted(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "'boto3'" not in run.stdout
    assert "'stepout.doctor'" in run.stdout


# The local AWS ------------------------------------------------------------------------------------------------------


@pytest.fixture
def account(local_aws: LocalAws, monkeypatch: pytest.MonkeyPatch) -> LocalAws:
    """A local AWS that boto3 finds in the environment."""
    for name, value in local_aws.environ.items():
        monkeypatch.setenv(name, value)
    return local_aws


def test_a_state_machine_and_its_task_definition_are_asked_for(
    account: LocalAws, capsys: pytest.CaptureFixture[str]
) -> None:
    """Live, the doctor sees what the services answer: type, definition, containers."""
    family = unique("doctor")
    registered = account.client("ecs").register_task_definition(
        **{**task(), "family": family, "cpu": "256", "memory": "512"}
    )
    definition = machine()["definition"]
    job = definition["States"]["Job"]
    job["Parameters"]["TaskDefinition"] = family
    job["Parameters"]["Overrides"]["ContainerOverrides"][0]["Name"] = "worker"
    del job["HeartbeatSeconds"]
    made = account.client("stepfunctions").create_state_machine(
        name=unique("doctor"), definition=json.dumps(definition), roleArn=ROLE
    )
    arns = ["--state-machine", made["stateMachineArn"], "--task-definition", family]
    assert main(["doctor", *arns, "--json"]) == 1
    found = _json(capsys)
    assert [each["kind"] for each in found["checked"]] == ["state machine", "task definition"]
    assert {each["rule"] for each in found["findings"] if each["severity"] == "error"} == {"SO101", "SO304"}
    by_arn = registered["taskDefinition"]["taskDefinitionArn"]
    assert main(["doctor", "--task-definition", by_arn, "--json"]) == 0


def test_a_bucket_is_asked_for(account: LocalAws, capsys: pytest.CaptureFixture[str]) -> None:
    """A bucket as it is born has findings; one with a lifecycle rule, versions and blocks has none but encryption's."""
    name, client = unique("doctor"), account.client("s3")
    client.create_bucket(Bucket=name)
    assert main(["doctor", "--bucket", name, "--json"]) == 1
    assert {"SO501", "SO504", "SO505"} <= {each["rule"] for each in _json(capsys)["findings"]}
    rule = {**bucket()["GetBucketLifecycleConfiguration"]["Rules"][0]}
    client.put_bucket_lifecycle_configuration(Bucket=name, LifecycleConfiguration={"Rules": [rule]})
    client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    client.put_public_access_block(Bucket=name, **bucket()["GetPublicAccessBlock"])
    assert main(["doctor", "--bucket", name, "--prefix", "runs", "--longest-job", "2d", "--json"]) == 0
    assert _json(capsys)["findings"] == []
    assert main(["doctor", "--bucket", name, "--prefix", "runs", "--longest-job", "9d", "--json"]) == 1
    assert [each["rule"] for each in _json(capsys)["findings"]] == ["SO502"]


def test_what_does_not_exist_is_an_error(account: LocalAws, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong name is SO900, whatever is asked for, and the rest is still looked at."""
    arn = "arn:aws:states:us-east-1:000000000000:stateMachine:nowhere"
    gone = ["--state-machine", arn, "--task-definition", "nowhere:1", "--bucket", unique("nowhere")]
    gone += ["--vpc", "vpc-00000000000000000"]
    assert main(["doctor", *gone, json.dumps({"Rules": []}), "--json"]) == 1
    found = _json(capsys)
    assert [each["rule"] for each in found["findings"]] == ["SO900", "SO900", "SO900", "SO900", "SO501"]
    assert [each["kind"] for each in found["checked"]] == ["bucket"]
    assert account.alive


def test_without_a_region_nothing_is_asked(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Where boto3 knows no region, that is a usage error that says so."""
    for name in ("AWS_DEFAULT_REGION", "AWS_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    assert main(["doctor", "--task-definition", "job"]) == 2
    said = capsys.readouterr().err
    assert "You must specify a region. Nothing was looked at" in said
    assert "Set AWS_DEFAULT_REGION" in said


def test_without_credentials_the_remedy_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where boto3 finds no credentials, the finding says what is missing, and begins the output."""
    monkeypatch.setattr("boto3.DEFAULT_SESSION", None)  # it keeps credentials that another test had
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    assert main(["doctor", "--bucket", "results-bucket"]) == 1
    said = capsys.readouterr().out
    assert said.startswith("error SO900  s3://results-bucket")
    assert "Unable to locate credentials" in said
    assert "Check the name, the credentials" in said


def test_subnets_are_asked_for(account: LocalAws, capsys: pytest.CaptureFixture[str]) -> None:
    """A private subnet has no way to Step Functions until there are endpoints."""
    ec2 = account.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.77.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.77.1.0/24")["Subnet"]["SubnetId"]
    assert main(["doctor", "--subnets", subnet, "--json"]) == 1
    assert {"SO601", "SO602"} <= {each["rule"] for each in _json(capsys)["findings"]}
    for service in ("states", "s3", "ecr.api", "ecr.dkr", "logs"):
        ec2.create_vpc_endpoint(
            VpcId=vpc,
            ServiceName=f"com.amazonaws.us-east-1.{service}",
            VpcEndpointType="Interface",
            SubnetIds=[subnet],
            PrivateDnsEnabled=True,
        )
    main(["doctor", "--vpc", vpc, "--json"])
    assert not {"SO601", "SO602", "SO604", "SO605"} & {each["rule"] for each in _json(capsys)["findings"]}


# A server that refuses ----------------------------------------------------------------------------------------------


class _Refusing(BaseHTTPRequestHandler):
    """Answers every request with the service's way of saying that it is forbidden."""

    def _refuse(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("X-Amz-Target"):
            status, body = 400, json.dumps({"__type": "AccessDeniedException", "message": "no"})
        elif self.command == "POST":
            inner = "<Errors><Error><Code>UnauthorizedOperation</Code><Message>no</Message></Error></Errors>"
            status, body = 403, f"<Response>{inner}<RequestID>1</RequestID></Response>"
        else:
            status, body = 403, "<Error><Code>AccessDenied</Code><Message>no</Message></Error>"
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    do_GET = do_POST = _refuse  # noqa: N815 - the names that http.server calls

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def refusing() -> Iterator[str]:
    """The endpoint of a server that forbids everything."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Refusing) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def _client(service: str, endpoint: str, **more: Any) -> Any:
    made: Any = boto3
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    return made.client(service, endpoint_url=endpoint, region_name="eu-west-1", **keys, **more)


def test_a_missing_permission_is_a_note(refusing: str) -> None:
    """What may not be looked at is said, with the permission that is missing, and nothing fails."""
    seen, missing = look_bucket(_client("s3", refusing), "results-bucket")
    assert seen == []
    assert {(each.rule, each.severity) for each in missing} == {("SO901", "note")}
    assert len(missing) == 5
    looks = [
        look_state_machine(_client("stepfunctions", refusing), "arn:aws:states:eu-west-1:123456789012:stateMachine:a"),
        look_network(_client("ec2", refusing), subnets=["subnet-1"]),
    ]
    assert [[(each.rule, each.what.split()[0]) for each in found] for _, found in looks] == [
        [("SO901", "states:DescribeStateMachine")],
        [("SO901", "ec2:DescribeSubnets")],
    ]


def test_refused_looks_do_not_fail_the_command(
    refusing: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Notes of what could not be looked at leave the exit code to what was."""
    for name, value in {"AWS_ENDPOINT_URL": refusing, "AWS_DEFAULT_REGION": "eu-west-1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    assert main(["doctor", "--bucket", "results-bucket", *_written(tmp_path, network=network())]) == 0
    assert capsys.readouterr().out.endswith("5 notes\n")


def test_an_unreachable_service_is_an_error() -> None:
    """Where nobody answers, that is SO900, not a traceback."""
    client = _client("stepfunctions", "http://127.0.0.1:1", config=Config(retries={"total_max_attempts": 1}))
    seen, [finding] = look_state_machine(client, "arn:aws:states:eu-west-1:123456789012:stateMachine:a")
    assert (seen, finding.rule) == ([], "SO900")
    assert "EndpointConnectionError" in finding.what


@pytest.mark.parametrize("body", [{"Resource": {"Fn::GetAtt": ["Job", "Arn"]}}, {"Parameters": "${JobParameters}"}])
def test_what_a_deployment_fills_in_is_understood(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], body: dict[str, Any]
) -> None:
    """A placeholder stands for what comes in its place, whatever its own type is."""
    state = {"Type": "Task", "Resource": "arn:aws:states:::sns:publish", "End": True, **body}
    files = _written(tmp_path, machine={"StartAt": "A", "States": {"A": state}})
    main(["doctor", *files, "--json"])
    assert "SO900" not in [each["rule"] for each in _json(capsys)["findings"]]
