"""One report to several targets: the first one decides, the others are told."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Any

from stepout.callbacks.ports import Target
from stepout.callbacks.redact import Redactor
from stepout.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["Reporter"]

_log = logging.getLogger("stepout.callbacks.report")


class Reporter:
    """Passes reports on to a primary target and to those that are merely notified.

    Args:
        targets: The primary target first.

    Raises:
        ConfigurationError: There is none, or one is no target.
    """

    def __init__(self, targets: Target | Sequence[Target]) -> None:
        listed = [targets] if isinstance(targets, Target) else list(targets)
        if not listed:
            raise ConfigurationError("a task needs at least one target, the primary one")
        for target in listed:
            if not isinstance(target, Target):
                raise ConfigurationError(
                    f"a {type(target).__name__} is no target: it lacks success, failure or heartbeat"
                )
        self._primary, *self._others = listed

    def __repr__(self) -> str:
        return f"Reporter({len(self._others) + 1} targets)"

    @property
    def redactor(self) -> Redactor:
        """Knows every token of the targets."""
        redactor = Redactor()
        for target in (self._primary, *self._others):
            if isinstance(known := getattr(target, "redactor", None), Redactor):
                redactor |= known
        return redactor

    def success(self, document: Mapping[str, Any]) -> None:
        """Report the output document; raises what the primary target raises."""
        self._primary.success(document)
        self._notify(lambda target: target.success(document))

    def failure(self, error: str, cause: str) -> None:
        """Report a failure; raises what the primary target raises."""
        self._primary.failure(error, cause)
        self._notify(lambda target: target.failure(error, cause))

    def heartbeat(self) -> None:
        """Say that the task is alive; raises what the primary target raises."""
        self._primary.heartbeat()
        self._notify(lambda target: target.heartbeat())

    def limit(self, seconds: float) -> None:
        """Make the targets that can do so give up retrying so many seconds from now."""
        for target in (self._primary, *self._others):
            if callable(limit := getattr(target, "limit", None)):
                with contextlib.suppress(Exception):  # The watcher must live on.
                    limit(seconds)

    def _notify(self, tell: Callable[[Target], None]) -> None:
        for target in self._others:
            try:
                tell(target)
            except Exception as error:  # noqa: BLE001 - a notification never fails the task
                _log.warning("%r was not told: %s", target, error)
