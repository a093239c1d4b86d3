"""The pace at which one process sends requests to one server, once that server has asked for fewer.

S3 answers 503 SlowDown above a rate of requests, so a number of connections alone cannot settle there: one connection
to a server nearby sends more than some servers take. What is governed is therefore the rate, and with it, by Little's
law, how many requests are on their way. The rule is AIMD: multiplicative decrease to what the server was seen to take,
increase along CUBIC's curve (https://www.rfc-editor.org/rfc/rfc9438; botocore's mode "adaptive" has the same parts).
``Course`` holds all of it. ``Pace`` applies it to the threads of a process.

Nothing here takes a lock: handlers of signals send requests, too, and a fork may find any lock held. What two threads
change at once may be lost once; that is one request more or less.
"""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FIRST_RATE: Final = 200.0
"""Requests a second after the first refusal, if nothing is known: in the middle of what servers take, on a logarithmic
scale. The search doubles or halves it within tenths of a second."""

LEAST_RATE: Final = 0.2
MOST_RATE: Final = 20_000.0
"""Beyond it a pace would cost more than it saves."""

CALM_SECONDS: Final = 30.0
"""After so long without a refusal there is no pace any more."""

LONGEST_WAIT_SECONDS: Final = 180.0

_DECREASE: Final = 0.9
_FALL: Final = 0.7
_RECOVERY_SECONDS: Final = 5.0
_DOUBLING_SECONDS: Final = 0.1
_RECOVERY_REQUESTS: Final = 50.0
_LONGEST_RECOVERY_SECONDS: Final = 20.0
_DOUBLINGS: Final = 2.0
_ADDED: Final = 0.3
_SPARE: Final = 2.0
_JITTER: Final = 0.1
_MEASURED_SECONDS: Final = 0.5
_FEW: Final = 8
_KEPT: Final = 512
_POLL_SECONDS: Final = 0.25


class Course(NamedTuple):
    """How the rate goes on from one refusal to the next.

    Attributes:
        kind: ``"doubling"`` while nothing is known of what the server takes, ``"falling"`` while it takes nothing, and
            ``"steady"`` from then on.
        peak: Requests a second: about where the server refused, or where the search begins.
    """

    kind: Literal["doubling", "falling", "steady"]
    peak: float

    def rate(self, age: float) -> float:
        """Return requests a second, ``age`` seconds of full use after the refusal.

        The curve rises fast to just below the peak, stays there for a while, and then tries more and more.
        """
        found = self.peak
        if self.kind == "doubling":
            found *= 2 ** min(age / _DOUBLING_SECONDS, 16.0)
        elif self.kind == "steady":
            # A course has some dozens of requests: where they are rare it takes longer, or each would end one.
            whole = min(max(_RECOVERY_REQUESTS / self.peak, _RECOVERY_SECONDS), _LONGEST_RECOVERY_SECONDS)
            bend = age / whole - 1
            found = self.peak * (1 + (1 - _DECREASE) * min(bend, 1.0) ** 3) + _ADDED * self.peak**0.5 * age / whole
            if bend > 1:  # the server takes more than it did
                found *= 2 ** min((bend - 1) * _DOUBLINGS, 16.0)
        return min(max(found, LEAST_RATE), MOST_RATE)

    def refused(self, age: float, taken: float, successes: int) -> Course:
        """Return the course after a refusal.

        Args:
            age: Seconds of full use since the last one.
            taken: Requests a second that the server took lately.
            successes: How many of this course's requests it took.
        """
        rate = self.rate(age)
        if successes >= _FEW and age:
            taken = max(taken, successes / age)  # counted in full use: what made the process itself slow is left out
        peak = max(min(rate, max(taken, rate * _FALL)), LEAST_RATE)
        # A course that nothing was taken of may only be the end of what the one before had sent too much.
        if successes or taken * _DECREASE > rate * _FALL:
            return Course("steady", peak)
        return Course("falling", peak)

    def taken(self, age: float, *, known: bool) -> Course:
        """Return the course after the server has taken a request.

        Args:
            age: Seconds of full use since the last refusal.
            known: Whether it was known lately what the server takes. What many processes fall from at once they should
                not double again.
        """
        if self.kind != "falling":
            return self
        return Course("steady", self.rate(age) / _DECREASE) if known else Course("doubling", self.rate(age))


class Waiting(threading.local):
    """How a thread waits for its turn: whoever repeats a request (``retries``) says so while it is under way.

    Attributes:
        how: A function that waits so many seconds, and raises if there is no point in the request any more; and where
            the clock stands when the request is not repeated any more. One attribute, as every request sets it.
    """

    def __init__(self) -> None:
        self.how: tuple[Callable[[float], object], float] = (time.sleep, float("inf"))

    @contextmanager
    def by(self, wait: Callable[[float], object], until: float) -> Iterator[None]:
        """Let the requests of a block wait in this way."""
        before, self.how = self.how, (wait, until)
        try:
            yield
        finally:
            self.how = before


waiting: Final = Waiting()


class Admission(NamedTuple):
    """Leave to send one request; ``course`` counts the refusals before it."""

    course: int


class _Turns(NamedTuple):
    """How many requests may have been sent: ``passed`` at ``at``, and ``rate`` a second from then on."""

    passed: float
    at: float
    rate: float

    def passed_at(self, now: float) -> float:
        return self.passed + max(now - self.at, 0.0) * self.rate


class Pace:
    """Lets requests to one server go at a rate that it takes; free until it refuses one.

    Attributes:
        engaged: Whether requests have to ask; ``False`` until the first refusal, and again after a calm.
        refused_at: When the server refused last, by ``clock``.

    Args:
        clock: Seconds, monotonic.
        chance: Returns a number from 0 to 1: processes that were refused at one moment must not come back at one.
    """

    def __init__(
        self, *, clock: Callable[[], float] = time.monotonic, chance: Callable[[], float] = random.random
    ) -> None:
        self._clock, self._chance = clock, chance
        self.engaged = False
        self.refused_at = float("-inf")
        self._course = Course("doubling", FIRST_RATE)
        self._number = 0
        self._age = 0.0
        self._successes = 0
        self._known = False
        self._taken_at = float("-inf")
        self._taken: deque[float] = deque(maxlen=_KEPT)
        self._places = itertools.count()
        self._last_place = 0
        self._line = _Turns(0.0, 0.0, 1.0)

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self._course.rate(self._age)

    def admit(self, until: float | None = None) -> Admission:
        """Wait for this thread's turn to send one request.

        Args:
            until: Where ``clock`` stands when it goes even so, out of turn: nobody waits longer than the request is
                repeated for. ``None``: as the thread's ``Waiting`` says.

        Raises:
            Exception: What the thread's ``Waiting.how`` raised: nothing is to be sent.
        """
        wait, last = waiting.how
        limit = min(last if until is None else until, self._clock() + LONGEST_WAIT_SECONDS)
        place = self.queue()
        try:
            while (seconds := self.due(place)) > 0 and (left := limit - self._clock()) > 0:
                wait(min(seconds, _POLL_SECONDS, left))
        except BaseException:
            self.give_back()
            raise
        return self.leave()

    def __str__(self) -> str:
        return f"this process was down to {self.rate:.2g} requests a second"

    # What ``admit`` is made of, for simulations ------------------------------------------------------------------

    def queue(self) -> float:
        """Take a place in the line; ``due`` says when its turn comes."""
        place = self._last_place = next(self._places)
        now, line = self._clock(), self._line
        if line.passed_at(now) > place + _SPARE:  # unused turns do not add up
            self._line = _Turns(place + _SPARE, now, line.rate)
        return place + 1 + (self._chance() - 0.5) * _JITTER

    def due(self, place: float) -> float:
        """Return the seconds until a place's turn, as far as can be told; 0 or less: it is now."""
        now, line = self._clock(), self._line
        if not self.engaged or now - self.refused_at > CALM_SECONDS:
            self.engaged = False
            return 0.0
        return (place - line.passed_at(now)) / line.rate

    def leave(self) -> Admission:
        """Take note that a request is sent now."""
        rate = self.rate
        self._age += min(1 / rate, _DOUBLING_SECONDS) if self._course.kind == "doubling" else 1 / rate
        self._turn(rate)
        return Admission(self._number)

    def give_back(self) -> None:
        """Take note that a place was left without a request: the others move up."""
        line = self._line
        self._line = line._replace(passed=line.passed + 1)

    def succeeded(self, admission: Admission) -> None:
        """Take note that the server took a request."""
        now = self._clock()
        dry, self._taken_at = now - self._taken_at, now
        self._taken.append(now)
        if admission.course == self._number:
            self._successes += 1
            course = self._course.taken(self._age, known=self._known and dry <= CALM_SECONDS)
            if course is not self._course:
                self._course, self._age = course, 0.0
                self._turn(self.rate)

    def refused(self, admission: Admission | None = None) -> None:
        """Take note that the server asked for fewer requests.

        Args:
            admission: What ``leave`` returned; ``None`` for a request that did not ask. Only one that was sent since
                the last decrease says anything new.
        """
        now = self._clock()
        engaged, self.refused_at = self.engaged, now
        if not engaged:
            self._begin(now)
        elif admission is not None and admission.course == self._number:
            self._course = self._course.refused(self._age, self._measured(now), self._successes)
            self._known = self._known or self._course.kind == "steady"
            self._restart()

    def _begin(self, now: float) -> None:
        peak = FIRST_RATE if self._course.kind == "doubling" else self._course.peak * _DECREASE
        self._course = Course("doubling", peak)  # from what it took the last time
        self._taken.clear()
        self._taken_at = now
        self._known = False
        self._line = _Turns(self._last_place + self._chance(), now, self.rate)
        self._restart()
        self.engaged = True

    def _restart(self) -> None:
        self._number += 1
        self._age, self._successes = 0.0, 0
        self._turn(self.rate)

    def _turn(self, rate: float) -> None:
        now = self._clock()
        self._line = _Turns(self._line.passed_at(now), now, rate)

    def _measured(self, now: float) -> float:
        """Return requests a second that the server took lately."""
        taken = list(self._taken)
        recent = [at for at in taken if now - at <= _MEASURED_SECONDS] if len(taken) > _FEW else taken
        recent = recent if len(recent) >= _FEW else taken[-_FEW:]
        return len(recent) / max(now - recent[0], 1e-3) if recent else 0.0
