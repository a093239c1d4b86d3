"""How far the task is, told to the log and to the targets that can show it, from a thread of its own.

The job's thread leaves three values behind and goes on, whatever the network does. The thread takes the newest of them:
at once, and then once in five seconds at most. It starts with the first call, sleeps while there is nothing new, and
ends with the block. Nothing here fails a task, and the outcome never waits for it: once it is reported, the end of the
block waits for the last progress, for two seconds at most, and not at all in a task that was asked to stop.
"""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final

from stepout.callbacks.delivery.logs import redacted_logs
from stepout.schemas.errors import TaskClosedError
from stepout.schemas.progress import progress_of
from stepout.schemas.text.foreign_text import logger
from stepout.schemas.text.times import rfc3339

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepout.callbacks.lifecycle.session import TaskSession
    from stepout.callbacks.protocols import ShowsProgress
    from stepout.schemas import RunIdentity
    from stepout.schemas.progress import TaskProgress

_log = logger("stepout.callbacks.progress")

INTERVAL: Final = 5.0
"""Seconds between two reports, at least."""

LAST_PATIENCE: Final = 2.0
"""Seconds for which the end of the block waits for the last report, at most."""

_LONGEST_PAUSE: Final = 300.0


class Channel:
    """One target that shows progress. What fails is tried again with the next report, after a pause that doubles.

    Args:
        target: The target.
    """

    def __init__(self, target: ShowsProgress) -> None:
        self._target = target
        self._closed = False
        self._failures = 0
        self._not_before = float("-inf")

    def tell(self, progress: TaskProgress, now: float, *, last: bool) -> None:
        """Send a report, unless the target refused the one before a short time ago.

        Args:
            progress: The report.
            now: Seconds, monotonic.
            last: Whether none will follow, so that it is sent in any case.
        """
        if self._closed or (now < self._not_before and not last):
            return
        try:
            self._target.report_progress(progress)
        except TaskClosedError as closed:
            self._closed = True
            _log.info("progress is shown no longer: %s", closed)
        except Exception as error:  # noqa: BLE001 - a target may raise anything, and progress never fails a task
            told = _log.info if self._failures else _log.warning  # once; the log itself still has every report
            told("the progress was not shown at %r; the task goes on: %s", self._target, error)
            self._failures += 1
            self._not_before = now + min(INTERVAL * 2**self._failures, _LONGEST_PAUSE)
        else:
            if self._failures:
                _log.info("the progress is shown again at %r", self._target)
            self._failures = 0


class ProgressReporter:
    """Takes what a job says of its progress, and passes the newest on.

    Args:
        session: The task's checked settings.
        run: Returns whose progress it is.
        interval: Seconds between two reports, at least.
        clock: Seconds, monotonic.
        now: The time of a report.
    """

    def __init__(
        self,
        session: TaskSession,
        run: Callable[[], RunIdentity],
        *,
        interval: float = INTERVAL,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._session, self._run = session, run
        self._interval, self._clock, self._now = interval, clock, now
        self._latest: tuple[object, object, object] | None = None
        self._told: tuple[object, object, object] | None = None
        self._waiting = False
        # A job may call from any thread, and from a signal's handler: ``put`` may interrupt itself.
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._ended = threading.Event()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._misunderstood = False

    def update(self, done: object, total: object, message: object) -> None:
        """Leave the newest progress behind; the thread reads it later, and says so if it cannot be understood."""
        if self._ended.is_set():
            return
        self._latest = (done, total, message)
        # The value before the flag here, the flag before the value in the thread: so none is passed over.
        if not self._waiting:
            self._waiting = True
            self._wake.put(None)
            if self._thread is None:
                self._start()

    def end(self) -> None:
        """Take no further progress, and have the last one reported now; does not wait for it."""
        self._ended.set()
        self._wake.put(None)

    def wait(self, seconds: float) -> None:
        """Wait until the last progress is reported, so many seconds at most."""
        if self._thread is not None:
            self._thread.join(timeout=seconds)

    def _start(self) -> None:
        # Not waited for: another thread, or this one beneath a signal's handler, starts it already.
        if not self._starting.acquire(blocking=False):
            return
        try:
            if self._thread is None:
                thread = threading.Thread(target=self._follow, name="stepout-progress", daemon=True)
                with contextlib.suppress(RuntimeError):  # No thread can be started: a later call tries again.
                    thread.start()
                    self._thread = thread
            if self._thread is None:
                self._waiting = False
        finally:
            self._starting.release()

    def _follow(self) -> None:
        channels = [Channel(target) for target in self._session.targets.progress_channels]
        # The task's own redaction ends with the task. This thread may run longer.
        with redacted_logs(self._session.redactor):
            last = False
            while not last:
                self._wake.get()
                last = self._ended.is_set()
                self._waiting = False
                if self._latest is self._told:
                    continue
                began = self._clock()
                try:
                    self._tell(channels, last=last)
                except Exception as error:  # noqa: BLE001 - a text of the job's may raise anything
                    self._pass_over(type(error).__name__)
                self._ended.wait(max(0.0, began + self._interval - self._clock()))

    def _tell(self, channels: list[Channel], *, last: bool) -> None:
        self._told = latest = self._latest
        assert latest is not None  # noqa: S101 - it differs from what was told, so there is one
        done, total, message = latest
        # Secrets go first: what is cut or escaped is recognised no longer.
        progress = progress_of(done, total, self._session.redactor.text("" if message is None else str(message)))
        if progress is None:
            self._pass_over("done and total must be numbers from 0 on")
            return
        at = rfc3339(self._now(), to="milliseconds")
        progress = replace(progress, reported_at=at, run=self._run())
        _log.info("progress: %s", progress)
        for channel in channels:
            channel.tell(progress, self._clock(), last=last)

    def _pass_over(self, why: str) -> None:
        if not self._misunderstood:
            _log.warning("what task.progress was given cannot be reported, and is passed over: %s", why)
        self._misunderstood = True
