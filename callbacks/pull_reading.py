"""Reads the outcome of a task in pull mode, for a Lambda that only passes it on: no artifact is looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from stepout.callbacks.clients import service
from stepout.callbacks.delivery import Delivery
from stepout.schemas.errors import ConfigurationError, InvalidDocumentError
from stepout.schemas.json_text import load_json
from stepout.schemas.places import key_fault, split_s3_url, table_place
from stepout.schemas.pull import (
    FAILURE_LIMIT,
    FAILURES_READ,
    Failure,
    failure_prefix,
    is_failure_key,
    read_failure,
    read_item,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["body_of", "read_at"]

_DOCUMENT_LIMIT: Final = 262_144
"""Bytes: what a state can take."""

_PATIENCE: Final = 20.0
_REMEDY: Final = (
    "Allow s3:GetObject on the outcome and what begins like it, and s3:ListBucket on the bucket, or dynamodb:GetItem "
    "on the table, to the function's role."
)


def read_at(
    url: str,
    *,
    execution: str | None = None,
    state: str | None = None,
    since: float | None = None,
    path_style: bool = False,
) -> Any:
    """Return what lies at the URL of an outcome.

    Args:
        url: ``s3://bucket/key`` or ``dynamodb://table/key``.
        execution: Whose failures count; the output document is the caller's to check.
        state: As for ``execution``.
        since: Failures in S3 from before that time (seconds since 1970) are an earlier attempt's and do not count.
        path_style: Whether buckets are addressed by path.

    Returns:
        The output document, unchecked; a ``Failure``; or ``None`` if there is nothing.

    Raises:
        ConfigurationError: It is no such URL.
        InvalidDocumentError: What is there is no outcome.
        TaskError: It could not be read.
    """
    delivery = Delivery(_REMEDY, patience=_PATIENCE)
    if url.startswith("dynamodb://"):
        found = _from_table(url, delivery)
        return None if isinstance(found, Failure) and not found.is_of(execution, state) else found
    try:
        bucket, key = split_s3_url(url)
    except ValueError:
        bucket, key = "", ""
    if key_fault(key) is not None:
        raise ConfigurationError("url: expected s3://bucket/key or dynamodb://table/key, as the task was given it")
    objects = _Objects(
        service("s3", near=bucket, s3={"addressing_style": "path"} if path_style else None), bucket, delivery
    )
    body = objects.get(key, _DOCUMENT_LIMIT)
    if body is not None:
        return load_json(body)
    unread: InvalidDocumentError | None = None
    for _, name in sorted(objects.failures(key, since), reverse=True)[:FAILURES_READ]:
        text = objects.get(name, FAILURE_LIMIT)
        try:
            if text is not None and (failure := read_failure(text)).is_of(execution, state):
                return failure
        except InvalidDocumentError as error:  # It says nothing of the others beside it.
            unread = error
    if unread is not None:
        raise unread
    return None


class _Objects:
    """The objects of one bucket."""

    def __init__(self, client: Any, bucket: str, delivery: Delivery) -> None:
        self._client, self._bucket, self._delivery = client, bucket, delivery

    def get(self, key: str, limit: int) -> bytes | None:
        """Return an object's bytes; ``None`` if there is none.

        Raises:
            InvalidDocumentError: It is larger than ``limit``.
        """

        def get() -> bytes | None:
            return body_of(self._client.get_object(Bucket=self._bucket, Key=key), limit)

        try:
            body = self._delivery.run(f"GetObject s3://{self._bucket}/{key}", get, final=_is_missing)
        except Exception as error:
            if _is_missing(error):
                return None
            raise
        if body is None:
            raise _too_large(f"s3://{self._bucket}/{key}", limit)
        return body

    def failures(self, key: str, since: float | None) -> list[tuple[float, str]]:
        """Return when each failure beside an output was written, and its key."""
        prefix = failure_prefix(key)

        def listing() -> Mapping[str, Any]:
            answer: Mapping[str, Any] = self._client.list_objects_v2(Bucket=self._bucket, Prefix=prefix)
            return answer

        found = self._delivery.run(f"ListObjectsV2 s3://{self._bucket}/{prefix}", listing).get("Contents", ())
        times = [(each["LastModified"].timestamp(), each["Key"]) for each in found if is_failure_key(each["Key"], key)]
        # S3 gives whole seconds.
        return [each for each in times if since is None or each[0] >= int(since)]


def body_of(answer: Mapping[str, Any], limit: int) -> bytes | None:
    """Return the bytes of a GetObject's answer, all of them; ``None``, and nothing is read, if they are over a limit.

    Only a read to the end notices a body that broke off.
    """
    body: bytes | None = answer["Body"].read() if answer["ContentLength"] <= limit else None
    return body


def _from_table(url: str, delivery: Delivery) -> Any:
    try:
        place = table_place(url)
    except ValueError as error:
        raise ConfigurationError(f"url: {error}") from None
    if place.key is None:
        raise ConfigurationError("url: expected dynamodb://table/key, with the key")
    client, key = service("dynamodb"), {place.attribute: {"S": place.key}}

    def get() -> Mapping[str, Any]:
        answer: Mapping[str, Any] = client.get_item(TableName=place.table, Key=key, ConsistentRead=True)
        return answer

    item = delivery.run(f"GetItem {url}", get).get("Item")
    if item is None:
        return None
    if len(item.get("document", {}).get("S", "").encode()) > _DOCUMENT_LIMIT:
        raise _too_large(url, _DOCUMENT_LIMIT)
    return read_item(item)


def _too_large(url: str, limit: int) -> InvalidDocumentError:
    return InvalidDocumentError(f"{url} has over {limit:,} bytes, which no state could take")


def _is_missing(error: Exception) -> bool:
    response: Any = getattr(error, "response", None)
    return isinstance(response, dict) and response.get("Error", {}).get("Code") == "NoSuchKey"
