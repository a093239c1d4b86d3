"""What a process learns of a server."""

from __future__ import annotations

from stepout.artifacts.memory import MemoryStore
from stepout.artifacts.process.budget import ProcessBudget
from stepout.artifacts.process.servers import ServerState


def test_the_latency_falls_at_once_and_rises_slowly() -> None:
    """A busy machine makes answers late; only the network makes them early."""
    state = ServerState()
    for seconds in (0.1, 0.03, 0.5):
        state.saw_latency(seconds)
    assert state.latency is not None
    assert 0.03 <= state.latency < 0.1


def test_a_short_body_says_nothing_of_the_rate() -> None:
    """Its time is the latency's."""
    state = ServerState()
    state.saw_upload(1000, 0.1)
    before = state.upload_rate
    state.saw_upload(8 << 20, 0.1)
    state.saw_download(8 << 20, 0.2)
    assert before is None
    assert (state.upload_rate, state.download_rate) == (80 * (1 << 20), 40 * (1 << 20))


def test_a_server_that_asked_for_less_is_believed_for_a_while() -> None:
    """Half a minute after the last SlowDown it counts no more."""
    now = [0.0]
    state = ServerState(clock=lambda: now[0])
    assert not state.slowed
    state.pace.refused()
    assert state.slowed
    now[0] = 31
    assert not state.slowed


def test_all_stores_of_a_bucket_share_what_is_known() -> None:
    """And a bucket's does not count for another."""
    budget = ProcessBudget()
    assert budget.server(MemoryStore("one")) is budget.server(MemoryStore("one"))
    assert budget.server(MemoryStore("one")) is not budget.server(MemoryStore("two"))
