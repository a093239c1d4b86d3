"""The relay: a Lambda between a queue and Step Functions. Handler: ``stepout.callbacks.relay.handler``.

Containers put reports into the queue (``stepout.callbacks.targets.sqs``); the relay checks each output and passes the
report on. Its event source mapping must have ``FunctionResponseTypes: ["ReportBatchItemFailures"]``: messages
that it lists as failed stay in the queue and come again; those that never can be relayed end in the dead-letter queue.
All others are deleted.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from stepout.callbacks.delivery.clients import build_client
from stepout.callbacks.delivery.failure import error_of, fit_cause
from stepout.callbacks.delivery.logs import redacted_logs
from stepout.callbacks.delivery.redaction import Redactor
from stepout.callbacks.targets.messages import Report, parse_report
from stepout.callbacks.targets.sfn import StepFunctionsTarget
from stepout.schemas.errors import (
    ConfigurationError,
    InvalidDocumentError,
    InvalidTokenError,
    OutputTooLargeError,
    TaskClosedError,
)
from stepout.schemas.output import TaskOutput
from stepout.schemas.runtime.process import PerProcess
from stepout.schemas.text.foreign_text import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mypy_boto3_stepfunctions import SFNClient

_log = logger("stepout.callbacks.relay")

_MAP_IT: Final = "map its queue to it"
_LONGEST_TIME: Final = 20

_WORKERS: Final = 8
_CONNECT, _READ = 2.0, 5.0
_RESERVE: Final = _CONNECT + _READ + 1.0
"""Seconds that are left when the last try may begin: it can take so long, and the answer must still get out."""


@dataclass(frozen=True, kw_only=True)
class _Message:
    """One message of the queue: its report, unless it is unreadable, and what it must not overtake."""

    id: str
    report: Report | None
    group: str
    fifo: bool
    sent: int


def make_handler(client: SFNClient | None = None) -> Callable[[Any, Any], dict[str, Any]]:
    """Return a Lambda handler of its own, for example with a client that assumes a role.

    Args:
        client: A Step Functions client, used as it is; one is built at the first event, and kept for the next.

    Returns:
        A function of an SQS event (or a pipe's list of records) and Lambda's context.
    """
    kept = [PerProcess(None, client, name="Step Functions client")] if client is not None else []

    def handle(event: Any, context: Any) -> dict[str, Any]:
        records = _records(event)
        if not kept:
            kept.append(PerProcess(_client))
        failed = relay(records, kept[0].get(), seconds=_seconds(context))
        return {"batchItemFailures": [{"itemIdentifier": identifier} for identifier in failed]}

    return handle


handler = make_handler()
"""The Lambda handler."""


def relay(
    records: Iterable[Mapping[str, Any]],
    client: SFNClient | None = None,
    *,
    seconds: float = 20.0,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> list[str]:
    """Pass reports on to Step Functions.

    Reports of one token keep their order; different tokens go side by side. A report of a closed
    task counts as relayed. A heartbeat that cannot be passed on is dropped: the next one comes before a redelivery.

    Args:
        records: SQS messages, as Lambda's event or ``receive_message`` has them.
        client: A boto3 Step Functions client; one is built if none is given.
        seconds: For all of them, tries again included.
        clock: Seconds, monotonic.
        sleep: Waits so many seconds.

    Returns:
        The ids of the messages that must stay in the queue, in order: unreadable ones, those of invalid tokens, those
        that Step Functions did not take in time, and in a first-in-first-out queue what comes after one of these.

    Raises:
        ConfigurationError: A record is no message of a queue: it has no id, so it cannot be listed. The others have
            been passed on, and count as relayed when they come again.
    """
    read = [_message(record) for record in records]
    messages = [message for message in read if message is not None]
    failed = _relay_all(messages, client, seconds=seconds, clock=clock, sleep=sleep)
    if strangers := len(read) - len(messages):
        raise ConfigurationError(f"{strangers} of {len(read)} records are no messages of SQS: {_MAP_IT}")
    return failed


def _relay_all(
    messages: list[_Message],
    client: SFNClient | None,
    *,
    seconds: float,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> list[str]:
    groups: dict[str, list[_Message]] = {}
    for message in messages:
        groups.setdefault(message.group, []).append(message)
    if not groups:
        return []
    client = client or _client()
    # Each worker has so many groups one after the other: one that is throttled may not use up the others' time.
    share = seconds / -(-len(groups) // _WORKERS)
    end = clock() + seconds

    def target_of(token: str) -> StepFunctionsTarget | None:
        if (left := min(share, end - clock())) <= 0:
            return None
        target = StepFunctionsTarget(token, client, clock=clock, sleep=sleep)
        target.limit(left)  # For all its reports: a refused output is followed by a failure.
        return target

    tokens = {message.report.token for message in messages if message.report is not None}
    with redacted_logs(Redactor(tokens)), ThreadPoolExecutor(min(_WORKERS, len(groups)), "stepout-relay") as pool:
        listed = pool.map(lambda group: _relay_group(group, target_of), groups.values())
        failed = {identifier for identifiers in listed for identifier in identifiers}
    return [message.id for message in messages if message.id in failed]


def _client() -> SFNClient:
    """A client whose one try ends in time for the function's answer: see ``_RESERVE``."""
    client: SFNClient = build_client("stepfunctions", connect_timeout=_CONNECT, read_timeout=_READ)
    return client


def _relay_group(group: list[_Message], target_of: Callable[[str], StepFunctionsTarget | None]) -> list[str]:
    """Relay what must keep its order; return what failed."""
    if not group[0].fifo:
        group = sorted(group, key=lambda message: message.sent)
    failed: list[str] = []
    over: set[str] = set()
    stuck: set[str] = set()
    for index, message in enumerate(group):
        report = message.report
        if report is not None and (report.token in over or _superseded(report, group[index + 1 :])):
            _log.debug("the %s of %s needs no relaying (message %s)", report.kind, _whose(report), message.id)
        elif report is not None and not _overtakes(report, stuck) and _relay_one(report, message.id, target_of):
            if report.kind != "heartbeat":
                over.add(report.token)
        else:
            failed.append(message.id)
            stuck |= {report.token} if report is not None else set()
            if message.fifo:
                return [*failed, *(later.id for later in group[index + 1 :])]
    return failed


def _overtakes(report: Report, stuck: set[str]) -> bool:
    """Whether an earlier outcome of the same task, which is the true one, would come after this one."""
    return report.kind != "heartbeat" and report.token in stuck


def _superseded(report: Report, later: list[_Message]) -> bool:
    """Whether this is a heartbeat, and a later report of the same task is here already."""
    tokens = (message.report.token for message in later if message.report is not None)
    return report.kind == "heartbeat" and report.token in tokens


def _relay_one(report: Report, identifier: str, target_of: Callable[[str], StepFunctionsTarget | None]) -> bool:
    """Return whether the message can be deleted."""
    what = f"the {report.kind} of {_whose(report)} (message {identifier})"
    try:
        target = target_of(report.token)
        if target is None:
            _log.warning("%s was not tried: the time is up", what)
            return report.kind == "heartbeat"
        _report(report, target)
    except TaskClosedError as closed:
        _log.info("%s is done with: %s", what, closed)
    except InvalidTokenError as error:
        _log.error("%s stays in the queue, for the dead-letter queue in the end: %s", what, error)
        return False
    except Exception as error:  # noqa: BLE001 - one message must not take the others with it
        kept = report.kind != "heartbeat"
        _log.log(logging.ERROR if kept else logging.WARNING, "%s %s: %s", what, "failed" if kept else "is lost", error)
        return not kept
    return True


def _report(report: Report, target: StepFunctionsTarget) -> None:
    if report.kind == "heartbeat":
        target.heartbeat()
    elif report.kind == "failure":
        target.failure(_allowed(report.error), report.cause)
    else:
        try:
            target.success(_checked(report.output, target.redactor))
        except (InvalidDocumentError, OutputTooLargeError) as refused:
            _log.error("the output of %s is refused, and the task fails: %s", _whose(report), refused)
            cause = {"message": str(refused), "traceback": "", "run": report.run.to_dict()}
            target.failure(error_of(refused), fit_cause(target.redactor.json(cause)))


def _checked(output: Any, redactor: Redactor) -> dict[str, Any]:
    """Return the output, unchanged, if it is a task output.

    Raises:
        InvalidDocumentError: The output is invalid, or holds the token.
    """
    TaskOutput.from_dict(output)
    if places := redactor.found(output):
        raise InvalidDocumentError(f"the task output holds a secret at {', '.join(places)}. It was not passed on")
    document: dict[str, Any] = output
    return document


def _allowed(error: str) -> str:
    """Return an error name outside ``States.*``, which is Step Functions' own; other languages' programs may use it."""
    return f"Job.{error}" if error.casefold().startswith("states.") else error


def _whose(report: Report) -> str:
    run = report.run
    return " of ".join(filter(None, (run.state or "a task", run.execution)))


def _records(event: Any) -> list[Mapping[str, Any]]:
    """Return an event's records.

    Raises:
        ConfigurationError: The event is not from SQS.
    """
    found = event.get("Records") if isinstance(event, dict) else event
    if not isinstance(found, list) or (found and not any(_is_message(each) for each in found)):
        raise ConfigurationError(f"the relay was called with something other than an event of SQS: {_MAP_IT}")
    # ``relay`` refuses a record that is no message, after it has relayed the others.
    return [each if _is_message(each) else {} for each in found]


def _is_message(record: Any) -> bool:
    return isinstance(record, dict) and "messageId" in record and record.get("eventSource") == "aws:sqs"


def _message(record: Any) -> _Message | None:
    """Read a record; ``None`` if it is no message. A faulty record must not stop the other records."""
    # receive_message writes these names with capitals, Lambda's event without.
    known = record.items() if isinstance(record, Mapping) else ()
    members = {name[:1].lower() + name[1:]: value for name, value in known if isinstance(name, str)}
    identifier, attributes = members.get("messageId"), members.get("attributes")
    if not isinstance(identifier, str) or not identifier:
        return None
    attributes = attributes if isinstance(attributes, Mapping) else {}
    report = None
    try:
        report = parse_report(members.get("body"))
    except InvalidDocumentError as error:
        where = "it stays in the queue, for the dead-letter queue in the end"
        _log.error("message %s cannot be read, %s: %s", identifier, where, error)
    group = attributes.get("MessageGroupId")
    fifo = "SequenceNumber" in attributes
    own = f"message {identifier}" if report is None else f"token {report.token}"
    sent = str(attributes.get("SentTimestamp", ""))[:_LONGEST_TIME]
    return _Message(
        id=identifier,
        report=report,
        group=f"group {group}" if fifo and group else own,
        fifo=fifo,
        sent=int(sent) if sent.isdecimal() else 0,
    )


def _seconds(context: Any) -> float:
    """Return the seconds in which a try may begin, so that the last one ends before Lambda ends the process."""
    left = getattr(context, "get_remaining_time_in_millis", None)
    seconds = float(left()) / 1000 if callable(left) else 30.0
    return max(seconds - _RESERVE, seconds / 2)
