"""Makes the pointer of an existing object, which is pinned and checked but not copied."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import datetime
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final, Literal, get_args

from stepout.artifacts.media_types import DEFAULT, media_type_of
from stepout.artifacts.run import rfc3339
from stepout.artifacts.store_writes import pins_for_pointer
from stepout.artifacts.transfer.conditional_write import takes_its_word
from stepout.schemas.errors import ChecksumMismatchError, ConfigurationError, SizeMismatchError, StoreError
from stepout.schemas.rules import POINTER_TEXTS
from stepout.schemas.text.locations import key_fault, split_s3_url

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stepout.artifacts.store import ObjectInfo, Store
    from stepout.artifacts.writing.buckets import Buckets
    from stepout.artifacts.writing.planned_put import PutOptions, PutPlanner
    from stepout.artifacts.writing.writes import Writes
    from stepout.schemas import Pointer

Verify = Literal["s3", "read"]

_POINTER_ALGORITHMS: Final = ("sha256", "crc64nvme")


def adopt(  # noqa: PLR0913, PLR0917 - what a put needs
    planner: PutPlanner,
    writes: Writes,
    buckets: Buckets,
    name: str,
    url: str,
    verify: Verify,
    version_id: str | None,
    options: PutOptions,
) -> Pointer:
    """Record the pointer of an existing object; ``ArtifactManager.adopt`` says what it raises."""
    bucket, key = check_location(url, verify)
    if options.get("keep") is not None:
        raise ConfigurationError(f"{url}: keep= is for what is written here; an adopted object takes expires_at= alone")
    planned = planner.plan(name, DEFAULT, "", options)
    # Whoever wrote it decides how long it stays, not this manager.
    draft = planned.draft if options.get("expires_at") is not None else replace(planned.draft, expires_at=None)
    with writes.upload(planned, operation="adopt") as upload:  # to reserve the name: no bytes are sent
        store = writes.store if bucket == writes.store.bucket else buckets.store(bucket)
        info, checksum = inspect(store, key, verify=verify, version_id=version_id)
        pointer = of_object(draft, key, bucket, info, checksum)
        writes.commit(name, pointer, upload, 0)
    return pointer


def check_location(url: str, verify: str) -> tuple[str, str]:
    """Split the URL of an object to adopt, before any request.

    Returns:
        Bucket and key.

    Raises:
        ConfigurationError: The URL or ``verify`` is invalid.
    """
    if verify not in get_args(Verify):
        raise ConfigurationError(
            f"verify is {verify!r}: expected 's3' (S3's own checksum) or 'read' (hash it in one read)"
        )
    if not isinstance(url, str):
        msg = f"the url is of type {type(url).__name__}: expected 's3://bucket/key' (of a pointer: pointer.url)"
        raise ConfigurationError(f"{msg}; nothing was read")
    try:
        bucket, key = split_s3_url(url)
    except ValueError:
        raise ConfigurationError(f"{url!r} is no s3://bucket/key; nothing was read") from None
    fault = key_fault(key)
    if fault is not None:
        raise ConfigurationError(f"{url!r} cannot be adopted: the key {fault}; nothing was read")
    return bucket, key


def inspect(store: Store, key: str, *, verify: str, version_id: str | None) -> tuple[ObjectInfo, Mapping[str, str]]:
    """Describe an object.

    Args:
        store: The object's bucket.
        key: The object's key.
        verify: ``"s3"``: one HEAD, for the full-object checksum that S3 keeps. ``"read"``: one GET, hashed on the way.
        version_id: The version to adopt; ``None``: the newest.

    Returns:
        The store's description of the object, and its checksums.

    Raises:
        ConfigurationError: S3 keeps no full-object checksum that a pointer can hold, or HEAD and GET contradict
            each other.
        ArtifactNotFoundError: The object does not exist.
        StoreError: The object is archived, and cannot be read before it is restored.
        IntegrityError: The bytes do not match S3's checksum.
    """
    if verify == "read":
        return _read(store, key, version_id)
    info = store.head(key, version_id=version_id)
    url = f"s3://{store.bucket}/{key}"
    if info.archived is not None:
        msg = f"{url} is archived ({info.archived}), so the next state could not read it; nothing was adopted"
        raise StoreError(f"{msg}. Restore it first, or copy it to another storage class")
    known = {name: info.checksum[name] for name in _POINTER_ALGORITHMS if name in info.checksum}
    if not known:
        has = f"only {', '.join(sorted(info.checksum))}" if info.checksum else "none"
        msg = f"S3 keeps no full-object SHA-256 or CRC64NVME of {url} ({has})"
        raise ConfigurationError(f'{msg}; use verify="read", which reads it once. Nothing was adopted')
    if info.size and not takes_its_word(store):
        _check_get(store, key, info, url)
    return info, known


def _check_get(store: Store, key: str, info: ObjectInfo, url: str) -> None:
    """Read one byte, as a reader will, so that no pointer is made to an object that cannot be read."""
    with store.get(key, start=0, stop=1, version_id=info.version_id) as download:
        found = download.info
    for name, head, get in (("ETag", info.etag, found.etag), ("size", f"{info.size:,}", f"{found.size:,}")):
        if head != get:
            msg = f"{url}: the server answers HEAD with the {name} {head} and GET with {get}"
            raise ConfigurationError(f'{msg}; use verify="read", which reads it once. Nothing was adopted')


def of_object(draft: Pointer, key: str, bucket: str, info: ObjectInfo, checksum: Mapping[str, str]) -> Pointer:
    """Complete the pointer of an adopted object; the caller's members in ``draft`` stay."""
    media_type = draft.media_type
    if media_type == DEFAULT:
        guessed = media_type_of(PurePosixPath(key))
        said = info.media_type or ""
        known = said not in ("", "binary/octet-stream", DEFAULT) and POINTER_TEXTS["mediaType"].accepts(said)
        media_type = said if known else guessed
    etag, found_version = pins_for_pointer(info.etag, info.version_id)
    return replace(
        draft,
        bucket=bucket,
        key=key,
        size=info.size,
        checksum=dict(checksum),
        media_type=media_type or DEFAULT,
        etag=etag,
        version_id=found_version,
        created_at=_moment(info.last_modified),
    )


def _read(store: Store, key: str, version_id: str | None) -> tuple[ObjectInfo, Mapping[str, str]]:
    digest = hashlib.sha256()
    count = 0
    with store.get(key, version_id=version_id) as download:
        info = download.info
        for block in download.blocks():
            digest.update(block)
            count += len(block)
    url = f"s3://{store.bucket}/{key}"
    if count != info.size:
        raise SizeMismatchError(f"{url}: read {count:,} bytes, S3 says {info.size:,}; nothing was adopted")
    expected, actual = info.checksum.get("sha256"), digest.hexdigest()
    if expected is not None and expected != actual:
        raise ChecksumMismatchError(
            f"{url}: sha256 of what was read is {actual}, S3 says {expected}; nothing was adopted"
        )
    return info, {"sha256": actual}


def _moment(text: str | None) -> str | None:
    try:
        moment = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return rfc3339(moment) if moment.tzinfo is not None else None
