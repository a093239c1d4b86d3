"""One report to several targets: the first one decides; the others are told, and cannot hold up the task."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any

from stepout.callbacks.delivery.logs import redacted_logs
from stepout.callbacks.delivery.redaction import Redactor
from stepout.callbacks.protocols import BoundedTarget, ShowsProgress, Target, TokenBearer
from stepout.callbacks.targets.local import StdoutTarget
from stepout.schemas.errors import ConfigurationError
from stepout.schemas.runtime.events import carried
from stepout.schemas.text.foreign_text import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

_log = logger("stepout.callbacks.report")

_PATIENCE = 200.0
"""Seconds. No target of this package tries for so long, so only a target that hangs is given up."""
_FIRST_BEAT = 2.0
_SHARE = 0.8
"""The share of the seconds after a request to stop that the others get, so that the process still ends by itself."""


class FanOut:
    """Passes reports on to a primary target, and then to the others, all at once.

    The others are told from daemon threads: one that hangs delays neither heartbeats nor the end of a process that was
    asked to stop.

    Args:
        targets: The primary target first.
        patience: Seconds to wait for the others, once the primary target has taken a terminal report.
        first_beat: Seconds to wait for the others after the first heartbeat. Later heartbeats do not wait.
        clock: Seconds, monotonic.

    Raises:
        ConfigurationError: The list is empty, or a member is not a target.
    """

    def __init__(
        self,
        targets: Target | Sequence[Target],
        *,
        patience: float = _PATIENCE,
        first_beat: float = _FIRST_BEAT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._primary, *self._others = [targets] if isinstance(targets, Target) else _checked(targets)
        self._patience, self._first_beat, self._clock = patience, first_beat, clock
        self._latest = float("inf")
        self._beats: dict[int, threading.Thread] = {}

    def __repr__(self) -> str:
        return f"FanOut({len(self._others) + 1} targets)"

    @property
    def prints(self) -> bool:
        """Whether an outcome goes to standard output."""
        return any(isinstance(target, StdoutTarget) for target in (self._primary, *self._others))

    def redactor(self, secrets: Iterable[str] = ()) -> Redactor:
        """Return a redactor that knows every token of the targets, and these secrets."""
        redactor = Redactor(secrets)
        for target in (self._primary, *self._others):
            if (known := _redactor_of(target)) is not None:
                redactor |= known
        return redactor

    def success(self, document: Mapping[str, Any]) -> None:
        """Report the output document; raises what the primary target raises."""
        # The primary target first and alone: if it refuses the success, the others must not be told of one.
        self._primary.success(document)
        self._tell_others(lambda target: target.success(document))

    def failure(self, error: str, cause: str) -> None:
        """Report a failure; raises what the primary target raises."""
        self._primary.failure(error, cause)
        self._tell_others(lambda target: target.failure(error, cause))

    def heartbeat(self) -> None:
        """Say that the task is alive; raises what the primary target raises."""
        self._primary.heartbeat()
        first = not self._beats
        for index, target in enumerate(self._others):
            # One heartbeat at a time for each target: if one hangs, the next would hang too, in one more thread.
            if (before := self._beats.get(index)) is None or not before.is_alive():
                self._beats[index] = _start(lambda each: each.heartbeat(), target)
        if first:
            self._wait(self._beats.values(), self._first_beat)

    def limit(self, seconds: float) -> None:
        """Make the targets that can do so give up retrying so many seconds from now, and wait for the others no longer.

        Callable from any thread.
        """
        # A wait that is under way sees the new end, because it waits in short pieces. The end only moves nearer.
        self._latest = min(self._latest, self._clock() + seconds * _SHARE)
        for target in (self._primary, *self._others):
            with contextlib.suppress(Exception):  # The signal watcher calls this, and must go on.
                if isinstance(target, BoundedTarget):
                    target.limit(seconds)

    @property
    def progress_channels(self) -> tuple[ShowsProgress, ...]:
        """The targets that can show others how far the task is, the primary one first."""
        return tuple(target for target in (self._primary, *self._others) if isinstance(target, ShowsProgress))

    def _tell_others(self, tell: Callable[[Target], None]) -> None:
        threads = [_start(tell, target) for target in self._others]
        self._wait(threads, self._patience)
        for thread, target in zip(threads, self._others, strict=True):
            if thread.is_alive():
                _log.warning("%r was not told: it did not answer in time, and the task ends without it", target)

    def _wait(self, threads: Iterable[threading.Thread], patience: float) -> None:
        began = self._clock()
        for thread in threads:
            # In short waits, because a request to stop moves the end.
            while thread.is_alive() and (left := min(began + patience, self._latest) - self._clock()) > 0:
                thread.join(min(left, 0.1))


def _checked(targets: Sequence[Target]) -> list[Target]:
    listed = list(targets)
    if not listed:
        raise ConfigurationError("a task needs at least one target, the primary one")
    for target in listed:
        if not isinstance(target, Target):
            raise ConfigurationError(f"a {type(target).__name__} is no target: it lacks success, failure or heartbeat")
    return listed


def _start(tell: Callable[[Target], None], target: Target) -> threading.Thread:
    thread = threading.Thread(target=carried(_tell), args=(tell, target), name="stepout-tell", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # The interpreter shuts down, or the process has as many threads as it may.
        _tell(tell, target)
    return thread


def _tell(tell: Callable[[Target], None], target: Target) -> None:
    redactor = _redactor_of(target)
    # The task's own redaction ends with the task. A thread that was given up may run longer.
    with redacted_logs(redactor) if redactor is not None else contextlib.nullcontext():
        try:
            tell(target)
        except Exception as error:  # noqa: BLE001 - a notification never fails the task
            _log.warning("%r was not told: %s", target, error)


def _redactor_of(target: Target) -> Redactor | None:
    """Return the target's redactor; a caller's target may have another member of that name."""
    known = target.redactor if isinstance(target, TokenBearer) else None
    return known if isinstance(known, Redactor) else None
