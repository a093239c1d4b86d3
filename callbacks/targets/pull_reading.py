"""Reads the outcome of a task in pull mode, for a Lambda that only passes it on. It reads no artifact."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from stepout.callbacks.delivery.answers import error_code
from stepout.callbacks.delivery.clients import build_client
from stepout.callbacks.delivery.retry_loop import RetryLoop
from stepout.schemas.array import child_url, is_of_array, unfilled
from stepout.schemas.errors import ConfigurationError, InvalidDocumentError, TaskError
from stepout.schemas.pull import (
    FAILURE_LIMIT,
    AskedRun,
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
from stepout.schemas.text.locations import key_fault, split_s3_url, table_place

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stepout.schemas.text.locations import TablePlace

_DOCUMENT_LIMIT: Final = 262_144
"""Bytes: what a state can take."""

_ANY_RUN: Final = AskedRun()
_PATIENCE: Final = 20.0
_CONNECTIONS: Final = 10  # as many as botocore keeps
_HOW: Final = 'give the function "count"'
_REMEDY: Final = (
    "Allow s3:GetObject on the outcome and what begins like it, and s3:ListBucket on the bucket, or dynamodb:GetItem "
    "on the table, to the function's role."
)


def read_at(
    url: str,
    run: AskedRun = _ANY_RUN,
    *,
    profile: frozenset[str] = frozenset({"aws"}),
    request_payer: str | None = None,
) -> Any:
    """Return the outcome at a URL.

    Args:
        url: ``s3://bucket/key`` or ``dynamodb://table/key``.
        run: Only this run's failures count. The caller must check whose the output document is.
        profile: The words of ``STEPOUT_S3_PROFILE``.
        request_payer: ``"requester"`` for buckets whose readers pay.

    Returns:
        The output document, unchecked; a ``Failure``; or ``None`` if there is nothing.

    Raises:
        ConfigurationError: The URL is invalid, or belongs to an array job, whose children have outcomes of their own.
        InvalidDocumentError: The object or item at the URL is not an outcome.
        TaskError: The outcome could not be read.
    """
    if is_of_array(url):
        raise ConfigurationError(unfilled(url, how=_HOW))
    place = _place(url, run, profile, request_payer)
    found = place.read(url)
    if found is None and (seen := place.children(url)):
        raise ConfigurationError(unfilled(url, seen=seen, how=_HOW))
    return found


def read_array_at(
    url: str,
    count: int,
    run: AskedRun = _ANY_RUN,
    *,
    profile: frozenset[str] = frozenset({"aws"}),
    request_payer: str | None = None,
) -> list[Any]:
    """Return the outcomes of all children of an array job, by index; as ``read_at`` does for one task.

    An invalid outcome becomes that child's failure, ``Stepout.InvalidDocument``, and does not hide the other outcomes.

    Args:
        url: The URL that the whole array got.
        count: How many children it has.
        run: As for ``read_at``.
        profile: As for ``read_at``.
        request_payer: As for ``read_at``.
    """
    place = _place(child_url(url, 0), run, profile, request_payer)

    def one(index: int) -> Any:
        try:
            return place.read(child_url(url, index))
        except InvalidDocumentError as error:
            return Failure(error.error_name, str(error))

    with ThreadPoolExecutor(_CONNECTIONS) as pool:
        return list(pool.map(one, range(count)))


def _place(
    url: str, run: AskedRun, profile: frozenset[str], request_payer: str | None
) -> _BucketOutcomes | _TableOutcomes:
    """Return a reader for a URL and for the URLs of an array's children."""
    delivery = RetryLoop(_REMEDY, patience=_PATIENCE)
    if url.startswith("dynamodb://"):
        _item_place(url)
        return _TableOutcomes(build_client("dynamodb"), delivery, run)
    bucket, _ = _object_place(url)
    client = build_client("s3", near=bucket, profile=profile)
    payer = {} if request_payer is None else {"RequestPayer": request_payer}
    return _BucketOutcomes(client, bucket, delivery, run, payer)


class _BucketOutcomes:
    """The outcomes in one bucket."""

    def __init__(self, client: Any, bucket: str, delivery: RetryLoop, run: AskedRun, payer: Mapping[str, str]) -> None:
        self._client, self._bucket, self._delivery = client, bucket, delivery
        self._run, self._payer = run, payer

    def read(self, url: str) -> Any:
        """Return the document or the failure at a URL; ``None`` if there is nothing."""
        _, key = _object_place(url)
        # The success comes first: it is written last and once, so failures beside it belong to earlier attempts.
        body = self._get(key, _DOCUMENT_LIMIT)
        if body is not None:
            return load_json(body)
        # S3 gives whole seconds: a failure of the second in which the attempt began may be its own.
        since = None if self._run.since is None else float(int(self._run.since))
        failures = failures_beside(key, self._listing(failure_prefix(key)), since)
        found = newest_failure((self._get(name, FAILURE_LIMIT) for name in failures), self._run)
        return None if found is None else found[1]

    def children(self, url: str) -> int:
        """Return how many children of an array job have reported below a URL, as far as one page of a listing shows."""
        _, key = _object_place(url)
        return children_below(key, (name for name, _ in self._listing(f"{key}/")))

    def _get(self, key: str, limit: int) -> bytes | None:
        """Return an object's bytes; ``None`` if there is none.

        Raises:
            InvalidDocumentError: The object is larger than ``limit``.
        """

        def get() -> bytes | None:
            return body_of(self._client.get_object(Bucket=self._bucket, Key=key, **self._payer), limit)

        try:
            body = self._delivery.run(f"GetObject s3://{self._bucket}/{key}", get, final=_is_missing)
        except Exception as error:
            if _is_missing(error):
                return None
            raise
        if body is None:
            raise _too_large(f"s3://{self._bucket}/{key}", limit)
        return body

    def _listing(self, prefix: str) -> list[tuple[str, float]]:
        """Return one page of the keys that begin with ``prefix``, and the time of each, in seconds since 1970."""

        def listing() -> Mapping[str, Any]:
            answer: Mapping[str, Any] = self._client.list_objects_v2(Bucket=self._bucket, Prefix=prefix, **self._payer)
            return answer

        found = self._delivery.run(f"ListObjectsV2 s3://{self._bucket}/{prefix}", listing).get("Contents", ())
        return [(each["Key"], each["LastModified"].timestamp()) for each in found]


def body_of(answer: Mapping[str, Any], limit: int) -> bytes | None:
    """Return all bytes of a GetObject's answer; ``None`` if they are over the limit, without reading any.

    The body is read to its end, because only that notices a body that was cut off.
    """
    body: bytes | None = answer["Body"].read() if answer["ContentLength"] <= limit else None
    return body


def _object_place(url: str) -> tuple[str, str]:
    try:
        bucket, key = split_s3_url(url)
    except ValueError:
        bucket, key = "", ""
    if key_fault(key) is not None:
        raise ConfigurationError("url: expected s3://bucket/key or dynamodb://table/key, as the task was given it")
    return bucket, key


class _TableOutcomes:
    """The outcomes in DynamoDB."""

    def __init__(self, client: Any, delivery: RetryLoop, run: AskedRun) -> None:
        self._client, self._delivery, self._run = client, delivery, run

    def read(self, url: str) -> Any:
        """Return the document or the failure at a URL; ``None`` if there is nothing."""
        item = self._get(url)
        if item is None or holds_no_outcome(item):
            return None
        if len(item.get("document", {}).get("S", "").encode()) > _DOCUMENT_LIMIT:
            raise _too_large(url, _DOCUMENT_LIMIT)
        found = read_item(item)
        return None if isinstance(found, Failure) and not self._run.may_have(found) else found

    def children(self, url: str) -> int:
        """Return 1 if an array job's first child has reported, else 0: DynamoDB cannot list keys by prefix."""
        with contextlib.suppress(TaskError, ConfigurationError):  # The item may not be read, or the key is invalid.
            return int(self._get(child_url(url, 0)) is not None)
        return 0

    def _get(self, url: str) -> Mapping[str, Any] | None:
        place = _item_place(url)

        def get() -> Mapping[str, Any]:
            answer: Mapping[str, Any] = self._client.get_item(
                TableName=place.table, Key=item_key(place), ConsistentRead=True
            )
            return answer

        return self._delivery.run(f"GetItem {url}", get).get("Item")


def _item_place(url: str) -> TablePlace:
    try:
        place = table_place(url)
    except ValueError as error:
        raise ConfigurationError(f"url: {error}") from None
    if place.key is None:
        raise ConfigurationError("url: expected dynamodb://table/key, with the key")
    return place


def _too_large(url: str, limit: int) -> InvalidDocumentError:
    return InvalidDocumentError(f"{url} has over {limit:,} bytes, which no state could take")


def _is_missing(error: Exception) -> bool:
    return error_code(error) == "NoSuchKey"
