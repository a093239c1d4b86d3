"""The pointer: the JSON document that names one artifact."""

from __future__ import annotations

from collections.abc import Iterator, Mapping  # noqa: TC003 - typing.get_type_hints works on the models
from dataclasses import dataclass, field
from typing import Any, Final

from stepout.schemas import rules
from stepout.schemas.problems import Problem, member
from stepout.schemas.text.json_text import dump_json
from stepout.schemas.text.json_value import (
    DEPTH_LIMIT,
    INTEGER_LIMIT,
    NotPlainError,
    copy_json,
    plain_copy,
    read_strictly,
)

POINTER_VERSION = "pointer/1"


@dataclass(frozen=True, kw_only=True)
class Pointer:
    """One artifact: where it is, how large it is, and what its bytes hash to.

    Attributes:
        bucket: A bucket's name, or the ARN of an access point.
        key: The object's key.
        size: In bytes.
        checksum: Lower-case hex by algorithm, over the stored bytes: ``sha256``, ``crc64nvme`` or both.
        media_type: For example ``application/vnd.apache.parquet``.
        version_id: The object's version, in a bucket that keeps versions.
        etag: As S3 sent it, quotes included.
        bucket_owner: Helps a reader; never trusted.
        region: Helps a reader; never trusted.
        created_at: RFC 3339, UTC, ``Z``.
        expires_at: RFC 3339, UTC, ``Z``.
        blocks: The digests of the object's blocks, or where they are; docs/reference/documents.md has its members.
        annotations: Small JSON about the artifact, such as ``{"rows": 1000000}``.
        extra: Members that a later version wrote; kept and written back.
    """

    bucket: str
    key: str
    size: int
    checksum: Mapping[str, str]
    media_type: str = "application/octet-stream"
    version_id: str | None = None
    etag: str | None = None
    bucket_owner: str | None = None
    region: str | None = None
    created_at: str | None = None
    expires_at: str | None = None
    blocks: Mapping[str, Any] | None = None
    annotations: Mapping[str, Any] | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """``s3://bucket/key``."""
        return f"s3://{self.bucket}/{self.key}"

    def to_dict(self) -> dict[str, Any]:
        """Return the wire form: what is absent left out, members in the schema's order, nothing shared.

        Nothing is checked: ``stepout.schemas.validate`` does that.

        >>> Pointer(bucket="results", key="a.txt", size=0, checksum={}).to_dict()["mediaType"]
        'application/octet-stream'
        """
        document: dict[str, Any] = {"stepout": POINTER_VERSION}
        for name, attribute in _ATTRIBUTES.items():
            value = getattr(self, attribute)
            if value is not None:
                document[name] = value
        document.update((name, value) for name, value in self.extra.items() if name not in POINTER_MEMBERS)
        copied: dict[str, Any] = plain_copy(document)
        return copied

    def to_json(self) -> str:
        """Return the wire form as compact text, non-ASCII characters as themselves.

        Raises:
            InvalidDocumentError: Something in it is not JSON.
        """
        return dump_json(self.to_dict()).decode()

    @classmethod
    def from_dict(cls, document: object) -> Pointer:
        """Parse the wire form strictly, with the same verdict as the JSON Schema, and copy it.

        Args:
            document: Parsed JSON: a ``dict``.

        Returns:
            The pointer, unknown members in ``extra``.

        Raises:
            InvalidDocumentError: With every problem found.
        """
        return read_strictly(document, "the pointer", read_pointer, pointer_problems)


_ATTRIBUTES: Final = {
    "bucket": "bucket",
    "key": "key",
    "versionId": "version_id",
    "etag": "etag",
    "size": "size",
    "checksum": "checksum",
    "mediaType": "media_type",
    "bucketOwner": "bucket_owner",
    "region": "region",
    "createdAt": "created_at",
    "expiresAt": "expires_at",
    "blocks": "blocks",
    "annotations": "annotations",
}
POINTER_MEMBERS: Final = frozenset(("stepout", *_ATTRIBUTES))
_REQUIRED: Final = ("stepout", "bucket", "key", "size", "checksum", "mediaType")
_BLOCKS_NEEDED: Final = frozenset(("algorithm", "size", "place"))
_NEEDED: Final = frozenset(_ATTRIBUTES[name] for name in _REQUIRED[1:])
_ABSENT: Final = dict.fromkeys((attribute for attribute in _ATTRIBUTES.values() if attribute not in _NEEDED), None)
_TEXTS: Final = {name: (_ATTRIBUTES[name], rule) for name, rule in rules.POINTER_TEXTS.items()}


def read_pointer(document: Any, room: int = DEPTH_LIMIT) -> Pointer:
    """Parse a pointer fast, giving up without a reason at whatever is out of the ordinary.

    Args:
        document: Any value.
        room: How many levels of objects and arrays it may have.

    Returns:
        The pointer.

    Raises:
        NotPlainError: It is no pointer, or holds something other than the plain types; ``json_problems`` and
            ``pointer_problems`` tell which.
    """
    if type(document) is not dict or room < 2 or document.get("stepout") != POINTER_VERSION:  # noqa: PLR2004 - itself and its checksum
        raise NotPlainError
    found: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    for name, value in document.items():
        text = _TEXTS.get(name)
        if text is not None:
            attribute, rule = text
            if type(value) is not str or not rule.accepts(value):
                raise NotPlainError
            found[attribute] = value
        elif name in POINTER_MEMBERS:
            found[name] = value
        else:
            extra[name] = value
    return _assembled(found, copy_json(extra, room) if extra else extra, room)


def _assembled(found: dict[str, Any], extra: dict[str, Any], room: int) -> Pointer:
    del found["stepout"]
    if not found.keys() >= _NEEDED:
        raise NotPlainError
    size = found["size"]
    found["size"] = size if type(size) is int and 0 <= size <= INTEGER_LIMIT else rules.whole(size)
    if found["size"] is None:
        raise NotPlainError
    found["checksum"] = _read_checksum(found["checksum"])
    if "blocks" in found:
        found["blocks"] = _read_blocks(found["blocks"], room - 1)
    if "annotations" in found:
        found["annotations"] = _read_object(found["annotations"], room - 1)
    # What the generated __init__ of a frozen dataclass does costs a third of all parsing.
    pointer = object.__new__(Pointer)
    pointer.__dict__.update(_ABSENT, extra=extra, **found)
    return pointer


def _read_checksum(value: Any) -> dict[str, str]:
    if type(value) is not dict or ("sha256" not in value and "crc64nvme" not in value):
        raise NotPlainError
    for algorithm, digits in value.items():
        rule = rules.CHECKSUMS.get(algorithm)
        if rule is None:
            rule = rules.OTHER_CHECKSUM
            copy_json(algorithm)
        if type(algorithm) is not str or type(digits) is not str or not rule.accepts(digits):
            raise NotPlainError
    return dict(value)


def _read_blocks(value: Any, room: int) -> Any:
    if type(value) is not dict or not value.keys() >= _BLOCKS_NEEDED:
        raise NotPlainError
    copied = copy_json(value, room)
    for name, rule in rules.BLOCKS_TEXTS.items():
        if name in value and (type(value[name]) is not str or not rule.accepts(value[name])):
            raise NotPlainError
    copied["size"] = rules.whole(value["size"])
    if copied["size"] is None:
        raise NotPlainError
    return copied


def _read_object(value: Any, room: int) -> Any:
    if type(value) is not dict:
        raise NotPlainError
    return copy_json(value, room)


def pointer_problems(document: object, location: str = "$") -> Iterator[Problem]:
    """Yield everything that keeps a JSON value from being a pointer.

    Args:
        document: JSON, as ``json_problems`` knows it.
        location: What to call the document itself.

    Yields:
        Problems of the same kinds and at the same locations as ``stepout.schemas.validate`` has them.
    """
    if not isinstance(document, dict):
        yield rules.wrong_type(location, "object", document)
        return
    yield from (rules.missing(member(location, name)) for name in _REQUIRED if name not in document)
    if document.get("stepout", POINTER_VERSION) != POINTER_VERSION:
        yield rules.wrong_version(f"{location}.stepout", POINTER_VERSION)
    for name, rule in rules.POINTER_TEXTS.items():
        if name in document:
            yield from rule.problems(document[name], f"{location}.{name}")
    if "size" in document:
        yield from rules.integer_problems(document["size"], f"{location}.size")
    if "checksum" in document:
        yield from _checksum_problems(document["checksum"], f"{location}.checksum")
    if "blocks" in document:
        yield from _blocks_problems(document["blocks"], f"{location}.blocks")
    if "annotations" in document and not isinstance(document["annotations"], dict):
        yield rules.wrong_type(f"{location}.annotations", "object", document["annotations"])


def _blocks_problems(value: object, location: str) -> Iterator[Problem]:
    if not isinstance(value, dict):
        yield rules.wrong_type(location, "object", value)
        return
    yield from (rules.missing(member(location, name)) for name in sorted(_BLOCKS_NEEDED - value.keys()))
    for name, rule in rules.BLOCKS_TEXTS.items():
        if name in value:
            yield from rule.problems(value[name], member(location, name))
    if "size" in value:
        yield from rules.integer_problems(value["size"], member(location, "size"))


def _checksum_problems(value: object, location: str) -> Iterator[Problem]:
    if not isinstance(value, dict):
        yield rules.wrong_type(location, "object", value)
        return
    if not rules.CHECKSUMS.keys() & value.keys():
        yield rules.no_checksum(location)
    for algorithm, digits in value.items():
        yield from rules.CHECKSUMS.get(algorithm, rules.OTHER_CHECKSUM).problems(digits, member(location, algorithm))
