"""One budget a process: what is granted, that everything comes back, and what many transfers at once take."""

from __future__ import annotations

import gc
import os
import threading
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.forked_child import begin_child, exit_code
from support.shelf import ALLOW, BreakingStore

from stepout.artifacts import ArtifactManager, MemoryStore, TransferSettings
from stepout.artifacts.process import budget as process_budget
from stepout.artifacts.process.budget import LEAST_CONNECTIONS, LEAST_MEMORY, ProcessBudget, Share
from stepout.artifacts.reading.read_many import read_many
from stepout.artifacts.resolve import resolve_artifact
from stepout.artifacts.store import ConflictError
from stepout.artifacts.store_writes import PartReceipt, StoreProfile, WriteOptions, Written
from stepout.artifacts.transfer import parallel_get, plan
from stepout.artifacts.transfer.buffer_pool import BufferPool
from stepout.artifacts.transfer.plan import MIB
from stepout.artifacts.transfer.range_plan import RangePlan
from stepout.artifacts.transfer.upload import Upload
from stepout.artifacts.transfer.worker_pool import work_through
from stepout.schemas.errors import ArtifactExistsError, StoreError, StoreUnavailableError
from stepout.schemas.many_failed import ManyFailedError
from stepout.schemas.runtime.process import PerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from support.shelf import Shelf

THREADS = 16
NOTHING = Share(0, 0)


@pytest.fixture(autouse=True)
def budget(monkeypatch: pytest.MonkeyPatch) -> ProcessBudget:
    """The budget of a process in which nothing has been transferred yet."""
    held = PerProcess(lambda: ProcessBudget(256 * MIB))
    monkeypatch.setattr(process_budget, "_BUDGET", held)
    return held.get()


# Grants ---------------------------------------------------------------------------------------------------------------

_ASKED = st.tuples(st.integers(0, 600), st.integers(1, 300), st.integers(0, 40))


@given(steps=st.lists(st.one_of(_ASKED, st.integers(0, 20)), max_size=25))
def test_any_sequence_of_grants_keeps_to_what_is_free_or_the_floor(steps: list[Any]) -> None:
    """None is more than was asked for or less than its floor; beyond the whole there are floors only; all come back."""
    budget = ProcessBudget(256 * MIB, 64)
    held: list[Any] = []
    for step in steps:
        before = budget.taken
        if isinstance(step, tuple):
            memory, connections, least = step[0] * MIB, step[1], min(step[2], step[0]) * MIB
            grant = budget.grant(memory, connections, least=least)
            held.append(grant)
            floor = min(memory, max(least, LEAST_MEMORY))
            assert floor <= grant.memory <= memory
            assert min(connections, LEAST_CONNECTIONS) <= grant.connections <= connections
            assert grant.memory == min(memory, max(floor, max(256 * MIB, memory) - before.memory))
            assert budget.taken == (before.memory + grant.memory, before.connections + grant.connections)
            if before == NOTHING:
                assert (grant.memory, grant.connections) == (memory, connections)
        elif step < len(held):
            grant = held.pop(step)
            grant.release()
            grant.release()
            assert budget.taken == (before.memory - grant.memory, before.connections - grant.connections)
    for grant in held:
        grant.release()
    assert budget.taken == NOTHING


def test_a_grant_grows_by_what_is_free_besides_its_own() -> None:
    """What it holds counts as free for itself, and it never shrinks."""
    budget = ProcessBudget(256 * MIB, 64)
    first, _second = budget.grant(13 * MIB, 1), budget.grant(200 * MIB, 60)
    first.raise_to(64 * MIB, 10)
    assert (first.memory, first.connections) == (56 * MIB, 4)
    first.raise_to(20 * MIB, 1)
    assert (first.memory, first.connections) == (56 * MIB, 4)
    first.raise_to(90 * MIB, 10, least=80 * MIB)
    assert (first.memory, first.connections) == (80 * MIB, 4)


def test_the_garbage_collector_may_give_back_while_another_grant_is_made() -> None:
    """Giving back takes no lock, which the interrupted thread may hold; a signal's handler does the same."""
    budget = ProcessBudget()
    lost = budget.grant(MIB, 1)

    class Interrupted:
        def __lt__(self, other: object) -> bool:
            lost.release()  # in the middle of take(), as a handler would
            return False

        __gt__ = __le__ = __ge__ = __lt__

    done = threading.Event()

    def ask() -> None:
        budget.grant(Interrupted(), 1).release()  # type: ignore[arg-type]
        done.set()

    threading.Thread(target=ask, daemon=True).start()
    assert done.wait(60)
    assert budget.taken == NOTHING


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_has_a_budget_of_its_own(budget: ProcessBudget) -> None:
    """What the parent's transfers hold is not taken in the child, and what the child gives back is not the parent's."""
    grant = budget.grant(200 * MIB, 60)

    def grant_there() -> int:
        here = process_budget.process_budget()
        alone = here.grant(256 * MIB, 64)
        fine = here is not budget and (alone.memory, alone.connections) == (256 * MIB, 64)
        grant.release()
        return 0 if fine and here.taken == (256 * MIB, 64) else 1

    assert exit_code(begin_child(grant_there)) == 0
    assert process_budget.process_budget() is budget
    assert budget.taken == (200 * MIB, 60)


# Many at once ---------------------------------------------------------------------------------------------------------


class _Gate(MemoryStore):
    """Keeps nothing, and answers the first parts of so many uploads only once all of them are there."""

    def __init__(self, at_once: int, profile: StoreProfile | None = None) -> None:
        super().__init__("sink", profile=profile)
        self.most = self._now = 0
        self.sizes: list[int] = []
        self._counting = threading.Lock()
        self._barrier = threading.Barrier(at_once)

    def pause(self, number: int) -> None:
        """Wait until all uploads are there."""
        if number == 1:
            self._barrier.wait(60)

    def put_part(self, *names: Any, checksum: str) -> PartReceipt:
        """Take a part."""
        body: Sequence[memoryview] = names[3]
        with self._counting:
            self._now += 1
            self.most = max(self.most, self._now)
        self.pause(names[2])
        size = sum(map(len, body))
        with self._counting:
            self._now -= 1
            self.sizes.append(size)
        return PartReceipt(number=names[2], etag="e", size=size, checksum=checksum)

    def complete_upload(self, *_: Any, **__: Any) -> Written:
        """Take everything."""
        return Written(etag="e", version_id=None)


@pytest.fixture
def pools(monkeypatch: pytest.MonkeyPatch) -> list[BufferPool]:
    """Every pool of buffers that uploads make, in the end with all that it was extended to."""
    found: list[BufferPool] = []

    def noted(memory: int) -> BufferPool:
        found.append(BufferPool(memory))
        return found[-1]

    monkeypatch.setattr("stepout.artifacts.transfer.upload.BufferPool", noted)
    return found


def _in_threads(act: Any, count: int = THREADS) -> None:
    failures: list[BaseException] = []

    def run(number: int) -> None:
        try:
            act(number)
        except BaseException as error:  # noqa: BLE001 - raised below
            failures.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def _mapped(pools: list[BufferPool]) -> int:
    return sum(len(region) for pool in pools for region in pool._regions)


@pytest.mark.parametrize("known", [True, False])
def test_sixteen_writers_take_less_than_half_of_sixteen_times_the_memory(
    pools: list[BufferPool], budget: ProcessBudget, tmp_path: Path, known: bool
) -> None:
    """Files and streams: four get all that they ask for, the others what one can do with; none waits for another."""
    file, block = tmp_path / "file", bytes(MIB)
    file.touch()
    os.truncate(file, 60 * MIB)

    def put(manager: ArtifactManager, number: int) -> None:
        if known:
            manager.put_file(f"n{number}", file)
        else:
            with manager.open(f"n{number}") as writer:
                for _ in range(14):
                    writer.write(block)

    put(ArtifactManager(_Gate(1)), 99)
    alone = _mapped(pools)
    assert alone == 60 * MIB  # as ever: nothing else is going on
    assert budget.taken == NOTHING
    pools.clear()
    store = _Gate(THREADS)
    manager = ArtifactManager(store)
    _in_threads(lambda number: put(manager, number))
    floors = (THREADS - 4) * LEAST_MEMORY
    assert _mapped(pools) <= budget.whole.memory + floors < THREADS * alone / 2
    assert THREADS <= store.most <= budget.whole.connections + THREADS * LEAST_CONNECTIONS
    assert sum(store.sizes) == THREADS * (60 if known else 14) * MIB
    assert budget.taken == NOTHING


def test_less_memory_cuts_smaller_parts_and_loses_nothing(
    pools: list[BufferPool], budget: ProcessBudget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that would go in parts of 10 MiB with its 40 MiB of memory goes in parts of 5 with 16 of them."""
    monkeypatch.setattr(plan, "_SMALL_PARTS", 2)
    file, others = tmp_path / "file", budget.grant(256 * MIB, 64)
    file.touch()
    os.truncate(file, 40 * MIB + 1)
    assert plan.part_size_for(40 * MIB + 1, TransferSettings(memory=40 * MIB)) == 10 * MIB
    store = _Gate(1)
    done = Upload(store, "key", options=WriteOptions(), settings=TransferSettings(memory=40 * MIB)).send_file(file)
    assert done.size == sum(store.sizes) == 40 * MIB + 1
    assert set(store.sizes) == {5 * MIB, 1}
    assert _mapped(pools) <= 12 * MIB
    others.release()
    assert budget.taken == NOTHING


def test_a_stream_asks_again_when_its_parts_grow(
    pools: list[BufferPool], budget: ProcessBudget, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may become as long as its settings say, however little was free when it began."""
    monkeypatch.setattr(plan, "_SMALL_PARTS", 1)
    monkeypatch.setattr(plan, "_MIDDLE_PARTS", 2)
    others = budget.grant(256 * MIB, 64)
    store = _Gate(1)
    upload = Upload(store, "key", options=WriteOptions(), settings=TransferSettings(memory=48 * MIB))
    for _ in range(50):
        upload.write(bytes(MIB))
        assert budget.taken.memory <= 256 * MIB + plan.memory_for(24 * MIB)
    upload.commit()
    assert sorted(store.sizes) == [6 * MIB, 8 * MIB, 12 * MIB, 24 * MIB]
    assert _mapped(pools) == plan.pool_size(plan.memory_for(24 * MIB))
    others.release()
    assert budget.taken == NOTHING


def test_few_connections_take_64_mebibytes_of_more(pools: list[BufferPool]) -> None:
    """The server is near: four parts on their way, and the next ones, are all that it needs."""
    upload = Upload(_Gate(1), "key", options=WriteOptions(), settings=TransferSettings(memory=256 * MIB, connections=4))
    for _ in range(66):
        upload.write(bytes(MIB))
    upload.commit()
    assert _mapped(pools) == 60 * MIB


class _Far(_Gate):
    """It takes long to answer."""

    def start_upload(self, *names: Any, **options: Any) -> str:
        """Begin, after a while."""
        threading.Event().wait(0.1)
        return super().start_upload(*names, **options)


@pytest.mark.parametrize("known", [True, False])
def test_a_server_that_is_far_away_gets_the_memory_that_its_connections_need(
    pools: list[BufferPool], budget: ProcessBudget, tmp_path: Path, known: bool
) -> None:
    """As soon as that is known: a writer that waits for a buffer gets new ones before the first part is sent."""
    store, settings = _Far(1), TransferSettings(memory=256 * MIB)
    upload = Upload(store, "key", options=WriteOptions(), settings=settings)
    if known:
        file = tmp_path / "file"
        file.touch()
        os.truncate(file, 150 * MIB)
        upload.send_file(file)
    else:
        for _ in range(150):
            upload.write(bytes(MIB))
        upload.commit()
    assert 80 * MIB <= _mapped(pools) <= plan.pool_size(settings.memory)
    assert sum(store.sizes) == 150 * MIB
    assert budget.taken == NOTHING


def test_more_than_the_whole_is_granted_to_one_alone(pools: list[BufferPool]) -> None:
    """Who sets ``memory`` has said how much there is; and with so many connections it is needed."""
    settings = TransferSettings(memory=512 * MIB, connections=100)
    upload = Upload(_Gate(1), "key", options=WriteOptions(), settings=settings)
    for _ in range(66):
        upload.write(bytes(MIB))
    upload.commit()
    assert _mapped(pools) == 508 * MIB


def test_two_open_writers_of_one_thread_do_not_wait_for_each_other(budget: ProcessBudget) -> None:
    """Nor does a put inside the iterator of another: with nothing left, each goes on with the floor."""
    manager = ArtifactManager(MemoryStore("results"))
    others = budget.grant(256 * MIB, 64)
    with manager.open("one") as one, manager.open("two") as two:
        for _ in range(12):
            one.write(bytes(MIB))
            two.write(bytes(MIB))

    def values() -> Iterator[tuple[str, bytes]]:
        for number in range(3):
            with manager.open(f"inner{number}") as inner:
                inner.write(bytes(10 * MIB))
            yield f"outer{number}", bytes(number)

    manager.put_many(values())
    others.release()
    assert budget.taken == NOTHING
    assert len(manager.pointers) == 8


def test_a_put_inside_the_batches_of_a_table(budget: ProcessBudget) -> None:
    """A table whose batches put artifacts while they are made."""
    pa = pytest.importorskip("pyarrow")
    manager = ArtifactManager(MemoryStore("results"))
    others = budget.grant(256 * MIB, 64)

    def batches() -> Iterator[Any]:
        for number in range(3):
            manager.put_bytes(f"inner{number}", bytes(9 * MIB))
            yield pa.record_batch({"n": [number]})

    manager.put_table("outer", batches())
    manager.put_dataset("set", pa.table({"n": [1, 2], "p": ["a", "b"]}), partition_by=["p"])
    others.release()
    assert budget.taken == NOTHING


class _Pooled(_Gate):
    """Its client keeps three connections open, and parts take a while."""

    pooled = 3

    def pause(self, _number: int) -> None:
        """Hold the connection for a while, so that others are wanted beside it."""
        threading.Event().wait(0.02)


def test_a_transfer_keeps_to_the_connections_that_its_client_keeps_open(budget: ProcessBudget, tmp_path: Path) -> None:
    """Each request beside them would open one of its own, and close it."""
    file = tmp_path / "file"
    file.touch()
    os.truncate(file, 60 * MIB)
    store = _Pooled(1)
    Upload(store, "key", options=WriteOptions()).send_file(file)
    assert store.most <= 3
    assert budget.taken == NOTHING


# Threads --------------------------------------------------------------------------------------------------------------


def test_many_small_things_share_the_connections(budget: ProcessBudget) -> None:
    """Eight pools of 16 threads would be 128 requests at once; the budget has 64, and floors."""
    lock, now, most = threading.Lock(), 0, 0
    pause = threading.Event()

    def act(_item: int) -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        pause.wait(0.02)
        with lock:
            now -= 1

    def work(_number: int) -> None:
        assert sum(1 for _ in work_through(range(60), act, threads=16, weigh=lambda _: 1, memory=64 * MIB)) == 60

    _in_threads(work, 8)
    assert most <= budget.whole.connections + 8 * LEAST_CONNECTIONS
    assert budget.taken == NOTHING


def test_an_iterator_gives_back_when_it_is_closed_dropped_or_fails(budget: ProcessBudget) -> None:
    """And one that is never begun takes nothing."""

    def begun() -> Any:
        return work_through(iter(range(100)), lambda item: 1 // (item - 50), threads=4, weigh=lambda _: 1, memory=MIB)

    iterator = begun()
    assert budget.taken == NOTHING
    next(iterator)
    assert budget.taken == (MIB, 4)
    iterator.close()
    assert budget.taken == NOTHING
    iterator = begun()
    next(iterator)
    del iterator
    gc.collect()
    assert budget.taken == NOTHING
    assert sum(1 for done in begun() if done.error is not None) == 1
    assert budget.taken == NOTHING


def test_many_reads_and_writes_give_back(budget: ProcessBudget, shelf: Shelf) -> None:
    """With one that fails among them, and with a consumer that stops in the middle."""
    manager = ArtifactManager(MemoryStore("results"))
    with pytest.raises(ManyFailedError):
        manager.put_many({"good": b"1", "bad": object()})
    artifacts = {f"n{number}": shelf.artifact(bytes(number), f"{number}.bin") for number in range(9)}
    for _name, _data in read_many(artifacts):
        assert budget.taken.connections == 16
        break
    gc.collect()
    assert budget.taken == NOTHING
    assert len(dict(read_many(artifacts))) == 9
    assert budget.taken == NOTHING


# Ways out -------------------------------------------------------------------------------------------------------------


class _Failing(MemoryStore):
    """Takes the first part, and fails at the second."""

    def put_part(self, *names: Any, checksum: str) -> PartReceipt:
        """Fail, or take it."""
        if names[2] > 1:
            raise StoreError("broken")
        return super().put_part(*names, checksum=checksum)


class _Raced(MemoryStore):
    """Another writer is in the way of the first two completions."""

    tries = 0

    def complete_upload(self, *names: Any, **options: Any) -> Written:
        """Complete the third."""
        self.tries += 1
        if self.tries < 3:
            raise ConflictError("in the way")
        return super().complete_upload(*names, **options)


@pytest.mark.parametrize("fault", ["part", "body", "abort", "exists", "conflict", "drop", "file"])
def test_every_way_out_gives_back(budget: ProcessBudget, tmp_path: Path, fault: str) -> None:
    """A part that fails, an exception in the block, an abort, other content, a lost race, a file that goes, garbage."""
    store = {"part": _Failing, "conflict": _Raced}.get(fault, MemoryStore)("results")
    manager = ArtifactManager(store, layout="fixed")
    if fault in {"part", "body"}:
        with pytest.raises((StoreError, KeyError)), manager.open("x") as writer:  # noqa: PT012 - what is tested
            writer.write(bytes(20 * MIB))
            assert budget.taken.memory
            if fault == "body":
                raise KeyError
            writer.write(bytes(80 * MIB))
    elif fault == "abort":
        upload = Upload(store, "key", options=WriteOptions())
        upload.write(bytes(20 * MIB))
        upload.abort()
        upload.abort()
    elif fault == "exists":
        manager.put_bytes("x", bytes(20 * MIB))
        with pytest.raises(ArtifactExistsError):
            ArtifactManager(store, layout="fixed", run=manager.run).put_bytes("x", bytes(20 * MIB - 1))
    elif fault == "conflict":
        source = tmp_path / "file"
        source.write_bytes(bytes(20 * MIB))
        manager.put_file("x", source)
    elif fault == "drop":
        upload = Upload(store, "key", options=WriteOptions())
        upload.write(bytes(MIB))
        assert budget.taken.memory
        del upload
        gc.collect()
    else:
        with pytest.raises(FileNotFoundError):
            manager.put_file("x", tmp_path / "absent")
    assert budget.taken == NOTHING


def test_ranges_side_by_side_share_and_give_back(
    budget: ProcessBudget, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing is left, two connections and smaller ranges bring the same bytes; a failure gives back, too."""
    monkeypatch.setattr(parallel_get, "begins_in_ranges", lambda _: True)
    monkeypatch.setattr(parallel_get, "plan_for", lambda *_, **__: RangePlan(10, 4 * MIB))
    data = os.urandom(MIB) * 34
    store = BreakingStore(shelf.store, [])
    artifact = resolve_artifact(shelf.put(data), allow=ALLOW, client=store)
    seen: list[Share] = []
    store.before = lambda: seen.append(budget.taken)
    assert artifact.read_bytes() == data
    assert max(seen) == (48 * MIB, 10)
    others, seen[:] = budget.grant(256 * MIB, 64), []
    assert artifact.read_bytes() == data
    assert max(seen) == (256 * MIB + LEAST_MEMORY, 64 + LEAST_CONNECTIONS)
    others.release()
    assert budget.taken == NOTHING

    def away() -> None:
        raise StoreUnavailableError("gone")

    store.before = away
    with pytest.raises(StoreUnavailableError):
        artifact.read_bytes()
    assert budget.taken == NOTHING
