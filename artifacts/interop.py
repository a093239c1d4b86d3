"""References that other tools write: middy-store, the SQS extended client, and Distributed Map's ResultWriter.

None of them holds a checksum, a size or a version. What stands behind one is therefore described by one HEAD when it is
resolved, held to that size and ETag from then on, and verified against a checksum of the whole object if S3 has one
(S3 computes CRC64NVME for objects uploaded without any, since December 2024). That catches damage on the way and in
storage, not an object that was replaced before it was resolved.

Shapes, from the tools' own sources:

- middy-store: ``{"@middy-store": "s3://bucket/key" | "arn:aws:s3:::bucket/key" | {"store": "s3", "bucket": …,
  "key": …}}``
- SQS extended client: ``["software.amazon.payloadoffloading.PayloadS3Pointer", {"s3BucketName": …, "s3Key": …}]``
- ResultWriter: a state's output ``{"MapRunArn": …, "ResultWriterDetails": {"Bucket": …, "Key": …/manifest.json}}``
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from stepout.artifacts.allow import split_url
from stepout.schemas.errors import InvalidDocumentError
from stepout.schemas.json_text import SIZE_LIMIT, load_json
from stepout.schemas.json_value import DEPTH_LIMIT
from stepout.schemas.pointer import Pointer
from stepout.schemas.problems import Problem, invalid_document, item, member

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stepout.artifacts.access import Access

__all__ = ["ForeignKind", "ForeignReference", "describe", "find_references", "load_foreign", "opened_texts"]

ForeignKind = Literal["middy-store", "sqs-extended-client", "result-writer"]

MIDDY: Final = "@middy-store"
WRITER: Final = "ResultWriterDetails"
_SQS_CLASSES: Final = frozenset(
    {
        "software.amazon.payloadoffloading.PayloadS3Pointer",
        "com.amazonaws.payloadoffloading.PayloadS3Pointer",
        "com.amazon.sqs.javamessaging.MessageS3Pointer",
    }
)
_PAIR: Final = 2  # a class and its members
_OBJECT_ARN = re.compile(r"arn:[a-z0-9-]+:s3:::([^/]+)/(.+)", re.DOTALL)
_WORTH_OPENING = re.compile("stepout|@middy-store|ResultWriterDetails|S3Pointer")
_TEXTS_IN_TEXTS: Final = 3  # SNS in SQS in a Lambda's event
_THEIRS: Final = frozenset(
    {"range", "surrogate", "not-finite"}
)  # what others may have in values that we only look through


@dataclass(frozen=True)
class ForeignReference:
    """A place in S3 that another tool's reference names.

    Attributes:
        kind: Whose reference it is.
        bucket: The bucket.
        key: The key.
        location: Where the reference was found.
    """

    kind: ForeignKind
    bucket: str
    key: str
    location: str = "$"


def find_references(value: object, skip: frozenset[int] = frozenset()) -> list[ForeignReference]:
    """Find every reference of the three kinds, at any depth, in order.

    Args:
        value: Parsed JSON.
        skip: ``id()`` of objects that are not looked into: stepout's own documents.

    >>> [(each.kind, each.key) for each in find_references({"a": {"@middy-store": "s3://bucket/key"}})]
    [('middy-store', 'key')]

    Raises:
        InvalidDocumentError: A reference has no bucket or no key.
    """
    return list(_references(value, "$", DEPTH_LIMIT, skip))


def _references(value: object, location: str, room: int, skip: frozenset[int]) -> Iterator[ForeignReference]:
    if room == 0 or id(value) in skip:
        return
    if isinstance(value, dict):
        found = _named(value, location)
        if found is not None:
            yield found
            return
        for name, child in value.items():
            if isinstance(child, dict | list):
                yield from _references(child, member(location, name), room - 1, skip)
    elif isinstance(value, list):
        if len(value) == _PAIR and isinstance(value[0], str) and value[0] in _SQS_CLASSES:
            yield _members("sqs-extended-client", value[1], ("s3BucketName", "s3Key"), location)
            return
        for index, child in enumerate(value):
            if isinstance(child, dict | list):
                yield from _references(child, item(location, index), room - 1, skip)


def _named(value: dict[str, Any], location: str) -> ForeignReference | None:
    if MIDDY in value:
        return _middy(value[MIDDY], member(location, MIDDY))
    if isinstance(value.get(WRITER), dict):
        return _members("result-writer", value[WRITER], ("Bucket", "Key"), member(location, WRITER))
    return None


def _middy(reference: object, location: str) -> ForeignReference:
    if isinstance(reference, dict):
        return _members("middy-store", reference, ("bucket", "key"), location)
    text = reference if isinstance(reference, str) else ""
    arn = _OBJECT_ARN.fullmatch(text)
    try:
        bucket, key = arn.groups() if arn else split_url(text)
    except ValueError:
        bucket, key = "", ""
    return _made("middy-store", bucket, key, location)


def _members(kind: ForeignKind, value: Any, names: tuple[str, str], location: str) -> ForeignReference:
    found = value if isinstance(value, dict) else {}
    return _made(kind, found.get(names[0]), found.get(names[1]), location)


def _made(kind: ForeignKind, bucket: object, key: object, location: str) -> ForeignReference:
    if isinstance(bucket, str) and isinstance(key, str) and bucket and key:
        return ForeignReference(kind, bucket, key, location)
    problem = Problem(location, "pattern", f"is a {kind} reference without an S3 bucket and key that stepout can read")
    raise invalid_document("the value", [problem], "Nothing was read.")


def load_foreign(text: str | bytes | bytearray | memoryview, *, max_bytes: int | None = SIZE_LIMIT) -> Any:
    """Read JSON that others wrote around our documents: as strictly as ours, but for values that are theirs to judge.

    An integer beyond 2**53 in a member that nobody here reads is no reason to refuse the document beside it. Inside
    our documents it still is one: they are checked when they are parsed.

    >>> load_foreign('{"id": 12345678901234567890}')
    {'id': 12345678901234567890}

    Args:
        text: JSON.
        max_bytes: As for ``load_json``.

    Raises:
        InvalidDocumentError: It is not JSON, is too long or too deep, or an object has two members of one name.
    """
    try:
        return load_json(text, max_bytes=max_bytes)
    except InvalidDocumentError as error:
        if not {problem.kind for problem in error.problems} <= _THEIRS:
            raise
        try:
            whole = text.tobytes() if isinstance(text, memoryview) else text
            return json.loads(whole if isinstance(whole, str) else str(whole, "utf-8"))
        except ValueError:  # an integer of thousands of digits
            raise error from None


def opened_texts(value: object, level: int = _TEXTS_IN_TEXTS) -> Any:
    """Return a copy of a JSON value in which texts that hold documents or references themselves are parsed.

    An SQS record carries its message as text, and an SNS message in it is text once more. Text that is no JSON stays.

    Raises:
        InvalidDocumentError: A text has two members of one name, of which readers before us may have taken the other.

    >>> opened_texts({"body": '{"stepout": "output/1"}'})
    {'body': {'stepout': 'output/1'}}
    """
    return _opened(value, level, DEPTH_LIMIT)


def _opened(value: object, level: int, room: int) -> Any:
    if isinstance(value, dict) and room:
        return {name: _opened(child, level, room - 1) for name, child in value.items()}
    if isinstance(value, list) and room:
        return [_opened(child, level, room - 1) for child in value]
    if isinstance(value, str) and level and value.lstrip()[:1] in {"{", "["} and _WORTH_OPENING.search(value):
        try:
            parsed = load_foreign(value)
        except InvalidDocumentError as error:
            if any(problem.kind == "duplicate" for problem in error.problems):
                raise
            return value
        return _opened(parsed, level - 1, room)
    return value


def describe(access: Access, reference: ForeignReference) -> Pointer:
    """Make a pointer to what a reference names, from one HEAD.

    Returns:
        A pointer whose ``checksum`` holds what S3 has, which may be nothing.

    Raises:
        NotAllowedError: The allow-list does not hold it; nothing was requested.
        StoreError: Missing, denied, or unreachable.
    """
    access.allowed.check(reference.bucket, reference.key)
    info = access.store(reference.bucket).head(reference.key)
    return Pointer(
        bucket=reference.bucket,
        key=reference.key,
        size=info.size,
        checksum=dict(info.checksum),
        media_type=info.media_type or "application/octet-stream",
        etag=info.etag,
    )
