"""Spans of OpenTelemetry for tasks, puts, resolves, reads and reports. Imported only where the program has its API.

A span that begins in no other one takes the trace that the document names as its parent: producer and consumer then are
one trace. Within another span it keeps its place, and has a link to that trace. Names are those of OpenTelemetry's
semantic conventions where there are any (https://opentelemetry.io/docs/specs/semconv/registry/attributes/aws/), else
they begin with ``stepout.``. An exception's message is left out: it may quote anything.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from stepout.schemas import rules

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepout.schemas.runtime.event import Event

_SPANNED: Final = frozenset({"task", "put", "resolve", "read", "report"})
_MOMENTARY: Final = frozenset({"range", "nested"})  # one request of a lazy reader; what another process wrote

_ATTRIBUTES: Final = {
    "bucket": "aws.s3.bucket",
    "key": "aws.s3.key",
    "error": "error.type",
}
_OURS: Final = "stepout."
_NAMED: Final = ("artifact", "artifacts", "bytes", "outcome")
_OF_THE_RUN: Final = ("execution", "state", "attempt", "map_index")
_BILLION: Final = 1_000_000_000


class SpanListener:
    """Makes a span of each event that takes time."""

    def begin(self, event: Event, /) -> Callable[[Event], object] | None:
        """Start a span, and make it the current one of this thread."""
        if not _is_span(event):
            return None
        here = _context_here()
        if event.kind == "resolve" and here is None:
            return None  # what its parent is, the document says: the span is made once it has been read
        span = self._started(event, here)
        contexts = sys.modules["opentelemetry.context"]
        token = contexts.attach(_api().set_span_in_context(span))
        return partial(self._end, span, token)

    def __call__(self, event: Event, /) -> None:
        """Make a whole span of what has ended, and an event of the current span of a retry."""
        if event.kind == "retry":
            told = {"error.type": event.error or "unknown", f"{_OURS}operation": event.operation}
            _api().get_current_span().add_event("retry", told)
        elif _is_span(event):
            self._end(self._started(event, _context_here()), None, event)

    def _started(self, event: Event, here: Any) -> Any:
        api = _api()
        there = _context_of(event.traceparent)
        given: dict[str, Any] = {}
        if here is None and there is not None:
            given["context"] = api.set_span_in_context(api.NonRecordingSpan(there))
        elif there is not None and there.trace_id != here.trace_id:
            given["links"] = [api.Link(there)]
        began = int(event.began * _BILLION)
        return api.get_tracer("stepout").start_span(_name_of(event), start_time=began, **given)

    def _end(self, span: Any, token: Any, event: Event) -> None:
        api, there = _api(), _context_of(event.traceparent)
        try:
            # A resolve within a span learns only now what it resolves.
            late = token is not None and event.kind == "resolve" and there is not None and hasattr(span, "add_link")
            if late and there.trace_id != span.get_span_context().trace_id:
                span.add_link(there)
            span.set_attributes(_attributes_of(event))
            if event.outcome not in ("ok", "success"):
                span.set_status(api.Status(api.StatusCode.ERROR))
            span.end(end_time=int((event.began + (event.seconds or 0.0)) * _BILLION))
        finally:
            if token is not None:
                sys.modules["opentelemetry.context"].detach(token)


SPANS: Final = SpanListener()
"""It holds nothing of its own: what a span belongs to is OpenTelemetry's business."""


def traceparent_here() -> str | None:
    """Return the current span as W3C's Trace Context writes it; ``None`` without one."""
    here = _context_here()
    return None if here is None else f"00-{here.trace_id:032x}-{here.span_id:016x}-{int(here.trace_flags):02x}"


def _api() -> Any:
    return sys.modules["opentelemetry.trace"]


def _context_here() -> Any:
    found = _api().get_current_span().get_span_context()
    return found if found.is_valid else None


def _context_of(traceparent: str | None) -> Any:
    """Return what a document names, as the parent of a span; ``None`` if it is none that W3C allows."""
    if traceparent is None or not rules.TRACEPARENT.matches(traceparent):
        return None
    api = _api()
    version, trace, span, flags = traceparent.split("-")
    found = api.SpanContext(int(trace, 16), int(span, 16), is_remote=True, trace_flags=api.TraceFlags(int(flags, 16)))
    return found if found.is_valid and version != "ff" else None


def _is_span(event: Event) -> bool:
    return event.kind in _SPANNED and event.operation not in _MOMENTARY


def _name_of(event: Event) -> str:
    """Return a name of which there are few: state machines have a handful of states."""
    if event.kind == "task":
        state = None if event.run is None else event.run.state
        return f"stepout task {state}" if state else "stepout task"
    return f"stepout {event.kind} {event.operation}" if event.kind == "report" else f"stepout {event.operation}"


def _attributes_of(event: Event) -> dict[str, Any]:
    told = {called: getattr(event, name) for name, called in _ATTRIBUTES.items()}
    told.update((f"{_OURS}{name}", getattr(event, name)) for name in _NAMED)
    told[f"{_OURS}retries"] = event.retries or None
    if event.run is not None:
        told.update((f"{_OURS}{name}", getattr(event.run, name)) for name in _OF_THE_RUN)
        told["aws.step_functions.state_machine.arn"] = event.run.state_machine
    return {name: value for name, value in told.items() if value is not None}
