"""One connection or several: the same bytes in the same order, of the same version, or an error."""

from __future__ import annotations

import errno
import hashlib
import random
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.shelf import ALLOW, BreakingStore, Shelf

from stepout.artifacts.process import budget as process_budget
from stepout.artifacts.process.budget import ProcessBudget
from stepout.artifacts.process.servers import ServerState
from stepout.artifacts.resolve import resolve_artifact
from stepout.artifacts.store import RequestCancelledError
from stepout.artifacts.transfer import parallel_get, range_fetch, range_plan
from stepout.artifacts.transfer.parallel_get import receive
from stepout.artifacts.transfer.plan import TransferSettings
from stepout.artifacts.transfer.range_plan import RangePlan, plan_for
from stepout.artifacts.transfer.tails import Tails
from stepout.schemas.errors import ArtifactChangedError, ChecksumMismatchError, StoreError, StoreUnavailableError
from stepout.schemas.runtime.process import PerProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

    from stepout.artifacts.store import Download
    from stepout.artifacts.transfer.stages import RandomAccess

MIB = 1 << 20
BIG = b"".join(hashlib.sha256(str(number).encode()).digest() * 512 for number in range(400))  # 6.25 MiB, no two alike
STARTS = range(0, len(BIG), MIB)


@pytest.fixture(autouse=True)
def budget(monkeypatch: pytest.MonkeyPatch) -> Iterator[ProcessBudget]:
    """The budget of a process in which nothing has been transferred yet; everything is given back."""
    held = PerProcess(lambda: ProcessBudget(256 * MIB))
    monkeypatch.setattr(process_budget, "_BUDGET", held)
    monkeypatch.setattr(parallel_get, "plan_for", plan_for)
    yield held.get()
    assert held.get().taken == (0, 0)


@pytest.fixture
def nothing_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it takes, no range is asked for a second time."""
    monkeypatch.setattr(Tails, "due", lambda *_, **__: None)
    monkeypatch.setattr(range_fetch, "_STILL_SECONDS", 3600.0)
    monkeypatch.setattr(range_fetch, "_LONG_STILL_SECONDS", 3600.0)


@pytest.fixture(params=[False, True], ids=["in memory", "to the file"])
def far(nothing_late: None, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:  # noqa: ARG001
    """Whatever is known of the server, three ranges of a MiB are asked for at once, and nothing is ever late."""
    monkeypatch.setattr(parallel_get, "begins_in_ranges", lambda _: True)
    monkeypatch.setattr(
        parallel_get, "plan_for", lambda *_, to_file, **__: RangePlan(3, MIB, to_file=to_file and request.param)
    )


def _wait_for_threads(before: int) -> None:
    """Wait until no more threads are there than before: those of ranges end by themselves."""
    deadline = time.monotonic() + 60
    while threading.active_count() > before:
        assert time.monotonic() < deadline, threading.enumerate()
        time.sleep(0.01)


# Over a store ---------------------------------------------------------------------------------------------------------


class _Choosy(BreakingStore):
    """A store that answers some ranges with an error."""

    error: BaseException
    failing: range

    def get(self, key: str, *, start: int = 0, stop: int | None = None, **more: str | None) -> Download:
        """Open it, or not."""
        if start in self.failing and stop is not None:
            raise self.error
        return super().get(key, start=start, stop=stop, **more)


@pytest.mark.usefixtures("far")
def test_ranges_side_by_side_are_one_download(shelf: Shelf, tmp_path: Path) -> None:
    """Into memory, into a file, and for verify alone; every range is asked of the pointer's version."""
    pointer = shelf.put(BIG)
    for read in ("read_bytes", "download", "verify"):
        store = BreakingStore(shelf.store, [])
        artifact = resolve_artifact(pointer, allow=ALLOW, client=store)
        if read == "download":
            assert artifact.download(tmp_path / "x").read_bytes() == BIG
        elif read == "verify":
            artifact.verify()
        else:
            assert artifact.read_bytes() == BIG
        assert sorted(store.requests) == [(at, min(at + MIB, len(BIG)), pointer.etag) for at in STARTS]


@pytest.mark.usefixtures("far")
def test_a_range_that_breaks_is_taken_up_where_it_ended(shelf: Shelf) -> None:
    """Its own rest is asked for, nothing else."""
    store = BreakingStore(shelf.store, [None, 1000, None, 5, 7])
    artifact = resolve_artifact(shelf.put(BIG), allow=ALLOW, client=store)
    assert artifact.read_bytes() == BIG
    assert len(store.requests) == len(STARTS) + 3


@pytest.mark.usefixtures("far")
def test_damage_in_a_range_is_found(shelf: Shelf, tmp_path: Path) -> None:
    """And nothing stays."""
    with pytest.raises(ChecksumMismatchError):
        shelf.damage(BIG, len(BIG) - 1).download(tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("far")
def test_a_server_without_ranges_is_read_over_one_connection(shelf: Shelf) -> None:
    """Asked for a part it answers with something else; then the whole is asked for."""
    store = _Choosy(shelf.store, [])
    store.error, store.failing = StoreError("no ranges here"), range(len(BIG))
    artifact = resolve_artifact(shelf.put(BIG), allow=ALLOW, client=store)
    assert artifact.read_bytes() == BIG
    assert [each[:2] for each in store.requests] == [(0, None)]


@pytest.mark.usefixtures("far")
@pytest.mark.parametrize("error", [ArtifactChangedError("changed"), ValueError("a bug")])
def test_what_a_range_raises_is_raised_by_the_read(shelf: Shelf, tmp_path: Path, error: Exception) -> None:
    """Nothing stays, and no thread is left."""
    before = threading.active_count()
    store = _Choosy(shelf.store, [])
    store.error, store.failing = error, range(2 * MIB, len(BIG))
    artifact = resolve_artifact(shelf.put(BIG), allow=ALLOW, client=store)
    with pytest.raises(type(error), match=str(error)):
        artifact.download(tmp_path / "x")
    assert list(tmp_path.iterdir()) == []
    _wait_for_threads(before)


class _Crowded(BreakingStore):
    """A store that serves so many readers at once and sends the others away."""

    most = 1

    def __init__(self, store: Any, breaks: list[int | None]) -> None:
        super().__init__(store, breaks)
        self._lock, self._now, self.refused = threading.Lock(), 0, threading.Event()

    def get(self, key: str, *, start: int = 0, stop: int | None = None, **more: str | None) -> Download:
        """Open it, if there is room for one more range."""
        with self._lock:
            if self._now >= self.most:
                self.refused.set()
                raise StoreUnavailableError("slow down")
            self._now += 1
        try:
            assert self.refused.wait(60)  # until others have found it taken
            return super().get(key, start=start, stop=stop, **more)
        finally:
            with self._lock:
                self._now -= 1


@pytest.mark.usefixtures("far")
@pytest.mark.parametrize("most", [1, 2])
def test_a_server_with_few_connections_is_read_with_those(shelf: Shelf, most: int) -> None:
    """Whoever is sent away leaves the range to the others."""
    store = _Crowded(shelf.store, [])
    store.most = most
    assert resolve_artifact(shelf.put(BIG), allow=ALLOW, client=store).read_bytes() == BIG


# Over a program that brings bytes as it is told -----------------------------------------------------------------------


class _Cancelled:
    def __init__(self) -> None:
        self.event = threading.Event()

    @property
    def cancelled(self) -> bool:
        return self.event.is_set()

    def cancel(self) -> None:
        self.event.set()


@dataclass
class _Object:
    """An object in ranges; ``act`` is called for each request, before each of its blocks, and may wait or raise.

    ``carry`` is called while each of them is on its way.

    A request that is cancelled writes nonsense to where it was told to read to, as a late packet may, and raises.
    """

    data: bytes
    act: Callable[[_Asked, int], None] = lambda _asked, _position: None
    carry: Callable[[_Asked], None] = lambda _asked: None
    server: ServerState = field(default_factory=ServerState)
    version_known: bool = True
    pooled: int | None = None
    settings: TransferSettings | None = None
    asked: list[_Asked] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.size = len(self.data)
        self._of_thread = threading.local()
        self._lock = threading.Lock()

    @contextmanager
    def cancellable(self) -> Iterator[_Cancelled]:
        self._of_thread.cancelled = _Cancelled()
        yield self._of_thread.cancelled

    def blocks(
        self, start: int = 0, stop: int | None = None, *, lend: Callable[[], memoryview] | None = None
    ) -> Generator[memoryview]:
        assert lend is not None
        with self._lock:
            asked = _Asked(len(self.asked), start, stop, self._of_thread.cancelled.event)
            self.asked.append(asked)
        position, end = start, self.size if stop is None else stop
        while position < end:
            self.act(asked, position)
            buffer = lend()
            self.carry(asked)
            if asked.cancelled.is_set():
                buffer[:] = b"?" * len(buffer)
                raise RequestCancelledError("cancelled")
            size = min(len(buffer), end - position)
            buffer[:size] = self.data[position : position + size]
            position += size
            asked.brought += size
            yield buffer[:size]


@dataclass
class _Asked:
    number: int
    start: int
    stop: int | None
    cancelled: threading.Event
    brought: int = 0


@dataclass
class _Kept:
    """Takes bytes, keeps some of the memory they came in for a while, and looks whether anybody has written there."""

    in_place: bool = False
    taken: bytearray = field(default_factory=bytearray)
    kept: list[tuple[memoryview, bytes, Callable[[], None]]] = field(default_factory=list)
    most: int = 2

    def __post_init__(self) -> None:
        self._buffer = memoryview(bytearray(MIB))

    def lend(self) -> memoryview:
        return self._buffer

    def add(self, view: memoryview) -> None:
        self.taken += view

    def pass_on(self, view: memoryview, release: Callable[[], None]) -> None:
        self.taken += view
        self.kept.append((view, bytes(view), release))
        while len(self.kept) > self.most:
            self.let_go()

    def let_go(self) -> None:
        view, data, release = self.kept.pop(0)
        assert view == data
        release()


@dataclass
class _InFile(_Kept):
    """Takes bytes into a file as well; what was written there is given to it in order."""

    written: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.there: dict[int, bytes] = {}

    @property
    def file(self) -> RandomAccess:
        return self

    def write_at(self, view: memoryview, at: int) -> None:
        self.written.append(at)
        self.there[at] = bytes(view)

    def read_at(self, view: memoryview, at: int) -> None:
        start = max(each for each in self.there if each <= at)
        view[:] = self.there[start][at - start :][: len(view)]

    def pass_written(self, at: int, size: int) -> None:
        buffer = memoryview(bytearray(size))
        self.read_at(buffer, at)
        assert len(self.taken) == at
        self.taken += buffer


def _received(source: _Object, taker: _Kept | None = None, **more: Any) -> bytes:
    before, taker = threading.active_count(), taker or _Kept()
    receive(source, taker, **more)
    while taker.kept:
        taker.let_go()
    _wait_for_threads(before)
    return bytes(taker.taken)


def _far() -> ServerState:
    state = ServerState()
    state.saw_latency(0.05)
    return state


class _Counted(_Object):
    """Counts how many requests are under way at once."""

    now = most = 0

    def blocks(
        self, start: int = 0, stop: int | None = None, *, lend: Callable[[], memoryview] | None = None
    ) -> Generator[memoryview]:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
        try:
            yield from super().blocks(start, stop, lend=lend)
        finally:
            with self._lock:
                self.now -= 1


@pytest.mark.parametrize("connections", [1, 2, 3, 8])
@pytest.mark.parametrize("known", [True, False])
def test_settings_bound_the_connections_of_one_read(known: bool, connections: int) -> None:
    """Whether it begins in ranges or beside a late first answer, and though a range stalls."""
    stalled = [True]

    def act(asked: _Asked, position: int) -> None:
        if not position and not known:
            time.sleep(0.1)  # so far away is the server
        elif position == asked.start + MIB and position > 20 * MIB and stalled and stalled.pop():
            asked.cancelled.wait(2.0)

    settings = TransferSettings(connections=connections, memory=64 * MIB)
    source = _Counted(BIG * 3, act, server=_far() if known else ServerState(), settings=settings)
    assert _received(source) == BIG * 3
    assert 1 <= source.most <= connections
    if connections == 1:
        assert [(each.start, each.stop) for each in source.asked] == [(0, None)]
    elif known:
        assert len(source.asked) > 1


def test_settings_bound_the_memory_of_one_read() -> None:
    """What is on its way, and what waits to be taken; a quarter of the smallest is for the blocks of one connection."""
    for memory in (16 * MIB, 64 * MIB, 256 * MIB):
        plan = plan_for(1 << 30, _far(), settings=TransferSettings(memory=memory))
        assert plan is not None
        assert plan.memory + range_plan.BESIDE <= memory
    assert plan_for(1 << 30, _far(), settings=TransferSettings(connections=1)) is None


def test_a_server_nearby_is_read_over_one_connection() -> None:
    """As long as that brings enough, it costs the least."""
    source = _Object(BIG * 3)
    assert _received(source, clock=lambda: 0.0) == BIG * 3
    assert [(each.start, each.stop) for each in source.asked] == [(0, None)]


def test_the_beginning_of_a_large_object_is_asked_for_first() -> None:
    """And nearby the rest by one more request, once it has come."""
    source = _Object(BIG * 6)
    assert _received(source, clock=lambda: 0.0) == BIG * 6
    assert [(each.start, each.stop) for each in source.asked] == [(0, 8 * MIB), (8 * MIB, None)]


@pytest.mark.usefixtures("nothing_late")
@pytest.mark.parametrize("late", [True, False])
def test_nothing_of_a_large_object_is_asked_for_twice(late: bool) -> None:
    """Whether the first answer is late, or the connection slow: ranges begin behind what it has asked for."""
    now, others = [0.0], threading.Event()

    def act(asked: _Asked, position: int) -> None:
        if asked.number:
            others.set()
        elif position == (0 if late else 4 * MIB):
            assert others.wait(60)

    def carry(asked: _Asked) -> None:
        if not asked.number:
            now[0] += 0.0 if late else 0.01

    source = _Object(BIG * 6, act, carry)
    assert _received(source, clock=time.perf_counter if late else lambda: now[0]) == BIG * 6
    ends = sorted((each.start, each.stop) for each in source.asked)
    assert ends[0] == (0, 8 * MIB)
    assert [stop for _, stop in ends] == [start for start, _ in ends[1:]] + [len(BIG) * 6]
    assert all(each.brought == (each.stop or 0) - each.start for each in source.asked)


def test_a_large_object_of_a_server_without_ranges_is_asked_for_as_a_whole() -> None:
    """It refuses the beginning, or answers with something else."""

    def act(asked: _Asked, _position: int) -> None:
        if asked.stop is not None:
            raise StoreError("no ranges here")

    source = _Object(BIG * 6, act)
    assert _received(source, clock=lambda: 0.0) == BIG * 6
    assert [(each.start, each.stop) for each in source.asked] == [(0, 8 * MIB), (0, None)]


def test_where_the_first_answer_is_late_the_others_do_not_wait_for_it() -> None:
    """The size and the version stand in the pointer; nothing has to be learned."""
    others = threading.Event()

    def act(asked: _Asked, position: int) -> None:
        if asked.number == 0 and position == 0:
            assert others.wait(60)
        elif asked.number:
            others.set()

    source = _Object(BIG * 3, act)
    assert _received(source) == BIG * 3
    assert len(source.asked) > 2


def test_without_a_version_the_first_answer_is_waited_for() -> None:
    """Ranges of an object that is not held to one could be of two."""
    now, looks, others = [0.0], [0], threading.Event()

    def clock() -> float:
        looks[0] += 1
        return now[0]

    def act(asked: _Asked, position: int) -> None:
        if asked.number == 0 and position == 0:
            now[0], looks[0] = 3600.0, 0
            while looks[0] < 5:  # until it has been seen to be late
                time.sleep(0.01)
            assert len(source.asked) == 1
            source.version_known = True
        elif asked.number:
            others.set()
        elif position >= 4 * MIB:
            assert others.wait(60)

    source = _Object(BIG * 3, act, version_known=False)
    assert _received(source, clock=clock) == BIG * 3
    assert len(source.asked) > 1


@pytest.mark.parametrize("size", [MIB, 2 * MIB - 1])
def test_one_block_is_one_request_wherever_the_server_is(size: int) -> None:
    """A second connection could bring nothing."""
    source = _Object(BIG[:size], server=_far())
    assert _received(source) == BIG[:size]
    assert len(source.asked) == 1


def test_a_slow_connection_gets_company() -> None:
    """20 MB/s by this clock: once a block has shown it, the rest comes in ranges, and each byte is asked for once."""
    now = [0.0]

    def act(asked: _Asked, _position: int) -> None:
        if asked.stop is None:
            now[0] += 0.05

    source = _Object(BIG * 3, act)
    assert _received(source, clock=lambda: now[0]) == BIG * 3
    first, *ranges = source.asked
    assert ranges
    assert first.start + first.brought < len(BIG) * 2


def test_waiting_for_the_consumer_makes_no_connection_slow() -> None:
    """A buffer takes a second each, by this clock; a block nothing."""
    now = [0.0]

    class _Slow(_Kept):
        def lend(self) -> memoryview:
            now[0] += 1.0
            return super().lend()

    source = _Object(BIG * 3)
    assert _received(source, _Slow(), clock=lambda: now[0]) == BIG * 3
    assert len(source.asked) == 1


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("stops_at", [0, 2 * MIB])
def test_one_connection_that_stops_is_overtaken_and_ended(stops_at: int, in_place: bool) -> None:
    """Before its first byte or in the middle; from there on the rest comes in ranges."""

    def act(asked: _Asked, position: int) -> None:
        if asked.number == 0 and position == stops_at:
            assert asked.cancelled.wait(60)

    source = _Object(BIG * 3, act)
    assert _received(source, _Kept(in_place=in_place)) == BIG * 3
    assert source.asked[0].brought == stops_at


def test_what_comes_before_its_turn_goes_to_the_file() -> None:
    """A connection takes one block of memory, so little memory holds back no range: all come while the first waits."""
    others = threading.Semaphore(0)

    def act(asked: _Asked, position: int) -> None:
        if asked.start == 0 and position == 0:
            for _ in range(10):
                assert others.acquire(timeout=60)
        elif asked.start and position == asked.start + 4 * MIB:
            others.release()

    source, taker = _Object(BIG * 16, act, server=_far()), _InFile()
    limited = process_budget.process_budget().grant(232 * MIB, 1)
    assert _received(source, taker) == BIG * 16
    limited.release()
    assert len(taker.written) > 10 * 4
    assert len(set(taker.written)) == len(taker.written)


def test_of_two_requests_for_one_range_one_writes_each_block() -> None:
    """Whoever comes late with a block has nothing to write, and what a request that has lost brings goes nowhere."""

    def act(asked: _Asked, position: int) -> None:
        if asked.number == 2 and position > asked.start:
            assert asked.cancelled.wait(60)

    source, taker = _Object(BIG * 8, act, server=_far()), _InFile()
    source.server.download_rate = 200e6
    assert _received(source, taker) == BIG * 8
    assert len(set(taker.written)) == len(taker.written)


def test_what_a_write_raises_ends_the_read() -> None:
    """A full disk, for example, in whichever thread it is found."""

    class _Full(_InFile):
        def write_at(self, *_: object) -> None:
            raise OSError(errno.ENOSPC, "full")

    before = threading.active_count()
    with pytest.raises(OSError, match="full"):
        receive(_Object(BIG * 8, server=_far()), _Full())
    _wait_for_threads(before)


def test_a_range_that_hangs_is_asked_for_again_from_where_it_stands() -> None:
    """The faster request wins, the other is ended; what it writes at last goes nowhere."""

    def act(asked: _Asked, position: int) -> None:
        if asked.number == 1 and position > asked.start:
            assert asked.cancelled.wait(60)

    source = _Object(BIG * 8, act, server=_far())
    source.server.download_rate = 200e6
    assert _received(source) == BIG * 8
    hung = source.asked[1]
    again = [each for each in source.asked if each is not hung and each.stop == hung.stop]
    assert [each.start for each in again] == [hung.start + hung.brought]
    assert hung.cancelled.is_set()


def test_nothing_is_asked_for_twice_of_a_server_that_asks_for_less() -> None:
    """More requests are what it needs least."""
    gate = threading.Event()
    released = threading.Timer(0.5, gate.set)

    def act(asked: _Asked, position: int) -> None:
        if asked.number == 1 and position > asked.start:
            assert gate.wait(60)

    source = _Object(BIG * 8, act, server=_far())
    source.server.pace.refused()
    released.start()
    assert _received(source) == BIG * 8
    starts = [each.start for each in source.asked]
    assert len(set(starts)) == len(starts)


def test_a_proxy_that_holds_all_but_a_few_connections_is_read_with_those() -> None:
    """Requests that are never answered are asked for again on connections that work, however many they are."""
    answers = threading.Semaphore(2)

    def act(asked: _Asked, position: int) -> None:
        if position == asked.start and threading.current_thread() not in works:
            if not answers.acquire(blocking=False):
                assert asked.cancelled.wait(60)
            else:
                works.add(threading.current_thread())

    works: set[threading.Thread] = set()
    source = _Object(BIG * 8, act, server=_far())
    assert _received(source) == BIG * 8


def test_an_interrupted_reader_waits_for_nobody() -> None:
    """What is under way is ended; threads that hang in a request are left behind, and end once it does."""
    before = threading.active_count()
    gate = threading.Event()

    def act(asked: _Asked, _position: int) -> None:
        if asked.start:
            gate.wait(60)

    class _Interrupted(_Kept):
        def pass_on(self, *_: object) -> None:
            raise KeyboardInterrupt

    source = _Object(BIG * 3, act, server=_far())
    with pytest.raises(KeyboardInterrupt):
        receive(source, _Interrupted())
    gate.set()
    _wait_for_threads(before)
    assert all(each.cancelled.is_set() for each in source.asked[1:] if not each.brought)


@dataclass(frozen=True)
class _Fate:
    """What becomes of one request: how many blocks it brings, and then."""

    kind: str
    blocks: int


_FATES = st.builds(
    _Fate, st.sampled_from(["whole", "whole", "whole", "waits", "breaks", "hangs", "fails"]), st.integers(0, 3)
)


def _acting(fates: list[_Fate], seed: int) -> Callable[[_Asked, int], None]:
    chance = random.Random(seed)

    def act(asked: _Asked, position: int) -> None:
        fate = fates[asked.number] if asked.number < len(fates) else _Fate("whole", 0)
        time.sleep(chance.random() / 2000)
        if (position - asked.start) // MIB < fate.blocks or fate.kind == "whole":
            return
        if fate.kind == "waits":
            asked.cancelled.wait(chance.random() / 20)
        elif fate.kind == "breaks":
            raise StoreUnavailableError("broke")
        elif fate.kind == "hangs":
            if not asked.cancelled.wait(0.3):
                raise StoreUnavailableError("nothing came")
        elif fate.kind == "fails":
            raise ArtifactChangedError("changed")

    return act


@settings(deadline=None)
@given(
    fates=st.lists(_FATES, max_size=12),
    size=st.integers(1, 24 * MIB),
    far=st.booleans(),
    taker=st.sampled_from([_Kept(), _Kept(in_place=True), _InFile()]),
    memory=st.sampled_from([0, 256 * MIB]),
    seed=st.integers(0, 1 << 20),
)
def test_whatever_becomes_of_the_requests_it_is_the_object_or_an_error(  # noqa: PLR0913, PLR0917 - what is drawn
    fates: list[_Fate], size: int, far: bool, taker: _Kept, memory: int, seed: int
) -> None:
    """Any order in which ranges end, lose, break and fail gives exactly the object's bytes, or raises what failed."""
    data = (BIG * 4)[:size]
    source = _Object(data, _acting(fates, seed), server=_far() if far else ServerState())
    others = process_budget.process_budget().grant(memory, 64)
    before = threading.active_count()
    taker = replace(taker, taken=bytearray(), kept=[])
    failed: StoreError | None = None
    try:
        receive(source, taker)
    except StoreError as error:
        failed = error
    if failed is None:
        assert taker.taken == data
    else:
        assert isinstance(failed, StoreUnavailableError | ArtifactChangedError)
        assert {each.kind for each in fates} & {"breaks", "hangs", "fails"}
    while taker.kept:
        taker.let_go()
    others.release()
    _wait_for_threads(before)
