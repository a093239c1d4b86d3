"""What the first screen answers: did it work, why did it fail, how long did it take, how long did it wait. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from stepout.page.words import FIRST_ARTIFACT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from stepout.page.model import ArtifactCard, ExecutionRun, OutputCard, RunPage, StateAttempt, StateVisit

Span = tuple["datetime", "datetime"]
_FAILURES_SHOWN: Final = 12
_SHORT: Final = 1.0
_GRAVITY: Final = ("ended the execution", "failed", "caught", "redriven", "tried again")
_BAD: Final = frozenset({"FAILED", "TIMED_OUT", "ABORTED"})
_FAILED: Final = frozenset({"FAILED", "TIMED_OUT"})  # what was only stopped is not to blame


@dataclass(frozen=True, kw_only=True)
class FailedTry:
    """One failure, or several that are the same: an error in a state.

    Attributes:
        state: The state's name; empty if the execution itself failed.
        visit_id: Where the timeline shows it; ``None`` if nowhere.
        led_on: What followed: ``"ended the execution"``, ``"caught"``, ``"redriven"``, ``"tried again"``,
            ``"failed"``: more of them.
        times: How many failures are like this one.
    """

    state: str
    visit_id: str | None
    error: str
    cause: str
    details: str
    led_on: str
    times: int = 1


@dataclass(frozen=True, kw_only=True)
class Times:
    """Where the time of an execution went, in seconds by the clock: what happened at once counts once.

    Attributes:
        took: From its start to its end, or to now.
        waited: Some attempt waited for capacity, and none worked.
        worked: Some attempt worked.
        undecided: Some attempt waited or worked, nobody says which, and none is known to have worked.
        between: An attempt had failed, and the next one was not yet scheduled, while the execution went on.
        stood: The execution had ended, and was not yet redriven.
        known: Attempts of which somebody says when their work began.
        unknown: Attempts of a second or more of which nobody does; shorter ones have not waited to speak of.
        attempts: All attempts.
        summed: What the attempts waited, one after the other.
        at_most: As ``waited``, with all the time before first artifacts.
    """

    took: float
    waited: float
    worked: float
    undecided: float
    between: float
    stood: float
    known: int
    unknown: int
    attempts: int
    summed: float
    at_most: float


def failures_of(page: RunPage) -> tuple[list[FailedTry], int]:
    """Return the failures that a reader should see first, and how many there are besides.

    What ended the execution comes first, then what was caught, then what was tried again.
    """
    run = page.execution
    if run is None:
        return [], 0
    found = _merged(_failed_tries(run))
    if run.status in _BAD and not any(each.led_on == "ended the execution" for each in found):
        ended = FailedTry(
            state="", visit_id=None, error=run.error, cause=run.cause, details="", led_on="ended the execution"
        )
        found = [ended, *found]
    found.sort(key=lambda each: _GRAVITY.index(each.led_on))
    return found[:_FAILURES_SHOWN], max(len(found) - _FAILURES_SHOWN, 0)


def _failed_tries(run: ExecutionRun) -> Iterator[FailedTry]:
    last = _last_failed(run)
    for visit in run.visits:
        failed = [each for each in visit.attempts if each.outcome in _FAILED]
        for attempt in failed:
            after = next(iter(visit.attempts[visit.attempts.index(attempt) + 1 :]), None)
            yield FailedTry(
                state=visit.name,
                visit_id=visit.visit_id,
                error=attempt.error or attempt.outcome,
                cause=attempt.cause,
                details=attempt.details,
                led_on=_led_on(visit, after, last=visit is last),
            )
        if not failed and visit.status in _FAILED and visit is last:
            yield FailedTry(
                state=visit.name,
                visit_id=visit.visit_id,
                error=run.error,
                cause=run.cause,
                details="",
                led_on="ended the execution",
            )


def _last_failed(run: ExecutionRun) -> StateVisit | None:
    """Return the visit that ended the execution: the last that failed, a Task or a Fail before the Map around it."""
    if run.status not in _BAD:
        return None
    failed = [visit for visit in run.visits if visit.status in _FAILED]
    tried = [each for each in failed if each.kind == "Fail" or any(own.outcome in _FAILED for own in each.attempts)]
    same = [visit for visit in tried if any(each.error == run.error for each in visit.attempts)]
    found = same or tried or failed
    return found[-1] if found else None


def _led_on(visit: StateVisit, after: StateAttempt | None, *, last: bool) -> str:
    if after is not None:
        return "redriven" if after.redriven else "tried again"
    if last:
        return "ended the execution"
    return "caught" if visit.status == "CAUGHT" else "failed"


def _merged(tries: Iterable[FailedTry]) -> list[FailedTry]:
    """Put the failures of one state with one error together: what the gravest led to, and its words."""
    merged: dict[tuple[str, str], FailedTry] = {}
    for each in tries:
        before = merged.setdefault((each.state, each.error), replace(each, times=0))
        graver = each if _GRAVITY.index(each.led_on) <= _GRAVITY.index(before.led_on) else before
        merged[each.state, each.error] = replace(graver, times=before.times + 1)
    return list(merged.values())


def times_of(run: ExecutionRun, now: datetime) -> Times:
    """Return where an execution's time went."""
    end = run.ended_at or now
    attempts = [each for visit in run.visits if visit.kind == "Task" for each in visit.attempts]
    waits, works, unsaid = (list(filter(None, [part(each, end) for each in attempts])) for part in _PARTS)
    working, waiting, undecided = _union(works), _union(waits), _union(unsaid)
    bounded = _union([*waits, *(span for each in attempts if (span := _before_artifact(each)) is not None)])
    return Times(
        took=(end - run.started_at).total_seconds(),
        waited=_length(waiting) - _overlap(waiting, working),
        worked=_length(working),
        undecided=_length(undecided) - _overlap(undecided, working),
        between=_length(_union(_gaps(run.visits))),
        stood=_length(_union(run.stood)),
        known=len(waits),
        unknown=sum((stop - start).total_seconds() >= _SHORT for start, stop in unsaid),
        attempts=len(attempts),
        summed=_length(waits),
        at_most=_length(bounded) - _overlap(bounded, working),
    )


def is_bound(attempt: StateAttempt) -> bool:
    """Tell whether the start of an attempt's work is known from its first artifact alone: it was then, or before."""
    return attempt.working_said_by == FIRST_ARTIFACT


def _waited(attempt: StateAttempt, _end: datetime) -> Span | None:
    """Return when an attempt waited, if that is known."""
    return None if attempt.working_at is None or is_bound(attempt) else _until_work(attempt)


def _before_artifact(attempt: StateAttempt) -> Span | None:
    return _until_work(attempt) if is_bound(attempt) else None


def _until_work(attempt: StateAttempt) -> Span:
    return attempt.scheduled_at, max(attempt.working_at or attempt.scheduled_at, attempt.scheduled_at)


def _worked(attempt: StateAttempt, end: datetime) -> Span | None:
    """Return when an attempt worked, if that is known."""
    start = attempt.working_at
    return None if start is None else (start, max(attempt.ended_at or end, start))


def _unsaid(attempt: StateAttempt, end: datetime) -> Span | None:
    """Return when an attempt waited or worked, nobody says which."""
    if attempt.working_at is None:
        return attempt.scheduled_at, max(attempt.ended_at or end, attempt.scheduled_at)
    return _before_artifact(attempt)


_PARTS = (_waited, _worked, _unsaid)


def _gaps(visits: Iterable[StateVisit]) -> Iterator[Span]:
    for visit in visits:
        for before, after in zip(visit.attempts, visit.attempts[1:], strict=False):
            if not after.redriven and before.ended_at is not None and after.scheduled_at > before.ended_at:
                yield before.ended_at, after.scheduled_at


def _union(spans: Iterable[Span]) -> list[Span]:
    merged: list[Span] = []
    for start, stop in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], stop))
        else:
            merged.append((start, stop))
    return merged


def _length(spans: Iterable[Span]) -> float:
    return sum((stop - start).total_seconds() for start, stop in spans)


def _overlap(left: list[Span], right: list[Span]) -> float:
    """Return for how many seconds both happened; each list is in order and without overlaps."""
    total, i, j = 0.0, 0, 0
    while i < len(left) and j < len(right):
        start, stop = max(left[i][0], right[j][0]), min(left[i][1], right[j][1])
        total += max((stop - start).total_seconds(), 0.0)
        if left[i][1] < right[j][1]:
            i += 1
        else:
            j += 1
    return total


def artifacts_of(page: RunPage) -> list[tuple[OutputCard, ArtifactCard]]:
    """Return every artifact with the output that names it."""
    return [(output, artifact) for output in page.outputs for artifact in output.artifacts]
