"""Which requests are asked for twice: those far behind their siblings, few of them, and none where all are slow."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepout.artifacts.transfer.tails import Tails

if TYPE_CHECKING:
    from stepout.artifacts.transfer.tails import Asked

PART = 5 << 20
TOTAL = 20 * PART


def _all(_: int) -> bool:
    return True


def _none(_: int) -> bool:
    return False


def _after(
    ended: int, seconds: float = 1.0, *, total: int | None = TOTAL, late: int = 1, size: int = PART
) -> Tails[int]:
    """Return what is known after ``late`` requests have begun, and ``ended`` others beside them took ``seconds``."""
    tails: Tails[int] = Tails(total)
    for number in range(late):
        tails.began(-1 - number, size, 0.0)
    others = [tails.began(number, PART, 0.0) for number in range(ended)]
    for each in others:
        tails.ended(each, seconds)
    return tails


def test_a_request_that_others_wait_for_is_due_after_half_as_long_again() -> None:
    """Counted from when it left, against the median of its siblings."""
    due = _after(3).due(1.0, needed=_all)
    assert due is not None
    assert (due.key, due.at) == (-1, 1.5)


def test_in_the_middle_there_is_more_patience() -> None:
    """The other connections bring the transfer forward meanwhile."""
    due = _after(3).due(1.0, needed=_none)
    assert due is not None
    assert due.at == 3.0


def test_a_large_request_may_take_longer_than_its_small_siblings() -> None:
    """The usual duration is one of so many bytes; what does not depend on the size counts once."""
    tails: Tails[int] = Tails(TOTAL, latency=0.5)
    tails.began(-1, 2 * PART, 0.0)
    tails.ended(tails.began(0, PART, 0.0), 1.5)
    due = tails.due(1.5, needed=_all)
    assert due is not None
    assert due.at == pytest.approx(1.5 * (0.5 + 2.0))


def test_what_is_late_by_a_moment_is_not_late() -> None:
    """Short requests vary with whatever else the machine does."""
    due = _after(3, 0.01).due(0.01, needed=_all)
    assert due is not None
    assert due.at == pytest.approx(0.11)


def test_without_a_sibling_that_has_ended_nothing_is_late() -> None:
    """There is nothing to compare with."""
    assert _after(0, late=4).due(1000.0, needed=_all) is None


def test_nothing_is_asked_twice_while_most_requests_are_late() -> None:
    """It is the network, or the server, that is slow: more requests would make it slower."""
    assert _after(3, late=4).due(1000.0, needed=_all) is None
    assert _after(4, late=4).due(1000.0, needed=_all) is not None


def test_a_single_request_on_its_way_may_be_asked_for_again() -> None:
    """The last part of an object has no siblings beside it, only before."""
    tails = _after(3, late=0)
    tails.began(9, PART, 1.0)
    due = tails.due(2.5, needed=_all)
    assert due is not None
    assert (due.key, due.at) == (9, 2.5)


def test_what_ended_before_does_not_speak_for_a_server_that_has_stopped() -> None:
    """Only those that were on their way together with a late one."""
    tails = _after(10, late=0)
    for number in range(20, 24):
        tails.began(number, PART, 1.0)
    assert tails.due(1000.0, needed=_all) is None


def test_a_server_that_asked_for_less_is_asked_nothing_twice() -> None:
    """Not even what is late."""
    assert _after(3).due(1000.0, needed=_all, slowed=True) is None


def test_each_request_is_asked_for_twice_at_most() -> None:
    """Whatever becomes of the second one."""
    tails = _after(3)
    tails.repeats(-1)
    second = tails.began(-1, PART, 2.0)
    assert tails.due(1000.0, needed=_all) is None
    tails.gave_up(second)
    assert tails.due(1000.0, needed=_all) is None


def test_the_first_answer_ends_both_requests() -> None:
    """The other one is no sibling, and never late."""
    tails = _after(2, late=0)
    first = tails.began(-1, PART, 0.0)
    tails.repeats(-1)
    second = tails.began(-1, PART, 10.0)
    tails.ended(second, 11.0)
    tails.ended(first, 60.0)
    tails.began(9, PART, 60.0)
    due = tails.due(60.0, needed=_all)
    assert due is not None
    assert (due.key, due.at) == (9, 61.5)


def test_another_try_of_a_request_begins_anew() -> None:
    """The pause before it is nobody's delay."""
    tails = _after(3, late=0)
    tails.gave_up(tails.began(-1, PART, 0.0))
    assert tails.due(1000.0, needed=_all) is None
    tails.began(-1, PART, 50.0)
    due = tails.due(50.0, needed=_all)
    assert due is not None
    assert due.at == 51.5


def test_in_the_middle_half_of_the_allowance_is_kept_for_the_end() -> None:
    """A late request costs the most when nothing else is left to be sent."""
    tails = _after(8, late=3)
    assert tails.allowance == 2 * PART
    tails.repeats(-1)
    assert tails.due(1000.0, needed=_none) is None
    due = tails.due(1000.0, needed=_all)
    assert due is not None
    tails.repeats(due.key)
    assert tails.due(1000.0, needed=_all) is None


def test_of_an_object_of_unknown_size_that_counts_which_was_asked_for() -> None:
    """Three in a hundred of it."""
    tails = _after(999, total=None)
    assert tails.allowance == 30 * PART


# Whole transfers, simulated ---------------------------------------------------------------------------------------


class Transfer:
    """Parts over some connections, each of which takes the next one, or asks a second time for what is late.

    The first answer wins; the other request is cancelled, and its connection is free.

    Args:
        durations: Of the first request for each part, in seconds.
        connections: How many at once.
        again: Of every second request.
        asks: Whether anything is asked twice.
    """

    def __init__(self, durations: list[float], connections: int, again: float, *, asks: bool = True) -> None:
        self._durations, self._again, self._asks = durations, again, asks
        self.tails: Tails[int] = Tails(len(durations) * PART)
        self._waiting = list(range(len(durations)))
        self._idle = connections
        self._events: list[tuple[float, int, Asked[int] | None]] = []
        self._number = 0
        self._done: set[int] = set()
        self.repeated: list[int] = []
        self.end = 0.0

    def run(self) -> Transfer:
        """Send everything."""
        now = 0.0
        while len(self._done) < len(self._durations):
            self._fill(now)
            now, _, asked = heapq.heappop(self._events)
            if asked is not None and asked.key not in self._done:
                self._idle += 1 + (asked.key in self.repeated)
                self.tails.ended(asked, now)
                self._done.add(asked.key)
        self.end = now
        return self

    def _fill(self, now: float) -> None:
        while self._idle:
            due = self.tails.due(now, needed=lambda _: not self._waiting) if self._asks else None
            if due is not None and due.at <= now:
                self.tails.repeats(due.key)
                self.repeated.append(due.key)
                self._send(due.key, now, self._again)
            elif self._waiting:
                number = self._waiting.pop(0)
                self._send(number, now, self._durations[number])
            else:
                if due is not None:
                    self._at(due.at, None)
                return

    def _send(self, number: int, now: float, seconds: float) -> None:
        self._idle -= 1
        self._at(now + seconds, self.tails.began(number, PART, now))

    def _at(self, when: float, asked: Asked[int] | None) -> None:
        self._number += 1
        heapq.heappush(self._events, (when, self._number, asked))


@given(
    parts=st.integers(2, 120),
    connections=st.integers(2, 32),
    usual=st.floats(0.2, 3.0),
    where=st.floats(0, 1),
    stall=st.floats(0.5, 60.0),
)
def test_a_request_that_stalls_costs_at_most_one_and_a_half_usual_ones(
    parts: int, connections: int, usual: float, where: float, stall: float
) -> None:
    """Wherever in the transfer it is, and however long it stalls; few connections lose a little more of their rate."""
    stalled = int(where * (parts - 1))
    durations = [usual + (stall if number == stalled else 0.0) for number in range(parts)]
    without = Transfer([usual] * parts, connections, usual).run()
    with_it = Transfer(durations, connections, usual).run()
    assert with_it.end - without.end <= (1.5 if connections > 3 else 2.0) * usual + 1e-6
    assert without.repeated == []
    assert with_it.repeated in ([], [stalled])


@given(data=st.data(), connections=st.integers(1, 32), again=st.floats(0.01, 5.0))
def test_whatever_the_durations_little_is_sent_twice_and_nothing_thrice(
    data: st.DataObject, connections: int, again: float
) -> None:
    """Three in a hundred of the object's bytes, or two parts."""
    durations = data.draw(st.lists(st.floats(0.01, 5.0), min_size=1, max_size=200))
    done = Transfer(durations, connections, again).run()
    assert done.tails.extra == len(done.repeated) * PART <= max(0.03 * len(durations) * PART, 2 * PART)
    assert len(set(done.repeated)) == len(done.repeated)


@given(data=st.data(), connections=st.integers(1, 32), usual=st.floats(0.2, 3.0))
def test_durations_that_differ_by_less_than_half_are_never_asked_twice(
    data: st.DataObject, connections: int, usual: float
) -> None:
    """That is how requests differ anyway."""
    factors = data.draw(st.lists(st.floats(1.0, 1.49), min_size=1, max_size=100))
    done = Transfer([usual * each for each in factors], connections, usual).run()
    assert done.repeated == []
