"""Generated states run on the local AWS: real processes answer them; what it cannot run, its engine evaluates."""

from __future__ import annotations

import io
import itertools
import json
import os
import subprocess
import sys
import zipfile
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from support.ministack import (
    ROLE,
    register_job,
    start_execution,
    unique,
    wait_execution,
    wait_until,
)

import stepout
from stepout.asl.chain import chain
from stepout.asl.services import KINDS, OVERRIDES_LIMIT, overrides_size
from stepout.asl.states import machine_of, state_machine, task_state
from stepout.asl.variables import StateOptions
from stepout.local import lambda_zip
from stepout.local.aws import clean_environment

if TYPE_CHECKING:
    from stepout.local import LocalAws

LANGUAGES = ("jsonpath", "jsonata")
CATCH = ((("BadFrame",), "Retake"), (("States.ALL",), "Failed"))
INPUT = {"n": 3, "text": 'é "quoted"'}

JOB = """
import stepout

class BadFrame(Exception):
    pass

def work(task):
    asked = task.input.get("fail")
    if asked == "badly":
        raise BadFrame("a bad frame")
    if asked == "for good":
        raise stepout.PermanentError("never")
    if asked == "once" and task.run.attempt == 0:
        raise stepout.RetryableError("later")
    task.result["input"] = task.input
"""
CONTAINER = JOB + "with stepout.open_task() as task:\n    work(task)\n"
QUEUE_WORKER = (
    JOB
    + """
import os, sys
import boto3
from stepout.callbacks.worker.job import read_job

sqs = boto3.client("sqs")
message = sqs.receive_message(QueueUrl=sys.argv[1], WaitTimeSeconds=20)["Messages"][0]
with stepout.open_task(environ=read_job(message["Body"]).environment(os.environ)) as task:
    work(task)
"""
)
ACTIVITY_WORKER = (
    JOB
    + """
import os, sys
import boto3
from stepout.callbacks.worker.job import read_job

taken = {}
while not taken.get("taskToken"):
    taken = boto3.client("stepfunctions").get_activity_task(activityArn=sys.argv[1])
with stepout.open_task(environ=read_job(taken["input"], taken["taskToken"]).environment(os.environ)) as task:
    work(task)
"""
)
FUNCTION = (
    JOB
    + """
import os

def waiting(event, context):
    with stepout.open_task(environ={**os.environ, **event}) as task:
        work(task)

def answering(event, context):
    if event.get("fail"):
        raise BadFrame("a bad frame")
    return {"result": {"input": event}}
"""
)


def machine(kind: str, language: Any, **more: Any) -> dict[str, Any]:
    """Return a generated machine; what catches ``BadFrame`` succeeds, so that its input shows."""
    chosen = {"catch": CATCH, "retry_interval": 1, "timeout": 100, "heartbeat": 60, **more}
    if KINDS[kind].reports != "token":
        del chosen["heartbeat"]
    definition = state_machine(kind, StateOptions(language=language, **chosen))
    definition["States"]["Retake"] = {"Type": "Succeed"}
    return definition


def start(aws: LocalAws, definition: dict[str, Any], document: object) -> str:
    """Start a definition, its query language in each state, as ``start_execution`` takes states alone."""
    language = {"QueryLanguage": definition["QueryLanguage"]} if "QueryLanguage" in definition else {}
    states = {name: {**state, **language} for name, state in definition["States"].items()}
    return start_execution(aws, states, start_at=definition["StartAt"], document=document)


def run(aws: LocalAws, definition: dict[str, Any], document: object) -> tuple[str, dict[str, Any]]:
    """Start a definition and wait for its end."""
    execution = start(aws, definition, document)
    return execution, wait_execution(aws, execution)


def check_success(execution: str, ended: dict[str, Any]) -> None:
    """The output is the task's document, with the run that the state named."""
    assert ended["status"] == "SUCCEEDED", (ended.get("error"), ended.get("cause"))
    output = json.loads(ended["output"])
    assert output["result"] == {"input": INPUT}
    if "producer" in output:
        said = {name: output["producer"][name] for name in ("execution", "state", "attempt", "redrive")}
        assert said == {"execution": execution, "state": "Work", "attempt": 0, "redrive": 0}


def check_caught(ended: dict[str, Any], name: str = "BadFrame") -> None:
    """The failure was caught by its name, beside the state's input."""
    assert ended["status"] == "SUCCEEDED", (ended.get("error"), ended.get("cause"))
    output = json.loads(ended["output"])
    assert output["error"]["Error"] == name
    assert output["fail"] == "badly"


@pytest.mark.parametrize("language", LANGUAGES)
def test_ecs_state_runs_a_container(local_aws: LocalAws, language: str) -> None:
    """A container gets all it needs from the state, and its real overrides are no longer than estimated."""
    settings = {
        "cluster": "default",
        "task_definition": register_job(local_aws, {"command": ["python", "-c", CONTAINER]}),
    }
    definition = machine("ecs", language, settings=settings)
    failing = start(local_aws, definition, {"fail": "badly"})
    execution, ended = run(local_aws, definition, INPUT)
    check_success(execution, ended)
    check_caught(wait_execution(local_aws, failing))
    estimate = overrides_size("ecs", StateOptions(input_size=len(json.dumps(INPUT)), settings=settings))
    arns = [task.arn for task in local_aws.tasks if f"/{settings['task_definition']}:" in task.definition]
    described = local_aws.client("ecs").describe_tasks(cluster="default", tasks=arns)["tasks"]
    sizes = [len(json.dumps(task["overrides"], ensure_ascii=False)) for task in described]
    assert estimate is not None
    assert sizes
    assert 0 < max(sizes) <= estimate


def test_what_may_pass_is_tried_again_and_the_rest_is_not(local_aws: LocalAws) -> None:
    """A retryable failure is tried again with the next attempt's number; a permanent one runs once."""
    family = register_job(local_aws, {"command": ["python", "-c", CONTAINER]})
    definition = machine("ecs", "jsonpath", settings={"cluster": "default", "task_definition": family})
    lasting = start(local_aws, definition, {"fail": "for good"})
    _, ended = run(local_aws, definition, {"fail": "once"})
    assert json.loads(ended["output"])["producer"]["attempt"] == 1
    failed = wait_execution(local_aws, lasting)
    assert (failed["status"], failed["error"]) == ("FAILED", "Stepout.Permanent")
    assert len([task for task in local_aws.tasks if f"/{family}:" in task.definition]) == 3


FIRST = """
import stepout
with stepout.open_task() as task:
    for number in range(task.input["artifacts"]):
        task.artifacts.put_json(f"part_{number}", number)
    task.result["text"] = '"' * task.input["quotes"]
"""
SECOND = """
import stepout
with stepout.open_task() as task:
    every = stepout.resolve_all(task.input)
    first = every.get("$.first") or every["$"]
    task.result["sum"] = sum(artifact.read_json() for artifact in first.values())
    task.result["quotes"] = len(first.result["text"])
"""


@pytest.mark.parametrize(("language", "place"), [("jsonpath", "$"), ("jsonata", "$.first")])
def test_a_chain_passes_outputs_of_any_size(local_aws: LocalAws, language: Any, place: str) -> None:
    """An output that would not fit into the overrides reaches the next container as pointers, and whole.

    It may take the input's place, or stand beside it.
    """
    bucket = unique("chain")
    local_aws.client("s3").create_bucket(Bucket=bucket)
    document = {"artifacts": 12, "quotes": 20_000}
    common: dict[str, Any] = {"language": language, "bucket": bucket, "prefix": "runs", "catch": ()}
    common |= {"input_size": len(json.dumps(document)), "timeout": 100, "heartbeat": 60}
    tasks = []
    for name, script in (("First", FIRST), ("Second", SECOND)):
        family = register_job(local_aws, {"command": ["python", "-c", script]})
        settings = {"cluster": "default", "task_definition": family}
        where = place if name == "First" else "$"
        tasks.append(("ecs", StateOptions(name=name, settings=settings, result_path=where, **common)))
        common["input_size"] = None
    _, ended = run(local_aws, machine_of(chain(tasks)), document)
    assert ended["status"] == "SUCCEEDED", (ended.get("error"), ended.get("cause"))
    assert json.loads(ended["output"])["result"] == {"sum": sum(range(12)), "quotes": 20_000}
    arns = [task.arn for task in local_aws.tasks if f"/{family}:" in task.definition]
    described = local_aws.client("ecs").describe_tasks(cluster="default", tasks=arns)["tasks"]
    assert [len(json.dumps(task["overrides"])) <= OVERRIDES_LIMIT for task in described] == [True]


@pytest.mark.parametrize(("language", "url"), [("jsonpath", "$.url"), ("jsonpath", None), ("jsonata", None)])
def test_ecs_sync_state_says_where_the_output_is(local_aws: LocalAws, language: str, url: str | None) -> None:
    """In pull mode the next state gets the URL at which the container has written its output."""
    bucket = unique("pull")
    s3 = local_aws.client("s3")
    s3.create_bucket(Bucket=bucket)
    family = register_job(local_aws, {"command": ["python", "-c", CONTAINER]})
    more = {"bucket": bucket, "prefix": "runs", "url": url, "input": "$.asked"}
    definition = machine("ecs-sync", language, settings={"cluster": "default", "task_definition": family}, **more)
    document = {"asked": INPUT, "url": f"s3://{bucket}/runs/outputs/one.json"}
    execution, ended = run(local_aws, definition, document)
    assert ended["status"] == "SUCCEEDED", (ended.get("error"), ended.get("cause"))
    given = json.loads(ended["output"])
    output = stepout.resolve_output(given["url" if url else "output"], allow=[f"s3://{bucket}/runs/"], client=s3)
    assert output.result == {"input": INPUT}
    assert output.producer is not None
    assert output.producer.execution == execution


def worker(aws: LocalAws, script: str, place: str) -> subprocess.Popen[bytes]:
    """Start a process that takes one task."""
    environ = {**clean_environment(os.environ), **aws.environ}
    return subprocess.Popen([sys.executable, "-c", script, place], env=environ, stderr=subprocess.DEVNULL)


def answered(aws: LocalAws, definition: dict[str, Any], script: str, place: str) -> None:
    """Run a success and a failure at once, answered by two processes; either may take either."""
    processes = [worker(aws, script, place) for _ in range(2)]
    failing = start(aws, definition, {"fail": "badly"})
    check_success(*run(aws, definition, INPUT))
    check_caught(wait_execution(aws, failing))
    assert sorted(process.wait(timeout=300) for process in processes) == [0, 1]


@pytest.mark.parametrize("language", LANGUAGES)
def test_sqs_state_is_answered_by_whoever_takes_the_message(local_aws: LocalAws, language: str) -> None:
    """A process that reads the message with the worker's parser can report."""
    queue = local_aws.client("sqs").create_queue(QueueName=unique("jobs"))["QueueUrl"]
    answered(local_aws, machine("sqs", language, settings={"queue_url": queue}), QUEUE_WORKER, queue)


@pytest.mark.parametrize("language", LANGUAGES)
def test_activity_state_is_answered_by_whoever_takes_the_task(local_aws: LocalAws, language: str) -> None:
    """A process that polls the activity can report; its token comes with the task."""
    arn = local_aws.client("stepfunctions").create_activity(name=unique("activity"))["activityArn"]
    answered(local_aws, machine("activity", language, settings={"activity": arn}), ACTIVITY_WORKER, arn)


def _active(client: Any, name: str) -> bool:
    return bool(client.get_function(FunctionName=name)["Configuration"]["State"] == "Active")


@pytest.fixture(scope="module")
def functions(local_aws: LocalAws) -> dict[str, str]:
    """Two Lambda functions: one that reports with its token, one that answers."""
    buffer = io.BytesIO(lambda_zip())
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr("job.py", FUNCTION)
    client, found = local_aws.client("lambda"), {}
    layer = local_aws.publish_layer("writing", "jsonschema")
    for kind, handler in (("lambda", "waiting"), ("consumer", "answering")):
        found[kind] = name = unique(kind)
        client.create_function(
            FunctionName=name,
            Runtime=f"python{sys.version_info.major}.{sys.version_info.minor}",
            Role=ROLE,
            Handler=f"job.{handler}",
            Code={"ZipFile": buffer.getvalue()},
            Layers=[layer],
            Timeout=60,
        )
    for name in found.values():
        wait_until(partial(_active, client, name), what=name)
    return found


@pytest.mark.parametrize(("kind", "language"), list(itertools.product(("lambda", "consumer"), LANGUAGES)))
def test_lambda_states_call_a_function(
    local_aws: LocalAws, functions: dict[str, str], kind: str, language: str
) -> None:
    """A function reports with the token from its event, or answers by itself; its failure is caught by name.

    Lambda names an exception by its class; the stand-in calls every one of them Runtime.HandlerError.
    """
    raised = "BadFrame" if kind == "lambda" else "Runtime.HandlerError"
    catch = (((raised,), "Retake"), (("States.ALL",), "Failed"))
    definition = machine(kind, language, settings={"function": functions[kind]}, catch=catch)
    failing = start(local_aws, definition, {"fail": "badly"})
    check_success(*run(local_aws, definition, INPUT))
    check_caught(wait_execution(local_aws, failing), raised)


def as_pass(state: dict[str, Any], language: str) -> dict[str, Any]:
    """Return a Pass state that evaluates what a Task state would send, and what it would give on."""
    if language == "jsonata":
        evaluated = {"sent": state["Arguments"], "given": state["Output"]}
        return {"Type": "Pass", "QueryLanguage": "JSONata", "Output": evaluated, "End": True}
    evaluated = {"sent": state["Parameters"], "given": state["ResultSelector"]}
    return {"Type": "Pass", "Parameters": evaluated, "End": True}


@pytest.mark.parametrize(("kind", "language"), list(itertools.product(("ecs-sync", "eks", "batch", "glue"), LANGUAGES)))
def test_what_the_local_aws_cannot_run_is_evaluated_by_its_engine(
    local_aws: LocalAws, kind: str, language: Any
) -> None:
    """The machine is created as it is; its variables evaluate to text, and the task's URL is the one given on."""
    options = StateOptions(language=language, bucket="results-bucket", prefix="runs", name="Make")
    client = local_aws.client("stepfunctions")
    definition = json.dumps(state_machine(kind, options))
    created = client.create_state_machine(name=unique("created"), definition=definition, roleArn=ROLE)
    client.delete_state_machine(stateMachineArn=created["stateMachineArn"])

    state = task_state(kind, options)
    execution = start_execution(local_aws, {"Make": as_pass(state, language)}, start_at="Make", document=INPUT)
    ended = wait_execution(local_aws, execution)
    assert ended["status"] == "SUCCEEDED", (ended.get("error"), ended.get("cause"))
    evaluated = json.loads(ended["output"])
    found = dict(pairs(evaluated["sent"]))
    assert json.loads(found["STEPOUT_INPUT"]) == INPUT
    assert (found["STEPOUT_EXECUTION"], found["STEPOUT_STATE"]) == (execution, "Make")
    assert (found["STEPOUT_ATTEMPT"], found["STEPOUT_REDRIVE"]) == ("0", "0")
    assert all(isinstance(value, str) for value in found.values())
    assert found["STEPOUT_OUTPUT"] == evaluated["given"]["output"]
    assert found["STEPOUT_OUTPUT"].startswith("s3://results-bucket/runs/outputs/machine-")
    assert f"/{execution.rpartition(':')[2]}/Make/" in found["STEPOUT_OUTPUT"]
    if kind == "eks":
        assert len(evaluated["sent"]["Job"]["metadata"]["name"]) <= 63


def pairs(value: Any) -> list[tuple[str, Any]]:
    """Return every variable that a service's parameters hold."""
    found = []
    if isinstance(value, dict):
        lowered = {name.lower(): each for name, each in value.items()}
        if {"name", "value"} <= set(lowered):
            found.append((lowered["name"], lowered["value"]))
        found += [(name[2:], each) for name, each in value.items() if name.startswith("--STEPOUT_")]
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        found += pairs(each)
    return found
