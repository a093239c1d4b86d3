"""Several connections where one is slow: the same bytes in the same order, of the same version, or an error."""

from __future__ import annotations

import hashlib
import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.shelf import ALLOW, BreakingStore, Shelf

from stepout.artifacts.allow import allowed_from
from stepout.artifacts.reading.access import Access
from stepout.artifacts.reading.bucket_stores import BucketStores
from stepout.artifacts.reading.pinned_object import PinnedObject
from stepout.artifacts.resolve import resolve_artifact
from stepout.artifacts.transfer import parallel_get as spread
from stepout.schemas.errors import ArtifactChangedError, ChecksumMismatchError, StoreError, StoreUnavailableError

if TYPE_CHECKING:
    from pathlib import Path

    from stepout.artifacts.store import Download

MIB = 1 << 20
BIG = b"".join(hashlib.sha256(str(number).encode()).digest() * 512 for number in range(400))  # 6.25 MiB, no two alike
PART = 300_000


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was measured in the first block, it is too slow."""
    monkeypatch.setattr(spread, "PART", PART)
    monkeypatch.setattr(spread, "_MEASURED", 1)
    monkeypatch.setattr(spread, "connections_for", lambda _left, _rate: 3)


@given(left=st.integers(0, 1 << 40), rate=st.floats(0, 1e10))
def test_the_number_of_connections_follows_from_size_and_speed(left: int, rate: float) -> None:
    """One where that is fast; never more than there are pairs of parts, nor more than memory allows."""
    found = spread.connections_for(left, rate)
    assert 1 <= found <= spread.MOST
    assert found == 1 or (rate < 150e6 and left >= 2 * found * spread.PART)
    assert spread.connections_for(left, rate / 2) >= found


def test_what_is_measured_is_the_connection_and_not_the_consumer(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting for a buffer takes 10 seconds each here, a block 0.1: that is a connection of some 10 MB/s."""
    now: list[float] = [0.0]
    rates: list[float] = []

    def noted(_left: int, rate: float) -> int:
        rates.append(rate)
        return 1

    monkeypatch.setattr(spread, "_SKIPPED", MIB)
    monkeypatch.setattr(spread, "_SURE_SECONDS", 60)
    monkeypatch.setattr(spread, "_MEASURED", 4 * MIB)
    monkeypatch.setattr(spread, "connections_for", noted)
    source = PinnedObject(Access(allowed=allowed_from(ALLOW), stores=BucketStores(shelf.store)), shelf.put(BIG))
    inner = source.blocks
    buffer = memoryview(bytearray(MIB))

    def lend() -> memoryview:
        now[0] += 10
        return buffer

    def blocks(start: int = 0, stop: int | None = None, *, lend: object = None) -> object:
        for view in inner(start, stop):
            lend()  # type: ignore[operator]
            now[0] += 0.1
            yield view

    monkeypatch.setattr(source, "blocks", blocks)
    assert b"".join(map(bytes, spread.views(source, lend, clock=lambda: now[0]))) == BIG
    assert rates == [pytest.approx(10 * MIB)]


def test_a_slow_connection_is_known_by_less(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """After two blocks to warm up, 50 milliseconds of waiting and 4 MiB are enough; a fast one is judged by 16 MiB."""
    asked: list[int] = []

    def noted(left: int, _rate: float) -> int:
        asked.append(len(BIG) - left)
        return 1

    monkeypatch.setattr(spread, "connections_for", noted)
    for seconds in (0.03, 0.001):
        now = [0.0]
        source = PinnedObject(Access(allowed=allowed_from(ALLOW), stores=BucketStores(shelf.store)), shelf.put(BIG))

        def blocks(
            *_: object, pace: float = seconds, inner: object = source.blocks, clock: list[float] = now, **__: object
        ) -> object:
            for view in inner():  # type: ignore[operator]
                clock[0] += pace
                yield view

        monkeypatch.setattr(source, "blocks", blocks)
        read = spread.views(source, lambda: memoryview(b""), clock=lambda clock=now: clock[0])  # type: ignore[misc]
        assert b"".join(map(bytes, read)) == BIG
    assert asked == [4 * MIB + spread.PART]  # which the one connection still brings


@pytest.mark.usefixtures("slow")
def test_ranges_side_by_side_are_one_download(shelf: Shelf, tmp_path: Path) -> None:
    """Into memory, into a file, and for verify alone; every range is asked of the first answer's version."""
    pointer = shelf.put(BIG, etag=None)
    for read in ("read_bytes", "download", "verify"):
        store = BreakingStore(shelf.store, [])
        artifact = resolve_artifact(pointer, allow=ALLOW, client=store)
        if read == "download":
            assert artifact.download(tmp_path / "x").read_bytes() == BIG
        elif read == "verify":
            artifact.verify()
        else:
            assert artifact.read_bytes() == BIG
        (first, *ranges) = store.requests
        assert first == (0, None, None)
        starts = range(MIB + PART, len(BIG), PART)
        assert sorted(each[:2] for each in ranges) == [(at, min(at + PART, len(BIG))) for at in starts]
        assert None not in {each[2] for each in store.requests[1:]}


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize("part", [2 * MIB, 3 * MIB // 2])
@pytest.mark.parametrize("works", [True, False])
def test_the_one_connection_brings_a_part_while_the_others_start(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: int, works: bool
) -> None:
    """Several blocks, up to the very byte at which the ranges begin; where none comes, it goes on to the end."""
    monkeypatch.setattr(spread, "PART", part)
    data = BIG * 3
    pointer = shelf.put(data)
    for read in ("read_bytes", "download"):
        store = _Choosy(shelf.store, [])
        store.error, store.failing = StoreError("no ranges here"), range(0) if works else range(1, len(data))
        artifact = resolve_artifact(pointer, allow=ALLOW, client=store)
        if read == "download":
            assert artifact.download(tmp_path / "x").read_bytes() == data
        else:
            assert artifact.read_bytes() == data
        starts = sorted(start for start, _, _ in store.requests)
        assert starts == ([0, *range(MIB + part, len(data), part)] if works else [0])


@pytest.mark.usefixtures("slow")
def test_a_range_that_breaks_is_taken_up_where_it_ended(shelf: Shelf) -> None:
    """Its own rest is asked for, nothing else."""
    store = BreakingStore(shelf.store, [None, 1000, None, 5, 7])
    artifact = resolve_artifact(shelf.put(BIG), allow=ALLOW, client=store)
    assert artifact.read_bytes() == BIG
    assert len(store.requests) == 1 + len(range(MIB + PART, len(BIG), PART)) + 3


@pytest.mark.usefixtures("slow")
def test_damage_in_a_range_is_found(shelf: Shelf, tmp_path: Path) -> None:
    """And nothing stays."""
    with pytest.raises(ChecksumMismatchError):
        shelf.damage(BIG, len(BIG) - 1).download(tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


class _Choosy(BreakingStore):
    """A store that answers some ranges with an error."""

    error: StoreError
    failing: range

    def get(self, key: str, *, start: int = 0, stop: int | None = None, **more: str | None) -> Download:
        """Open it, or not."""
        if start in self.failing:
            raise self.error
        return super().get(key, start=start, stop=stop, **more)


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize("error", [StoreError("no ranges here"), StoreUnavailableError("busy")])
def test_without_ranges_the_connection_that_is_there_goes_on(shelf: Shelf, error: StoreError) -> None:
    """A server that does not know ranges, or has no second connection to give, is read as before."""
    store = _Choosy(shelf.store, [])
    store.error, store.failing = error, range(1, len(BIG))
    assert resolve_artifact(shelf.put(BIG), allow=ALLOW, client=store).read_bytes() == BIG
    assert len(store.requests) == 1


@pytest.mark.usefixtures("slow")
def test_an_object_that_changes_meanwhile_is_an_error_and_no_thread_is_left(shelf: Shelf, tmp_path: Path) -> None:
    """What a range raises is raised by the read."""
    before = threading.active_count()
    store = _Choosy(shelf.store, [])
    store.error, store.failing = ArtifactChangedError("changed"), range(2 * MIB, len(BIG))
    artifact = resolve_artifact(shelf.put(BIG), allow=ALLOW, client=store)
    with pytest.raises(ArtifactChangedError):
        artifact.download(tmp_path / "x")
    assert list(tmp_path.iterdir()) == []
    _wait_for_threads(before)


@pytest.mark.usefixtures("slow")
def test_a_reader_who_stops_ends_what_is_under_way(shelf: Shelf) -> None:
    """No thread goes on fetching what nobody wants."""
    before = threading.active_count()
    source = PinnedObject(Access(allowed=allowed_from(ALLOW), stores=BucketStores(shelf.store)), shelf.put(BIG))
    buffer = memoryview(bytearray(MIB))
    with closing(spread.views(source, lambda: buffer)) as views:
        assert sum(len(next(views)) for _ in range(3)) == MIB + 2 * PART
    _wait_for_threads(before)


def _wait_for_threads(before: int) -> None:
    """Wait until no more threads are there than before: those of ranges end by themselves."""
    deadline = time.monotonic() + 60
    while threading.active_count() > before:
        assert time.monotonic() < deadline, threading.enumerate()
        time.sleep(0.01)


class _Stalling(BreakingStore):
    """A store whose ranges never come."""

    gate = threading.Event()

    def get(self, key: str, *, start: int = 0, stop: int | None = None, **more: str | None) -> Download:
        """Open it, or wait."""
        if start > MIB + PART:
            self.gate.wait(60)
        return super().get(key, start=start, stop=stop, **more)


@pytest.mark.usefixtures("slow")
def test_a_reader_who_is_interrupted_does_not_wait_for_a_server_that_stalls(shelf: Shelf) -> None:
    """Threads that hang in a request are left behind, and end once it does."""
    before = threading.active_count()
    source = PinnedObject(
        Access(allowed=allowed_from(ALLOW), stores=BucketStores(_Stalling(shelf.store, []))), shelf.put(BIG)
    )
    views = spread.views(source, lambda: memoryview(bytearray(MIB)))
    assert sum(len(next(views)) for _ in range(2)) == MIB + PART
    with pytest.raises(KeyboardInterrupt):
        views.throw(KeyboardInterrupt())
    assert threading.active_count() > before
    _Stalling.gate.set()
    _wait_for_threads(before)


class _Crowded(BreakingStore):
    """A store that serves so many readers at once and sends the others away."""

    most = 1

    def __init__(self, store: Any, breaks: list[int | None]) -> None:
        super().__init__(store, breaks)
        self._lock, self._now, self.refused = threading.Lock(), 0, 0

    def get(self, key: str, *, start: int = 0, stop: int | None = None, **more: str | None) -> Download:
        """Open it, if there is room for one more range."""
        if not start:
            return super().get(key, start=start, stop=stop, **more)
        with self._lock:
            if self._now >= self.most:
                self.refused += 1
                raise StoreUnavailableError("slow down")
            self._now += 1
        time.sleep(0.001)
        try:
            return super().get(key, start=start, stop=stop, **more)
        finally:
            with self._lock:
                self._now -= 1


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize("most", [1, 2])
def test_a_server_with_few_connections_is_read_with_those(shelf: Shelf, most: int) -> None:
    """Whoever is sent away leaves the range to the others."""
    store = _Crowded(shelf.store, [])
    store.most = most
    assert resolve_artifact(shelf.put(BIG), allow=ALLOW, client=store).read_bytes() == BIG
    assert store.refused


@pytest.mark.usefixtures("slow")
def test_a_range_that_times_out_is_an_error(shelf: Shelf) -> None:
    """And no reason to wait on: the wait for a range is cut into steps that end with the same kind of error."""
    store = _Choosy(shelf.store, [])
    store.error, store.failing = TimeoutError("the disk does not answer"), range(2 * MIB, len(BIG))  # type: ignore[assignment]
    with pytest.raises(TimeoutError, match="the disk"):
        resolve_artifact(shelf.put(BIG), allow=ALLOW, client=store).read_bytes()
