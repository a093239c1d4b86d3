"""Trying a request again: which errors deserve it, how often, how long to wait. One policy for all requests to a store.

What a server refuses because there are too many requests (``SlowDownError``) is no failure: it uses up none of the
tries, only the policy's time, and waits for its turn at the server's ``pace``, where the request is sent.

Only one layer repeats a request. The requests that make up an upload are repeated by ``transfer``, which can end its
pauses when the upload is aborted; all others by ``S3Store``. The clients that stepout builds send a request once and
leave it at that (``s3.clients``). A client that a caller passes in is used as it is: what it repeats by itself comes on
top, so that one part is sent ``WRITES.tries`` times as often as that client tries (boto3 tries five times unless it is
told otherwise: 30 requests).
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from stepout.artifacts.process.pace import waiting
from stepout.artifacts.store import ConflictError, ConnectionBrokenError, SlowDownError
from stepout.schemas.errors import ChecksumMismatchError, StepoutError, StoreUnavailableError
from stepout.schemas.runtime.events import tell_retry

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """How often a request is sent, and when.

    Attributes:
        tries: How often at most, for a store that is busy or out of reach.
        conflict_tries: How often at most, if others write under the same key at the same moment.
        damage_tries: How often at most, if its bytes arrive damaged: the wire may have flipped one bit, not two.
        first_pause: Seconds before the second try; they double from then on.
        longest_pause: Seconds that no pause exceeds.
        seconds: No try begins later than this after the first: a request that stalls takes a minute by itself. It is
            the only limit while the server asks for fewer requests.
    """

    tries: int
    conflict_tries: int = 3
    damage_tries: int = 2
    first_pause: float = 0.5
    longest_pause: float = 5.0
    seconds: float = 180.0

    def again(self, error: StepoutError, attempt: int, elapsed: float, *, conflicts: bool = False) -> bool:
        """Say whether the same request may succeed if it is sent again.

        Args:
            error: What the last try raised.
            attempt: How many tries there have been.
            elapsed: Seconds since the first began.
            conflicts: Whether the request carries the bytes anew, which is what a conflict asks for.
        """
        if elapsed > self.seconds:
            return False
        if isinstance(error, SlowDownError):
            return True
        if isinstance(error, ConflictError):
            return conflicts and attempt < self.conflict_tries
        if isinstance(error, ChecksumMismatchError):
            return attempt < self.damage_tries
        return isinstance(error, StoreUnavailableError) and attempt < self.tries

    def pause_before(self, attempt: int, chance: float) -> float:
        """Return the seconds to wait before try ``attempt`` (from 2): doubling, with jitter above a half.

        >>> [WRITES.pause_before(attempt, 1.0) for attempt in (2, 3, 4, 5, 6)]
        [0.5, 1.0, 2.0, 4.0, 5.0]
        """
        return min(self.first_pause * float(2 ** (attempt - 2)), self.longest_pause) * (0.5 + chance / 2)


WRITES: Final = RetryPolicy(tries=6)
"""Of the requests that make up an upload: one PutObject, or the start, the parts and the end of a multipart upload."""

READS: Final = RetryPolicy(tries=3)
"""Of all others. A download that breaks off is taken up again besides (``reading.pinned_object``)."""


class Retries:
    """Sends a request until it succeeds or trying again is pointless.

    Args:
        wait: Waits so many seconds; raises to end the tries early.
        policy: How often, and when.
        chance: Returns a number from 0 to 1.
        clock: Seconds, monotonic; also for who counts the tries and asks ``next_attempt``.
        conflicts: Whether a conflict is worth another try; see ``RetryPolicy.again``.
    """

    def __init__(
        self,
        wait: Callable[[float], None],
        *,
        policy: RetryPolicy = WRITES,
        chance: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
        conflicts: bool = False,
    ) -> None:
        self._wait, self._policy = wait, policy
        self._chance, self.clock = chance, clock
        self._conflicts = conflicts

    def run(self, request: Callable[[], T]) -> T:
        """Send ``request`` and return its answer.

        Raises:
            StepoutError: What its last try raised.
        """
        attempt, began = 1, self.clock()
        before = waiting.how
        waiting.how = self._wait, began + self._policy.seconds
        try:
            while True:
                try:
                    return request()
                except StepoutError as error:
                    attempt = self.next_attempt(error, attempt, began)
        finally:
            waiting.how = before

    @property
    def seconds(self) -> float:
        """How long a request is repeated."""
        return self._policy.seconds

    def next_attempt(self, error: StepoutError, attempt: int, began: float) -> int:
        """Wait until the request may be sent again, and return the number of that try.

        Args:
            error: What the last try raised, in whose handler this is called.
            attempt: How many tries there have been.
            began: What ``clock`` said before the first.

        Raises:
            StepoutError: ``error``, if trying again is pointless.
        """
        if not self._policy.again(error, attempt, self.clock() - began, conflicts=self._conflicts):
            raise error
        tell_retry(error.error_name)
        if isinstance(error, SlowDownError):
            self._wait(0)  # is there still a point in it? Its turn is waited for where it is sent
            return attempt
        # A connection that broke is no sign of a busy server: the first time another one is tried at once.
        at_once = attempt == 1 and isinstance(error, ConnectionBrokenError)
        self._wait(0 if at_once else self._policy.pause_before(attempt + 1, self._chance()))
        return attempt + 1


READ_RETRIES: Final = Retries(lambda seconds: time.sleep(seconds), policy=READS)  # noqa: PLW0108 - looked up when it waits
"""For the requests of every store over a client that tries once."""

SLOWED_READ_RETRIES: Final = Retries(
    lambda seconds: time.sleep(seconds),  # noqa: PLW0108 - looked up when it waits
    policy=RetryPolicy(tries=1, damage_tries=1),
)
"""For those over a client that tries again by itself: only what the server refuses for their number comes again."""
