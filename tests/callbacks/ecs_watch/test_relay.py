"""Where reports go through a queue: the failure goes the same way, and a success that is in the queue wins."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from support.ministack import unique
from support.watch_events import Clock, serving, stopped_event

from stepout.callbacks.ecs_watch import Watcher, WatchSettings
from stepout.callbacks.relay import relay
from stepout.callbacks.targets.sqs import SqsTarget
from stepout.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.sfn_strict import StrictStepFunctions
    from support.watch_events import WatchedAws

DOCUMENT = {"stepout": "output/1", "artifacts": {}, "result": {"rows": 3}}


class Queue:
    """A queue of the local AWS, and what passes it on to Step Functions."""

    def __init__(self, watched: WatchedAws, sfn: StrictStepFunctions, *, fifo: bool = False) -> None:
        self.client = watched.aws.client("sqs")
        self._sfn = sfn
        name = unique("reports") + (".fifo" if fifo else "")
        attributes = {"FifoQueue": "true"} if fifo else {}
        self.url = str(self.client.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"])
        self.sent: list[dict[str, Any]] = []
        self.client.meta.events.register("provide-client-params.sqs.SendMessage", self._note)

    def _note(self, params: dict[str, Any], **_: Any) -> None:
        self.sent.append(params)

    def watcher(self, **settings: Any) -> Watcher:
        """A watcher that was told of the queue."""
        given = WatchSettings(queue=self.url, **settings)
        clock = Clock()
        return Watcher(given, states=self._sfn.client(), queues=self.client, clock=clock, sleep=clock.sleep)

    def waiting(self) -> int:
        """How many messages are held back."""
        names = ["ApproximateNumberOfMessagesDelayed"]
        return int(self.client.get_queue_attributes(QueueUrl=self.url, AttributeNames=names)["Attributes"][names[0]])

    def run_relay(self) -> list[str]:
        """Pass on all messages that can be received; return their kinds."""
        kinds = []
        while messages := self.client.receive_message(
            QueueUrl=self.url, MaxNumberOfMessages=10, AttributeNames=["All"]
        ).get("Messages"):
            for message in messages:
                kinds.append(json.loads(message["Body"])["kind"])
                record = {**message, "eventSource": "aws:sqs"}
                assert relay([record], self._sfn.client()) == []
                self.client.delete_message(QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"])
        return kinds


def test_orderly_end_is_left_to_the_relay(watched: WatchedAws, sfn_strict: StrictStepFunctions) -> None:
    """Exit code 0 says that the report is in the queue: no failure follows it, however long the relay lags."""
    queue, token = Queue(watched, sfn_strict), sfn_strict.issue()
    SqsTarget(queue.url, token, queue.client).success(DOCUMENT)
    for _ in range(2):
        assert queue.watcher().handle(stopped_event(token, 0)) == ["left to the relay"]
    assert queue.run_relay() == ["success"]
    assert sfn_strict.success(token)["result"] == {"rows": 3}
    assert queue.watcher().handle(stopped_event(token, 0)) == ["closed"]


def test_success_that_is_still_queued_wins(watched: WatchedAws, sfn_strict: StrictStepFunctions) -> None:
    """A container killed after it handed its success over: the failure is held back until the relay must have it."""
    queue, token = Queue(watched, sfn_strict), sfn_strict.issue()
    SqsTarget(queue.url, token, queue.client).success(DOCUMENT)
    for _ in range(2):
        assert queue.watcher(delay=1).handle(stopped_event(token, 137)) == ["queued"]
    assert sfn_strict.count("SendTaskFailure") == 0
    kinds = queue.run_relay()
    while kinds.count("failure") < 2:
        kinds += queue.run_relay()
    assert sorted(kinds) == ["failure", "failure", "success"]
    assert kinds[0] == "success"
    assert sfn_strict.success(token)["result"] == {"rows": 3}


def test_first_in_first_out_queue_keeps_the_order_by_itself(
    watched: WatchedAws, sfn_strict: StrictStepFunctions
) -> None:
    """In a FIFO queue the failure stands behind the success, whatever the exit code, without a delay."""
    queue, token = Queue(watched, sfn_strict, fifo=True), sfn_strict.issue()
    SqsTarget(queue.url, token, queue.client).success(DOCUMENT)
    assert queue.watcher().handle(stopped_event(token, 0)) == ["queued"]
    success, failure = queue.sent
    assert success["MessageGroupId"] == failure["MessageGroupId"]
    assert "DelaySeconds" not in failure
    assert queue.run_relay() == ["success", "failure"]
    assert sfn_strict.success(token)["result"] == {"rows": 3}


def test_success_on_its_way_into_a_first_in_first_out_queue_wins(
    watched: WatchedAws, sfn_strict: StrictStepFunctions
) -> None:
    """The grace comes before the queue: what the network still held when the event came stands in front."""
    queue, token, waits = Queue(watched, sfn_strict, fifo=True), sfn_strict.issue(), list[float]()

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        SqsTarget(queue.url, token, queue.client).success(DOCUMENT)

    settings = WatchSettings(queue=queue.url)
    clock = Clock()
    watcher = Watcher(settings, states=sfn_strict.client(), queues=queue.client, clock=clock, sleep=sleep)
    assert watcher.handle(stopped_event(token, 137)) == ["queued"]
    assert (queue.run_relay(), waits) == (["success", "failure"], [10.0])
    assert sfn_strict.success(token)["result"] == {"rows": 3}


@pytest.mark.parametrize(
    ("code", "stop", "delay"),
    [(137, "SpotInterruption", 300), (3, "EssentialContainerExited", 900), (None, "TaskFailedToStart", 300)],
)
def test_silent_death_goes_through_the_queue(
    watched: WatchedAws, sfn_strict: StrictStepFunctions, code: int | None, stop: str, delay: int
) -> None:
    """The failure is a report as a container's own would be, held back for longer than the relay lags."""
    queue, token = Queue(watched, sfn_strict), sfn_strict.issue()
    assert queue.watcher().handle(stopped_event(token, code, stop=stop)) == ["queued"]
    (sent,) = queue.sent
    message = json.loads(sent["MessageBody"])
    assert (sent["DelaySeconds"], message["kind"]) == (delay, "failure")
    assert json.loads(message["cause"])["stopCode"] == stop
    assert queue.waiting() == 1


def test_failure_through_the_queue_fails_the_state(watched: WatchedAws, sfn_strict: StrictStepFunctions) -> None:
    """Without a success the failure arrives, by the relay's hand."""
    queue, token = Queue(watched, sfn_strict, fifo=True), sfn_strict.issue()
    assert queue.watcher().handle(stopped_event(token, 137)) == ["queued"]
    assert queue.run_relay() == ["failure"]
    error, cause = sfn_strict.failure(token)
    assert (error, cause["containers"]) == ("Stepout.ContainerDied", [{"name": "job", "exitCode": 137}])


@pytest.mark.parametrize("url", ["sqs:garbage", "sqs://user@sqs.eu-west-1.amazonaws.com/123456789012/reports"])
def test_queue_that_cannot_be_one_is_no_obstacle(sfn_strict: StrictStepFunctions, url: str) -> None:
    """A task whose targets were wrong died of that, and reported nothing: its state is failed all the same."""
    token, clock = sfn_strict.issue(), Clock()
    watcher = Watcher(WatchSettings(), states=sfn_strict.client(), clock=clock, sleep=clock.sleep)
    assert watcher.handle(stopped_event(token, 2, STEPOUT_TARGETS=url)) == ["failed"]
    assert sfn_strict.failure(token)[0] == "Stepout.ContainerDied"


def test_queue_of_the_task_itself_counts(watched: WatchedAws, sfn_strict: StrictStepFunctions) -> None:
    """A queue on the watcher's list is used for tasks whose overrides name it: a failure never overtakes a success."""
    queue, token = Queue(watched, sfn_strict), sfn_strict.issue()
    watcher = Watcher(WatchSettings(queues=(queue.url,)), states=sfn_strict.client(), queues=queue.client)
    event = stopped_event(token, 137, STEPOUT_TARGETS=f"sqs:{queue.url} stdout:")
    assert watcher.handle(event) == ["queued"]
    assert sfn_strict.count("SendTaskFailure") == 0


class Stranger(BaseHTTPRequestHandler):
    """Whoever hoped for a task token."""

    heard: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        """Take it."""
        self.heard.append(self.path)
        self.send_error(500)

    do_GET = do_POST  # noqa: N815 - the name is http.server's

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def stranger(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server of somebody else's; the watcher builds its own clients."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    Stranger.heard.clear()
    with serving(Stranger) as endpoint:
        yield endpoint


OTHERS: dict[str, str] = {
    "a host of its own": "sqs:{stranger}/000000000000/reports",
    "a host of its own, first in, first out": "sqs:{stranger}/000000000000/reports.fifo",
    "another's interface endpoint": "sqs://vpce-0a1b-2c3d.sqs.eu-west-1.vpce.amazonaws.com/123456789012/reports",
    "another's load balancer": "sqs://mine.elb.eu-west-1.amazonaws.com/123456789012/reports",
    "another account": "sqs://sqs.eu-west-1.amazonaws.com/999999999999/reports",
    "another name": "sqs://sqs.us-east-1.amazonaws.com/123456789012/other",
}


@pytest.mark.parametrize("url", OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize("listed", [(), ("https://sqs.us-east-1.amazonaws.com/123456789012/listed",)], ids=len)
def test_no_queue_of_an_event_is_posted_to(
    sfn_strict: StrictStepFunctions, stranger: str, url: str, listed: tuple[str, ...]
) -> None:
    """A queue that is not on the watcher's list gets no token, wherever it is, and Step Functions no failure."""
    token, clock = sfn_strict.issue(), Clock()
    watcher = Watcher(WatchSettings(queues=listed), states=sfn_strict.client(), clock=clock, sleep=clock.sleep)
    with pytest.raises(ConfigurationError, match="STEPOUT_WATCH_QUEUES") as caught:
        watcher.handle(stopped_event(token, 137, STEPOUT_TARGETS=url.format(stranger=stranger)))
    assert token not in str(caught.value)
    assert Stranger.heard == []
    assert sfn_strict.count("SendTaskFailure") == 0


def test_the_host_in_an_event_is_not_looked_at(
    watched: WatchedAws, sfn_strict: StrictStepFunctions, stranger: str
) -> None:
    """A queue of the list that is named with another host is the one of the list."""
    queue, token = Queue(watched, sfn_strict), sfn_strict.issue()
    path = queue.url.partition("://")[2].partition("/")[2]
    watcher = Watcher(WatchSettings(queues=(queue.url,)), states=sfn_strict.client())
    assert watcher.handle(stopped_event(token, 137, STEPOUT_TARGETS=f"sqs:{stranger}/{path}")) == ["queued"]
    assert queue.waiting() == 1
    assert Stranger.heard == []


def test_settings_of_an_event_are_not_the_watchers(sfn_strict: StrictStepFunctions, stranger: str) -> None:
    """Endpoints, regions and tables among the overrides are the container's, and change nothing here."""
    token, clock = sfn_strict.issue(), Clock()
    watcher = Watcher(WatchSettings(), states=sfn_strict.client(), clock=clock, sleep=clock.sleep)
    named = {"AWS_ENDPOINT_URL": stranger, "AWS_ENDPOINT_URL_SQS": stranger, "AWS_ENDPOINT_URL_STEPFUNCTIONS": stranger}
    named |= {"STEPOUT_TOKEN_TABLE": "theirs", "STEPOUT_OUTPUT": "s3://theirs/key", "STEPOUT_BUCKET": "theirs"}
    assert watcher.handle(stopped_event(token, 137, AWS_REGION="eu-north-1", **named)) == ["failed"]
    assert sfn_strict.failure(token)[0] == "Stepout.ContainerDied"
    assert Stranger.heard == []


def test_an_orderly_end_needs_no_list(sfn_strict: StrictStepFunctions, stranger: str) -> None:
    """Nothing is sent after exit code 0 where reports go through a standard queue, whichever it is."""
    token, clock = sfn_strict.issue(), Clock()
    watcher = Watcher(WatchSettings(), states=sfn_strict.client(), clock=clock, sleep=clock.sleep)
    event = stopped_event(token, 0, STEPOUT_TARGETS=f"sqs:{stranger}/000000000000/reports")
    assert watcher.handle(event) == ["left to the relay"]
    assert Stranger.heard == []


def test_the_list_is_read_from_the_environment() -> None:
    """URLs separated by white space, each of which must name a queue."""
    urls = ("https://sqs.eu-west-1.amazonaws.com/123456789012/a", "sqs://sqs.eu-west-1.amazonaws.com/123456789012/b")
    assert WatchSettings.from_env({"STEPOUT_WATCH_QUEUES": f" {urls[0]}\n{urls[1]} "}).queues == urls
    with pytest.raises(ConfigurationError, match="queue"):
        WatchSettings.from_env({"STEPOUT_WATCH_QUEUES": f"{urls[0]} reports"})
