"""Where things are: URLs of S3 objects and of DynamoDB items, parsed strictly. Pure."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

MAX_KEY_BYTES: Final = 1024  # https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html

PARTITION_KEY_BYTES: Final = 2048
"""https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html"""

# Access points, Object Lambda access points and those on Outposts: the forms that boto3 takes as ``Bucket``.
S3_ARN: Final = re.compile(
    r"arn:[a-z0-9-]+:s3[a-z0-9-]*:[a-z0-9-]*:[0-9]*:(?:outpost[/:][^/:]+[/:])?accesspoint[/:][^/:]+"
)

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_TABLE: Final = re.compile(r"dynamodb://([A-Za-z0-9_.-]{3,255})(?::([A-Za-z0-9_.-]{1,255}))?(?:/(.*))?", re.DOTALL)
_FORM: Final = "dynamodb://table or dynamodb://table/key; dynamodb://table:name/key if the partition key is not id"


def split_s3_url(url: str) -> tuple[str, str]:
    """Split ``s3://bucket/key`` (or ``s3://access-point-arn/key``) into its two parts.

    >>> split_s3_url("s3://results/runs/a.json")
    ('results', 'runs/a.json')

    Raises:
        ValueError: The text is no such URL.
    """
    if not url.startswith("s3://"):
        msg = "expected s3://bucket/key"
        raise ValueError(msg)
    rest = url.removeprefix("s3://")
    arn = S3_ARN.match(rest)
    bucket = arn.group() if arn else rest.partition("/")[0]
    tail = rest[len(bucket) :]
    if not bucket or (tail and not tail.startswith("/")):
        msg = "expected s3://bucket/key"
        raise ValueError(msg)
    return bucket, tail[1:]


def key_fault(key: str) -> str | None:
    """Return what is wrong with an object's key, or ``None``.

    >>> key_fault("runs/a.json") is None, key_fault("runs/../x")
    (True, "has a segment '..'")
    """
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        return "is no valid Unicode"
    if size > MAX_KEY_BYTES:
        return f"has {size} bytes; S3 allows {MAX_KEY_BYTES}"
    if _CONTROL.search(key):
        return "has a control character"
    for segment in key.split("/"):
        if segment == "":
            return "is empty" if key == "" else "has an empty segment"
        if segment in {".", ".."}:
            return f"has a segment {segment!r}"
    return None


class TablePlace(NamedTuple):
    """An item of a DynamoDB table.

    Attributes:
        table: The table's name.
        key: The value of its partition key, text; ``None`` where the URL has none.
        attribute: The name of its partition key.
    """

    table: str
    key: str | None = None
    attribute: str = "id"

    @property
    def url(self) -> str:
        """The URL, as ``table_place`` takes it."""
        named = "" if self.attribute == "id" else f":{self.attribute}"
        return f"dynamodb://{self.table}{named}" + ("" if self.key is None else f"/{self.key}")


def table_place(url: str) -> TablePlace:
    """Parse ``dynamodb://table`` or ``dynamodb://table/key``; nothing in a key is decoded.

    >>> table_place("dynamodb://outcomes:pk/arn:aws:states:eu-west-1:1:execution:M:1/Mask").key
    'arn:aws:states:eu-west-1:1:execution:M:1/Mask'

    Raises:
        ValueError: The text is no such URL.
    """
    found = _TABLE.fullmatch(url)
    if found is None:
        raise ValueError(f"expected {_FORM}")
    table, attribute, key = found.groups()
    if key and (_CONTROL.search(key) or len(key.encode("utf-8", "replace")) > PARTITION_KEY_BYTES):
        raise ValueError(f"a key has no control characters and at most {PARTITION_KEY_BYTES:,} bytes")
    return TablePlace(table, key or None, attribute or "id")
