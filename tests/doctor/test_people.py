"""Who is waited for: a program, which beats; a person, who does not; or nobody knows whom."""

from __future__ import annotations

from typing import Any

import pytest
from support.doctor_state_cases import PEOPLE

from stepout.doctor import examine
from stepout.doctor.findings import Document, Finding

_BEATING = ("SO101", "SO110", "SO111", "SO209", "SO210")


def _state(about: dict[str, Any], **more: Any) -> dict[str, Any]:
    resource = f"arn:aws:states:::{about['Resource']}.waitForTaskToken"
    return {"Type": "Task", "Next": "After", **about, "Resource": resource, **more}


def _found(state: dict[str, Any], name: str = "Ask") -> list[Finding]:
    return examine([Document("machine", {"StartAt": name, "States": {name: state}})])


@pytest.mark.parametrize("who", PEOPLE)
def test_a_person_is_not_expected_to_beat(who: str) -> None:
    """An approval with a timeout has nothing wrong with it, whatever becomes of the answer."""
    state = _state(PEOPLE[who], TimeoutSeconds=86_400, ResultPath=None, Retry=[{"ErrorEquals": ["States.ALL"]}])
    assert [(each.rule, each.what) for each in _found(state)] == []


@pytest.mark.parametrize("who", PEOPLE)
def test_a_person_is_waited_for_until_a_timeout(who: str) -> None:
    """Without a timeout, that alone is advised: a heartbeat would fail every approval."""
    [found] = _found(_state(PEOPLE[who]))
    assert (found.rule, found.severity) == ("SO102", "warning")
    assert found.example == {"TimeoutSeconds": 604_800}
    assert "never beats" in found.do


@pytest.mark.parametrize(
    "service", ["lambda:invoke", "sqs:sendMessage", "events:putEvents", "aws-sdk:dynamodb:putItem"]
)
def test_where_nobody_knows_who_reports_a_heartbeat_is_a_question(service: str) -> None:
    """A function, a queue, a bus or a table may lead to a program or to a person: a note says for which it is right."""
    state = _state({"Resource": service, "Parameters": {"Payload": {"t.$": "$$.Task.Token"}}}, TimeoutSeconds=600)
    [found] = _found(state, "Work")
    assert (found.rule, found.severity, found.example) == ("SO101", "note", None)
    assert "A person" in found.do


@pytest.mark.parametrize("service", ["lambda:invoke", "sqs:sendMessage", "sns:publish"])
def test_a_program_of_ours_is_expected_to_beat(service: str) -> None:
    """Where stepout's variables go with the token, a program reports, even if it is asked to approve something."""
    payload = {"STEPOUT_TASK_TOKEN.$": "$$.Task.Token", "what": "approve"}
    state = _state({"Resource": service, "Parameters": {"Payload": payload}}, TimeoutSeconds=600)
    found = [each for each in _found(state) if each.rule == "SO101"]
    assert [(each.severity, each.example) for each in found] == [
        ("error", {"HeartbeatSeconds": 300, "TimeoutSeconds": 21600})
    ]


def test_a_container_is_expected_to_beat_whatever_it_is_called() -> None:
    """A container named after an approval is a program."""
    job = {"Resource": "ecs:runTask", "Parameters": {"Cluster": "approvals", "token.$": "$$.Task.Token"}}
    assert ("SO101", "error") in {(each.rule, each.severity) for each in _found(_state(job), "Ask for approval")}


@pytest.mark.parametrize("resource", ["${Invoke}", "arn:aws:states:::${Service}"])
def test_a_placeholder_may_wait_for_the_token(resource: str) -> None:
    """What a Resource becomes later is not known now."""
    state = {"Type": "Task", "Resource": resource, "Parameters": {"t.$": "$$.Task.Token"}, "End": True}
    assert "SO112" not in {each.rule for each in _found(state)}


@pytest.mark.parametrize("partition", ["aws", "aws-cn", "${AWS::Partition}", "${partition}", "${var.partition}"])
def test_the_partition_may_be_filled_in_later(partition: str) -> None:
    """A service is recognised whatever stands in front of it."""
    resource = f"arn:{partition}:states:::ecs:runTask.waitForTaskToken"
    rules = {each.rule for each in _found({"Type": "Task", "Resource": resource, "End": True})}
    assert {"SO101", "SO102", "SO106"} <= rules


def test_a_fail_state_that_passes_a_name_on_makes_the_name_possible() -> None:
    """Where a Fail state within takes its error from data, a name that nothing has is a note."""
    fail = {"Type": "Fail", "ErrorPath": "$.error.Error"}
    inner = {"StartAt": "No", "States": {"No": fail}}
    catch = [{"ErrorEquals": ["States.Quorum"], "ResultPath": "$.p", "Next": "A"}]
    around = {"Type": "Map", "ItemProcessor": inner, "Catch": catch, "End": True}
    assert [(each.rule, each.severity) for each in _found(around)] == [("SO202", "note")]
    outside = {"States": {"A": {**around, "ItemProcessor": {}}, "No": fail}, "StartAt": "A"}
    assert [(each.rule, each.severity) for each in examine([Document("m", outside)])] == [("SO202", "error")]


def test_nested_states_of_a_state_in_another_language_are_read_by_what_they_hold() -> None:
    """A Map state in JSONata within a state machine in JSONPath says nothing of the states within it."""
    task = {"Type": "Task", "Resource": "arn:aws:states:::lambda:invoke", "End": True}
    inner = {"StartAt": "T", "States": {"T": {**task, "Arguments": {"Payload": "{% $states.input %}"}}}}
    around = {"Type": "Map", "QueryLanguage": "JSONata", "ItemProcessor": inner, "Output": "{% 1 %}", "End": True}
    assert _found(around) == []


def test_the_language_of_a_lone_state_is_not_known() -> None:
    """A state that is shown by itself may be of a state machine in either language."""
    task = {"Type": "Task", "Resource": "arn:aws:states:::lambda:invoke", "Arguments": {}, "Output": "{% 1 %}"}
    assert examine([Document("state", task), Document("states", {"A": task})]) == []


@pytest.mark.parametrize("parameters", [{"Payload.$": "$"}, {"Payload": "{% $states.input %}"}])
def test_parameters_in_jsonata_are_one_mistake(parameters: dict[str, Any]) -> None:
    """What stands in the wrong member is read by what it looks like: there is one finding, not two."""
    call = "arn:aws:states:::lambda:invoke"
    task = {"Type": "Task", "Resource": call, "QueryLanguage": "JSONata", "Parameters": parameters, "End": True}
    [found] = _found(task)
    assert found.rule == "SO116"
    assert "Arguments for Parameters" in found.do


def test_a_token_in_a_sync_state_that_is_no_container_is_a_note() -> None:
    """AWS's API page lets job-run states have a token, its guide does not: of child executions that is said."""
    call = "arn:aws:states:::states:startExecution.sync:2"
    task = {"Type": "Task", "Resource": call, "TimeoutSeconds": 60, "Parameters": {"Input": {"t.$": "$$.Task.Token"}}}
    assert [(each.rule, each.severity) for each in _found(task)] == [("SO112", "note")]
