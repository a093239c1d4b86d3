"""Which of them a task has switched on, by its environment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stepout.observe import json_logs, metrics
from stepout.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stepout.callbacks.lifecycle.uncaught import Show
    from stepout.schemas import RunIdentity
    from stepout.schemas.runtime.events import Events

_LOG: Final = "STEPOUT_LOG"
_METRICS: Final = "STEPOUT_METRICS"


def logs_json(environ: Mapping[str, str]) -> bool:
    """Say whether ``STEPOUT_LOG`` asks for JSON lines.

    Raises:
        ConfigurationError: It asks for something else.
    """
    return _is_on(environ, _LOG, "json")


def observe(events: Events, environ: Mapping[str, str], run: RunIdentity, *, prints_document: bool) -> Show | None:
    """Switch on what the environment asks for.

    Args:
        events: Of the task.
        environ: ``os.environ``, or a mapping like it.
        run: Which run of which state this is.
        prints_document: Whether the task's outcome goes to standard output.

    Returns:
        What shows an exception that nothing caught; ``None``: the interpreter, as text.

    Raises:
        ConfigurationError: ``STEPOUT_LOG`` or ``STEPOUT_METRICS`` has a value that is not known.
    """
    emf = _is_on(environ, _METRICS, "emf")
    show: Show | None = None
    if logs_json(environ):
        show = json_logs.say_uncaught if json_logs.install(run) else None
        events.add(json_logs.log_event)
    if emf:
        events.add(metrics.TaskMetrics(metrics.standard_error if prints_document else metrics.standard_output))
    return show


def _is_on(environ: Mapping[str, str], name: str, value: str) -> bool:
    said = environ.get(name, "").strip().lower()
    if said in ("", value):
        return bool(said)
    raise ConfigurationError(f"{name} is {said[:40]!r}: expected {value!r} or nothing")
