"""Reads of ranges, through `open()` and `open_random`: each is verified by the blocks that it lies in, or refused."""

from __future__ import annotations

import dataclasses
import io
import random
import threading
import zipfile
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.shelf import ALLOW, BreakingStore, Shelf

from stepout.artifacts.blocks import BlockDigests, BlockList, digest_of, in_object, in_pointer
from stepout.artifacts.manager import ArtifactManager
from stepout.artifacts.reading.access import access_from
from stepout.artifacts.reading.pinned_object import PinnedObject
from stepout.artifacts.reading.ranges import blocks as blocks_module
from stepout.artifacts.reading.ranges.block_cache import BlockCache
from stepout.artifacts.reading.ranges.random_access import open_random
from stepout.artifacts.resolve import resolve_artifact
from stepout.artifacts.store_writes import WriteOptions
from stepout.schemas.errors import (
    ArtifactChangedError,
    ArtifactNotFoundError,
    ChecksumMismatchError,
    ConfigurationError,
)
from stepout.schemas.runtime.process import PerProcess

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepout.artifacts.blocks import BlockAlgorithm
    from stepout.artifacts.reading.access import Verify
    from stepout.schemas import Pointer

BLOCK = 64 << 10
SIZE = 3 * BLOCK + 1000
OPEN: list[Any] = []  # a buffered file closes its raw file when nobody has it any more
DATA = random.Random(11).randbytes(SIZE)


def _list(data: bytes, algorithm: BlockAlgorithm = "crc64nvme") -> BlockList:
    digests = b"".join(digest_of(algorithm, data[start : start + BLOCK]) for start in range(0, len(data), BLOCK))
    return BlockList(algorithm=algorithm, size=BLOCK, covered=len(data), digests=digests)


def _put(shelf: Shelf, data: bytes = DATA, place: str = "pointer", algorithm: BlockAlgorithm = "crc64nvme") -> Pointer:
    blocks = _list(data, algorithm)
    if place == "none":
        return shelf.put(data)
    if place == "pointer":
        return shelf.put(data, blocks=in_pointer(blocks))
    member = in_object(blocks, f"runs/blocks-{algorithm}")
    options = WriteOptions(mode="overwrite")
    shelf.store.put(member["key"], [memoryview(blocks.digests)], checksum={"sha256": member["sha256"]}, options=options)
    return shelf.put(data, blocks=member)


def _pinned(pointer: Pointer, store: Any, **options: Any) -> PinnedObject:
    return PinnedObject(access_from(allow=ALLOW, client=store, **options), pointer)


def _cache(monkeypatch: pytest.MonkeyPatch, capacity: int) -> None:
    monkeypatch.setattr(blocks_module, "BLOCKS", PerProcess(lambda: BlockCache(capacity)))


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test has a cache of its own."""
    _cache(monkeypatch, 1 << 20)


def _opened(pointer: Pointer, store: Any, verify: Verify = True) -> list[Any]:
    artifact = resolve_artifact(pointer, allow=ALLOW, client=store)
    buffered = artifact.open(verify=verify)
    OPEN.append(buffered)
    return [artifact.open(verify=verify), buffered.raw, open_random(_pinned(pointer, store), verify)]


steps = st.lists(
    st.one_of(
        st.tuples(st.just("read"), st.integers(-1, SIZE + 10)),
        st.tuples(st.just("readinto"), st.integers(0, 2 * BLOCK)),
        st.tuples(st.just("seek"), st.integers(0, SIZE + 100)),
        st.tuples(st.just("end"), st.integers(-SIZE, 10)),
    ),
    max_size=10,
)


@given(steps=steps, place=st.sampled_from(["pointer", "object", "none"]), capacity=st.sampled_from([0, BLOCK, 1 << 20]))
def test_any_sequence_of_seeks_and_reads_equals_that_of_a_file_in_memory(
    steps: list[tuple[str, int]], place: str, capacity: int
) -> None:
    """Whatever is asked of `open()`, its raw file and `open_random`, in any order, is what a BytesIO gives."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        _cache(monkeypatch, capacity)
        shelf = Shelf()
        for file in _opened(_put(shelf, place=place), shelf.store):
            memory = io.BytesIO(DATA)
            for step, number in steps:
                if step == "read":
                    assert file.read(number) == memory.read(number)
                elif step == "readinto":
                    ours, theirs = bytearray(number), bytearray(number)
                    assert file.readinto(ours) == memory.readinto(theirs)
                    assert ours == theirs
                else:
                    whence = io.SEEK_SET if step == "seek" else io.SEEK_END
                    assert file.seek(number, whence) == memory.seek(number, whence)


def _around(file: Any, position: int) -> bytes:
    file.seek(max(position - 50, 0))
    return bytes(file.read(100))


def _backward(file: Any, _position: int) -> bytes:
    found = b""
    for start in range(SIZE - SIZE % 5000, -1, -5000):
        file.seek(start)
        found = file.read(5000) + found
    return found


def _into(file: Any, position: int) -> bytes:
    buffer = bytearray(BLOCK)
    file.seek(max(position - BLOCK // 2, 0))
    return bytes(buffer[: file.readinto(buffer)])


@pytest.mark.parametrize("algorithm", ["crc64nvme", "crc32", "sha256"])
@pytest.mark.parametrize("how", [_around, _backward, _into])
def test_a_flipped_bit_anywhere_is_refused_by_the_read_that_comes_to_its_block(
    monkeypatch: pytest.MonkeyPatch, how: Callable[[Any, int], bytes], algorithm: BlockAlgorithm
) -> None:
    """After a seek, backward and into a buffer: no read returns when a byte that it wants was damaged in the store."""
    _cache(monkeypatch, 0)
    draw = random.Random(5)
    shelf = Shelf()
    pointer = dataclasses.replace(_put(shelf, algorithm=algorithm), etag=None)
    positions = [0, BLOCK - 1, BLOCK, SIZE - 1, *(draw.randrange(SIZE) for _ in range(30))]
    for position in positions:
        flipped = bytearray(DATA)
        flipped[position] ^= 1 << draw.randrange(8)
        shelf.store.replace(pointer.key, bytes(flipped))
        for file in _opened(pointer, shelf.store):
            with pytest.raises(ChecksumMismatchError, match=r"bytes .* are not those that were written: expected"):
                how(file, position)


def test_every_flip_of_a_region_is_refused_after_a_seek(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte around the border of two blocks, flipped in turn: the read of it raises."""
    _cache(monkeypatch, 0)
    shelf = Shelf()
    pointer = dataclasses.replace(_put(shelf), etag=None)
    for position in range(BLOCK - 100, BLOCK + 100):
        flipped = bytearray(DATA)
        flipped[position] ^= 0x10
        shelf.store.replace(pointer.key, bytes(flipped))
        with pytest.raises(ChecksumMismatchError):
            _around(open_random(_pinned(pointer, shelf.store), True), position)


def test_a_zip_file_is_read_member_by_member_and_a_flip_in_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A zipfile over `open()` gives every member, and never one that was damaged, its own checksum aside."""
    _cache(monkeypatch, 0)
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for number in range(4):
            archive.writestr(str(number), DATA[number * 1000 : number * 1000 + BLOCK])
    data, shelf = made.getvalue(), Shelf()
    pointer = dataclasses.replace(_put(shelf, data), etag=None)
    with zipfile.ZipFile(resolve_artifact(pointer, allow=ALLOW, client=shelf.store).open()) as archive:
        assert archive.read("3") == DATA[3000 : 3000 + BLOCK]
    flipped = bytearray(data)
    flipped[3 * BLOCK + 500] ^= 1
    shelf.store.replace(pointer.key, bytes(flipped))
    with (
        zipfile.ZipFile(resolve_artifact(pointer, allow=ALLOW, client=shelf.store).open()) as archive,
        pytest.raises(ChecksumMismatchError),
    ):
        archive.read("3")


def test_reads_in_order_prove_the_checksum_of_the_whole_as_well() -> None:
    """Blocks that hold what is stored do not help a pointer whose SHA-256 is another: the last byte is refused."""
    shelf = Shelf()
    pointer = dataclasses.replace(_put(shelf), checksum={"sha256": "0" * 64})
    file = resolve_artifact(pointer, allow=ALLOW, client=shelf.store).open()
    with pytest.raises(ChecksumMismatchError, match="sha256"):
        file.read()


def test_nothing_is_requested_before_the_first_read_and_a_block_only_once() -> None:
    """One request for the list, one for the blocks of a read; another part of the same block costs none."""
    shelf = Shelf()
    pointer = _put(shelf, place="object")
    store = BreakingStore(shelf.store, ())
    file = open_random(_pinned(pointer, store), True)
    assert store.requests == []
    file.seek(BLOCK + 10)
    assert file.read(20) == DATA[BLOCK + 10 : BLOCK + 30]
    assert [request[:2] for request in store.requests] == [(0, None), (BLOCK, 2 * BLOCK)]
    other = open_random(_pinned(pointer, store), True)
    other.seek(BLOCK + 5000)
    assert other.read(20) == DATA[BLOCK + 5000 : BLOCK + 5020]
    assert len(store.requests) == 2
    other.seek(BLOCK - 5)
    assert other.read(10) == DATA[BLOCK - 5 : BLOCK + 5]
    assert [request[:2] for request in store.requests[2:]] == [(0, BLOCK)]


def test_a_broken_download_of_a_range_is_taken_up_again() -> None:
    """The rest is asked for from where it broke, and verified with what came before."""
    shelf = Shelf()
    store = BreakingStore(shelf.store, (BLOCK + 7,))
    file = open_random(_pinned(_put(shelf), store, verify=True), True)
    file.seek(10)
    assert file.read(2 * BLOCK) == DATA[10 : 2 * BLOCK + 10]
    assert [request[:2] for request in store.requests] == [(0, 3 * BLOCK), (BLOCK + 7, 3 * BLOCK)]


@pytest.mark.parametrize(
    ("place", "which", "lengths"),
    [("pointer", 1, [BLOCK + 7]), ("none", 1, [BLOCK + 7]), ("pointer", 2, [None, BLOCK + 7]), ("none", 2, [7])],
)
def test_a_read_that_was_interrupted_is_no_end_and_loses_no_byte(
    place: str, which: int, lengths: list[int | None]
) -> None:
    """What Ctrl-C, or a signal's handler, breaks off was not read: the file stays where it was, and goes on there."""
    shelf, data = Shelf(), random.Random(3).randbytes(5 << 20)
    store = BreakingStore(shelf.store, lengths, KeyboardInterrupt())
    file = _opened(_put(shelf, data, place), store)[which]
    read, interrupted = b"", 0
    while len(read) < len(data):
        try:
            piece = file.read(10 if not read else 2 << 20)
        except KeyboardInterrupt:
            interrupted += 1
            assert file.tell() == len(read)
        else:
            assert piece, "an interruption is no end"
            read += piece
    assert read == data
    assert interrupted == 1
    assert file.read(1) == b""


def test_a_read_beyond_the_end_returns_nothing_and_takes_no_memory() -> None:
    """An engine may ask for more than there is: it gets what there is."""
    shelf = Shelf()
    for file in _opened(_put(shelf), shelf.store)[1:]:
        file.seek(SIZE - 3)
        assert file.read(1 << 50) == DATA[-3:]
        assert file.read(1 << 50) == b""
        file.seek(SIZE + 5)
        assert file.read(10) == b""


def test_an_object_without_a_list_is_read_whole_once_and_refused_where_it_is_too_large() -> None:
    """`open_random` verifies it as a whole, in one request; beyond the limit it offers pinned reads."""
    shelf = Shelf()
    pointer = shelf.put(DATA)
    store = BreakingStore(shelf.store, ())
    file = open_random(_pinned(pointer, store), True)
    assert _around(file, BLOCK) == DATA[BLOCK - 50 : BLOCK + 50]
    assert _around(file, 60) == DATA[10:110]
    assert len(store.requests) == 1
    with pytest.raises(ConfigurationError, match='verify="pinned"'):
        open_random(_pinned(pointer, store, max_size=SIZE - 1), True)
    assert _around(open_random(_pinned(pointer, store, max_size=10), "pinned"), 60) == DATA[10:110]


def test_an_empty_object_is_asked_for() -> None:
    """There are no bytes to verify, but it may be gone, or not empty any more."""
    shelf = Shelf()
    pointer = shelf.put(b"")
    assert open_random(_pinned(pointer, shelf.store), True).read() == b""
    with pytest.raises(ArtifactNotFoundError):
        open_random(_pinned(dataclasses.replace(pointer, key="runs/gone"), shelf.store), True).read()


def test_sha256_takes_blocks_only_with_sha256() -> None:
    """With CRCs, `open()` refuses what leaves the order and goes on in order; `open_random` reads whole."""
    shelf = Shelf()
    pointer = _put(shelf)
    file = _opened(pointer, shelf.store, "sha256")[1]
    assert file.read(100) == DATA[:100]
    file.seek(50)
    with pytest.raises(ConfigurationError, match='blocks="sha256"'):
        file.read(1)
    file.seek(100)
    assert file.read() == DATA[100:]
    with pytest.raises(ConfigurationError):
        open_random(_pinned(pointer, shelf.store, max_size=BLOCK), "sha256")
    assert _around(open_random(_pinned(pointer, shelf.store), "sha256"), BLOCK) == DATA[BLOCK - 50 : BLOCK + 50]
    strong = _put(shelf, algorithm="sha256")
    for each in _opened(strong, shelf.store, "sha256"):
        assert _around(each, BLOCK) == DATA[BLOCK - 50 : BLOCK + 50]


def test_pinned_reads_load_no_list() -> None:
    """`verify="pinned"` reads ranges of an object whose list is gone."""
    shelf = Shelf()
    pointer = _put(shelf)
    pointer = dataclasses.replace(pointer, blocks={**in_object(_list(DATA), "runs/gone")})
    for file in _opened(pointer, shelf.store, "pinned"):
        assert _around(file, BLOCK) == DATA[BLOCK - 50 : BLOCK + 50]


def test_an_object_that_was_replaced_meanwhile_is_refused() -> None:
    """A later read of a block that is not kept finds another ETag, and says so."""
    shelf = Shelf()
    for index in range(1, 3):
        file = _opened(_put(shelf), shelf.store)[index]
        file.seek(3 * BLOCK)
        assert file.read(10) == DATA[3 * BLOCK : 3 * BLOCK + 10]
        shelf.put(DATA[::-1])
        file.seek(BLOCK)
        with pytest.raises(ArtifactChangedError):
            file.read(10)


def test_threads_read_one_object_through_files_of_their_own() -> None:
    """Eight files over one pinned object at once: all give the right bytes."""
    shelf = Shelf()
    pinned, wrong = _pinned(_put(shelf, place="object"), shelf.store), []

    def read(seed: int) -> None:
        file, draw = open_random(pinned, True), random.Random(seed)
        for _ in range(40):
            start, length = draw.randrange(SIZE), draw.randrange(BLOCK)
            file.seek(start)
            if file.read(length) != DATA[start : start + length]:
                wrong.append(start)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_what_the_writer_lists_is_what_the_reader_holds() -> None:
    """The digests that a put makes, in its own size of block, verify every byte."""
    data = random.Random(3).randbytes((1 << 20) + 17)
    digests = BlockDigests("crc64nvme")
    digests.update(data)
    made = BlockList(algorithm="crc64nvme", size=256 << 10, covered=len(data), digests=digests.digests())
    shelf = Shelf()
    pointer = shelf.put(data, blocks=in_pointer(made))
    assert open_random(_pinned(pointer, shelf.store), True).read() == data


def test_a_real_server_receives_into_place_and_a_flip_on_it_is_refused(seaweed_client: Any, bucket: str) -> None:
    """Random ranges over a socket equal the bytes; once one is flipped on the server, the reads of its block raise."""
    data, draw = random.Random(8).randbytes((3 << 19) + 11), random.Random(2)
    pointer = ArtifactManager(bucket, prefix="runs", client=seaweed_client).put_bytes("big", data)
    pointer = dataclasses.replace(pointer, etag=None, version_id=None)
    allowed = [f"s3://{bucket}/"]

    def files() -> list[Any]:
        pinned = PinnedObject(access_from(allow=allowed, client=seaweed_client), pointer)
        return [resolve_artifact(pointer, allow=allowed, client=seaweed_client).open(), open_random(pinned, True)]

    for file in files():
        for _ in range(25):
            start, length = draw.randrange(len(data)), draw.randrange(1 << 19)
            file.seek(start)
            assert file.read(length) == data[start : start + length]
    flipped = bytearray(data)
    flipped[700_000] ^= 8
    seaweed_client.put_object(Bucket=bucket, Key=pointer.key, Body=bytes(flipped))
    with pytest.MonkeyPatch.context() as monkeypatch:
        _cache(monkeypatch, 0)
        for file in files():
            file.seek(699_990)
            with pytest.raises(ChecksumMismatchError, match="bytes 524,288 to 786,431"):
                file.read(20)
