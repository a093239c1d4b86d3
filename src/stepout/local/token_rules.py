"""What Step Functions makes of task tokens and of what is reported with them: one list of rules. Pure.

The local AWS enforces them in front of its engine (``stepout.local.gate``), the tests' strict stand-in likewise.
Sources: the service model of Step Functions (states, 2016-11-23), and its guide's "Wait for a Callback with Task Token"
(https://docs.aws.amazon.com/step-functions/latest/dg/connect-to-resource.html#connect-wait-token).
"""

from __future__ import annotations

import base64
import json
import secrets
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PAYLOAD_MOST = 262_144
"""Bytes of UTF-8 that an input or an output of a state, and the output of SendTaskSuccess, may have."""

_TOKEN_MOST, _ERROR_MOST, _CAUSE_MOST = 2_048, 256, 32_768
_LIMITS = (("output", PAYLOAD_MOST), ("error", _ERROR_MOST), ("cause", _CAUSE_MOST))

_STAMP = b"stepout-task-token:"
_RANDOM_BYTES = 525 - len(_STAMP)
"""700 characters of base64 in all, about as long as tokens are on AWS: they count towards the limit of overrides."""


def payload_size(value: object) -> int:
    """Return the bytes of UTF-8 that a JSON value has as a payload.

    Examples:
        >>> payload_size({"a": "é"})
        10
    """
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass"))


class TokenRefusal(Exception):  # noqa: N818 - an answer of the protocol
    """What Step Functions answers instead of accepting a call.

    Attributes:
        code: The name of the error, as AWS has it.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass
class _Wait:
    """One state that waits for its token. Clocks run once ``begun`` is set."""

    heartbeat: float | None
    timeout: float | None
    begun: float | None
    beaten: float | None
    closed: bool = False
    error: str | None = None

    def expiry(self) -> tuple[float, str] | None:
        """Return when the next clock runs out, and the error that this is; ``None`` where no clock runs."""
        if self.closed or self.begun is None:
            return None
        clocks = []
        if self.timeout is not None:
            clocks.append((self.begun + self.timeout, "States.Timeout"))
        if self.heartbeat is not None:
            clocks.append(((self.beaten or self.begun) + self.heartbeat, "States.HeartbeatTimeout"))
        return min(clocks, default=None)


class TaskTokens:
    """The tokens that states wait for: who may still report, and what is answered to the others.

    A token takes one terminal report. It is closed by that, by a missed heartbeat, by the state's timeout, and by the
    end of the state; from then on the answer is ``TaskTimedOut``. A token that was never issued here is
    ``TaskDoesNotExist``, and what is no token at all is ``InvalidToken``. Safe to use from several threads.

    Args:
        now: The clock, in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._lock = threading.RLock()
        self._waits: dict[str, _Wait] = {}

    def issue(self, *, heartbeat: float | None = None, timeout: float | None = None, begun: bool = True) -> str:
        """Return a new token: for each attempt of a state another one.

        Args:
            heartbeat: The state's ``HeartbeatSeconds``.
            timeout: The state's ``TimeoutSeconds``.
            begun: Whether its clocks run already; those of an activity's task wait for ``begin``.
        """
        token = base64.b64encode(_STAMP + secrets.token_bytes(_RANDOM_BYTES)).decode()
        with self._lock:
            self._waits[token] = _Wait(heartbeat, timeout, self._now() if begun else None, None)
        return token

    def begin(self, token: str) -> None:
        """Start the clocks of a token, if they do not run: a worker has taken the task."""
        with self._lock:
            wait = self._waits.get(token)
            if wait is not None and wait.begun is None:
                wait.begun = self._now()

    def close(self, token: str) -> None:
        """End a wait without a report: the state has ended otherwise."""
        with self._lock:
            self._waits[token].closed = True

    def forget(self, token: str) -> None:
        """Treat a token as one that was never issued."""
        with self._lock:
            del self._waits[token]

    def closed(self, token: str) -> bool:
        """Whether nothing more is accepted for this token."""
        with self._lock:
            self.expired(token)
            return self._waits[token].closed

    def seconds_left(self, token: str) -> float | None:
        """Return after how many seconds the next clock runs out; ``None`` where no clock runs."""
        with self._lock:
            expiry = self._waits[token].expiry()
            return None if expiry is None else max(0.0, expiry[0] - self._now())

    def expired(self, token: str) -> str | None:
        """Return the name of the error that the state ends with, because a clock of this token has run out.

        The token is closed by that. ``None`` if it still waits, or had ended otherwise before.
        """
        with self._lock:
            wait = self._waits[token]
            expiry = wait.expiry()
            if expiry is not None and self._now() > expiry[0]:
                wait.closed, wait.error = True, expiry[1]
            return wait.error

    def check(self, token: str) -> None:
        """Do nothing if a state waits for this token.

        Raises:
            TokenRefusal: None does.
        """
        if not 1 <= len(token) <= _TOKEN_MOST:
            raise TokenRefusal(
                "ValidationException", f"taskToken failed to satisfy constraint: length 1 to {_TOKEN_MOST}"
            )
        with self._lock:
            if token not in self._waits:
                raise _unknown(token)
            if self.closed(token):
                raise TokenRefusal("TaskTimedOut", "Task Timed Out: 'Provided task does not exist anymore'")

    def heartbeat(self, token: str) -> None:
        """Take a heartbeat, which moves that clock and no other.

        Raises:
            TokenRefusal: No state waits for this token.
        """
        with self._lock:
            self.check(token)
            self._waits[token].beaten = self._now()

    def report(self, action: str, parameters: Mapping[str, Any]) -> None:
        """Take a terminal report, and close its token.

        Args:
            action: ``"SendTaskSuccess"`` or ``"SendTaskFailure"``.
            parameters: Those of the call.

        Raises:
            TokenRefusal: The token takes none, or the report breaks a rule; the token stays as it is.
        """
        token = str(parameters.get("taskToken", ""))
        with self._lock:
            self.check(token)
            for name, limit in _LIMITS:
                if len((parameters.get(name) or "").encode("utf-8", "surrogatepass")) > limit:
                    raise TokenRefusal("ValidationException", f"{name} failed to satisfy constraint: at most {limit}")
            if action == "SendTaskSuccess":
                _check_json(parameters.get("output"))
            self._waits[token].closed = True


def _unknown(token: str) -> TokenRefusal:
    with suppress(ValueError):
        if base64.b64decode(token, validate=True).startswith(_STAMP):
            return TokenRefusal("TaskDoesNotExist", "Task does not exist")
    return TokenRefusal("InvalidToken", "Invalid Token: 'Invalid token'")


def _check_json(output: str | None) -> None:
    def refuse(word: str) -> None:
        raise ValueError(word)

    try:
        json.loads(output or "", parse_constant=refuse)
    except (ValueError, RecursionError):
        raise TokenRefusal("InvalidOutput", "Invalid Output: 'Invalid JSON output'") from None
