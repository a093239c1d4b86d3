"""The list of an object's blocks: where it is taken from, what is refused, and what is kept of verified blocks."""

from __future__ import annotations

import dataclasses
import itertools
import os
import random
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest
from support.forked_child import begin_child, exit_code
from support.shelf import ALLOW, BreakingStore, Shelf

from stepout.artifacts.blocks import BlockList, digest_of, in_footer, in_object, in_pointer
from stepout.artifacts.reading.access import access_from
from stepout.artifacts.reading.budget import ReadBudget
from stepout.artifacts.reading.pinned_object import PinnedObject
from stepout.artifacts.reading.ranges import blocks as blocks_module
from stepout.artifacts.reading.ranges.block_cache import BLOCKS, ENTRY, BlockCache
from stepout.artifacts.reading.ranges.random_access import open_random
from stepout.artifacts.resolve import resolve_artifact
from stepout.artifacts.store_writes import WriteOptions
from stepout.schemas.errors import (
    ArtifactNotFoundError,
    ArtifactTooLargeError,
    ChecksumMismatchError,
    IntegrityError,
    InvalidDocumentError,
    NotAllowedError,
    ReadBudgetError,
    StepoutError,
)
from stepout.schemas.runtime.process import PerProcess

if TYPE_CHECKING:
    from stepout.schemas import Pointer

BLOCK = 64 << 10
DATA = random.Random(12).randbytes(5 * BLOCK + 77)
LIST = BlockList(
    algorithm="crc64nvme",
    size=BLOCK,
    covered=len(DATA),
    digests=b"".join(digest_of("crc64nvme", DATA[start : start + BLOCK]) for start in range(0, len(DATA), BLOCK)),
)
KEY = "runs/blocks"


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch) -> BlockCache:
    """Each test has a cache of its own."""
    return _emptied(monkeypatch)


def _emptied(monkeypatch: pytest.MonkeyPatch) -> BlockCache:
    made = BlockCache(1 << 20)
    monkeypatch.setattr(blocks_module, "BLOCKS", PerProcess(lambda: made))
    return made


def _read(pointer: Pointer, store: Any, **options: Any) -> bytes:
    file = open_random(PinnedObject(access_from(**{"allow": ALLOW, "client": store, **options}), pointer), True)
    file.seek(BLOCK - 10)
    return file.read(20) or b""


def _stored(shelf: Shelf, digests: bytes, key: str = KEY) -> None:
    shelf.store.put(key, [memoryview(digests)], checksum={}, options=WriteOptions(mode="overwrite"))


def _changed(**members: Any) -> dict[str, Any]:
    return {**in_pointer(LIST), **members}


@pytest.mark.parametrize(
    ("member", "told"),
    [
        (_changed(algorithm="md5"), "algorithm"),
        (_changed(size=1000), "power of two"),
        (_changed(size=1 << 40), "power of two"),
        (_changed(size=BLOCK * 2), "bytes of digests"),
        (_changed(digests=in_pointer(LIST)["digests"][:-4]), "bytes of digests"),
        (_changed(digests="!"), "base64"),
        ({"algorithm": "crc64nvme", "size": BLOCK, "place": "pointer"}, "where the list"),
        ({"algorithm": "crc64nvme", "size": BLOCK, "place": "object", "key": KEY}, "SHA-256 of the list"),
        ({"algorithm": "crc64nvme", "size": BLOCK, "place": "footer"}, "annotations.parquet"),
    ],
)
def test_a_list_that_is_not_this_objects_is_refused_in_words(member: dict[str, Any], told: str) -> None:
    """An unknown algorithm, a size that is none, another length, no base64, no place: invalid, and nothing is read."""
    shelf = Shelf()
    with pytest.raises(InvalidDocumentError, match=told) as caught:
        _read(shelf.put(DATA, blocks=member), shelf.store)
    assert 'verify="pinned"' in str(caught.value)


def test_the_list_of_another_object_holds_for_none_of_its_blocks() -> None:
    """A list of the right length with other digests: the read is refused, and whole reads are not."""
    shelf = Shelf()
    other = dataclasses.replace(LIST, digests=LIST.digests[8:] + LIST.digests[:8])
    pointer = shelf.put(DATA, blocks=in_pointer(other))
    with pytest.raises(ChecksumMismatchError, match="bytes 0 to 65,535"):
        _read(pointer, shelf.store)
    assert resolve_artifact(pointer, allow=ALLOW, client=shelf.store).read_bytes() == DATA


def test_a_list_that_is_gone_is_told_with_what_reads_without_it() -> None:
    """The store's error, which names the list and both ways to go on."""
    shelf = Shelf()
    pointer = shelf.put(DATA, blocks=in_object(LIST, KEY))
    with pytest.raises(ArtifactNotFoundError, match="list of its blocks is gone") as caught:
        _read(pointer, shelf.store)
    assert 'verify="pinned"' in str(caught.value)
    assert "read_bytes" in str(caught.value)


@pytest.mark.parametrize("digests", [LIST.digests[:-8], LIST.digests * 2, b"", LIST.digests[:-1] + b"\0"])
def test_a_list_object_that_was_cut_off_or_damaged_is_refused(digests: bytes) -> None:
    """Its size and its SHA-256 are those of the pointer, or nothing is read."""
    shelf = Shelf()
    _stored(shelf, digests)
    with pytest.raises(IntegrityError, match="list of its blocks"):
        _read(shelf.put(DATA, blocks=in_object(LIST, KEY)), shelf.store)


def test_the_allow_list_is_asked_for_the_list_even_if_it_is_kept() -> None:
    """A list outside of it is refused before any request, and after another read has loaded it."""
    shelf = Shelf()
    _stored(shelf, LIST.digests, "secret/blocks")
    pointer = shelf.put(DATA, blocks=in_object(LIST, "secret/blocks"))
    store = BreakingStore(shelf.store, ())
    with pytest.raises(NotAllowedError):
        _read(pointer, store)
    assert store.requests == []
    assert _read(pointer, store, allow=["s3://results/"]) == DATA[BLOCK - 10 : BLOCK + 10]
    with pytest.raises(NotAllowedError):
        _read(pointer, store)


def test_a_list_of_a_hostile_size_is_not_loaded() -> None:
    """What the pointer makes of it is held against the limit of reads and the budget before a request."""
    shelf = Shelf()
    _stored(shelf, LIST.digests)
    pointer = shelf.put(DATA, blocks=in_object(LIST, KEY), size=1 << 50)
    store = BreakingStore(shelf.store, ())
    with pytest.raises(ArtifactTooLargeError, match="list of blocks"):
        _read(pointer, store)
    with pytest.raises(ReadBudgetError):
        _read(shelf.put(DATA, blocks=in_object(LIST, KEY)), store, budget=ReadBudget(bytes=10))
    assert store.requests == []


def test_a_list_is_loaded_once_in_a_process() -> None:
    """A second artifact of the same pointer finds it by its SHA-256."""
    shelf = Shelf()
    _stored(shelf, LIST.digests)
    pointer, store = shelf.put(DATA, blocks=in_object(LIST, KEY)), BreakingStore(shelf.store, ())
    assert _read(pointer, store) == _read(pointer, store) == DATA[BLOCK - 10 : BLOCK + 10]
    assert [request[:2] for request in store.requests] == [(0, None), (0, 2 * BLOCK)]


def test_a_failed_list_is_tried_again_by_the_next_file() -> None:
    """A store that was away for a moment does not spoil the artifact."""
    shelf = Shelf()
    pointer, store = shelf.put(DATA, blocks=in_object(LIST, KEY)), shelf.store
    artifact = resolve_artifact(pointer, allow=ALLOW, client=store)
    with pytest.raises(ArtifactNotFoundError):
        artifact.open().read(10)
    _stored(shelf, LIST.digests)
    assert artifact.open().read(10) == DATA[:10]


# What is kept ---------------------------------------------------------------------------------------------------------


def test_the_cache_is_bounded_and_the_least_recently_used_go_first() -> None:
    """It never has more bytes than it may, keys included; what was asked for lately stays."""
    cache = BlockCache(100 + 4 * ENTRY)
    for key in range(4):
        cache.put(key, bytes(25))
    assert cache.get(0) is not None
    cache.put(4, bytes(25))
    assert [cache.get(key) is not None for key in range(5)] == [True, False, True, True, True]
    cache.put(5, bytes(101 + 3 * ENTRY))
    cache.put(4, bytes(10))
    assert (cache.get(5), cache.size) == (None, 85 + 4 * ENTRY)
    for key in range(1000):
        cache.put(f"of a small object {key}", b"x")
    assert sum(cache.get(f"of a small object {key}") is not None for key in range(1000)) == 4


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
def test_a_forked_process_has_a_cache_of_its_own() -> None:
    """What the parent's threads did with theirs, its lock included, does not reach the child."""
    BLOCKS.get().put("of the parent", b"x")
    assert exit_code(begin_child(lambda: BLOCKS.get().get("of the parent") is not None)) == 0
    assert BLOCKS.get().get("of the parent") == b"x"


def test_only_blocks_that_a_read_used_in_part_are_kept(cache: BlockCache) -> None:
    """A read of whole blocks keeps none of them."""
    shelf = Shelf()
    file = open_random(
        PinnedObject(access_from(allow=ALLOW, client=shelf.store), shelf.put(DATA, blocks=in_pointer(LIST))), True
    )
    file.seek(BLOCK)
    assert file.read(2 * BLOCK) == DATA[BLOCK : 3 * BLOCK]
    assert cache.size == 0
    file.seek(3 * BLOCK + 5)
    assert file.read(2 * BLOCK) == DATA[3 * BLOCK + 5 : 5 * BLOCK + 5]
    assert cache.size == BLOCK + 77 + 2 * ENTRY


def test_what_is_kept_of_blocks_that_came_together_is_the_partly_used_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of ranges over many blocks, wherever they begin and end, the first and the last are kept, each with its bytes."""
    numbers = random.Random(4)
    data = numbers.randbytes(40 * BLOCK + 99)
    digests = b"".join(digest_of("crc32", data[start : start + BLOCK]) for start in range(0, len(data), BLOCK))
    blocks = in_pointer(BlockList(algorithm="crc32", size=BLOCK, covered=len(data), digests=digests))
    shelf = Shelf()
    pinned = PinnedObject(access_from(allow=ALLOW, client=shelf.store), shelf.put(data, blocks=blocks))
    edges = [0, 1, BLOCK, 16 * BLOCK, 16 * BLOCK + 1, 17 * BLOCK, 32 * BLOCK - 1, 40 * BLOCK, len(data)]
    for start, stop in itertools.combinations(edges, 2):
        cache = _emptied(monkeypatch)
        for again in (False, True):
            with open_random(pinned, True) as file:
                file.seek(start)
                assert file.read(stop - start) == data[start:stop]
            parts = {at // BLOCK for at in (start, stop) if at % BLOCK and at != len(data)}
            expected = sum(len(data[index * BLOCK : (index + 1) * BLOCK]) + ENTRY for index in parts)
            assert cache.size == expected, (start, stop, again)


def test_a_forged_pointer_cannot_plant_bytes_for_another_object() -> None:
    """What was verified for one key is not served for another, even under the other's checksum."""
    shelf = Shelf()
    genuine = shelf.put(DATA, blocks=in_pointer(LIST))
    forged_data = bytes(len(DATA))
    forged_list = dataclasses.replace(
        LIST,
        digests=b"".join(digest_of("crc64nvme", forged_data[s : s + BLOCK]) for s in range(0, len(DATA), BLOCK)),
    )
    forged = shelf.put(forged_data, "forged.bin", checksum=genuine.checksum, blocks=in_pointer(forged_list))
    assert _read(forged, shelf.store) == bytes(20)
    assert _read(genuine, shelf.store) == DATA[BLOCK - 10 : BLOCK + 10]


def test_a_footer_is_not_believed_where_the_pointer_announces_none() -> None:
    """A Parquet pointer that says footer, of an object that is none, is refused: never read without its list."""
    shelf = Shelf()
    note = {"parquet": {"pageChecksums": True, "footerSize": 100, "footerSha256": "0" * 64}}
    pointer = shelf.put(DATA, blocks=in_footer(LIST), annotations=note)
    with pytest.raises(StepoutError, match="footer is not the one"):
        _read(pointer, shelf.store)


def test_a_stream_takes_the_memory_of_a_few_blocks() -> None:
    """Reading on through many blocks holds 1 MiB of them, not the range."""
    data = bytes(40 * BLOCK)
    digests = digest_of("crc32", data[:BLOCK]) * 40
    blocks = BlockList(algorithm="crc32", size=BLOCK, covered=len(data), digests=digests)
    shelf = Shelf()
    artifact = resolve_artifact(shelf.put(data, blocks=in_pointer(blocks)), allow=ALLOW, client=shelf.store)
    tracemalloc.start()
    try:
        with artifact.open() as file:
            while file.read(BLOCK):
                pass
        assert tracemalloc.get_traced_memory()[1] < 3 << 20
    finally:
        tracemalloc.stop()
