"""The relay against the strict Step Functions: what is reported, what stays in the queue, and what nobody sees."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stepout.callbacks.relay import handler, make_handler, relay
from stepout.callbacks.targets.messages import Kind, Report
from stepout.schemas import RunIdentity
from stepout.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.sfn_strict import StrictStepFunctions

DOCUMENT: dict[str, Any] = {"stepout": "output/1", "artifacts": {}, "result": {"rows": 3}}
RUN = RunIdentity(execution="arn:aws:states:eu-west-1:123456789012:execution:Segment:one", state="Mask")


def report(token: str, kind: Kind = "success", **members: Any) -> Report:
    """A report of a task."""
    usual: dict[str, dict[str, Any]] = {"success": {"output": DOCUMENT}, "failure": {"error": "E", "cause": "{}"}}
    return Report(id="1", kind=kind, token=token, run=RUN, **{**usual.get(kind, {}), **members})


class Context:
    """What Lambda says of an invocation."""

    def __init__(self, milliseconds: int = 30_000) -> None:
        self.milliseconds = milliseconds

    def get_remaining_time_in_millis(self) -> int:
        """Until Lambda ends the process."""
        return self.milliseconds


def test_the_handler_reports_what_the_queue_holds(
    sfn_strict: StrictStepFunctions, record: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Built from nothing but the function's environment, and called twice as a warm function is."""
    for name, value in sfn_strict.environment.items():
        monkeypatch.setenv(name, value)
    tokens = [sfn_strict.issue() for _ in range(3)]
    kinds: tuple[Kind, ...] = ("success", "failure", "heartbeat")
    event = {"Records": [record(report(token, kind)) for token, kind in zip(tokens, kinds, strict=True)]}
    assert handler(event, Context()) == {"batchItemFailures": []}
    assert sfn_strict.success(tokens[0]) == DOCUMENT
    assert sfn_strict.failure(tokens[1]) == ("E", {})
    assert sfn_strict.accepted(tokens[2]) == []
    assert sfn_strict.count("SendTaskHeartbeat") == 1
    assert handler({"Records": [record(report(tokens[2]))]}, Context()) == {"batchItemFailures": []}
    assert sfn_strict.success(tokens[2]) == DOCUMENT


def test_one_of_a_batch_fails_and_the_others_are_done(
    sfn_strict: StrictStepFunctions, record: Callable[..., Any]
) -> None:
    """Unreadable, from nowhere, of a key that the relay may not use: each stays in the queue, by its id."""
    good, secret = sfn_strict.issue(), sfn_strict.issue(kms=True)
    records = [
        record("{"),
        record(report(good)),
        record(report("garbage-token")),
        record(report(secret)),
        record('{"stepout": "report/9"}'),
        record(report("another-garbage-token", "heartbeat")),
    ]
    answer = make_handler(sfn_strict.client())({"Records": records}, Context())
    listed = [item["itemIdentifier"] for item in answer["batchItemFailures"]]
    assert listed == [records[index]["messageId"] for index in (0, 2, 3, 4, 5)]
    assert sfn_strict.success(good) == DOCUMENT
    assert sfn_strict.accepted(secret) == []


def test_duplicates_change_nothing(sfn_strict: StrictStepFunctions, record: Callable[..., Any]) -> None:
    """In one batch, and after a redelivery."""
    token = sfn_strict.issue()
    for _ in range(2):
        assert relay([record(report(token)), record(report(token))], sfn_strict.client()) == []
    assert sfn_strict.success(token) == DOCUMENT


def test_a_closed_task_is_done_with(
    sfn_strict: StrictStepFunctions, record: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever kind of report comes late; one line says whose, and no line has a token."""
    tokens = [sfn_strict.issue() for _ in range(3)]
    for token in tokens:
        sfn_strict.close(token)
    kinds: tuple[Kind, ...] = ("success", "failure", "heartbeat")
    records = [record(report(token, kind)) for token, kind in zip(tokens, kinds, strict=True)]
    with caplog.at_level(logging.DEBUG):
        assert relay(records, sfn_strict.client()) == []
    ours = [each.getMessage() for each in caplog.records if each.name == "stepout.callbacks.relay"]
    assert len(ours) == 3
    assert all("Mask of arn:aws:states" in line and "is done with" in line for line in ours)
    assert not any(token[:40] in caplog.text for token in tokens)


@pytest.mark.parametrize("fault", ["lost", "drop", "throttle", "500", "503", "504"])
def test_passing_faults_are_waited_for(
    sfn_strict: StrictStepFunctions, record: Callable[..., Any], timing: dict[str, Any], fault: str
) -> None:
    """A lost answer included, after which "closed" means "delivered"."""
    token = sfn_strict.issue()
    sfn_strict.fault("SendTaskSuccess", fault)
    assert relay([record(report(token))], sfn_strict.client(), **timing) == []
    assert sfn_strict.success(token) == DOCUMENT


@pytest.mark.parametrize("fault", ["throttle", "denied", "lost"])
def test_what_step_functions_does_not_take_in_time_comes_again(
    sfn_strict: StrictStepFunctions, record: Callable[..., Any], timing: dict[str, Any], fault: str
) -> None:
    """Listed as failed; the redelivery is reported, or found reported."""
    token = sfn_strict.issue()
    sfn_strict.fault("SendTaskSuccess", *[fault] * 30)
    message = record(report(token))
    if fault == "lost":  # the work is done at the first try: the later ones hear "closed", which is the answer
        assert relay([message], sfn_strict.client(), seconds=0.01, **timing) == [message["messageId"]]
    else:
        assert relay([message], sfn_strict.client(), **timing) == [message["messageId"]]
        assert sfn_strict.accepted(token) == []
    sfn_strict._faults.clear()
    assert relay([message], sfn_strict.client()) == []
    assert sfn_strict.success(token) == DOCUMENT


@pytest.mark.parametrize(
    ("output", "error", "said"),
    [
        ({"rows": 3}, "Stepout.InvalidDocument", "$.stepout"),
        ({**DOCUMENT, "artifacts": {"a b": {}}}, "Stepout.InvalidDocument", 'artifacts["a b"]'),
        ("text", "Stepout.InvalidDocument", "$: must be an object"),
        (None, "Stepout.InvalidDocument", "$: must be an object"),
        ({**DOCUMENT, "result": {"text": "x" * 262_144}}, "Stepout.OutputTooLarge", "262,144"),
    ],
)
def test_an_output_that_is_none_fails_the_task_by_name(
    sfn_strict: StrictStepFunctions, record: Callable[..., Any], output: Any, error: str, said: str
) -> None:
    """Rather than to let the state wait for a report that never can be right; the cause says where and whose."""
    token = sfn_strict.issue()
    assert relay([record(report(token, output=output))], sfn_strict.client()) == []
    reported, cause = sfn_strict.failure(token)
    assert reported == error
    assert said in cause["message"]
    assert cause["run"]["state"] == "Mask"
    assert sfn_strict.count("SendTaskSuccess") == 0


def test_an_output_that_holds_the_token_is_not_passed_on(
    sfn_strict: StrictStepFunctions, record: Callable[..., Any]
) -> None:
    """Everybody who may look at an execution would see it."""
    token = sfn_strict.issue()
    document = {**DOCUMENT, "result": {"token": token}}
    assert relay([record(report(token, output=document))], sfn_strict.client()) == []
    error, cause = sfn_strict.failure(token)
    assert error == "Stepout.InvalidDocument"
    assert "$.result.token" in cause["message"]
    assert token[:24] not in str(cause)


def test_reserved_names_are_not_passed_on(sfn_strict: StrictStepFunctions, record: Callable[..., Any]) -> None:
    """Programs that write their messages themselves may not know."""
    token = sfn_strict.issue()
    assert relay([record(report(token, "failure", error="States.Timeout"))], sfn_strict.client()) == []
    assert sfn_strict.failure(token)[0] == "Job.States.Timeout"


def test_heartbeats_are_not_sent_in_vain(sfn_strict: StrictStepFunctions, record: Callable[..., Any]) -> None:
    """One for several, none before or after a terminal report of the same batch."""
    beating, done = sfn_strict.issue(), sfn_strict.issue()
    records = [
        record(report(beating, "heartbeat")),
        record(report(done, "heartbeat")),
        record(report(beating, "heartbeat")),
        record(report(done)),
        record(report(done, "heartbeat")),
    ]
    assert relay(records, sfn_strict.client()) == []
    assert [call.parameters["taskToken"] for call in sfn_strict.calls if call.action == "SendTaskHeartbeat"] == [
        beating
    ]
    assert sfn_strict.success(done) == DOCUMENT


def test_a_heartbeat_that_cannot_be_passed_on_is_dropped(
    sfn_strict: StrictStepFunctions, record: Callable[..., Any], timing: dict[str, Any]
) -> None:
    """In a first-in-first-out queue it would hold up the outcome; the next one comes sooner than a redelivery."""
    token = sfn_strict.issue()
    sfn_strict.fault("SendTaskHeartbeat", *["throttle"] * 3)
    assert relay([record(report(token, "heartbeat"), group="g")], sfn_strict.client(), **timing) == []
    assert sfn_strict.count("SendTaskHeartbeat") == 3


def test_the_order_of_sending_counts_in_a_standard_queue(
    sfn_strict: StrictStepFunctions, record: Callable[..., Any]
) -> None:
    """A batch may hold an outcome and a watcher's later guess in the wrong order."""
    token = sfn_strict.issue()
    assert relay([record(report(token, "failure"), sent=20), record(report(token), sent=10)], sfn_strict.client()) == []
    assert sfn_strict.success(token) == DOCUMENT


def test_an_outcome_that_waits_is_not_overtaken(
    sfn_strict: StrictStepFunctions, record: Callable[..., Any], timing: dict[str, Any]
) -> None:
    """A later failure of the same task stays behind it; a heartbeat keeps the state alive meanwhile."""
    token = sfn_strict.issue()
    sfn_strict.fault("SendTaskSuccess", "denied")
    records = [record(report(token)), record(report(token, "failure")), record(report(token, "heartbeat"))]
    assert relay(records, sfn_strict.client(), **timing) == ["m1", "m2"]
    assert sfn_strict.count("SendTaskFailure") == 0
    assert sfn_strict.count("SendTaskHeartbeat") == 1
    assert relay(records, sfn_strict.client()) == []
    assert sfn_strict.success(token) == DOCUMENT


def test_a_failed_message_holds_up_its_group_and_no_other(
    sfn_strict: StrictStepFunctions, record: Callable[..., Any], timing: dict[str, Any]
) -> None:
    """What Lambda expects of a first-in-first-out queue."""
    first, second, third = (sfn_strict.issue(kms=index == 0) for index in range(3))
    records = [
        record(report(first), group="a"),
        record(report(third), group="b"),
        record("{", group="c"),
        record(report(second), group="a"),
        record(report(first, "heartbeat"), group="a"),
    ]
    assert relay(records, sfn_strict.client(), **timing) == ["m1", "m3", "m4", "m5"]
    assert sfn_strict.accepted(second) == []
    assert sfn_strict.success(third) == DOCUMENT


def test_without_time_outcomes_stay_and_heartbeats_go(
    sfn_strict: StrictStepFunctions, record: Callable[..., Any]
) -> None:
    """Nothing is begun that Lambda would cut off."""
    token = sfn_strict.issue()
    records = [record(report(token)), record(report(sfn_strict.issue(), "heartbeat"))]
    answer = make_handler(sfn_strict.client())({"Records": records}, Context(0))
    assert answer == {"batchItemFailures": [{"itemIdentifier": "m1"}]}
    assert sfn_strict.calls == []


def test_one_stalled_task_does_not_stop_the_others(sfn_strict: StrictStepFunctions, record: Callable[..., Any]) -> None:
    """Tokens go side by side."""
    tokens = [sfn_strict.issue() for _ in range(20)]
    sfn_strict.fault("SendTaskSuccess", "stall")
    records = [record(report(token)) for token in tokens]
    with ThreadPoolExecutor(1) as pool:
        relayed = pool.submit(relay, records, sfn_strict.client(), seconds=60)
        sfn_strict.wait_for("SendTaskSuccess", len(tokens))
        assert sum(len(sfn_strict.accepted(token)) for token in tokens) == 19
        sfn_strict.release()
        assert relayed.result() == []


def test_messages_that_were_received_by_hand_are_taken_too(sfn_strict: StrictStepFunctions) -> None:
    """As ``receive_message`` names their members, with or without attributes."""
    token = sfn_strict.issue()
    assert relay([{"MessageId": "1", "Body": report(token).to_json()}], sfn_strict.client()) == []
    assert sfn_strict.success(token) == DOCUMENT
    assert relay([], None) == []


@pytest.mark.parametrize(
    "event",
    [{}, {"Records": [{"Sns": {}}]}, {"Records": [{"eventSource": "aws:s3"}]}, {"detail": {}}, None, {"Records": {}}],
)
def test_an_event_of_somebody_else_is_an_error(event: Any) -> None:
    """Lambda keeps it, and says so."""
    with pytest.raises(ConfigurationError, match="event of SQS"):
        handler(event, Context())


def test_a_pipes_list_of_records_is_taken(sfn_strict: StrictStepFunctions, record: Callable[..., Any]) -> None:
    """EventBridge Pipes have no envelope."""
    token = sfn_strict.issue()
    assert make_handler(sfn_strict.client())([record(report(token))], None) == {"batchItemFailures": []}
    assert sfn_strict.success(token) == DOCUMENT


def test_the_relay_starts_fast_and_needs_boto3_only(
    sfn_strict: StrictStepFunctions, record: Callable[..., Any]
) -> None:
    """None of the libraries that a producer or a consumer has: a function's zip holds stepout alone."""
    tokens = [sfn_strict.issue() for _ in range(3)]
    records = [record(report(tokens[0])), record(report(tokens[1], output={})), record(report(tokens[2], "failure"))]
    code = f"""import sys
heavy = {("pyarrow", "numpy", "jsonschema", "referencing", "PIL", "s3fs")}
import stepout.callbacks.relay as relay
assert not {{"boto3", "botocore", *heavy}} & set(sys.modules)
assert relay.handler({{"Records": {records}}}, None) == {{"batchItemFailures": []}}
assert not set(heavy) & set(sys.modules)"""
    environment = {**os.environ, **sfn_strict.environment}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    assert sfn_strict.success(tokens[0]) == DOCUMENT
    assert [sfn_strict.failure(token)[0] for token in tokens[1:]] == ["Stepout.InvalidDocument", "E"]


@settings(
    max_examples=settings().max_examples // 4,
    suppress_health_check=[*settings().suppress_health_check, HealthCheck.function_scoped_fixture],
)
@given(
    sent=st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["success", "failure", "heartbeat"])), max_size=9),
    shuffled=st.randoms(use_true_random=False),
)
def test_whatever_is_in_a_batch_the_first_outcome_counts(
    sfn_strict: StrictStepFunctions, record: Callable[..., Any], sent: list[tuple[int, Kind]], shuffled: Any
) -> None:
    """Once, however often it is delivered and in which order; nothing stays in the queue."""
    tokens = [sfn_strict.issue() for _ in range(3)]
    records = [record(report(tokens[index], kind)) for index, kind in sent]
    records += shuffled.sample(records, len(records) // 2)
    shuffled.shuffle(records)
    assert relay(records, sfn_strict.client()) == []
    for index, token in enumerate(tokens):
        outcomes = [kind for at, kind in sent if at == index and kind != "heartbeat"]
        expected = [{"success": "SendTaskSuccess", "failure": "SendTaskFailure"}[kind] for kind in outcomes[:1]]
        assert [action for action, _ in sfn_strict.accepted(token)] == expected
