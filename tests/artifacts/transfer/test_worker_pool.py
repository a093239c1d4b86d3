"""The threads behind ``put_many`` and ``read_many``: lazy, bounded, and never waited for in vain."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import TYPE_CHECKING

import pytest

from stepout.artifacts.process.budget import process_budget
from stepout.artifacts.transfer.worker_pool import work_through

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def test_every_item_is_acted_on_once() -> None:
    """Each item comes back once, with its result."""
    done = list(work_through(range(500), lambda number: number * 2, threads=7, weigh=lambda _number: 1, memory=1 << 20))
    assert sorted((each.item, each.result, each.error) for each in done) == [(n, 2 * n, None) for n in range(500)]


def test_one_thread_acts_first_and_others_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two items are done by one thread, which learns for all, before a second one begins; a few follow."""
    monkeypatch.setattr("stepout.artifacts.transfer.worker_pool._SLOW_SECONDS", 600.0)
    monkeypatch.setattr("stepout.artifacts.transfer.worker_pool._STILL_SECONDS", 600.0)
    together = threading.Barrier(3)

    def act(number: int) -> str:
        if number > 1:
            together.wait(60)
        return threading.current_thread().name

    done = work_through(range(5), act, threads=3, weigh=lambda _: 1, memory=100)
    names = {each.item: each.result for each in done}
    assert names[0] == names[1]
    assert len({names[2], names[3], names[4]}) == 3


def test_errors_come_back_beside_their_items() -> None:
    """An exception of one item is that item's, and the others go on."""

    def act(number: int) -> int:
        if number % 3 == 0:
            raise ValueError(number)
        return number

    done = list(work_through(range(30), act, threads=3, weigh=lambda _number: 1, memory=100))
    assert sorted(each.item for each in done if each.error is not None) == list(range(0, 30, 3))
    assert all(str(each.error) == str(each.item) for each in done if each.error is not None)


def test_items_are_taken_no_further_than_there_are_places() -> None:
    """With every thread busy, four items a thread have been taken and no more."""
    taken = 0
    gate = threading.Event()
    full = threading.Event()

    def items() -> Iterator[int]:
        nonlocal taken
        for number in range(100):
            taken += 1
            if taken == 8:
                full.set()
            yield number

    def act(number: int) -> int:
        assert gate.wait(60)
        return number

    found: list[int] = []
    running = threading.Thread(
        target=lambda: found.extend(
            each.item for each in work_through(items(), act, threads=2, weigh=lambda _number: 1, memory=1 << 20)
        )
    )
    running.start()
    assert full.wait(60)
    assert taken == 8
    gate.set()
    running.join(60)
    assert sorted(found) == list(range(100))


def test_what_is_under_way_weighs_no_more_than_the_memory() -> None:
    """A next item waits until those under way weigh less than the memory; one alone is always taken."""
    lock = threading.Lock()
    now = most = 0

    def act(_size: int) -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        with lock:
            now -= 1

    sizes = [60] * 50 + [1000] * 3
    done = list(work_through(sizes, act, threads=16, weigh=lambda size: size, memory=100))
    assert len(done) == len(sizes)
    assert most <= 2


def test_closing_the_iterator_begins_nothing_more() -> None:
    """A caller that stops early leaves no thread behind, and what had not begun never does."""
    acted: list[int] = []
    before = set(threading.enumerate())
    stream = work_through(iter(range(10_000)), acted.append, threads=2, weigh=lambda _number: 1, memory=1 << 20)
    next(stream)
    crew = set(threading.enumerate()) - before
    stream.close()
    for thread in crew:
        thread.join(60)
    assert not any(thread.is_alive() for thread in crew)
    assert len(acted) < 100


def test_an_exception_of_the_items_leaves_unchanged() -> None:
    """What the caller's iterator raises is the caller's to see, after what was yielded before."""

    def items() -> Iterator[int]:
        yield 1
        raise LookupError("no more rows")

    with pytest.raises(LookupError, match="no more rows"):
        list(work_through(items(), lambda number: number, threads=2, weigh=lambda _number: 1, memory=10))


def _meeting(threads: int) -> Callable[[int], int]:
    """Return what only returns once so many calls of it are under way at once."""
    together = threading.Barrier(threads)

    def act(number: int) -> int:
        together.wait(60)
        return number

    return act


@pytest.mark.parametrize("count", [16, 64, 200])
def test_slow_requests_get_all_threads(count: int) -> None:
    """Sixteen are under way at once, however few items there are, and though no first one has ended."""
    act = _meeting(16)
    items = range(count // 16 * 16)
    done = list(work_through(items, act, threads=16, weigh=lambda _number: 1, memory=1 << 20))
    assert sorted(each.item for each in done) == list(items)


@pytest.mark.parametrize("raised", [SystemExit(3), asyncio.CancelledError(), GeneratorExit()])
def test_what_is_no_exception_is_raised_by_the_caller(raised: BaseException) -> None:
    """A thread that ended so would be waited for without an end."""

    def act(number: int) -> int:
        if number == 5:
            raise raised
        return number

    with pytest.raises(type(raised)):
        list(work_through(range(20), act, threads=3, weigh=lambda _number: 1, memory=100))


def test_a_caller_that_raises_what_failed_gives_back_what_was_granted() -> None:
    """The threads hold no error, whose traceback would hold the iterator, and that the grant, for ever."""

    def fail(number: int) -> None:
        raise ValueError(number)

    def first() -> None:
        for done in work_through(range(100), fail, threads=4, weigh=lambda _number: 1, memory=1 << 20):
            if done.error is not None:
                raise done.error

    before = len(process_budget()._taken)
    with pytest.raises(ValueError, match=r"[0-9]"):
        first()
    gc.collect()
    assert len(process_budget()._taken) == before
