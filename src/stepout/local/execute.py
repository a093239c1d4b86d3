"""A state machine is executed on a local AWS: what it names is taken from one folder, then it runs once to its end.

A task definition ``measure`` is the program ``measure.py`` in the folder, a function ``tell`` is ``tell.py`` with its
``handler``. So nothing has to be deployed by hand to try a state machine that ``stepout asl`` has printed.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import sys
import time
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from stepout.local.lambda_runtime import lambda_zip
from stepout.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_ROLE = "arn:aws:iam::000000000000:role/execute"
_NAME = re.compile(r"[A-Za-z0-9_-]{1,80}")
_FUNCTION_SECONDS = 60
_POLL_SECONDS = 0.2
_ENDED_WITHIN_SECONDS = 5.0
_HOSTS = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, kw_only=True)
class EndedExecution:
    """How an execution ended.

    Attributes:
        status: ``"SUCCEEDED"``, ``"FAILED"``, ``"TIMED_OUT"`` or ``"ABORTED"``.
        output: JSON; ``None`` where it did not succeed.
        error: The error's name, if it failed.
        cause: The error's cause, if it failed.
    """

    status: str
    output: Any = None
    error: str = ""
    cause: str = ""


def execute(machine: Path, document: str, *, say: Callable[[str], object]) -> EndedExecution:
    """Deploy a state machine with the programs beside it to the local AWS of this environment, and run it once.

    Args:
        machine: The file of its definition. Programs are looked for in its folder.
        document: The execution's input, JSON.
        say: Called with a line for each state that is entered and each failure.

    Returns:
        How the execution ended.

    Raises:
        ConfigurationError: The environment names no local AWS, the definition is no JSON, or a program is missing.
        OSError: The definition cannot be read.
    """
    client = _local_clients()
    text = machine.read_text(encoding="utf-8")
    try:
        definition = json.loads(text)
    except ValueError as error:
        raise ConfigurationError(f"{machine} is no state machine: {error}") from None
    found = list(_objects(definition))
    places = _places(found)
    programs = {kind: _programs(found, machine.parent, kind) for kind in ("TaskDefinition", "FunctionName")}
    _create_buckets(client("s3"), places)
    for name, program in programs["TaskDefinition"].items():
        _register_task(client("ecs"), name, program, found)
    for name, program in programs["FunctionName"].items():
        _create_function(client("lambda"), name, program, places)
    states, tasks = client("stepfunctions"), client("ecs")
    before = _running(tasks)
    execution = states.start_execution(
        stateMachineArn=_create_machine(states, machine.name.partition(".")[0], text), input=document
    )["executionArn"]
    try:
        ended = _follow(states, execution, say)
    except BaseException:
        with contextlib.suppress(Exception):
            states.stop_execution(executionArn=execution)
        raise
    deadline = time.monotonic() + _ENDED_WITHIN_SECONDS
    while _running(tasks) - before and time.monotonic() < deadline:  # a container ends after it has reported
        time.sleep(_POLL_SECONDS)
    return ended


def _running(client: Any) -> set[str]:
    clusters = client.list_clusters()["clusterArns"]
    return {task for each in clusters for task in client.list_tasks(cluster=each, desiredStatus="RUNNING")["taskArns"]}


def _local_clients() -> Callable[[str], Any]:
    """Return what makes a client; whatever may be a real account is refused: only this machine is used."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL", "")
    if urlsplit(endpoint).hostname not in _HOSTS:
        raise ConfigurationError(
            "there is no local AWS in this terminal (AWS_ENDPOINT_URL names none): start one with "
            "'stepout local -- $SHELL', and try again in the shell that it opens"
        )
    import boto3

    # Said to each client, so that no AWS_ENDPOINT_URL_… of one service leads elsewhere.
    session: Any = boto3.session.Session()
    return lambda service: session.client(service, endpoint_url=endpoint)


def _objects(value: object) -> Iterator[dict[str, Any]]:
    """Yield every object of a JSON value, the outer ones first."""
    if isinstance(value, dict):
        yield value
    for member in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _objects(member)


def _variables(container: dict[str, Any]) -> dict[str, str]:
    """The variables of a container's overrides whose values are said as they are."""
    pairs = container.get("Environment")
    named = [pair for pair in pairs if isinstance(pair, dict)] if isinstance(pairs, list) else []
    return {str(pair.get("Name")): pair["Value"] for pair in named if isinstance(pair.get("Value"), str)}


def _places(found: list[dict[str, Any]]) -> dict[str, str]:
    """Where containers write: a URL that ends in "/", and its bucket."""
    places = {}
    for variables in map(_variables, found):
        if bucket := variables.get("STEPOUT_BUCKET"):
            prefix = variables.get("STEPOUT_PREFIX", "").strip("/")
            places[f"s3://{bucket}/{prefix}/" if prefix else f"s3://{bucket}/"] = bucket
    return places


def _programs(found: list[dict[str, Any]], folder: Path, kind: str) -> dict[str, Path]:
    """The program of each task definition, or function, that a state names."""
    programs = {}
    for name in sorted({each[kind] for each in found if isinstance(each.get(kind), str)}):
        program = folder / f"{name}.py"
        if not _NAME.fullmatch(name) or not program.is_file():
            what = "task definition" if kind == "TaskDefinition" else "function"
            raise ConfigurationError(f"the state machine names the {what} {name!r}: there is no program {program}")
        programs[name] = program
    return programs


def _create_buckets(client: Any, places: dict[str, str]) -> None:
    there = {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}
    for bucket in sorted(set(places.values()) - there):
        client.create_bucket(Bucket=bucket)


def _register_task(client: Any, name: str, program: Path, found: list[dict[str, Any]]) -> None:
    """Register a task definition with the containers that its states give variables to."""
    overrides = [each.get("Overrides") for each in found if each.get("TaskDefinition") == name]
    names = {str(each["Name"]) for each in _objects(overrides) if "Name" in each and "Environment" in each}
    command = [sys.executable, str(program.resolve())]
    containers = [{"name": each, "image": "none", "command": command} for each in sorted(names) or ["job"]]
    client.register_task_definition(family=name, containerDefinitions=containers)


def _create_function(client: Any, name: str, program: Path, places: dict[str, str]) -> None:
    """Create a function of its program and stepout, which may read where the containers write."""
    code = io.BytesIO(lambda_zip())
    with zipfile.ZipFile(code, "a") as archive:
        archive.write(program, program.name)
    with contextlib.suppress(client.exceptions.ResourceNotFoundException):
        client.delete_function(FunctionName=name)
    client.create_function(
        FunctionName=name,
        Runtime=f"python{sys.version_info.major}.{sys.version_info.minor}",
        Role=_ROLE,
        Handler=f"{name}.handler",
        Code={"ZipFile": code.getvalue()},
        Layers=[each["LatestMatchingVersion"]["LayerVersionArn"] for each in client.list_layers()["Layers"]],
        Timeout=_FUNCTION_SECONDS,
        Environment={"Variables": {"STEPOUT_ALLOW": " ".join(sorted(places)), "STEPOUT_S3_PROFILE": "compatible"}},
    )
    client.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1})


def _create_machine(client: Any, name: str, definition: str) -> str:
    """Create the state machine, or replace what an earlier call has left under its name."""
    for machine in client.list_state_machines()["stateMachines"]:
        if machine["name"] == name:
            client.update_state_machine(stateMachineArn=machine["stateMachineArn"], definition=definition)
            return str(machine["stateMachineArn"])
    return str(client.create_state_machine(name=name, roleArn=_ROLE, definition=definition)["stateMachineArn"])


def _follow(client: Any, execution: str, say: Callable[[str], object]) -> EndedExecution:
    """Tell of each state and of each failure, to the execution's end."""
    told = 0
    history = client.get_paginator("get_execution_history")
    while True:
        ended = client.describe_execution(executionArn=execution)
        events = [event for page in history.paginate(executionArn=execution) for event in page["events"]]
        for line in filter(None, map(_line, events[told:])):
            say(line)
        told = len(events)
        if ended["status"] != "RUNNING":
            output = json.loads(ended["output"]) if ended["status"] == "SUCCEEDED" else None
            error, cause = str(ended.get("error") or ""), message(str(ended.get("cause") or ""))
            return EndedExecution(status=ended["status"], output=output, error=error, cause=cause)
        time.sleep(_POLL_SECONDS)


def _line(event: dict[str, Any]) -> str | None:
    if entered := event.get("stateEnteredEventDetails"):
        return f"state {entered['name']}"
    if "Execution" not in event["type"] and event["type"].endswith(("Failed", "TimedOut")):
        details: dict[str, Any] = next((value for name, value in event.items() if name.endswith("EventDetails")), {})
        return f"  failed: {details.get('error', event['type'])}: {message(details.get('cause') or '')}".rstrip(": ")
    return None


def message(cause: str) -> str:
    """Return what a cause says to people: its ``message``, where it is an object that has one.

    Examples:
        >>> message('{"message": "no such station", "retryable": false}'), message("it stopped")
        ('no such station', 'it stopped')
    """
    with contextlib.suppress(ValueError):
        value = json.loads(cause)
        for name in ("message", "errorMessage"):
            if isinstance(value, dict) and isinstance(value.get(name), str):
                return str(value[name])
    return cause
