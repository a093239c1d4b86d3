"""Which events a process tells by itself: spans, where the program has imported OpenTelemetry. Imports it never."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from stepout.schemas.runtime.events import Events, current_operation

if TYPE_CHECKING:
    from stepout.schemas.runtime.event import EventListener

TRACING: Final = "opentelemetry.trace"
"""The module of the API that a program imports when it wants traces."""


def span_listener() -> EventListener | None:
    """Return what makes spans of events; ``None`` in a program that has not imported OpenTelemetry."""
    if TRACING not in sys.modules:
        return None
    from stepout.schemas.runtime.spans import SPANS

    return SPANS


def current_traceparent() -> str | None:
    """Return the trace that this thread is in, as W3C's Trace Context writes it; ``None`` outside one."""
    if TRACING not in sys.modules:
        return None
    from stepout.schemas.runtime.spans import traceparent_here

    return traceparent_here()


def new_events() -> Events:
    """Return events that nobody listens to yet, but a tracer that the program has."""
    return Events(late=span_listener)


def events_here() -> Events:
    """Return the events of the task, or of whatever else this thread is in; else new ones."""
    current = current_operation()
    return new_events() if current is None else current.events
