"""Decides what follows from a service's answer, for every target, and how long to wait before a retry. Pure.

botocore's own retries are off (``retries={"total_max_attempts": 1}``): after a lost answer they would meet
``TaskTimedOut``, which the service model defines as "expired **or already closed**". botocore could not tell a
delivered success from a task that nobody waits for. We can: "already closed" means "delivered" exactly when an earlier
try of the same call was sent and its answer was lost.
"""

from __future__ import annotations

from enum import Enum


class Answer(Enum):
    """The result of one try."""

    OK = "accepted"
    CLOSED = "the task timed out, was stopped, or has been reported already"
    INVALID_TOKEN = "the task token is not valid"  # noqa: S105 - a sentence, no password
    INVALID_OUTPUT = "the output is not valid"
    KMS = "it is encrypted with a KMS key that could not be used"
    THROTTLED = "too many requests"
    UNAVAILABLE = "the service failed"
    UNSENT = "the service could not be reached"
    LOST = "the request went out and no answer came back"
    DENIED = "the caller may not do this, or has no usable credentials or region"
    MISSING = "there is no such place"
    REFUSED = "the request was refused"


class Decision(Enum):
    """What follows from an answer."""

    DELIVERED = "delivered"
    CLOSED = "closed"
    RETRY = "retry"
    RETRY_BARE = "retry without error and cause"
    GIVE_UP = "give up"


_WORTH_ANOTHER_TRY = frozenset({Answer.THROTTLED, Answer.UNAVAILABLE, Answer.UNSENT, Answer.LOST})


def decide(answer: Answer, *, lost_before: bool, can_go_bare: bool, time_left: bool) -> Decision:
    """Decide what follows from the answer to one try.

    Args:
        answer: The result of the try.
        lost_before: Whether an earlier try of this same call was sent and its answer was lost.
        can_go_bare: Whether this is a failure that still carries error and cause, and so can be sent without them. If
            the caller may not use the state machine's KMS key, Step Functions takes a failure only without them.
        time_left: Whether another try still fits.

    Returns:
        The decision.

    Example:
        >>> decide(Answer.CLOSED, lost_before=True, can_go_bare=False, time_left=True)
        <Decision.DELIVERED: 'delivered'>
        >>> decide(Answer.CLOSED, lost_before=False, can_go_bare=False, time_left=True)
        <Decision.CLOSED: 'closed'>
    """
    if answer is Answer.OK:
        return Decision.DELIVERED
    if answer is Answer.CLOSED:
        return Decision.DELIVERED if lost_before else Decision.CLOSED
    if answer is Answer.KMS and can_go_bare:
        return Decision.RETRY_BARE
    if answer in _WORTH_ANOTHER_TRY and time_left:
        return Decision.RETRY
    return Decision.GIVE_UP


def backoff(tries: int, random: float, *, base: float = 0.2, most: float = 10.0) -> float:
    """Return the seconds to wait before the next try: exponential, with jitter.

    Args:
        tries: Tries made so far, from 1.
        random: A number from 0 up to 1.
        base: Seconds after the first try, at most.
        most: Seconds after any try, at most.

    Returns:
        Seconds between half the exponential delay and all of it.
    """
    return min(most, base * 2.0 ** min(tries - 1, 30)) * (0.5 + random / 2)
