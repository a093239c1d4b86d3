"""Bytes pass through stages, each in a thread of its own, in reused buffers: while one block is hashed, the next comes.

SHA-256 is the dearest step of a verified read, and hashing, writing to a file and receiving all release the interpreter
lock; so the time of a download is that of its slowest stage, and none of them copies.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from queue import SimpleQueue

BLOCK: Final = 1 << 20
"""Bytes handed on at a time: large enough that the threads hardly meet, small enough to stay in the cache."""

SLOTS: Final = 8


class RandomAccess(Protocol):
    """Where bytes can be put in any order, in several threads, and read again: a file."""

    def write_at(self, view: memoryview, at: int) -> None:
        """Write all of a view from byte ``at`` on."""
        ...

    def read_at(self, view: memoryview, at: int) -> None:
        """Fill all of a view from byte ``at`` on, with what was written there."""
        ...


class Stage:
    """Calls a function with one view after another, in order, in a thread of its own.

    Args:
        take: Hashes or writes. Once it has raised, nothing more is given to it.
        then: Is given each view afterwards, in the same thread, and ``None`` at the end.
    """

    def __init__(
        self, take: Callable[[memoryview], object], then: Callable[[memoryview | None], object] = lambda _view: None
    ) -> None:
        from queue import SimpleQueue  # a cold read of something small has no stages

        self._take = take
        self._then = then
        self._views: SimpleQueue[memoryview | None] = SimpleQueue()
        self._error: BaseException | None = None
        # A daemon: a write into a file system that hangs must not keep a process from ending.
        self._thread = threading.Thread(target=self._run, name="stepout-verify", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def add(self, view: memoryview | None) -> None:
        """Queue the next bytes, which must not change before ``then`` is given them; ``None`` ends the thread."""
        self._views.put(view)

    def join(self) -> None:
        """Wait until everything has been taken and passed on."""
        if self._thread.ident is not None:
            self._thread.join()

    def check(self) -> None:
        """Raise what ``take`` raised, if it did."""
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        while (view := self._views.get()) is not None:
            if self._error is None:
                try:
                    self._take(view)
                except BaseException as error:  # noqa: BLE001 - raised in the thread that waits for it
                    self._error = error
            # Also after an error: the buffer goes back all the same, or the receiver would wait for it for ever.
            self._then(view)
        self._then(None)


class Pipeline:
    """A ring of buffers that travel from the receiver through every stage and back.

    Leaving the ``with`` block waits for what was added, and raises what a stage raised.

    Args:
        stages: What is done with each block, in this order; each runs beside the others.
        slots: How many blocks may be under way; the memory used, in MiB.
        file: Where bytes may be put before it is their turn.
    """

    def __init__(
        self, *stages: Callable[[memoryview], object], slots: int = SLOTS, file: RandomAccess | None = None
    ) -> None:
        from queue import SimpleQueue

        self.file = file
        self._free: SimpleQueue[memoryview] = SimpleQueue()
        self._unused = slots
        self._slot: memoryview | None = None
        self._releases: deque[Callable[[], None] | None] = deque()  # of the views under way, in their order
        self._stages: list[Stage] = []
        then: Callable[[memoryview | None], object] = self._give_back
        for take in reversed(stages):
            self._stages.insert(0, Stage(take, then))
            then = self._stages[0].add

    @property
    def in_place(self) -> bool:
        """What is lent is a buffer of the ring, not where the bytes stay."""
        return False

    def __enter__(self) -> Pipeline:  # noqa: PYI034 - nothing inherits from it
        try:
            for stage in self._stages:
                stage.start()
        except BaseException:  # no more threads here
            self._stages[0].add(None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._stages[0].add(None)
        for stage in self._stages:
            stage.join()
        # The last stage leads back here: in a circle the buffers would stay until the garbage collector comes by, which
        # counts objects, not their bytes.
        stages, self._stages = self._stages, []
        if kind is None:
            for stage in stages:
                stage.check()

    def lend(self) -> memoryview:
        """Return the buffer for the next block; the same one again until something was added.

        Raises:
            BaseException: What a stage raised.
        """
        if self._slot is None:
            self._slot = self._free_slot()
        return self._slot

    def add(self, view: memoryview) -> None:
        """Send the next bytes through; they are copied unless they lie in the buffer that was lent."""
        if self._slot is not None and view.obj is self._slot.obj:
            self._slot = None
            self._send(view, None)
            return
        for piece in _pieces(view):
            slot = self.lend()[: len(piece)]
            slot[:] = piece
            self._slot = None
            self._send(slot, None)

    def pass_written(self, at: int, size: int) -> None:
        """Send the next bytes through, no more than a block, which were written to the file already.

        Raises:
            BaseException: What a stage raised, or reading them.
        """
        assert self.file is not None  # noqa: S101 - who wrote them had it from here
        # Not in what was lent: a connection that was given up may still read into that.
        view = self._free_slot()[:size]
        self.file.read_at(view, at)
        self._send(view, None)

    def pass_on(self, view: memoryview, release: Callable[[], None]) -> None:
        """Send the next bytes through as they are; ``release`` is called behind the last stage.

        Raises:
            BaseException: What a stage raised.
        """
        self._send(view, release)
        self._check()

    def _free_slot(self) -> memoryview:
        """Return a buffer that nobody has, or raise what a stage raised."""
        if self._unused > 0:  # made as they are needed: where the stages keep up, two or three are
            self._unused -= 1
            slot = memoryview(bytearray(BLOCK))
        else:
            slot = self._free.get()
        self._check()
        return slot

    def _send(self, view: memoryview, release: Callable[[], None] | None) -> None:
        self._releases.append(release)
        self._stages[0].add(view)

    def _give_back(self, view: memoryview | None) -> None:
        if view is None:
            return
        release = self._releases.popleft()
        if release is None:
            self._free.put(memoryview(view.obj))
        else:
            release()

    def _check(self) -> None:
        for stage in self._stages:
            stage.check()


def _pieces(view: memoryview) -> Iterator[memoryview]:
    for start in range(0, len(view), BLOCK):
        yield view[start : start + BLOCK]
