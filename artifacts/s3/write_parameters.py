"""What goes with the bytes of an object, as PutObject and CreateMultipartUpload name it. A pure function."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

if TYPE_CHECKING:
    from stepout.artifacts.store_writes import WriteOptions


def write_parameters(options: WriteOptions) -> dict[str, Any]:
    """Return everything of a write but its bytes and its condition; ``None`` for what is not said."""
    found: dict[str, Any] = {
        "ContentType": options.media_type,
        "Metadata": dict(options.metadata) or None,
        "Tagging": urlencode(dict(options.tags)) or None,
        "StorageClass": options.storage_class,
        "ExpectedBucketOwner": options.expected_bucket_owner,
    }
    if options.encryption is not None:
        found["ServerSideEncryption"] = "aws:kms" if options.encryption.kms or options.encryption.kms_key else "AES256"
        found["SSEKMSKeyId"] = options.encryption.kms_key
        found["BucketKeyEnabled"] = options.encryption.bucket_key or None
    return {**found, **options.extra}
