"""From a history's events to the visits of states: which event belongs to which visit, and how each went. Pure.

Step Functions numbers events and says which one each follows from (``previousEventId``), so that those of branches and
iterations, which mix, can be told apart. Where an event's predecessor is not known (a history that was cut off, an
engine that does not say it, the first event after a redrive), the likeliest visit takes it: one that waits for it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from stepout.page.causes import ToldCause, plain
from stepout.page.history.found_documents import NOTHING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from stepout.page.history.event import PastEvent
    from stepout.page.history.found_documents import NamedThings, ObjectName

_CALLS: Final = ("Task", "LambdaFunction", "Activity")
_CONTAINERS: Final = ("Map", "Parallel")
_ENDS: Final = {"ExecutionSucceeded", "ExecutionFailed", "ExecutionTimedOut", "ExecutionAborted"}
_OUTCOMES: Final = {"Succeeded": "SUCCEEDED", "TimedOut": "TIMED_OUT"}  # every other end is a failure


class Reported(NamedTuple):
    """Documents that came out of a visit: of the attempt that returned them, or (``None``) of the state."""

    named: NamedThings
    attempt: Tried | None


class VisitScope(NamedTuple):
    """Where a state is: in which Map or Parallel, and in which iteration."""

    inside: Visited | None = None
    iteration: int | None = None


@dataclass(kw_only=True, eq=False)
class Tried:
    """One try of a Task, as far as its events have been seen; see ``StateAttempt``.

    Attributes:
        retry: How often the state was retried before, since the execution was started or redriven:
            ``$$.State.RetryCount``.
        redrive: How often the execution had been redriven.
        url: Where the task was told to write its outcome.
    """

    resource: str
    scheduled_at: datetime
    retry: int
    redrive: int
    url: str = ""
    working_at: datetime | None = None
    working_said_by: str = ""
    ended_at: datetime | None = None
    outcome: str = "RUNNING"
    error: str = ""
    cause: ToldCause = field(default_factory=ToldCause)


@dataclass(kw_only=True, eq=False)
class Iteration:
    """One iteration of an inline Map."""

    started_at: datetime
    ended_at: datetime | None = None
    status: str = "RUNNING"


@dataclass(kw_only=True, eq=False)
class Visited:
    """One visit of a state, as far as its events have been seen; see ``StateVisit``.

    Attributes:
        stopped_at: When it ended without being left: it failed, or was aborted.
        failed: Whether the last thing that happened to it is a failure.
        stopped_as: The state whose failure stopped it, if that is why it ended.
        given: The objects that its input names.
        unsearched: Why its input could not be searched for them.
        iterations: Of an inline Map, by index.
        length: How many items a Map has.
        map_runs: Of a Distributed Map.
        is_named: Whether an event has said its name: else it was made up for a try of which nothing more is known.
    """

    number: int
    name: str
    kind: str
    entered_at: datetime
    scope: VisitScope = field(default_factory=VisitScope)
    exited_at: datetime | None = None
    stopped_at: datetime | None = None
    failed: bool = False
    aborted: bool = False
    stopped_as: str = ""
    tries: list[Tried] = field(default_factory=list)
    given: tuple[ObjectName, ...] = ()
    unsearched: str = ""
    reported: list[Reported] = field(default_factory=list)
    iterations: dict[int, Iteration] = field(default_factory=dict)
    length: int | None = None
    map_runs: list[str] = field(default_factory=list)
    is_named: bool = True

    @property
    def is_open(self) -> bool:
        """Whether it has neither been left nor stopped."""
        return self.exited_at is None and self.stopped_at is None

    @property
    def last_try(self) -> Tried | None:
        """The try that is under way; ``None`` if there is none."""
        last = self.tries[-1] if self.tries else None
        return last if last is not None and last.ended_at is None else None

    @property
    def map_path(self) -> str:
        """The indices of the Maps around it, as ``producer.mapIndex`` has them: ``"3-0"``; ``""`` outside of Maps."""
        indices = [scope.iteration for scope in self.scopes() if scope.iteration is not None]
        return "-".join(str(index) for index in reversed(indices))

    def scopes(self) -> Iterator[VisitScope]:
        """Yield where it is, from the inside out."""
        scope = self.scope
        while scope.inside is not None:
            yield scope
            scope = scope.inside.scope

    def status(self, execution: str) -> str:
        """Return how it went, or stands.

        Args:
            execution: How the execution stands; ``""`` if the events behind those that were read may say more.
        """
        if self.exited_at is not None:
            return "CAUGHT" if self.failed else "SUCCEEDED"
        if self.failed or self.kind == "Fail":
            return "FAILED"
        if self.aborted or self.stopped_at is not None:
            return "ABORTED"
        return {"RUNNING": "RUNNING", "": "UNKNOWN"}.get(execution, "ABORTED")


class VisitTracker:
    """Takes events in the order of their numbers, and knows what they say of visits and of the execution.

    Attributes:
        visits: In the order of being entered.
        started_at: When the execution began; ``None`` if no event has said so.
        ended_at: When it ended last; ``None`` while it runs.
        status: As its events say it: ``"RUNNING"``, ``"SUCCEEDED"``, …
        error: Of an execution that failed.
        cause: As ``error``.
        redriven_at: When it was redriven.
        stood: From when to when it had ended until a redrive, each time.
        named: What the execution's own output names.
    """

    def __init__(self) -> None:
        self.visits: list[Visited] = []
        self.started_at: datetime | None = None
        self.ended_at: datetime | None = None
        self.status = "RUNNING"
        self.error = ""
        self.cause = ToldCause()
        self.redriven_at: list[datetime] = []
        self.stood: list[tuple[datetime, datetime]] = []
        self.named = NOTHING
        self._owners: dict[int, Visited] = {}
        self._scopes: dict[int, VisitScope] = {}
        self._open: dict[str, dict[Visited, None]] = {}  # those that have not been left, in order

    def take(self, events: Iterable[PastEvent]) -> None:
        """Take events that come behind those that were taken before."""
        for event in events:
            owner = self._take(event)
            if owner is not None:
                self._owners[event.event_id] = owner
                self._scopes.setdefault(event.event_id, owner.scope)
            elif event.previous in self._scopes:
                self._scopes.setdefault(event.event_id, self._scopes[event.previous])

    def _take(self, event: PastEvent) -> Visited | None:
        kind = event.type
        if kind.endswith("StateEntered"):
            return self._entered(event, kind.removesuffix("StateEntered"))
        if kind.endswith("StateExited"):
            return self._exited(event, kind.removesuffix("StateExited"))
        if kind.startswith("Execution"):
            self._of_execution(event)
            return None
        if kind == "EvaluationFailed":
            return self._evaluated(event)
        if kind.startswith(("MapIteration", "MapRun")) or "State" in kind:
            return self._of_state(event)
        call = next((each for each in _CALLS if kind.startswith(each)), None)
        return None if call is None else self._called(event, kind.removeprefix(call))

    # The execution --------------------------------------------------------------------------------------------------

    def _of_execution(self, event: PastEvent) -> None:
        if event.type == "ExecutionStarted":
            self.started_at = event.at
        elif event.type == "ExecutionRedriven":
            self.redriven_at.append(event.at)
            self.stood += [] if self.ended_at is None else [(self.ended_at, event.at)]
            self.status, self.ended_at, self.error, self.cause = "RUNNING", None, "", ToldCause()
        elif event.type in _ENDS:
            self.status = {"TimedOut": "TIMED_OUT"}.get(event.type[9:], event.type[9:].upper())
            self.ended_at, self.error, self.cause, self.named = event.at, event.error, event.cause, event.named
            waiting = [each for every in self._open.values() for each in every if each.is_open]
            if event.type == "ExecutionFailed":
                self._blame(event, waiting)
            for visit in waiting:
                _stop(visit, event.at)

    def _blame(self, event: PastEvent, waiting: list[Visited]) -> None:
        """Let the state have failed that an execution failed in: not all of them say so themselves."""
        visit = self._owners.get(event.previous)
        if visit is None and not any(each.failed for each in waiting):
            visit = max(waiting, key=lambda each: each.number, default=None)
        if visit is not None and visit.exited_at is None:
            visit.failed = True
        left_open = [each for every in self._open.values() for each in every]
        # Of an engine that does not say so of the Map or the Parallel around it.
        for scope in (scope for each in left_open if each.failed for scope in each.scopes()):
            if scope.inside is not None and scope.inside.exited_at is None:
                scope.inside.failed = True
        self._tell_culprit(event, left_open)

    def _tell_culprit(self, event: PastEvent, stopped: list[Visited]) -> None:
        """Tell those that did not fail themselves which state's failure has stopped them."""
        failed = [each for each in stopped if each.failed and each.kind not in _CONTAINERS]
        owner = self._owners.get(event.previous)
        culprit = owner if owner in failed else failed[-1] if failed else None
        for each in stopped:
            if culprit is not None and not each.failed and each.exited_at is None:
                each.stopped_as = each.stopped_as or culprit.name

    # States ---------------------------------------------------------------------------------------------------------

    def _entered(self, event: PastEvent, kind: str) -> Visited:
        scope = self._scopes.get(event.previous, VisitScope())
        visit = Visited(
            number=len(self.visits),
            name=event.name,
            kind=kind,
            entered_at=event.at,
            scope=scope,
            given=event.named.objects,
            unsearched=event.named.problem,
        )
        return self._added(visit)

    def _added(self, visit: Visited) -> Visited:
        self.visits.append(visit)
        self._open.setdefault(visit.kind, {})[visit] = None
        return visit

    def _exited(self, event: PastEvent, kind: str) -> Visited | None:
        visit = self._owner(event, kind)
        if visit is None:
            return None
        visit.exited_at, visit.stopped_at, visit.aborted, visit.stopped_as = event.at, None, False, ""
        if (last := visit.last_try) is not None:  # an end that is not in the history
            last.ended_at, last.outcome = event.at, "SUCCEEDED"
        if event.named is not NOTHING:
            visit.reported.append(Reported(event.named, None))
        self._open[visit.kind].pop(visit, None)
        if kind in _CONTAINERS:
            for each in self._inside(visit):  # nothing goes on in there
                self._open[each.kind].pop(each, None)
        return visit

    def _owner(self, event: PastEvent, kind: str) -> Visited | None:
        """Return the visit of a kind of state that an event belongs to, which has not been left."""
        visit = self._owners.get(event.previous)
        inside = self._scopes.get(event.previous, VisitScope()).inside
        # What ends a Map or a Parallel follows from an event inside of it.
        for each in (visit, inside, *(scope.inside for scope in (visit.scopes() if visit is not None else ()))):
            if each is not None and each.kind == kind and each.exited_at is None and event.name in {"", each.name}:
                return self._resumed(each)
        fits = [each for each in self._open.get(kind, ()) if event.name in {"", each.name}]
        return self._resumed(fits[-1]) if fits else None

    def _resumed(self, visit: Visited) -> Visited:
        """Return a visit, open anew if a redrive goes on with it; and so is what it is inside of."""
        if self.redriven_at and not visit.is_open and visit.exited_at is None:
            visit.stopped_at, visit.failed, visit.aborted, visit.stopped_as = None, False, False, ""
            if visit.scope.inside is not None:
                self._resumed(visit.scope.inside)
        return visit

    def _of_state(self, event: PastEvent) -> Visited | None:
        """Take what tells of a Map, a Parallel, an iteration or a run, or that a state was aborted."""
        kind = next((each for each in _CONTAINERS if event.type.startswith(each)), event.type.partition("State")[0])
        visit = self._owner(event, kind)
        if visit is None:
            return None
        if event.type.startswith("MapIteration"):
            self._iterated(visit, event)
        elif event.type.endswith("StateStarted"):
            visit.length, visit.failed = event.length, False
            self._scopes[event.event_id] = VisitScope(visit)
        elif event.type.endswith("Aborted"):
            visit.aborted = True
            _stop(visit, event.at)
        elif event.type.endswith(("Failed", "Succeeded")):
            visit.failed = event.type.endswith("Failed")
            if visit.failed:
                inside = self._inside(visit)
                for each in (each for each in inside if each.is_open):
                    _stop(each, event.at)
                self._tell_culprit(event, inside)
                visit.tries += [_whole_failure(event, visit.entered_at, len(self.redriven_at))] if event.error else []
        if event.map_run and event.map_run not in visit.map_runs:
            visit.map_runs.append(event.map_run)
        return visit

    def _iterated(self, visit: Visited, event: PastEvent) -> None:
        index = event.index or 0
        if event.type == "MapIterationStarted":
            visit.iterations[index] = Iteration(started_at=event.at)
            self._scopes[event.event_id] = VisitScope(visit, index)
            return
        iteration = visit.iterations.setdefault(index, Iteration(started_at=event.at))
        iteration.ended_at, iteration.status = event.at, event.type.removeprefix("MapIteration").upper()

    def _inside(self, container: Visited) -> list[Visited]:
        """Return the visits inside of a Map or a Parallel that have not been left."""
        waiting = (each for every in self._open.values() for each in every if each.number > container.number)
        return [each for each in waiting if any(scope.inside is container for scope in each.scopes())]

    # What a Task calls ----------------------------------------------------------------------------------------------

    def _called(self, event: PastEvent, what: str) -> Visited | None:
        visit = self._scheduling(event) if what == "Scheduled" else self._calling(event)
        if visit is None:
            return None
        tried = visit.last_try
        if what == "Scheduled" or (tried is None and what == "ScheduleFailed"):
            redrive = len(self.redriven_at)
            retry = sum(each.redrive == redrive for each in visit.tries)
            tried = Tried(resource=event.resource, scheduled_at=event.at, retry=retry, redrive=redrive, url=event.url)
            visit.tries.append(tried)
            visit.failed = False
        if tried is not None and what != "Scheduled":
            self._went_on(visit, tried, event, what)
            if not visit.is_named:
                self._named_by(visit, event)
        return visit

    def _named_by(self, visit: Visited, event: PastEvent) -> None:
        """Learn from what a task reported whose visit no event has named; nothing more comes after its success."""
        run = event.cause.value.get("run") if isinstance(event.cause.value, dict) else None
        said = run if event.error else next((each.get("producer") for each in event.named.outputs), None)
        state = said.get("state") if isinstance(said, dict) else None
        if isinstance(state, str) and state:
            visit.name = plain(state)
        if event.type.endswith("Succeeded"):
            visit.exited_at = event.at
            self._open[visit.kind].pop(visit, None)

    @staticmethod
    def _went_on(visit: Visited, tried: Tried, event: PastEvent, what: str) -> None:
        if event.working is not None:
            tried.working_at, tried.working_said_by = event.working
        if what == "Started":
            # Of a task that is waited for, this is the request that starts it, not its work.
            if not tried.resource.endswith((".sync", ".sync:2", ".waitForTaskToken")):
                tried.working_at, tried.working_said_by = event.at, "Step Functions"
        elif what != "Submitted":
            tried.ended_at, tried.outcome = event.at, _OUTCOMES.get(what, "FAILED")
            tried.error, tried.cause = event.error, event.cause
            visit.failed = tried.outcome != "SUCCEEDED"
            if event.named is not NOTHING:
                visit.reported.append(Reported(event.named, tried))

    def _scheduling(self, event: PastEvent) -> Visited:
        """Return the visit that schedules a try; one that no event has named, if no other can."""
        visit = self._owners.get(event.previous)
        if visit is not None and visit.kind == "Task" and visit.exited_at is None:
            return self._resumed(visit)
        waiting = [each for each in self._open.get("Task", ()) if each.last_try is None]
        if self.redriven_at:
            stopped = [each for each in waiting if not each.is_open]
            same = [each for each in stopped if each.tries and each.tries[-1].resource == event.resource]
            if stopped:
                return self._resumed((same or stopped)[0])
        waiting = [each for each in waiting if each.is_open]
        again = [each for each in waiting if each.tries and each.tries[-1].resource == event.resource and each.failed]
        fresh = [each for each in waiting if not each.tries]
        return (fresh or again)[-1] if fresh or again else self._unnamed(event)

    def _unnamed(self, event: PastEvent) -> Visited:
        around = [each for kind in _CONTAINERS for each in self._open.get(kind, ()) if each.is_open]
        inside = max(around, key=lambda each: each.number, default=None)
        name = f"{inside.name}: {event.resource}" if inside is not None else event.resource
        visit = Visited(
            number=len(self.visits),
            name=name,
            kind="Task",
            entered_at=event.at,
            scope=VisitScope(inside),
            is_named=False,
        )
        return self._added(visit)

    def _calling(self, event: PastEvent) -> Visited | None:
        """Return the visit whose try an event tells of: the oldest one that may be meant, if the event does not say."""
        visit = self._owners.get(event.previous)
        if visit is not None and visit.kind == "Task":
            return visit
        running = [each for each in self._open.get("Task", ()) if each.last_try is not None]
        same = [each for each in running if each.tries[-1].resource == event.resource]
        waiting = [each for each in self._open.get("Task", ()) if each.is_open]
        return next(iter(same or running), waiting[-1] if waiting else None)

    def _evaluated(self, event: PastEvent) -> Visited | None:
        """Take an expression that could not be evaluated: the state failed before, or after, what it calls."""
        visit = self._owners.get(event.previous)
        if visit is None or visit.exited_at is not None:
            named = [each for every in self._open.values() for each in every if each.name == event.name]
            visit = max(named, key=lambda each: each.number, default=None)
        if visit is not None:
            visit.failed = True
            if visit.last_try is None:
                visit.tries.append(_whole_failure(event, event.at, len(self.redriven_at)))
            else:
                last = visit.tries[-1]
                last.ended_at, last.outcome, last.error, last.cause = event.at, "FAILED", event.error, event.cause
        return visit


def _whole_failure(event: PastEvent, since: datetime, redrive: int) -> Tried:
    """Return a try that stands for a failure of the state itself."""
    return Tried(
        resource="",
        scheduled_at=since,
        retry=0,
        redrive=redrive,
        ended_at=event.at,
        outcome="FAILED",
        error=event.error,
        cause=event.cause,
    )


def _stop(visit: Visited, at: datetime) -> None:
    visit.stopped_at = at
    if (last := visit.last_try) is not None:
        last.ended_at, last.outcome = at, "ABORTED"
