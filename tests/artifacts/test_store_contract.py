"""What every store promises, held against the one in memory and against real servers."""

from __future__ import annotations

import hashlib
import os
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from stepout.artifacts.checksums import combine_all, crc_of, sha256_of
from stepout.artifacts.store import Lists, ListsParts, UploadGoneError
from stepout.artifacts.store_writes import PartReceipt, WriteOptions, Written
from stepout.schemas.errors import (
    ArtifactChangedError,
    ArtifactExistsError,
    ArtifactNotFoundError,
    ChecksumMismatchError,
    StoreError,
)

if TYPE_CHECKING:
    from stepout.artifacts.store import Store

PART = 5 << 20
CREATE = WriteOptions(media_type="application/x-test", metadata={"made-by": "test"})
OVERWRITE = WriteOptions(mode="overwrite")


def put(store: Store, key: str, data: bytes, options: WriteOptions = CREATE) -> Written:
    """Put ``data`` with its SHA-256."""
    return store.put(key, [memoryview(data)], checksum={"sha256": hashlib.sha256(data).hexdigest()}, options=options)


def get(store: Store, key: str, **options: object) -> bytes:
    """Read an object, or a range of it."""
    with store.get(key, **options) as download:  # type: ignore[arg-type] # forwarded as they come
        return b"".join(bytes(block) for block in download.blocks())


def part_checksum(store: Store, data: bytes) -> str:
    """Compute what the store's profile wants to see with a part."""
    wanted = store.profile.multipart_checksum
    return sha256_of([memoryview(data)]) if wanted == "parts" else crc_of(wanted, [memoryview(data)])


def send_parts(store: Store, key: str, pieces: list[bytes]) -> tuple[str, list[PartReceipt]]:
    """Begin an upload and send its parts."""
    upload = store.start_upload(key, options=CREATE)
    return upload, [
        store.put_part(key, upload, number, [memoryview(piece)], checksum=part_checksum(store, piece))
        for number, piece in enumerate(pieces, 1)
    ]


def complete(store: Store, key: str, upload: str, receipts: list[PartReceipt], checksum: str | None = None) -> Written:
    """Complete an upload with the right total, and the right checksum unless another one is given."""
    wanted = store.profile.multipart_checksum
    if checksum is None and wanted != "parts":
        checksum = combine_all(wanted, [(part.checksum, part.size) for part in receipts])
    size = sum(part.size for part in receipts)
    return store.complete_upload(key, upload, receipts, size=size, checksum=checksum, options=CREATE)


@pytest.mark.parametrize("size", [0, 1, 300_000])
def test_what_is_put_comes_back(store: Store, size: int) -> None:
    """Bytes, size, ETag, media type and metadata are those of the write; the view boundaries do not matter."""
    data = os.urandom(size)
    views = [memoryview(data)[: size // 3], memoryview(data)[size // 3 :]]
    written = store.put("a/b", views, checksum={"sha256": hashlib.sha256(data).hexdigest()}, options=CREATE)
    assert get(store, "a/b") == data
    info = store.head("a/b")
    assert (info.size, info.etag, info.media_type) == (size, written.etag, "application/x-test")
    assert info.metadata == {"made-by": "test"}
    assert info.checksum["sha256"] == hashlib.sha256(data).hexdigest()


def test_a_wrong_checksum_is_refused_and_nothing_is_stored(store: Store) -> None:
    """The server verifies what arrives, so a flipped bit on the way never becomes an object."""
    with pytest.raises(ChecksumMismatchError):
        store.put("key", [memoryview(b"data")], checksum={"sha256": "0" * 64}, options=CREATE)
    with pytest.raises(ArtifactNotFoundError):
        store.head("key")


def test_create_refuses_a_taken_key_and_overwrite_replaces(store: Store) -> None:
    """``If-None-Match: *`` holds for PutObject; ``overwrite`` sends none."""
    put(store, "key", b"first")
    with pytest.raises(ArtifactExistsError, match="key"):
        put(store, "key", b"second")
    assert get(store, "key") == b"first"
    put(store, "key", b"third", OVERWRITE)
    assert get(store, "key") == b"third"


def test_what_lies_below_a_prefix_is_listed(store: Store) -> None:
    """Keys, sizes and ETags of whole objects, whatever the prefix ends in; open uploads are none."""
    assert isinstance(store, Lists)
    written = {key: put(store, key, b"x" * size) for size, key in enumerate(("a/1", "a/b/2", "a/größe 3", "ab", "b"))}
    send_parts(store, "a/open", [b"x" * PART])
    below = list(store.iter_objects("a/"))
    assert {each.key: (each.size, each.etag) for each in below} == {
        key: (size, written[key].etag) for size, key in enumerate(("a/1", "a/b/2", "a/größe 3"))
    }
    assert all(each.last_modified for each in below)
    assert {each.key for each in store.iter_objects("a")} == {"a/1", "a/b/2", "a/größe 3", "ab"}
    assert list(store.iter_objects("nothing/")) == []


def test_of_five_racing_writers_one_wins(store: Store) -> None:
    """Write-once holds between writers that start together."""
    barrier, won, lost = threading.Barrier(5), [], []

    def write(number: int) -> None:
        barrier.wait()
        try:
            put(store, "key", b"%d" % number)
            won.append(number)
        except StoreError as error:
            lost.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert get(store, "key") == b"%d" % won[0]


@pytest.mark.parametrize(("start", "stop"), [(0, None), (0, 10), (5, 6), (90, 100), (90, None), (7, 7), (0, 0)])
def test_ranges_are_half_open(store: Store, start: int, stop: int | None) -> None:
    """A range returns its bytes, and the whole object's size."""
    data = bytes(range(100))
    put(store, "key", data)
    with store.get("key", start=start, stop=stop) as download:
        assert b"".join(bytes(block) for block in download.blocks()) == data[start:stop]
        assert download.info.size == 100


def test_blocks_have_the_size_that_is_asked(store: Store) -> None:
    """No view is longer than asked, and together they are the object."""
    data = os.urandom(100_000)
    put(store, "key", data)
    with store.get("key") as download:
        blocks = [bytes(block) for block in download.blocks(30_000)]
    assert max(map(len, blocks)) <= 30_000
    assert b"".join(blocks) == data


def test_a_range_beyond_the_end_is_an_error(store: Store) -> None:
    """Nothing that was never there is made up."""
    put(store, "key", b"data")
    with pytest.raises(StoreError):
        get(store, "key", start=10, stop=20)


def test_reading_is_pinned_by_etag(store: Store) -> None:
    """``if_match`` raises once another object has taken the place."""
    etag = put(store, "key", b"first").etag
    assert get(store, "key", if_match=etag) == b"first"
    put(store, "key", b"second", OVERWRITE)
    with pytest.raises(ArtifactChangedError, match="changed"):
        get(store, "key", if_match=etag)


def test_what_is_missing_is_not_found(store: Store) -> None:
    """HEAD and GET of a key that nobody wrote raise the same error, which is a FileNotFoundError too."""
    with pytest.raises(FileNotFoundError, match="missing"):
        store.head("missing")
    with pytest.raises(ArtifactNotFoundError, match="missing"):
        get(store, "missing")


def test_parts_become_one_object(profiled: Store) -> None:
    """A multipart upload is visible once complete, with its full-object checksum where the profile has one."""
    store = profiled
    pieces = [os.urandom(PART), os.urandom(1234)]
    upload, receipts = send_parts(store, "key", pieces)
    with pytest.raises(ArtifactNotFoundError):
        store.head("key")
    written = complete(store, "key", upload, receipts)
    data = b"".join(pieces)
    assert get(store, "key") == data
    info = store.head("key")
    assert (info.size, info.etag, info.media_type) == (len(data), written.etag, "application/x-test")
    wanted = store.profile.multipart_checksum
    if wanted != "parts":
        assert info.checksum[wanted] == crc_of(wanted, [memoryview(data)])


def test_a_part_with_a_wrong_checksum_is_refused(profiled: Store) -> None:
    """The server verifies every part."""
    store = profiled
    upload = store.start_upload("key", options=CREATE)
    wrong = part_checksum(store, b"other")
    with pytest.raises(ChecksumMismatchError):
        store.put_part("key", upload, 1, [memoryview(b"data")], checksum=wrong)
    store.abort_upload("key", upload)


def test_a_wrong_whole_checksum_is_refused(profiled: Store) -> None:
    """The server verifies the whole at completion, so a lost or swapped part never becomes an object."""
    store = profiled
    if store.profile.multipart_checksum == "parts":
        pytest.skip("this profile has no full-object checksum")
    upload, receipts = send_parts(store, "key", [b"data"])
    with pytest.raises(ChecksumMismatchError):
        complete(store, "key", upload, receipts, checksum=part_checksum(store, b"other"))
    with pytest.raises(ArtifactNotFoundError):
        store.head("key")
    store.abort_upload("key", upload)


def test_completion_is_write_once_too(profiled: Store) -> None:
    """``If-None-Match: *`` holds for CompleteMultipartUpload."""
    store = profiled
    upload, receipts = send_parts(store, "key", [b"data"])
    put(store, "key", b"first")
    with pytest.raises(ArtifactExistsError):
        complete(store, "key", upload, receipts)
    assert get(store, "key") == b"first"
    store.abort_upload("key", upload)


def test_the_parts_of_an_upload_are_listed(profiled: Store) -> None:
    """By number, with ETag and size as the receipts have them; a checksum that is listed is the part's own."""
    pieces = [os.urandom(PART), b"the end"]
    upload, receipts = send_parts(profiled, "listed", pieces)
    assert isinstance(profiled, ListsParts)
    there = profiled.list_parts("listed", upload)
    assert [replace(part, checksum=sent.checksum) for part, sent in zip(there, receipts, strict=True)] == receipts
    assert all(part.checksum in {"", sent.checksum} for part, sent in zip(there, receipts, strict=True))
    profiled.abort_upload("listed", upload)


def test_an_aborted_upload_is_gone(profiled: Store) -> None:
    """Its parts and its id are forgotten; aborting it again is no error."""
    store = profiled
    upload, receipts = send_parts(store, "key", [b"data"])
    store.abort_upload("key", upload)
    store.abort_upload("key", upload)
    with pytest.raises(UploadGoneError):
        complete(store, "key", upload, receipts)
    with pytest.raises(ArtifactNotFoundError):
        store.head("key")


def test_tags_and_encryption_are_accepted(store: Store) -> None:
    """What rides along with a write does not change its bytes."""
    options = WriteOptions(tags={"team": "a b&c"}, metadata={"k": "v"}, storage_class="STANDARD")
    put(store, "key", b"data", options)
    assert get(store, "key") == b"data"


def test_a_key_over_1024_bytes_is_refused(store: Store) -> None:
    """The limit counts bytes, not characters."""
    if store.bucket.startswith("contract-"):
        pytest.skip("ministack takes any key")
    with pytest.raises(StoreError):
        put(store, "é" * 513, b"data")


def test_keys_may_hold_any_character(store: Store) -> None:
    """A key comes back under the very name it was written with."""
    for key in ("ä/ö ü+%25&=?#~.txt", "emoji-\N{SNOWMAN}", "a//b"):
        put(store, key, key.encode())
        assert get(store, key) == key.encode()


def test_a_presigned_url_names_the_object(store: Store) -> None:
    """A URL is made without asking the server."""
    assert "some/key" in store.presign("some/key", seconds=60)
