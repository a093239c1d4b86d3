"""The Step Functions target: SendTaskSuccess, SendTaskFailure and SendTaskHeartbeat, with retries of our own.

Source of limits and error codes: the service model of Step Functions (2016-11-23). botocore does not enforce the
maxima, so they are measured here.
"""

from __future__ import annotations

import random
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from stepout.callbacks.delivery.answers import answer_to
from stepout.callbacks.delivery.clients import build_client
from stepout.callbacks.delivery.decisions import Answer
from stepout.callbacks.delivery.failure import MAX_CAUSE, MAX_ERROR, at_most
from stepout.callbacks.delivery.redaction import Redactor, Secret
from stepout.callbacks.delivery.retry_loop import RetryLoop
from stepout.callbacks.targets.context import nothing_more
from stepout.schemas.errors import ConfigurationError, InvalidTokenError, OutputTooLargeError
from stepout.schemas.runtime.process import PerProcess
from stepout.schemas.text.foreign_text import logger
from stepout.schemas.text.json_text import dump_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mypy_boto3_stepfunctions import SFNClient

    from stepout.callbacks.targets.context import TargetContext

MAX_TOKEN = 2_048
MAX_OUTPUT = 262_144

_log = logger("stepout.callbacks.sfn")


def check_token(token: str) -> str:
    """Return a task token without the white space around it.

    Raises:
        InvalidTokenError: The token is empty, longer than 2,048 characters, or holds white space or control characters.
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


def fitting_output(document: Mapping[str, Any]) -> str:
    """Return the output document as the JSON text that Step Functions takes.

    Raises:
        OutputTooLargeError: The document has more than 262,144 bytes.
    """
    output = dump_json(document)
    if len(output) > MAX_OUTPUT:
        sizes = f"{len(output):,} bytes; Step Functions takes at most {MAX_OUTPUT:,}"
        raise OutputTooLargeError(f"the output document has {sizes}. Nothing was sent")
    return output.decode()


def target_from_url(url: str, context: TargetContext) -> StepFunctionsTarget:
    """Make the target that ``sfn:`` means; its client is built for the first heartbeat.

    Raises:
        ConfigurationError: Something follows the scheme, or there is no task token.
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
        environ: The task's environment: it gives the region where boto3 knows none; ``None`` for ``os.environ``.
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
        self._token = Secret(check_token(token))
        self._redactor = Redactor([self._token.reveal()])
        self._client: PerProcess[SFNClient] = PerProcess(
            lambda: build_client("stepfunctions", environ=environ), client, name="Step Functions client"
        )
        self._delivery = RetryLoop(
            _REMEDY,
            otherwise="The state still waits",
            redactor=self._redactor,
            log=_log,
            patience=patience,
            clock=clock,
            sleep=sleep,
            jitter=jitter,
        )

    def __repr__(self) -> str:
        return "StepFunctionsTarget(token=[redacted])"

    @property
    def redactor(self) -> Redactor:
        """The redactor that hides the token."""
        return self._redactor

    def limit(self, seconds: float) -> None:
        """Make every report give up so many seconds from now; callable from any thread."""
        self._delivery.limit(seconds)

    def success(self, document: Mapping[str, Any]) -> None:
        """Report the output document.

        Raises:
            OutputTooLargeError: The document has more than 262,144 bytes.
            InvalidDocumentError: Step Functions refused the document as invalid JSON.
            TaskClosedError: Nobody waits any more.
            InvalidTokenError: Step Functions does not know the token.
            TaskError: The report could not be delivered.
        """
        self._report("SendTaskSuccess", {"output": fitting_output(document)})

    def failure(self, error: str, cause: str) -> None:
        """Report a failure; if the role may not use the KMS key, report again without error and cause.

        Raises:
            TaskClosedError: Nobody waits any more.
            InvalidTokenError: Step Functions does not know the token.
            TaskError: The report could not be delivered.
        """
        self._report("SendTaskFailure", {"error": at_most(error, MAX_ERROR), "cause": at_most(cause, MAX_CAUSE)})

    def heartbeat(self) -> None:
        """Say that the task is alive, in three tries at most.

        Raises:
            TaskClosedError: Nobody waits any more.
            InvalidTokenError: Step Functions does not know the token.
            TaskError: The report could not be delivered.
        """
        self._report("SendTaskHeartbeat", {}, tries=3)

    def connect(self) -> SFNClient:
        """Return the client, built now if need be.

        Raises:
            ConfigurationError: No client could be built, e.g. because no region is set.
        """
        return self._client.get()

    def _report(self, action: str, parameters: dict[str, str], *, tries: int | None = None) -> None:
        # Step Functions encrypts error and cause with the state machine's key, so without the right to use that key a
        # failure is accepted only without them. An output cannot be left out.
        bare = partial(self._send, action, {}) if action == "SendTaskFailure" else None
        self._delivery.run(action, partial(self._send, action, parameters), bare=bare, tries=tries)

    def _send(self, action: str, parameters: dict[str, str]) -> None:
        client = self.connect()
        # A new listener for each try: the loop remembers whether an earlier try lost its answer.
        with _LostInside(client, action):
            _CALLS[action](client, taskToken=self._token.reveal(), **parameters)


_REMEDY = {
    Answer.DENIED: "Allow states:SendTaskSuccess, states:SendTaskFailure and states:SendTaskHeartbeat to the role that "
    "reports (the task's, or the relay's), in the state machine's region (AWS_DEFAULT_REGION)",
    Answer.KMS: "Allow kms:GenerateDataKey and kms:Decrypt on the state machine's key to the role that reports (the "
    "task's, or the relay's)",
}


_CALLS: dict[str, Callable[..., Any]] = {
    "SendTaskSuccess": lambda client, **parameters: client.send_task_success(**parameters),
    "SendTaskFailure": lambda client, **parameters: client.send_task_failure(**parameters),
    "SendTaskHeartbeat": lambda client, **parameters: client.send_task_heartbeat(**parameters),
}


class _LostInside:
    """One call of a client that may retry by itself: a caller's client may, ours does not.

    Such a client hides that an answer was lost; its next try then finds that its first try has closed the task. So this
    class listens to the client's retry events, and reads "already closed" after a lost answer as delivered.
    """

    def __init__(self, client: Any, action: str) -> None:
        self._events = client.meta.events
        self._event = f"needs-retry.sfn.{action}"
        self._thread = threading.get_ident()
        self._lost = False

    def __enter__(self) -> None:
        # First: a handler that decides to retry ends the dispatch.
        self._events.register_first(self._event, self._note)

    def __exit__(self, _kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> bool:
        self._events.unregister(self._event, self._note)
        return self._lost and error is not None and answer_to(error) is Answer.CLOSED

    def _note(self, caught_exception: Exception | None = None, **_: Any) -> None:
        # One client serves several threads: only this thread's call is ours.
        if caught_exception is not None and threading.get_ident() == self._thread:
            self._lost = self._lost or answer_to(caught_exception) is Answer.LOST
