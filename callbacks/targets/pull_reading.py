"""Reads the outcome of a task in pull mode, for a Lambda that only passes it on: no artifact is looked at."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

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
    """Return what lies at the URL of an outcome.

    Args:
        url: ``s3://bucket/key`` or ``dynamodb://table/key``.
        run: Whose failures count; the output document is the caller's to check.
        profile: The words of ``STEPOUT_S3_PROFILE``.
        request_payer: ``"requester"`` for buckets whose readers pay.

    Returns:
        The output document, unchecked; a ``Failure``; or ``None`` if there is nothing.

    Raises:
        ConfigurationError: It is no such URL, or that of an array job, whose children have outcomes of their own.
        InvalidDocumentError: What is there is no outcome.
        TaskError: It could not be read.
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
    """Return what lies at the URLs of all children of an array job, by index; as ``read_at`` does for one task.

    What is no outcome is that child's failure, ``Stepout.InvalidDocument``, and keeps nobody from seeing the others.

    Args:
        url: The URL that the whole array was given.
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
    """Return what reads a URL, and others beside it."""
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
        # The success first: it is written last and once, so failures beside it are of attempts before it.
        body = self._get(key, _DOCUMENT_LIMIT)
        if body is not None:
            return load_json(body)
        # S3 gives whole seconds: a failure of the second in which the attempt began may be its own.
        since = None if self._run.since is None else float(int(self._run.since))
        failures = failures_beside(key, self._listing(failure_prefix(key)), since)
        found = newest_failure((self._get(name, FAILURE_LIMIT) for name in failures), self._run)
        return None if found is None else found[1]

    def children(self, url: str) -> int:
        """Return how many children of an array job are seen to have reported below a URL."""
        _, key = _object_place(url)
        return children_below(key, (name for name, _ in self._listing(f"{key}/")))

    def _get(self, key: str, limit: int) -> bytes | None:
        """Return an object's bytes; ``None`` if there is none.

        Raises:
            InvalidDocumentError: It is larger than ``limit``.
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
        """Return the keys that begin with ``prefix``, a page of them, and when each was written, since 1970."""

        def listing() -> Mapping[str, Any]:
            answer: Mapping[str, Any] = self._client.list_objects_v2(Bucket=self._bucket, Prefix=prefix, **self._payer)
            return answer

        found = self._delivery.run(f"ListObjectsV2 s3://{self._bucket}/{prefix}", listing).get("Contents", ())
        return [(each["Key"], each["LastModified"].timestamp()) for each in found]


def body_of(answer: Mapping[str, Any], limit: int) -> bytes | None:
    """Return the bytes of a GetObject's answer, all of them; ``None``, and nothing is read, if they are over a limit.

    Only a read to the end notices a body that broke off.
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
        if item is None:
            return None
        if len(item.get("document", {}).get("S", "").encode()) > _DOCUMENT_LIMIT:
            raise _too_large(url, _DOCUMENT_LIMIT)
        found = read_item(item)
        return None if isinstance(found, Failure) and not self._run.may_have(found) else found

    def children(self, url: str) -> int:
        """Return whether an array job's first child has reported: no partition key is found by how it begins."""
        with contextlib.suppress(TaskError, ConfigurationError):  # It may not be looked at, or be no key.
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
    response: Any = getattr(error, "response", None)
    return isinstance(response, dict) and response.get("Error", {}).get("Code") == "NoSuchKey"
