"""Temporary folders whose owner can be seen to be dead, so that whoever comes next removes what it left.

A process that is killed removes nothing. The kernel, however, lets go of its locks: flock(2).
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
    """Make a folder that only we may read, locked as long as this process lives, and remove it in the end.

    Folders with the same prefix in the same place whose owners were killed are removed first.

    Args:
        prefix: Of the folder's name.
        place: Where it is made; where temporary files go by default.

    Raises:
        OSError: It cannot be made.
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
    """Remove the folders of owners that are dead, as their locks show; one without a lock may be just being made.

    Args:
        prefix: Of the folders' names.
        place: Where they are.

    Returns:
        What was removed.
    """
    removed = []
    with contextlib.suppress(OSError):
        for folder in place.glob(f"{prefix}*"):
            lock = _free_lock(folder)
            if lock is not None:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(lock)  # Not before: two that remove at a time must not meet.
                removed.append(folder)
    return removed


def _locked(folder: Path) -> int | None:
    """Lock a new folder; its lock appears under its name when it is held. ``None`` where there are no such locks."""
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
    """Take the lock of a folder of ours that nobody holds any more."""
    with contextlib.suppress(ImportError, OSError):
        import fcntl

        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():  # Temporary places are everybody's.
            return None
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_NOFOLLOW)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise
        return lock
    return None
