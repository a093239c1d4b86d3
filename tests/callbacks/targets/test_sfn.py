"""The Step Functions target against the strict stand-in: every answer, every fault."""

from __future__ import annotations

import logging
import socket
from typing import TYPE_CHECKING, Any

import pytest

from stepout.callbacks import StepFunctionsTarget
from stepout.callbacks.delivery.clients import build_client
from stepout.callbacks.delivery.retry_loop import ThrottledError
from stepout.callbacks.targets.sfn import check_token
from stepout.schemas.errors import (
    InvalidDocumentError,
    InvalidTokenError,
    OutputTooLargeError,
    StepoutError,
    TaskClosedError,
    TaskError,
)

if TYPE_CHECKING:
    from support.sfn_strict import StrictStepFunctions

DOCUMENT = {"stepout": "output/1", "artifacts": {}, "result": {"rows": 3}}


class Time:
    """A clock that moves when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def clock(self) -> float:
        """Seconds."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let the seconds pass."""
        self.slept.append(seconds)
        self.now += seconds


def target_of(server: StrictStepFunctions, token: str, **options: Any) -> tuple[StepFunctionsTarget, Time]:
    """A target whose waits take no time."""
    time = Time()
    options.setdefault("client", server.client())
    return StepFunctionsTarget(token, clock=time.clock, sleep=time.sleep, jitter=lambda: 0.5, **options), time


def test_success_arrives_once_as_written(sfn_strict: StrictStepFunctions) -> None:
    """Multi-byte text included."""
    token = sfn_strict.issue()
    target, _ = target_of(sfn_strict, token)
    target.success({**DOCUMENT, "result": {"name": "é\U0001f600"}})
    assert sfn_strict.success(token)["result"] == {"name": "é\U0001f600"}


@pytest.mark.parametrize("fault", ["throttle", "500", "503", "504", "drop", "lost"])
@pytest.mark.parametrize("action", ["SendTaskSuccess", "SendTaskFailure"])
def test_one_fault_costs_a_retry_and_nothing_else(sfn_strict: StrictStepFunctions, action: str, fault: Any) -> None:
    """Delivered once, whether the first try was done or not."""
    token = sfn_strict.issue()
    sfn_strict.fault(action, fault)
    target, _ = target_of(sfn_strict, token)
    if action == "SendTaskSuccess":
        target.success(DOCUMENT)
    else:
        target.failure("E", "{}")
    assert len(sfn_strict.accepted(token)) == 1
    assert sfn_strict.count(action) == 2


def test_closed_without_a_lost_answer_is_closed(sfn_strict: StrictStepFunctions) -> None:
    """Somebody else reported, or the state gave up: never taken for delivered."""
    token = sfn_strict.issue()
    sfn_strict.close(token)
    target, _ = target_of(sfn_strict, token)
    reports: list[Any] = [lambda: target.success(DOCUMENT), lambda: target.failure("E", "{}"), target.heartbeat]
    for report in reports:
        with pytest.raises(TaskClosedError, match="TaskTimedOut"):
            report()


def test_an_answered_fault_before_closed_is_no_lost_answer(sfn_strict: StrictStepFunctions) -> None:
    """Throttled is an answer: what is closed then was closed by somebody else."""
    token = sfn_strict.issue()
    sfn_strict.close(token)
    sfn_strict.fault("SendTaskSuccess", "throttle", "503")
    target, _ = target_of(sfn_strict, token)
    with pytest.raises(TaskClosedError):
        target.success(DOCUMENT)


def test_a_lost_answer_of_another_call_does_not_count(sfn_strict: StrictStepFunctions) -> None:
    """A heartbeat's lost answer says nothing about the success that follows."""
    token = sfn_strict.issue()
    sfn_strict.fault("SendTaskHeartbeat", "lost")
    target, _ = target_of(sfn_strict, token)
    target.heartbeat()
    sfn_strict.close(token)
    with pytest.raises(TaskClosedError):
        target.success(DOCUMENT)


def test_a_stalled_answer_counts_as_lost(sfn_strict: StrictStepFunctions) -> None:
    """The read times out; the next try is the one that counts."""
    token = sfn_strict.issue()
    sfn_strict.fault("SendTaskSuccess", "stall")
    target, _ = target_of(sfn_strict, token, client=sfn_strict.client(read_timeout=0.3))
    target.success(DOCUMENT)
    assert sfn_strict.success(token) == DOCUMENT


@pytest.mark.parametrize("mode", ["legacy", "standard"])
def test_hidden_retries_of_a_client_that_was_passed_in_are_seen(sfn_strict: StrictStepFunctions, mode: str) -> None:
    """Its own retry meets TaskTimedOut after a lost answer; that is delivered, too."""
    token = sfn_strict.issue()
    sfn_strict.fault("SendTaskSuccess", "lost")
    client = sfn_strict.client(retries={"mode": mode, "total_max_attempts": 3})
    target, _ = target_of(sfn_strict, token, client=client)
    target.success(DOCUMENT)
    assert sfn_strict.success(token) == DOCUMENT
    sfn_strict.fault("SendTaskSuccess", "503")
    with pytest.raises(TaskClosedError):
        target.success(DOCUMENT)


def test_garbage_and_unknown_tokens_differ(sfn_strict: StrictStepFunctions) -> None:
    """InvalidToken is the caller's mistake, TaskDoesNotExist means closed."""
    target, _ = target_of(sfn_strict, "garbage")
    with pytest.raises(InvalidTokenError):
        target.success(DOCUMENT)
    sfn_strict_token = sfn_strict.issue()
    sfn_strict.forget(sfn_strict_token)
    target, _ = target_of(sfn_strict, sfn_strict_token)
    with pytest.raises(TaskClosedError, match="TaskDoesNotExist"):
        target.heartbeat()


def test_an_output_over_the_limit_is_never_sent(sfn_strict: StrictStepFunctions) -> None:
    """262,144 bytes of UTF-8 go, one more does not, measured with multi-byte text."""
    token = sfn_strict.issue()
    target, _ = target_of(sfn_strict, token)
    frame = len(b'{"a":""}')
    with pytest.raises(OutputTooLargeError, match="262,145 bytes"):
        target.success({"a": "é" * ((262_144 - frame) // 2) + "x"})
    assert sfn_strict.count("SendTaskSuccess") == 0
    target.success({"a": "é" * ((262_144 - frame) // 2)})
    assert len(sfn_strict.accepted(token)) == 1


def test_an_output_that_the_service_refuses_is_an_invalid_document(sfn_strict: StrictStepFunctions) -> None:
    """InvalidOutput is distinct from every other refusal."""
    token = sfn_strict.issue()
    client = sfn_strict.client()

    def spoil(params: dict[str, Any], **_: Any) -> Any:
        params["output"] = "NaN"

    client.meta.events.register("before-parameter-build.sfn.SendTaskSuccess", spoil)
    target, _ = target_of(sfn_strict, token, client=client)
    with pytest.raises(InvalidDocumentError, match="InvalidOutput"):
        target.success(DOCUMENT)
    assert sfn_strict.accepted(token) == []


def test_a_failure_under_a_forbidden_key_goes_once_more_without_words(sfn_strict: StrictStepFunctions) -> None:
    """Step Functions takes it only without error and cause; a success has no such way."""
    token = sfn_strict.issue(kms=True)
    target, _ = target_of(sfn_strict, token)
    with pytest.raises(TaskError, match="kms:GenerateDataKey"):
        target.success(DOCUMENT)
    target.failure("E", '{"message": "m"}')
    assert sfn_strict.failure(token) == (None, {})


def test_error_and_cause_are_held_to_their_limits(sfn_strict: StrictStepFunctions) -> None:
    """In bytes, for a caller that did not."""
    token = sfn_strict.issue()
    target, _ = target_of(sfn_strict, token)
    target.failure("E" * 300, '"' + "é" * 40_000)
    ((_, parameters),) = sfn_strict.accepted(token)
    assert len(parameters["error"]) == 256
    assert 32_766 <= len(parameters["cause"].encode()) <= 32_768


def test_retries_end_when_patience_does(sfn_strict: StrictStepFunctions) -> None:
    """Bounded in time, growing waits, and the message names the last answer."""
    sfn_strict.fault("SendTaskSuccess", *["throttle"] * 200)
    target, time = target_of(sfn_strict, sfn_strict.issue(), patience=60)
    with pytest.raises(TaskError, match="ThrottlingException") as caught:
        target.success(DOCUMENT)
    assert type(caught.value) is ThrottledError
    assert 40 < sum(time.slept) <= 60
    assert time.slept == sorted(time.slept)


def test_a_limit_ends_retries_early(sfn_strict: StrictStepFunctions) -> None:
    """A signal came: there are so many seconds left."""
    sfn_strict.fault("SendTaskSuccess", *["503"] * 200)
    target, time = target_of(sfn_strict, sfn_strict.issue())
    target.limit(5)
    target.limit(50)
    with pytest.raises(TaskError, match="the service failed"):
        target.success(DOCUMENT)
    assert sum(time.slept) <= 5


def test_a_heartbeat_is_tried_three_times(sfn_strict: StrictStepFunctions) -> None:
    """Throttled beats are retried, but the next one is never far."""
    sfn_strict.fault("SendTaskHeartbeat", "throttle", "throttle")
    target, _ = target_of(sfn_strict, sfn_strict.issue())
    target.heartbeat()
    assert sfn_strict.count("SendTaskHeartbeat") == 3
    sfn_strict.fault("SendTaskHeartbeat", *["throttle"] * 3)
    with pytest.raises(TaskError, match="after 3 tries"):
        target.heartbeat()


def test_a_missing_permission_is_not_retried_and_says_what_to_allow(sfn_strict: StrictStepFunctions) -> None:
    """One try, one remedy."""
    sfn_strict.fault("SendTaskHeartbeat", "denied")
    target, time = target_of(sfn_strict, sfn_strict.issue())
    with pytest.raises(TaskError, match="states:SendTaskHeartbeat"):
        target.heartbeat()
    assert time.slept == []


def test_a_refused_connection_is_retried_and_says_what_to_check(
    monkeypatch: pytest.MonkeyPatch, sfn_strict: StrictStepFunctions
) -> None:
    """With the client that the target builds: no hidden retries, endpoint from the environment."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for name, value in {**sfn_strict.environment, "AWS_ENDPOINT_URL_SFN": f"http://127.0.0.1:{port}"}.items():
        monkeypatch.setenv(name, value)
    target, time = target_of(sfn_strict, sfn_strict.issue(), client=None, patience=1)
    with pytest.raises(TaskError, match="VPC endpoint"):
        target.success(DOCUMENT)
    assert time.slept
    assert build_client("stepfunctions").meta.config.retries == {"total_max_attempts": 1, "mode": "standard"}


def test_the_token_is_in_no_message_repr_or_log(
    sfn_strict: StrictStepFunctions, caplog: pytest.LogCaptureFixture
) -> None:
    """Though the server echoes it in every error."""
    caplog.set_level(logging.DEBUG, logger="stepout")
    token = sfn_strict.issue()
    target, _ = target_of(sfn_strict, token)
    sfn_strict.fault("SendTaskHeartbeat", "throttle")
    target.heartbeat()
    sfn_strict.close(token)
    with pytest.raises(StepoutError) as caught:
        target.success(DOCUMENT)
    shown = f"{target!r} {vars(target)} {caught.value!r} {caught.value.__cause__!r} {caplog.text}"
    assert token[:24] not in shown
    assert caplog.records
    assert caught.value.__suppress_context__ or token[:24] not in repr(caught.value.__context__)


@pytest.mark.parametrize(
    ("token", "complaint"),
    [("", "empty"), (" \n", "empty"), ("t" * 2_049, "2049 characters"), ("a b", "white space"), ("a\0b", "control")],
)
def test_a_token_that_cannot_be_one_is_refused_without_being_quoted(token: str, complaint: str) -> None:
    """Before anything is sent."""
    with pytest.raises(InvalidTokenError, match=complaint) as caught:
        StepFunctionsTarget(token)
    assert not token.strip() or token not in str(caught.value)


def test_a_token_of_2048_characters_is_taken() -> None:
    """Surrounding white space, as a file or a shell leaves it, is not part of it."""
    assert check_token("t" * 2_048 + "\n") == "t" * 2_048
