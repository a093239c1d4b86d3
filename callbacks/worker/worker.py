"""Workers: processes that outlive one task, take tasks from a source, and run one subprocess for each.

The process of a task reports by itself and sends its own heartbeats; the worker takes tasks, hides them from
other workers, and settles those whose process ended without a report. ``SqsWorker`` and ``ActivityWorker`` are workers.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from stepout.callbacks.delivery.answers import answer_to, name_of
from stepout.callbacks.delivery.clients import build_client
from stepout.callbacks.delivery.decisions import Answer, backoff
from stepout.callbacks.delivery.logs import redacted_logs
from stepout.callbacks.delivery.redaction import Redactor
from stepout.callbacks.lifecycle.signals import STOPS
from stepout.callbacks.process.child_process import ChildProcess
from stepout.callbacks.process.exit_codes import describe
from stepout.callbacks.process.forwarding import forwarding
from stepout.callbacks.process.orphans import reap_orphans
from stepout.callbacks.process.output import LineSplitter
from stepout.callbacks.worker.protocols import WorkerCounts
from stepout.callbacks.worker.settlement import Settler, TaskEnd
from stepout.schemas.errors import ConfigurationError, TaskError
from stepout.schemas.runtime.process import PerProcess
from stepout.schemas.text.foreign_text import logger

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mypy_boto3_stepfunctions import SFNClient

    from stepout.callbacks.worker.job import Job
    from stepout.callbacks.worker.protocols import TakenTask, TaskSource, WorkerOptions

_log = logger("stepout.callbacks.worker")

_TICK = 0.2
"""Seconds between two looks at what the main thread watches over; a signal ends such a wait at once."""

_HASTE = 5.0
"""Seconds for the last reports after a second signal."""


_FULL = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE})
"""Temporary errors: the machine has no room for another process now."""

_REST = 5.0
"""Seconds without taking anything on such a machine: what is taken in vain comes nearer to the dead-letter queue."""


_DRAIN = 2.0
"""Seconds for which the rest of a task's output is waited for: somebody who left its session may hold the stream."""


_printing = threading.Lock()


@dataclass
class _Running:
    taken: TakenTask
    child: ChildProcess | None = None
    asked: bool = False
    """Whether its process was asked to stop."""


class Worker:
    """Takes tasks from a source and runs a command for each.

    Args:
        source: Where tasks come from.
        command: The program and its arguments. Its environment is the worker's and the task's; it reports by itself.
        patience: Seconds for which a report of the worker's own is tried again.
        options: See ``WorkerOptions``.

    Raises:
        ConfigurationError: An argument is invalid, or the program does not exist.
    """

    def __init__(self, source: TaskSource, command: Sequence[str], *, patience: float, options: WorkerOptions) -> None:
        self._source = source
        environ = options.get("environ")
        self._environ = dict(os.environ if environ is None else environ)
        self._command = _runnable(command, self._environ)
        self._concurrency = options.get("concurrency", 1)
        self._stop_timeout = _stop_timeout(options.get("stop_timeout"), self._environ)
        self._idle_exit = options.get("idle_exit")
        self._limit = options.get("limit")
        label = options.get("label")
        self._labelled = self._concurrency > 1 if label is None else label
        self._clock = options.get("clock", time.monotonic)
        self._jitter = options.get("jitter", random.random)
        if self._concurrency < 1 or (self._limit is not None and self._limit < 1):
            raise ConfigurationError("concurrency and limit of a worker are 1 at least")
        if not 0 <= (self._idle_exit or 0) < float("inf"):
            raise ConfigurationError("idle_exit must be a number of seconds, 0 or more")
        self._fresh_folder = options.get("fresh_folder", False)
        self._client: PerProcess[SFNClient] = PerProcess(
            lambda: build_client("stepfunctions"), options.get("sfn_client"), name="Step Functions client"
        )
        self._settler = Settler(self._environ, self._client, patience=patience)
        self._changed = threading.Condition()
        self._starting = threading.Lock()
        self._running: dict[str, _Running] = {}
        self._counts: Counter[TaskEnd] = Counter()
        self._begun = 0
        self._polling = False
        self._error: Exception | None = None
        self._stopping = threading.Event()
        self._signals: list[int] = []
        self._busy = self._rests_until = self._clock()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._source!r})"

    def stop(self) -> None:
        """Take no further task, ask running ones to stop, and let ``run`` return; callable from any thread."""
        self._stopping.set()

    def run(self) -> WorkerCounts:
        """Take and run tasks until ``stop``, SIGTERM or SIGINT, or until ``idle_exit`` or ``limit`` is reached.

        In the main thread, SIGTERM and SIGINT are handled while it runs: nothing more is taken, the processes get
        SIGTERM, and SIGKILL five seconds before the stop timeout; a second signal sends that at once.

        Returns:
            What the worker has done.

        Raises:
            ConfigurationError: The source does not exist, or may not be used.
            TaskError: This worker ran before.
        """
        if self._polling or self._begun or self._error:
            raise TaskError("this worker ran before; make a new one")
        with redacted_logs(Redactor()), self._signals_stop():
            self._source.check()
            self._polling = True
            self._busy = self._clock()
            threading.Thread(target=self._poll, name="stepout-poll", daemon=True).start()
            self._watch()
        if self._error is not None:
            raise self._error
        return WorkerCounts(
            reported=self._counts[TaskEnd.REPORTED],
            failed_here=self._counts[TaskEnd.FAILED_HERE],
            returned=self._counts[TaskEnd.RETURNED],
            kept=self._counts[TaskEnd.KEPT] + self._counts[TaskEnd.POISON],
            signum=self._signals[0] if self._signals else None,
        )

    # In the main thread ---------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _signals_stop(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def heard(signum: int) -> None:
            self._signals.append(signum)
            self._stopping.set()

        with forwarding(heard, STOPS):
            yield

    def _watch(self) -> None:
        """Wait until everything is done; once the worker is to stop, see to it that this happens in time."""
        asked_at: float | None = None
        while self._polling or self._running:
            with self._changed:
                self._changed.wait(_TICK)
            if os.getpid() == 1:
                with self._starting:  # Else a process could be taken for an orphan before it is known here.
                    reap_orphans(self._pids())
            if not self._stopping.is_set():
                continue
            if asked_at is None:
                asked_at = self._clock()
                _log.info("stopping: no further task is taken, and %d are asked to stop", len(self._running))
            if not self._wind_down(self._clock() - asked_at):
                return

    def _wind_down(self, seconds: float) -> bool:
        """End the children, so many seconds after the worker was asked to stop; return whether to go on waiting."""
        hurried = len(self._signals) > 1
        with self._changed:
            children = [running for running in self._running.values() if running.child is not None]
            for running in children:
                if running.child is not None and not running.asked:
                    running.asked = True
                    running.child.terminate()
                if running.child is not None and (hurried or seconds > child_grace(self._stop_timeout)):
                    running.child.kill()
            if not self._running and hurried:
                return False
        # A twentieth is left for the interpreter's own end, before the system sends SIGKILL to this process.
        return seconds < (_HASTE if hurried else self._stop_timeout * 0.95)

    def _pids(self) -> frozenset[int]:
        with self._changed:
            children = (running.child for running in self._running.values())
            return frozenset(child.pid for child in children if child is not None and child.pid is not None)

    # In the polling thread ------------------------------------------------------------------------------------------

    def _poll(self) -> None:
        failures, worked = 0, False
        try:
            while (most := self._room()) > 0:
                try:
                    found = self._source.take(most, self._patience())
                except Exception as error:  # noqa: BLE001 - a worker outlives its queue's bad days
                    self._error = self._wrong_setting(error, worked=worked)
                    if self._error is not None:
                        return
                    # No RetryLoop: a report has an end, polling has none, and ``stop`` ends the wait between two.
                    failures += 1
                    wait = backoff(failures, self._jitter(), base=1.0, most=30.0)
                    _log.warning(
                        "%r cannot be asked for tasks; again in %.0f s: %s", self._source, wait, name_of(error)
                    )
                    self._stopping.wait(wait)
                    continue
                failures, worked = 0, True
                for taken in found:
                    self._begin_apart(taken)
                if self._idle(found):
                    return
        finally:
            with self._changed:
                self._polling = False
                self._changed.notify_all()

    def _wrong_setting(self, error: Exception, *, worked: bool) -> ConfigurationError | None:
        """Return the error that trying again cannot mend: no such source, or access denied before its first answer.

        Later a denial passes by itself: a role's policy is being changed, or its credentials rotate.
        """
        if isinstance(error, ConfigurationError):
            return error
        answer = answer_to(error)
        if answer is not Answer.MISSING and (worked or answer is not Answer.DENIED):
            return None
        found = ConfigurationError(f"{self._source!r} cannot be read: {name_of(error)}. {self._source.remedy}")
        found.__cause__ = error
        return found

    def _room(self) -> int:
        """How many tasks may be taken now; waits until it is one at least, and is 0 when no more is to be taken."""
        with self._changed:
            while not self._stopping.is_set():
                free = self._concurrency - len(self._running)
                left = free if self._limit is None else self._limit - self._begun
                if left <= 0 and self._limit is not None:
                    return 0
                if free > 0 and self._clock() >= self._rests_until:
                    return min(free, left)
                self._changed.wait(_TICK)
        return 0

    def _patience(self) -> float:
        if self._idle_exit is None or self._running:
            return float("inf")
        return max(self._idle_exit - (self._clock() - self._busy), 0.0)

    def _idle(self, found: Sequence[TakenTask]) -> bool:
        now = self._clock()
        if found or self._running:
            self._busy = now
        return self._idle_exit is not None and now - self._busy >= self._idle_exit

    def _begin_apart(self, taken: TakenTask) -> None:
        """Begin a task; log a fault, so that the other tasks and the worker go on."""
        try:
            self._begin(taken)
        except Exception:  # noqa: BLE001 - logged, and the message comes back
            _log.exception("task %s could not be begun; its message comes back", taken.name)
            self._count(taken, TaskEnd.KEPT)

    def _begin(self, taken: TakenTask) -> None:
        # Looked up and entered in one step: of two deliveries of a task, one may not start beside the other. A task
        # that arrives after the stop was under way in the last poll, and is not begun.
        with self._changed:
            running = self._running.get(taken.job.token)
            begun = None
            if running is None and not self._stopping.is_set():
                self._begun += 1
                self._running[taken.job.token] = begun = _Running(taken)
        if begun is not None:
            self._launch(begun)
        elif running is not None:
            _log.info("task %s is delivered again while it runs here as %s", taken.name, running.taken.name)
            self._source.absorb(running.taken, taken)
        else:
            end = TaskEnd.RETURNED if self._source.returnable else self._settler.interrupted(taken.job)
            self._close(taken, end)
            self._count(taken, end)

    def _launch(self, running: _Running) -> None:
        try:
            name = f"stepout-{running.taken.name}"
            threading.Thread(target=self._work, args=(running,), name=name, daemon=True).start()
        except RuntimeError as error:
            self._count(running.taken, self._not_started(running.taken.job, BlockingIOError(errno.EAGAIN, str(error))))

    def _count(self, taken: TakenTask, end: TaskEnd) -> None:
        with self._changed:
            self._running.pop(taken.job.token, None)
            self._counts[end] += 1
            self._busy = self._clock()
            self._changed.notify_all()

    # In a task's thread ---------------------------------------------------------------------------------------------

    def _work(self, running: _Running) -> None:
        taken, end = running.taken, TaskEnd.KEPT
        with redacted_logs(Redactor([taken.job.token])):
            try:
                end = self._do(running)
                self._close(taken, end)
            except Exception:  # noqa: BLE001 - logged, and the message comes back
                _log.exception("task %s could not be settled", taken.name)
                if not self._source.returnable:
                    end = self._settler.interrupted(taken.job)
            finally:
                self._count(taken, end)

    def _do(self, running: _Running) -> TaskEnd:
        taken, job, began = running.taken, running.taken.job, self._clock()
        _log.info("task %s begins: %s", taken.name, job.run.to_dict() or "of an unknown run")
        if job.ignored:
            _log.warning("task %s: members that were not used: %s", taken.name, ", ".join(map(repr, job.ignored[:5])))
        if job.problems:
            return self._settler.invalid(job)
        with self._folder() as folder:
            child = self._start(running, folder)
            pause = taken.every
            while not child.ended.wait(None if pause == float("inf") else pause):
                pause = self._source.keep(taken)
        if child.refused is not None:
            return self._not_started(job, child.refused)
        if child.broken is not None:  # No room for the threads that follow it.
            return self._not_started(job, BlockingIOError(errno.EAGAIN, str(child.broken)))
        how = "was killed by this worker" if child.killed else describe(child.returncode)
        _log.info("task %s %s after %.1f s", taken.name, how, self._clock() - began)
        return self._settler.ended(job, child.returncode, stopping=running.asked, returnable=self._source.returnable)

    def _start(self, running: _Running, folder: str | None) -> ChildProcess:
        job = running.taken.job
        out, err = (self._labelled_lines(running.taken, stream) for stream in (sys.stdout, sys.stderr))
        environ = job.environment(self._environ, stop_timeout=child_grace(self._stop_timeout))
        child = ChildProcess(self._command, environ, stdout=out, stderr=err, folder=folder, drain=_DRAIN)
        # Under the lock until the process is known here: the main thread of a PID 1 reaps whatever it does not know.
        with self._starting:
            child.start()
            child.launched.wait()
            with self._changed:
                running.child = child
        return child

    def _labelled_lines(self, taken: TakenTask, stream: TextIO) -> LineSplitter | None:
        """Takes what a task prints, and begins each line with its name; ``None`` leaves the output untouched."""
        if not self._labelled:
            return None
        redactor = Redactor([taken.job.token])

        def write(line: str) -> None:
            with _printing:  # Of several tasks' threads: a line stays whole.
                stream.write(f"[{taken.name}] {redactor.text(line)}\n")
                stream.flush()

        return LineSplitter(write)

    def _not_started(self, job: Job, error: OSError) -> TaskEnd:
        if error.errno not in _FULL:
            return self._settler.not_started(job, error)
        _log.error("this machine cannot start another process; nothing is taken for %.0f s: %s", _REST, error)
        self._rests_until = self._clock() + _REST
        return TaskEnd.KEPT if self._source.returnable else self._settler.interrupted(job)

    @contextlib.contextmanager
    def _folder(self) -> Iterator[str | None]:
        if not self._fresh_folder:
            yield None
            return
        with tempfile.TemporaryDirectory(prefix="stepout-task-", ignore_cleanup_errors=True) as folder:
            yield folder

    def _close(self, taken: TakenTask, end: TaskEnd) -> None:
        _log.info("task %s is %s", taken.name, end.value)
        if end in (TaskEnd.REPORTED, TaskEnd.FAILED_HERE):
            self._source.finish(taken)
        elif end is TaskEnd.RETURNED:
            self._source.give_back(taken)
        elif end is TaskEnd.POISON:
            self._source.refuse(taken)


def child_grace(stop_timeout: float) -> float:
    """Return the seconds from SIGTERM to SIGKILL for a task's process: five less than the worker has, or half of it."""
    return max(stop_timeout - 5.0, stop_timeout / 2)


def _runnable(command: Sequence[str], environ: Mapping[str, str]) -> tuple[str, ...]:
    if isinstance(command, str) or not command:
        raise ConfigurationError('a worker needs a command, a sequence such as ["python", "-m", "mask"]')
    program = shutil.which(command[0], path=environ.get("PATH"))
    if program is None:
        raise ConfigurationError(f"there is no program {command[0]!r} for the worker to run")
    return (str(Path(program).absolute()), *command[1:])


def _stop_timeout(given: float | None, environ: Mapping[str, str]) -> float:
    value = given
    if value is None:
        try:
            value = float(environ.get("STEPOUT_STOP_TIMEOUT", "").strip() or 30.0)
        except ValueError:
            value = -1.0
    if not 0 < value < float("inf"):
        raise ConfigurationError("STEPOUT_STOP_TIMEOUT (stop_timeout) must be a number of seconds above 0")
    return value
