"""Runs a command as a task: what ``stepout run`` does once its arguments are read."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import signal
import sys
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from stepout.callbacks.lifecycle.signals import STOPS, grace_of
from stepout.callbacks.lifecycle.startup import session_from_env
from stepout.callbacks.lifecycle.task_state import Stop
from stepout.callbacks.lifecycle.uncaught import exit_code_of
from stepout.callbacks.process.child_process import ChildProcess, kill_after
from stepout.callbacks.process.exit_codes import NOT_EXECUTABLE, NOT_FOUND, ExitCodes, describe, passed_on
from stepout.callbacks.process.forwarding import forwarding
from stepout.callbacks.process.hardening import harden
from stepout.callbacks.process.output import write_all
from stepout.callbacks.process.owned_folder import owned_folder
from stepout.callbacks.process.tail import DEFAULT_SIZE, TailSize
from stepout.observe.json_logs import install
from stepout.observe.switches import logs_json
from stepout.run.merge import MergedArtifacts, NestedTaskError, merged_result, read_reports
from stepout.run.outputs import (
    Declared,
    Mark,
    find_outputs,
    find_what_is_there,
    marks_of,
    read_result,
    send_outputs,
)
from stepout.run.told_progress import ToldProgress
from stepout.schemas import RunIdentity, TaskOutput
from stepout.schemas.errors import (
    CommandFailedError,
    ConfigurationError,
    OutcomeUndeliveredError,
    OutputMissingError,
    StepoutError,
    TaskClosedError,
    TaskInterrupted,
)
from stepout.schemas.spill import MAX_BUDGET, fit
from stepout.schemas.text.foreign_text import logger, shown
from stepout.tasks import OpenTask
from stepout.terminal_progress import transfer_bar

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, MutableMapping, Sequence

    from stepout.artifacts.transfer.progress import Progress

_log = logger("stepout.run")

_TOKENS: Final = ("STEPOUT_TASK_TOKEN", "TASK_TOKEN")
_NOT_THE_CHILDS: Final = frozenset({*_TOKENS, "STEPOUT_OUTPUT", "STEPOUT_TARGETS", "STEPOUT_FAN_IN", "STEPOUT_METRICS"})
_KEPT_BUDGET: Final = 2_048
"""Bytes for pointers in a failure's cause, half of what a cause holds."""

_LOOK_SECONDS: Final = 0.2


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """The command to run, with its checked settings.

    Attributes:
        command: The program and its arguments.
        outputs: The outputs that the command should leave.
        keep_on_failure: Whether outputs are kept when it fails, too.
        codes: What its exit codes mean.
        tail: How much of the command's output a failure's cause holds.
        result: Where it leaves its result; ``None`` for a new file.
        quiet: Whether no progress is shown, where it would be (on a terminal).
    """

    command: Sequence[str]
    outputs: Sequence[Declared] = ()
    keep_on_failure: bool = False
    codes: ExitCodes = field(default_factory=ExitCodes)
    tail: TailSize = DEFAULT_SIZE
    result: Path | None = None
    quiet: bool = False


class CommandInterrupted(TaskInterrupted):
    """A signal asked the task to stop, and the command was stopped."""

    def __init__(self, message: str, *, signum: int, members: Mapping[str, object]) -> None:
        super().__init__(message, signum=signum)
        self.cause_members = dict(members)


@dataclass(frozen=True, kw_only=True)
class CommandRun:
    """A command that runs as the block of a task, and everything that its end needs.

    Attributes:
        plan: What is run.
        task: Reports its outcome.
        artifacts: The task's artifacts and the command's.
        child: The command.
        patience: Seconds from a signal to SIGKILL for the command.
        reports: The folder in which tasks that the command opens report.
        result: Where it leaves its result.
        progress: What it says of its progress.
        before: The files that were at the places of its outputs before it ran.
    """

    plan: RunPlan
    task: OpenTask
    artifacts: MergedArtifacts
    child: ChildProcess
    patience: float
    reports: Path
    result: Path
    progress: ToldProgress
    before: Mapping[Path, Mark]

    def supervise(self) -> None:
        """Start the command and wait for its end; a signal, or a closed token, ends it sooner."""
        child = self.child
        try:
            child.start()
            # A signal that another thread got does not end a wait; its handler runs in between.
            while not child.ended.wait(_LOOK_SECONDS):
                self.progress.look()
            self.progress.look(last=True)
        except TaskInterrupted as interrupted:
            cancelled = self.task.task_state.stop is Stop.CANCELLED
            if cancelled:
                _log.warning("nobody waits for this task any more: the command is stopped")
            self.task.cancelled.wait(1.0)  # The child's watcher has noted it, too.
            # A signal has reached the command by itself, and so will every further one.
            willing = child.stop(signal.SIGTERM if cancelled else None, self.patience)
            how = describe(child.returncode) if willing else f"was killed after {self.patience:g} s"
            asked = signal.SIGTERM if cancelled else signal.Signals(interrupted.signum)
            message = f"the task was asked to stop by {asked.name}; the command {how}"
            raise CommandInterrupted(message, signum=interrupted.signum, members=self._last_words()) from None

    def settle(self) -> None:
        """Turn the command's end into the task's: outputs and result, or the error that says why not."""
        child, plan = self.child, self.plan
        if child.broken is not None:
            raise RuntimeError("the command could not be started, or not be followed to its end") from child.broken
        if child.refused is not None:
            raise _not_started(plan, child.refused)
        nested = read_reports(self.reports, code=child.returncode)
        if child.returncode or isinstance(nested, NestedTaskError):
            raise self._failure(nested)
        pointers = dict(nested.artifacts or {}) if nested is not None else {}
        try:
            found = find_outputs(plan.outputs, taken=pointers, before=self.before)
        except OutputMissingError as missing:
            missing.cause_members = self._last_words()
            raise
        self.task.result = merged_result(nested, read_result(self.result))
        self.artifacts.adopt(pointers)
        for name, pointer in pointers.items():
            place = {"artifact": name, "bucket": pointer.bucket, "key": pointer.key}
            self.task.events.tell("put", "nested", bytes=pointer.size, **place)
        if nested is not None:
            self.task.traceparent = nested.traceparent
        if found:
            send_outputs(found, self.artifacts.writer)

    def _last_words(self) -> dict[str, Any]:
        redacted = self.task.task_session.redactor.text
        words = {"stderr": self.child.stderr.text(redacted), "stdout": self.child.stdout.text(redacted)}
        return {name: text for name, text in words.items() if text}

    def _failure(self, nested: TaskOutput | NestedTaskError | None) -> CommandFailedError:
        if isinstance(nested, NestedTaskError):
            error: CommandFailedError = nested
        else:
            program = Path(self.plan.command[0]).name
            error = self.plan.codes.failure(program, self.child.returncode, self._last_words())
        if self.plan.keep_on_failure and (kept := self._kept(nested)):
            error.cause_members = {**error.cause_members, "output": kept}
        return error

    def _kept(self, nested: TaskOutput | NestedTaskError | None) -> dict[str, Any] | None:
        """Keep the outputs that are there; return a document of their pointers. Errors here are only logged."""
        from stepout.artifacts.commit_record import KEPT_STEM

        artifacts = self.artifacts
        if isinstance(nested, TaskOutput):
            artifacts.adopt(nested.artifacts or {})
        for each in find_what_is_there(self.plan.outputs, taken=artifacts.pointers, before=self.before):
            try:
                send_outputs([each], artifacts.writer)
            except (StepoutError, OSError) as error:
                _log.warning("the output %s of the failed command could not be kept: %s", each.name, error)
        try:
            output = TaskOutput(artifacts=dict(artifacts.pointers))
            if output.artifacts and artifacts.keeps_record:
                artifacts.put_document(KEPT_STEM, output.to_dict())  # No record will name them, so this does.
            return (
                fit(output, write=artifacts.put_document, budget=_KEPT_BUDGET).to_dict() if output.artifacts else None
            )
        except StepoutError as error:
            _log.warning("the failure does not say where the outputs were kept: %s", error)
            return None


def run_command(
    plan: RunPlan | ConfigurationError,
    environ: MutableMapping[str, str],
    *,
    stop_timeout: float | None = None,
    asked: Sequence[int] = (),
) -> int:
    """Run a command as the task that the environment describes, and report its outcome.

    Args:
        plan: What to run; an error is reported to the waiting state before it is raised.
        environ: ``os.environ``; the task token is taken out of it.
        stop_timeout: Seconds from SIGTERM to SIGKILL, instead of ``STEPOUT_STOP_TIMEOUT``.
        asked: Signals that asked it to stop since the process began, noted until a task can hear them.

    Returns:
        0; the command's exit code, 1 for its own 3 and 4; 3 when its outcome could not be delivered, 4 when nobody
        waits for it.

    Raises:
        StepoutError: The command succeeded, but its outputs, its result or its report did not.
        SystemExit: A signal ended it.
    """
    if os.name != "posix":
        raise ConfigurationError("stepout run needs process groups and POSIX signals; nothing was started")
    if isinstance(plan, ConfigurationError) and not _somebody_waits(environ):
        raise plan
    if sys.stdout is None:
        if not _somebody_waits(environ):
            raise ConfigurationError(
                "standard output is closed, where the outcome would go: redirect it; nothing was done"
            )
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - until the process ends
    as_json = _logs_json(environ)
    with contextlib.nullcontext() if as_json else _spoken_logs():
        try:
            with transfer_bar(quiet=not isinstance(plan, RunPlan) or plan.quiet) as bar:
                _run(plan, environ, stop_timeout, asked, bar)
        except (CommandFailedError, TaskClosedError, OutcomeUndeliveredError) as error:
            said = " ".join(_said_of(error).split())
            with contextlib.suppress(OSError):  # The exit code matters more than this text.
                if as_json:
                    _log.error("%s", said)
                else:
                    sys.stderr.write(f"stepout: {shown(said)}\n")
            return passed_on(error.code) if isinstance(error, CommandFailedError) else exit_code_of(error)
    return 0


def _logs_json(environ: Mapping[str, str]) -> bool:
    try:
        return logs_json(environ) and install(RunIdentity.from_env(environ))
    except ConfigurationError:  # Raised again, and reported, once there is a task.
        return False


def _said_of(error: StepoutError) -> str:
    """Return the text to print about a failure, without what the command has printed itself."""
    if not isinstance(error, CommandFailedError):
        return str(error)
    text = str(error)
    if isinstance(error, NestedTaskError):
        text = f"the command ended with exit code {error.code}; its own task failed, and reported {error.error_name}"
    if (shown := passed_on(error.code)) != error.code:
        text += f" (stepout run ends with {shown}: its own {error.code} would mean something else)"
    return text


def _somebody_waits(environ: Mapping[str, str]) -> bool:
    return any(environ.get(name) for name in (*_TOKENS, "STEPOUT_TARGETS", "STEPOUT_OUTPUT"))


@contextlib.contextmanager
def _spoken_logs() -> Iterator[None]:
    """Print the library's warnings: nobody else in this process listens."""
    logger, handler = logging.getLogger("stepout"), logging.StreamHandler()
    handler.setFormatter(logging.Formatter("stepout: %(message)s"))
    handler.setLevel(logging.WARNING)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def _run(
    plan: RunPlan | ConfigurationError,
    environ: MutableMapping[str, str],
    stop_timeout: float | None,
    asked: Sequence[int],
    bar: Progress | None,
) -> None:
    # Only the command reads the input and checks it.
    ours = {name: value for name, value in environ.items() if name != "STEPOUT_INPUT"}
    tokens = [token for name in _TOKENS if (token := environ.pop(name, None))]
    if tokens:
        harden()
    with session_from_env(ours, artifacts=lambda: _artifacts(ours, bar), stop_timeout=stop_timeout) as session:
        task = OpenTask(session, environ=ours)
    patience = kill_after(grace_of(session.stop_timeout))
    children: list[ChildProcess] = []

    def pass_on(signum: int) -> None:
        for child in children:
            child.send(signum)

    # From before it starts until it is reported: none of them ends this process.
    with forwarding(pass_on, also=STOPS), task:
        if asked:
            signal.raise_signal(asked[0])
        plan, artifacts = _checked(plan, task)
        with _workplace() as folder:
            reports, result = folder / "reports", plan.result or folder / "result.json"
            progress = folder / "progress.json"
            reports.mkdir()
            _made_empty(result)
            told = child_environ(environ, tokens=tokens, reports=reports, result=result, seconds=patience)
            children.append(child := _child_of(plan, {**told, "STEPOUT_PROGRESS": str(progress)}))
            run = CommandRun(
                plan=plan,
                task=task,
                artifacts=artifacts,
                child=child,
                patience=patience,
                reports=reports,
                result=result,
                progress=ToldProgress(progress, task),
                before=marks_of(plan.outputs),
            )
            _see_through(run, ends_line=_prints_outcome(ours, tokens) or bool(ours.get("STEPOUT_METRICS")))


def _checked(plan: RunPlan | ConfigurationError, task: OpenTask) -> tuple[RunPlan, MergedArtifacts]:
    """Raise what is wrong before the command runs, not after hours of it: a bad plan, outputs without a bucket."""
    if isinstance(plan, ConfigurationError):
        raise plan
    artifacts = cast("MergedArtifacts", task.artifacts)
    if plan.outputs:
        _ = artifacts.writer  # raises where there is no bucket
    return plan, artifacts


def _see_through(run: CommandRun, *, ends_line: bool) -> None:
    """Supervise the command and settle its task; where more is printed then, it begins a line of its own."""
    try:
        run.supervise()
    finally:
        if run.child.stdout.unfinished and ends_line:
            sys.stdout.write("\n")
    run.settle()


def _child_of(plan: RunPlan, environ: Mapping[str, str]) -> ChildProcess:
    """Make the command's process, which prints where this one prints."""
    return ChildProcess(
        plan.command,
        environ,
        stdout=partial(write_all, 1),
        stderr=partial(write_all, 2),
        tail=plan.tail,
        foreground=True,
        first_process=os.getpid() == 1,
    )


def _prints_outcome(environ: Mapping[str, str], tokens: Sequence[str]) -> bool:
    """Whether the outcome goes to standard output, where it is a line of its own."""
    return "stdout:" in environ.get("STEPOUT_TARGETS", "").split() or not (tokens or _somebody_waits(environ))


def _artifacts(environ: Mapping[str, str], bar: Progress | None) -> MergedArtifacts:
    from stepout.artifacts.commit_record import commit_record_of
    from stepout.artifacts.manager import ArtifactManager
    from stepout.artifacts.run import resolve_run

    run, record = resolve_run(RunIdentity.from_env(environ)), commit_record_of(environ)
    if not environ.get("STEPOUT_BUCKET"):
        return MergedArtifacts(None, run)
    return MergedArtifacts(ArtifactManager.from_env(environ, run=run, progress=bar, commit_record=record), run)


@contextlib.contextmanager
def _workplace() -> Iterator[Path]:
    """A new folder that only we may read; in memory where the container's file system is read-only."""
    for place in (None, "/dev/shm"):  # noqa: S108 - the folder made in it is our user's alone
        with contextlib.ExitStack() as stack:
            try:
                folder = stack.enter_context(owned_folder("stepout-run-", place))
            except OSError:
                continue
            yield folder
            return
    raise ConfigurationError(
        "stepout run needs a folder for the command's result and reports, and may write nowhere: mount a volume at "
        "/tmp, or set TMPDIR"
    )


def _made_empty(result: Path) -> None:
    """Empty the result file: an earlier command may have left its own result there."""
    try:
        if result.parent.is_dir():  # Else the command has yet to make it.
            result.write_bytes(b"")
    except OSError as error:
        raise ConfigurationError(f"--result: {result} cannot be written ({error.strerror}): name a file") from error


def child_environ(
    environ: Mapping[str, str], *, tokens: Sequence[str], reports: Path, result: Path, seconds: float
) -> dict[str, str]:
    """Return the environment of the command: no token under any name, and a place of its own to report to.

    Args:
        environ: Ours.
        tokens: The secrets to keep out of the command's environment.
        reports: The folder in which tasks that the command opens report.
        result: Where it leaves its result.
        seconds: How long it has from SIGTERM to SIGKILL.
    """
    kept = {
        name: value
        for name, value in environ.items()
        if name not in _NOT_THE_CHILDS and not any(token in value for token in tokens)
    }
    from stepout.artifacts.commit_record import kept_by_parent

    return {
        **kept,
        **kept_by_parent(environ),
        "STEPOUT_TARGETS": f"folder:{reports.as_uri().removeprefix('file:')}",
        "STEPOUT_RESULT": str(result),
        "STEPOUT_STOP_TIMEOUT": f"{max(1.0, seconds):g}",
        "STEPOUT_OUTPUT_BUDGET": str(MAX_BUDGET),  # What is over the budget of the one report is spilled there.
    }


def _not_started(plan: RunPlan, refused: OSError) -> CommandFailedError:
    program = Path(plan.command[0]).name
    if isinstance(refused, FileNotFoundError):
        why = "was not found: neither the program, nor, for a script, the one that its #! line names"
        return plan.codes.failure(program, NOT_FOUND, {}, why=why)
    advice = ""
    if isinstance(refused, PermissionError):
        advice = " (chmod +x it in the image, or run it by its shell)"
    elif refused.errno == errno.ENOEXEC:
        advice = " (made for another processor than this one, or a script without a #! line?)"
    return plan.codes.failure(program, NOT_EXECUTABLE, {}, why=f"could not be started: {refused.strerror}{advice}")
