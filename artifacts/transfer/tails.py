"""Which requests of a transfer are asked for a second time: those that take far longer than their siblings.

A large store now and then takes seconds for a request that usually takes a tenth of one. AWS advises to retry the
slowest 5 per cent of large requests (https://docs.aws.amazon.com/AmazonS3/latest/userguide/
optimizing-performance-design-patterns.html, "Timeouts and Retries for Latency-Sensitive Applications"). Here are the
rules for it, as functions of what the caller has seen: no thread, no lock, no clock. The caller sends the requests, and
lets the first answer win.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Key = TypeVar("Key")
"""What names a part or a range; hashable."""

_NEEDED: Final = 1.5
"""Times the usual duration, for a request that others wait for."""

_BESIDE: Final = 3.0
"""The same while the other connections still bring the transfer forward."""

FAR_LATE = 0.1
"""Seconds beyond the usual before which nothing is late: a busy machine delays requests as well."""

NEAR_LATE = 0.5
"""The same for servers so near that most of a request's time is the processor's, whoever has it at the moment."""

_NEAR: Final = 0.01

_EXTRA: Final = 0.03
"""Of the object's bytes."""

_EXTRA_PARTS: Final = 2
"""What may be sent twice of an object that is short."""

_SIBLINGS: Final = 64
"""So many of the last durations count."""


@dataclass(eq=False, slots=True)
class Asked(Generic[Key]):
    """One request on its way; made by ``Tails.began``."""

    key: Key
    size: int
    at: float


class Due(NamedTuple, Generic[Key]):
    """A request that is to be asked for again, and when; the time may have passed."""

    key: Key
    at: float


class _Ended(NamedTuple):
    size: int
    seconds: float


def least_late(latency: float | None) -> float:
    """Return the seconds beyond the usual duration before which no request is late.

    Args:
        latency: Of the server, in seconds; ``None``: not known.
    """
    return NEAR_LATE if latency is None or latency < _NEAR else FAR_LATE


class Tails(Generic[Key]):
    """What is known of the requests of one transfer; for one thread at a time.

    All times come from the caller, in seconds of one monotonic clock, and never run backwards.

    Attributes:
        latency: Seconds of a request that do not depend on its size.
        least: Seconds beyond the usual duration before which nothing is late.
        extra: Bytes that were asked for a second time so far.

    Args:
        total: Bytes of the object; ``None`` while they are unknown: then those count that were asked for.
        latency: See above; it may be learned later.
        least: See above, and ``least_late``.
    """

    def __init__(self, total: int | None, *, latency: float = 0.0, least: float = FAR_LATE) -> None:
        self._total, self.latency, self.least = total, latency, least
        self._open: dict[Key, list[Asked[Key]]] = {}
        self._repeated: set[Key] = set()
        self._ended: deque[_Ended] = deque(maxlen=_SIBLINGS)
        self._ended_at: deque[float] = deque(maxlen=_SIBLINGS)
        self._known: dict[Key, int] = {}
        self._begun = self._longest = 0
        self.extra = 0

    @property
    def allowance(self) -> int:
        """How many bytes may be asked for a second time, in all."""
        total = self._begun if self._total is None else self._total
        return max(int(total * _EXTRA), _EXTRA_PARTS * self._longest)

    def began(self, key: Key, size: int, now: float) -> Asked[Key]:
        """Take note that a request leaves: the first one for ``key``, or another try.

        Args:
            key: Names the part or the range.
            size: Of its body, in bytes.
            now: The time.
        """
        if key not in self._known:
            self._known[key] = size
            self._begun += size
            self._longest = max(self._longest, size)
        asked = Asked(key, size, now)
        self._open.setdefault(key, []).append(asked)
        return asked

    def ended(self, asked: Asked[Key], now: float) -> None:
        """Take note of an answer: of all requests for its key this was the first, and the others count no more."""
        if self._open.pop(asked.key, None) is not None:
            self._ended.append(_Ended(asked.size, now - asked.at))
            self._ended_at.append(now)

    def gave_up(self, asked: Asked[Key]) -> None:
        """Take note that a request failed or was cancelled: its duration says nothing."""
        left = [each for each in self._open.get(asked.key, ()) if each is not asked]
        if left:
            self._open[asked.key] = left
        else:
            self._open.pop(asked.key, None)

    def repeats(self, key: Key) -> None:
        """Take note that the caller asks for ``key`` once more; each key is asked for twice at most."""
        self._repeated.add(key)
        self.extra += self._known[key]

    def due(self, now: float, *, needed: Callable[[Key], bool], slowed: bool = False) -> Due[Key] | None:
        """Return which request is the next to be asked for again, and when.

        Args:
            now: The time.
            needed: Says whether the transfer waits for this key: all of them once nothing else is left to be sent, or
                the range that a reader needs next.
            slowed: Whether the server has asked for fewer requests.

        Returns:
            ``None`` while there is none, and will be none before another request begins or ends: nothing has ended
            yet, most of the requests are late, so the network is and not one of them, or enough was asked twice.
        """
        if slowed or not self._ended:
            return None
        from statistics import median  # brings fractions and more, which few processes need

        per_byte = median((each.seconds - self._base(each)) / max(each.size, 1) for each in self._ended)
        waits = [(each, needed(each.key)) for (each, *_) in self._open.values()]
        times = [(self._due_at(each, per_byte, urgent=urgent), each, urgent) for each, urgent in waits]
        late = sum(at <= now for at, _, _ in times)
        allowed = [
            Due(each.key, at)
            for at, each, urgent in times
            # One is late; or of those that were on their way together with it at least as many have ended as are late.
            if self._may_repeat(each, urgent=urgent) and (at > now or late <= max(self._ended_since(each.at), 1))
        ]
        return min(allowed, key=lambda each: each.at, default=None)

    def _base(self, ended: _Ended) -> float:
        return min(self.latency, ended.seconds)

    def _due_at(self, asked: Asked[Key], per_byte: float, *, urgent: bool) -> float:
        usual = self.latency + per_byte * asked.size
        return asked.at + max(usual * (_NEEDED if urgent else _BESIDE), usual + self.least)

    def _may_repeat(self, asked: Asked[Key], *, urgent: bool) -> bool:
        # In the middle half of the allowance is kept for the end, where a late request costs the most.
        allowance = self.allowance if urgent else self.allowance // 2
        return asked.key not in self._repeated and self.extra + asked.size <= allowance

    def _ended_since(self, began: float) -> int:
        """Count the requests that have ended since another one began."""
        return len(self._ended_at) - bisect_right(self._ended_at, began)
