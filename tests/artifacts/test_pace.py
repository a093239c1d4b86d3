"""The rule of a pace, by itself: whatever a server answers, and whenever."""

from __future__ import annotations

import math
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepout.artifacts.process.pace import CALM_SECONDS, FIRST_RATE, LEAST_RATE, MOST_RATE, Course, Pace, waiting
from stepout.artifacts.retries import WRITES, Retries
from stepout.artifacts.store import SlowDownError
from stepout.schemas.errors import StoreError, StoreUnavailableError

AGES = st.floats(0, 1e6)
COURSES = st.builds(Course, st.sampled_from(["doubling", "falling", "steady"]), st.floats(LEAST_RATE, MOST_RATE))
# What happens next: a request, its answer, or so many seconds of nothing.
HAPPENINGS = st.lists(st.one_of(st.sampled_from(["taken", "refused", "left", "late refusal"]), st.floats(0, 100)))


class _Clock:
    def __init__(self) -> None:
        self.now = 1000.0
        self.waits: list[float] = []

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        assert seconds >= 0
        self.waits.append(seconds)
        self.now += seconds + 1e-6


def _pace(clock: _Clock) -> Pace:
    return Pace(clock=clock, chance=lambda: 0.5)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    """A clock that waiting moves."""
    made = _Clock()
    monkeypatch.setattr(waiting, "how", (made.wait, math.inf))
    return made


@given(COURSES, AGES, st.floats(0, 1e6), st.integers(0, 1000))
def test_a_rate_is_between_its_bounds_whatever_was_measured(
    course: Course, age: float, taken: float, successes: int
) -> None:
    """Never nothing, never negative, never without an end."""
    for each in (course, course.refused(age, taken, successes), course.taken(age, known=successes > 0)):
        assert LEAST_RATE <= each.rate(age) <= MOST_RATE
        assert math.isfinite(each.peak)


@given(COURSES, AGES, st.floats(0, 1e6), st.integers(0, 1000))
def test_a_refusal_never_makes_it_faster(course: Course, age: float, taken: float, successes: int) -> None:
    """And what was taken says where the next course has its peak, within what one refusal can prove."""
    before = course.rate(age)
    after = course.refused(age, taken, successes)
    assert after.rate(0) <= before
    assert after.peak >= min(before * 0.7, before)


@given(COURSES, AGES, AGES)
def test_the_rate_only_grows_between_refusals(course: Course, one: float, other: float) -> None:
    """A course is a curve that does not fall."""
    early, late = sorted((one, other))
    assert course.rate(early) <= course.rate(late) * (1 + 1e-9)


@given(HAPPENINGS)
def test_after_a_calm_it_is_free_again(happenings: list[str | float]) -> None:
    """Whatever happened before: the first request after half a minute without a refusal does not wait, nor the next."""
    clock = _Clock()
    pace = _pace(clock)
    sent = pace.leave()
    for each in happenings:
        if isinstance(each, float):
            clock.now += each
        elif each == "taken":
            pace.queue()
            pace.succeeded(sent := pace.leave())
        elif each == "refused":
            pace.queue()
            pace.refused(sent := pace.leave())
        elif each == "late refusal":
            pace.refused(sent)
        else:
            pace.queue()
            pace.give_back()
        assert LEAST_RATE <= pace.rate <= MOST_RATE
    clock.now += CALM_SECONDS + 1e-3
    before = waiting.how
    waiting.how = clock.wait, math.inf
    try:
        pace.admit()
        assert not pace.engaged
        pace.admit()
    finally:
        waiting.how = before
    assert clock.waits == []


def test_it_is_free_until_the_first_refusal(clock: _Clock) -> None:
    """And spreads requests from then on."""
    pace = _pace(clock)
    assert not pace.engaged
    pace.refused()
    assert pace.engaged
    for _ in range(10):
        pace.succeeded(pace.admit())
    assert clock.waits
    assert pace.rate > FIRST_RATE


def test_refusals_of_one_moment_count_once(clock: _Clock) -> None:
    """What was on its way when the rate was lowered says nothing of the lower one."""
    pace = _pace(clock)
    pace.refused()
    admissions = [pace.admit() for _ in range(8)]
    for each in admissions:
        pace.refused(each)
    assert FIRST_RATE * 0.6 < pace.rate < FIRST_RATE * 1.2


def test_a_wait_ends_with_its_request(clock: _Clock) -> None:
    """At the end of the time for which it is repeated it is sent a last time, whatever its turn."""
    pace = _pace(clock)
    pace.refused()
    for _ in range(40):
        pace.refused(pace.leave())
    for _ in range(100):
        pace.queue()  # others that wait
    pace.admit(clock.now + 7)
    assert sum(clock.waits) == pytest.approx(7, abs=0.01)


def test_who_gives_up_leaves_its_place_to_the_others(clock: _Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """An abort in the middle of a wait is raised, and costs the others nothing."""

    def abort(_seconds: float) -> None:
        raise StoreError("aborted")

    pace, other = _pace(clock), _pace(clock)
    for each in (pace, other):
        each.refused()
        for _ in range(10):
            each.refused(each.leave())
    monkeypatch.setattr(waiting, "how", (abort, math.inf))
    with pytest.raises(StoreError, match="aborted"):
        pace.admit()
    assert pace.due(pace.queue()) == pytest.approx(other.due(other.queue()))


def test_a_request_waits_as_its_retries_wait() -> None:
    """So what ends a pause ends the wait for a turn; afterwards, and in other threads, it is as it was."""
    seen: list[object] = []
    waits: list[float] = []

    def request() -> None:
        waiting.how[0](waiting.how[1])
        other = threading.Thread(target=lambda: seen.append(waiting.how))
        other.start()
        other.join()

    before = waiting.how
    Retries(waits.append, clock=lambda: 5.0).run(request)
    assert waits == [5 + WRITES.seconds]
    assert seen == [before]
    assert waiting.how == before


def test_slow_downs_use_up_no_tries() -> None:
    """A hundred of them, and a failure between, and the request succeeds."""
    answers: list[Exception | None] = [*[SlowDownError("slow")] * 100, StoreUnavailableError("busy"), None]

    def request() -> str:
        if (error := answers.pop(0)) is not None:
            raise error
        return "done"

    assert Retries(lambda _: None, clock=lambda: 0.0).run(request) == "done"


def test_a_server_that_only_says_slow_down_ends_the_request_in_its_time(clock: _Clock) -> None:
    """Not before it, and soon after."""
    pace = _pace(clock)

    def request() -> None:
        pace.refused(pace.admit() if pace.engaged else None)
        raise SlowDownError(f"slow. {pace}")

    began = clock.now
    with pytest.raises(SlowDownError, match=r"down to 0\.2 requests a second"):
        Retries(clock.wait, clock=clock).run(request)
    assert WRITES.seconds <= clock.now - began <= WRITES.seconds + 1
