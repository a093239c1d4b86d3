"""The Step Functions target: SendTaskSuccess, SendTaskFailure and SendTaskHeartbeat, with retries of our own.

Source of limits and error codes: the service model of Step Functions (2016-11-23). botocore does not enforce the
maxima, so they are measured here.
"""

from __future__ import annotations

import random
import threading
import time
from typing import TYPE_CHECKING, Any, cast

from stepout.callbacks.delivery.answers import answer_to, name_of
from stepout.callbacks.delivery.clients import build_client
from stepout.callbacks.delivery.decisions import Answer, Decision, backoff, decide
from stepout.callbacks.delivery.failure import MAX_CAUSE, MAX_ERROR, at_most
from stepout.callbacks.delivery.redaction import Redactor
from stepout.callbacks.targets.registry import nothing_more
from stepout.schemas.errors import (
    ConfigurationError,
    InvalidDocumentError,
    InvalidTokenError,
    OutputTooLargeError,
    TaskClosedError,
    TaskError,
)
from stepout.schemas.runtime.process import PerProcess
from stepout.schemas.text.foreign_text import logger
from stepout.schemas.text.json_text import dump_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mypy_boto3_stepfunctions import SFNClient

    from stepout.callbacks.targets.registry import TargetContext

MAX_TOKEN = 2_048
MAX_OUTPUT = 262_144

_log = logger("stepout.callbacks.sfn")


def check_token(token: str) -> str:
    """Return the token without surrounding white space.

    Raises:
        InvalidTokenError: It is empty, longer than 2,048 characters, or holds white space or control characters.
    """
    bare = token.strip()
    if not bare:
        raise InvalidTokenError(
            "the task token is set but empty: pass $$.Task.Token (JSONPath) or $states.context.Task.Token (JSONata) "
            "in the state's parameters, and call the state with .waitForTaskToken"
        )
    if len(bare) > MAX_TOKEN:
        raise InvalidTokenError(f"the task token has {len(bare)} characters; Step Functions issues at most {MAX_TOKEN}")
    if not bare.isprintable() or " " in bare:
        raise InvalidTokenError("the task token holds white space or control characters: it was damaged on its way")
    return bare


def make_client(
    *,
    connect_timeout: float = 5.0,
    read_timeout: float = 10.0,
    environ: Mapping[str, str] | None = None,
    near: str | None = None,
) -> SFNClient:
    """Build a Step Functions client with short timeouts and without botocore's hidden retries.

    Args:
        connect_timeout: Seconds.
        read_timeout: Seconds.
        environ: As for ``build_client``.
        near: As for ``build_client``.

    Returns:
        A client from boto3's default session, so region, credentials and endpoint come from its usual places.

    Raises:
        ConfigurationError: None could be built, e.g. for want of a region.
    """
    from botocore.config import Config

    config = Config(
        connect_timeout=connect_timeout,
        read_timeout=read_timeout,
        retries={"total_max_attempts": 1},
        user_agent_extra="stepout",
    )
    return cast("SFNClient", build_client("stepfunctions", environ=environ, near=near, config=config))


def target_from_url(url: str, context: TargetContext) -> StepFunctionsTarget:
    """Make the target that ``sfn:`` means; its client is built for the first heartbeat.

    Raises:
        ConfigurationError: Something follows it, or there is no task token.
    """
    nothing_more(url)
    if context.token is None:
        raise ConfigurationError("STEPOUT_TARGETS names sfn:, but there is no task token: set STEPOUT_TASK_TOKEN")
    return StepFunctionsTarget(context.token, context.client, environ=context.environ)


class StepFunctionsTarget:
    """Reports to the state that waits for a task token.

    Args:
        token: The task token; kept out of ``repr``, logs and messages.
        client: A boto3 Step Functions client, used as it is; one without hidden retries is built when it is needed.
        environ: As for ``build_client``.
        patience: Seconds for which a report is tried again while the service throttles, fails or cannot be reached.
        clock: Seconds, monotonic.
        sleep: Waits so many seconds.
        jitter: Returns a number from 0 up to 1.

    Raises:
        InvalidTokenError: The token is empty, too long or damaged.
    """

    def __init__(  # noqa: PLR0913 - clock, sleep and jitter are parameters by the house's rules
        self,
        token: str,
        client: SFNClient | None = None,
        *,
        environ: Mapping[str, str] | None = None,
        patience: float = 180.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._token = _Secret(check_token(token))
        self._redactor = Redactor([self._token.reveal()])
        self._client = PerProcess(lambda: make_client(environ=environ), client, name="Step Functions client")
        self._patience = patience
        self._clock = clock
        self._sleep = sleep
        self._jitter = jitter
        self._latest = float("inf")

    def __repr__(self) -> str:
        return "StepFunctionsTarget(token=[redacted])"

    @property
    def redactor(self) -> Redactor:
        """Knows the token."""
        return self._redactor

    def limit(self, seconds: float) -> None:
        """Make every report give up so many seconds from now; callable from any thread."""
        self._latest = min(self._latest, self._clock() + seconds)

    def success(self, document: Mapping[str, Any]) -> None:
        """Report the output document.

        Raises:
            OutputTooLargeError: It has more than 262,144 bytes.
            InvalidDocumentError: Step Functions refused it as no valid JSON.
            TaskClosedError: Nobody waits any more.
            InvalidTokenError: Step Functions does not know the token.
            TaskError: It could not be delivered.
        """
        output = dump_json(document)
        if len(output) > MAX_OUTPUT:
            sizes = f"{len(output):,} bytes; Step Functions takes at most {MAX_OUTPUT:,}"
            raise OutputTooLargeError(f"the output document has {sizes}. Nothing was sent")
        self._report("SendTaskSuccess", {"output": output.decode()})

    def failure(self, error: str, cause: str) -> None:
        """Report a failure; under a KMS key that may not be used, once more without error and cause.

        Raises:
            TaskClosedError: Nobody waits any more.
            InvalidTokenError: Step Functions does not know the token.
            TaskError: It could not be delivered.
        """
        self._report("SendTaskFailure", {"error": at_most(error, MAX_ERROR), "cause": at_most(cause, MAX_CAUSE)})

    def heartbeat(self) -> None:
        """Say that the task is alive, in three tries at most.

        Raises:
            TaskClosedError: Nobody waits any more.
            InvalidTokenError: Step Functions does not know the token.
            TaskError: It could not be delivered.
        """
        self._report("SendTaskHeartbeat", {}, tries=3)

    def _report(self, action: str, parameters: dict[str, str], *, tries: int | None = None) -> None:
        began, lost, made, bare = self._clock(), False, 0, False
        while True:
            made += 1
            answer, name = self._try(action, parameters)
            wait = backoff(made, self._jitter())
            decision = decide(
                answer,
                lost_before=lost,
                can_go_bare=action == "SendTaskFailure" and not bare,
                time_left=self._fits(began, wait) and (tries is None or made < tries),
            )
            lost = lost or answer is Answer.LOST
            if decision is Decision.DELIVERED:
                return
            if decision is Decision.RETRY_BARE:
                _log.warning("%s: %s; it is sent once more without error and cause", action, name)
                parameters, bare = {}, True
            elif decision is Decision.RETRY:
                _log.info("%s: %s (%s); try %d follows in %.1f s", action, answer.value, name, made + 1, wait)
                self._sleep(wait)
            else:
                raise self._error(action, answer, name, made)

    def _fits(self, began: float, wait: float) -> bool:
        return self._clock() + wait < min(began + self._patience, self._latest)

    def _try(self, action: str, parameters: dict[str, str]) -> tuple[Answer, str]:
        """Send once; the second value names the error, for people."""
        client = self.connect()  # outside: a setting that is wrong stays so, and is no answer
        hidden = _HiddenLosses()
        try:
            with hidden.watching(client, action):
                _CALLS[action](client, taskToken=self._token.reveal(), **parameters)
        except Exception as error:  # noqa: BLE001 - boto3 raises classes of many origins; the table decides on each
            answer = answer_to(error)
            if answer is Answer.CLOSED and hidden.seen:
                answer = Answer.OK
            return answer, self._redactor.text(name_of(error))
        return Answer.OK, "OK"

    def connect(self) -> SFNClient:
        """Return the client, built now if need be.

        Raises:
            ConfigurationError: None could be built, e.g. for want of a region.
        """
        return self._client.get()

    def _error(self, action: str, answer: Answer, name: str, made: int) -> TaskError | InvalidDocumentError:
        what = f"{action}: {answer.value} ({name})"
        if answer is Answer.CLOSED:
            return TaskClosedError(f"{what}. Nothing was changed")
        if answer is Answer.INVALID_TOKEN:
            return InvalidTokenError(
                f"{what}. Each retry of a state has a new token: was this one passed on unchanged?"
            )
        if answer is Answer.INVALID_OUTPUT:
            return InvalidDocumentError(f"{what}. The state still waits")
        remedy = _CLOCK if "Signature expired" in name or "not yet current" in name else _REMEDY.get(answer)
        return TaskError(f"{what} after {made} tries. {remedy or 'The state still waits'}")


_CLOCK = "This machine's clock is more than five minutes off: set it"
_REMEDY = {
    Answer.DENIED: "Allow states:SendTaskSuccess, states:SendTaskFailure and states:SendTaskHeartbeat to the role that "
    "reports (the task's, or the relay's), in the state machine's region (AWS_DEFAULT_REGION)",
    Answer.KMS: "Allow kms:GenerateDataKey and kms:Decrypt on the state machine's key to the role that reports (the "
    "task's, or the relay's)",
    Answer.UNSENT: "Is there a route to the Step Functions endpoint of this region (NAT, or a VPC endpoint)?",
}


_CALLS: dict[str, Callable[..., Any]] = {
    "SendTaskSuccess": lambda client, **parameters: client.send_task_success(**parameters),
    "SendTaskFailure": lambda client, **parameters: client.send_task_failure(**parameters),
    "SendTaskHeartbeat": lambda client, **parameters: client.send_task_heartbeat(**parameters),
}


class _HiddenLosses:
    """Sees answers lost inside one call of a client that retries by itself, without changing what it does."""

    def __init__(self) -> None:
        self.seen = False
        self._thread = threading.get_ident()

    def watching(self, client: SFNClient, action: str) -> _Watching:
        return _Watching(client, f"needs-retry.sfn.{action}", self._note)

    def _note(self, caught_exception: Exception | None = None, **_: Any) -> None:
        # One client serves several threads: only this thread's call is ours.
        if caught_exception is not None and threading.get_ident() == self._thread:
            self.seen = self.seen or answer_to(caught_exception) is Answer.LOST


class _Watching:
    """Registers a handler for one event of a client while the block runs."""

    def __init__(self, client: Any, event: str, handler: Callable[..., None]) -> None:
        self._events = client.meta.events
        self._event = event
        self._handler = handler

    def __enter__(self) -> None:
        # First: a handler that decides to retry ends the dispatch.
        self._events.register_first(self._event, self._handler)

    def __exit__(self, *exc: object) -> None:
        self._events.unregister(self._event, self._handler)


class _Secret:
    """A string that tools which print local variables do not print."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def __repr__(self) -> str:
        return "[redacted]"

    def reveal(self) -> str:
        return self._value
