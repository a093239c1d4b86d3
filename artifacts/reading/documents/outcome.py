"""Pull mode's consumer: the document behind the URL of an outcome, or an error that says how the task failed.

Everything read here is untrusted input: bounded, held to one version, and asked of the allow-list, failures included.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any, Final

from stepout.artifacts.reading.access import DOCUMENT_LIMIT
from stepout.artifacts.reading.pinned_object import PinnedObject, check_cap
from stepout.artifacts.reading.whole_read import read_whole
from stepout.artifacts.s3.clients import make_dynamodb_client
from stepout.artifacts.store import PlaceMissingError
from stepout.schemas.array import child_url, is_of_array, unfilled
from stepout.schemas.errors import (
    AccessDeniedError,
    ArtifactNotFoundError,
    ConfigurationError,
    InvalidDocumentError,
    NotAllowedError,
    StoreError,
    TaskFailedError,
    invalid_document,
)
from stepout.schemas.problems import Problem
from stepout.schemas.progress import PROGRESS_LIMIT, progress_in, progress_key, read_progress_text
from stepout.schemas.pull import (
    FAILURE_LIMIT,
    Failure,
    children_below,
    failure_prefix,
    failures_beside,
    holds_no_outcome,
    item_key,
    newest_failure,
    read_item,
)
from stepout.schemas.text.json_text import load_json
from stepout.schemas.text.locations import split_s3_url, table_place

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepout.artifacts.reading.access import Access
    from stepout.schemas.progress import TaskProgress
    from stepout.schemas.pull import AskedRun
    from stepout.schemas.text.locations import TablePlace

CONNECTIONS: Final = 16
"""Children of an array job that are read at once."""

_CHILDREN_TRIED: Final = 2  # the first one may be the very child that is missing


class FailureUnseenError(ArtifactNotFoundError):
    """There is no output, and whether the task failed could not be seen."""


class OutcomeReader:
    """Reads what tasks in pull mode reported; safe to share between threads.

    Args:
        run: Whose failures count; the output document is the caller's to check.
    """

    def __init__(self, run: AskedRun) -> None:
        self._run = run
        self._tables: list[Any] = []
        self._making = threading.Lock()

    def read(self, url: str, access: Access) -> Any:
        """Read what one task reported.

        Args:
            url: ``s3://bucket/key`` or ``dynamodb://table/key``.
            access: How to read.

        Returns:
            JSON: the output document.

        Raises:
            TaskFailedError: The task failed, and no attempt has succeeded.
            ArtifactNotFoundError: The task has reported nothing.
            ConfigurationError: The URL is that of an array job, whose children have outcomes of their own.
            NotAllowedError: The URL lies outside the allow-list.
            InvalidDocumentError: It is no such URL, or what is there is no outcome.
            StoreError: Denied, or unreachable.
        """
        url = url.strip()
        if is_of_array(url):
            raise ConfigurationError(unfilled(url))
        if url.startswith("dynamodb://"):
            return _from_table(url, access, self._run, self._table_client)
        return _from_s3(url, access, self._run)

    def progress(self, url: str, access: Access) -> TaskProgress | None:
        """Read how far a task says it is, whosever progress it is; ``None``: it has said nothing.

        Args:
            url: As for ``read``.
            access: How to read.

        Raises:
            NotAllowedError: The URL lies outside the allow-list.
            InvalidDocumentError: It is no such URL, or what is there is no progress.
            StoreError: The bucket or the table is missing, or it is denied, or unreachable.
        """
        url = url.strip()
        if url.startswith("dynamodb://"):
            place = _item_place(url)
            access.allowed.check_item(place)
            return progress_in(_get_item(place, access, self._table_client) or {})
        bucket, key = _object_place(url)
        try:
            return read_progress_text(_newest(access, bucket, progress_key(key)))
        except PlaceMissingError:
            raise
        except ArtifactNotFoundError:
            return None

    def _table_client(self) -> Any:
        with self._making:
            if not self._tables:
                self._tables.append(make_dynamodb_client(CONNECTIONS))
            return self._tables[0]


# S3 ---------------------------------------------------------------------------------------------------------------


def _from_s3(url: str, access: Access, run: AskedRun) -> Any:
    bucket, key = _object_place(url)
    try:
        # The success first: it is written last and once, so failures beside it are of attempts before it.
        return opened(read_unpinned(access, bucket, key, DOCUMENT_LIMIT), url)
    except ArtifactNotFoundError as error:
        raise _no_success(access, bucket, key, run, error) from error
    except AccessDeniedError as error:
        hint = "without s3:ListBucket on the bucket, a task that has not succeeded yet looks like this"
        raise AccessDeniedError(f"{error}. {hint}") from error


def _object_place(url: str) -> tuple[str, str]:
    try:
        return split_s3_url(url)
    except ValueError as error:
        raise invalid_document("the URL", [Problem("$", "pattern", "must be s3://bucket/key")]) from error


def _newest(access: Access, bucket: str, key: str) -> bytes:
    """Read a small object in one request, whichever version is there: it is replaced all the time."""
    access.allowed.check(bucket, key)
    access.spending.take(f"s3://{bucket}/{key}", requests=1)
    access.count_request(f"s3://{bucket}/{key}")
    with access.stores.of(bucket).get(key) as download:
        if download.info.size > PROGRESS_LIMIT:
            problem = Problem("$", "size", f"has over {PROGRESS_LIMIT:,} bytes")
            raise invalid_document(f"what lies at s3://{bucket}/{key}", [problem])
        text = b"".join(bytes(block) for block in download.blocks())
    if access.meter is not None:
        access.meter.received(f"s3://{bucket}/{key}", len(text))
    return text


def opened(text: bytes, url: str) -> Any:
    """Parse a document that lies at a URL, which must be an object or an array."""
    try:
        value = load_json(text)
    except InvalidDocumentError as error:
        raise invalid_document(f"what lies at {url}", error.problems) from None
    if not isinstance(value, dict | list):
        raise invalid_document(f"what lies at {url}", [Problem("$", "type", "must be an object")])
    return value


def read_unpinned(access: Access, bucket: str, key: str, limit: int) -> bytes:
    """Read a small object of which only the place is known, verified by what S3 says of it."""
    from stepout.artifacts.reading.documents.foreign import ForeignReference, describe

    # A URL is like any reference of others: it has neither size nor version. A HEAD tells both, so that what is too
    # large is not read, and that a document which is replaced meanwhile is not read in two halves.
    pointer = describe(access, ForeignReference("result-writer", bucket, key))
    check_cap(pointer, limit, instead="a document of this size is not read")
    return read_whole(PinnedObject(access, pointer), access.verify is not False)


def _no_success(access: Access, bucket: str, key: str, run: AskedRun, missing: ArtifactNotFoundError) -> Exception:
    """Say why there is no output: the newest failure of this run beside it, or that nothing was reported."""
    url, store = f"s3://{bucket}/{key}", access.stores.of(bucket)
    kind = ArtifactNotFoundError
    try:
        access.count_request(url)
        failures = failures_beside(key, store.listing(failure_prefix(key)))
        for name in failures:
            access.allowed.check(bucket, name)
        found = newest_failure((read_unpinned(access, bucket, name, FAILURE_LIMIT) for name in failures), run)
        if found is not None:
            newer, failure = found
            return _failed(url, failure, len(failures) - newer)
        access.count_request(url)
        children = children_below(key, (name for name, _ in store.listing(f"{key}/")))
        if children:
            return ConfigurationError(unfilled(url, seen=children))
        of = " of this run" if failures else ""
        beside = f"there is no failure{of} beside it ({key}.*.failure.json) either: the task has not reported yet, or "
        beside += "died"
    except (NotAllowedError, StoreError, InvalidDocumentError) as error:
        kind = FailureUnseenError
        beside = (
            f"whether it failed could not be seen ({error}): failures are kept beside it, as {key}.*.failure.json; "
            "grant s3:ListBucket and s3:GetObject on them, and allow them"
        )
    return kind(
        f"there is no task output at {url}: the task has not succeeded yet, and {beside}; or the URL is another one "
        f"than the task was given, or an array job's, which wants count= ({missing})"
    )


def _failed(url: str, failure: Failure, count: int) -> TaskFailedError:
    several = f" (the newest of {count} failures)" if count > 1 else ""
    return TaskFailedError(
        f"the task that was to report at {url} failed: {failure}{several}", error=failure.error, cause=failure.cause
    )


# DynamoDB ---------------------------------------------------------------------------------------------------------


def _item_place(url: str) -> TablePlace:
    try:
        place = table_place(url)
    except ValueError as error:
        raise invalid_document("the URL", [Problem("$", "pattern", f"is wrong: {error}")]) from error
    if place.key is None:
        raise invalid_document("the URL", [Problem("$", "missing", "has no key: expected dynamodb://table/key")])
    return place


def _from_table(url: str, access: Access, run: AskedRun, client: Callable[[], Any]) -> Any:
    place = _item_place(url)
    access.allowed.check_item(place)
    item = _get_item(place, access, client)
    if item is None or holds_no_outcome(item):
        if item is None and _has_child(place, access, client):
            raise ConfigurationError(unfilled(url, seen=1))
        raise ArtifactNotFoundError(
            f"there is no item {url}: the task has not reported yet, or died, or the URL is another one than the task "
            "was given, or an array job's, which wants count="
        )
    outcome = read_item(item)
    if not isinstance(outcome, Failure):
        return outcome
    if run.may_have(outcome):
        raise _failed(url, outcome, 1)
    raise ArtifactNotFoundError(
        f"{url} holds another run's failure, perhaps an earlier one's: the task has not reported yet, or died"
    )


def _has_child(place: TablePlace, access: Access, client: Callable[[], Any]) -> bool:
    """Tell whether the first children of an array job have items: no partition key is found by how it begins."""
    for index in range(_CHILDREN_TRIED):
        with contextlib.suppress(ValueError, NotAllowedError, StoreError):
            child = table_place(child_url(place.url, index))
            access.allowed.check_item(child)
            if _get_item(child, access, client) is not None:
                return True
    return False


def _get_item(place: TablePlace, access: Access, client: Callable[[], Any]) -> dict[str, Any] | None:
    from stepout.artifacts.s3.errors import translate_item

    access.count_request(place.url)
    try:
        # Consistent: a task may report in the very moment before its consumer asks.
        answer = client().get_item(TableName=place.table, Key=item_key(place), ConsistentRead=True)
        item: dict[str, Any] | None = answer.get("Item")
    except Exception as error:
        raise translate_item(error, url=place.url, table=place.table) from error
    return item
