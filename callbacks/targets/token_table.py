"""A small DynamoDB table from an ECS task's ARN to its task token, for events that do not carry the token.

The task writes its row with its first heartbeat, and removes the token from the row once its outcome is reported. The
row then tells the watcher that no report is missing. ``STEPOUT_TOKEN_TABLE`` switches it on, on both sides. The table
has the partition key ``task`` (a string) and the time-to-live attribute ``expires``.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from stepout.callbacks.delivery.answers import condition_failed
from stepout.callbacks.delivery.clients import build_client
from stepout.callbacks.delivery.redaction import Redactor, Secret
from stepout.callbacks.delivery.retry_loop import RetryLoop
from stepout.schemas.errors import TaskError
from stepout.schemas.runtime.process import PerProcess
from stepout.schemas.text.foreign_text import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stepout.callbacks.targets.context import TargetContext

_Value = TypeVar("_Value")

_log = logger("stepout.callbacks.token_table")

TABLE = "STEPOUT_TOKEN_TABLE"
METADATA = "ECS_CONTAINER_METADATA_URI_V4"

_LASTS = 7 * 86_400.0
"""Seconds until DynamoDB may delete a row; a heartbeat writes the row again once a day."""

_DAY = 86_400.0
_PATIENCE = 10.0
_METADATA_SECONDS = 2.0
_METADATA_TRIES = 3
_REMEDY = "Allow dynamodb:PutItem and dynamodb:UpdateItem (the task), or dynamodb:GetItem and dynamodb:UpdateItem (the "
_REMEDY += "watcher), on the table that STEPOUT_TOKEN_TABLE names"


@dataclass(frozen=True)
class TokenRow:
    """What the table knows of a task.

    Attributes:
        token: Its token, until it has reported.
        reported: Whether its outcome was handed over.
        container: The name of the container that has the token, if it is known.
    """

    token: str | None = field(default=None, repr=False)
    reported: bool = False
    container: str | None = None


class TokenTable:
    """The DynamoDB table of task tokens.

    Args:
        name: Its name or ARN.
        client: A boto3 DynamoDB client, used as it is; one is built when it is needed.
        clock: Seconds since 1970.
    """

    def __init__(self, name: str, client: Any = None, *, clock: Callable[[], float] = time.time) -> None:
        self._name = name
        self._client = PerProcess(lambda: build_client("dynamodb"), client, name="DynamoDB client")
        self._clock = clock
        self._delivery = RetryLoop(_REMEDY, patience=_PATIENCE)

    def __repr__(self) -> str:
        return f"TokenTable({self._name!r})"

    def record(self, task: str, token: str, container: str | None = None) -> None:
        """Note a task's token, unless the task has reported already.

        Args:
            task: The task's ARN.
            token: Its task token.
            container: The name of the container that has it.

        Raises:
            TaskError: The table could not be written to.
        """
        item = {"task": {"S": task}, "token": {"S": token}, "expires": self._expiry()}
        item |= {"container": {"S": container}} if container else {}
        try:
            self._call(
                "PutItem",
                lambda client: client.put_item(
                    TableName=self._name, Item=item, ConditionExpression="attribute_not_exists(reported)"
                ),
            )
        except Exception as error:
            if not condition_failed(error):
                raise

    def reported(self, task: str) -> None:
        """Take the token out of a task's row, and note that its outcome was handed over.

        Raises:
            TaskError: The table could not be written to.
        """
        change = {
            "UpdateExpression": "SET reported = :yes, expires = :then REMOVE #token, #container",
            "ExpressionAttributeNames": {"#token": "token", "#container": "container"},
            "ExpressionAttributeValues": {":yes": {"BOOL": True}, ":then": self._expiry()},
        }
        self._call(
            "UpdateItem",
            lambda client: client.update_item(TableName=self._name, Key={"task": {"S": task}}, **change),
        )

    def find(self, task: str) -> TokenRow:
        """Return what the table knows of a task; an empty row if it knows nothing.

        Raises:
            TaskError: The table could not be read.
        """
        answer = self._call(
            "GetItem",
            lambda client: client.get_item(TableName=self._name, Key={"task": {"S": task}}, ConsistentRead=True),
        )
        item = answer.get("Item")
        return TokenRow(
            token=_typed(item, "token", "S", str),
            reported=_typed(item, "reported", "BOOL", bool) or False,
            container=_typed(item, "container", "S", str),
        )

    def _call(self, action: str, call: Callable[[Any], Any]) -> Any:
        client = self._client.get()
        return self._delivery.run(f"{action} on {self!r}", lambda: call(client), final=condition_failed)

    def _expiry(self) -> dict[str, str]:
        return {"N": str(int(self._clock() + _LASTS))}


class TokenKeeper:
    """Keeps a task's row: a target that is told after the primary target, and never fails the task.

    Args:
        table: The table.
        token: The task token.
        find_task: Returns the task's ARN.
        find_container: Returns the name of the container that this process runs in, ``None`` if that is not known.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        table: TokenTable,
        token: str,
        find_task: Callable[[], str],
        *,
        find_container: Callable[[], str | None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._table = table
        self._token = Secret(token)
        self._find_task, self._find_container = find_task, find_container
        self._clock = clock
        self._task: str | None = None
        self._noted: float | None = None

    def __repr__(self) -> str:
        return f"TokenKeeper({self._table!r})"

    @property
    def redactor(self) -> Redactor:
        """The redactor that hides the token."""
        return Redactor([self._token.reveal()])

    def heartbeat(self) -> None:
        """Write the row, with the first beat and then once a day."""
        if self._noted is None or self._clock() - self._noted > _DAY:
            self._table.record(self._arn(), self._token.reveal(), self._find_container())
            self._noted = self._clock()

    def success(self, _document: Mapping[str, Any]) -> None:
        """Remove the token: the outcome was handed over."""
        self._table.reported(self._arn())

    def failure(self, _error: str, _cause: str) -> None:
        """Remove the token: the outcome was handed over."""
        self._table.reported(self._arn())

    def _arn(self) -> str:
        if self._task is None:
            self._task = self._find_task()
        return self._task


def keeper_from_env(context: TargetContext) -> tuple[TokenKeeper, ...]:
    """Return the keeper that ``STEPOUT_TOKEN_TABLE`` asks for, if there is a token to keep and this is an ECS task."""
    name = context.environ.get(TABLE, "").strip()
    if not name or context.token is None:
        return ()
    if not context.environ.get(METADATA):
        _log.warning(
            "%s is set, but %s is not: only an ECS task (Fargate 1.4.0, or agent 1.39.0 and later) knows its ARN. The "
            "task goes on without a row in the table",
            TABLE,
            METADATA,
        )
        return ()
    task, container = (lambda: own_task_arn(context.environ)), (lambda: own_container(context.environ))
    return (TokenKeeper(TokenTable(name), context.token, task, find_container=container),)


def own_task_arn(environ: Mapping[str, str]) -> str:
    """Ask the ECS task metadata endpoint, version 4, for the ARN of the task that this process belongs to.

    Args:
        environ: ``os.environ``, or a mapping like it.

    Raises:
        TaskError: The endpoint did not answer.
    """
    return _metadata(environ, "/task", "TaskARN")


def own_container(environ: Mapping[str, str]) -> str | None:
    """Ask the same endpoint for the name of the container that this process runs in; ``None`` without an answer."""
    try:
        return _metadata(environ, "", "Name")
    except TaskError:
        return None


def _metadata(environ: Mapping[str, str], path: str, member: str) -> str:
    import urllib.error
    import urllib.request

    url = f"{environ.get(METADATA, '').rstrip('/')}{path}"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a link-local address: no proxy can reach it
    problem: Exception | None = None
    for _ in range(_METADATA_TRIES):
        try:
            with opener.open(url, timeout=_METADATA_SECONDS) as answer:
                return str(json.load(answer)[member])
        except (OSError, ValueError, KeyError, TypeError) as error:
            problem = error
            if isinstance(error, urllib.error.HTTPError):
                error.close()
    raise TaskError(
        f"the ECS metadata endpoint did not say which task this is ({type(problem).__name__}): the task token was not "
        f"noted in the table of {TABLE}"
    ) from problem


def _typed(item: Any, name: str, kind: str, expected: type[_Value]) -> _Value | None:
    """Return an attribute's value; ``None`` if it is absent or of another type."""
    attribute = item.get(name) if isinstance(item, dict) else None
    value = attribute.get(kind) if isinstance(attribute, dict) else None
    return value if isinstance(value, expected) else None
