"""When each state was visited: one row a visit, and one row for all visits of a state that has many. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Final, Literal

from stepout.page.rendering.summary import is_bound
from stepout.page.words import tone

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from stepout.page.model import ExecutionRun, StateAttempt, StateVisit

Kind = Literal["waiting", "working", "unknown", "between", "inside"]
"""What a bar is of: ``unknown`` is an attempt of which nobody says when its work began."""

_APART: Final = 6
"""More visits than these of one state share a row."""
_ROWS: Final = 120
_LISTED: Final = 40
_BINS: Final = 160
_DEEPEST: Final = 3
_TICKS: Final = 5
_BAD: Final = frozenset({"FAILED", "TIMED_OUT", "CAUGHT"})
_STOPPED: Final = "ABORTED"  # by another's failure, or by somebody: no failure of its own
_STEPS: Final = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 14_400, 21_600, 43_200, 86_400)


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A piece of a row, in per cent of the axis."""

    kind: Kind
    start: float
    width: float
    says: str
    failed: bool = False
    stopped: bool = False


@dataclass(frozen=True, kw_only=True)
class Row:
    """One visit: its bars, how deep it is inside of Maps and Parallels, and what is to be said of it."""

    visit: StateVisit
    depth: int
    bars: tuple[Bar, ...]
    seconds: float
    waited: float | None
    failures: tuple[StateAttempt, ...]


@dataclass(frozen=True, kw_only=True)
class CrowdRow:
    """All visits of one state.

    Attributes:
        waiting: How many visits waited, in each of equal parts of the axis.
        working: How many did anything else.
        failed_at: Where on the axis visits failed, in per cent.
        tone: How they are coloured together.
        rows: Some of the visits: those that failed, then those that took longest.
        unlisted: How many are in no row.
    """

    name: str
    kind: str
    depth: int
    visits: int
    tone: str
    failed: int
    stopped: int
    running: int
    tries: int
    shortest: float
    middle: float
    longest: float
    waiting: tuple[int, ...]
    working: tuple[int, ...]
    most: int
    failed_at: tuple[float, ...]
    rows: tuple[Row, ...]
    unlisted: int


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """The rows, and the axis that they share.

    Attributes:
        ticks: Where the axis is marked, in per cent, and the seconds there.
        hidden: Visits that have no row, because there are too many different states.
        redrives: Where on the axis the execution was redriven, in per cent.
        kinds: The kinds of bars that there are.
        failures: Whether anything failed.
        stops: Whether anything was stopped that had not failed.
    """

    rows: tuple[Row | CrowdRow, ...]
    ticks: tuple[tuple[float, float], ...]
    hidden: int
    redrives: tuple[float, ...] = ()
    kinds: frozenset[str] = field(default_factory=frozenset)
    failures: bool = False
    stops: bool = False


class _Axis:
    def __init__(self, run: ExecutionRun, now: datetime) -> None:
        self.start = min([run.started_at, *(visit.entered_at for visit in run.visits)])
        last = [run.ended_at or now, *(visit.exited_at for visit in run.visits if visit.exited_at is not None)]
        self.end = max([self.start, *last])
        self.seconds = max((self.end - self.start).total_seconds(), 0.001)

    def at(self, moment: datetime) -> float:
        """Return a moment's place, in per cent."""
        return min(max(100 * (moment - self.start).total_seconds() / self.seconds, 0.0), 100.0)

    def ticks(self) -> tuple[tuple[float, float], ...]:
        """Return round times, a few of them."""
        step = self._step()
        return tuple((100 * step * n / self.seconds, step * n) for n in range(int(self.seconds / step) + 1))

    def _step(self) -> float:
        least = self.seconds / _TICKS
        if least < 1:
            return next(step for step in (0.001, 0.01, 0.1, 0.2, 0.5, 1.0) if step >= least)
        days = 86_400 * (int(least / 86_400) + 1)
        return float(next((step for step in _STEPS if step >= least), days))


def timeline_of(run: ExecutionRun, now: datetime) -> Timeline:
    """Return the timeline of an execution.

    Args:
        run: The execution.
        now: When the page is made: the end of what still runs.
    """
    axis = _Axis(run, now)
    by_name: dict[str, list[StateVisit]] = {}
    for visit in run.visits:
        by_name.setdefault(visit.name, []).append(visit)
    crowds = {name for name, visits in by_name.items() if len(visits) > _APART}
    depths = _depths(run.visits)
    rows: list[Row | CrowdRow] = []
    shown = 0
    for visit in run.visits:
        first = by_name[visit.name][0] is visit
        if len(rows) >= _ROWS or (visit.name in crowds and not first):
            continue
        depth = depths[visit.visit_id]
        rows.append(_crowd(by_name[visit.name], axis, depth) if visit.name in crowds else _row(visit, axis, depth))
        shown += len(by_name[visit.name]) if visit.name in crowds else 1
    kinds = frozenset(bar.kind for row in rows for bar in _bars_of(row))
    return Timeline(
        rows=tuple(rows),
        ticks=axis.ticks(),
        hidden=len(run.visits) - shown,
        redrives=tuple(axis.at(each) for each in run.redriven_at),
        kinds=kinds,
        failures=any(bar.failed for row in rows for bar in _bars_of(row)),
        stops=any(bar.stopped for row in rows for bar in _bars_of(row)),
    )


def _bars_of(row: Row | CrowdRow) -> Iterable[Bar]:
    return row.bars if isinstance(row, Row) else [bar for each in row.rows for bar in each.bars]


def _depths(visits: Iterable[StateVisit]) -> dict[str, int]:
    """Return how many Maps and Parallels each visit is in, three at most: deeper ones would have no room."""
    depths: dict[str, int] = {}
    for visit in visits:
        depths[visit.visit_id] = min(depths.get(visit.inside or "", -1) + 1, _DEEPEST)
    return depths


def _row(visit: StateVisit, axis: _Axis, depth: int) -> Row:
    end = visit.exited_at or axis.end
    known = [each for each in visit.attempts if each.working_at is not None and not is_bound(each)]
    waited = sum((each.working_at - each.scheduled_at).total_seconds() for each in known if each.working_at is not None)
    return Row(
        visit=visit,
        depth=depth,
        bars=tuple(_bars(visit, axis)),
        seconds=(end - visit.entered_at).total_seconds(),
        waited=max(waited, 0.0) if known else None,
        failures=tuple(each for each in visit.attempts if each.outcome in _BAD),
    )


def _bars(visit: StateVisit, axis: _Axis) -> Iterator[Bar]:
    end = visit.exited_at or axis.end
    if visit.kind != "Task" or not visit.attempts:
        says = f"{visit.kind}: nothing was called"
        yield _bar("inside", (visit.entered_at, end), axis, says, visit.status)
        return
    for attempt in visit.attempts:
        last = attempt.ended_at or end
        outcome = attempt.outcome
        try_number = f"try {attempt.number + 1}"
        if attempt.working_at is None:
            span = attempt.scheduled_at, last
            yield _bar("unknown", span, axis, f"{try_number}: nobody says when its work began", outcome)
            continue
        begun = min(max(attempt.working_at, attempt.scheduled_at), last)
        if is_bound(attempt):
            says = f"{try_number}: nobody says when its work began, at the latest with its first artifact"
            yield _bar("unknown", (attempt.scheduled_at, begun), axis, says)
        else:
            yield _bar("waiting", (attempt.scheduled_at, begun), axis, f"{try_number} waited for capacity")
        yield _bar("working", (begun, last), axis, f"{try_number} worked", outcome)
    for before, after in pairwise(visit.attempts):
        if before.ended_at is not None and after.scheduled_at > before.ended_at:
            yield _bar("between", (before.ended_at, after.scheduled_at), axis, _pause(after))


def _pause(after: StateAttempt) -> str:
    return "stopped until the redrive" if after.redriven else "pause before the next try"


def _bar(kind: Kind, span: tuple[datetime, datetime], axis: _Axis, says: str, ended: str = "") -> Bar:
    start, stop = axis.at(span[0]), axis.at(span[1])
    width, failed, stopped = max(stop - start, 0.0), ended in _BAD, ended == _STOPPED
    return Bar(kind=kind, start=start, width=width, says=says, failed=failed, stopped=stopped)


def _crowd(visits: list[StateVisit], axis: _Axis, depth: int) -> CrowdRow:
    rows = [_row(visit, axis, 0) for visit in visits]
    seconds = sorted(row.seconds for row in rows)
    failed = [visit for visit in visits if visit.status in _BAD]
    waiting, working = _counts(visits, axis)
    listed = sorted(rows, key=lambda row: (row.visit.status not in _BAD, -len(row.failures), -row.seconds))[:_LISTED]
    return CrowdRow(
        name=visits[0].name,
        kind=visits[0].kind,
        depth=depth,
        visits=len(visits),
        tone=_tone(visits),
        failed=len(failed),
        stopped=sum(visit.status == _STOPPED for visit in visits),
        running=sum(visit.status == "RUNNING" for visit in visits),
        tries=sum(max(len(visit.attempts) - 1, 0) for visit in visits),
        shortest=seconds[0],
        middle=median(seconds),
        longest=seconds[-1],
        waiting=waiting,
        working=working,
        most=max(a + b for a, b in zip(waiting, working, strict=True)),
        failed_at=tuple(sorted({round(axis.at(visit.exited_at or axis.end), 1) for visit in failed})),
        rows=tuple(listed),
        unlisted=len(rows) - len(listed),
    )


def _tone(visits: Iterable[StateVisit]) -> str:
    """Return how a state's visits are coloured together: by the worst of them."""
    found = {tone(visit.status) for visit in visits}
    return next((each for each in ("bad", "odd", "busy") if each in found), "good")


def _counts(visits: Iterable[StateVisit], axis: _Axis) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Count in each part of the axis how many visits waited there, and how many did anything else."""
    waits, all_of_them = [0] * (_BINS + 1), [0] * (_BINS + 1)
    for visit in visits:
        _add(all_of_them, (visit.entered_at, visit.exited_at or axis.end), axis)
        for attempt in visit.attempts:
            if attempt.working_at is not None and not is_bound(attempt) and attempt.working_at > attempt.scheduled_at:
                _add(waits, (attempt.scheduled_at, attempt.working_at), axis)
    waiting, whole = _running_sum(waits), _running_sum(all_of_them)
    return waiting, tuple(max(every - some, 0) for every, some in zip(whole, waiting, strict=True))


def _add(changes: list[int], span: tuple[datetime, datetime], axis: _Axis) -> None:
    first, last = (min(int(axis.at(each) * _BINS / 100), _BINS - 1) for each in span)
    changes[first] += 1
    changes[last + 1] -= 1


def _running_sum(changes: list[int]) -> tuple[int, ...]:
    total, sums = 0, []
    for change in changes[:-1]:
        total += change
        sums.append(total)
    return tuple(sums)
