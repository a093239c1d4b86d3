"""The task: runs a block and reports its outcome, once."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypedDict, TypeVar, Unpack

from stepout.callbacks.decorator import as_task
from stepout.callbacks.delivery.logs import redacted_logs
from stepout.callbacks.delivery.redaction import Redactor
from stepout.callbacks.environment import parse_input, read_settings, take_token
from stepout.callbacks.lifecycle.completion import Completion, Flag
from stepout.callbacks.lifecycle.document import DocumentRules
from stepout.callbacks.lifecycle.heartbeat import Heartbeat, interval_of
from stepout.callbacks.lifecycle.held_signals import HeldSignals, held_signals
from stepout.callbacks.lifecycle.result import TaskResult
from stepout.callbacks.lifecycle.signals import STOPS, Reactions, SignalGuard, grace_of
from stepout.callbacks.lifecycle.startup_failure import report_stillborn
from stepout.callbacks.protocols import KeptToProcess
from stepout.callbacks.targets.fan_out import FanOut
from stepout.schemas.errors import ConfigurationError, InvalidDocumentError, TaskError
from stepout.schemas.runtime.environment import warn_of_unknown
from stepout.schemas.runtime.process import Home, not_picklable
from stepout.schemas.spill import DEFAULT_BUDGET, Spill, check_budget

if TYPE_CHECKING:
    from types import CodeType, TracebackType
    from typing import NoReturn

    from mypy_boto3_stepfunctions import SFNClient

    from stepout.callbacks.protocols import Artifacts, Target
    from stepout.schemas import RunIdentity
    from stepout.schemas.contract import Contract

_P = ParamSpec("_P")
_R = TypeVar("_R")


class TaskOptions(TypedDict, total=False):
    """The keyword arguments of ``Task`` that every way of making one takes."""

    heartbeat: float | None
    contract: Contract | None
    redact: str | Iterable[str]
    spill: Spill
    budget: int | None
    stop_timeout: float | None
    run: RunIdentity | None
    input: Any


class Task:
    """Runs a block of work and reports its outcome: at most one terminal report, whatever happens.

    Leaving the block reports success with the output document; an exception reports failure and leaves the block
    unchanged. SIGTERM and SIGINT end the block in the main thread, report ``Stepout.Interrupted`` and raise
    ``SystemExit``. A task is entered once.

    Args:
        targets: Where the outcome goes; the first is the primary, the others are notified.
        artifacts: The artifact manager, or what makes it when the block is entered.
        heartbeat: The state's ``HeartbeatSeconds``; ``None`` when unknown, which means a beat every 60 seconds.
        contract: What the output must hold beyond its schema.
        redact: Further secrets that must appear in no message, log or cause.
        spill: ``"auto"`` moves what is over the budget into artifacts; ``"never"`` raises ``OutputTooLargeError``.
        budget: Bytes of UTF-8 for the output document.
        stop_timeout: Seconds from SIGTERM to SIGKILL, as in ECS's ``stopTimeout``.
        run: The run identity; the artifact manager's unless given.
        input: The task's input.
        clock: Seconds, monotonic.
        jitter: Returns a number from 0 up to 1.
        end_process: Ends the process at once with an exit code, when the main thread does not.

    Raises:
        ConfigurationError: An argument makes no sense.

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
        targets: Target | Sequence[Target],
        *,
        artifacts: Artifacts | Callable[[], Artifacts] | None = None,
        heartbeat: float | None = None,
        contract: Contract | None = None,
        redact: str | Iterable[str] = (),
        spill: Spill = "auto",
        budget: int | None = None,
        stop_timeout: float | None = None,
        run: RunIdentity | None = None,
        input: Any = None,  # noqa: A002 - the documented name
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
        end_process: Callable[[int], object] = os._exit,
    ) -> None:
        reporter = FanOut(targets)
        redactor = reporter.redactor | Redactor([redact] if isinstance(redact, str) else redact)
        budget = DEFAULT_BUDGET if budget is None else check_budget(budget)
        self._make_artifacts = artifacts
        self._input = input
        self._home = Home()
        self._result = TaskResult(home=self._home)
        self._entered = False
        self._redactor = redactor
        self._logs = redacted_logs(redactor)
        self._ending = Completion(
            reporter,
            DocumentRules(contract=contract, budget=budget, spill=_known(spill), redactor=redactor),
            run=run,
            stop_timeout=_positive(30.0 if stop_timeout is None else stop_timeout),
            end_process=end_process,
        )
        self._heart = Heartbeat(reporter.heartbeat, interval_of(heartbeat), self._ending.nobody_waits, jitter=jitter)
        self._guard = SignalGuard(
            self._ending.fate,
            Reactions(heard=self._ending.signal_heard, overdue=self._ending.overdue),
            own=_code_of(type(self)),
            grace=grace_of(self._ending.stop_timeout),
            clock=clock,
        )
        self._ending.interrupt_main = self._guard.interrupt_main
        if not callable(artifacts):
            self._ending.artifacts = artifacts

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
        """Make a task from its environment; the task token is taken out of it.

        If that fails, whoever waits for the token is told, once, before the error is raised.

        Args:
            environ: ``os.environ`` unless given.
            targets: Instead of those that the environment names.
            artifacts: As for ``Task``.
            client: For Step Functions, used as it is.
            token: The task token, instead of the environment's.
            options: As for ``Task``; they come before the environment. An ``input`` that is text is read as
                ``STEPOUT_INPUT`` would be.

        Returns:
            The task.

        Raises:
            ConfigurationError: A setting cannot be understood, or nothing says where to report to.
            InvalidTokenError: The token is empty, too long or damaged.
        """
        where = os.environ if environ is None else environ
        warn_of_unknown(where)
        token = take_token(where, token)
        try:
            settings = read_settings(where, token=token, client=client, targeted=targets is not None)
            given = {name: value for name, value in options.items() if value is not None}
            if "input" in given:
                given["input"] = parse_input(given["input"], called="input=")
            own: dict[str, Any] = {
                "heartbeat": settings.heartbeat,
                "budget": settings.budget,
                "stop_timeout": settings.stop_timeout,
                "input": settings.input,
                **given,
            }
            named = options.get("redact", ())
            secrets = [named] if isinstance(named, str) else list(named)
            own["redact"] = [*secrets, *([token] if token else [])]
            task = cls(settings.targets if targets is None else targets, artifacts=artifacts, **own)
        except Exception as error:
            with held_signals():
                report_stillborn(error, environ=where, token=token, client=client, targets=targets)
            raise
        task._ending.known_run = settings.run
        return task

    def __reduce__(self) -> NoReturn:
        not_picklable("task")

    def __repr__(self) -> str:
        fate = self._ending.fate.now
        state = fate.report or fate.stop
        return f"Task({state.value if state else 'open'})"

    @property
    def artifacts(self) -> Any:
        """The artifact manager.

        Raises:
            ConfigurationError: The task has none.
        """
        self._check_begun("artifacts")
        if self._ending.artifacts is None:
            raise ConfigurationError(
                "this task has no artifact manager (yet): give it one, and use it inside the block"
            )
        return self._ending.artifacts

    @property
    def result(self) -> dict[str, Any]:
        """Small inline JSON, reported with the pointers; a mapping may be assigned. See ``TaskResult``.

        Raises:
            ConfigurationError: The task has not begun: it would never be reported.
            OtherProcessError: This process was forked off the task's, which would not see what is set here.
        """
        self._check_begun("result")
        self._result.check_process()
        return self._result

    @result.setter
    def result(self, value: Mapping[str, Any]) -> None:
        self._check_begun("result")
        self._result.check_process()
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
        """Set, and true, once the task should stop: nobody waits any more, or a signal arrived."""
        return self._ending.stopped

    @property
    def input(self) -> Any:
        """The task's input, JSON from ``STEPOUT_INPUT`` as it is; ``None`` when there is none."""
        return self._input

    @property
    def run(self) -> RunIdentity:
        """Which run of which state this is."""
        return self._ending.run

    def check(self) -> None:
        """Raise if the task should stop; for work outside the main thread, where no signal arrives.

        Raises:
            TaskClosedError: Nobody waits any more.
            TaskInterrupted: A signal arrived.
        """
        self._ending.check()

    def __call__(self, function: Callable[_P, _R]) -> Callable[_P, _R]:
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
        instead: BaseException | None = None
        try:
            self._guard.install()
            with held_signals():
                self._ending.first_beat()
            self._ending.artifacts = self._built_artifacts()
            self._heart.start()
        except BaseException as error:  # noqa: BLE001 - raised again below, once it is reported
            with held_signals():
                instead = self._ending.conclude(error, self._result, noted=self._guard.noted, ran=False) or error
        else:
            if self._ending.must_stop(self._guard.noted):
                with held_signals():
                    instead = self._ending.conclude(None, self._result, noted=self._guard.noted)
        if instead is not None:
            self._tear_down()
            raise instead
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
            return  # A forked child: the outcome is its parent's to report.
        held = HeldSignals()  # Signals wait for the report, also those that the job handles itself.
        try:
            missed = self._guard.settle()
            instead = self._ending.conclude(exception, self._result, noted=self._guard.noted, missed=missed)
        finally:
            self._tear_down()
            held.restore()
        late = held.stop or self._guard.noted
        if instead is None and exception is None:
            instead = self._ending.exit_for_late_signal(late)
        try:
            held.deliver(but=STOPS)
        except BaseException as own:  # noqa: BLE001 - of the job's own handler
            instead = self._ending.instead_of_late(own, exception, instead)
        if instead is not None and instead is not exception:
            raise instead

    def _tear_down(self) -> None:
        self._heart.stop()
        self._guard.remove()
        self._logs.__exit__(None, None, None)

    def _built_artifacts(self) -> Artifacts | None:
        made = self._make_artifacts
        artifacts = made() if callable(made) else made
        if isinstance(artifacts, KeptToProcess):
            artifacts.keep_to_this_process()
        return artifacts


def _code_of(kind: type[Task]) -> frozenset[CodeType]:
    """The code in whose frames no signal may raise: there, the block is not yet or no longer running."""
    methods = (each.__dict__.get(name) for each in kind.__mro__ for name in ("__enter__", "__exit__"))
    return frozenset(code for method in methods if (code := getattr(method, "__code__", None)) is not None)


def _known(spill: str) -> Spill:
    if spill == "auto":
        return "auto"
    if spill == "never":
        return "never"
    raise ConfigurationError('spill must be "auto" or "never"')


def _positive(seconds: float) -> float:
    if not 0 < seconds < float("inf"):
        raise ConfigurationError("the stop timeout must be a number of seconds above 0")
    return seconds
