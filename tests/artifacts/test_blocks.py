"""Digests of blocks: the same however the bytes are cut, combined from each other, and read back strictly."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepout.artifacts import blocks
from stepout.artifacts.blocks import (
    CRC_BLOCK,
    SHA256_BLOCK,
    BlockDigests,
    decoded,
    digest_of,
    encoded,
    in_object,
    in_pointer,
    listed,
    read_list,
    whole_crc,
)
from stepout.artifacts.checksums import crc_function, crc_of, pure_crc64nvme
from stepout.schemas.errors import InvalidDocumentError

if TYPE_CHECKING:
    from stepout.artifacts.blocks import BlockAlgorithm
    from stepout.artifacts.checksums import Crc

DATA = memoryview(os.urandom(5 * SHA256_BLOCK // 2 + 77))
CRCS: list[Crc] = ["crc64nvme", "crc32"]
ALGORITHMS: list[BlockAlgorithm] = [*CRCS, "sha256"]
SIZES = st.one_of(
    st.integers(0, len(DATA)),
    st.sampled_from([n * CRC_BLOCK + d for n in range(9) for d in (-1, 0, 1)]).map(lambda size: max(size, 0)),
)


def _digests(algorithm: BlockAlgorithm, data: memoryview, size: int) -> bytes:
    return b"".join(digest_of(algorithm, data[start : start + size]) for start in range(0, len(data), size))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@given(size=SIZES, cuts=st.lists(st.integers(0, len(DATA)), max_size=6))
def test_any_cut_gives_the_digests_of_the_blocks(algorithm: BlockAlgorithm, size: int, cuts: list[int]) -> None:
    """Views of any length, empty ones too, make the digests that each block has alone."""
    digests, edges = BlockDigests(algorithm), [0, *sorted(min(cut, size) for cut in cuts), size]
    for start, stop in itertools.pairwise(edges):
        digests.update(DATA[start:stop])
    block = SHA256_BLOCK if algorithm == "sha256" else CRC_BLOCK
    assert digests.covered == size
    assert digests.digests() == digests.digests() == _digests(algorithm, DATA[:size], block)


@pytest.mark.parametrize("algorithm", CRCS)
@given(size=SIZES)
def test_blocks_combine_to_the_whole(algorithm: Crc, size: int) -> None:
    """The CRC of all bytes follows from those of the blocks, without a look at the bytes."""
    data = DATA[:size]
    assert whole_crc(algorithm, _digests(algorithm, data, CRC_BLOCK), size) == crc_of(algorithm, [data])


@pytest.mark.parametrize("algorithm", CRCS)
@pytest.mark.parametrize("size", [CRC_BLOCK + 1, 4 * CRC_BLOCK, 5 * CRC_BLOCK - 1, 5 * CRC_BLOCK + 1, len(DATA)])
def test_a_list_that_is_too_long_has_larger_blocks(monkeypatch: pytest.MonkeyPatch, algorithm: Crc, size: int) -> None:
    """Neighbours are combined, odd ones at the end too, until the list fits; each digest is its block's own."""
    monkeypatch.setattr(blocks, "LIST_LIMIT", 16)
    data = DATA[:size]
    found = listed(algorithm, _digests(algorithm, data, CRC_BLOCK), size)
    assert found is not None
    assert len(found.digests) <= 16
    assert found.digests == _digests(algorithm, data, found.size)
    assert all(found.holds(n, data[n * found.size : (n + 1) * found.size]) for n in range(-(-size // found.size)))
    assert not found.holds(0, data[1 : found.size])


@pytest.mark.parametrize(("algorithm", "block"), [("crc64nvme", CRC_BLOCK), ("crc32", CRC_BLOCK), ("sha256", 1 << 20)])
def test_one_block_has_no_list(algorithm: BlockAlgorithm, block: int) -> None:
    """Its only digest would say no more than the object's checksum."""
    for size in (0, 1, block):
        assert listed(algorithm, _digests(algorithm, DATA[:size], block), size) is None
    found = listed(algorithm, _digests(algorithm, DATA[: block + 1], block), block + 1)
    assert found is not None
    assert found.aligned(1, block - 1) == (0, block)
    assert found.aligned(block - 1, block + 1) == (0, block + 1)


def test_pure_python_equals_awscrt_at_every_small_size_and_some_large_ones() -> None:
    """Where folding begins, at each remainder, and over many folds; in one go and continued."""
    native = crc_function("crc64nvme")
    assert native is not pure_crc64nvme
    for size in [*range(700), 4096, 65_537, CRC_BLOCK - 1, CRC_BLOCK, CRC_BLOCK + 1, SHA256_BLOCK + 7]:
        assert pure_crc64nvme(DATA[:size]) == native(DATA[:size], 0)
        assert pure_crc64nvme(DATA[3 : 3 + size], 0x0123_4567_89AB_CDEF) == native(
            DATA[3 : 3 + size], 0x0123_4567_89AB_CDEF
        )


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_what_is_announced_is_read_back(algorithm: BlockAlgorithm) -> None:
    """From the pointer or from an object, the list is the one that was made."""
    block = SHA256_BLOCK if algorithm == "sha256" else CRC_BLOCK
    made = listed(algorithm, _digests(algorithm, DATA, block), len(DATA))
    assert made is not None
    member = in_pointer(made)
    assert read_list(member, decoded(member["digests"], "url"), len(DATA), "url") == made
    assert read_list(in_object(made, "key"), made.digests, len(DATA), "url") == made


@pytest.mark.parametrize(
    ("changes", "covered", "where"),
    [
        ({"algorithm": "md5"}, len(DATA), "algorithm"),
        ({"size": 3 << 18}, len(DATA), "size"),
        ({"size": 1 << 15}, len(DATA), "size"),
        ({"size": 1 << 27}, len(DATA), "size"),
        ({"size": 1 << 19}, len(DATA), "digests"),
        ({}, len(DATA) + CRC_BLOCK, "digests"),
        ({}, len(DATA) - CRC_BLOCK, "digests"),
        ({}, 0, "digests"),
        ({"digests": "!"}, len(DATA), "digests"),
        ({"digests": ""}, len(DATA), "digests"),
    ],
)
def test_a_list_that_is_not_the_objects_is_refused(changes: dict[str, Any], covered: int, where: str) -> None:
    """Another algorithm, another size of blocks, another length of the list or of the object."""
    made = listed("crc64nvme", _digests("crc64nvme", DATA, CRC_BLOCK), len(DATA))
    assert made is not None
    assert encoded(made) == in_pointer(made)["digests"]
    member = in_pointer(made) | changes
    with pytest.raises(InvalidDocumentError, match=rf"blocks\.{where}.*verify=\"pinned\""):
        read_list(member, decoded(member["digests"], "url"), covered, "url")
