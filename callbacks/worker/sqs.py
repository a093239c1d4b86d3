"""Tasks from an SQS queue: long polling, visibility, and deletion after the report.

Facts of the service (SQS developer guide and API reference): delivery is at least once; a visibility timeout, however
often it is extended, ends 12 hours after the message was received; a message is deleted with the handle of its latest
receipt; a queue moves a message to its dead-letter queue once it was received ``maxReceiveCount`` times.
"""

from __future__ import annotations

import math
import os
import threading
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Unpack

from stepout.callbacks.delivery.answers import answer_to, error_code, name_of
from stepout.callbacks.delivery.clients import build_client
from stepout.callbacks.delivery.decisions import Answer
from stepout.callbacks.delivery.retry_loop import RetryLoop
from stepout.callbacks.lifecycle.heartbeat import interval_of
from stepout.callbacks.targets.sqs import queue_place
from stepout.callbacks.worker.job import read_job
from stepout.callbacks.worker.protocols import TakenTask, WorkerOptions
from stepout.callbacks.worker.worker import Worker
from stepout.schemas.errors import ConfigurationError, InvalidDocumentError, InvalidTokenError
from stepout.schemas.runtime.process import PerProcess
from stepout.schemas.text.foreign_text import logger, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from stepout.callbacks.targets.sqs import QueuePlace
    from stepout.callbacks.worker.job import Job

_log = logger("stepout.callbacks.worker")

CEILING = 43_200
"""Seconds after its receipt at which a message becomes visible again, even if its visibility was extended."""

_LONGEST_POLL = 20
_MOST_MESSAGES = 10
_MARGIN = 5
_CONNECTIONS = 50
_SLOWEST = 300.0
"""Seconds between two extensions at most."""

# SQS's errors for a receipt that is no longer valid: a newer receipt came, or the message was deleted.
_LAPSED = frozenset(
    {
        "ReceiptHandleIsInvalid",
        "MessageNotInflight",
        "AWS.SimpleQueueService.MessageNotInflight",
        "InvalidParameterValue",
    }
)


def extension(held: float, visibility: int) -> int:
    """Return the visibility timeout to ask SQS for, in seconds; 0 if SQS would refuse any. Pure.

    Args:
        held: Seconds since the message was received.
        visibility: The wanted timeout, in seconds.

    Examples:
        >>> extension(600, 120), extension(43_150, 120), extension(43_200, 120)
        (120, 45, 0)
    """
    return max(0, min(visibility, math.floor(CEILING - held) - _MARGIN))


@dataclass
class _Lease:
    """One receipt of a message."""

    handle: str
    since: float
    over: bool = False


class _Leases:
    """The receipts of one task: the latest of each message that asked for it."""

    def __init__(self, message_id: str, lease: _Lease) -> None:
        self._lock = threading.Lock()
        self._by_message = {message_id: lease}

    def all(self) -> list[_Lease]:
        with self._lock:
            return list(self._by_message.values())

    def absorb(self, other: _Leases) -> None:
        with self._lock:
            self._by_message.update(other._by_message)


class SqsSource:
    """A queue as a source of tasks.

    Args:
        place: Where the queue is.
        client: A boto3 SQS client, used for the whole of the worker's life; one is built when it is needed.
        visibility: Seconds.
        poll: Seconds of one long poll.
        environ: Says how often tasks send heartbeats if their messages do not.
        clock: Seconds, monotonic.
    """

    returnable = True
    remedy = (
        "Allow sqs:ReceiveMessage, sqs:DeleteMessage, sqs:ChangeMessageVisibility and sqs:GetQueueAttributes to the "
        "worker's role, in the queue's region"
    )

    def __init__(  # noqa: PLR0913 - by keyword, as the worker has them
        self,
        place: QueuePlace,
        *,
        client: Any,
        visibility: int,
        poll: int,
        environ: Mapping[str, str],
        clock: Callable[[], float],
    ) -> None:
        self._name = place.name
        self._queue = {"QueueUrl": place.url}
        self._client = PerProcess(
            # It outwaits a long poll, and serves the tasks' threads, each of which extends and deletes.
            lambda: build_client("sqs", read_timeout=poll + 15.0, connections=_CONNECTIONS, **place.options),
            client,
            name="SQS client",
        )
        self._visibility = visibility
        self._poll = poll
        self._environ = environ
        self._clock = clock
        self._redrives = False
        self._delivery = RetryLoop("Allow sqs:DeleteMessage on the queue to the worker's role.", patience=60.0)

    def __repr__(self) -> str:
        return f"queue {self._name}"

    def check(self) -> None:
        """Warn if unreadable messages would come back again and again, as the queue has no dead-letter queue.

        Raises:
            ConfigurationError: The queue does not exist.
        """
        client = self._client.get()
        try:
            answer = client.get_queue_attributes(**self._queue, AttributeNames=["RedrivePolicy"])
        except Exception as error:
            if answer_to(error) is Answer.MISSING:
                raise ConfigurationError(f"{self!r} does not exist in this account and region") from error
            _log.warning("%r: whether it has a dead-letter queue could not be found out: %s", self, name_of(error))
            return
        self._redrives = bool(answer.get("Attributes", {}).get("RedrivePolicy"))
        if not self._redrives:
            _log.warning("%r has no RedrivePolicy: messages that no worker can read come back until they expire", self)

    def take(self, most: int, patience: float) -> Sequence[TakenTask]:
        """Receive messages; leave those that are not tasks to the queue's redrive policy."""
        answer = self._client.get().receive_message(
            **self._queue,
            MaxNumberOfMessages=min(most, _MOST_MESSAGES),
            # A long poll asks all of the queue's servers; 0 seconds would ask a sample, and miss messages.
            WaitTimeSeconds=min(self._poll, math.ceil(min(patience, self._poll))),
            VisibilityTimeout=self._visibility,
        )
        found = (self._read(message) for message in answer.get("Messages") or ())
        return [taken for taken in found if taken is not None]

    def _read(self, message: Mapping[str, Any]) -> TakenTask | None:
        """Return a message's task; log any fault of the message, so that the other messages' tasks are begun."""
        identity, handle = shown(message.get("MessageId", "?")), shown(message.get("ReceiptHandle"), None)
        leases = _Leases(identity, _Lease(handle, self._clock()))
        try:
            job = read_job(message.get("Body", ""))
            return TakenTask(job=job, name=identity[:8], every=self._interval(job), ticket=leases)
        except (InvalidDocumentError, InvalidTokenError) as error:
            _log.error("message %s cannot be a task and is not deleted: %s", identity, error)
        except Exception:  # noqa: BLE001 - a fault of ours, which the message brings out wherever it is read
            _log.exception("message %s could not be read and is not deleted", identity)
        self._leave(leases)
        return None

    def keep(self, taken: TakenTask) -> float:
        """Extend the visibility of its messages, up to 12 hours after each was received."""
        healthy = [self._extend(lease, taken.name) for lease in taken.ticket.all()]
        return taken.every if all(healthy) else max(1.0, taken.every / 4)

    def absorb(self, running: TakenTask, again: TakenTask) -> None:
        """Take over the newer receipt, and with it another 12 hours."""
        # The older receipt is of no use any more: a message is deleted, and kept invisible, by its latest one.
        running.ticket.absorb(again.ticket)

    def finish(self, taken: TakenTask) -> None:
        """Delete its messages."""
        # All of them: a sender's retry, or a redelivery after 12 hours, is the same task under another receipt. Only
        # once it is settled: a message that was deleted before would be lost with this process.
        for lease in taken.ticket.all():
            try:
                self._delivery.run("DeleteMessage", partial(self._delete, lease.handle), final=_lapsed)
            except Exception as error:  # noqa: BLE001 - it comes back; its task is closed by then
                _log.warning("task %s: its message was not deleted and comes back: %s", taken.name, name_of(error))

    def give_back(self, taken: TakenTask) -> None:
        """Make its messages visible."""
        self._make_visible(taken.ticket)

    def refuse(self, taken: TakenTask) -> None:
        """Leave its messages to the redrive policy."""
        self._leave(taken.ticket)

    def _leave(self, leases: _Leases) -> None:
        """Leave unreadable messages to the dead-letter queue; without one, they come back at long intervals."""
        if self._redrives:
            self._make_visible(leases)

    def _make_visible(self, leases: _Leases) -> None:
        for lease in leases.all():
            try:
                self._make_invisible_for(0, lease)
            except Exception as error:  # noqa: BLE001 - it becomes visible a little later by itself
                _log.info("%r: a message could not be made visible at once: %s", self, name_of(error))

    def _extend(self, lease: _Lease, name: str) -> bool:
        if lease.over:
            return True
        # SQS refuses an extension that would go beyond 12 hours, instead of cutting it short.
        seconds = extension(self._clock() - lease.since, self._visibility)
        if seconds == 0:
            lease.over = True
            _log.warning("task %s: 12 hours after its receipt, SQS delivers its message again; the task goes on", name)
            return True
        try:
            self._make_invisible_for(seconds, lease)
        except Exception as error:  # noqa: BLE001 - the task goes on; a second delivery is harmless
            # A receipt that has lapsed stays so: the message is visible, or another worker has it. Else it is tried
            # again at a quarter of the pause, as the visibility timeout goes on.
            lease.over = _lapsed(error)
            _log.warning("task %s: its message could not be kept from other workers: %s", name, name_of(error))
            return lease.over
        return True

    def _make_invisible_for(self, seconds: int, lease: _Lease) -> None:
        self._client.get().change_message_visibility(
            **self._queue, ReceiptHandle=lease.handle, VisibilityTimeout=seconds
        )

    def _delete(self, handle: str) -> None:
        self._client.get().delete_message(**self._queue, ReceiptHandle=handle)

    def _interval(self, job: Job) -> float:
        """Return the pause between two extensions: the heartbeat's, but at most a third of the visibility timeout."""
        text = job.variables.get("STEPOUT_HEARTBEAT_SECONDS") or self._environ.get("STEPOUT_HEARTBEAT_SECONDS", "")
        try:
            heartbeat = interval_of(float(text))
        except ValueError:  # None is known, or the task is going to complain of it.
            heartbeat = _SLOWEST
        return max(1.0, min(heartbeat, self._visibility / 3, _SLOWEST))


def _lapsed(error: BaseException) -> bool:
    return error_code(error) in _LAPSED


class SqsWorker(Worker):
    """Takes tasks from an SQS queue and runs a command for each.

    The body of a message is a JSON object whose ``STEPOUT_*`` members become the command's environment, as a
    ``sqs:sendMessage.waitForTaskToken`` state sends it. The command reports by itself (``stepout.open_task``, or
    ``stepout run``); its message is hidden from other workers until then, and deleted afterwards.

    Args:
        queue_url: The queue; without a dead-letter queue, messages that cannot be read come back until they expire.
        command: The program and its arguments.
        visibility: Seconds after which a message comes back if its worker was killed; extended while a task runs.
        poll: Seconds of one long poll, 20 at most; an idle worker takes so long to stop.
        client: A boto3 SQS client, used as it is; its read timeout must be longer than ``poll``.
        options: By keyword, all optional; see ``WorkerOptions``.

    Raises:
        ConfigurationError: An argument is invalid, or the program does not exist.

    Example:
        >>> import sys
        >>> SqsWorker("https://sqs.eu-west-1.amazonaws.com/123456789012/jobs", [sys.executable, "-m", "mask"])
        SqsWorker(queue jobs)
    """

    def __init__(
        self,
        queue_url: str,
        command: Sequence[str],
        *,
        visibility: int = 120,
        poll: int = 20,
        client: Any = None,
        **options: Unpack[WorkerOptions],
    ) -> None:
        try:
            place = queue_place(queue_url)
        except ConfigurationError:
            form = "https://sqs.REGION.amazonaws.com/ACCOUNT/NAME"
            raise ConfigurationError(f"a worker's queue is named by its URL, {form}") from None
        if not (3 <= visibility <= CEILING and 0 <= poll <= _LONGEST_POLL):  # noqa: PLR2004 - three extensions, each a second
            raise ConfigurationError(f"visibility must be 3 to {CEILING} seconds, and poll 0 to {_LONGEST_POLL}")
        source = SqsSource(
            place,
            client=client,
            visibility=visibility,
            poll=poll,
            environ=options.get("environ") or os.environ,
            clock=options.get("clock", time.monotonic),
        )
        super().__init__(source, command, patience=min(60.0, visibility / 2), options=options)
