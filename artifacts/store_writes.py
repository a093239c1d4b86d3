"""What a write to a store says, and what writes and listings answer. Reads load none of it: see ``store``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from stepout.schemas.rules import POINTER_TEXTS

if TYPE_CHECKING:
    from collections.abc import Mapping

Mode = Literal["create", "overwrite"]


@dataclass(frozen=True, kw_only=True)
class StoreProfile:
    """What a server can do; explicit, never guessed.

    Attributes:
        name: ``"aws"``, or what makes it another one, e.g. ``"compatible"``. For any name but ``"aws"``, the writer
            checks the server's answer to a multipart upload before it uses the answer in a pointer.
        multipart_checksum: The full-object checksum that the server verifies when a multipart upload completes, or
            ``"parts"``: a checksum per part only.
        conditional_writes: Whether ``If-None-Match: *`` is honoured. Where it is not, ``mode="create"`` looks first,
            which leaves a race.
        checksum_headers: Whether ``x-amz-checksum-…`` headers are taken. Where they are not, ``Content-MD5`` guards the
            bytes on their way, and ``multipart_checksum`` is ``"parts"``.
    """

    name: str = "aws"
    multipart_checksum: Literal["crc64nvme", "crc32", "parts"] = "crc64nvme"
    conditional_writes: bool = True
    checksum_headers: bool = True


@dataclass(frozen=True, kw_only=True)
class Encryption:
    """Server-side encryption: ``Encryption(kms_key="arn:…", bucket_key=True)``; without KMS it is SSE-S3.

    Attributes:
        kms_key: The key's ARN or alias.
        kms: SSE-KMS; without ``kms_key`` by the key that S3 chooses (the bucket's own, or ``aws/s3``).
        bucket_key: Fewer requests to KMS, by a key for the bucket.
    """

    kms_key: str | None = None
    kms: bool = False
    bucket_key: bool = False


@dataclass(frozen=True, kw_only=True)
class WriteOptions:
    """Everything that is sent with a write besides its bytes."""

    media_type: str = "application/octet-stream"
    mode: Mode = "create"
    encryption: Encryption | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    storage_class: str | None = None
    expected_bucket_owner: str | None = None
    extra: Mapping[str, object] = field(default_factory=dict)
    """Further PutObject / CreateMultipartUpload parameters, e.g. object lock or ``RequestPayer``."""


@dataclass(frozen=True, kw_only=True)
class Written:
    """The answer to a committed write; only this answer gives the ``version_id`` without a race."""

    etag: str | None = None
    version_id: str | None = None


def etag_for_pointer(etag: object) -> str | None:
    """Return an ETag if a pointer can hold it and a reader ask for it: a weak one never matches (RFC 9110, 13.1.1).

    >>> etag_for_pointer('"9b2c"'), etag_for_pointer('W/"9b2c"'), etag_for_pointer('""')
    ('"9b2c"', None, None)
    """
    if isinstance(etag, str) and POINTER_TEXTS["etag"].accepts(etag) and not etag.startswith("W/") and etag != '""':
        return etag
    return None


def version_for_pointer(version_id: object) -> str | None:
    """Return a version's id if a pointer can hold it."""
    return version_id if isinstance(version_id, str) and POINTER_TEXTS["versionId"].accepts(version_id) else None


def pins_for_pointer(etag: object, version_id: object) -> tuple[str | None, str | None]:
    """Return an object's ETag and version as far as a pointer can hold them, and a reader ask for them."""
    return etag_for_pointer(etag), None if version_id is None else version_for_pointer(version_id)


@dataclass(frozen=True, kw_only=True)
class PartReceipt:
    """One part that the server took."""

    number: int
    etag: str
    size: int
    checksum: str
    """Lower-case hex, in the upload's algorithm."""


@dataclass(frozen=True, kw_only=True)
class ListedObject:
    """An object as a listing describes it."""

    key: str
    size: int
    etag: str | None = None
    last_modified: str | None = None
    """ISO 8601."""
