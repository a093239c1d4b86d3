"""A store in memory that follows S3's rules: for tests of tasks, and the model that other stores are compared with."""

from __future__ import annotations

import hashlib
import itertools
import threading
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from stepout.artifacts.checksums import best_crc, combine_all, crc_of, sha256_of
from stepout.artifacts.store import Arrived, Download, InvalidPartError, ObjectInfo, UploadGoneError
from stepout.artifacts.store_writes import ListedObject, PartReceipt, StoreProfile, WriteOptions, Written
from stepout.schemas.errors import (
    ArtifactChangedError,
    ArtifactExistsError,
    ArtifactNotFoundError,
    ChecksumMismatchError,
    SizeMismatchError,
    StoreError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


@dataclass(frozen=True, kw_only=True)
class StoredObject:
    """One version of one object: its bytes, what HEAD says of it, and what was written along with it."""

    data: bytes
    info: ObjectInfo
    options: WriteOptions


@dataclass
class _OpenUpload:
    key: str
    options: WriteOptions
    parts: dict[int, tuple[PartReceipt, bytes]] = field(default_factory=dict)


class MemoryStore:
    """A bucket in memory: a program that keeps S3's rules, not a mock that accepts everything.

    Writes are atomic and verified, ``If-None-Match`` and ``If-Match`` hold, parts under 5 MiB are refused, and
    versions are kept if asked for. It may be used from several threads.

    Args:
        bucket: The bucket's name.
        versioned: Keep every version of an object, and give each an id.
        profile: What the server can do; see ``StoreProfile``.
        min_part_size: Smallest part but the last, in bytes, as in S3.

    >>> store = MemoryStore("results")
    >>> store.keys()
    []
    """

    def __init__(
        self,
        bucket: str = "memory",
        *,
        versioned: bool = False,
        profile: StoreProfile | None = None,
        min_part_size: int = 5 << 20,
    ) -> None:
        self._bucket = bucket
        self._versioned = versioned
        self._profile = profile or StoreProfile(multipart_checksum=best_crc())
        self._min_part_size = min_part_size
        self._lock = threading.RLock()
        self._versions: dict[str, list[StoredObject]] = {}
        self._uploads: dict[str, _OpenUpload] = {}
        self._numbers = itertools.count(1)

    def __repr__(self) -> str:
        return f"MemoryStore({self._bucket!r}, {len(self._versions)} objects)"

    @property
    def bucket(self) -> str:
        """The bucket's name."""
        return self._bucket

    @property
    def profile(self) -> StoreProfile:
        """What this store can do."""
        return self._profile

    # For tests ---------------------------------------------------------------------------------------------------

    def keys(self) -> list[str]:
        """Return the keys of all objects, sorted."""
        with self._lock:
            return sorted(self._versions)

    @property
    def objects(self) -> Mapping[str, StoredObject]:
        """The newest version of every object, by key: a copy."""
        with self._lock:
            return {key: versions[-1] for key, versions in sorted(self._versions.items())}

    def read(self, key: str) -> bytes:
        """Return an object's bytes.

        Raises:
            ArtifactNotFoundError: There is no such object.
        """
        return self._find(key, None).data

    @property
    def open_uploads(self) -> list[str]:
        """The keys of multipart uploads that were neither completed nor aborted."""
        with self._lock:
            return sorted(upload.key for upload in self._uploads.values())

    def replace(self, key: str, data: bytes) -> None:
        """Replace an object's bytes without any check, as damage or another program would."""
        with self._lock:
            self._store(key, data, {"sha256": sha256_of([memoryview(data)])}, _etag(data), WriteOptions())

    def delete(self, key: str) -> None:
        """Remove an object and all its versions; one that is not there is no error."""
        with self._lock:
            self._versions.pop(key, None)

    # Writing -----------------------------------------------------------------------------------------------------

    def put(
        self, key: str, body: Sequence[memoryview], *, checksum: Mapping[str, str], options: WriteOptions
    ) -> Written:
        """Store a whole object; see ``Store.put``."""
        self._check_key(key)
        data = b"".join(body)
        for algorithm, expected in checksum.items():
            self._check(key, algorithm, expected, _checksum(algorithm, data))
        with self._lock:
            self._check_mode(key, options)
            return self._store(key, data, checksum, _etag(data), options)

    def start_upload(self, key: str, *, options: WriteOptions) -> str:
        """Begin a multipart upload; see ``Store.start_upload``."""
        self._check_key(key)
        with self._lock:
            upload = f"upload-{next(self._numbers)}"
            self._uploads[upload] = _OpenUpload(key, options)
            return upload

    def put_part(self, key: str, upload: str, number: int, body: Sequence[memoryview], *, checksum: str) -> PartReceipt:
        """Take one part; see ``Store.put_part``."""
        data = b"".join(body)
        self._check(key, self._part_algorithm, checksum, _checksum(self._part_algorithm, data))
        receipt = PartReceipt(number=number, etag=_etag(data), size=len(data), checksum=checksum)
        with self._lock:
            self._open(key, upload).parts[number] = (receipt, data)
        return receipt

    def complete_upload(  # noqa: PLR0913 - the protocol's signature
        self,
        key: str,
        upload: str,
        parts: Sequence[PartReceipt],
        *,
        size: int,
        checksum: str | None,
        options: WriteOptions,
    ) -> Written:
        """Commit a multipart upload; see ``Store.complete_upload``."""
        with self._lock:
            found = self._open(key, upload)
            pieces = self._pieces(key, found, parts)
            data = b"".join(pieces)
            if len(data) != size:
                raise SizeMismatchError(f"{self._url(key)}: the parts have {len(data):,} bytes, expected {size:,}")
            checksums = self._verify_whole(key, parts, checksum)
            self._check_mode(key, options)
            etag = f'"{hashlib.md5(b"".join(map(_md5, pieces)), usedforsecurity=False).hexdigest()}-{len(parts)}"'
            del self._uploads[upload]
            return self._store(key, data, checksums, etag, found.options)

    def list_parts(self, key: str, upload: str) -> list[PartReceipt]:
        """Return the parts that were taken; see ``ListsParts.list_parts``."""
        with self._lock:
            parts = self._open(key, upload).parts
            return [parts[number][0] for number in sorted(parts)]

    def abort_upload(self, key: str, upload: str) -> None:  # noqa: ARG002 - the protocol's signature
        """Forget a multipart upload; see ``Store.abort_upload``."""
        with self._lock:
            self._uploads.pop(upload, None)

    # Reading -----------------------------------------------------------------------------------------------------

    def head(self, key: str, *, version_id: str | None = None) -> ObjectInfo:
        """Describe an object; see ``Store.head``."""
        return self._find(key, version_id).info

    def get(
        self,
        key: str,
        *,
        start: int = 0,
        stop: int | None = None,
        version_id: str | None = None,
        if_match: str | None = None,
    ) -> Download:
        """Open a range of an object; see ``Store.get``."""
        found = self._find(key, version_id)
        if if_match is not None and if_match != found.info.etag:
            raise ArtifactChangedError(f"{self._url(key)} has changed: expected ETag {if_match}, got {found.info.etag}")
        if start and start >= found.info.size:
            raise StoreError(f"{self._url(key)}: no bytes from {start:,} on, it has {found.info.size:,}")
        return Arrived(found.info, memoryview(found.data)[start:stop])

    def listing(self, prefix: str) -> list[tuple[str, str]]:
        """Return the keys that begin with ``prefix`` and when each was written."""
        return [
            (key, stored.info.last_modified or "") for key, stored in self.objects.items() if key.startswith(prefix)
        ]

    def iter_objects(self, prefix: str) -> Iterator[ListedObject]:
        """Yield every object whose key begins with ``prefix``; see ``Lists.iter_objects``."""
        for key, stored in sorted(self.objects.items(), key=lambda each: each[0].encode()):
            if key.startswith(prefix):
                info = stored.info
                yield ListedObject(key=key, size=info.size, etag=info.etag, last_modified=info.last_modified)

    def presign(self, key: str, *, version_id: str | None = None, seconds: int) -> str:
        """Return a URL that shows the parameters to sign; no server answers it."""
        version = f"&versionId={version_id}" if version_id else ""
        return f"memory://{self._bucket}/{key}?expires={seconds}{version}"

    # Inside ------------------------------------------------------------------------------------------------------

    @property
    def _part_algorithm(self) -> str:
        wanted = self._profile.multipart_checksum
        return "sha256" if wanted == "parts" else wanted

    def _url(self, key: str) -> str:
        return f"s3://{self._bucket}/{key}"

    def _check_key(self, key: str) -> None:
        if not 1 <= len(key.encode()) <= 1024:  # noqa: PLR2004 - S3's limit
            raise StoreError(f"{self._url(key)}: a key has 1 to 1,024 bytes, this one has {len(key.encode()):,}")

    def _check(self, key: str, algorithm: str, expected: str, actual: str) -> None:
        if expected != actual:
            message = f"{self._url(key)}: {algorithm} of what arrived is {actual}, expected {expected}; nothing stored"
            raise ChecksumMismatchError(message)

    def _check_mode(self, key: str, options: WriteOptions) -> None:
        if options.mode == "create" and self._profile.conditional_writes and key in self._versions:
            raise ArtifactExistsError(f"{self._url(key)} exists already; nothing was written")

    def _open(self, key: str, upload: str) -> _OpenUpload:
        found = self._uploads.get(upload)
        if found is None or found.key != key:
            raise UploadGoneError(f"{self._url(key)}: the multipart upload does not exist")
        return found

    def _pieces(self, key: str, found: _OpenUpload, parts: Sequence[PartReceipt]) -> list[bytes]:
        numbers = [part.number for part in parts]
        if not parts or numbers != sorted(set(numbers)):
            raise StoreError(f"{self._url(key)}: parts must be listed once each, in order")
        if any(found.parts.get(part.number, (None,))[0] != part for part in parts):
            raise InvalidPartError(f"{self._url(key)}: a part that is listed was never uploaded")
        if any(part.size < self._min_part_size for part in parts[:-1]):
            raise StoreError(f"{self._url(key)}: every part but the last has at least {self._min_part_size:,} bytes")
        return [found.parts[number][1] for number in numbers]

    def _verify_whole(self, key: str, parts: Sequence[PartReceipt], checksum: str | None) -> dict[str, str]:
        algorithm = self._profile.multipart_checksum
        if algorithm == "parts":
            return {}
        actual = combine_all(algorithm, [(part.checksum, part.size) for part in parts])
        if checksum is not None:
            self._check(key, algorithm, checksum, actual)
        return {algorithm: actual}

    def _store(self, key: str, data: bytes, checksum: Mapping[str, str], etag: str, options: WriteOptions) -> Written:
        info = ObjectInfo(
            size=len(data),
            etag=etag,
            version_id=f"v{next(self._numbers)}" if self._versioned else None,
            checksum=dict(checksum),
            media_type=options.media_type,
            metadata=dict(options.metadata),
            last_modified=datetime.now(UTC).isoformat(),
        )
        stored = StoredObject(data=data, info=info, options=replace(options))
        earlier = self._versions.get(key, []) if self._versioned else []
        self._versions[key] = [*earlier, stored]
        return Written(etag=etag, version_id=info.version_id)

    def _find(self, key: str, version_id: str | None) -> StoredObject:
        with self._lock:
            versions = self._versions.get(key, [])
            for stored in reversed(versions):
                if version_id is None or version_id == stored.info.version_id:
                    return stored
        wanted = f" in version {version_id}" if version_id and versions else ""
        raise ArtifactNotFoundError(f"{self._url(key)} does not exist{wanted}")


def _md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()


def _etag(data: bytes) -> str:
    return f'"{_md5(data).hex()}"'


def _checksum(algorithm: str, data: bytes) -> str:
    view = [memoryview(data)]
    if algorithm == "sha256":
        return sha256_of(view)
    if algorithm in ("crc64nvme", "crc32"):
        return crc_of("crc64nvme" if algorithm == "crc64nvme" else "crc32", view)
    raise StoreError(f"the store does not know the checksum algorithm {algorithm}")
