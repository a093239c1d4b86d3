"""Notifications over a real SNS and a real EventBridge of the local AWS, each heard by a queue."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from support.answering import Said, answering
from support.ministack import unique

from stepout.callbacks import RecordingTarget, Target, Task
from stepout.callbacks.delivery.retry_loop import RetryLoop
from stepout.callbacks.targets.context import TargetContext
from stepout.callbacks.targets.notifications import EventBridgeTarget, SnsTarget, events_from_url, sns_from_url
from stepout.callbacks.targets.registry import parse_targets
from stepout.schemas import RunIdentity
from stepout.schemas.errors import ConfigurationError, TaskError

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepout.local import LocalAws

DOCUMENT: dict[str, Any] = {"stepout": "output/1", "artifacts": {}, "result": {"name": "é"}}
LARGE = {**DOCUMENT, "result": {"text": "x" * 262_144}}
RUN = RunIdentity(execution="arn:aws:states:us-east-1:000000000000:execution:Segment:one", state="Mäsk", attempt=0)
TOPIC = "arn:aws:sns:eu-west-1:123456789012:done"


class Topic:
    """A topic, and a queue that listens to it."""

    def __init__(self, aws: LocalAws, make_queue: Callable[..., Any], *, fifo: bool = False) -> None:
        self.sns = aws.client("sns")
        name, more = unique("done"), {"FifoTopic": "true"} if fifo else {}
        self.arn = self.sns.create_topic(Name=name + (".fifo" if fifo else ""), Attributes=more)["TopicArn"]
        self.queue = make_queue(fifo=fifo)
        self.sns.subscribe(TopicArn=self.arn, Protocol="sqs", Endpoint=self.queue.arn)

    def hear(self, least: int = 1) -> list[dict[str, Any]]:
        """The envelopes that arrived, with the message read."""
        envelopes = [json.loads(message["Body"]) for message in self.queue.take(least)]
        return [{**envelope, "Message": json.loads(envelope["Message"])} for envelope in envelopes]


class Bus:
    """An event bus, and a queue that hears what stepout says there."""

    def __init__(self, aws: LocalAws, make_queue: Callable[..., Any]) -> None:
        self.events = aws.client("events")
        self.name, self.queue, rule = unique("bus"), make_queue(), unique("rule")
        self.arn = self.events.create_event_bus(Name=self.name)["EventBusArn"]
        pattern = json.dumps({"source": ["stepout"]})
        self.events.put_rule(Name=rule, EventBusName=self.name, EventPattern=pattern)
        self.events.put_targets(Rule=rule, EventBusName=self.name, Targets=[{"Id": "q", "Arn": self.queue.arn}])

    def hear(self, least: int = 1) -> list[dict[str, Any]]:
        """The events that arrived."""
        return [json.loads(message["Body"]) for message in self.queue.take(least)]


@pytest.fixture
def topic(local_aws: LocalAws, make_queue: Callable[..., Any]) -> Topic:
    """A topic of the test's own."""
    return Topic(local_aws, make_queue)


@pytest.fixture
def bus(local_aws: LocalAws, make_queue: Callable[..., Any]) -> Bus:
    """An event bus of the test's own."""
    return Bus(local_aws, make_queue)


def test_a_topic_is_told_of_success_and_failure(topic: Topic) -> None:
    """With attributes to filter by, and never of a heartbeat."""
    target = SnsTarget(topic.arn, topic.sns, run=RUN)
    assert isinstance(target, Target)
    target.heartbeat()
    target.success(DOCUMENT)
    target.failure("E", '{"message": "no mask"}')
    heard = {each["Message"]["outcome"]: each for each in topic.hear(2)}
    base = {"stepout": "notification/1", "run": RUN.to_dict()}
    assert heard["success"]["Message"] == {**base, "outcome": "success", "output": DOCUMENT}
    assert heard["failure"]["Message"] == {**base, "outcome": "failure", "error": "E", "cause": {"message": "no mask"}}
    assert heard["failure"]["Subject"] == "M?sk: failure"
    attributes = heard["success"]["MessageAttributes"]
    assert {name: each["Value"] for name, each in attributes.items()} == {"outcome": "success", "state": "Mäsk"}


def test_what_is_too_large_is_told_in_short(topic: Topic, bus: Bus) -> None:
    """Who, where and how it ended; both services take no more than 262,144 bytes."""
    short = {"stepout": "notification/1", "outcome": "success", "run": RUN.to_dict(), "shortened": True}
    SnsTarget(topic.arn, topic.sns, run=RUN).success(LARGE)
    assert topic.hear()[0]["Message"] == short
    target = EventBridgeTarget(bus.name, bus.events, run=RUN)
    target.success(LARGE)
    target.failure("E", json.dumps("x" * 262_144))
    details = {event["detail"]["outcome"]: event["detail"] for event in bus.hear(2)}
    assert details == {"success": short, "failure": {**short, "outcome": "failure", "error": "E"}}


def test_a_first_in_first_out_topic_keeps_an_executions_order(
    local_aws: LocalAws, make_queue: Callable[..., Any]
) -> None:
    """Two tasks that say the same are two messages."""
    topic = Topic(local_aws, make_queue, fifo=True)
    for _ in range(2):
        SnsTarget(topic.arn, topic.sns, run=RUN).success(DOCUMENT)
    SnsTarget(topic.arn, topic.sns).failure("E", "no JSON")
    heard = topic.hear(3)
    assert [each["Message"]["outcome"] for each in heard] == ["success", "success", "failure"]
    assert heard[2]["Message"]["cause"] == "no JSON"


def test_a_bus_is_told_by_name_and_by_arn(bus: Bus) -> None:
    """With the execution among the event's resources, so that rules can match it."""
    EventBridgeTarget(bus.name, bus.events, run=RUN).success(DOCUMENT)
    EventBridgeTarget(bus.arn, bus.events).failure("E", "{}")
    events = {event["detail-type"]: event for event in bus.hear(2)}
    success = events["stepout task success"]
    assert success["resources"] == [RUN.execution]
    assert success["detail"]["output"] == DOCUMENT
    failure = events["stepout task failure"]
    assert (failure["resources"], failure["detail"]["error"]) == ([], "E")


def refused(code: str) -> Said:
    """PutEvents says that it did not take an entry."""
    return Said({"FailedEntryCount": 1, "Entries": [{"ErrorCode": code, "ErrorMessage": "said so"}]})


def test_an_entry_that_was_not_taken_is_no_success(
    monkeypatch: pytest.MonkeyPatch, local_aws: LocalAws, timing: dict[str, Any]
) -> None:
    """PutEvents answers 200 then: what passes is tried again, what stays is said."""
    for name, value in local_aws.environ.items():
        monkeypatch.setenv(name, value)
    taken = Said({"FailedEntryCount": 0, "Entries": [{"EventId": "1"}]})
    with answering(refused("ThrottlingException"), refused("InternalFailure"), taken) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_EVENTBRIDGE", url)
        EventBridgeTarget(delivery=RetryLoop("", **timing)).success(DOCUMENT)
    with answering(refused("NotAuthorizedForSourceException")) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_EVENTBRIDGE", url)
        with pytest.raises(TaskError, match=r"EventBridgeTarget.'default'.*NotAuthorized.*after 1 tries"):
            EventBridgeTarget(delivery=RetryLoop("", **timing)).success(DOCUMENT)
    with answering(refused("ThrottlingException")) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_EVENTBRIDGE", url)
        target = EventBridgeTarget(delivery=RetryLoop("", **timing))
        target.limit(0.01)
        with pytest.raises(TaskError, match="too many requests"):
            target.success(DOCUMENT)


def test_all_tries_of_a_notification_have_one_id(timing: dict[str, Any]) -> None:
    """An answer may be lost: a first-in-first-out topic drops what a further try publishes again."""
    client = boto3.client("sns", region_name="eu-west-1", aws_access_key_id="a", aws_secret_access_key="b")
    tried: list[str] = []

    def refuse(model: Any, params: dict[str, Any], **_: Any) -> None:
        tried.append(params["body"]["MessageDeduplicationId"])
        raise ConnectionError(f"no answer to {model.name}")

    client.meta.events.register("before-call.sns.Publish", refuse)
    target = SnsTarget(f"{TOPIC}.fifo", client, delivery=RetryLoop("", **timing))
    with pytest.raises(TaskError, match="no answer came back"):
        target.success(DOCUMENT)
    assert len(tried) > 1
    assert len(set(tried)) == 1


def test_a_notification_never_fails_the_task(topic: Topic, caplog: pytest.LogCaptureFixture) -> None:
    """A topic that is not there costs a warning; the others hear of it."""
    primary = RecordingTarget()
    gone = SnsTarget(topic.arn + "-gone", topic.sns)
    with Task([primary, gone, SnsTarget(topic.arn, topic.sns)], run=RUN) as task:
        task.result["rows"] = 3
    assert primary.successes[0]["result"] == {"rows": 3}
    assert "was not told" in caplog.text
    assert topic.hear()[0]["Message"]["output"]["result"] == {"rows": 3}


def test_both_are_named_by_urls(local_aws: LocalAws, topic: Topic, bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the target that carries the outcome; clients come from the environment, the region from the ARN."""
    for name, value in local_aws.environ.items():
        monkeypatch.setenv(name, value)
    text = f"stdout: sns:{topic.arn} events:{bus.name} events:{bus.arn} events:default"
    _, *notified = parse_targets(text, TargetContext(run=RUN))
    for target in notified:
        target.success(DOCUMENT)
    assert topic.hear()[0]["Message"]["run"] == RUN.to_dict()
    assert [event["detail"]["run"] for event in bus.hear(2)] == [RUN.to_dict()] * 2


@pytest.mark.parametrize("url", ["sns:", "sns:done", "sns:arn:aws:sqs:eu-west-1:123456789012:done", f"sns:{TOPIC} x"])
def test_a_wrong_topic_is_an_error_before_any_work(url: str) -> None:
    """It says how one is written."""
    with pytest.raises(ConfigurationError, match="sns:arn:aws:sns:REGION:ACCOUNT:TOPIC"):
        sns_from_url(url, TargetContext())
    assert isinstance(sns_from_url(f"sns:{TOPIC}", TargetContext()), SnsTarget)


@pytest.mark.parametrize(
    "url", ["events:", "events://default", "events:a bus", "events:arn:aws:events:eu-west-1:123456789012:rule/x"]
)
def test_a_wrong_bus_is_an_error_before_any_work(url: str) -> None:
    """It says how one is written."""
    with pytest.raises(ConfigurationError, match="events:default"):
        events_from_url(url, TargetContext())
