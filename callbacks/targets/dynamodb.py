"""Outcomes as items of a DynamoDB table: a success replaces a failure, nothing replaces a success.

An item has the partition key (text, called ``id`` unless the URL says otherwise) and ``status`` (``SUCCEEDED`` or
``FAILED``), ``reportedAt``, ``execution``, ``state``, ``mapIndex`` and ``attempt`` as far as they are known; a success
has ``document`` (the output document as JSON text) and ``sha256`` (of that text), a failure ``error`` and ``cause``.
``progress`` says how far a task is that has not succeeded; an item with nothing else is no outcome.
The document is text, so an ASL state can open it with ``States.StringToJson`` or ``$parse``, and every reader sees the
same JSON.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from stepout.callbacks.delivery.answers import condition_failed
from stepout.callbacks.delivery.clients import build_client
from stepout.callbacks.delivery.retry_loop import RetryLoop
from stepout.callbacks.targets.pull import check_run
from stepout.schemas.array import own_url
from stepout.schemas.errors import ConfigurationError, TaskClosedError
from stepout.schemas.progress import PROGRESS_ATTRIBUTE
from stepout.schemas.pull import ITEM_NAMES, SUCCEEDED, Failure, failure_item, item_key, place_key, success_item
from stepout.schemas.runtime.process import PerProcess
from stepout.schemas.text.locations import TablePlace, table_place
from stepout.schemas.text.times import rfc3339

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stepout.callbacks.targets.context import TargetContext
    from stepout.schemas import RunIdentity
    from stepout.schemas.progress import TaskProgress

# An item may have progress and no status yet; what a comparison with a missing attribute says is documented nowhere.
_OPEN: Final = "attribute_not_exists(#status) OR #status <> :succeeded"


def target_from_url(url: str, context: TargetContext) -> DynamoDbTarget:
    """Make the target for ``dynamodb://table`` or ``dynamodb://table/key``; a child of an array job has its own key.

    Raises:
        ConfigurationError: The URL is invalid, no client could be built, or the execution is not known.
    """
    try:
        place = table_place(own_url(url, context.environ))
    except ValueError as error:
        raise ConfigurationError(f"STEPOUT_TARGETS: {error}") from None
    if place.key is not None:
        check_run(url, context.run)
    target = DynamoDbTarget(place.table, place.key, context.run, key_name=place.attribute, environ=context.environ)
    target.connect()
    return target


class DynamoDbTarget:
    """Writes the outcome as one item of a table.

    Args:
        table: The table's name.
        key: The value of its partition key; ``None``: ``{execution}/{state}``, with ``/{mapIndex}`` in a
            Map.
        run: Identifies this run.
        client: A boto3 DynamoDB client, used as it is; one with short timeouts and without hidden retries is built
            otherwise.
        key_name: The name of the partition key, a string; the table has no sort key.
        environ: The task's environment: it gives the region where boto3 knows none; ``None`` for ``os.environ``.
        now: The time of a report.
        delivery: Retries a report while time is left.

    Raises:
        ConfigurationError: The table's name or the key is invalid, or the key is not known.
    """

    def __init__(  # noqa: PLR0913 - by keyword, each with its own meaning
        self,
        table: str,
        key: str | None,
        run: RunIdentity,
        client: Any = None,
        *,
        key_name: str = "id",
        environ: Mapping[str, str] | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        delivery: RetryLoop | None = None,
    ) -> None:
        named = TablePlace(table, place_key(run) if key is None else key, key_name)
        try:
            self._place = table_place(named.url)
        except ValueError as error:
            raise ConfigurationError(f"DynamoDB: {error}") from None
        if self._place != named:
            raise ConfigurationError("DynamoDB: the key is empty")
        if key_name in ITEM_NAMES:
            raise ConfigurationError(
                f"DynamoDB: the partition key cannot be called {key_name}: the item has its own {key_name}"
            )
        self._run = run
        self._client = PerProcess(lambda: build_client("dynamodb", environ=environ), client, name="DynamoDB client")
        self._now = now
        self._delivery = delivery or RetryLoop(
            f"Allow dynamodb:PutItem on the table {table} to the task's role; AWS_DEFAULT_REGION must be its region."
        )
        self._progress_delivery = RetryLoop(
            f"Allow dynamodb:UpdateItem on the table {table} to the task's role: task.progress needs it."
        )

    def __repr__(self) -> str:
        return f"DynamoDbTarget({self.url!r})"

    @property
    def url(self) -> str:
        """The URL that a consumer resolves."""
        return self._place.url

    def limit(self, seconds: float) -> None:
        """Make every report give up so many seconds from now; callable from any thread."""
        self._delivery.limit(seconds)

    def success(self, document: Mapping[str, Any]) -> None:
        """Write the output document in place of a failure, or of nothing.

        Raises:
            OutputTooLargeError: The document is too large for an item.
            TaskClosedError: Another attempt succeeded first; no output points to this attempt's artifacts.
            TaskError: The report could not be delivered.
        """
        item = success_item(self._place, document, run=self._run, time=self._time())
        # The item may hold this same document: an earlier try wrote it, and its answer was lost. It stays as it is.
        self._put(item, f"{_OPEN} OR #sha256 = :sha256", {"#sha256": "sha256"}, {":sha256": item["sha256"]})

    def failure(self, error: str, cause: str) -> None:
        """Write a failure in place of another one, or of nothing.

        Raises:
            TaskClosedError: The task has succeeded, in another attempt.
            TaskError: The report could not be delivered.
        """
        self._put(failure_item(self._place, Failure(error, cause), run=self._run, time=self._time()), _OPEN, {}, {})

    def report_progress(self, progress: TaskProgress) -> None:
        """Set the attribute ``progress`` of the item, in one request; an item without an outcome is none for readers.

        Raises:
            TaskClosedError: The task has succeeded; the item stays as it is.
            TaskError: It was not written.
        """

        def update() -> None:
            self.connect().update_item(
                TableName=self._place.table,
                Key=item_key(self._place),
                UpdateExpression="SET #progress = :progress",
                ConditionExpression=_OPEN,
                ExpressionAttributeNames={"#status": "status", "#progress": PROGRESS_ATTRIBUTE},
                ExpressionAttributeValues={":succeeded": {"S": SUCCEEDED}, ":progress": {"S": progress.to_text()}},
            )

        try:
            self._progress_delivery.run(f"UpdateItem {self.url}", update, final=condition_failed, tries=1)
        except Exception as error:
            if not condition_failed(error):
                raise
            raise TaskClosedError(f"{self.url} holds a success: no progress follows it") from error

    def heartbeat(self) -> None:
        """Send nothing, because the service that started the task watches it; but build the client for the report.

        Raises:
            ConfigurationError: No client could be built.
        """
        self.connect()

    def connect(self) -> Any:
        """Return the client, built now if need be.

        Raises:
            ConfigurationError: No client could be built, e.g. because no region is set.
        """
        return self._client.get()

    def _time(self) -> str:
        return rfc3339(self._now())

    def _put(self, item: dict[str, Any], condition: str, names: dict[str, str], values: dict[str, Any]) -> None:
        def put() -> None:
            self.connect().put_item(
                TableName=self._place.table,
                Item=item,
                ConditionExpression=condition,
                ExpressionAttributeNames={"#status": "status", **names},
                ExpressionAttributeValues={":succeeded": {"S": SUCCEEDED}, **values},
            )

        try:
            self._delivery.run(f"PutItem {self.url}", put, final=condition_failed)
        except Exception as error:
            if not condition_failed(error):
                raise
            raise TaskClosedError(
                f"{self.url} holds a success already: the first one counts, and nothing replaces it. What this attempt "
                "wrote exists, but nothing points to it. If no other attempt ran, the key was used before, perhaps by "
                "the same state in a loop: name it, dynamodb://table/key"
            ) from error
