"""The SQS target, on a real SQS of the local AWS: what is in the queue, and what happens when it does not answer."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import pytest
from support.answering import Said, answering
from support.wire import Fault, Wire

from stepout.callbacks import Target
from stepout.callbacks.targets.context import TargetContext
from stepout.callbacks.targets.messages import parse_report
from stepout.callbacks.targets.sqs import SqsTarget, queue_place, target_from_url
from stepout.schemas import RunIdentity
from stepout.schemas.errors import ConfigurationError, InvalidTokenError, OutputTooLargeError, TaskError

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepout.local import LocalAws

TOKEN = "AQCkAAAAKgAAAAMAAAAAAAAAAS+of/the+token+that+nobody=sees"
_CODE = "x-amzn-query-error"
DOCUMENT = {"stepout": "output/1", "artifacts": {}, "result": {"name": "é\U0001f600\ufffe\x1f"}}


@pytest.mark.parametrize(
    ("url", "known", "options"),
    [
        (
            "sqs://sqs.eu-west-1.amazonaws.com/123456789012/q",
            "https://sqs.eu-west-1.amazonaws.com/123456789012/q",
            {"region_name": "eu-west-1"},
        ),
        (
            "sqs:https://sqs.us-gov-west-1.amazonaws.com/123456789012/q.fifo",
            "https://sqs.us-gov-west-1.amazonaws.com/123456789012/q.fifo",
            {"region_name": "us-gov-west-1"},
        ),
        (
            "https://sqs.cn-north-1.amazonaws.com.cn/123456789012/q",
            "https://sqs.cn-north-1.amazonaws.com.cn/123456789012/q",
            {"region_name": "cn-north-1"},
        ),
        (
            "sqs://queue.amazonaws.com/123456789012/q",
            "https://queue.amazonaws.com/123456789012/q",
            {"region_name": "us-east-1"},
        ),
        (
            "SQS://vpce-1-a.sqs.eu-west-1.vpce.amazonaws.com/123456789012/q",
            "https://vpce-1-a.sqs.eu-west-1.vpce.amazonaws.com/123456789012/q",
            {"region_name": "eu-west-1", "endpoint_url": "https://vpce-1-a.sqs.eu-west-1.vpce.amazonaws.com"},
        ),
        (
            "sqs://localhost:4566/000000000000/q",
            "http://localhost:4566/000000000000/q",
            {"endpoint_url": "http://localhost:4566"},
        ),
        ("sqs:http://aws:4566/queue/q", "http://aws:4566/queue/q", {"endpoint_url": "http://aws:4566"}),
        ("sqs://aws.example/1/q", "https://aws.example/1/q", {"endpoint_url": "https://aws.example"}),
    ],
)
def test_urls_of_queues(url: str, known: str, options: dict[str, str]) -> None:
    """Amazon's usual hosts leave the endpoint to boto3 (and AWS_ENDPOINT_URL); others say it themselves."""
    place = queue_place(url)
    assert (place.url, dict(place.options)) == (known, options)
    assert place.fifo is known.endswith(".fifo")


@pytest.mark.parametrize(
    "url",
    [
        "sqs:",
        "sqs://",
        "sqs://sqs.eu-west-1.amazonaws.com/",
        "sqs://sqs.eu-west-1.amazonaws.com/reports",
        "sqs:https://sqs.eu-west-1.amazonaws.com/1/../123456789012/q",
        "sqs://sqs.eu-west-1.amazonaws.com/123456789012/a queue",
        "sqs://sqs.eu-west-1.amazonaws.com/123456789012/q?x=1",
        "sqs://sqs.eu-west-1.amazonaws.com/123456789012/q#x",
        "sqs://user:word@sqs.eu-west-1.amazonaws.com/123456789012/q",
        "sqs:http://sqs.eu-west-1.amazonaws.com/123456789012/q",
        "sqs:ftp://host/1/q",
        "sqs://host:port/1/q",
        "sqs://[::1/1/q",
        "sqs:arn:aws:sqs:eu-west-1:123456789012:q",
    ],
)
def test_a_wrong_url_is_an_error_before_any_work(url: str) -> None:
    """It says how one is written, and does not quote it."""
    with pytest.raises(ConfigurationError, match=r"sqs://sqs\.REGION") as caught:
        target_from_url(url, TargetContext(token=TOKEN))
    assert "word" not in str(caught.value)


def test_a_relay_without_a_token_has_nothing_to_relay_for() -> None:
    """The same goes for a token that was damaged."""
    with pytest.raises(ConfigurationError, match="STEPOUT_TASK_TOKEN"):
        target_from_url("sqs://localhost:4566/1/q", TargetContext())
    with pytest.raises(InvalidTokenError):
        SqsTarget("sqs://localhost:4566/1/q", "with space " + TOKEN)


def test_three_kinds_of_report_are_in_the_queue_as_they_were_made(make_queue: Callable[..., Any]) -> None:
    """With a number of their own each, and with characters that SQS itself would refuse."""
    queue = make_queue()
    target = SqsTarget(queue.url, TOKEN, queue.sqs, run=RunIdentity(state="Mask", attempt=1))
    assert isinstance(target, Target)
    target.heartbeat()
    target.success(DOCUMENT)
    target.failure("E\ud800" + "é" * 300, '{"message": "é"}')
    reports = {report.kind: report for report in (parse_report(each["Body"]) for each in queue.take(3))}
    assert set(reports) == {"heartbeat", "success", "failure"}
    assert len({report.id for report in reports.values()}) == 3
    assert {report.token for report in reports.values()} == {TOKEN}
    assert reports["success"].output == DOCUMENT
    assert reports["success"].run == RunIdentity(state="Mask", attempt=1)
    assert reports["failure"].error.startswith("E?éé")
    assert reports["failure"].cause == '{"message": "é"}'


def test_a_first_in_first_out_queue_keeps_a_tokens_reports_together(make_queue: Callable[..., Any]) -> None:
    """One group a token, named by what does not tell the token; two tokens are two groups."""
    queue = make_queue(fifo=True)
    for token in (TOKEN, TOKEN + "2"):
        target = SqsTarget(queue.url, token, queue.sqs)
        target.heartbeat()
        target.success(DOCUMENT)
    seen = [(message["Attributes"]["MessageGroupId"], parse_report(message["Body"])) for message in queue.take(4)]
    groups = {report.token: group for group, report in seen}
    assert len(set(groups.values())) == 2
    assert [report.kind for group, report in seen if group == groups[TOKEN]] == ["heartbeat", "success"]
    assert not any(TOKEN[:8] in group for group in groups.values())


@pytest.mark.parametrize("fifo", [False, True])
def test_an_answer_that_was_lost_costs_a_second_copy_at_most(
    local_aws: LocalAws, make_queue: Callable[..., Any], sqs_through: Any, timing: dict[str, Any], *, fifo: bool
) -> None:
    """Both have one number, by which a first-in-first-out queue drops the second."""
    queue = make_queue(fifo=fifo)
    with Wire(local_aws.endpoint) as wire:
        wire.arm(Fault(lambda line: line.startswith("POST"), "lost", 1))
        client = sqs_through(wire.endpoint)
        SqsTarget(queue.url, TOKEN, client, **timing).success(DOCUMENT)
    assert queue.size() == (1 if fifo else 2)
    assert len({parse_report(message["Body"]).id for message in queue.take(queue.size())}) == 1


def test_a_queue_that_fails_is_tried_again_while_there_is_time(
    local_aws: LocalAws, make_queue: Callable[..., Any], sqs_through: Any, timing: dict[str, Any]
) -> None:
    """Success after two refusals; ``limit`` ends the patience."""
    queue = make_queue()
    with Wire(local_aws.endpoint) as wire:
        wire.arm(Fault(lambda line: line.startswith("POST"), "status", 2))
        target = SqsTarget(queue.url, TOKEN, sqs_through(wire.endpoint), **timing)
        target.success(DOCUMENT)
        assert len(wire.lines) == 3
        wire.arm(Fault(lambda line: line.startswith("POST"), "status", 100))
        target.limit(0.01)
        with pytest.raises(TaskError, match=f"the success, to the queue {queue.name}"):
            target.success(DOCUMENT)
    assert queue.size() == 1


def test_a_heartbeat_is_tried_three_times(
    local_aws: LocalAws, make_queue: Callable[..., Any], sqs_through: Any, timing: dict[str, Any]
) -> None:
    """The next one follows soon."""
    queue = make_queue()
    with Wire(local_aws.endpoint) as wire:
        wire.arm(Fault(lambda line: line.startswith("POST"), "status", 100))
        with pytest.raises(TaskError, match="after 3 tries"):
            SqsTarget(queue.url, TOKEN, sqs_through(wire.endpoint), **timing).heartbeat()


def test_no_such_queue_is_said_at_once(make_queue: Callable[..., Any]) -> None:
    """By name, and without the token."""
    queue = make_queue()
    with pytest.raises(TaskError, match="after 1 tries") as caught:
        SqsTarget(queue.url + "-gone", TOKEN, queue.sqs).success(DOCUMENT)
    assert queue.name + "-gone" in str(caught.value)
    assert "Does it exist" in str(caught.value)
    assert TOKEN[:24] not in str(caught.value)


def test_an_output_that_nobody_would_take_is_refused_here(make_queue: Callable[..., Any]) -> None:
    """Step Functions' limit is known; a queue's own is found out, and the task is still open then."""
    queue = make_queue(MaximumMessageSize="2048")
    target = SqsTarget(queue.url, TOKEN, queue.sqs)
    for size, said in ((262_144, "262,144"), (3_000, "MaximumMessageSize")):
        with pytest.raises(OutputTooLargeError, match=said):
            target.success({**DOCUMENT, "result": {"text": "x" * size}})
    assert queue.size() == 0


def test_the_client_is_built_when_it_is_needed(
    local_aws: LocalAws, make_queue: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the queue's URL and the environment."""
    queue = make_queue()
    for name, value in local_aws.environ.items():
        monkeypatch.setenv(name, value)
    target = target_from_url(queue.url.replace("http:", "sqs:"), TargetContext(token=TOKEN))
    target.heartbeat()
    target.heartbeat()
    assert [json.loads(message["Body"])["kind"] for message in queue.take(2)] == ["heartbeat"] * 2


def test_a_target_shows_no_token(caplog: pytest.LogCaptureFixture, make_queue: Callable[..., Any]) -> None:
    """Neither printed nor in its own log lines; what botocore logs, a task redacts by the target's redactor."""
    queue = make_queue()
    target = SqsTarget(queue.url, TOKEN, queue.sqs)
    with caplog.at_level(logging.DEBUG, "stepout"):
        target.success(DOCUMENT)
    assert TOKEN[:24] not in repr(target) + str(vars(target)) + caplog.text
    assert target.redactor.text(f"it is {TOKEN}") == "it is [redacted]"


def refused(status: int, code: str) -> Said:
    """As SQS refuses: the code that boto3 sees is in a header."""
    return Said({"__type": "com.amazonaws.sqs#Any", "message": "its own words"}, status, {_CODE: f"{code};Sender"})


def test_throttling_by_the_queue_or_its_key_passes(sqs_through: Any, timing: dict[str, Any]) -> None:
    """SQS says so with status 403 and with 400, which for other codes are final."""
    throttled = [refused(403, "RequestThrottled"), refused(400, "KMS.ThrottlingException")] * 3
    with answering(*throttled, Said({"MessageId": "1"})) as url:
        SqsTarget(f"sqs:{url}/1/q", TOKEN, sqs_through(url), **timing).success(DOCUMENT)


@pytest.mark.parametrize(
    ("status", "code", "advice"),
    [
        (403, "AccessDenied", "Allow sqs:SendMessage"),
        (400, "KMS.AccessDeniedException", "kms:GenerateDataKey"),
        (400, "KMS.DisabledException", "kms:GenerateDataKey"),
        (400, "AWS.SimpleQueueService.NonExistentQueue", "Does it exist"),
    ],
)
def test_what_the_queue_refuses_comes_with_what_to_do(
    sqs_through: Any, timing: dict[str, Any], status: int, code: str, advice: str
) -> None:
    """At the first try, with the service's own words."""
    with answering(refused(status, code)) as url:
        target = SqsTarget(f"sqs:{url}/1/q", TOKEN, sqs_through(url), **timing)
        with pytest.raises(TaskError, match=rf"its own words\) after 1 tries\. .*{advice}"):
            target.success(DOCUMENT)


def test_a_queue_without_a_route_comes_with_what_to_do(sqs_through: Any, timing: dict[str, Any]) -> None:
    """The usual reason in an isolated subnet."""
    target = SqsTarget("sqs://127.0.0.1:9/1/q", TOKEN, sqs_through("http://127.0.0.1:9"), **timing)
    with pytest.raises(TaskError, match="VPC endpoint"):
        target.heartbeat()
