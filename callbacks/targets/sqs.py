"""The SQS target: reports go into a queue, and a relay with a route and the right to do so calls Step Functions.

For containers without a route or a permission to Step Functions. A queue gives no answer from Step Functions: a report
counts as delivered once SQS has it, and a heartbeat cannot learn that the task is closed (``docs/how-to/relay.md``).
"""

from __future__ import annotations

import contextlib
import hashlib
import random
import re
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from stepout.callbacks.delivery.answers import error_code, name_of
from stepout.callbacks.delivery.clients import build_client
from stepout.callbacks.delivery.failure import MAX_CAUSE, MAX_ERROR, at_most
from stepout.callbacks.delivery.redaction import Redactor, Secret
from stepout.callbacks.delivery.retry_loop import RetryLoop
from stepout.callbacks.targets.messages import Kind, Report, group_of
from stepout.callbacks.targets.sfn import check_token, fitting_output
from stepout.schemas import RunIdentity
from stepout.schemas.errors import ConfigurationError, OutputTooLargeError
from stepout.schemas.runtime.process import PerProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stepout.callbacks.targets.context import TargetContext

_FORM = "sqs://sqs.REGION.amazonaws.com/ACCOUNT/QUEUE, or sqs: and the queue's URL"

# The region in a host of Amazon's: sqs.eu-west-1.amazonaws.com, vpce-1-2.sqs.eu-west-1.vpce.amazonaws.com, …
_REGION = re.compile(r"(?:^|\.)([a-z]{2,}(?:-[a-z]+)+-[0-9]{1,2})\.")
_USUAL = re.compile(r"(?:sqs\.[a-z0-9-]+|[a-z0-9-]+\.queue|queue)\.amazonaws\.com(?:\.cn)?")
_QUEUE = re.compile(r"/(?:[^\s/]+/)*(?P<name>[A-Za-z0-9_-]{1,80}|[A-Za-z0-9_-]{1,75}\.fifo)")
_ACCOUNT = re.compile(r"/[0-9]{12}/[^/]+")
_LOOPBACK = re.compile(r"localhost|127(?:\.[0-9]{1,3}){3}|::1")

_REMEDY = "Allow sqs:SendMessage on the queue (and kms:GenerateDataKey, kms:Decrypt on its key) to the task's role"


@dataclass(frozen=True, kw_only=True)
class QueuePlace:
    """Where a queue is.

    Attributes:
        url: The queue's URL, as SQS knows it.
        name: The queue's name.
        options: For boto3's client: region, and the endpoint where it is not the usual one of the region.
    """

    url: str
    name: str
    options: Mapping[str, Any]

    @property
    def fifo(self) -> bool:
        """Whether the queue keeps order and removes duplicates."""
        return self.name.endswith(".fifo")


def queue_place(url: str) -> QueuePlace:
    """Read a queue's URL. Pure.

    Args:
        url: As SQS gives it (``https://…``), the same with ``sqs:`` before it, or with ``sqs`` in place of ``https``;
            a loopback address (a local AWS) means ``http`` then.

    Raises:
        ConfigurationError: The URL names no queue.

    Examples:
        >>> queue_place("sqs://sqs.eu-west-1.amazonaws.com/123456789012/reports")
        ... # doctest: +NORMALIZE_WHITESPACE
        QueuePlace(url='https://sqs.eu-west-1.amazonaws.com/123456789012/reports', name='reports',
                   options={'region_name': 'eu-west-1'})
        >>> queue_place("sqs:http://127.0.0.1:4566/000000000000/reports.fifo").options
        {'endpoint_url': 'http://127.0.0.1:4566'}
    """
    try:
        parts = urlsplit(_plain(url))
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise _no_queue("cannot be read") from None
    queue = _QUEUE.fullmatch(parts.path)
    amazon = host.endswith((".amazonaws.com", ".amazonaws.com.cn", ".api.aws"))
    if parts.scheme not in ("http", "https") or not host or queue is None or parts.query or parts.fragment:
        raise _no_queue("names no queue")
    if amazon and not _ACCOUNT.fullmatch(parts.path):
        raise _no_queue("lacks the account's twelve digits, or has more than account and queue")
    if parts.username is not None or (amazon and parts.scheme == "http"):
        raise _no_queue("holds a user's name, or would send task tokens to Amazon unencrypted")
    options = {}
    if amazon and (region := _REGION.search(host)):
        options["region_name"] = region[1]
    if host == "queue.amazonaws.com":
        options["region_name"] = "us-east-1"
    if not _USUAL.fullmatch(host) or port is not None:
        options["endpoint_url"] = f"{parts.scheme}://{parts.netloc}"
    return QueuePlace(url=f"{parts.scheme}://{parts.netloc}{parts.path}", name=queue["name"], options=options)


def target_from_url(url: str, context: TargetContext) -> SqsTarget:
    """Make the target that an ``sqs:`` URL means; nothing is sent yet.

    Raises:
        ConfigurationError: The URL names no queue, there is no task token, or no client could be built.
    """
    if context.token is None:
        raise ConfigurationError(
            "STEPOUT_TARGETS names an SQS relay, but there is no task token to relay for: set STEPOUT_TASK_TOKEN"
        )
    target = SqsTarget(url, context.token, run=context.run, environ=context.environ)
    target.connect()
    return target


class SqsTarget:
    """Reports through a queue to the state that waits for a task token.

    A first-in-first-out queue (``….fifo``) keeps the order of one token's reports; a standard one does not need it.

    Args:
        queue_url: The queue's URL as SQS gives it, ``https://…``, or the same with ``sqs://`` in place of ``https://``.
        token: The task token; kept out of ``repr``, logs and messages.
        client: A boto3 SQS client, used as it is; one is built when it is needed.
        run: Identifies the run that reports, for people who look at the queue.
        environ: The task's environment: it gives the region where boto3 knows none; ``None`` for ``os.environ``.
        patience: Seconds for which a report is tried again while the service throttles, fails or cannot be reached.
        clock: Seconds, monotonic.
        sleep: Waits so many seconds.
        jitter: Returns a number from 0 up to 1.

    Raises:
        ConfigurationError: The URL names no queue.
        InvalidTokenError: The token is empty, too long or damaged.
    """

    def __init__(  # noqa: PLR0913 - clock, sleep and jitter are parameters by the house's rules
        self,
        queue_url: str,
        token: str,
        client: Any = None,
        *,
        run: RunIdentity | None = None,
        environ: Mapping[str, str] | None = None,
        patience: float = 180.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._place = queue_place(queue_url)
        self._token = Secret(check_token(token))
        self._redactor = Redactor([self._token.reveal()])
        self._run = run or RunIdentity()
        self._client = PerProcess(
            lambda: build_client("sqs", environ=environ, **self._place.options), client, name="SQS client"
        )
        self._delivery = RetryLoop(
            _REMEDY, redactor=self._redactor, patience=patience, clock=clock, sleep=sleep, jitter=jitter
        )

    def __repr__(self) -> str:
        return f"SqsTarget({self._place.url!r}, token=[redacted])"

    @property
    def redactor(self) -> Redactor:
        """The redactor that hides the token."""
        return self._redactor

    def limit(self, seconds: float) -> None:
        """Make every report give up so many seconds from now; callable from any thread."""
        self._delivery.limit(seconds)

    def success(self, document: Mapping[str, Any]) -> None:
        """Hand the output document over to the queue.

        Raises:
            OutputTooLargeError: The document is larger than Step Functions' 262,144 bytes or the queue's limit.
            TaskError: The report could not be delivered.
        """
        fitting_output(document)  # The relay could only refuse a larger document.
        self._send("success", output=document)

    def failure(self, error: str, cause: str) -> None:
        """Hand a failure over to the queue.

        Raises:
            TaskError: The report could not be delivered.
        """
        self._send("failure", error=at_most(error, MAX_ERROR), cause=at_most(cause, MAX_CAUSE))

    def heartbeat(self) -> None:
        """Hand a heartbeat over to the queue, in three tries at most; it cannot learn that the task is closed.

        Raises:
            ConfigurationError: No client could be built, e.g. because no region is set.
            TaskError: The report could not be delivered.
        """
        self._send("heartbeat", tries=3)

    def connect(self) -> Any:
        """Return the client, built now if need be.

        Raises:
            ConfigurationError: No client could be built, e.g. because no region is set.
        """
        return self._client.get()

    def _send(self, kind: Kind, *, tries: int | None = None, **members: Any) -> None:
        report = Report(id=uuid.uuid4().hex, kind=kind, token=self._token.reveal(), run=self._run, **members)
        parameters = {"QueueUrl": self._place.url, "MessageBody": report.to_json()}
        if self._place.fifo:
            # The id is the report's: SQS drops a second copy, sent after an answer was lost, for five minutes.
            parameters |= {"MessageGroupId": group_of(report.token), "MessageDeduplicationId": report.id}
        what = f"the {kind}, to the queue {self._place.name}"
        try:
            self._delivery.run(what, lambda: _send(self.connect(), parameters), final=_too_long, tries=tries)
        except Exception as error:
            if not _too_long(error):
                raise
            size = len(parameters["MessageBody"].encode())
            sizes = f"{what}: {size:,} bytes are more than its MaximumMessageSize"
            raise OutputTooLargeError(f"{sizes}. Nothing was sent; the attribute may be 1,048,576") from None


def _send(client: Any, parameters: Mapping[str, str]) -> None:
    """Send once; SQS repeats the MD5 of what it took, so that another request's answer is not taken for this one's."""
    said = client.send_message(**parameters).get("MD5OfMessageBody")
    with contextlib.suppress(ValueError):  # a Python without MD5 (FIPS) cannot compare
        sent = hashlib.md5(parameters["MessageBody"].encode(), usedforsecurity=False).hexdigest()
        if said is not None and said != sent:
            raise ConnectionError("the answer is another request's: it repeats another MD5 than was sent")


def _plain(url: str) -> str:
    """``sqs:https://…`` and ``sqs://…`` as the URL that SQS knows."""
    if url[:4].lower() != "sqs:":
        return url
    rest = url[4:]
    if not rest.startswith("//"):
        return rest
    local = _LOOPBACK.fullmatch(urlsplit(rest).hostname or "")
    return f"{'http' if local else 'https'}:{rest}"


def _no_queue(why: str) -> ConfigurationError:
    return ConfigurationError(f"STEPOUT_TARGETS: the URL of an SQS relay {why}; it is written {_FORM}")


def _too_long(error: Exception) -> bool:
    """Queues made before August 2025 take 262,144 bytes, and any can be told to take less."""
    return "InvalidParameterValue" in error_code(error) and "shorter than" in name_of(error)
