"""What AWS refuses, the local AWS refuses under the same name: limits, clocks and tokens of real state machines."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError
from support.ministack import (
    ROLE,
    callback_state,
    register_job,
    run_task,
    start_execution,
    unique,
    wait_execution,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from stepout.local import LocalAws

CAUGHT = {"Type": "Pass", "End": True}
LATE = """
import os, pathlib, sys, time
import boto3
from botocore.exceptions import ClientError
while not pathlib.Path(sys.argv[1]).exists():
    time.sleep(0.05)
try:
    boto3.client("stepfunctions").send_task_success(taskToken=os.environ["STEPOUT_TASK_TOKEN"], output="{}")
except ClientError as error:
    print(error.response["Error"]["Code"])
"""


def code_of(call: Callable[..., Any], **parameters: Any) -> str:
    """The error code that a call is answered with."""
    try:
        call(**parameters)
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    return "OK"


class Waiting:
    """A queue that states send their tokens to."""

    def __init__(self, aws: LocalAws) -> None:
        self.aws, self.states, self.sqs = aws, aws.client("stepfunctions"), aws.client("sqs")
        self.url = self.sqs.create_queue(QueueName=unique("tokens"))["QueueUrl"]

    def state(self, body: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
        """A state that sends its token and waits."""
        parameters = {"QueueUrl": self.url, "MessageBody": {"token.$": "$$.Task.Token", **(body or {})}}
        return {
            "Type": "Task",
            "Resource": "arn:aws:states:::sqs:sendMessage.waitForTaskToken",
            "Parameters": parameters,
            "End": True,
            **more,
        }

    def message(self) -> dict[str, Any]:
        """The next message of a state."""

        def received() -> dict[str, Any] | None:
            for message in self.sqs.receive_message(QueueUrl=self.url, WaitTimeSeconds=1).get("Messages", []):
                self.sqs.delete_message(QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"])
                return dict(json.loads(message["Body"]))
            return None

        found = wait_until(received, what="a token")
        assert found is not None
        return found

    def token(self) -> str:
        """The next state's token."""
        return str(self.message()["token"])

    def success(self, token: str, output: str = "{}") -> str:
        """What a report of success is answered with."""
        return code_of(self.states.send_task_success, taskToken=token, output=output)

    def failure(self, token: str, **parameters: str) -> str:
        """What a report of failure is answered with."""
        return code_of(self.states.send_task_failure, taskToken=token, **parameters)

    def start(self, states: dict[str, Any], document: object = None) -> str:
        """Start the states, the first of them first."""
        return start_execution(self.aws, states, start_at=next(iter(states)), document=document)


@pytest.fixture
def waiting(local_aws: LocalAws) -> Waiting:
    """A queue of the test's own."""
    return Waiting(local_aws)


def long_overrides(size: int) -> list[dict[str, Any]]:
    """Overrides of so many characters in all."""
    overrides = [{"name": "job", "environment": [{"name": "LONG", "value": ""}]}]
    frame = json.dumps({"containerOverrides": overrides}, separators=(",", ":"))
    return [{"name": "job", "environment": [{"name": "LONG", "value": "x" * (size - len(frame))}]}]


def test_run_task_takes_8192_characters_of_overrides(local_aws: LocalAws) -> None:
    """One more is refused with ECS's own error, and nothing is started."""
    family = register_job(local_aws, {"command": ["true"]})
    with pytest.raises(ClientError, match="at most 8192") as caught:
        run_task(local_aws, family, overrides=long_overrides(8_193))
    assert caught.value.response["Error"]["Code"] == "InvalidParameterException"
    arn = run_task(local_aws, family, overrides=long_overrides(8_192))
    wait_until(lambda: [task for task in local_aws.tasks if task.arn == arn], what="the task that fits")
    assert len([task for task in local_aws.tasks if f"/{family}:" in task.definition]) == 1


def test_an_override_of_a_container_that_is_not_there_is_refused(local_aws: LocalAws) -> None:
    """Its token would reach nobody, so the state fails at once, and nothing is started."""
    family = register_job(local_aws, {"command": ["true"]})
    state = callback_state(family)
    state["Parameters"]["Overrides"]["ContainerOverrides"][0]["Name"] = "jobs"
    ended = wait_execution(local_aws, start_execution(local_aws, {"Work": state}, start_at="Work"))
    assert ended["error"] == "ECS.InvalidParameterException", ended
    assert "container named jobs is not a container in the TaskDefinition" in ended["cause"]
    assert not [task for task in local_aws.tasks if f"/{family}:" in task.definition]


@pytest.mark.parametrize(("family", "error"), [(None, "InvalidParameterException"), ("no-such-job", "ClientException")])
def test_a_refusal_of_ecs_fails_the_state_by_its_name(local_aws: LocalAws, family: str | None, error: str) -> None:
    """Overrides that are too long, and a task definition that does not exist, are caught as ECS named them."""
    state = callback_state(family or register_job(local_aws, {"command": ["true"]}))
    if family is None:
        override = state["Parameters"]["Overrides"]["ContainerOverrides"][0]
        override["Environment"].append({"Name": "LONG", "Value": "x" * 9_000})
    states = {"Work": {**state, "Catch": [{"ErrorEquals": [f"ECS.{error}"], "Next": "Caught"}]}, "Caught": CAUGHT}
    ended = wait_execution(local_aws, start_execution(local_aws, states, start_at="Work"))
    assert ended["status"] == "SUCCEEDED", ended
    assert error in json.loads(ended["output"])["Cause"]


@pytest.mark.parametrize(
    ("clocks", "error", "names"),
    [
        ({"HeartbeatSeconds": 1, "TimeoutSeconds": 600}, "States.HeartbeatTimeout", "States.HeartbeatTimeout"),
        ({"HeartbeatSeconds": 1}, "States.HeartbeatTimeout", "States.Timeout"),
        ({"HeartbeatSecondsPath": "$.beat"}, "States.HeartbeatTimeout", "States.ALL"),
        ({"HeartbeatSeconds": 1}, "States.HeartbeatTimeout", None),
        ({"TimeoutSeconds": 1}, "States.Timeout", "States.Timeout"),
        ({"TimeoutSecondsPath": "$.beat"}, "States.Timeout", None),
    ],
)
def test_a_clock_that_runs_out_fails_the_state_and_closes_its_token(
    waiting: Waiting, clocks: dict[str, Any], error: str, names: str | None
) -> None:
    """The state ends with the clock's error, is caught by the names of it alone, and a late report is TaskTimedOut."""
    catch = [{"ErrorEquals": [name], "Next": "Caught"} for name in ("States.TaskFailed", names) if name]
    states = {"Work": waiting.state(**clocks, Catch=catch), "Caught": CAUGHT}
    execution = waiting.start(states, {"beat": 1})
    token = waiting.token()
    ended = wait_execution(waiting.aws, execution)
    if names is None:
        assert (ended["status"], ended["error"]) == ("FAILED", error)
    else:
        assert json.loads(ended["output"]) == {"Error": error, "Cause": ""}
    assert waiting.success(token) == waiting.failure(token) == "TaskTimedOut"
    assert code_of(waiting.states.send_task_heartbeat, taskToken=token) == "TaskTimedOut"


def test_a_container_that_is_late_is_told_so(local_aws: LocalAws, tmp_path: Path) -> None:
    """A container that does not beat loses its state, runs on, and its report is answered TaskTimedOut."""
    family = register_job(local_aws, {"command": ["python", "-c", LATE, str(tmp_path / "go")]})
    state = callback_state(family, HeartbeatSeconds=1)
    ended = wait_execution(local_aws, start_execution(local_aws, {"Work": state}, start_at="Work"))
    assert (ended["status"], ended["error"]) == ("FAILED", "States.HeartbeatTimeout")
    (tmp_path / "go").touch()

    def said() -> list[str]:
        mine = [task for task in local_aws.tasks if f"/{family}:" in task.definition and task.status == "STOPPED"]
        return [line for task in mine for container in task.containers for line in container.output]

    assert wait_until(said, what="the container's end") == ["TaskTimedOut"]


def test_each_attempt_has_a_token_of_its_own(waiting: Waiting) -> None:
    """A retried state sends a new token, in JSONPath and JSONata; the old ones are closed."""
    retry = [{"ErrorEquals": ["Again"], "IntervalSeconds": 0, "MaxAttempts": 2}]
    jsonata = waiting.state(QueryLanguage="JSONata", Retry=retry, HeartbeatSeconds="{% $states.input.beat %}")
    jsonata["Arguments"] = {"QueueUrl": waiting.url, "MessageBody": {"token": "{% $states.context.Task.Token %}"}}
    del jsonata["Parameters"]
    for state in (waiting.state(Retry=retry), jsonata):
        execution = waiting.start({"Work": state}, {"beat": 600})
        tokens = []
        for _ in range(3):
            tokens.append(waiting.token())
            assert [waiting.success(token) for token in tokens[:-1]] == ["TaskTimedOut"] * (len(tokens) - 1)
            last = len(tokens) == 3
            assert (waiting.success(tokens[-1]) if last else waiting.failure(tokens[-1], error="Again")) == "OK"
        assert len(set(tokens)) == 3
        assert wait_execution(waiting.aws, execution)["status"] == "SUCCEEDED"


def test_tokens_of_branches_that_run_at_once_are_their_own(waiting: Waiting) -> None:
    """Each branch gets the report that was sent with its token."""
    branches = [{"StartAt": "Work", "States": {"Work": waiting.state({"branch": number})}} for number in range(8)]
    execution = waiting.start({"Both": {"Type": "Parallel", "Branches": branches, "End": True}})
    for _ in branches:
        message = waiting.message()
        assert waiting.success(message["token"], json.dumps(message["branch"])) == "OK"
    assert json.loads(wait_execution(waiting.aws, execution)["output"]) == list(range(8))


def test_a_token_takes_one_report_that_keeps_the_rules(waiting: Waiting) -> None:
    """What breaks a rule is refused under AWS's name and leaves the state waiting; after one report all are late."""
    execution = waiting.start({"Work": waiting.state()})
    token = waiting.token()
    assert waiting.success("garbage") == "InvalidToken"
    assert waiting.success(token[:-8] + "AAAAAAAA") == "TaskDoesNotExist"
    assert waiting.success(token, "{") == "InvalidOutput"
    assert waiting.success(token, json.dumps("x" * 262_143)) == "ValidationException"
    assert waiting.failure(token, cause="c" * 32_769) == "ValidationException"
    assert code_of(waiting.states.send_task_heartbeat, taskToken=token) == "OK"
    assert waiting.success(token, json.dumps("x" * 262_142)) == "OK"
    assert waiting.success(token, "2") == waiting.failure(token) == "TaskTimedOut"
    assert len(json.loads(wait_execution(waiting.aws, execution)["output"])) == 262_142


CATCH_ALL = [{"ErrorEquals": ["States.ALL"], "Next": "Caught"}]
HALF = {"half": "x" * 140_000}
LARGE: dict[str, dict[str, Any]] = {
    "pass": {"Type": "Pass", "Parameters": {"a.$": "$.half", "b.$": "$.half"}, "End": True},
    "parameters": {
        "Type": "Task",
        "Resource": "arn:aws:states:::sqs:sendMessage",
        "Parameters": {"QueueUrl": "q", "MessageBody": {"a.$": "$.half", "b.$": "$.half"}},
        "Catch": CATCH_ALL,
        "Retry": [{"ErrorEquals": ["States.ALL"]}],
        "End": True,
    },
    "map": {
        "Type": "Map",
        "ItemsPath": "$.items",
        "ItemSelector": {"half.$": "$.half"},
        "ItemProcessor": {"StartAt": "Same", "States": {"Same": {"Type": "Pass", "End": True}}},
        "Catch": CATCH_ALL,
        "End": True,
    },
    "parallel": {
        "Type": "Parallel",
        "Branches": [{"StartAt": "Same", "States": {"Same": {"Type": "Pass", "End": True}}}] * 2,
        "Catch": CATCH_ALL,
        "End": True,
    },
}


@pytest.mark.parametrize("kind", LARGE)
def test_more_than_262144_bytes_end_the_execution_and_are_not_caught(local_aws: LocalAws, kind: str) -> None:
    """An input or an output of a state above the limit is States.DataLimitExceeded, which no Catch or Retry takes."""
    states = {"Grow": LARGE[kind], "Caught": CAUGHT}
    execution = start_execution(local_aws, states, start_at="Grow", document={**HALF, "items": [1, 2]})
    ended = wait_execution(local_aws, execution)
    assert (ended["status"], ended.get("error")) == ("FAILED", "States.DataLimitExceeded")


def test_a_result_that_fits_may_be_too_much_beside_the_input(waiting: Waiting) -> None:
    """A report below the limit ends the execution where its ResultPath merges it into a large input."""
    states = {"Work": waiting.state(ResultPath="$.result", Catch=CATCH_ALL), "Caught": CAUGHT}
    execution = waiting.start(states, HALF)
    assert waiting.success(waiting.token(), json.dumps("x" * 150_000)) == "OK"
    ended = wait_execution(waiting.aws, execution)
    assert (ended["status"], ended.get("error")) == ("FAILED", "States.DataLimitExceeded")


def test_an_execution_takes_262144_bytes_of_input(local_aws: LocalAws) -> None:
    """More is refused before it starts."""
    client = local_aws.client("stepfunctions")
    definition = json.dumps({"StartAt": "Same", "States": {"Same": CAUGHT}})
    machine = client.create_state_machine(name=unique("machine"), definition=definition, roleArn=ROLE)
    for size, code in ((262_142, "OK"), (262_143, "ValidationException")):
        text = json.dumps("x" * size)
        assert code_of(client.start_execution, stateMachineArn=machine["stateMachineArn"], input=text) == code


def test_an_activitys_clocks_begin_when_a_worker_takes_the_task(waiting: Waiting) -> None:
    """An activity's task has a token of its own for each attempt, and loses it with the heartbeat."""
    arn = waiting.states.create_activity(name=unique("activity"))["activityArn"]
    retry = [{"ErrorEquals": ["States.HeartbeatTimeout"], "IntervalSeconds": 0, "MaxAttempts": 1}]
    state = {"Type": "Task", "Resource": arn, "HeartbeatSeconds": 1, "Retry": retry, "End": True}
    execution = waiting.start({"Work": state}, {"a": 1})
    tokens = [waiting.states.get_activity_task(activityArn=arn)["taskToken"] for _ in range(2)]
    assert tokens[0] != tokens[1]
    ended = wait_execution(waiting.aws, execution)
    assert (ended["status"], ended["error"]) == ("FAILED", "States.HeartbeatTimeout")
    assert [waiting.success(token) for token in tokens] == ["TaskTimedOut"] * 2


def test_a_stopped_execution_waits_for_nobody(waiting: Waiting) -> None:
    """Its tokens are closed, and it stays aborted though its states' clocks run out afterwards."""
    execution = waiting.start({"Work": waiting.state(TimeoutSeconds=600)})
    token = waiting.token()
    waiting.states.stop_execution(executionArn=execution, error="Enough")
    assert waiting.success(token) == "TaskTimedOut"
    assert wait_execution(waiting.aws, execution)["status"] == "ABORTED"


@pytest.mark.parametrize(
    ("more", "kind"),
    [
        ({"HeartbeatSeconds": 60, "TimeoutSeconds": 60}, "STANDARD"),
        ({}, "EXPRESS"),
        ({"Resource": "arn:aws:states:::ecs:runTask.sync"}, "EXPRESS"),
    ],
)
@pytest.mark.parametrize("nested", [False, True])
def test_a_definition_that_could_not_run_is_refused(
    waiting: Waiting, more: dict[str, Any], kind: str, *, nested: bool
) -> None:
    """A heartbeat that is no shorter than the timeout, and a wait in an Express workflow, are InvalidDefinition."""
    machine = {"StartAt": "Work", "States": {"Work": waiting.state(**more)}}
    if nested:
        both = {"Type": "Parallel", "Branches": [machine], "End": True}
        machine = {"StartAt": "Both", "States": {"Both": both}}
    create = waiting.states.create_state_machine
    definition = json.dumps(machine)
    assert code_of(create, name=unique("m"), definition=definition, roleArn=ROLE, type=kind) == "InvalidDefinition"
    if nested:
        return
    same = json.dumps({"StartAt": "Same", "States": {"Same": CAUGHT}})
    created = create(name=unique("m"), definition=same, roleArn=ROLE, type=kind)["stateMachineArn"]
    update = waiting.states.update_state_machine
    assert code_of(update, stateMachineArn=created, definition=definition) == "InvalidDefinition"


@pytest.mark.parametrize(("beat", "code"), [(59, "OK"), (60, "InvalidDefinition"), (61, "InvalidDefinition")])
def test_a_heartbeat_is_shorter_than_the_timeout(waiting: Waiting, beat: int, code: str) -> None:
    """One second less is enough."""
    states = {"Work": waiting.state(HeartbeatSeconds=beat, TimeoutSeconds=60)}
    definition = json.dumps({"StartAt": "Work", "States": states})
    create = waiting.states.create_state_machine
    assert code_of(create, name=unique("m"), definition=definition, roleArn=ROLE) == code


def test_a_state_without_a_token_ends_with_its_heartbeats_clock(local_aws: LocalAws) -> None:
    """Nobody beats for it, so HeartbeatSeconds is a timeout of its own (as for Batch jobs)."""
    state = callback_state(register_job(local_aws, {"command": ["sleep", "600"]}), HeartbeatSeconds=1)
    state["Resource"] = "arn:aws:states:::ecs:runTask.sync"
    state["Parameters"]["Overrides"]["ContainerOverrides"][0]["Environment"] = []
    ended = wait_execution(local_aws, start_execution(local_aws, {"Work": state}, start_at="Work"))
    assert (ended["status"], ended["error"]) == ("FAILED", "States.HeartbeatTimeout")
    for task in local_aws.tasks:
        if task.status == "RUNNING":
            local_aws.client("ecs").stop_task(cluster="default", task=task.arn)


@pytest.mark.parametrize("language", ["JSONPath", "JSONata"])
def test_an_execution_was_redriven_no_time(local_aws: LocalAws, language: str) -> None:
    """Printed states pass the count on; AWS has it in the context of every execution, from 0 on."""
    count = {"Parameters": {"count.$": "$$.Execution.RedriveCount"}}
    if language == "JSONata":
        count = {"Output": {"count": "{% $states.context.Execution.RedriveCount %}"}}
    state = {"Type": "Pass", "QueryLanguage": language, **count, "End": True}
    branch = {"Type": "Parallel", "Branches": [{"StartAt": "Count", "States": {"Count": state}}], "End": True}
    execution = start_execution(local_aws, {"Both": branch}, start_at="Both")
    assert json.loads(wait_execution(local_aws, execution)["output"]) == [{"count": 0}]
