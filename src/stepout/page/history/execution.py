"""An execution of a state machine, from what Step Functions says of it and from the events of its history. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from stepout.page.causes import plain, told_cause
from stepout.page.history.event import read_event, read_time
from stepout.page.history.found_documents import NOTHING, NamedThings, named_in
from stepout.page.history.visits import VisitTracker
from stepout.page.model import ExecutionRun, StateAttempt, StateVisit

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from stepout.page.history.event import PastEvent
    from stepout.page.history.visits import Tried, Visited

_ARN_PARTS: Final = 7
_BEGINNING: Final = datetime.fromtimestamp(0, UTC)
_STATUSES: Final = {"RUNNING", "SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED", "PENDING_REDRIVE"}


@dataclass(frozen=True, kw_only=True)
class ExecutionHistory:
    """An execution, and what a page needs besides to put documents and visits together.

    Attributes:
        run: The execution, its visits still without documents.
        visits: What is known of each visit, in the order of ``run.visits``.
        named: What the execution's own output names.
        tokens: The task tokens that its events pass on: never to be shown.
    """

    run: ExecutionRun
    visits: tuple[Visited, ...]
    named: NamedThings = NOTHING
    tokens: frozenset[str] = frozenset()


def execution_history(
    described: Mapping[str, Any], events: Iterable[object], *, more_events: bool = False
) -> ExecutionHistory:
    """Make an execution of what Step Functions says.

    Args:
        described: The answer of DescribeExecution; ``{"executionArn": …}`` alone where that may not be asked for.
        events: Those of GetExecutionHistory, in any order. What is no event is left out.
        more_events: Whether there are events that were not read.

    Returns:
        The execution. Whatever the events say or leave out, it is one.
    """
    read = [event for event in map(read_event, events) if event is not None]
    return history_of(described, read, more_events=more_events)


def history_of(
    described: Mapping[str, Any], events: Iterable[PastEvent], *, more_events: bool = False
) -> ExecutionHistory:
    """Make an execution of events that have been read; see ``execution_history``."""
    by_number = {event.event_id: event for event in events}
    ordered = [by_number[number] for number in sorted(by_number)]
    tracker = VisitTracker()
    tracker.take(ordered)
    status, ended = _end(described, tracker, more_events=more_events)
    known = status if not more_events or status == "RUNNING" else ""
    cause = told_cause(described.get("cause")) if described.get("cause") else tracker.cause
    names = _names(described)
    run = ExecutionRun(
        **names,
        status=status,
        started_at=read_time(described.get("startDate")) or tracker.started_at or _first(ordered),
        ended_at=ended,
        error=_text(described.get("error")) or tracker.error,
        cause=cause.cause,
        redriven_at=tuple(tracker.redriven_at),
        stood=tuple(tracker.stood),
        visits=tuple(_visit(each, known, ended) for each in tracker.visits),
        events=len(ordered),
        more_events=more_events,
    )
    named = named_in(described.get("output"))
    return ExecutionHistory(
        run=run,
        visits=tuple(tracker.visits),
        named=tracker.named if named is NOTHING and tracker.named else named,
        tokens=frozenset().union(*(event.tokens for event in ordered)),
    )


def visit_name(number: int) -> str:
    """Return what a visit is called within its page."""
    return f"v{number}"


def attempt_of(tried: Tried, number: int) -> StateAttempt:
    """Return a try as a page shows it."""
    return StateAttempt(
        number=number,
        resource=tried.resource,
        scheduled_at=tried.scheduled_at,
        working_at=tried.working_at,
        working_said_by=tried.working_said_by,
        ended_at=tried.ended_at,
        outcome=tried.outcome,
        error=tried.error,
        cause=tried.cause.cause,
        details=tried.cause.details,
        redriven=number > 0 and tried.redrive > 0 and tried.retry == 0,
    )


def _visit(visit: Visited, execution: str, ended: datetime | None) -> StateVisit:
    status = visit.status(execution)
    over = visit.exited_at or visit.stopped_at
    scope = visit.scope
    return StateVisit(
        visit_id=visit_name(visit.number),
        name=visit.name,
        kind=visit.kind,
        entered_at=visit.entered_at,
        exited_at=over if over is not None or status in {"RUNNING", "UNKNOWN"} else ended,
        status=status,
        iteration=scope.iteration,
        inside=visit_name(scope.inside.number) if scope.inside is not None else None,
        stopped_as=visit.stopped_as if status == "ABORTED" else "",
        attempts=tuple(attempt_of(each, number) for number, each in enumerate(visit.tries)),
    )


def _end(described: Mapping[str, Any], tracker: VisitTracker, *, more_events: bool) -> tuple[str, datetime | None]:
    """Return how the execution stands, and when it ended: it may go on between the two questions."""
    status = described.get("status")
    if status == "RUNNING" and tracker.ended_at is not None:
        return tracker.status, tracker.ended_at
    if isinstance(status, str) and status in _STATUSES:
        return status, read_time(described.get("stopDate")) or (None if status == "RUNNING" else tracker.ended_at)
    if more_events and tracker.ended_at is None:
        return "UNKNOWN", None
    return tracker.status, tracker.ended_at


def _names(described: Mapping[str, Any]) -> dict[str, str]:
    arn, machine = _text(described.get("executionArn")), _text(described.get("stateMachineArn"))
    parts = arn.split(":", _ARN_PARTS)
    told = parts[_ARN_PARTS - 1] if len(parts) > _ARN_PARTS else ""
    name = _text(described.get("name")) or parts[-1]
    return {"arn": arn, "name": name, "state_machine": machine.rpartition(":stateMachine:")[2] or told}


def _first(events: list[PastEvent]) -> datetime:
    return min((event.at for event in events), default=_BEGINNING)


def _text(value: object) -> str:
    return plain(value) if isinstance(value, str) else ""
