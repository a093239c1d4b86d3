"""The task: runs a block and reports its outcome, once."""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar, Unpack

from stepout.callbacks.decorator import as_task
from stepout.callbacks.delivery.logs import redacted_logs
from stepout.callbacks.lifecycle.completion import Completion, Flag
from stepout.callbacks.lifecycle.heartbeat import Heartbeat
from stepout.callbacks.lifecycle.held_signals import HeldSignals, held_signals
from stepout.callbacks.lifecycle.progress import LAST_PATIENCE, ProgressReporter
from stepout.callbacks.lifecycle.result import TaskResult
from stepout.callbacks.lifecycle.session import TaskSession
from stepout.callbacks.lifecycle.signals import STOPS, SignalGuard
from stepout.callbacks.lifecycle.startup import arguments_from_env, make_session
from stepout.callbacks.protocols import ClosableArtifacts, KeptToProcess, TellsEvents
from stepout.schemas.errors import ConfigurationError, InvalidDocumentError, StoreError, TaskError
from stepout.schemas.runtime.events import Operation
from stepout.schemas.runtime.process import Home, not_picklable
from stepout.schemas.search.trace import trace_of
from stepout.schemas.text.foreign_text import logger

if TYPE_CHECKING:
    from types import CodeType, TracebackType
    from typing import NoReturn

    from mypy_boto3_stepfunctions import SFNClient

    from stepout.callbacks.lifecycle.session import TaskOptions
    from stepout.callbacks.lifecycle.task_state import TaskState
    from stepout.callbacks.protocols import Artifacts, Target
    from stepout.schemas import RunIdentity
    from stepout.schemas.contract import Contract
    from stepout.schemas.runtime.events import Events
    from stepout.schemas.spill import Spill

P = ParamSpec("P")
R = TypeVar("R")

_log = logger("stepout.callbacks.task")


class Task:
    """Runs a block of work and reports its outcome: at most one terminal report, whatever happens.

    Leaving the block reports success with the output document; an exception reports failure and leaves the block
    unchanged. SIGTERM and SIGINT end the block in the main thread, report ``Stepout.Interrupted`` and raise
    ``SystemExit``. A task is entered once.

    Args:
        targets: Where the outcome goes; the first is the primary, the others are notified. Or a whole session, which
            replaces the arguments down to ``input``.
        artifacts: The artifact manager, or a function that makes it when the block is entered.
        heartbeat: The state's ``HeartbeatSeconds``; ``None`` when unknown, which means a beat every 60 seconds.
        max_concurrency: How many containers beat at the same time; beats are spread so that the API's quota holds.
        contract: What the output must hold beyond its schema.
        redact: Further secrets that must appear in no message, log or cause.
        spill: If the document is over its budget, ``"auto"`` moves parts of it into artifacts; ``"never"`` raises
            ``OutputTooLargeError``.
        budget: Bytes of UTF-8 for the output document.
        fan_in: How many outputs of an inline Map come together; each then has a share of what a state holds.
        stop_timeout: Seconds from SIGTERM to SIGKILL, as in ECS's ``stopTimeout``.
        run: The run identity; by default, the artifact manager's.
        environment_run: The run identity from the environment, used until an artifact manager gives its own.
        input: The task's input.
        clock: Seconds, monotonic.
        jitter: Returns a number from 0 up to 1.
        end_process: Ends the process at once with an exit code, if the main thread does not leave the block in time.

    Attributes:
        task_session: The task's checked settings, as a value.

    Raises:
        ConfigurationError: An argument is invalid.

    Example:
        >>> from stepout.callbacks import RecordingTarget
        >>> target = RecordingTarget()
        >>> with Task(target) as task:
        ...     task.result = {"rows": 3}
        >>> target.successes[0]["result"], target.failures
        ({'rows': 3}, [])
    """

    def __init__(  # noqa: PLR0913 - the documented options, by keyword
        self,
        targets: Target | Sequence[Target] | TaskSession,
        *,
        artifacts: Artifacts | Callable[[], Artifacts] | None = None,
        heartbeat: float | None = None,
        max_concurrency: int | None = None,
        contract: Contract | None = None,
        redact: str | Iterable[str] = (),
        spill: Spill = "auto",
        budget: int | None = None,
        fan_in: int | None = None,
        stop_timeout: float | None = None,
        run: RunIdentity | None = None,
        environment_run: RunIdentity | None = None,
        input: Any = None,  # noqa: A002 - the documented name
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
        end_process: Callable[[int], object] = os._exit,
    ) -> None:
        self.task_session = (
            targets
            if isinstance(targets, TaskSession)
            else make_session(
                targets,
                artifacts=artifacts,
                heartbeat=heartbeat,
                max_concurrency=max_concurrency,
                contract=contract,
                redact=redact,
                spill=spill,
                budget=budget,
                fan_in=fan_in,
                stop_timeout=stop_timeout,
                run=run,
                environment_run=environment_run,
                input=input,
            )
        )
        session = self.task_session
        self._home = Home()
        self._result = TaskResult(home=self._home)
        self._entered = False
        self._logs = redacted_logs(session.redactor)
        self._completion = Completion(session, end_process=end_process)
        if not callable(session.artifacts):
            self._completion.artifacts = session.artifacts
        self._heartbeat = Heartbeat(
            session.targets, self._completion, session.interval, jitter=jitter, events=session.events
        )
        self._operation: Operation | None = None
        completion = self._completion  # not self: a circle would keep a task that was never entered, and its warning
        self._progress = ProgressReporter(session, lambda: completion.run)
        self._guard = SignalGuard(
            self._completion, own=_code_of(type(self)), stop_timeout=session.stop_timeout, clock=clock
        )

    @classmethod
    def from_env(
        cls,
        environ: Mapping[str, str] | None = None,
        *,
        targets: Target | Sequence[Target] | None = None,
        artifacts: Artifacts | Callable[[], Artifacts] | None = None,
        client: SFNClient | None = None,
        token: str | None = None,
        **options: Unpack[TaskOptions],
    ) -> Self:
        """Make a task from the environment, and take the task token out of it.

        If that fails, the state that waits for the token gets one failure report before the error is raised.

        Args:
            environ: ``os.environ`` unless given.
            targets: Instead of those that the environment names.
            artifacts: As for ``Task``.
            client: For Step Functions, used as it is.
            token: The task token, instead of the environment's.
            options: As for ``Task``; they override the environment. An ``input`` that is text is read like
                ``STEPOUT_INPUT``.

        Returns:
            The task.

        Raises:
            ConfigurationError: A setting is invalid, or no setting names a target.
            InvalidTokenError: The token is empty, too long or damaged.
        """
        where = os.environ if environ is None else environ
        with arguments_from_env(where, targets=targets, client=client, token=token, **options) as (named, arguments):
            return cls(named, artifacts=artifacts, **arguments)

    def __reduce__(self) -> NoReturn:
        not_picklable("task")

    def __repr__(self) -> str:
        known = self._completion.state.now.report or self._completion.state.now.stop
        return f"Task({known.value if known else 'open'})"

    @property
    def task_state(self) -> TaskState:
        """The current state, as a value: whether the task was asked to stop, and which report has begun."""
        return self._completion.state.now

    @property
    def artifacts(self) -> Any:
        """The artifact manager.

        Raises:
            ConfigurationError: The task has none.
        """
        self._check_begun("artifacts")
        artifacts = self._completion.artifacts
        if artifacts is None:
            raise ConfigurationError(
                "this task has no artifact manager (yet): give it one, and use it inside the block"
            )
        return artifacts

    @property
    def result(self) -> dict[str, Any]:
        """Small inline JSON, reported with the pointers; a mapping may be assigned.

        It is a ``dict`` that takes only what JSON can hold, checked when it is set. Tuples become lists, and numpy's
        scalars numbers.

        Raises:
            ConfigurationError: The task has not begun: the result would never be reported.
            InvalidDocumentError: A member is set that is not JSON. Nothing was set.
            OtherProcessError: This process was forked off the task's process, which would not see the change.
        """
        self._check_begun("result")
        self._home.check("task.result", "task")
        return self._result

    @result.setter
    def result(self, value: Mapping[str, Any]) -> None:
        self._check_begun("result")
        self._home.check("task.result", "task")
        if not isinstance(value, Mapping):
            raise InvalidDocumentError(
                f"a task's result must be a mapping of names to JSON, not {type(value).__name__}"
            )
        if value is not self._result:
            self._result = TaskResult(value, home=self._home)

    def _check_begun(self, member: str) -> None:
        if not self._entered:
            raise ConfigurationError(
                "this task has not begun, and nothing is written or reported before it has: use it as "
                f"`with stepout.open_task() as task:`, and task.{member} inside that block"
            )

    @property
    def cancelled(self) -> Flag:
        """A flag that is set, and true, once the task should stop: nobody waits any more, or a signal arrived."""
        return self._completion.stopped

    @property
    def input(self) -> Any:
        """The task's input, parsed from ``STEPOUT_INPUT``; ``None`` if there is no input."""
        return self.task_session.input

    @property
    def events(self) -> Events:
        """Who is told of what the task does, and of what is read in its block: ``task.events.add(listener)``."""
        return self.task_session.events

    @property
    def traceparent(self) -> str | None:
        """The trace that the output names if this process is in none, as W3C's Trace Context writes it; may be set."""
        return self._completion.traceparent

    @traceparent.setter
    def traceparent(self, value: str | None) -> None:
        self._completion.traceparent = value

    @property
    def run(self) -> RunIdentity:
        """The run identity: which attempt of which state of which execution this is."""
        return self._completion.run

    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """Say how far the work is: to the log, and to whoever watches, where the target has a place for it.

        In pull mode that place is ``{url}.progress.json`` beside the outcome in S3, or the attribute ``progress`` of
        the DynamoDB item; ``stepout watch URL`` shows it. With other targets there is the log alone (INFO).

        It leaves the values behind and returns at once: a thread reports the newest of them, at most once in five
        seconds, and the last ones always. Nothing that goes wrong there fails the task, and the outcome does not wait.
        Call it as often as you like, from any thread of the task's process. Outside the block, and in a process that
        was forked off, it does nothing.

        Args:
            done: How much is done, in any unit; a number from 0 on.
            total: How much there is, in the same unit, if that is known.
            message: What is being done, for people; 300 characters at most are kept. Others can read it.

        Example:
            >>> from stepout.callbacks import RecordingTarget
            >>> target = RecordingTarget()
            >>> with Task(target) as task:
            ...     for number in range(1, 4):
            ...         task.progress(number, 3, f"tile {number}")
            >>> str(target.progress[-1])
            '3 of 3 (100%): tile 3'
        """
        if self._entered and self._home.here:
            self._progress.update(done, total, message)

    def check(self) -> None:
        """Raise if the task should stop; for work outside the main thread, where no signal arrives.

        Raises:
            TaskClosedError: Nobody waits any more.
            TaskInterrupted: A signal arrived.
        """
        self._completion.check()

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Decorate a function: its call is the block, and a mapping that it returns is merged into ``result``.

        Args:
            function: May be a coroutine function.

        Raises:
            ConfigurationError: It is a generator function, whose body would run after the task was reported.
        """
        return as_task(function, lambda: self, passes_task=False)

    def __enter__(self) -> Self:
        """Send the first heartbeat, then start the others.

        Raises:
            TaskClosedError: Nobody waits any more.
            InvalidTokenError: Step Functions does not know the token.
        """
        if self._entered:
            raise TaskError("this task was entered before; each task token has one outcome: make a new task")
        self._entered = True
        self._home.claim()
        self._logs.__enter__()
        self._begin_telling()
        failed: BaseException | None = None
        try:
            # The guard before the first beat: from that beat on, a signal must lead to a report.
            self._guard.install()
            with held_signals():
                self._heartbeat.first()
            self._completion.artifacts = self._made_artifacts()
            self._heartbeat.start()
        except BaseException as error:  # noqa: BLE001 - raised again below, once it is reported
            failed = error
        if failed is not None or self._guard.noted is not None or self._completion.state.now.stop is not None:
            with held_signals():
                self._guard.settle(failed)
                raised = self._completion.conclude(failed, self._result, ran=False) or failed
            self._tear_down(raised)
            if raised is not None:
                raise raised
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exception: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Report the outcome.

        Raises:
            InvalidDocumentError: The output is not valid; a failure was reported.
            TaskClosedError: Nobody waits any more.
            OutcomeUndeliveredError: No target took the success; the message says where the document is.
            SystemExit: The task was interrupted by a signal.
        """
        if not self._home.here:
            return  # A forked child: its parent reports the outcome.
        # Signals wait for the report, also those that the job handles itself. After ``settle`` the state has every
        # earlier signal; a later signal asks for an exit, and never changes a report that has begun.
        held, raised = HeldSignals(), exception
        self._progress.end()
        try:
            self._guard.settle(exception)
            raised = self._completion.conclude(exception, self._result)
        finally:
            self._tear_down(raised or exception)
            held.restore()
        late = self._completion.state.now.signum or held.stop or self._guard.noted
        if raised is None and exception is None and late is not None:
            raised = SystemExit(128 + late)
        try:
            held.deliver(but=STOPS)
        except BaseException as own:  # of the job's own handler
            if raised is None and exception is None:
                raise
            _log.warning("a signal's handler raised %s once the outcome was reported", type(own).__name__)
        if raised is not None and raised is not exception:
            raise raised

    def _made_artifacts(self) -> Artifacts | None:
        given = self.task_session.artifacts
        artifacts = given() if callable(given) else given
        if artifacts is not None and isinstance(artifacts, KeptToProcess):
            artifacts.keep_to_this_process()
        if isinstance(artifacts, TellsEvents) and artifacts.events is not self.events:
            artifacts.events.add(self.events)  # a manager that was made before the task
        return artifacts

    def _begin_telling(self) -> None:
        events = self.task_session.events
        events.run = self._completion.run
        trace = trace_of(self.task_session.input) if events.listening else None
        # Also if nobody listens yet: what is made in the block finds the task's events by it.
        self._operation = Operation(events, "task", "task", traceparent=trace)
        self._operation.__enter__()

    def _end_telling(self, raised: BaseException | None) -> None:
        operation, self._operation, artifacts = self._operation, None, self._completion.artifacts
        if operation is not None:
            operation.describe(run=self._completion.run, **self._completion.told(raised))
            operation.__exit__(None, None, None)
        if isinstance(artifacts, TellsEvents):
            artifacts.events.remove(self.events)

    def _tear_down(self, raised: BaseException | None) -> None:
        # First no beat may follow the report; then the old handlers return; the logs come last, as the others may log.
        self._heartbeat.stop()
        self._guard.remove()
        artifacts = self._completion.artifacts
        if self.task_session.owns_artifacts and isinstance(artifacts, ClosableArtifacts):
            with contextlib.suppress(StoreError):  # The manager was aborted: the task has reported why.
                artifacts.close()
        self._progress.wait(LAST_PATIENCE if self._completion.state.now.stop is None else 0)
        self._end_telling(raised)
        self._logs.__exit__(None, None, None)


def _code_of(kind: type[Task]) -> frozenset[CodeType]:
    """Return the code in whose frames no signal may raise: there, the block does not run yet, or no longer runs."""
    methods = (each.__dict__.get(name) for each in kind.__mro__ for name in ("__enter__", "__exit__"))
    return frozenset(code for method in methods if (code := getattr(method, "__code__", None)) is not None)
