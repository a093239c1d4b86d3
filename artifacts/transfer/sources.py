"""The sources of an upload: a file, with a check that it did not change while it was read, and bytes in memory.

``file_objects`` has the file objects of others.
"""

from __future__ import annotations

import mmap
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from stepout.schemas.errors import ArtifactChangedError

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self


_MAPPED: Final = 1 << 20
"""So many bytes get memory of their own: the allocator keeps what a thread gives back, and there are many threads."""


class ByteSource(Protocol):
    """Bytes that are read into buffers, in order, inside the source's ``with`` block."""

    @property
    def size(self) -> int | None:
        """The number of bytes that the source announces; ``None`` if it announces no number."""
        ...

    def readinto(self, room: memoryview, /) -> int:
        """Read the next bytes into ``room`` and return how many; 0 at the end."""
        ...

    def check(self, read: int) -> None:
        """Raise if the ``read`` bytes that the source gave up to its end cannot be its whole content."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...


@dataclass(frozen=True, kw_only=True)
class FileState:
    """What changes when a file is written to or replaced."""

    size: int
    modified: int
    """Nanoseconds."""
    device: int
    inode: int
    regular: bool
    """Whether it is a file proper, not a pipe or a device."""


def _state(found: os.stat_result) -> FileState:
    return FileState(
        size=found.st_size,
        modified=found.st_mtime_ns,
        device=found.st_dev,
        inode=found.st_ino,
        regular=stat.S_ISREG(found.st_mode),
    )


class FileSource:
    """A file that must not change while it is read; pipes and devices are read to their end. It may be entered again.

    Args:
        path: Its name, which must still lead to the same file once it has been read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)

    def __enter__(self) -> Self:
        self._file = self._path.open("rb", buffering=0)
        self._before = _state(os.fstat(self._file.fileno()))
        # Files of /proc have bytes but report size 0: a source without an announced size is read to its end.
        self.size = self._before.size if self._before.regular and self._before.size else None
        # One byte beyond the announced size is enough to see that a file grows, without following it.
        self._left = None if self.size is None else self.size + 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def readinto(self, room: memoryview, /) -> int:
        """Read the next bytes; see ``ByteSource``."""
        if self._left is None:
            return self._file.readinto(room) or 0  # opened here, so it blocks until there is something
        count = self._file.readinto(room[: self._left]) or 0
        self._left -= count
        return count

    def read(self) -> bytes | memoryview:
        """Return all bytes of a small file; of one that grows, one more than it announced, for ``check`` to see."""
        if self._left is None or self.size is None:
            return self._file.readall()
        if self.size >= _MAPPED:
            room, filled = memoryview(mmap.mmap(-1, self._left)), 0
            while count := self.readinto(room[filled:]):
                filled += count
            return room[:filled]
        data = self._file.read(self._left)
        # A file system across a network may give less at once.
        return data if len(data) >= self.size else data + self._file.readall()

    def check(self, read: int) -> None:
        """Compare the file with what it was when it was opened.

        Raises:
            ArtifactChangedError: It grew, shrank, was written to, replaced or removed.
        """
        now = _state(os.fstat(self._file.fileno()))
        if self.size is None:  # pipes and devices may do as they like
            if now.regular and now.size != self._before.size:
                raise ArtifactChangedError(f"{self._path} was empty and grew while it was read. Nothing was stored")
            return
        if read != self.size:
            raise ArtifactChangedError(
                f"{self._path} changed while it was read: expected {self.size:,} bytes, got {read:,}. "
                "Nothing was stored"
            )
        try:
            named = _state(self._path.stat())
        except FileNotFoundError as error:
            raise ArtifactChangedError(f"{self._path} was removed while it was read. Nothing was stored") from error
        if now != self._before or named != self._before:
            raise ArtifactChangedError(f"{self._path} was written to or replaced while it was read. Nothing was stored")


def byte_view(data: Any) -> memoryview:
    """Return a flat view of a buffer's bytes; only a buffer with gaps is copied.

    >>> len(byte_view(memoryview(bytes(8)).cast("d")))
    8
    """
    view = memoryview(data)
    return view.cast("B") if view.c_contiguous and view.nbytes else memoryview(view.tobytes())
