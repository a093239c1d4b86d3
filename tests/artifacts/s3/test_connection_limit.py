"""How many connections there may be, learned from those that could not be had."""

from __future__ import annotations

import gc
import threading
from typing import Any

import pytest

from stepout.artifacts.s3.connections.limit import GROWS_AFTER, LONGEST_WAIT, ConnectionLimit


class Clock:
    """Seconds that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Say what time it is."""
        return self.now


class Line:
    """A connection, as far as a limit knows it."""


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still."""
    return Clock()


@pytest.fixture
def limit(clock: Clock) -> ConnectionLimit:
    """Nothing is known."""
    return ConnectionLimit(clock=clock)


def _used(limit: ConnectionLimit, count: int) -> list[Line]:
    lines = [limit.take(Line) for _ in range(count)]
    for each in lines:
        limit.opened(each)
    return lines


def test_a_refusal_says_how_many_there_may_be(limit: ConnectionLimit) -> None:
    """As many as are open; a fifth waits until one of them is free."""
    lines = _used(limit, 4)
    assert limit.limit is None
    limit.refused()
    assert limit.limit == 4
    waits = threading.Event()
    more: list[Any] = []

    def take() -> None:
        more.append(limit.take(lambda: lines[0], waits.set))

    thread = threading.Thread(target=take, daemon=True)
    thread.start()
    assert waits.wait(60)
    assert not more
    limit.back(lines[0])
    thread.join(60)
    assert more == [lines[0]]


def test_refusals_where_none_is_open_say_nothing(limit: ConnectionLimit) -> None:
    """The server is away, not full."""
    limit.refused()
    assert limit.limit is None


def test_a_refusal_counts_those_that_have_proved_themselves(limit: ConnectionLimit) -> None:
    """And those who are yet to do it raise the limit when they do."""
    first, second, doomed = _used(limit, 3)
    limit.answered(first)
    limit.refused()
    assert limit.limit == 1
    limit.answered(second)
    assert limit.limit == 2
    assert limit.unanswered(doomed)
    assert limit.limit == 2


def test_one_that_is_never_answered_is_too_many_only_if_others_are(limit: ConnectionLimit, clock: Clock) -> None:
    """Answered since it was asked."""
    first, second, mute = _used(limit, 3)
    limit.answered(first)
    limit.answered(second)
    clock.now += 1
    assert not limit.unanswered(mute, clock.now)
    assert limit.limit is None
    asked = clock.now
    clock.now += 1
    limit.answered(first)
    assert not limit.unanswered(second, asked)
    assert limit.unanswered(mute, asked)
    assert limit.limit == 2


def test_more_are_tried_now_and_then_and_more_rarely_if_it_was_in_vain(limit: ConnectionLimit, clock: Clock) -> None:
    """Half as many more."""
    proved = _used(limit, 4)
    for each in proved:
        limit.answered(each)
        limit.back(each)
    limit.refused()
    assert limit.limit == 4
    clock.now += GROWS_AFTER + 1
    lines = _used(limit, 5)
    assert limit.limit == 6
    limit.refused()
    limit.refused()
    clock.now += GROWS_AFTER + 1
    with pytest.raises(InterruptedError):
        limit.take(Line, _interrupt)
    clock.now += GROWS_AFTER
    assert limit.take(Line, _interrupt)
    assert lines


def test_a_limit_that_is_none_is_soon_forgotten(limit: ConnectionLimit, clock: Clock) -> None:
    """After a restart of the server: each time that more are had, the next step is sooner."""
    (line,) = _used(limit, 1)
    limit.answered(line)
    limit.refused()
    held = []
    for seconds in (GROWS_AFTER, GROWS_AFTER / 4, GROWS_AFTER / 16, 1.0, 1.0, 1.0):
        clock.now += seconds + 0.1
        held.append(limit.take(Line, _interrupt))
    assert limit.limit is not None
    assert limit.limit >= 10


def test_a_server_that_was_restarted_is_soon_used_as_before(limit: ConnectionLimit, clock: Clock) -> None:
    """While its connections broke one by one each refusal looked like a limit; there is none when all are gone."""
    lines = _used(limit, 16)
    for each in lines:
        limit.answered(each)
    for each in lines:
        limit.closed(each)
        limit.refused()
    assert limit.limit == 1
    held = []
    for _ in range(6):
        clock.now += 1.1
        held.append(limit.take(Line, _interrupt))
        limit.opened(held[-1])
    assert limit.limit is not None
    assert limit.limit >= 10


def test_a_job_that_is_interrupted_as_it_waits_takes_no_place_along(limit: ConnectionLimit) -> None:
    """Nor does one that gets no connection."""
    (line,) = _used(limit, 1)
    limit.refused()
    limit.back(line)
    for _ in range(3):
        with pytest.raises(InterruptedError):
            limit.take(_interrupt, _interrupt)
    assert limit.take(lambda: line, _interrupt) is line


def _interrupt() -> None:
    raise InterruptedError


def test_whoever_holds_them_all_is_not_kept_waiting_for_ever(limit: ConnectionLimit, clock: Clock) -> None:
    """A thread that reads one body and asks for another would wait for itself."""
    lines = _used(limit, 1)

    def look() -> None:
        clock.now += LONGEST_WAIT / 2

    clock.now += 2 * GROWS_AFTER  # so that it does not grow meanwhile
    limit.refused()
    clock.now -= 2 * GROWS_AFTER
    assert limit.take(Line, look)
    assert lines


def test_what_nobody_holds_any_more_is_free(limit: ConnectionLimit) -> None:
    """A body that was dropped unread takes its connection along."""
    lines = _used(limit, 2)
    limit.refused()
    lines.clear()
    gc.collect()
    assert limit.take(Line, _interrupt)


def test_a_connection_proves_itself_once(limit: ConnectionLimit) -> None:
    """Until it is closed."""
    (line,) = _used(limit, 1)
    assert not limit.has_proved(line)
    limit.answered(line)
    assert limit.has_proved(line)
    limit.closed(line)
    assert not limit.has_proved(line)
