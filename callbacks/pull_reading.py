"""Reads the outcome of a task in pull mode, for a Lambda that only passes it on: no artifact is looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from stepout.callbacks.delivery import Delivery
from stepout.callbacks.targets import service
from stepout.schemas.errors import ConfigurationError, InvalidDocumentError
from stepout.schemas.json_text import load_json
from stepout.schemas.places import key_fault, split_s3_url, table_place
from stepout.schemas.pull import FAILURE_LIMIT, failure_prefix, is_failure_key, read_failure, read_item

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["read_at"]

_DOCUMENT_LIMIT: Final = 262_144
"""Bytes: what a state can take."""

_PATIENCE: Final = 20.0
_REMEDY: Final = (
    "Allow s3:GetObject on the outcome and what begins like it, and s3:ListBucket on the bucket, or dynamodb:GetItem "
    "on the table, to the function's role."
)


def read_at(url: str, *, since: float | None = None, path_style: bool = False) -> Any:
    """Return what lies at the URL of an outcome.

    Args:
        url: ``s3://bucket/key`` or ``dynamodb://table/key``.
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
        return _from_table(url, delivery)
    try:
        bucket, key = split_s3_url(url)
    except ValueError:
        bucket, key = "", ""
    if key_fault(key) is not None:
        raise ConfigurationError("url: expected s3://bucket/key or dynamodb://table/key, as the task was given it")
    objects = _Objects(service("s3", s3={"addressing_style": "path"} if path_style else None), bucket, delivery)
    body = objects.get(key, _DOCUMENT_LIMIT)
    if body is not None:
        return load_json(body)
    newest = max(objects.failures(key, since), default=None)
    failure = None if newest is None else objects.get(newest[1], FAILURE_LIMIT)
    return None if failure is None else read_failure(failure)


class _Objects:
    """The objects of one bucket."""

    def __init__(self, client: Any, bucket: str, delivery: Delivery) -> None:
        self._client, self._bucket, self._delivery = client, bucket, delivery

    def get(self, key: str, limit: int) -> bytes | None:
        """Return an object's bytes; ``None`` if there is none.

        Raises:
            InvalidDocumentError: It is larger than ``limit``.
        """

        def get() -> bytes:
            body: bytes = self._client.get_object(Bucket=self._bucket, Key=key)["Body"].read(limit + 1)
            return body

        try:
            body = self._delivery.run(f"GetObject s3://{self._bucket}/{key}", get, final=_is_missing)
        except Exception as error:
            if _is_missing(error):
                return None
            raise
        if len(body) > limit:
            raise InvalidDocumentError(f"s3://{self._bucket}/{key} has over {limit:,} bytes, which no state could take")
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
    return None if item is None else read_item(item)


def _is_missing(error: Exception) -> bool:
    response: Any = getattr(error, "response", None)
    return isinstance(response, dict) and response.get("Error", {}).get("Code") == "NoSuchKey"
