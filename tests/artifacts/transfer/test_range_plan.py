"""How an object is cut into ranges, and how many connections fetch them: rules that hold for all sizes and rates."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepout.artifacts.process.servers import ServerState
from stepout.artifacts.transfer import range_plan
from stepout.artifacts.transfer.plan import TransferSettings
from stepout.artifacts.transfer.range_plan import (
    BESIDE,
    ENOUGH,
    FAR_SECONDS,
    SPARE,
    RampUp,
    RangePlan,
    connections_for,
    cuts,
    part_for,
    plan_for,
)

MIB = 1 << 20
SIZES = st.integers(0, 1 << 36)


@given(left=SIZES, latency=st.floats(0, 2), rate=st.floats(1, 1e10), most=st.integers(1, 64))
def test_the_number_of_connections_follows_from_size_latency_and_rate(
    left: int, latency: float, rate: float, most: int
) -> None:
    """Never more than are allowed, nor than there are blocks; slower connections and more bytes want no fewer."""
    found = connections_for(left, latency=latency, rate=rate, most=most)
    assert 1 <= found <= min(most, max(left // MIB, 1))
    assert connections_for(left, latency=latency, rate=rate / 2, most=most) >= found
    assert connections_for(2 * left, latency=latency, rate=rate, most=most) >= found
    if rate >= ENOUGH and latency < FAR_SECONDS:
        assert found == 1


@pytest.mark.parametrize(
    ("memory", "rate", "connections", "part"),
    [(256, None, 17, 8), (64, None, 16, 3), (64, 25e6, 26, 2), (16, None, 6, 1)],
)
def test_little_memory_bounds_ranges_and_connections_alike(
    monkeypatch: pytest.MonkeyPatch, memory: int, rate: float | None, connections: int, part: int
) -> None:
    """A few ranges of some MiB beat many short ones, which wait for answers; slow connections are worth more of them.

    Memory and ranges are in MiB, of an object of 120.
    """
    monkeypatch.setattr(range_plan, "TransferSettings", lambda: TransferSettings(memory=memory * MIB))
    assert plan_for(120 * MIB, ServerState(), rate=rate) == RangePlan(connections, part * MIB)


@pytest.mark.parametrize(("memory", "connections"), [(256, 17), (64, 17), (16, 2)])
def test_to_a_file_memory_bounds_connections_not_ranges(
    monkeypatch: pytest.MonkeyPatch, memory: int, connections: int
) -> None:
    """A connection takes one block, so its range is as long as it would be with more memory."""
    monkeypatch.setattr(range_plan, "TransferSettings", lambda: TransferSettings(memory=memory * MIB))
    plan = plan_for(120 * MIB, ServerState(), to_file=True)
    assert plan is not None
    assert plan.connections == connections
    assert plan.part == min(-(-120 // connections), 8) * MIB
    less = plan.within(120 * MIB, 2, 16 * MIB)
    assert (less.connections, less.part) == (2, 8 * MIB)


@given(
    left=st.integers(1, 1 << 34),
    to_file=st.booleans(),
    memory=st.integers(16 * MIB, 256 * MIB),
    latency=st.none() | st.floats(0, 0.3),
    rate=st.none() | st.floats(1e6, 1e9),
)
def test_ranges_leave_room_for_what_goes_beside_them(
    left: int, to_file: bool, memory: int, latency: float | None, rate: float | None
) -> None:
    """A download takes no more than its share: its first connection has blocks of its own."""
    server = ServerState()
    server.latency = latency
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(range_plan, "TransferSettings", lambda: TransferSettings(memory=memory))
        plan = plan_for(left, server, rate=rate, to_file=to_file)
    assert plan is None or plan.memory + BESIDE <= memory


def test_where_nothing_is_known_a_server_far_away_is_planned_for() -> None:
    """Once an answer is late, that is all there is to go by."""
    assert connections_for(1 << 30) == connections_for(1 << 30, latency=0.03, rate=80e6) > 10


@given(left=st.integers(1, 1 << 36), connections=st.integers(2, 32), memory=st.integers(16 * MIB, 1 << 30))
def test_ranges_fit_in_the_memory(left: int, connections: int, memory: int) -> None:
    """With the spare ones, and whole blocks; a block each is the least."""
    plan = RangePlan(connections, part_for(left, connections, memory))
    assert plan.part % MIB == 0
    assert plan.memory <= max(memory, (connections + SPARE) * MIB)


@given(
    start=st.integers(0, 1 << 30), size=st.integers(0, 1 << 30), connections=st.integers(1, 32), part=st.integers(1, 16)
)
def test_ranges_cover_an_object_once(start: int, size: int, connections: int, part: int) -> None:
    """In order, without a gap, none larger than planned."""
    position = start
    for begin, stop in cuts(start, start + size, RangePlan(connections, part * MIB)):
        assert begin == position
        assert begin < stop <= begin + part * MIB
        position = stop
    assert position == start + size


@pytest.mark.parametrize("size", [17, 20, 100, 129, 1000])
def test_the_last_round_is_shared_out(size: int) -> None:
    """All connections end with ranges of one size, so that none waits for another's long one."""
    sizes = [stop - begin for begin, stop in cuts(0, size * MIB, RangePlan(8, 8 * MIB))]
    last = sizes[-8:]
    assert max(last) - min(last[:-1]) <= MIB or size > 64


@given(size=st.integers(1, 1 << 30), connections=st.integers(2, 32))
def test_what_fits_in_one_round_comes_in_one(size: int, connections: int) -> None:
    """A range more than there are connections would begin when the others end."""
    part = part_for(size, connections, 1 << 40)
    found = list(cuts(0, size, RangePlan(connections, part)))
    assert len(found) <= connections or part == 8 * MIB


def _ramped(line: float, each: float, most: int = 32) -> int:
    """Add connections to a simulated line until no more come, and return how many there are then."""
    ramp, now, received = RampUp(most, min(each, line), 0.0), 0.0, 0.0
    for _ in range(2000):
        now += 0.01
        received += 0.01 * min(line, each * ramp.connections)
        ramp.saw(int(received), now)
    return ramp.connections


@pytest.mark.parametrize(
    ("line", "each", "least", "most"), [(2e9, 80e6, 16, 32), (1e9, 25e6, 32, 32), (1e8, 1e8, 15, 15), (2e8, 2e8, 8, 8)]
)
def test_connections_are_added_while_they_bring_more(line: float, each: float, least: int, most: int) -> None:
    """Up to the most where each is slow by itself; no more than a few where they share a slow line."""
    assert least <= _ramped(line, each) <= most
