"""Plans cover the size exactly and stay inside S3's limits and the memory, whatever the numbers."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepout.artifacts.transfer.plan import (
    BLOCK_SIZE,
    MAX_PART_SIZE,
    MAX_PARTS,
    MIB,
    MIN_PART_SIZE,
    TransferSettings,
    ceiling,
    part_size_at,
    part_size_for,
    part_sizes,
    pool_size,
    sender_count,
)
from stepout.schemas.errors import ConfigurationError

GIB = 1024 * MIB
memories = st.integers(16 * MIB, 16 * GIB)
settings_ = st.one_of(
    memories.map(lambda memory: TransferSettings(memory=memory)),
    memories.flatmap(
        lambda memory: st.integers(MIN_PART_SIZE, min(memory // 2, MAX_PART_SIZE)).map(
            lambda size: TransferSettings(memory=memory, part_size=size)
        )
    ),
)


@given(transfer=settings_, share=st.floats(0, 1))
def test_known_sizes_are_covered_exactly(transfer: TransferSettings, share: float) -> None:
    """The parts add up, none is out of bounds, and there are never more than 10,000."""
    largest = MAX_PARTS * part_size_at(MAX_PARTS, transfer)
    sizes = part_sizes(int(share * largest), transfer)
    assert sum(sizes) == int(share * largest)
    assert len(sizes) <= MAX_PARTS
    assert all(MIN_PART_SIZE <= size <= MAX_PART_SIZE for size in sizes[:-1])
    assert max(sizes) <= transfer.memory // 2


@given(transfer=settings_, share=st.floats(0, 1), cut=st.integers(0, MAX_PARTS))
def test_a_plan_that_learns_that_the_server_is_near_still_covers_the_size(
    transfer: TransferSettings, share: float, cut: int
) -> None:
    """Any number of small parts may have been cut by then; far from it, all of them are small."""
    size = int(share * MAX_PARTS * part_size_at(MAX_PARTS, transfer))
    far, near = part_size_for(size, transfer, far=True), part_size_for(size, transfer)
    assert far <= near
    first = min(cut, size // far)
    assert first + math.ceil((size - first * far) / near) <= MAX_PARTS
    assert math.ceil(size / far) <= MAX_PARTS


@given(transfer=settings_)
def test_the_pool_holds_a_part_and_a_block(transfer: TransferSettings) -> None:
    """Else nothing would ever leave; and it stays below the memory that may be used."""
    assert part_size_at(MAX_PARTS, transfer) + BLOCK_SIZE <= pool_size(transfer.memory) < transfer.memory


@given(transfer=settings_, number=st.integers(1, MAX_PARTS - 1))
def test_parts_of_streams_grow_within_bounds(transfer: TransferSettings, number: int) -> None:
    """A later part is never smaller; each is whole blocks, at least two fit in memory, and the first is one put."""
    size, following = part_size_at(number, transfer), part_size_at(number + 1, transfer)
    assert MIN_PART_SIZE <= size <= following <= min(transfer.memory // 2, MAX_PART_SIZE)
    assert size % BLOCK_SIZE == 0
    assert transfer.ladder[0] == part_size_at(1, transfer) <= 5 * GIB


@given(transfer=settings_)
@settings(max_examples=10)
def test_the_ceiling_is_what_the_parts_add_up_to(transfer: TransferSettings) -> None:
    """The documented ceiling is the sum over all 10,000 parts."""
    assert ceiling(transfer) == sum(part_size_at(number, transfer) for number in range(1, MAX_PARTS + 1))


@given(transfer=settings_, part=st.integers(MIN_PART_SIZE, 16 * GIB), cores=st.integers(1, 256), far=st.booleans())
def test_parts_in_flight_fit_in_memory(transfer: TransferSettings, part: int, cores: int, far: bool) -> None:
    """At least one sender; otherwise never more parts on their way than memory holds beside the one being filled."""
    senders = sender_count(part, transfer, cores=cores, far=far)
    assert senders == 1 or (senders + 1) * part <= transfer.memory


def test_connections_are_the_callers_choice() -> None:
    """As far as memory goes."""
    assert sender_count(5 * MIB, TransferSettings(memory=GIB, connections=32), cores=2) == 32


def test_a_body_beyond_the_ceiling_is_refused_with_advice() -> None:
    """Before anything is sent, and with the setting to raise."""
    with pytest.raises(ConfigurationError, match="Raise memory"):
        part_size_for(400 * GIB, TransferSettings())
    with pytest.raises(ConfigurationError, match="Raise part_size"):
        part_size_for(400 * GIB, TransferSettings(part_size=8 * MIB))


@pytest.mark.parametrize(
    "wrong",
    [
        {"memory": MIB}, {"connections": 0}, {"connections": 1000}, {"part_size": MIB}, {"part_size": 6 * GIB},
        {"part_size": 33 * MIB}, {"memory": "64MB"}, {"memory": 1e8}, {"connections": True}, {"part_size": 8e6},
    ],
)  # fmt: skip
def test_settings_outside_the_limits_are_refused(wrong: dict[str, Any]) -> None:
    """Each message names the setting."""
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        TransferSettings(**wrong)
