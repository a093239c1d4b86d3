"""What a local Lambda function can import: its zip, its layers, and what AWS's runtime brings."""

from __future__ import annotations

import io
import json
import sys
import time
import zipfile
from typing import TYPE_CHECKING, Any

import pytest
from support.ministack import ROLE, start_execution, unique, wait_execution, wait_until

from stepout.local import LocalAws, lambda_zip
from stepout.local.function_log import FunctionLog
from stepout.local.lambda_runtime import link_distributions
from stepout.local.token_rules import TaskTokens
from stepout.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

HANDLER = """
import importlib.util, subprocess, sys

def found(names):
    return {name: importlib.util.find_spec(name) is not None for name in names}

def handler(event, context):
    code = "import pyarrow"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True).returncode
    if event.get("buckets"):
        import boto3
        return [bucket["Name"] for bucket in boto3.client("s3").list_buckets()["Buckets"]]
    return {"found": found(event["names"]), "child": child}
"""
NAMES = ["boto3", "botocore", "dateutil", "jmespath", "s3transfer", "urllib3"]
FOREIGN = ["pyarrow", "numpy", "PIL", "ministack", "pytest", "stepout", "pip"]


def create(aws: LocalAws, name: str, code: bytes, *layers: str, handler: str = HANDLER) -> Any:
    """Create a function of the handler, and return a client once it can be called."""
    buffer = io.BytesIO(code)
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr("job.py", handler)
    client = aws.client("lambda")
    client.create_function(
        FunctionName=name,
        Runtime=f"python{sys.version_info.major}.{sys.version_info.minor}",
        Role=ROLE,
        Handler="job.handler",
        Code={"ZipFile": buffer.getvalue()},
        Layers=list(layers),
        Timeout=60,
    )
    wait_until(lambda: client.get_function(FunctionName=name)["Configuration"]["State"] == "Active", what=name)
    return client


def invoke(aws: LocalAws, event: dict[str, Any], *, code: bytes = b"", layers: tuple[str, ...] = ()) -> Any:
    """Create a function of the handler, call it once, and return what it said."""
    name = unique("imports")
    client = create(aws, name, code, *layers)
    answer = client.invoke(FunctionName=name, Payload=json.dumps(event).encode())
    said = json.loads(answer["Payload"].read())
    assert "FunctionError" not in answer, said
    return said


def test_function_sees_what_a_runtime_brings_and_no_more(local_aws: LocalAws) -> None:
    """Neither the project's environment nor stepout is there, in the function and in what it starts; boto3 works."""
    said = invoke(local_aws, {"names": NAMES + FOREIGN})
    assert said == {"found": {name: name in NAMES for name in NAMES + FOREIGN}, "child": 1}
    local_aws.client("s3").create_bucket(Bucket=(bucket := unique("seen")))
    assert bucket in invoke(local_aws, {"buckets": True})


def test_function_sees_its_zip_and_its_layer(local_aws: LocalAws) -> None:
    """What was zipped is there, and of a layer what was asked for, not what is installed beside it."""
    layer = local_aws.publish_layer("tables", "pyarrow")
    said = invoke(local_aws, {"names": ["stepout", "pyarrow", "PIL"]}, code=lambda_zip(), layers=(layer,))
    assert said["found"] == {"stepout": True, "pyarrow": True, "PIL": False}


def test_function_that_raises_fails_the_state_that_gave_it_a_token(local_aws: LocalAws) -> None:
    """The state does not wait for a clock."""
    name = unique("raises")
    create(local_aws, name, b"")
    state = {
        "Type": "Task",
        "Resource": "arn:aws:states:::lambda:invoke.waitForTaskToken",
        "Parameters": {"FunctionName": name, "Payload": {"token.$": "$$.Task.Token"}},
        "TimeoutSeconds": 3_600,
        "End": True,
    }
    ended = wait_execution(local_aws, start_execution(local_aws, {"Work": state}, start_at="Work"))
    assert (ended["status"], ended["error"]) == ("FAILED", "Runtime.HandlerError")


def test_function_that_raises_in_a_child_leaves_the_parents_token_alone(local_aws: LocalAws) -> None:
    """The token of a state that started another execution is for that execution to use, however its states end."""
    name, states = unique("raises"), local_aws.client("stepfunctions")
    create(local_aws, name, b"")
    call = {"Type": "Task", "Resource": "arn:aws:states:::lambda:invoke", "End": True}
    definition = {"StartAt": "Call", "States": {"Call": {**call, "Parameters": {"FunctionName": name, "Payload": {}}}}}
    child = states.create_state_machine(name=name, definition=json.dumps(definition), roleArn=ROLE)["stateMachineArn"]
    parent = {
        "Type": "Task",
        "Resource": "arn:aws:states:::states:startExecution.waitForTaskToken",
        "Parameters": {"StateMachineArn": child, "Input": {"token.$": "$$.Task.Token"}},
        "End": True,
    }
    execution = start_execution(local_aws, {"Start": parent}, start_at="Start")
    (started,) = wait_until(lambda: states.list_executions(stateMachineArn=child)["executions"], what="the child")
    ended = wait_execution(local_aws, started["executionArn"])
    assert ended["error"] == "Runtime.HandlerError"
    states.send_task_success(taskToken=json.loads(ended["input"])["token"], output="3")
    assert wait_execution(local_aws, execution)["output"] == "3"


def test_what_a_function_prints_and_raises_is_told(local_aws: LocalAws, caplog: pytest.LogCaptureFixture) -> None:
    """As the lines of a container are; a task token is not shown, and a failed import is."""
    caplog.set_level("INFO", logger="stepout.local")
    name, token = unique("tells"), TaskTokens().issue()
    handler = "def handler(event, context):\n    print('got', event['token'])\n    return event['order']\n"
    client = create(local_aws, name, b"", handler=handler)
    failed = client.invoke(FunctionName=name, Payload=json.dumps({"token": token}).encode())
    assert failed["FunctionError"]
    wait_until(lambda: f"[function {name}] KeyError: 'order'" in caplog.messages, what="the traceback")
    assert f"[function {name}] got [task token]" in caplog.messages
    assert f"[function {name}]     return event['order']" in caplog.messages
    broken = unique("broken")
    create(local_aws, broken, b"", handler="import nothing_like_it").invoke(FunctionName=broken)
    said = f"[function {broken}] Worker init failed: No module named 'nothing_like_it'"
    wait_until(lambda: said in caplog.messages, what="the failed import")


def test_a_line_that_cannot_be_shown_keeps_none_back(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A callback that fails is its owner's fault; lines come whole, however they were written."""
    seen: list[str] = []

    def on_line(who: str, line: str) -> None:
        seen.append(f"{who}: {line}")
        raise ValueError

    log = FunctionLog(tmp_path / "log", on_line)
    log.close()  # before its start: nothing happens
    log = FunctionLog(tmp_path / "log", on_line)
    log.start()
    with (tmp_path / "log").open("w", encoding="utf-8") as file:
        for piece in ('["f", "one"]\n["f", "t', 'wo"]\n'):
            file.write(piece)
            file.flush()
            time.sleep(0.4)
    log.close()
    assert seen == ["function f: one", "function f: two"]
    assert "on_output failed" in caplog.text


def test_paths_of_the_caller_do_not_lead_a_function_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PYTHONPATH of the process that started the local AWS is not a function's."""
    (tmp_path / "from_outside.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with LocalAws(stop_grace=0) as aws:
        assert invoke(aws, {"names": ["from_outside", "boto3"]})["found"] == {"from_outside": False, "boto3": True}


def test_layer_of_what_is_not_installed_is_refused(tmp_path: Path) -> None:
    """The error names the distribution."""
    with pytest.raises(ConfigurationError, match=r"pil is the name of a module; .* its package, as pip has it: pillow"):
        link_distributions(tmp_path, "PIL")
    with pytest.raises(ConfigurationError, match="no-such-distribution is not installed here"):
        link_distributions(tmp_path, "No_Such.Distribution")


def test_linked_distributions_bring_what_they_require(tmp_path: Path) -> None:
    """The dependencies come along, extras do not."""
    link_distributions(tmp_path / "site", "boto3")
    assert {path.name for path in (tmp_path / "site").iterdir()} >= {"boto3", "botocore", "six.py", "urllib3"}
    assert not (tmp_path / "site" / "awscrt").exists()
