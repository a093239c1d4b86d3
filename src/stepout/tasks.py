"""The face's way into a task: an artifact manager and a task, both from the environment, and what is printed last."""

from __future__ import annotations

import functools
import os
import warnings
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, Self, TypeVar, Unpack, cast, overload

from stepout.callbacks.decorator import as_task
from stepout.callbacks.lifecycle.session import TaskOptions, TaskSession
from stepout.callbacks.lifecycle.startup import session_from_env
from stepout.callbacks.lifecycle.uncaught import UncaughtHook, watch_uncaught
from stepout.callbacks.process.exit_codes import passed_on
from stepout.callbacks.task import Task
from stepout.inputs import TaskInput
from stepout.schemas import RunIdentity
from stepout.schemas.errors import ConfigurationError
from stepout.schemas.runtime.environment import meant_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from types import TracebackType

    from mypy_boto3_s3 import S3Client
    from mypy_boto3_stepfunctions import SFNClient

    from stepout.artifacts.allow import Allowed, AnyBucket
    from stepout.artifacts.manager import ArtifactManager
    from stepout.artifacts.store import Store
    from stepout.callbacks.protocols import Artifacts, Target
    from stepout.schemas import Pointer

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class OpenTaskOptions(TaskOptions, total=False):
    """The keyword arguments of ``open_task``."""

    environ: Mapping[str, str] | None
    artifacts: ArtifactManager | None
    bucket: str | Store | None
    prefix: str | None
    client: S3Client | Store | None
    sfn_client: SFNClient | None
    targets: Target | Sequence[Target] | None
    token: str | None
    commit_record: bool | None
    allow: Iterable[str | AnyBucket] | AnyBucket | Allowed | None


class OpenTask(Task):
    """A task whose artifacts are an ``ArtifactManager``'s, and whose uncaught traceback shows no secret.

    ``open_task`` and the decorator ``task`` make it.

    Args:
        targets: As for ``Task``.
        read_input: What ``input`` reads from, or a function that makes it from the input as it came; unless given, the
            input as it came, with STEPOUT_ALLOW of the process.
        warns: Whether to warn if it is never entered.
        options: As for ``Task``.
    """

    _uncaught: UncaughtHook | None = None
    _awaits_entry = False

    def __init__(
        self,
        targets: Target | Sequence[Target] | TaskSession,
        *,
        read_input: TaskInput | Callable[[Any], TaskInput] | None = None,
        warns: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(targets, **options)
        given = self.task_session.input
        self._read_input = (
            read_input(given) if callable(read_input) else read_input or TaskInput(given, environ=os.environ)
        )
        self._awaits_entry = warns

    @property
    def artifacts(self) -> ArtifactManager:
        """Writes artifacts; without a bucket, the first use raises ``ConfigurationError``."""
        return cast("ArtifactManager", super().artifacts)

    @property
    def input(self) -> Any:
        """The task's input: JSON from ``STEPOUT_INPUT`` or ``open_task(input=…)``; ``None`` without an input.

        An input that is one document, and holds no other, is what the document names: a task output (or the URL of
        one, ``s3://…`` or ``dynamodb://…``, as pull mode writes it) its ``Output``, a pointer its ``Artifact``; but a
        pointer to JSON, which is how JSON is passed that would not fit, is that JSON, by the same rule (followed once).
        Everything else is the JSON that was passed: also a list of documents, an object with documents in it, and an
        output that a state machine merged into another one (``ResultPath``). ``stepout.resolve_all(task.input)`` finds
        all documents in it, whichever it is.

        Documents are read and verified when the input is first asked for. Whose outcome a URL holds is not checked:
        give each execution a URL of its own, or call ``resolve_output(url, execution=…)`` instead.

        Raises:
            NotAllowedError: It points outside the allow-list.
            TaskFailedError: It is the URL of a task's outcome, and that task failed.
            InvalidDocumentError: It is no valid document, or what it points to is not the JSON that it claims to be.
            StoreError: What it points to is missing, denied, changed, expired, over 64 MiB, or unreachable.
            IntegrityError: The bytes are not those that were written.
        """
        self._awaits_entry = False  # a caller wanted this alone, as tests and tools do
        return self._read_input.read()

    def __del__(self) -> None:
        if self._awaits_entry:
            _warn_never_entered()

    def __enter__(self) -> Self:
        """Send the first heartbeat, then start the others."""
        self._awaits_entry = False
        self._uncaught = watch_uncaught(self.task_session.redactor)
        try:
            return super().__enter__()
        except BaseException:
            self._uncaught.closed(well=False)
            raise

    def __exit__(
        self, kind: type[BaseException] | None, exception: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Report the outcome.

        Raises:
            SystemExit: As ``Task`` does; and with 1 for a job's own exit codes 3 and 4, which mean something else.
        """
        well = False
        try:
            super().__exit__(kind, exception, traceback)
            well = exception is None
            code = exception.code if isinstance(exception, SystemExit) else None
            if isinstance(code, int) and code and passed_on(code) != code:
                raise SystemExit(passed_on(code)) from exception
        finally:
            if self._uncaught is not None:
                self._uncaught.closed(well=well)


def open_task(**options: Unpack[OpenTaskOptions]) -> OpenTask:
    """Open the task that this process was started for; use it in a ``with`` statement.

    The environment says where artifacts go and who waits for the outcome (docs/reference/environment.md); arguments
    come before it. The task token is taken out of the environment.

    Args:
        options: By keyword, all optional:

            - ``bucket``, ``prefix``: where artifacts go, instead of STEPOUT_BUCKET and STEPOUT_PREFIX;
            - ``client``: a boto3 S3 client, or a ``MemoryStore``, for the artifacts;
            - ``artifacts``: an artifact manager of your own, instead of these three;
            - ``commit_record``: whether the output document is kept beside the artifacts, as ``_output.json``, before
              success is reported; instead of STEPOUT_COMMIT_RECORD, which is on. A manager of your own decides it;
            - ``targets``: where the outcome is reported, instead of STEPOUT_TARGETS: one target or a list;
            - ``token``: the task token, instead of STEPOUT_TASK_TOKEN;
            - ``sfn_client``: a boto3 Step Functions client for the outcome;
            - ``input``: the task's input, instead of STEPOUT_INPUT: a value, or JSON as text, such as ``sys.argv[1]``;
            - ``allow``: which buckets the input may point into, instead of STEPOUT_ALLOW: ``["s3://bucket/prefix/"]``,
              needed where the input is a pointer or a task output;
            - ``heartbeat``: the state's ``HeartbeatSeconds``;
            - ``max_concurrency``: how many containers beat at once, instead of STEPOUT_MAX_CONCURRENCY;
            - ``contract``: what the output must hold beyond its schema, a ``Contract``;
            - ``redact``: further secrets that must appear in no message, log or cause;
            - ``spill``, ``budget``: ``"never"`` raises over the budget (bytes of UTF-8) instead of using artifacts;
            - ``fan_in``: how many outputs of an inline Map come together, instead of STEPOUT_FAN_IN;
            - ``stop_timeout``: seconds from SIGTERM to SIGKILL, as in ECS's ``stopTimeout``;
            - ``run``: a ``RunIdentity``, instead of STEPOUT_EXECUTION and its companions;
            - ``environ``: instead of ``os.environ``.

    Returns:
        The task, to be entered once. Without a bucket it works as long as no artifact is written.

    Raises:
        ConfigurationError: A setting cannot be understood, nothing says where to report to, or the input is a pointer
            or a task output and nothing says which buckets it may point into.
        InvalidTokenError: The token is empty, too long or damaged.

    Example:
        >>> from stepout.callbacks import RecordingTarget
        >>> target = RecordingTarget()
        >>> with open_task(environ={}, targets=target) as task:
        ...     task.result["rows"] = 3
        >>> target.successes[0]["result"]
        {'rows': 3}
    """
    given = cast("dict[str, Any]", dict(options))
    environ = given.pop("environ", None)
    environ = os.environ if environ is None else environ
    place = {name: given.pop(name, None) for name in ("bucket", "prefix", "client")}
    ready, allow, run = given.pop("artifacts", None), given.pop("allow", None), given.get("run")
    record = given.pop("commit_record", None)

    def artifacts() -> Artifacts:
        return ready if ready is not None else _artifacts(environ, place, run, record)

    bucket, client = place["bucket"], place["client"]
    if client is None and not isinstance(bucket, str):
        client = bucket  # A store that stands for its bucket, such as ``MemoryStore``: the input is read from it, too.
    with session_from_env(
        environ, client=given.pop("sfn_client", None), artifacts=artifacts, owns_artifacts=ready is None, **given
    ) as session:
        read_input = TaskInput(session.input, allow=allow, client=client, environ=environ)
        return OpenTask(session, read_input=read_input, warns=True)


def _warn_never_entered() -> None:
    warnings.warn(
        "a task was opened and never entered, so nothing was reported: use `with stepout.open_task() as task:`",
        RuntimeWarning,  # as for a coroutine that nobody awaited: Python shows it without any setting
        stacklevel=2,
    )


def _artifacts(
    environ: Mapping[str, str], place: dict[str, Any], run: RunIdentity | None, record: bool | None
) -> Artifacts:
    from stepout.artifacts.commit_record import commit_record_of
    from stepout.artifacts.manager import ArtifactManager
    from stepout.artifacts.run import resolve_run

    if place["bucket"] is None and not environ.get("STEPOUT_BUCKET"):
        return _NoArtifacts(resolve_run(run or RunIdentity.from_env(environ)), meant_for(environ, "STEPOUT_BUCKET"))
    settings = {name: value for name, value in {**place, "run": run}.items() if value is not None}
    kept = commit_record_of(environ, record, bucket=place["bucket"], prefix=place["prefix"])
    settings["commit_record"] = kept
    if kept is True:  # A second task of the same run in this process has a record, and so a folder, of its own.
        settings["random"] = os.urandom
    return ArtifactManager.from_env(environ, **settings)


class _NoArtifacts:
    """Stands where an artifact manager would, in a task that was given no bucket."""

    def __init__(self, run: RunIdentity, hint: str) -> None:
        self.run = run
        self._hint = hint
        self.pointers: Mapping[str, Pointer] = {}
        self.unfinished: Sequence[str] = ()
        self.keeps_record = False

    def abort(self) -> None:
        """Do nothing: there is nothing to abort."""

    def close(self) -> None:
        """Do nothing: nothing is written."""

    def keep_to_this_process(self) -> None:
        """Do nothing: nothing is written."""

    def put_document(self, stem: str, document: Mapping[str, Any]) -> Pointer:  # noqa: ARG002 - a protocol's
        """Refuse: there is no bucket.

        Raises:
            ConfigurationError: Always.
        """
        raise _no_bucket(stem, self._hint)

    def put_record(self, document: Mapping[str, Any]) -> Pointer:
        """Refuse: there is no bucket.

        Raises:
            ConfigurationError: Always.
        """
        return self.put_document("_output", document)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise _no_bucket(name, self._hint)


def _no_bucket(what: str, hint: str) -> ConfigurationError:
    wanted = "set STEPOUT_BUCKET, or pass bucket= to open_task"
    return ConfigurationError(f"artifacts ({what}) need a bucket, and this task has none: {wanted}{hint}")


class TaskFunction(Protocol[P, R_co]):
    """What ``@stepout.task`` makes of a function: each call is a task."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Run the function as a task, and report its outcome."""
        ...

    def with_options(self, **options: Unpack[OpenTaskOptions]) -> TaskFunction[P, R_co]:
        """Return the same function with other options; they come before the decorator's. For tests, for example.

        Args:
            options: As for ``open_task``.
        """
        ...


@overload
def task(function: Callable[Concatenate[OpenTask, P], R], /) -> TaskFunction[P, R]: ...
@overload
def task(
    **options: Unpack[OpenTaskOptions],
) -> Callable[[Callable[Concatenate[OpenTask, P], R]], TaskFunction[P, R]]: ...
def task(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Decorate a function that is a whole task: ``@stepout.task``, or ``@stepout.task(bucket="…", …)``.

    Args:
        function: Gets the task as its first argument; a mapping that it returns is merged into ``task.result``. May be
            a coroutine function.
        options: As for ``open_task``, which each call does.

    Returns:
        The function without its first argument. Its ``with_options(…)`` is the same function with other options, for
        tests: ``main.with_options(targets=RecordingTarget(), client=MemoryStore("b"), bucket="b", environ={})()``.

    Raises:
        ConfigurationError: It is a generator function, whose body would run after the task was reported.

    Example:
        >>> from stepout.callbacks import RecordingTarget
        >>> @task
        ... def count(task, rows):
        ...     return {"rows": rows}
        >>> target = RecordingTarget()
        >>> count.with_options(environ={}, targets=target)(3)
        {'rows': 3}
        >>> target.successes[0]["result"]
        {'rows': 3}
    """
    if function is None:
        return functools.partial(_decorated, options=options)
    return _decorated(function, options=options)


def _decorated(function: Callable[..., Any], *, options: Any) -> Any:
    made: Any = as_task(function, lambda: open_task(**options), passes_task=True)
    made.with_options = lambda **others: _decorated(function, options={**options, **others})
    return made
