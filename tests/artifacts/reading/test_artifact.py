"""Whole reads: size, version and checksum are compared, caps hold before a request, every fault has its own error."""

from __future__ import annotations

import io
import tracemalloc
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from support.shelf import ALLOW, BreakingStore, Shelf

from stepout.artifacts.allow import allowed_from
from stepout.artifacts.checksums import crc_of
from stepout.artifacts.memory import MemoryStore
from stepout.artifacts.reading.access import Access
from stepout.artifacts.reading.artifact import Artifact
from stepout.artifacts.reading.bucket_stores import BucketStores
from stepout.artifacts.reading.pinned_object import reconnect_delay
from stepout.artifacts.resolve import resolve_artifact
from stepout.artifacts.store_writes import WriteOptions
from stepout.schemas import Pointer
from stepout.schemas.errors import (
    AccessDeniedError,
    ArtifactChangedError,
    ArtifactExpiredError,
    ArtifactNotFoundError,
    ArtifactTooLargeError,
    ChecksumMismatchError,
    ConfigurationError,
    InvalidDocumentError,
    SizeMismatchError,
    StoreUnavailableError,
    UndecodableError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

BIG = bytes(range(256)) * (40 << 10)  # 10 MiB: over what is read without a second thread


@pytest.mark.parametrize("data", [b"", b"x", b"hello" * 1000, BIG])
def test_bytes_come_back_as_they_were_written(shelf: Shelf, data: bytes) -> None:
    """Objects of no bytes, few and many are read whole."""
    artifact = shelf.artifact(data)
    assert artifact.read_bytes() == data
    assert artifact.verify() == {"sha256": artifact.pointer.checksum["sha256"]}
    assert (artifact.size, artifact.media_type, artifact.name) == (len(data), "application/octet-stream", None)


@given(data=st.binary(min_size=1, max_size=300), choice=st.data())
def test_any_flipped_bit_is_caught(data: bytes, choice: st.DataObject) -> None:
    """A whole read of bytes with one bit changed raises, whichever bit it is."""
    position = choice.draw(st.integers(0, len(data) - 1))
    artifact = Shelf().damage(data, position, choice.draw(st.integers(0, 7)))
    for read in (artifact.read_bytes, artifact.read_text, artifact.read_json, artifact.verify, artifact.open().read):
        with pytest.raises(ChecksumMismatchError, match="expected sha256"):
            read()


@pytest.mark.parametrize("position", [0, 5 << 20, len(BIG) - 1])
def test_a_flipped_bit_in_a_large_object_is_caught(shelf: Shelf, position: int) -> None:
    """Where another thread hashes, the end result is the same."""
    artifact = shelf.damage(BIG, position)
    with pytest.raises(ChecksumMismatchError, match="got") as caught:
        artifact.read_bytes()
    assert artifact.pointer.checksum["sha256"] in str(caught.value)
    with pytest.raises(ChecksumMismatchError):
        artifact.verify()


def test_crc64nvme_is_used_where_it_is_all_there_is(shelf: Shelf) -> None:
    """An adopted object is held to S3's checksum, unless SHA-256 is asked for."""
    data = b"adopted" * 100
    crc = {"crc64nvme": crc_of("crc64nvme", [memoryview(data)])}
    artifact = shelf.artifact(data, checksum=crc)
    assert artifact.read_bytes() == data
    assert artifact.verify() == crc
    with pytest.raises(ChecksumMismatchError, match="crc64nvme"):
        shelf.damage(data, 3, checksum=crc).read_bytes()
    strict = resolve_artifact(artifact.pointer, allow=ALLOW, client=shelf.store, verify="sha256")
    with pytest.raises(ConfigurationError, match="crc64nvme"):
        strict.read_bytes()
    with pytest.raises(ConfigurationError, match="sha256"):
        strict.verify()


@pytest.mark.parametrize("verify", ["pinned", False])
def test_pinned_reads_compare_size_and_version_only(shelf: Shelf, verify: Any) -> None:
    """Whoever asks for pinned reads gets damaged bytes, and still not another object's."""
    pointer = shelf.damage(b"12345", 2).pointer
    artifact = resolve_artifact(pointer, allow=ALLOW, client=shelf.store, verify=verify)
    assert artifact.read_bytes() != b"12345"
    with pytest.raises(ChecksumMismatchError):
        artifact.verify()
    shelf.store.replace(pointer.key, b"longer than before")
    with pytest.raises(ArtifactChangedError):
        artifact.read_bytes()  # the first read has pinned it
    with pytest.raises(SizeMismatchError):
        resolve_artifact(pointer, allow=ALLOW, client=shelf.store, verify=verify).read_bytes()


def test_a_replaced_object_is_changed_not_corrupt(shelf: Shelf) -> None:
    """If-Match with the pointer's ETag tells a change from damage."""
    artifact = shelf.artifact(b"first")
    shelf.put(b"other")
    with pytest.raises(ArtifactChangedError, match="changed"):
        artifact.read_bytes()


def test_the_version_that_was_written_is_read_though_a_newer_one_exists() -> None:
    """The versionId is the pin where there is one."""
    shelf = Shelf(MemoryStore("results", versioned=True))
    artifact = shelf.artifact(b"first")
    assert artifact.pointer.version_id
    shelf.put(b"second, longer")
    assert artifact.read_bytes() == b"first"
    assert artifact.open().read() == b"first"


def test_another_size_is_found_before_the_body_is_read(shelf: Shelf, breaking: Callable[..., BreakingStore]) -> None:
    """The response's head is compared; no byte of the body is taken."""
    store = breaking(0)
    pointer = shelf.put(b"12345", etag=None, size=6)
    with pytest.raises(SizeMismatchError, match="expected 6 bytes, the object has 5"):
        resolve_artifact(pointer, allow=ALLOW, client=store).read_bytes()
    assert store.downloads[0].closed


def test_a_store_that_ignores_the_pin_is_noticed(shelf: Shelf) -> None:
    """An ETag or version other than the pointer's in the answer is a change, whatever was asked for."""

    class Deaf(BreakingStore):
        def get(self, key: str, *, start: int = 0, stop: int | None = None, **_pin: Any) -> Any:
            return shelf.store.get(key, start=start, stop=stop)

    pointer = shelf.put(b"12345", etag='"another"')
    with pytest.raises(ArtifactChangedError, match="expected ETag"):
        resolve_artifact(pointer, allow=ALLOW, client=Deaf(shelf.store, [])).read_bytes()
    versioned = Shelf(MemoryStore("results", versioned=True))
    pointer = versioned.put(b"12345", etag=None, version_id="another")
    shelf = versioned
    with pytest.raises(ArtifactChangedError, match="asked for version another"):
        resolve_artifact(pointer, allow=ALLOW, client=Deaf(shelf.store, [])).read_bytes()


def test_missing_and_expired_are_told_apart(shelf: Shelf) -> None:
    """What is gone was either to be gone by now, or not."""
    expired = shelf.put(b"x", expires_at="2020-01-01T00:00:00.123456789Z")
    artifact = resolve_artifact(expired, allow=ALLOW, client=shelf.store, allow_expired=True)
    assert artifact.read_bytes() == b"x"  # not yet removed: still readable for whoever asks all the same
    future = shelf.artifact(b"x", "b.bin", expires_at="2999-01-01T00:00:00Z")
    plain = shelf.artifact(b"x", "c.bin")
    for key in list(shelf.store.objects):
        shelf.store.delete(key)
    with pytest.raises(ArtifactExpiredError, match="expired at 2020"):
        artifact.read_bytes()
    for gone in (future, plain):
        with pytest.raises(ArtifactNotFoundError) as caught:
            gone.read_bytes()
        assert not isinstance(caught.value, ArtifactExpiredError)
        with pytest.raises(FileNotFoundError):
            gone.open().read(1)


def test_denied_says_that_it_may_have_expired(shelf: Shelf) -> None:
    """Without s3:ListBucket S3 answers 403 for what is gone; the pointer's expiry is told."""

    class Denying(BreakingStore):
        def get(self, key: str, **_: Any) -> Any:
            msg = f"denied or missing: {key}"
            raise AccessDeniedError(msg)

    pointer = shelf.put(b"x", expires_at="2020-01-01T00:00:00Z")
    denied = resolve_artifact(pointer, allow=ALLOW, client=Denying(shelf.store, []), allow_expired=True)
    with pytest.raises(AccessDeniedError, match=r"expired at 2020.*denied or missing"):
        denied.read_bytes()


def test_what_has_expired_is_refused_before_any_request(shelf: Shelf, breaking: Callable[..., BreakingStore]) -> None:
    """By this machine's clock, whether the object is there yet or not; every way to read says so."""
    store = breaking()
    pointer = shelf.put(b"x", expires_at="2020-01-01T00:00:00Z")
    artifact = resolve_artifact(pointer, allow=ALLOW, client=store)
    for read in (artifact.read_bytes, artifact.verify, lambda: artifact.open().read(1)):
        with pytest.raises(ArtifactExpiredError, match="allow_expired=True"):
            read()
    assert store.requests == []
    with pytest.raises(ConfigurationError, match="allow_expired='yes'"):
        resolve_artifact(pointer, allow=ALLOW, client=store, allow_expired="yes")  # type: ignore[arg-type]


def test_caps_hold_before_any_request(shelf: Shelf, breaking: Callable[..., BreakingStore]) -> None:
    """Too large for the caller is known from the pointer alone."""
    store = breaking()
    pointer = shelf.put(b"x" * 100)
    artifact = resolve_artifact(pointer, allow=ALLOW, client=store, max_size=99)
    for read in (artifact.read_bytes, artifact.read_text, artifact.read_json, artifact.read_image):
        with pytest.raises(ArtifactTooLargeError, match="100 bytes, the limit here is 99"):
            read()
    assert store.requests == []
    assert artifact.read_bytes(max_size=100) == b"x" * 100
    wrongs: tuple[Any, ...] = (-1, 1.5, True, "1")
    for wrong in wrongs:
        with pytest.raises(ConfigurationError, match="max_size"):
            artifact.read_bytes(max_size=wrong)
    huge = resolve_artifact(shelf.put(b"", size=2**50, etag=None), allow=ALLOW, client=shelf.store)
    with pytest.raises(ArtifactTooLargeError):
        huge.read_bytes()
    with pytest.raises(SizeMismatchError):
        huge.read_bytes(max_size=2**60)  # nothing of that size was allocated
    with pytest.raises(SizeMismatchError):
        huge.open().read()


def test_text_and_json_are_decoded_strictly(shelf: Shelf) -> None:
    """What is no text or no JSON is an error of the document, never of its integrity, and shows no value."""
    assert shelf.artifact("grüße\r\n".encode()).read_text() == "grüße\r\n"
    assert shelf.artifact("grüße".encode("latin-1")).read_text("latin-1") == "grüße"
    assert shelf.artifact(b'{"a": [1, null]}').read_json() == {"a": [1, None]}
    with pytest.raises(InvalidDocumentError, match="byte 6") as caught:
        shelf.artifact(b"secret\xff").read_text()
    assert "secret" not in str(caught.value)
    for encoding in ("klingon", "hex", "undefined"):  # Python knows the last two, but neither decodes to text
        with pytest.raises(ConfigurationError, match="no such encoding"):
            shelf.artifact(b"x").read_text(encoding)
    with pytest.raises(InvalidDocumentError, match="punycode"):  # raises a UnicodeError without a position
        shelf.artifact(b"a-\xff").read_text("punycode")
    for bad in (b"{", b'{"a": 1, "a": 2}', b"NaN", b"[" * 100_000, b"\xff"):
        with pytest.raises(InvalidDocumentError, match="is not JSON that can be read"):
            shelf.artifact(bad).read_json()


def test_images_are_decoded_within_bounds(shelf: Shelf) -> None:
    """An image comes back; a bomb, and what is no image, do not."""
    sink = io.BytesIO()
    Image.new("RGB", (30, 20), (1, 2, 3)).save(sink, "PNG")
    artifact = shelf.artifact(sink.getvalue(), "p.png", media_type="image/png")
    image = artifact.read_image()
    assert (image.size, image.getpixel((5, 5))) == ((30, 20), (1, 2, 3))
    with pytest.raises(ArtifactTooLargeError, match=r"s3://results/runs/p\.png"):
        artifact.read_image(max_pixels=599)
    with pytest.raises(UndecodableError, match=r"s3://results/runs/a\.bin"):
        shelf.artifact(b"no image").read_image()


def test_the_repr_shows_place_and_size_only(shelf: Shelf) -> None:
    """Nothing of the pointer's annotations or checksums is in a log line."""
    artifact = shelf.artifact(b"x" * 1234, annotations={"owner": "hidden"})
    assert repr(artifact) == "<Artifact s3://results/runs/a.bin 1,234 bytes>"


def test_presign_is_short_lived_and_bounded(shelf: Shelf) -> None:
    """300 seconds unless told otherwise, 7 days at most, and of the version that was written."""
    artifact = shelf.artifact(b"x")
    assert "300" in artifact.presign()
    wrongs: tuple[Any, ...] = (0, 604_801, True, 1.5)
    for seconds in wrongs:
        with pytest.raises(ConfigurationError, match="seconds="):
            artifact.presign(seconds)


def _access(store: Any, waits: list[float]) -> Access:
    return Access(allowed=allowed_from(ALLOW), stores=BucketStores(store), sleep=waits.append, jitter=lambda: 1.0)


@given(lengths=st.lists(st.one_of(st.integers(0, 400), st.just(-1)), max_size=4))
def test_a_broken_download_is_taken_up_where_it_ended(lengths: list[int]) -> None:
    """However often it breaks (within bounds), the bytes are whole and verified, and the rest is asked for, pinned."""
    shelf, data = Shelf(), bytes(range(256)) * 4
    lengths = [100, *lengths]  # the first one opens
    store = BreakingStore(shelf.store, list(lengths))
    waits: list[float] = []
    artifact = Artifact(shelf.put(data, etag=None), _access(store, waits))
    assert artifact.read_bytes() == data
    etags = {pin for _, _, pin in store.requests[1:]}
    assert len(etags) <= 1
    assert None not in etags
    starts = [start for start, _, _ in store.requests]
    assert starts == sorted(starts)
    assert len(waits) >= len(starts) - 1


def test_a_break_behind_the_last_byte_is_none(shelf: Shelf, breaking: Callable[..., BreakingStore]) -> None:
    """All bytes came: nothing is asked for again."""
    store = breaking(5)
    assert Artifact(shelf.put(b"12345"), _access(store, [])).read_bytes() == b"12345"
    assert len(store.requests) == 1


def test_reconnecting_is_bounded(shelf: Shelf) -> None:
    """Five tries in a row without a byte, then it is unreachable; a hundred in all, however little each brings."""
    pointer = shelf.put(bytes(4000))
    waits: list[float] = []
    with pytest.raises(StoreUnavailableError):
        Artifact(pointer, _access(BreakingStore(shelf.store, [10] + [0] * 50), waits)).read_bytes()
    assert waits == [0.1, 0.2, 0.4, 0.8, 1.6]
    waits.clear()
    with pytest.raises(StoreUnavailableError):
        Artifact(pointer, _access(BreakingStore(shelf.store, [10] + [-1] * 50), waits)).read_bytes()
    assert len(waits) == 5
    store = BreakingStore(shelf.store, [1] * 4000)
    with pytest.raises(StoreUnavailableError):
        Artifact(pointer, _access(store, [])).read_bytes()
    assert len(store.requests) == 101
    first = BreakingStore(shelf.store, [-1])
    with pytest.raises(StoreUnavailableError):  # the store's own retries came first: none of ours on top
        Artifact(pointer, _access(first, [])).read_bytes()
    assert len(first.requests) == 1
    assert reconnect_delay(20, 0.0) == 1.6


def test_an_object_that_changes_midway_is_changed(shelf: Shelf) -> None:
    """The rest of another object is never glued to the beginning of the first."""
    pointer = shelf.put(b"a" * 1000, etag=None)
    store = BreakingStore(shelf.store, [500])

    def replace() -> None:
        if len(store.requests) == 2:
            shelf.store.replace(pointer.key, b"b" * 1000)

    store.before = replace
    with pytest.raises(ArtifactChangedError):
        Artifact(pointer, _access(store, [])).read_bytes()


def test_more_bytes_than_asked_for_are_an_error(shelf: Shelf) -> None:
    """A server that ignores ranges is not believed."""

    class Generous(BreakingStore):
        def get(self, key: str, **_: Any) -> Any:
            return shelf.store.get(key)

    artifact = resolve_artifact(shelf.put(bytes(3 << 20)), allow=ALLOW, client=Generous(shelf.store, []))
    with artifact.open() as file:
        file.seek((3 << 20) - 1000)
        with pytest.raises(SizeMismatchError, match="more bytes"):
            file.read(10)


def test_the_clock_is_a_parameter(shelf: Shelf) -> None:
    """Whether a pointer has expired is asked of the access's clock."""
    pointer = shelf.put(b"x", expires_at="2026-01-01T00:00:00Z")
    shelf.store.delete(pointer.key)
    before = Access(
        allowed=allowed_from(ALLOW), stores=BucketStores(shelf.store), now=lambda: datetime(2025, 1, 1, tzinfo=UTC)
    )
    with pytest.raises(ArtifactNotFoundError) as caught:
        Artifact(pointer, before).read_bytes()
    assert not isinstance(caught.value, ArtifactExpiredError)


def test_a_large_object_is_allocated_once(shelf: Shelf) -> None:
    """Reading 32 MiB takes 32 MiB and a little, at its peak, in one piece or through a file."""
    artifact = shelf.artifact(bytes(32 << 20))
    for read in (artifact.read_bytes, artifact.open().read):
        tracemalloc.start()
        try:
            data = read()
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert len(data) == 32 << 20
        assert peak < 36 << 20


def test_an_expiry_that_is_no_time_is_none(shelf: Shelf) -> None:
    """A pointer that was made by hand may hold anything there: the object is missing, not expired."""
    pointer = shelf.put(b"x", expires_at="soon")
    shelf.store.delete(pointer.key)
    with pytest.raises(ArtifactNotFoundError) as caught:
        Artifact(pointer, _access(shelf.store, [])).read_bytes()
    assert not isinstance(caught.value, ArtifactExpiredError)


def test_foreign_checksums_of_crc32_are_verified() -> None:
    """An object that was written with CRC32 only, by whoever, is held to it."""
    store = MemoryStore("results")
    data = b"crc32 only"
    crc = crc_of("crc32", [memoryview(data)])
    store.put("runs/x", [memoryview(data)], checksum={"crc32": crc}, options=WriteOptions())
    pointer = Pointer(bucket="results", key="runs/x", size=len(data), checksum={"crc32": crc})
    access = Access(allowed=allowed_from(ALLOW), stores=BucketStores(store))
    assert Artifact(pointer, access).verify() == {"crc32": crc}
    wrong = Pointer(bucket="results", key="runs/x", size=len(data), checksum={"crc32": "00000000"})
    with pytest.raises(ChecksumMismatchError, match="crc32"):
        Artifact(wrong, access).read_bytes()
