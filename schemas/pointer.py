"""The pointer: the JSON document that names one artifact."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["POINTER_VERSION", "Pointer"]

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
    annotations: Mapping[str, Any] | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """``s3://bucket/key``."""
        return f"s3://{self.bucket}/{self.key}"
