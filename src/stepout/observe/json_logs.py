"""Structured logs, by ``STEPOUT_LOG=json``: one JSON object a line, on standard error.

They are switched on where the program has not set up logging itself: while the root logger has no handler. A program
that has set it up decides what its lines look like, and gets the lines of events from the logger ``stepout.observe``.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from stepout.schemas.runtime.events import current_operation
from stepout.schemas.runtime.listening import current_traceparent
from stepout.schemas.text.foreign_text import logger, shown_json
from stepout.schemas.text.times import rfc3339

if TYPE_CHECKING:
    from stepout.schemas import RunIdentity
    from stepout.schemas.runtime.event import Event

_log = logger("stepout.observe")

_EVENT: Final = "stepout_event"  # the attributes of a record that ours alone have
_TRACE: Final = "stepout_traceback"
_RARE: Final = frozenset({"heartbeat", "range"})  # not rare, but seldom of interest: at level DEBUG

_MEMBERS: Final = ("artifact", "bucket", "key", "bytes", "artifacts", "outcome", "error")
_OF_THE_RUN: Final = ("execution", "state", "attempt", "mapIndex", "redrive")


class JsonLines(logging.Formatter):
    """Makes one JSON object of a record.

    Args:
        run: Which run of which state the lines are of, where the thread is in no task.
    """

    def __init__(self, run: RunIdentity) -> None:
        super().__init__()
        self._run = run

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end; a task's secrets were taken out when the record was made."""
        operation = current_operation()
        run = (operation.events.run if operation is not None else None) or self._run
        told = run.to_dict()
        line: dict[str, Any] = {
            "time": rfc3339(datetime.fromtimestamp(record.created, UTC), to="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **{name: told[name] for name in _OF_THE_RUN if name in told},
        }
        if (trace := current_traceparent()) is not None:
            line["traceparent"] = trace
        if (event := getattr(record, _EVENT, None)) is not None:
            line["event"] = event
        if (exception := _exception_of(record)) is not None:
            line["exception"] = exception
        return shown_json(json.dumps(line, ensure_ascii=False, default=str))


def _exception_of(record: logging.LogRecord) -> dict[str, str] | None:
    error = record.exc_info[1] if record.exc_info else None
    if error is not None:
        trace = "".join(traceback.format_exception(error))
        return {"type": type(error).__name__, "message": str(error), "traceback": trace}
    text = getattr(record, _TRACE, None) or record.exc_text  # redacted, and so text alone
    return {"traceback": text} if text else None


def install(run: RunIdentity) -> bool:
    """Have the whole process log JSON lines, unless the program has set up logging itself.

    The levels stay: warnings and errors of all loggers, and of stepout's own ones what is at INFO, the events. A second
    call changes nothing but the run.

    Args:
        run: Which run of which state the lines are of.

    Returns:
        Whether the process logs JSON lines.
    """
    root, ours = logging.getLogger(), logging.getLogger("stepout")
    found = next((each for each in root.handlers if isinstance(each.formatter, JsonLines)), None)
    if found is None and root.handlers:
        return False
    handler = found or logging.StreamHandler()
    handler.setFormatter(JsonLines(run))
    if found is None:
        root.addHandler(handler)
        if ours.level == logging.NOTSET:
            ours.setLevel(logging.INFO)
    return True


def log_event(event: Event) -> None:
    """Log an event, at INFO; heartbeats and single requests of lazy readers at DEBUG; what failed as a warning."""
    failed = event.outcome not in ("ok", "success")
    rare = event.kind in _RARE or event.operation in _RARE
    level = logging.WARNING if failed and event.kind != "retry" else logging.DEBUG if rare else logging.INFO
    if not _log.isEnabledFor(level):
        return
    told: dict[str, Any] = {"kind": event.kind, "operation": event.operation}
    told.update((name, value) for name in _MEMBERS if (value := getattr(event, name)) is not None)
    told["seconds"] = round(event.seconds or 0.0, 6)
    if event.retries:
        told["retries"] = event.retries
    _log.log(level, "%s", _sentence(event), extra={_EVENT: told})


def _sentence(event: Event) -> str:
    plain = event.operation.startswith(event.kind) or event.operation in ("range", "verify", "download")
    what = event.operation if plain else f"{event.kind} {event.operation}"
    words = [what, *filter(None, [event.artifact])]
    if event.bytes is not None:
        words.append(f"{event.bytes:,} bytes")
    return f"{' '.join(words)}: {event.error or event.outcome}"


def say_uncaught(heading: str, text: str) -> None:
    """Log an exception that nothing caught.

    Args:
        heading: What happened, in words; empty: it ends the program.
        text: The traceback, without secrets.
    """
    _log.critical("%s", heading or "the program ends by an exception that nothing caught", extra={_TRACE: text})
    sys.stderr.flush()
