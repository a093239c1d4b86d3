"""SNS and EventBridge targets notify others of a task's outcome. They are never primary, and never fail the task.

Both carry ``{"stepout": "notification/1", "outcome": "success", "run": {…}, "output": {…}}``, or ``error`` and
``cause`` in place of ``output``. A message that is too large for the service leaves these out and has
``"shortened": true``.
"""

from __future__ import annotations

import re
import uuid
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from stepout.callbacks.delivery.clients import build_client
from stepout.callbacks.delivery.retry_loop import RetryLoop
from stepout.callbacks.targets.local import failure_document
from stepout.callbacks.targets.messages import group_of
from stepout.schemas import RunIdentity, dump_json
from stepout.schemas.errors import ConfigurationError, TaskError
from stepout.schemas.runtime.process import PerProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stepout.callbacks.targets.context import TargetContext

NOTIFICATION_VERSION: Final = "notification/1"

_MOST: Final = 262_144
"""Bytes of an SNS message, its attributes included (SNS quotas); EventBridge takes no less."""
_BESIDE: Final = 2_048
"""Bytes that attributes, subject, source and detail type have at most."""
_PATIENCE: Final = 20.0
_MAY_PUBLISH: Final = (
    "Allow sns:Publish on the topic (and kms:GenerateDataKey, kms:Decrypt on its key) to the task's role"
)

_TOPIC = re.compile(r"arn:aws[a-z0-9-]*:sns:(?P<region>[a-z0-9-]+):[0-9]{12}:(?P<name>[A-Za-z0-9_-]{1,256}(?:\.fifo)?)")
_BUS_ARN = re.compile(
    r"arn:aws[a-z0-9-]*:events:(?P<region>[a-z0-9-]+):[0-9]{12}:event-bus/(?P<name>[/.A-Za-z0-9_-]{1,256})"
)
_BUS = re.compile(r"(?!/)[/.A-Za-z0-9_-]{1,256}")  # no name begins with a slash: events://BUS is a mistake


def sns_from_url(url: str, context: TargetContext) -> SnsTarget:
    """Make the target that ``sns:arn:aws:sns:REGION:ACCOUNT:TOPIC`` means.

    Raises:
        ConfigurationError: The URL names no topic, or no client could be built.
    """
    target = SnsTarget(url.partition(":")[2], run=context.run)
    target.connect()
    return target


def events_from_url(url: str, context: TargetContext) -> EventBridgeTarget:
    """Make the target that ``events:default``, ``events:BUS`` or ``events:arn:aws:events:…:event-bus/BUS`` means.

    Raises:
        ConfigurationError: The URL names no event bus, or no client could be built.
    """
    target = EventBridgeTarget(url.partition(":")[2], run=context.run, environ=context.environ)
    target.connect()
    return target


class _Notifier:
    """What both targets have in common: they send one message for each outcome.

    Args:
        named: The target's name in ``repr`` and messages.
        client: The service's client.
        run: Identifies the run that reports.
        delivery: Retries a request that failed.
        request_of: Makes the request from the outcome's name, the text and the run; called once, so all tries agree.
        send: Sends a request once.
    """

    def __init__(  # noqa: PLR0913 - what two services have of their own
        self,
        named: str,
        client: PerProcess[Any],
        run: RunIdentity,
        delivery: RetryLoop,
        *,
        request_of: Callable[[str, str, RunIdentity], dict[str, Any]],
        send: Callable[[Any, dict[str, Any]], object],
    ) -> None:
        self._named, self._client, self._run = named, client, run
        self._delivery, self._request_of, self._send = delivery, request_of, send

    def __repr__(self) -> str:
        return self._named

    def limit(self, seconds: float) -> None:
        """Make every notification give up so many seconds from now; callable from any thread."""
        self._delivery.limit(seconds)

    def success(self, document: Mapping[str, Any]) -> None:
        """Notify of a success.

        Raises:
            TaskError: The notification could not be delivered.
        """
        self._tell("success", {"output": dict(document)})

    def failure(self, error: str, cause: str) -> None:
        """Notify of a failure.

        Raises:
            TaskError: The notification could not be delivered.
        """
        self._tell("failure", failure_document(error, cause))

    def heartbeat(self) -> None:
        """Do nothing: this target does not pass on heartbeats."""

    def connect(self) -> Any:
        """Return the client, built now if need be.

        Raises:
            ConfigurationError: No client could be built, e.g. because no region is set.
        """
        return self._client.get()

    def _tell(self, outcome: str, more: dict[str, Any]) -> None:
        request = self._request_of(outcome, _text(outcome, self._run, more), self._run)
        what = f"the notification of a {outcome}, to {self!r}"
        self._delivery.run(what, lambda: self._send(self.connect(), request))


class SnsTarget(_Notifier):
    """Publishes the outcome to a topic; the attributes ``outcome`` and ``state`` are for subscription filters.

    In a first-in-first-out topic the messages of one execution keep their order.

    Args:
        topic_arn: The topic.
        client: A boto3 SNS client, used as it is; one for the topic's region is built when it is needed.
        run: Identifies the run that reports.
        delivery: Retries a request that failed; by default for 20 seconds.

    Raises:
        ConfigurationError: The ARN is invalid.
    """

    def __init__(
        self,
        topic_arn: str,
        client: Any = None,
        *,
        run: RunIdentity | None = None,
        delivery: RetryLoop | None = None,
    ) -> None:
        topic = _TOPIC.fullmatch(topic_arn)
        if topic is None:
            raise ConfigurationError("an SNS topic is written sns:arn:aws:sns:REGION:ACCOUNT:TOPIC in STEPOUT_TARGETS")
        request = partial(_fifo_message if topic["name"].endswith(".fifo") else _message, topic_arn)
        super().__init__(
            f"SnsTarget({topic_arn!r})",
            PerProcess(lambda: build_client("sns", region_name=topic["region"]), client, name="SNS client"),
            run or RunIdentity(),
            delivery or RetryLoop(_MAY_PUBLISH, patience=_PATIENCE),
            request_of=request,
            send=lambda sns, message: sns.publish(**message),
        )


class EventBridgeTarget(_Notifier):
    """Puts the outcome onto an event bus: source ``stepout``, detail type ``stepout task success`` or ``… failure``.

    Args:
        bus: The name of an event bus, or its ARN.
        client: A boto3 EventBridge client (``events``), used as it is; one is built when it is needed.
        run: Identifies the run that reports.
        environ: The task's environment: it gives the region where boto3 knows none; ``None`` for ``os.environ``.
        delivery: Retries a request that failed; by default for 20 seconds.

    Raises:
        ConfigurationError: The name of the event bus is invalid.
    """

    def __init__(
        self,
        bus: str = "default",
        client: Any = None,
        *,
        run: RunIdentity | None = None,
        environ: Mapping[str, str] | None = None,
        delivery: RetryLoop | None = None,
    ) -> None:
        arn = _BUS_ARN.fullmatch(bus)
        if arn is None and not _BUS.fullmatch(bus):
            raise ConfigurationError("an event bus is written events:default, events:BUS or events: and the bus's ARN")
        where: dict[str, Any] = {"region_name": arn["region"]} if arn else {"environ": environ}
        super().__init__(
            f"EventBridgeTarget({bus!r})",
            PerProcess(lambda: build_client("events", **where), client, name="EventBridge client"),
            run or RunIdentity(),
            delivery or RetryLoop("Allow events:PutEvents on the event bus to the task's role.", patience=_PATIENCE),
            request_of=partial(_entry, bus),
            send=_put_entry,
        )


def _message(topic_arn: str, outcome: str, text: str, run: RunIdentity) -> dict[str, Any]:
    values = {"outcome": outcome, "state": run.state}
    attributes = {name: {"DataType": "String", "StringValue": value} for name, value in values.items() if value}
    subject = _subject(f"{run.state or 'A task'}: {outcome}")
    return {"TopicArn": topic_arn, "Message": text, "Subject": subject, "MessageAttributes": attributes}


def _fifo_message(topic_arn: str, outcome: str, text: str, run: RunIdentity) -> dict[str, Any]:
    order = {"MessageGroupId": group_of(run.execution or run.run_id or ""), "MessageDeduplicationId": uuid.uuid4().hex}
    return {**_message(topic_arn, outcome, text, run), **order}


def _entry(bus: str, outcome: str, text: str, run: RunIdentity) -> dict[str, Any]:
    return {
        "EventBusName": bus,
        "Source": "stepout",
        "DetailType": f"stepout task {outcome}",
        "Detail": text,
        "Resources": [run.execution] if run.execution else [],
    }


def _put_entry(client: Any, entry: Mapping[str, Any]) -> None:
    answer = client.put_events(Entries=[entry])
    if answer.get("FailedEntryCount"):
        raise _EntryRefusedError(answer["Entries"][0])


class _EntryRefusedError(TaskError):
    """PutEvents answered 200 and named an entry that it did not take; callers read this like an error of boto3."""

    def __init__(self, entry: Mapping[str, Any]) -> None:
        code, message = str(entry.get("ErrorCode")), str(entry.get("ErrorMessage", ""))
        super().__init__(f"{code}: {message}")
        # The service model names two temporary errors: InternalFailure and ThrottlingException.
        status = 500 if code in ("InternalFailure", "InternalException") else 400
        self.response = {
            "Error": {"Code": code, "Message": message},
            "ResponseMetadata": {"HTTPStatusCode": status},
        }


def _text(outcome: str, run: RunIdentity, more: dict[str, Any]) -> str:
    """Return the document as text; leave out the output, error and cause if it would be too large."""
    document: dict[str, Any] = {"stepout": NOTIFICATION_VERSION, "outcome": outcome, "run": run.to_dict()}
    whole = dump_json({**document, **more})
    if len(whole) <= _MOST - _BESIDE:
        return whole.decode()
    kept = {"error": more["error"]} if "error" in more else {}
    return dump_json({**document, **kept, "shortened": True}).decode()


def _subject(text: str) -> str:
    """Printable ASCII, at most 100 characters, begins with a letter or a number (API reference of Publish)."""
    plain = re.sub(r"[^ -~]", "?", text)[:100]
    return plain if plain[0].isalnum() else f"Task {plain}"[:100]
