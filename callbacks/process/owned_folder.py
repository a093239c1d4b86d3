"""Temporary folders with a lock that shows whether their owner still lives: a later process removes a dead one's.

A killed process cannot remove its folder, but the kernel releases its locks: flock(2).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOCK: Final = ".owner"


@contextlib.contextmanager
def owned_folder(prefix: str, place: str | None = None) -> Iterator[Path]:
    """Make a folder that only this user may read, lock it while this process lives, and remove it in the end.

    Folders with the same prefix in the same place whose owners were killed are removed first.

    Args:
        prefix: The beginning of the folder's name.
        place: The parent folder; by default, that of temporary files.

    Raises:
        OSError: The folder cannot be made.
    """
    with tempfile.TemporaryDirectory(prefix=prefix, dir=place, ignore_cleanup_errors=True) as name:
        folder = Path(name)
        remove_abandoned(prefix, folder.parent)
        lock = _locked(folder)
        try:
            yield folder
        finally:
            if lock is not None:
                os.close(lock)


def remove_abandoned(prefix: str, place: Path) -> list[Path]:
    """Remove the folders whose locks are free: their owners are dead. A folder without a lock stays, as it may be new.

    Args:
        prefix: The beginning of the folders' names.
        place: The parent folder.

    Returns:
        The removed folders.
    """
    removed = []
    with contextlib.suppress(OSError):
        for folder in place.glob(f"{prefix}*"):
            lock = _free_lock(folder)
            if lock is not None:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(lock)  # Only now: while the lock is held, no other process removes the same folder.
                removed.append(folder)
    return removed


def _locked(folder: Path) -> int | None:
    """Lock a new folder; the lock file gets its name once the lock is held. ``None`` if the system has no flock."""
    with contextlib.suppress(ImportError, OSError):
        import fcntl

        new = folder / f"{_LOCK}.new"
        lock = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            new.rename(folder / _LOCK)
        except OSError:
            os.close(lock)
            raise
        return lock
    return None


def _free_lock(folder: Path) -> int | None:
    """Take the lock of this user's folder if no process holds it; ``None`` otherwise."""
    with contextlib.suppress(ImportError, OSError):
        import fcntl

        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():  # Other users may write in /tmp, too.
            return None
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_NOFOLLOW)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise
        return lock
    return None
