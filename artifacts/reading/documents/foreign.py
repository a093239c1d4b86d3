"""References that other tools write: middy-store, the SQS extended client, and Distributed Map's ResultWriter.

None of them holds a checksum, a size or a version. What stands behind one is therefore described by one HEAD when it is
resolved, held to that size and ETag from then on, and verified against a checksum of the whole object if S3 has one
(S3 computes CRC64NVME for objects uploaded without any, since December 2024). That catches damage on the way and in
storage, not an object that was replaced before it was resolved.

Shapes, from the tools' own sources:

- middy-store: ``{"@middy-store": "s3://bucket/key" | "arn:aws:s3:::bucket/key" | {"store": "s3", "bucket": …,
  "key": …}}``, and the nine URL formats of amazon-s3-url that it can be told to write, ``s3://`` or ``https://``, with
  the bucket in the path behind S3's host or in front of it: ``s3://s3.eu-west-1.amazonaws.com/bucket/key``,
  ``https://bucket.s3.eu-west-1.amazonaws.com/key``. The host is taken for no more than a form: it says neither region
  nor endpoint. A presigned URL, which middy-store fetches as it stands, is refused.
- SQS extended client: ``["software.amazon.payloadoffloading.PayloadS3Pointer", {"s3BucketName": …, "s3Key": …}]``
- ResultWriter: a state's output ``{"MapRunArn": …, "ResultWriterDetails": {"Bucket": …, "Key": …/manifest.json}}``
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from stepout.artifacts.store_writes import etag_for_pointer
from stepout.schemas.errors import InvalidDocumentError, invalid_document
from stepout.schemas.pointer import Pointer
from stepout.schemas.problems import Problem, item, member
from stepout.schemas.search.traversal import JsonRole, called, looked_into
from stepout.schemas.text.json_text import SIZE_LIMIT, parse_json
from stepout.schemas.text.json_value import DEPTH_LIMIT
from stepout.schemas.text.locations import split_s3_url
from stepout.schemas.text.signed_urls import holds_signed_url

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stepout.artifacts.reading.access import Access

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
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/VirtualHosting.html; a dash before the region is the older form.
_S3_HOST = r"s3(?:\.dualstack)?(?:[.-][a-z]{2,4}(?:-[a-z]+)+-[0-9]+)?\.amazonaws\.com(?:\.cn)?"
_BY_PATH = re.compile(rf"(?:s3|https)://{_S3_HOST}/([^/?#]+)/(.+)", re.DOTALL | re.IGNORECASE)
_BY_HOST = re.compile(rf"(?:s3|https)://([^/?#:@]+)\.{_S3_HOST}/(.+)", re.DOTALL | re.IGNORECASE)
_WORTH_OPENING = re.compile("stepout|@middy-store|ResultWriterDetails|S3Pointer")
_MARK: Final = "\ufeff"
_BEFORE_JSON: Final = _MARK + " \t\r\n"
_TEXTS_IN_TEXTS: Final = 3  # SNS in SQS in a Lambda's event
_THEIRS: Final = frozenset({"range", "surrogate"})  # what others may have in values that we only look through
_TOLD: Final = frozenset({"duplicate", "not-finite"})  # what keeps a text that holds a document from being read
_TEXT_BUDGET: Final = 12 << 20
"""How many characters of texts inside JSON are parsed, in all: a Lambda's event (6 MB) of SNS in SQS."""

_TEXT_COST: Final = 64  # what a text, an object or an array costs besides its characters, in characters


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


def find_references(value: object) -> list[ForeignReference]:
    """Find every reference of the three kinds, at any depth, in order, wherever documents may lie (``traversal``).

    Args:
        value: Parsed JSON.

    >>> [(each.kind, each.key) for each in find_references({"a": {"@middy-store": "s3://bucket/key"}})]
    [('middy-store', 'key')]

    Raises:
        InvalidDocumentError: A reference has no bucket or no key.
    """
    return list(_references(value, "$", JsonRole.FREE, 2 * DEPTH_LIMIT))


def _references(value: object, location: str, part: JsonRole, room: int) -> Iterator[ForeignReference]:
    if room == 0:
        return
    if part is JsonRole.FREE and called(value) is None:
        found = _named(value, location) if isinstance(value, dict) else _pair(value, location)
        if found is not None:
            yield found
            return
    place = item if isinstance(value, list) else member
    for step, child, role in looked_into(value, part):
        if isinstance(child, dict | list):
            yield from _references(child, place(location, step), role, room - 1)


def _pair(value: object, location: str) -> ForeignReference | None:
    if isinstance(value, list) and len(value) == _PAIR and isinstance(value[0], str) and value[0] in _SQS_CLASSES:
        return _members("sqs-extended-client", value[1], ("s3BucketName", "s3Key"), location)
    return None


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
    if holds_signed_url(text):
        message = "is a presigned URL, a credential that is not followed: let middy-store write references"
        raise invalid_document("the value", [Problem(location, "secret", message)], "Nothing was read.")
    named = _OBJECT_ARN.fullmatch(text) or _BY_PATH.fullmatch(text) or _BY_HOST.fullmatch(text)
    try:
        bucket, key = named.groups() if named else split_s3_url(text)
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
    value = parse_json(text, max_bytes=max_bytes)
    # Most texts have fewer brackets than levels are allowed: then nothing is walked through.
    if not isinstance(text, str) or text.count("{") + text.count("[") > DEPTH_LIMIT:
        _check_depth(value)
    return value


def _check_depth(value: object) -> None:
    """Refuse what is nested deeper than anything here looks; a level at a time, so that no stack is used up."""
    level = [value]
    for _ in range(DEPTH_LIMIT):
        level = [
            child
            for each in level
            for child in (each.values() if isinstance(each, dict) else each if isinstance(each, list) else ())
            if isinstance(child, dict | list)
        ]
        if not level:
            return
    problem = Problem("$", "depth", f"is nested deeper than {DEPTH_LIMIT} objects and arrays")
    raise invalid_document("the JSON text", [problem])


def opened_texts(value: object, level: int = _TEXTS_IN_TEXTS) -> Any:
    """Return a JSON value in which texts that hold documents or references themselves are parsed.

    An SQS record carries its message as text, and an SNS message in it is text once more. Text that is no JSON stays,
    and so does everything where no document may lie (``traversal``): a task's own result, and what a failure says. The
    work is counted, whether it leads to anything or not.

    Returns:
        A copy as far as something was parsed in it, else ``value`` itself.

    Raises:
        InvalidDocumentError: A text has two members of one name, of which readers before us may have taken the other,
            or a number that JSON does not have; or there is more text than 12 MiB, an object or an array in it counting
            as 64 bytes.

    >>> opened_texts({"body": '{"stepout": "output/1"}'})
    {'body': {'stepout': 'output/1'}}
    """
    return _Opening().opened(value, "$", JsonRole.FREE, level, 2 * DEPTH_LIMIT)


class _Opening:
    """One pass through a value; what all of its texts may cost."""

    def __init__(self) -> None:
        self._left = _TEXT_BUDGET

    def opened(self, value: Any, location: str, part: JsonRole, level: int, room: int) -> Any:
        """Return the value with its texts parsed; itself where none was."""
        if isinstance(value, str):
            parsed = self._parsed(value, location) if level else value
            return value if parsed is value else self.opened(parsed, location, part, level - 1, room)
        if not isinstance(value, dict | list) or not room:
            return value
        copy: Any = None
        place = item if isinstance(value, list) else member
        for step, child, role in looked_into(value, part):
            if isinstance(child, str | dict | list):
                opened = self.opened(child, place(location, step), role, level, room - 1)
                if opened is not child:
                    copy = value.copy() if copy is None else copy
                    copy[step] = opened
        return value if copy is None else copy

    def _parsed(self, text: str, location: str) -> Any:
        if text.lstrip(_BEFORE_JSON)[:1] not in {"{", "["} or not _WORTH_OPENING.search(text):
            return text
        self._charge(text, location)
        try:
            return load_foreign(text)
        except InvalidDocumentError as error:
            if not any(problem.kind in _TOLD for problem in error.problems) and not _is_marked_json(text):
                return text
            problems = [each.below(location) for each in error.problems]
            raise invalid_document("a text in the value", problems) from None

    def _charge(self, text: str, location: str) -> None:
        self._left -= len(text) + _TEXT_COST * (1 + text.count("{") + text.count("["))
        if self._left < 0:
            message = "holds more JSON as text inside of JSON than is parsed here; pass the document itself"
            raise invalid_document("the value", [Problem(location, "size", message)], "It was not searched.")


def _is_marked_json(text: str) -> bool:
    """Tell whether a byte-order mark is all that keeps a text from being JSON."""
    if not text.lstrip().startswith(_MARK):
        return False
    try:
        load_foreign(text.lstrip(_BEFORE_JSON))
    except InvalidDocumentError:
        return False
    return True


def describe(access: Access, reference: ForeignReference) -> Pointer:
    """Make a pointer to what a reference names, from one HEAD.

    Returns:
        A pointer whose ``checksum`` holds what S3 has, which may be nothing.

    Raises:
        NotAllowedError: The allow-list does not hold it; nothing was requested.
        ReadBudgetError: The resolve's budget of requests is spent, or the meter of whoever reads allows no more.
        StoreError: Missing, denied, or unreachable.
    """
    access.allowed.check(reference.bucket, reference.key)
    access.spending.take(f"s3://{reference.bucket}/{reference.key}", requests=1)
    access.count_request(f"s3://{reference.bucket}/{reference.key}")
    info = access.stores.of(reference.bucket).head(reference.key)
    return Pointer(
        bucket=reference.bucket,
        key=reference.key,
        size=info.size,
        checksum=dict(info.checksum),
        media_type=info.media_type or "application/octet-stream",
        etag=etag_for_pointer(info.etag),
    )
