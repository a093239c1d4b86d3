"""Plans cover the size exactly and stay inside S3's limits and the memory, whatever the numbers."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepout.artifacts.process.memory_granted import GrantedMemory, transfer_share
from stepout.artifacts.transfer.plan import (
    BLOCK_SIZE,
    LINE,
    MAX_PART_SIZE,
    MAX_PARTS,
    MIB,
    MIN_PART_SIZE,
    MOST_SENDERS,
    TransferSettings,
    ceiling,
    memory_needed,
    memory_wanted,
    most_senders,
    part_size_at,
    part_size_for,
    pool_size,
    sender_count,
    sender_limit,
    senders_for_line,
    single_request_limit,
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
def test_known_sizes_are_covered(transfer: TransferSettings, share: float) -> None:
    """No part is out of bounds, and there are never more than 10,000."""
    size = int(share * MAX_PARTS * part_size_at(MAX_PARTS, transfer))
    each = part_size_for(size, transfer)
    assert math.ceil(size / each) <= MAX_PARTS
    assert MIN_PART_SIZE <= each <= min(MAX_PART_SIZE, transfer.memory // 2)


@given(transfer=settings_, share=st.floats(0, 1), cut=st.integers(0, MAX_PARTS))
def test_a_plan_that_learns_of_the_server_still_covers_the_size(
    transfer: TransferSettings, share: float, cut: int
) -> None:
    """Any number of parts may have been cut for other numbers of connections by then."""
    size = int(share * MAX_PARTS * part_size_at(MAX_PARTS, transfer))
    few, many = (part_size_for(size, transfer, senders=senders) for senders in (4, 32))
    first = min(cut, size // many)
    assert first + math.ceil((size - first * many) / few) <= MAX_PARTS
    assert math.ceil(size / many) <= MAX_PARTS


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


@given(transfer=settings_, part=st.integers(MIN_PART_SIZE, 16 * GIB), cores=st.integers(1, 256))
def test_parts_in_flight_fit_in_memory(transfer: TransferSettings, part: int, cores: int) -> None:
    """At least one sender; otherwise never more parts on their way than memory holds beside the one being filled."""
    senders = sender_count(part, transfer, cores=cores)
    assert senders == 1 or (senders + 1) * part <= transfer.memory


def test_connections_are_the_callers_choice() -> None:
    """As far as memory goes, and however many the client keeps open."""
    chosen = TransferSettings(memory=GIB, connections=40)
    assert sender_count(5 * MIB, chosen, cores=2) == most_senders(chosen) == most_senders(chosen, pooled=10) == 40


def test_a_client_that_keeps_few_connections_open_gets_no_more_at_once() -> None:
    """A caller's boto3 client keeps 10: each request beside them would cost a connection of its own."""
    assert most_senders(TransferSettings(), pooled=10) == 10
    assert most_senders(TransferSettings(), pooled=64) == most_senders(TransferSettings()) == MOST_SENDERS


# Lines ----------------------------------------------------------------------------------------------------------------

LATENCIES = st.floats(0, 1)
RATES = st.floats(1e6, 2e9)


def carried(senders: int, part: int, latency: float, rate: float) -> float:
    """What so many connections carry, in bytes per second."""
    return senders * part / (latency + part / rate)


@given(part=st.integers(MIN_PART_SIZE, MAX_PART_SIZE), latency=LATENCIES, rate=RATES, line=st.floats(1e6, 1e11))
def test_as_many_connections_as_fill_the_line_and_no_more(part: int, latency: float, rate: float, line: float) -> None:
    """Little's law, rounded up."""
    senders = senders_for_line(part, latency, rate, line)
    assert carried(senders, part, latency, rate) >= line * (1 - 1e-9)
    assert senders == 1 or carried(senders - 1, part, latency, rate) <= line * (1 + 1e-9)


@pytest.mark.parametrize("latency", [0.001, 0.01, 0.03, 0.1])
@pytest.mark.parametrize("gibibytes", [2, 4, 64])
def test_a_container_of_two_gibibytes_fills_a_line_of_5_gbit(latency: float, gibibytes: int) -> None:
    """Against servers of 80 MB/s a connection: a file of any size, and a stream, by one transfer."""
    granted = TransferSettings(memory=transfer_share(GrantedMemory(gibibytes * GIB, "cgroup")))
    for total in (None, GIB, 40 * GIB, 150 * GIB):
        senders = sender_limit(total, granted, cores=2, most=most_senders(granted), latency=latency, rate=80e6)
        part = part_size_at(1, granted) if total is None else part_size_for(total, granted, senders=senders)
        assert carried(senders, part, latency, 80e6) >= 625e6


def test_a_server_of_which_nothing_is_known_gets_as_many() -> None:
    """The first transfer of a process knows no rate; the usual one of S3 is taken. Only near and fast ones get few."""
    settings = TransferSettings(memory=256 * MIB)
    unknown = sender_limit(GIB, settings, cores=2, most=MOST_SENDERS)
    assert carried(unknown, 5 * MIB, 0.03, 80e6) >= LINE
    fast = sender_limit(GIB, settings, cores=2, most=MOST_SENDERS, latency=0.001, rate=500e6)
    far = sender_limit(GIB, settings, cores=2, most=MOST_SENDERS, latency=0.05, rate=500e6)
    assert fast == 4 < unknown <= far


@given(transfer=settings_, total=st.none() | st.integers(0, 40 * GIB), latency=st.none() | LATENCIES,
       rate=st.none() | RATES, cores=st.integers(1, 64), most=st.integers(1, 64))  # fmt: skip
def test_connections_stay_within_memory_and_what_there_is(  # noqa: PLR0913, PLR0917 - what a plan depends on
    transfer: TransferSettings, total: int | None, latency: float | None, rate: float | None, cores: int, most: int
) -> None:
    """Whatever was measured."""
    if transfer.part_size is not None and total is not None:
        total = min(total, MAX_PARTS * transfer.ladder[0])
    senders = sender_limit(total, transfer, cores=cores, most=most, latency=latency, rate=rate)
    part = part_size_at(1, transfer) if total is None else part_size_for(total, transfer, senders=senders)
    assert 1 <= senders <= min(most, MOST_SENDERS)
    assert senders == 1 or (senders + 1) * part <= transfer.memory


@given(transfer=settings_, total=st.none() | st.integers(0, 40 * GIB), senders=st.integers(1, 32))
def test_what_a_transfer_asks_for_is_within_its_settings(
    transfer: TransferSettings, total: int | None, senders: int
) -> None:
    """Few connections want less than many, and a short body less than a long one."""
    wanted = memory_wanted(total, transfer, senders=senders)
    assert wanted <= memory_wanted(total, transfer, senders=senders + 1) <= memory_wanted(total, transfer)
    assert memory_wanted(total, transfer) <= memory_wanted(None, transfer) == transfer.memory
    if transfer.part_size is None and (total is None or total <= MAX_PARTS * transfer.ladder[2]):
        assert memory_needed(total, transfer) <= transfer.memory


@given(transfer=settings_, size=st.integers(1, 300 * GIB), senders=st.integers(1, 32))
def test_a_body_is_cut_so_that_all_connections_have_work(transfer: TransferSettings, size: int, senders: int) -> None:
    """No part is larger than each connection's share of the body and of the memory, or than S3 has it."""
    size = min(size, MAX_PARTS * transfer.ladder[2])
    part = part_size_for(size, transfer, senders=senders)
    assert MIN_PART_SIZE <= part <= MAX_PART_SIZE
    assert math.ceil(size / part) <= MAX_PARTS
    if transfer.part_size is None and size <= MAX_PARTS * MIN_PART_SIZE:
        assert part < max(size / senders + BLOCK_SIZE, MIN_PART_SIZE + 1)
        assert part == MIN_PART_SIZE or (senders + 1) * part <= transfer.memory
        # The last round is full but for what whole blocks take: less than a block of each part.
        rounds = math.ceil(size / part / senders)
        assert part == MIN_PART_SIZE or (part - BLOCK_SIZE) * senders * rounds < size


@given(transfer=settings_, latency=LATENCIES, rate=RATES, connections=st.integers(2, 32), size=st.integers(1, 4 * GIB))
def test_one_request_is_used_exactly_where_it_is_faster(
    transfer: TransferSettings, latency: float, rate: float, connections: int, size: int
) -> None:
    """Between the bounds: the first part of a stream, and half of the memory."""
    limit = single_request_limit(latency, rate, connections, transfer)
    least, most = transfer.ladder[0], max(transfer.memory // 2, transfer.ladder[0])
    assert least <= limit <= most
    if transfer.part_size is not None:
        assert limit == least
    elif least < size <= most and abs(size - limit) > 2:
        # Each connection carries an equal share, but no less than S3's least part.
        longest = max(size / connections, min(size, MIN_PART_SIZE))
        in_parts = 3 * latency + longest / rate
        assert (latency + size / rate <= in_parts * (1 + 1e-9)) == (size < limit)


def test_without_a_measurement_the_first_part_of_a_stream_is_one_request() -> None:
    """As ever; and a part size that was set is kept to."""
    assert single_request_limit(None, None, 10, TransferSettings(memory=256 * MIB)) == 8 * MIB
    assert single_request_limit(0.1, 80e6, 10, TransferSettings(memory=256 * MIB, part_size=6 * MIB)) == 6 * MIB
    assert single_request_limit(0.0, 80e6, 1, TransferSettings(memory=64 * MIB)) == 32 * MIB


def test_a_body_beyond_the_ceiling_is_refused_with_advice() -> None:
    """Before anything is sent, and with the setting to raise."""
    with pytest.raises(ConfigurationError, match="Raise memory"):
        part_size_for(400 * GIB, TransferSettings(memory=64 * MIB))
    with pytest.raises(ConfigurationError, match="Raise part_size"):
        part_size_for(400 * GIB, TransferSettings(memory=64 * MIB, part_size=8 * MIB))


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
        TransferSettings(**{"memory": 64 * MIB, **wrong})
