"""Handlers answer shapes that AWS does not produce with our errors, and one input's fault never touches another's."""

from __future__ import annotations

import contextlib
import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import boto3
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.hostile_json import ANY_TEXT, MANY, POISON, VALUES
from support.watch_events import KEYS, Clock, stopped_event

from stepout.callbacks import named_failure
from stepout.callbacks.ecs_watch import Watcher, WatchSettings, make_handler
from stepout.callbacks.relay import batch as relay_room
from stepout.callbacks.targets.pull_reading import read_at
from stepout.callbacks.targets.sqs import QueuePlace
from stepout.callbacks.targets.token_table import TokenTable
from stepout.callbacks.worker.sqs import SqsSource
from stepout.schemas.errors import ConfigurationError, StepoutError, TaskError

if TYPE_CHECKING:
    from collections.abc import Callable

ODD: list[Any] = [
    None,
    [],
    "",
    "x",
    0,
    3.5,
    True,
    {},
    {"Records": None},
    {"Records": "x"},
    {"Records": {}},
    {"Records": [None]},
]
ODD += [{"Records": [[]]}, {"Records": [{"messageId": None, "eventSource": "aws:sqs"}]}, [[None]], {"detail": None}]
ODD += [{"url": None}, {"url": 3}, {"url": []}, {"url": "s3://b/k", "execution": 3}, {"url": "s3://b/k", "state": []}]

DOCUMENT = {"stepout": "output/1", "artifacts": {}}


class Accepting:
    """A boto3 client of Step Functions whose requests end before they are sent: every report is taken."""

    def __init__(self, refuses: str = "") -> None:
        self.client = boto3.client("stepfunctions", **KEYS)
        self.reported: list[str] = []
        self.causes: list[str] = []
        self.refuses = refuses
        self.client.meta.events.register("before-call.sfn", cast("Any", self._take))

    def _take(self, model: Any, params: Any, **_more: Any) -> tuple[Any, dict[str, Any]]:
        body = json.loads(params["body"])
        if model.name == "SendTaskFailure" and body["taskToken"] == self.refuses:
            raise RuntimeError("broken")
        if model.name != "SendTaskHeartbeat":
            self.reported.append(body["taskToken"])
            self.causes += [body["cause"]] if "cause" in body else []
        return SimpleNamespace(status_code=200), {}


ACCEPTING = Accepting()


def _watcher(accepting: Accepting = ACCEPTING) -> Watcher:
    clock = Clock()
    return Watcher(WatchSettings(grace=0), states=accepting.client, clock=clock, sleep=clock.sleep)


def _relayed(event: Any) -> object:
    return relay_room.make_handler(ACCEPTING.client)(event, None)


def _watched(event: Any) -> object:
    return make_handler(_watcher())(event, None)


def _named(event: Any) -> object:
    try:
        return named_failure.handler(event)
    except Exception as error:
        # The class bears the error's name, for Step Functions: it is made of one of ours.
        if type(error).__module__ == "stepout":
            raise StepoutError(str(error)) from None
        raise


HANDLERS: dict[str, Callable[[Any], object]] = {"relay": _relayed, "ecs_watch": _watched, "named_failure": _named}


@pytest.fixture(autouse=True)
def _no_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    """A URL in an event leads nowhere."""
    monkeypatch.setattr(named_failure, "read_at", lambda _url, _run, **_reached: None)


@pytest.mark.parametrize("name", HANDLERS)
@pytest.mark.parametrize("event", ODD, ids=repr)
def test_an_odd_event_is_our_error(name: str, event: object) -> None:
    """What is no event at all is refused by name, and never by a foreign exception."""
    with contextlib.suppress(StepoutError):
        HANDLERS[name](event)


@pytest.mark.parametrize("name", HANDLERS)
@pytest.mark.parametrize("event", [None, [None], "x", 3, True], ids=repr)
def test_no_object_is_refused(name: str, event: object) -> None:
    """Nothing is done, and whoever called it hears why."""
    with pytest.raises(StepoutError):
        HANDLERS[name](event)


@pytest.mark.parametrize("name", HANDLERS)
@MANY
@given(event=VALUES)
def test_any_event_is_handled_or_refused(name: str, event: object) -> None:
    """Whatever JSON it is."""
    with contextlib.suppress(StepoutError):
        HANDLERS[name](event)


def _stopped(detail: dict[str, Any], inner: list[Any], variables: list[Any]) -> dict[str, Any]:
    event = stopped_event("AAAA", 137, STEPOUT_EXECUTION="arn", STEPOUT_STATE="Mask")
    override = event["detail"]["overrides"]["containerOverrides"]
    override[0]["environment"] += variables
    override += inner
    event["detail"] |= detail
    return event


DETAILS = st.dictionaries(
    st.sampled_from(
        [
            "containers",
            "stopCode",
            "stoppedReason",
            "stoppedAt",
            "clusterArn",
            "taskDefinitionArn",
            "taskArn",
            "lastStatus",
        ]
    ),
    VALUES,
)
VARIABLES = st.lists(
    st.fixed_dictionaries({"name": ANY_TEXT | VALUES, "value": ANY_TEXT | VALUES}) | VALUES, max_size=4
)


@MANY
@given(event=st.builds(_stopped, DETAILS, st.lists(VALUES, max_size=3), VARIABLES))
@example(event=_stopped({"stoppedReason": "\ud800", "containers": [{"name": "job", "exitCode": 10**5000}]}, [None], []))
@example(event=_stopped({"stoppedAt": "0001-01-01"}, [{"name": 3}], [{"name": "TASK_TOKEN", "value": {}}]))
def test_any_detail_of_a_stopped_task_is_read(event: Any) -> None:
    """A member of another shape is left out: the token beside it still has its failure, or the error is ours."""
    ACCEPTING.reported.clear()
    ACCEPTING.causes.clear()
    try:
        outcomes = _watcher().handle(event)
    except StepoutError:
        return
    assert not outcomes or "AAAA" in ACCEPTING.reported
    assert all(json.loads(cause)["message"] for cause in ACCEPTING.causes)


@MANY
@given(caught=VALUES, given_input=VALUES, cause=ANY_TEXT)
def test_any_caught_error_is_named(caught: Any, given_input: Any, cause: str) -> None:
    """What a ``Catch`` put into the input is another service's word, and may be anything."""
    for event in (
        {"url": "s3://b/k", "caught": caught, "input": given_input},
        {"url": "s3://b/k", "caught": {"Error": caught, "Cause": cause}},
        {"url": "s3://b/k", "caught": {"Cause": {"TaskArn": "arn", "Containers": given_input, "Overrides": caught}}},
    ):
        with contextlib.suppress(StepoutError):
            _named(event)


def test_deep_causes_are_named() -> None:
    """A cause that is nested a hundred thousand times is no reason to fail by another name."""
    for cause in POISON:
        with pytest.raises(Exception, match="reported nothing") as caught:
            named_failure.handler({"url": "s3://b/k", "caught": {"Error": "E", "Cause": cause}})
        assert type(caught.value).__name__ == "Stepout.NothingReported"


def _body(token: str) -> str:
    report = {"stepout": "report/1", "id": "1", "kind": "success", "taskToken": token, "output": DOCUMENT}
    return json.dumps(report)


@pytest.mark.parametrize("body", [*POISON, None, 3, [], {}], ids=lambda body: repr(body)[:20])
def test_a_poison_message_stays_alone_in_the_relay(body: Any) -> None:
    """Its neighbours are reported and deleted, and it alone is listed as failed."""
    client = Accepting()
    bodies = [_body("AAAA"), body, _body("BBBB")]
    records = [{"messageId": f"m{n}", "eventSource": "aws:sqs", "body": text} for n, text in enumerate(bodies)]
    answer = relay_room.make_handler(client.client)({"Records": records}, None)
    assert answer == {"batchItemFailures": [{"itemIdentifier": "m1"}]}
    assert sorted(client.reported) == ["AAAA", "BBBB"]


@MANY
@given(odd=VALUES, attributes=VALUES)
def test_a_record_of_any_shape_stays_alone(odd: Any, attributes: Any) -> None:
    """What has an id is listed; what has none is complained of after the others were reported."""
    client = Accepting()
    good = {"messageId": "good", "eventSource": "aws:sqs", "body": _body("AAAA"), "attributes": attributes}
    with contextlib.suppress(ConfigurationError):
        answer = relay_room.make_handler(client.client)({"Records": [odd, good, None]}, None)
        assert answer is None  # There was a record without an id.
    assert client.reported == ["AAAA"]


@pytest.mark.parametrize("body", [*POISON, None, 3], ids=lambda body: repr(body)[:20])
def test_a_poison_message_stays_alone_in_a_worker(body: Any) -> None:
    """The tasks beside it are begun: what is no task is left to the redrive policy."""
    poison, good = {"MessageId": "p", "ReceiptHandle": "r", "Body": body}, json.dumps({"STEPOUT_TASK_TOKEN": "AAAA"})
    source = _source([poison, {}, {"MessageId": "g", "ReceiptHandle": "r", "Body": good}])
    tokens = [taken.job.token for taken in source.take(10, 1.0) if not taken.job.problems]
    assert tokens[-1] == "AAAA"


@MANY
@given(messages=st.lists(st.dictionaries(st.sampled_from(["MessageId", "ReceiptHandle", "Body"]), VALUES), max_size=3))
def test_messages_of_any_shape_stay_alone(messages: list[dict[str, Any]]) -> None:
    """Whatever a queue answers."""
    good = {"MessageId": "g", "ReceiptHandle": "r", "Body": json.dumps({"STEPOUT_TASK_TOKEN": "AAAA"})}
    assert [taken.job.token for taken in _source([*messages, good]).take(10, 1.0)][-1] == "AAAA"


class _Queue:
    """SQS with these messages."""

    def __init__(self, messages: list[dict[str, Any]]) -> None:
        self.messages = messages

    def receive_message(self, **_asked: Any) -> dict[str, Any]:
        """All of them."""
        return {"Messages": self.messages}

    def get_queue_attributes(self, **_asked: Any) -> dict[str, Any]:
        """A redrive policy."""
        return {"Attributes": {"RedrivePolicy": "{}"}}

    def change_message_visibility(self, **_asked: Any) -> None:
        """Nothing."""


def _source(messages: list[dict[str, Any]]) -> SqsSource:
    place = QueuePlace(url="https://q/1/a", name="a", options={})
    source = SqsSource(place, client=_Queue(messages), visibility=30, poll=0, environ={}, clock=lambda: 0.0)
    source.check()
    return source


def test_one_tokens_fault_leaves_the_others_theirs() -> None:
    """A task with two tokens, of which one cannot be reported now: the other is, and the error comes after it."""
    client, event = Accepting(refuses="AAAA"), stopped_event("AAAA", 137)
    overrides = event["detail"]["overrides"]["containerOverrides"]
    overrides.append({"name": "second", "environment": [{"name": "TASK_TOKEN", "value": "BBBB"}]})
    with pytest.raises(TaskError, match="SendTaskFailure"):
        _watcher(client).handle(event)
    assert client.reported == ["BBBB"]


@MANY
@given(item=VALUES)
def test_a_row_of_any_shape_is_read(item: Any) -> None:
    """A row of the token table that something else wrote is an empty one."""

    class Table:
        def get_item(self, **_asked: Any) -> Any:
            return {"Item": item}

    with contextlib.suppress(StepoutError):
        row = TokenTable("tokens", Table()).find("arn")
        assert row.token is None or isinstance(row.token, str)


def test_no_url_is_our_error() -> None:
    """What names no place is a setting that is wrong."""
    for url in ("", "s3://", "s3://b", "dynamodb://", "dynamodb://t", "\x00", "http://x", "s3://b/../x"):
        with pytest.raises(StepoutError):
            read_at(url)
