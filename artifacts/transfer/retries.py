"""Trying a request again: which errors deserve it, how often, and how long to wait."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, TypeVar

from stepout.artifacts.store import ConflictError
from stepout.schemas.errors import ChecksumMismatchError, StepoutError, StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

TRIES = 4
FIRST_PAUSE = 0.5
"""Seconds before the second try."""

_CHECKSUM_TRIES = 2


def worth_retrying(error: StepoutError, attempt: int, tries: int = TRIES, *, conflicts: bool = False) -> bool:
    """Say whether the same request may succeed if it is sent again.

    Args:
        error: What the last try raised.
        attempt: How many tries there have been.
        tries: How many there may be.
        conflicts: Whether the request carries the bytes anew, which is what a conflict asks for.

    Returns:
        True for a store that is busy or out of reach, and once for bytes that arrived damaged: the wire may have
        flipped one.
    """
    if isinstance(error, ConflictError) and not conflicts:
        return False
    if isinstance(error, ChecksumMismatchError):
        return attempt < _CHECKSUM_TRIES
    return isinstance(error, StoreUnavailableError) and attempt < tries


def pause_before(attempt: int, chance: float) -> float:
    """Return the seconds to wait before try ``attempt`` (from 2): doubling, with full jitter above a half.

    >>> [pause_before(attempt, 1.0) for attempt in (2, 3, 4)]
    [0.5, 1.0, 2.0]
    """
    return FIRST_PAUSE * float(2 ** (attempt - 2)) * (0.5 + chance / 2)


class Retries:
    """Sends a request until it succeeds or trying again is pointless.

    Args:
        wait: Waits so many seconds; raises to end the tries early.
        chance: Returns a number from 0 to 1.
        tries: How often a request is sent at most, on top of what botocore tries by itself.
        conflicts: Whether a conflict is worth another try; see ``worth_retrying``.
    """

    def __init__(
        self,
        wait: Callable[[float], None],
        *,
        chance: Callable[[], float] = random.random,
        tries: int = TRIES,
        conflicts: bool = False,
    ) -> None:
        self._wait = wait
        self._chance = chance
        self._tries = tries
        self._conflicts = conflicts

    def run(self, request: Callable[[], T]) -> T:
        """Send ``request`` and return its answer.

        Raises:
            StepoutError: What its last try raised.
        """
        attempt = 1
        while True:
            try:
                return request()
            except StepoutError as error:
                if not worth_retrying(error, attempt, self._tries, conflicts=self._conflicts):
                    raise
            attempt += 1
            self._wait(pause_before(attempt, self._chance()))
