"""Files and streams as sources: what must hold for the bytes read to be the file's."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stepout.schemas.errors import ArtifactChangedError

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class FileState:
    """What changes when a file is written to or replaced."""

    size: int
    modified: int
    """Nanoseconds."""
    device: int
    inode: int


def _state(found: os.stat_result) -> FileState:
    return FileState(size=found.st_size, modified=found.st_mtime_ns, device=found.st_dev, inode=found.st_ino)


def file_state(descriptor: int) -> FileState:
    """Return the state of an open file."""
    return _state(os.fstat(descriptor))


def is_regular(descriptor: int) -> bool:
    """Say whether this is a file proper, not a pipe or a device."""
    return stat.S_ISREG(os.fstat(descriptor).st_mode)


def check_still(path: Path, before: FileState, descriptor: int) -> None:
    """Compare an open file that announced no size with what it was before; pipes and devices may do as they like.

    Raises:
        ArtifactChangedError: It grew while it was read.
    """
    if is_regular(descriptor) and file_state(descriptor).size != before.size:
        raise ArtifactChangedError(f"{path} was empty and grew while it was read. Nothing was stored")


def check_unchanged(path: Path, before: FileState, descriptor: int, read: int) -> None:
    """Compare a file after it was read with what it was before.

    Args:
        path: Its name, which must still lead to the same file.
        before: Its state when it was opened.
        descriptor: The open file.
        read: How many bytes were read from it.

    Raises:
        ArtifactChangedError: It grew, shrank, was written to, replaced or removed.
    """
    if read != before.size:
        raise ArtifactChangedError(
            f"{path} changed while it was read: expected {before.size:,} bytes, got {read:,}. Nothing was stored"
        )
    try:
        named = _state(path.stat())
    except FileNotFoundError as error:
        raise ArtifactChangedError(f"{path} was removed while it was read. Nothing was stored") from error
    if file_state(descriptor) != before or named != before:
        raise ArtifactChangedError(f"{path} was written to or replaced while it was read. Nothing was stored")


def read_into(source: Any, room: memoryview) -> int:
    """Read the next bytes of a binary file object into ``room`` and return how many; 0 at the end.

    Raises:
        BlockingIOError: The stream does not block, and has nothing to give now.
        OSError: It gives more than it was asked for.
        TypeError: It gives text.
    """
    if hasattr(source, "readinto"):
        count = source.readinto(room)
    else:
        data = source.read(len(room))
        if isinstance(data, str):
            raise TypeError("the stream gives text; open it in binary mode")
        count = None if data is None else len(data)
        if count is not None and count > len(room):
            raise OSError(f"the stream was asked for {len(room):,} bytes and gave {count:,}; its read(n) is at fault")
        if count:
            room[:count] = data
    if count is None:
        raise BlockingIOError("the stream does not block and has nothing to give; pass one that blocks")
    return int(count)


class Bounded:
    """A file up to one byte beyond its announced size: enough to see that it grows, without following it.

    Args:
        source: The file.
        size: Its announced size.
    """

    def __init__(self, source: Any, size: int) -> None:
        self._source = source
        self._left = size + 1

    def readinto(self, room: memoryview) -> int:
        """Read into ``room``, within the bound."""
        count: int = self._source.readinto(room[: self._left])
        self._left -= count
        return count


def byte_view(data: Any) -> memoryview:
    """Return a flat view of a buffer's bytes; only a buffer with gaps is copied.

    >>> len(byte_view(memoryview(bytes(8)).cast("d")))
    8
    """
    view = memoryview(data)
    return view.cast("B") if view.c_contiguous and view.nbytes else memoryview(view.tobytes())
