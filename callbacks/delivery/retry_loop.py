"""One request to a service, tried again while there is time: the loop of all targets, over one table of decisions."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Final, TypeVar, cast

from stepout.callbacks.delivery.answers import answer_to, name_of
from stepout.callbacks.delivery.decisions import Answer, Decision, backoff, decide
from stepout.schemas.errors import (
    ConfigurationError,
    InvalidDocumentError,
    InvalidTokenError,
    OtherProcessError,
    TaskClosedError,
    TaskError,
)
from stepout.schemas.runtime.events import tell_retry
from stepout.schemas.text.foreign_text import logger

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Mapping

    from stepout.callbacks.delivery.redaction import Redactor

_log = logger("stepout.callbacks.delivery")

_Result = TypeVar("_Result")

_ADVICE: Final = {
    Answer.MISSING: "Does it exist, by this name, in this account and region? See STEPOUT_TARGETS, STEPOUT_OUTPUT and "
    "AWS_DEFAULT_REGION.",
    Answer.UNSENT: "Is there a route to the service's endpoint in this region (NAT, or a VPC endpoint)?",
}
_CLOCK: Final = "This machine's clock is more than five minutes off: set it"


class ThrottledError(TaskError):
    """A report was refused, every time that it was tried, because there are too many."""


_TOLD_APART: Final[dict[Answer, tuple[type[TaskError | InvalidDocumentError], str]]] = {
    Answer.CLOSED: (TaskClosedError, "Nothing was changed"),
    Answer.INVALID_TOKEN: (
        InvalidTokenError,
        "Each retry of a state has a new token: was this one passed on unchanged?",
    ),
    Answer.INVALID_OUTPUT: (InvalidDocumentError, "The state still waits"),
}
"""The answers that have an error class of their own; only Step Functions gives them."""


class RetryLoop:
    """Calls a service until it takes a request, gives a final answer, or time is up.

    Args:
        remedy: A sentence that says what to do about a denied call or a forbidden KMS key: which permissions to give,
            which variables to set. Or a mapping from answers to such sentences.
        otherwise: The sentence for an answer without a remedy.
        redactor: Takes secrets out of the service's words. If given, no error has the service's own error as its cause.
        log: The logger for retries.
        patience: Seconds for which a request is tried again while the service throttles, fails or cannot be reached.
        clock: Seconds, monotonic.
        sleep: Waits so many seconds.
        jitter: Returns a number from 0 up to 1.
    """

    def __init__(  # noqa: PLR0913 - clock, sleep and jitter are parameters by the house's rules
        self,
        remedy: str | Mapping[Answer, str],
        *,
        otherwise: str = "",
        redactor: Redactor | None = None,
        log: logging.Logger = _log,
        patience: float = 180.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        own = {Answer.DENIED: remedy, Answer.KMS: remedy} if isinstance(remedy, str) else remedy
        self._advice = {**_ADVICE, **own}
        self._otherwise, self._redactor = otherwise, redactor
        self._log = log
        self._patience = patience
        self._clock, self._sleep, self._jitter = clock, sleep, jitter
        self._latest = float("inf")

    def limit(self, seconds: float) -> None:
        """Make every request give up in ``seconds`` from now; callable from any thread."""
        self._latest = min(self._latest, self._clock() + seconds)

    def run(
        self,
        what: str,
        call: Callable[[], _Result],
        *,
        bare: Callable[[], _Result] | None = None,
        final: Callable[[Exception], bool] = lambda _error: False,
        tries: int | None = None,
    ) -> _Result:
        """Call until the call succeeds, and return its result.

        Args:
            what: The action and its object, for messages: no token, no payload.
            call: Sends once; must be safe to repeat, as an answer may have been lost.
            bare: Sends a failure without error and cause, once, where a KMS key refuses those.
            final: Returns whether the caller handles this exception itself; such an exception is raised unchanged.
            tries: The most tries; ``None``: as many as the patience allows.

        Raises:
            ConfigurationError: The client cannot be built. A wrong setting stays wrong, so this is not tried again.
            OtherProcessError: The client belongs to the process that this one was forked off.
            TaskClosedError: Nobody waits any more, and no earlier try of this same request closed the task; or ``call``
                raised it.
            InvalidTokenError: The service does not know the token.
            InvalidDocumentError: The service refused the output.
            TaskError: It could not be delivered.
        """
        began, made, lost = self._clock(), 0, False
        while True:
            made += 1
            answer, result, name, cause = self._try(call, final)
            wait = backoff(made, self._jitter())
            in_time = self._clock() + wait < min(began + self._patience, self._latest)
            time_left = in_time and (tries is None or made < tries)
            decision = decide(answer, lost_before=lost, can_go_bare=bare is not None, time_left=time_left)
            lost = lost or answer is Answer.LOST
            if decision is Decision.DELIVERED:
                # "Already closed" after a lost try means delivered, but its result is lost. Requests that close a task
                # have no result to return.
                return cast("_Result", result)
            if decision is Decision.RETRY_BARE and bare is not None:
                self._log.warning("%s: %s; it is sent once more without error and cause", what, name)
                call, bare = bare, None
            elif decision is Decision.RETRY:
                self._log.info("%s: %s (%s); try %d follows in %.1f s", what, answer.value, name, made + 1, wait)
                tell_retry(answer.name.capitalize())
                self._sleep(wait)
            else:
                raise self._error(what, answer, name, made) from cause

    def _try(
        self, call: Callable[[], _Result], final: Callable[[Exception], bool]
    ) -> tuple[Answer, _Result | None, str, Exception | None]:
        """Send once; return the answer, the result, the error's name for people, and the error if it may be shown."""
        try:
            return Answer.OK, call(), "", None
        except (ConfigurationError, OtherProcessError, TaskClosedError):
            raise  # Ours, and no answer of the service.
        except Exception as error:
            if final(error):
                raise
            if self._redactor is None:
                return answer_to(error), None, name_of(error), error
            # The service may repeat a secret in its words. The error goes no further: neither as a cause, nor in a
            # variable of a frame that tools print.
            return answer_to(error), None, self._redactor.text(name_of(error)), None

    def _error(self, what: str, answer: Answer, name: str, made: int) -> TaskError | InvalidDocumentError:
        said = f"{what}: {answer.value} ({name})"
        if answer in _TOLD_APART:
            kind, advice = _TOLD_APART[answer]
            return kind(f"{said}. {advice}")
        # AWS denies a request whose signature is more than five minutes off its own clock; no permission helps.
        wrong_clock = "Signature expired" in name or "not yet current" in name
        advice = _CLOCK if wrong_clock else self._advice.get(answer, self._otherwise)
        told = ThrottledError if answer is Answer.THROTTLED else TaskError
        return told(". ".join(filter(None, (f"{said} after {made} tries", advice))))
