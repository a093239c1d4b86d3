"""Adopting: a pointer to what is there already, pinned and checked, without moving a byte."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from stepout.artifacts import ArtifactManager, MemoryStore
from stepout.artifacts.store import ObjectInfo
from stepout.artifacts.store_writes import WriteOptions
from stepout.schemas.errors import (
    ArtifactExistsError,
    ArtifactNotFoundError,
    ChecksumMismatchError,
    ConfigurationError,
    SizeMismatchError,
)

DATA = b"id,score\n1,0.5\n"
SHA256 = hashlib.sha256(DATA).hexdigest()


class Lake(MemoryStore):
    """A bucket that others write to; ``checksum`` is what S3 keeps, ``said`` what it says of the size."""

    def __init__(self, checksum: dict[str, str], *, said: int | None = None, media_type: str | None = None) -> None:
        super().__init__("lake", versioned=True)
        self._said = ObjectInfo(
            size=len(DATA) if said is None else said,
            etag='"e"',
            version_id="v9",
            checksum=checksum,
            media_type=media_type,
            last_modified="2026-11-22T12:00:00+00:00",
        )

    def head(self, key: str, *, version_id: str | None = None) -> ObjectInfo:
        """Say what was told."""
        super().head(key)
        assert version_id in (None, "v9")
        return self._said

    def get(self, key: str, *, version_id: str | None = None, **_: Any) -> Any:
        """Give the bytes under what was told."""
        assert version_id in (None, "v9")
        download: Any = super().get(key)
        download.info = self._said
        return download


def lake(checksum: dict[str, str], **options: Any) -> tuple[ArtifactManager, Lake]:
    """A manager over a bucket that holds one foreign object."""
    store = Lake(checksum, **options)
    store.put("spark/out.csv", [memoryview(DATA)], checksum={}, options=WriteOptions())
    return ArtifactManager(store), store


@pytest.mark.parametrize(
    "checksum", [{"sha256": SHA256}, {"crc64nvme": "0" * 16}, {"sha256": SHA256, "crc32": "0" * 8}]
)
def test_what_s3_keeps_is_taken(checksum: dict[str, str]) -> None:
    """One HEAD gives size, version, ETag and the full-object checksums that a pointer can hold."""
    manager, store = lake(checksum)
    pointer = manager.adopt("out", "s3://lake/spark/out.csv", annotations={"by": "spark"})
    expected = {name: digits for name, digits in checksum.items() if name != "crc32"}
    assert (pointer.url, pointer.size, dict(pointer.checksum)) == ("s3://lake/spark/out.csv", len(DATA), expected)
    assert (pointer.version_id, pointer.etag, pointer.created_at) == ("v9", '"e"', "2026-11-22T12:00:00Z")
    assert (pointer.media_type, pointer.annotations) == ("text/csv", {"by": "spark"})
    assert manager.pointers == {"out": pointer}
    assert store.keys() == ["spark/out.csv"]


@pytest.mark.parametrize(("checksum", "has"), [({}, "none"), ({"crc32": "0" * 8}, "only crc32")])
def test_no_checksum_means_reading(checksum: dict[str, str], has: str) -> None:
    """Where S3 keeps none, the error says what to do, and doing it works; the name was freed."""
    manager, _ = lake(checksum)
    with pytest.raises(ConfigurationError, match=rf'\({has}\); use verify="read"'):
        manager.adopt("out", "s3://lake/spark/out.csv")
    pointer = manager.adopt("out", "s3://lake/spark/out.csv", verify="read", version_id="v9")
    assert (dict(pointer.checksum), pointer.size, pointer.version_id) == ({"sha256": SHA256}, len(DATA), "v9")


def test_reading_compares_what_it_can() -> None:
    """Bytes that are not what S3 says of them are not adopted."""
    for options, error in (({"said": 3}, SizeMismatchError), ({"said": 99}, SizeMismatchError)):
        manager, _ = lake({}, **options)
        with pytest.raises(error, match="nothing was adopted"):
            manager.adopt("out", "s3://lake/spark/out.csv", verify="read")
    manager, _ = lake({"sha256": "0" * 64})
    with pytest.raises(ChecksumMismatchError, match=SHA256):
        manager.adopt("out", "s3://lake/spark/out.csv", verify="read")
    assert manager.pointers == {}


def test_media_types_come_from_the_caller_the_store_or_the_name() -> None:
    """In this order."""
    manager, _ = lake({"sha256": SHA256}, media_type="application/x-own")
    assert manager.adopt("a", "s3://lake/spark/out.csv").media_type == "application/x-own"
    assert manager.adopt("b", "s3://lake/spark/out.csv", media_type="text/plain").media_type == "text/plain"
    manager, _ = lake({"sha256": SHA256}, media_type="binary/octet-stream")
    assert manager.adopt("c", "s3://lake/spark/out.csv").media_type == "text/csv"


@pytest.mark.parametrize(
    "url",
    [
        "lake/x",
        "https://lake/x",
        "s3://lake",
        "s3://lake/",
        "s3://",
        "s3://lake/a/../b",
        "s3://lake//a",
        None,
        "s3://lake/a\nb",
    ],
)
def test_urls_that_no_consumer_would_accept_are_refused(url: Any) -> None:
    """No request is sent for what is no object's URL."""
    manager, _ = lake({})
    with pytest.raises(ConfigurationError, match="nothing was read"):
        manager.adopt("out", url)


def test_other_mistakes_are_named() -> None:
    """A way of verifying that there is not, a missing object, a bucket that is not this store's, a name twice."""
    manager, _ = lake({"sha256": SHA256})
    with pytest.raises(ConfigurationError, match="expected 's3'"):
        manager.adopt("out", "s3://lake/spark/out.csv", verify="trust")  # type: ignore[arg-type]  # the point
    with pytest.raises(ArtifactNotFoundError):
        manager.adopt("out", "s3://lake/spark/missing")
    with pytest.raises(ArtifactNotFoundError, match="no such bucket"):
        manager.adopt("out", "s3://pond/spark/out.csv")
    manager.adopt("out", "s3://lake/spark/out.csv")
    with pytest.raises(ArtifactExistsError):
        manager.adopt("out", "s3://lake/spark/out.csv")
