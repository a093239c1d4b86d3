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
from typing import TYPE_CHECKING, Any, Final

from stepout.callbacks.lifecycle.signals import STOPS, grace_of
from stepout.callbacks.lifecycle.task_state import Stop
from stepout.callbacks.lifecycle.uncaught import exit_code_of
from stepout.callbacks.process.child_process import ChildProcess, kill_after
from stepout.callbacks.process.exit_codes import NOT_EXECUTABLE, NOT_FOUND, ExitCodes, describe, passed_on
from stepout.callbacks.process.forwarding import forwarding
from stepout.callbacks.process.hardening import seclude
from stepout.callbacks.process.output import write_all
from stepout.callbacks.process.owned_folder import owned_folder
from stepout.callbacks.process.tail import DEFAULT_SIZE, TailSize
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
    from stepout.callbacks.delivery.redaction import Redactor
    from stepout.callbacks.protocols import Artifacts

_log = logger("stepout.run")

_TOKENS: Final = ("STEPOUT_TASK_TOKEN", "TASK_TOKEN")
_NOT_THE_CHILDS: Final = frozenset({*_TOKENS, "STEPOUT_OUTPUT", "STEPOUT_TARGETS"})
_KEPT_BUDGET: Final = 2_048
"""Bytes for pointers in a failure's cause, half of what a cause holds."""

_LOOK_SECONDS: Final = 0.2


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """What is to be run, and what is known about it: everything checked.

    Attributes:
        command: The program and its arguments.
        outputs: What it is to leave behind.
        keep_on_failure: Whether outputs are kept when it fails, too.
        codes: What its exit codes mean.
        tail: How much of what it prints a cause holds.
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


class CommandTask(OpenTask):
    """A task whose block is a command, which may write artifacts of its own."""

    @property
    def merged(self) -> MergedArtifacts:
        """The task's artifacts and the command's."""
        artifacts = self._ending.artifacts
        if not isinstance(artifacts, MergedArtifacts):
            raise ConfigurationError("the task has not begun")
        return artifacts

    @property
    def redactor(self) -> Redactor:
        """Knows the task's secrets."""
        return self._redactor

    @property
    def patience(self) -> float:
        """Seconds from a signal to SIGKILL for the command."""
        return kill_after(grace_of(self._ending.stop_timeout))

    @property
    def nobody_waits(self) -> bool:
        """Whether it is to stop because nobody waits any more."""
        return self._ending.fate.now.stop is Stop.CANCELLED


def run_command(
    plan: RunPlan | ConfigurationError,
    environ: MutableMapping[str, str],
    *,
    stop_timeout: float | None = None,
    asked: Sequence[int] = (),
) -> int:
    """Run a command as the task that the environment describes, and report its outcome.

    Args:
        plan: What to run; an error is reported to whoever waits before it is raised.
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
    with _spoken_logs():
        try:
            with transfer_bar(quiet=not isinstance(plan, RunPlan) or plan.quiet) as bar:
                _run(plan, environ, stop_timeout, asked, bar)
        except (CommandFailedError, TaskClosedError, OutcomeUndeliveredError) as error:
            with contextlib.suppress(OSError):  # The exit code matters more than who reads this.
                sys.stderr.write(f"stepout: {shown(' '.join(_said_of(error).split()))}\n")
            return passed_on(error.code) if isinstance(error, CommandFailedError) else exit_code_of(error)
    return 0


def _said_of(error: StepoutError) -> str:
    """What is printed of a failure: what the command has not printed itself."""
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
    tokens = [environ[name] for name in _TOKENS if environ.get(name)]
    if tokens:
        seclude()
    # The input is the command's business: it is neither read nor checked here.
    ours = {name: value for name, value in environ.items() if name != "STEPOUT_INPUT"}
    for name in _TOKENS:
        environ.pop(name, None)
    task = CommandTask.from_env(ours, artifacts=lambda: _artifacts(ours, bar), stop_timeout=stop_timeout)
    children: list[ChildProcess] = []

    def pass_on(signum: int) -> None:
        for child in children:
            child.send(signum)

    # From before it starts until it is reported: none of them ends this process.
    with forwarding(pass_on, also=STOPS), task:
        if asked:
            signal.raise_signal(asked[0])
        if isinstance(plan, ConfigurationError):
            raise plan
        if plan.outputs:
            _ = task.merged.writer
        with _workplace() as folder:
            reports, result = folder / "reports", plan.result or folder / "result.json"
            reports.mkdir()
            _made_empty(result)
            inherited = child_environ(environ, tokens=tokens, reports=reports, result=result, seconds=task.patience)
            before = marks_of(plan.outputs)
            child = ChildProcess(
                plan.command,
                inherited,
                stdout=partial(write_all, 1),
                stderr=partial(write_all, 2),
                tail=plan.tail,
                foreground=True,
                first_process=os.getpid() == 1,
            )
            children.append(child)
            try:
                _supervise(task, child)
            finally:
                if child.stdout.unfinished and _prints_outcome(ours, tokens):
                    sys.stdout.write("\n")
            _settle(task, plan, child, reports, result, before)


def _prints_outcome(environ: Mapping[str, str], tokens: Sequence[str]) -> bool:
    """Whether the outcome goes to standard output, where it is a line of its own."""
    return "stdout:" in environ.get("STEPOUT_TARGETS", "").split() or not (tokens or _somebody_waits(environ))


def _artifacts(environ: Mapping[str, str], bar: Progress | None) -> Artifacts:
    from stepout.artifacts.manager import ArtifactManager
    from stepout.artifacts.run import resolve_run

    run = resolve_run(RunIdentity.from_env(environ))
    own = ArtifactManager.from_env(environ, run=run, progress=bar) if environ.get("STEPOUT_BUCKET") else None
    return MergedArtifacts(own, run)


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
    """What an earlier command left there is not this one's result."""
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
        tokens: What nobody else may know.
        reports: The folder in which tasks that the command opens report.
        result: Where it leaves its result.
        seconds: How long it has from SIGTERM to SIGKILL.
    """
    kept = {
        name: value
        for name, value in environ.items()
        if name not in _NOT_THE_CHILDS and not any(token in value for token in tokens)
    }
    return {
        **kept,
        "STEPOUT_TARGETS": f"folder:{reports.as_uri().removeprefix('file:')}",
        "STEPOUT_RESULT": str(result),
        "STEPOUT_STOP_TIMEOUT": f"{max(1.0, seconds):g}",
        "STEPOUT_OUTPUT_BUDGET": str(MAX_BUDGET),  # What is over the budget of the one report is spilled there.
    }


def _supervise(task: CommandTask, child: ChildProcess) -> None:
    """Start the command and wait for its end; a signal, or a closed token, ends it sooner."""
    try:
        child.start()
        while not child.ended.wait(_LOOK_SECONDS):
            pass  # A signal that another thread got does not end a wait; its handler runs in between.
    except TaskInterrupted as interrupted:
        cancelled = task.nobody_waits
        if cancelled:
            _log.warning("nobody waits for this task any more: the command is stopped")
        task.cancelled.wait(1.0)  # Its watcher has taken note, too.
        # A signal has reached the command by itself, and so will every further one.
        willing = child.stop(signal.SIGTERM if cancelled else None, task.patience)
        how = describe(child.returncode) if willing else f"was killed after {task.patience:g} s"
        asked = signal.SIGTERM if cancelled else signal.Signals(interrupted.signum)
        message = f"the task was asked to stop by {asked.name}; the command {how}"
        raise CommandInterrupted(message, signum=interrupted.signum, members=_last_words(task, child)) from None


def _last_words(task: CommandTask, child: ChildProcess) -> dict[str, Any]:
    words = {"stderr": child.stderr.text(task.redactor.text), "stdout": child.stdout.text(task.redactor.text)}
    return {name: text for name, text in words.items() if text}


def _settle(  # noqa: PLR0913, PLR0917 - the task's parts, and what the command had to do with
    task: CommandTask,
    plan: RunPlan,
    child: ChildProcess,
    reports: Path,
    result: Path,
    before: Mapping[Path, Mark],
) -> None:
    """Turn the command's end into the task's: outputs and result, or the error that says why not."""
    if child.broken is not None:
        raise RuntimeError("the command could not be started, or not be followed to its end") from child.broken
    if child.refused is not None:
        raise _not_started(plan, child.refused)
    nested = read_reports(reports, code=child.returncode)
    if child.returncode or isinstance(nested, NestedTaskError):
        raise _failure(task, plan, child, nested, before)
    pointers = dict(nested.artifacts or {}) if nested is not None else {}
    try:
        found = find_outputs(plan.outputs, taken=pointers, before=before)
    except OutputMissingError as missing:
        missing.cause_members = _last_words(task, child)
        raise
    task.result = merged_result(nested, read_result(result))
    task.merged.adopt(pointers)
    if found:
        send_outputs(found, task.merged.writer)


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


def _failure(
    task: CommandTask,
    plan: RunPlan,
    child: ChildProcess,
    nested: TaskOutput | NestedTaskError | None,
    before: Mapping[Path, Mark],
) -> CommandFailedError:
    if isinstance(nested, NestedTaskError):
        error: CommandFailedError = nested
    else:
        error = plan.codes.failure(Path(plan.command[0]).name, child.returncode, _last_words(task, child))
    if plan.keep_on_failure and (kept := _kept(task, plan, nested, before)):
        error.cause_members = {**error.cause_members, "output": kept}
    return error


def _kept(
    task: CommandTask, plan: RunPlan, nested: TaskOutput | NestedTaskError | None, before: Mapping[Path, Mark]
) -> dict[str, Any] | None:
    """Keep the outputs that are there, and return a document of their pointers; whatever fails here is only logged."""
    if isinstance(nested, TaskOutput):
        task.merged.adopt(nested.artifacts or {})
    for each in find_what_is_there(plan.outputs, taken=task.merged.pointers, before=before):
        try:
            send_outputs([each], task.merged.writer)
        except (StepoutError, OSError) as error:
            _log.warning("the output %s of the failed command could not be kept: %s", each.name, error)
    try:
        output = TaskOutput(artifacts=dict(task.merged.pointers))
        return fit(output, write=task.merged.put_document, budget=_KEPT_BUDGET).to_dict() if output.artifacts else None
    except StepoutError as error:
        _log.warning("the failure does not say where the outputs were kept: %s", error)
        return None
