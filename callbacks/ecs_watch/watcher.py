"""Reports silent deaths: a Lambda for "ECS Task State Change" events, ``stepout.callbacks.ecs_watch.handler``.

A state that waits for a task token never watches its ECS task: a container that dies without a word leaves it waiting
until its heartbeat or its timeout. This handler reports the failure that the container could not
(docs/how-to/silent-deaths.md).

A failure must never overtake a success that is still on its way, so it waits first:

1. A heartbeat asks whether the token is still open, and changes no outcome. Usually it is closed, and the work is done.
2. A container that never ran has nothing on its way. One that ended gets the grace, six times as much if it ended as
   one does that reported (exit code 0, or 3: work done, outcome undelivered).
3. Where reports go through a queue, so does the failure: after the grace and behind what is there in a
   first-in-first-out queue, delayed in another one, and not at all after exit code 0, since then the report is in the
   queue and the relay answers for it.

An event says only what happened. It names neither a place that is posted to nor an endpoint: whoever may run a task may
write its overrides, and a message holds the task token. So a queue that they name is used if it is on the watcher's own
list, by the URL that stands there; everything else goes to botocore's endpoints of the watcher's own region.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from stepout.callbacks.delivery.clients import build_client
from stepout.callbacks.delivery.failure import MAX_CAUSE, fit_cause
from stepout.callbacks.delivery.logs import redacted_logs
from stepout.callbacks.delivery.redaction import Redactor
from stepout.callbacks.delivery.retry_loop import RetryLoop
from stepout.callbacks.stopped_task import (
    StoppedTask,
    Urgency,
    Verdict,
    cause_document,
    judge,
    stopped_task,
    task_from_detail,
)
from stepout.callbacks.targets.sfn import StepFunctionsTarget
from stepout.callbacks.targets.sqs import QueuePlace, SqsTarget, queue_place
from stepout.callbacks.targets.token_table import TABLE, TokenRow, TokenTable
from stepout.schemas.errors import ConfigurationError, InvalidTokenError, TaskClosedError, TaskError
from stepout.schemas.identity import run_told_by
from stepout.schemas.runtime.process import PerProcess
from stepout.schemas.text.foreign_text import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stepout.callbacks.stopped_task import ContainerEnd

_log = logger("stepout.callbacks.ecs_watch")

_LATE = 6
"""How many times the grace a container gets that ended as if it had reported."""

_MOST_DELAY = 900
"""Seconds: SQS's most for DelaySeconds."""

_RESERVE = 5.0
"""Seconds of a function's time that are kept for the report itself."""

_PATIENCE = 60.0


@dataclass(frozen=True, kw_only=True)
class WatchSettings:
    """How a watcher works.

    Attributes:
        grace: Seconds from a container's end to the report of its failure.
        queue: The URL of the relay's queue, where all reports go through one.
        queues: The URLs of queues that a task's own ``STEPOUT_TARGETS`` may name, where not all reports go through one.
        delay: Seconds for which a failure is held back in that queue; more than the relay can lag.
        table: The DynamoDB table of task tokens.
        describe: Whether DescribeTasks is asked for what an event does not carry.
    """

    grace: float = 10.0
    queue: str | None = None
    queues: tuple[str, ...] = ()
    delay: int = 300
    table: str | None = None
    describe: bool = False

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> WatchSettings:
        """Read ``STEPOUT_WATCH_…``: ``GRACE_SECONDS``, ``QUEUE``, ``QUEUES``, ``DELAY_SECONDS``, ``DESCRIBE``.

        Args:
            environ: ``os.environ``, or a mapping like it; empty means absent.

        Raises:
            ConfigurationError: A setting cannot be understood.
        """
        queue = environ.get("STEPOUT_WATCH_QUEUE", "").strip() or None
        queues = tuple(environ.get("STEPOUT_WATCH_QUEUES", "").split())
        for url in filter(None, (queue, *queues)):
            queue_place(url)
        return cls(
            grace=_number(environ, "STEPOUT_WATCH_GRACE_SECONDS", 10.0, most=600),
            queue=queue,
            queues=queues,
            delay=int(_number(environ, "STEPOUT_WATCH_DELAY_SECONDS", 300, most=_MOST_DELAY)),
            table=environ.get(TABLE, "").strip() or None,
            describe=environ.get("STEPOUT_WATCH_DESCRIBE", "").strip().lower() in ("1", "true", "yes"),
        )


def make_handler(watcher: Watcher | None = None) -> Callable[[Mapping[str, Any], Any], dict[str, Any]]:
    """Return a Lambda handler of its own, for example with clients that assume a role.

    It reports the failure of an ECS task that stopped without a word. Events may come twice and in any order. It
    answers ``{"outcomes": […]}`` with one word for each token: ``closed``, ``failed``, ``queued``, ``left to the
    relay`` or ``unknown token``; none for a task that is not ours. It raises ``TaskError`` when a failure could not be
    reported (yet): Lambda tries the event again, and hands it to a dead-letter queue or an on-failure destination in
    the end.

    Args:
        watcher: Used as it is; one is made from the environment at the first event, and kept for the next.

    Returns:
        A function of an "ECS Task State Change" event and Lambda's context.
    """
    kept = [watcher] if watcher is not None else []

    def handle(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
        if not kept:
            kept.append(Watcher(WatchSettings.from_env(os.environ)))
        return {"outcomes": kept[0].handle(event, _remaining(context))}

    return handle


class Watcher:
    """Reports the failure of tasks that stopped without a word.

    Args:
        settings: How the watcher works.
        states: A boto3 Step Functions client, used as it is; this and the other clients are built when they are needed.
        queues: A boto3 SQS client.
        tables: A boto3 DynamoDB client.
        ecs: A boto3 ECS client.
        clock: Seconds since 1970.
        sleep: Waits so many seconds.
    """

    def __init__(  # noqa: PLR0913 - clients, clock and sleep are parameters by the house's rules
        self,
        settings: WatchSettings | None = None,
        *,
        states: Any = None,
        queues: Any = None,
        tables: Any = None,
        ecs: Any = None,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._settings = settings or WatchSettings()
        self._states = PerProcess(lambda: build_client("stepfunctions"), states, name="Step Functions client")
        self._queues, self._ecs = queues, ecs
        self._table = TokenTable(self._settings.table, tables) if self._settings.table else None
        self._clock = clock
        self._sleep = sleep

    def handle(self, event: Mapping[str, Any], remaining: Callable[[], float] = lambda: float("inf")) -> list[str]:
        """Deal with one event.

        Args:
            event: As EventBridge delivers it.
            remaining: Returns the seconds that are left.

        Returns:
            What was done, one word for each token; see ``make_handler``.

        Raises:
            TaskError: A failure could not be reported (yet).
        """
        task = stopped_task(event)
        if task is None:
            return []
        outcomes: list[str] = []
        failures: list[Exception] = []
        # Two layers: the event's own tokens are known at once, one of the table only when its row was read.
        with redacted_logs(Redactor(task.tokens)):
            task, tokens = self._tokens(task)
        for token, container in tokens.items():
            try:
                with redacted_logs(Redactor([token])):
                    outcome = self._one(_OwedReport(task=task, token=token, container=container), remaining)
            except Exception as error:  # noqa: BLE001 - raised when the other tokens had their turn
                failures.append(error)
                continue
            _log.info("task %s stopped (%s): %s", task.arn, task.stop_code, outcome)
            if outcome in ("closed", "failed", "queued"):
                self._note(task.arn)
            outcomes.append(outcome)
        if failures:
            raise failures[0]
        return outcomes

    def _tokens(self, task: StoppedTask) -> tuple[StoppedTask, Mapping[str, str | None]]:
        """The task tokens, each with the container that was to report, if that is known; none if it has reported.

        A row counts only for a task with one token: of several tokens, it cannot say which was used.
        """
        row = self._row(task)
        if row.reported and len(task.tokens) <= 1:
            return task, {}
        if not task.tokens and row.token is None and self._settings.describe:
            task = self._described(task)
        return task, task.tokens or ({row.token: row.container} if row.token else {})

    def _row(self, task: StoppedTask) -> TokenRow:
        """Return the table's row of a task; an event that carries its token does not depend on the row."""
        try:
            return self._table.find(task.arn) if self._table is not None else TokenRow()
        except TaskError as error:
            if not task.tokens:
                raise
            _log.error("task %s: %s; the event's own token is used", task.arn, error)
            return TokenRow()

    def _note(self, task: str) -> None:
        """Take the token out of the row; a report that was made stays made if that fails."""
        try:
            if self._table is not None:
                self._table.reported(task)
        except TaskError as error:
            _log.error("task %s: its token stays in the table until it expires: %s", task, error)

    def _described(self, task: StoppedTask) -> StoppedTask:
        """Return the task with the overrides that DescribeTasks knows, for about an hour after its end."""
        ecs = self._ecs if self._ecs is not None else build_client("ecs")
        remedy = "Allow ecs:DescribeTasks on the tasks of the cluster"
        answer = RetryLoop(remedy, patience=_PATIENCE).run(
            f"DescribeTasks for {task.arn}",
            lambda: ecs.describe_tasks(cluster=task.cluster or "default", tasks=[task.arn]),
        )
        found = answer.get("tasks") or []
        if not found:
            _log.warning("ECS knows the task %s no more (it does for about an hour): no token was found", task.arn)
        return replace(task, overrides=task_from_detail(found[0]).overrides) if found else task

    def _one(self, owed: _OwedReport, remaining: Callable[[], float]) -> str:
        try:
            target = StepFunctionsTarget(owed.token, self._states.get(), patience=_PATIENCE)
            # First, as it costs nothing: where the task's own report would go decides on everything that follows.
            if (named := self._named_queue(owed)) is not None:
                self._probe(target)
                return self._through(named, owed, remaining)
            if owed.verdict.haste is not Urgency.AT_ONCE:
                # The probe before the wait: most events are of tasks that have reported, and cost no waiting then. The
                # failure after it decides the race: Step Functions takes one outcome, and refuses the later one.
                self._probe(target)
                self._wait(owed, remaining)
            target.limit(remaining() - 1)  # A second for the answer, before Lambda ends the process.
            target.failure(owed.verdict.error, owed.cause)
        except TaskClosedError:
            return "closed"
        except InvalidTokenError as error:
            _log.error("task %s: %s", owed.task.arn, error)
            return "unknown token"
        message = target.redactor.text(owed.verdict.message)
        _log.warning("task %s: %s was reported: %s", owed.task.arn, owed.verdict.error, message)
        return "failed"

    def _through(self, named: QueuePlace, owed: _OwedReport, remaining: Callable[[], float]) -> str:
        """Send the failure through the queue that a success may have gone through."""
        if not named.fifo and owed.end is not None and owed.end.exit_code == 0:
            return "left to the relay"
        place = self._listed(named, owed)
        if place.fifo and owed.verdict.haste is not Urgency.AT_ONCE:
            self._wait(owed, remaining)  # order begins in the queue: what the network still holds goes first
        seconds = None if place.fifo else _MOST_DELAY if owed.verdict.haste is Urgency.LATE else self._settings.delay
        client = self._queues if self._queues is not None else build_client("sqs", **place.options)
        delayed, run = _Delayed(client, seconds), run_told_by(owed.environment)
        target = SqsTarget(place.url, owed.token, delayed, run=run, patience=_PATIENCE)
        target.failure(owed.verdict.error, owed.cause)
        return "queued"

    def _named_queue(self, owed: _OwedReport) -> QueuePlace | None:
        """Return the relay's queue; if no setting names one, the queue that the task's override names."""
        if self._settings.queue is not None:
            return queue_place(self._settings.queue)
        targets = owed.environment.get("STEPOUT_TARGETS", "").split()
        named = next((url for url in targets if url.lower().startswith("sqs:")), None)
        try:
            return None if named is None else queue_place(named)
        except ConfigurationError as error:
            _log.warning("task %s: %s; nothing can have gone that way", owed.task.arn, error)
            return None

    def _listed(self, named: QueuePlace, owed: _OwedReport) -> QueuePlace:
        """Return the queue on the watcher's own list with the account and name of the override's; ignore its host.

        Raises:
            ConfigurationError: The queue is not on the list. It may hold a success, so no failure is sent at all.
        """
        own = [queue_place(url) for url in filter(None, (self._settings.queue, *self._settings.queues))]
        same = [place for place in own if _account_and_name(place) == _account_and_name(named)]
        if not same:
            raise ConfigurationError(
                f"task {owed.task.arn}: its overrides name a queue, {named.name}, that is not on the watcher's list, "
                "so the failure was sent nowhere: the message would hold the task token. If reports of this task go "
                "through that queue, add its URL to STEPOUT_WATCH_QUEUES"
            )
        return next((place for place in same if place.url == named.url), same[0])

    def _probe(self, target: StepFunctionsTarget) -> None:
        """Ask whether the token is still open.

        A heartbeat is the one call that asks without deciding. It starts the state's heartbeat clock anew, which does
        no harm here: the failure follows, and a watcher that dies in between costs one more ``HeartbeatSeconds``.
        """
        try:
            target.heartbeat()
        except (TaskClosedError, InvalidTokenError):
            raise
        except TaskError as error:
            _log.warning("it is not known whether the token is still open: %s", error)

    def _wait(self, owed: _OwedReport, remaining: Callable[[], float]) -> None:
        grace = self._settings.grace * (_LATE if owed.verdict.haste is Urgency.LATE else 1)
        now = self._clock()
        seconds = min(now, owed.task.stopped_at or now) + grace - now
        if seconds <= 0:
            return
        if seconds > (left := remaining() - _RESERVE):
            raise TaskError(
                f"task {owed.task.arn}: {seconds:.0f} s of grace are left, and {max(left, 0):.0f} s of the function's "
                "time: it must be tried again later, as Lambda does with asynchronous events. Give the function a "
                f"timeout of more than {self._settings.grace * _LATE + _RESERVE:.0f} s (or a shorter "
                "STEPOUT_WATCH_GRACE_SECONDS)"
            )
        self._sleep(seconds)


handler = make_handler()
"""The Lambda handler; settings come from the environment (``WatchSettings.from_env``)."""


class _Delayed:
    """An SQS client whose messages are held back."""

    def __init__(self, client: Any, seconds: int | None) -> None:
        self._client = client
        self._more = {} if seconds is None else {"DelaySeconds": seconds}

    def send_message(self, **parameters: Any) -> Any:
        return self._client.send_message(**parameters, **self._more)


@dataclass(frozen=True, kw_only=True)
class _OwedReport:
    """One token of a task that stopped, and the container that was to report."""

    task: StoppedTask
    token: str = field(repr=False)
    container: str | None

    @property
    def end(self) -> ContainerEnd | None:
        return self.task.end_of(self.container)

    @property
    def verdict(self) -> Verdict:
        return judge(self.task, self.end)

    @property
    def environment(self) -> Mapping[str, str]:
        return self.task.overrides.get(self.container or "", {})

    @property
    def cause(self) -> str:
        document = cause_document(self.task, self.container, self.verdict)
        return fit_cause(Redactor([self.token]).json(document), MAX_CAUSE)


def _account_and_name(place: QueuePlace) -> str:
    return urlsplit(place.url).path.strip("/")


def _remaining(context: Any) -> Callable[[], float]:
    """Return a function for the seconds that Lambda leaves; infinite outside Lambda."""
    ask = getattr(context, "get_remaining_time_in_millis", None)
    return (lambda: ask() / 1000.0) if callable(ask) else (lambda: float("inf"))


def _number(environ: Mapping[str, str], name: str, default: float, *, most: float) -> float:
    text = environ.get(name, "").strip()
    try:
        value = float(text) if text else default
    except ValueError:
        value = -1.0
    if not 0 <= value <= most:
        raise ConfigurationError(f"{name} must be a number from 0 to {most:.0f}")
    return value
