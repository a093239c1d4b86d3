"""Files and streams as sources: what must hold for the bytes read to be the file's."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stepout.schemas.errors import ArtifactChangedError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["FileState", "check_unchanged", "file_state", "read_into", "regular_size"]


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


def regular_size(descriptor: int) -> int | None:
    """Return the size of a regular file; ``None`` for pipes, devices and files of ``/proc``, which say 0."""
    found = os.fstat(descriptor)
    return found.st_size if stat.S_ISREG(found.st_mode) and found.st_size else None


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
        TypeError: It gives text.
    """
    if hasattr(source, "readinto"):
        count = source.readinto(room)
    else:
        data = source.read(len(room))
        if isinstance(data, str):
            raise TypeError("the stream gives text; open it in binary mode")
        count = None if data is None else len(data)
        if count:
            room[:count] = data
    if count is None:
        raise BlockingIOError("the stream does not block and has nothing to give; pass one that blocks")
    return int(count)
