"""One report to a service, tried again while there is time: for the targets beside Step Functions."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Final, TypeVar

from stepout.callbacks.delivery.answers import answer_to, name_of
from stepout.callbacks.delivery.decisions import Answer, Decision, backoff, decide
from stepout.schemas.errors import OtherProcessError, TaskError
from stepout.schemas.text.foreign_text import logger

if TYPE_CHECKING:
    from collections.abc import Callable

_log = logger("stepout.callbacks.delivery")

_Result = TypeVar("_Result")

_ADVICE: Final = {
    Answer.MISSING: "Does it exist, by this name, in this account and region? See STEPOUT_TARGETS, STEPOUT_OUTPUT and "
    "AWS_DEFAULT_REGION.",
    Answer.UNSENT: "Is there a route to the service's endpoint in this region (NAT, or a VPC endpoint)?",
}


class RetryLoop:
    """Calls a service until it takes a report, gives a final answer, or time is up.

    Args:
        remedy: What to do about a denied call, or a key that may not be used, a sentence for people: which permissions,
            which variables.
        patience: Seconds for which a report is tried again while the service throttles, fails or cannot be reached.
        clock: Seconds, monotonic.
        sleep: Waits so many seconds.
        jitter: Returns a number from 0 up to 1.
    """

    def __init__(
        self,
        remedy: str,
        *,
        patience: float = 180.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._advice = {**_ADVICE, Answer.DENIED: remedy, Answer.KMS: remedy}
        self._patience = patience
        self._clock, self._sleep, self._jitter = clock, sleep, jitter
        self._latest = float("inf")

    def limit(self, seconds: float) -> None:
        """Make every report give up so many seconds from now; callable from any thread."""
        self._latest = min(self._latest, self._clock() + seconds)

    def run(
        self,
        what: str,
        call: Callable[[], _Result],
        *,
        final: Callable[[Exception], bool] = lambda _error: False,
        tries: int | None = None,
    ) -> _Result:
        """Call until it succeeds.

        Args:
            what: The action and its object, for messages: no token, no payload.
            call: Sends once; must be safe to repeat, as an answer may have been lost.
            final: Whether an exception is an answer that the caller understands; it is raised as it is.
            tries: How many at most; ``None``: as many as the patience allows.

        Raises:
            TaskError: It could not be delivered.
            OtherProcessError: The client belongs to the process that this one was forked off.
        """
        began, made = self._clock(), 0
        while True:
            made += 1
            try:
                return call()
            except Exception as error:
                if final(error) or isinstance(error, OtherProcessError):
                    raise
                answer, wait = answer_to(error), backoff(made, self._jitter())
                in_time = self._clock() + wait < min(began + self._patience, self._latest)
                left = in_time and (tries is None or made < tries)
                if decide(answer, lost_before=False, can_go_bare=False, time_left=left) is not Decision.RETRY:
                    said = f"{what}: {answer.value} ({name_of(error)}) after {made} tries"
                    raise TaskError(". ".join(filter(None, (said, self._advice.get(answer))))) from error
                _log.info("%s: %s (%s); try %d follows in %.1f s", what, answer.value, name_of(error), made + 1, wait)
            self._sleep(wait)
