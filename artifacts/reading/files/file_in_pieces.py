"""A file that is written as its bytes come: in order, or each piece where it belongs, and then read again in order."""

from __future__ import annotations

import os
import threading
from collections import deque
from typing import TYPE_CHECKING

from stepout.artifacts.reading.files.preallocation import preallocate

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from stepout.artifacts.transfer.stages import RandomAccess


class FileInPieces:
    """Writes one view after another; space is set aside with the first.

    Not earlier: by then the object has been found to have the size that the document says, which is no reason to fill
    a disk. What was read again by ``read_at`` is there already, and is not written again.

    Whoever takes the views in order verifies them, so what was taken stays as it is: a piece of another answer, which
    comes late, is not written there.

    Leaving its ``with`` block waits for pieces that other threads write, and refuses all that come later: the number of
    a file that is closed may soon be another file's.

    Args:
        file: Open for reading and writing, and empty.
        size: How large it will be, in bytes.
        count: Called with each view's size when it is its turn.
    """

    def __init__(self, file: int, size: int, count: Callable[[int], None] | None) -> None:
        self._file, self._count = file, count
        self._unallocated: int | None = size
        self._at = 0
        self._there: deque[int] = deque()
        self._condition = threading.Condition()
        self._writing: list[int] = []
        self._taken = 0
        self._closed = False

    @property
    def random_access(self) -> RandomAccess | None:
        """Itself; ``None`` where a file has one position for all threads (Windows, macOS before 11)."""
        return self if hasattr(os, "preadv") else None

    def __enter__(self) -> FileInPieces:  # noqa: PYI034 - nothing inherits from it
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._condition:
            self._closed = True
            self._condition.wait_for(lambda: not self._writing)

    def __call__(self, view: memoryview) -> None:
        """Take the next bytes in order."""
        if self._unallocated is not None:
            preallocate(self._file, self._unallocated)
            self._unallocated = None
        self._take_up_to(self._at + len(view))
        if self._there and self._there[0] == self._at:
            self._there.popleft()
            os.lseek(self._file, len(view), os.SEEK_CUR)
        else:
            written = 0
            while written < len(view):
                written += os.write(self._file, view[written:])
        self._at += len(view)
        if self._count is not None:
            self._count(len(view))

    def write_at(self, view: memoryview, at: int) -> None:
        """Write a view from byte ``at`` on, in any thread: what was not taken by then, and nothing once it was left."""
        with self._condition:
            if self._closed:
                return
            written = min(max(self._taken - at, 0), len(view))
            self._writing.append(at)
        try:
            while written < len(view):
                written += os.pwrite(self._file, view[written:], at + written)
        finally:
            with self._condition:
                self._writing.remove(at)
                self._condition.notify_all()

    def read_at(self, view: memoryview, at: int) -> None:
        """Fill all of a view from byte ``at`` on, with what ``write_at`` wrote; it is the next to be taken in order."""
        self._take_up_to(at + len(view))
        self._there.append(at)
        read = 0
        while read < len(view):
            count = os.preadv(self._file, [view[read:]], at + read)
            if not count:
                msg = f"the file that is being written has become shorter: it ends before byte {at + len(view):,}"
                raise OSError(msg)
            read += count

    def _take_up_to(self, stop: int) -> None:
        """Let nobody else write before ``stop`` any more, and wait for those who do."""
        with self._condition:
            self._taken = max(self._taken, stop)
            self._condition.wait_for(lambda: all(at >= stop for at in self._writing))
