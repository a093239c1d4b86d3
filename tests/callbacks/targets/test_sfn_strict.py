"""The strict Step Functions stand-in keeps the rules that it was made for."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError, EndpointConnectionError, ReadTimeoutError
from support.sfn_strict import StrictStepFunctions

if TYPE_CHECKING:
    from collections.abc import Callable


def code_of(call: Callable[[], Any]) -> str:
    """The error code that a call is answered with."""
    with pytest.raises(ClientError) as caught:
        call()
    return str(caught.value.response["Error"]["Code"])


def test_a_token_has_one_terminal_report(sfn_strict: StrictStepFunctions) -> None:
    """Whatever comes second is TaskTimedOut."""
    client, token = sfn_strict.client(), sfn_strict.issue()
    client.send_task_heartbeat(taskToken=token)
    client.send_task_success(taskToken=token, output='{"a": 1}')
    assert code_of(lambda: client.send_task_success(taskToken=token, output="{}")) == "TaskTimedOut"
    assert code_of(lambda: client.send_task_failure(taskToken=token)) == "TaskTimedOut"
    assert code_of(lambda: client.send_task_heartbeat(taskToken=token)) == "TaskTimedOut"
    assert sfn_strict.success(token) == {"a": 1}


def test_a_missed_heartbeat_and_a_timeout_close(sfn_strict: StrictStepFunctions) -> None:
    """A beat moves the first, never the second."""
    client = sfn_strict.client()
    beating, timed = sfn_strict.issue(heartbeat=10), sfn_strict.issue(timeout=25)
    for _ in range(2):
        sfn_strict.advance(9)
        client.send_task_heartbeat(taskToken=beating)
        client.send_task_heartbeat(taskToken=timed)
    sfn_strict.advance(11)
    assert code_of(lambda: client.send_task_success(taskToken=beating, output="1")) == "TaskTimedOut"
    assert code_of(lambda: client.send_task_heartbeat(taskToken=timed)) == "TaskTimedOut"


def test_a_retry_gets_a_new_token(sfn_strict: StrictStepFunctions) -> None:
    """And the old one is closed."""
    client, token = sfn_strict.client(), sfn_strict.issue()
    renewed = sfn_strict.retry(token)
    assert renewed != token
    assert code_of(lambda: client.send_task_success(taskToken=token, output="1")) == "TaskTimedOut"
    client.send_task_failure(taskToken=renewed, error="E", cause='{"m": 1}')
    assert sfn_strict.failure(renewed) == ("E", {"m": 1})


def test_bad_requests_have_their_own_errors(sfn_strict: StrictStepFunctions) -> None:
    """Garbage, unknown, not JSON, too long."""
    client, token = sfn_strict.client(), sfn_strict.issue()
    unknown = sfn_strict.issue()
    sfn_strict.forget(unknown)

    def success(token: str, output: str) -> str:
        return code_of(lambda: client.send_task_success(taskToken=token, output=output))

    assert success("garbage", "1") == "InvalidToken"
    assert success("t" * 3_000, "1") == "ValidationException"
    assert success(unknown, "1") == "TaskDoesNotExist"
    assert success(token, "{") == "InvalidOutput"
    assert success(token, "[NaN]") == "InvalidOutput"
    assert success(token, '"' + "é" * 131_072 + '"') == "ValidationException"
    refused = {"error": "E" * 257}, {"cause": "c" * 32_769}, {"error": "States.Timeout"}
    calls = [partial(client.send_task_failure, taskToken=token, **parameters) for parameters in refused]
    assert [code_of(call) for call in calls] == ["ValidationException"] * 3
    assert sfn_strict.accepted(token) == []


def test_faults_come_on_order_one_call_each(sfn_strict: StrictStepFunctions) -> None:
    """A lost answer has done its work, a dropped request has not."""
    client, token = sfn_strict.client(), sfn_strict.issue(kms=True)
    sfn_strict.fault("SendTaskHeartbeat", "throttle", "500", "503", "504", "denied")
    codes = [code_of(lambda: client.send_task_heartbeat(taskToken=token)) for _ in range(5)]
    assert codes == [
        "ThrottlingException", "InternalServerError", "ServiceUnavailable", "GatewayTimeout", "AccessDeniedException",
    ]  # fmt: skip
    assert code_of(lambda: client.send_task_failure(taskToken=token, error="E")) == "KmsAccessDeniedException"
    sfn_strict.fault("SendTaskFailure", "drop", "stall", "lost")
    with pytest.raises(ConnectionClosedError):
        client.send_task_failure(taskToken=token)
    with pytest.raises(ReadTimeoutError):
        sfn_strict.client(read_timeout=0.3).send_task_failure(taskToken=token)
    assert sfn_strict.accepted(token) == []
    with pytest.raises(ConnectionClosedError):
        client.send_task_failure(taskToken=token)
    assert len(sfn_strict.accepted(token)) == 1
    assert [call.answer for call in sfn_strict.calls[-3:]] == [None, None, None]


def test_a_stopped_server_refuses_connections() -> None:
    """As an endpoint without a route does."""
    server = StrictStepFunctions()
    client = server.client()
    server.stop()
    with pytest.raises(EndpointConnectionError):
        client.send_task_heartbeat(taskToken="t")
