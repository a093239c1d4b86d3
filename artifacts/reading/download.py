"""``Artifact.download``: to a temporary file beside the target, verified, then renamed. Nothing half-written stays."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from stepout.artifacts.paths import path_fault
from stepout.artifacts.reading.pinned_object import PinnedObject, Verifier, drain
from stepout.artifacts.reading.preallocation import reserve
from stepout.schemas.errors import NotAllowedError, StepoutError

if TYPE_CHECKING:
    from stepout.artifacts.listing import Entry

Count = Callable[[int], None]
Fetch = Callable[["Entry", Path], object]


# Names, decided on values -----------------------------------------------------------------------------------------


def file_name(key: str) -> str:
    """Return the file name for a key: its last segment.

    Raises:
        NotAllowedError: That is no name for a file.
    """
    name = key.rpartition("/")[2]
    fault = path_fault(name)
    if fault is not None:
        msg = f"the key's last segment {name!r} is no file name ({fault}); pass download(path) a file name"
        raise NotAllowedError(msg)
    return name


def target_of(path: Path, key: str) -> Path:
    """Return where a file goes: into a folder under its own name, or exactly there."""
    return path / file_name(key) if path.is_dir() else path


# Files ------------------------------------------------------------------------------------------------------------


def download_file(source: PinnedObject, verifier: Verifier, target: Path, count: Count | None = None) -> Path:
    """Download an object, verify it, and put it at ``target`` in one step.

    Args:
        source: The object.
        verifier: What it is held against.
        target: Where it goes.
        count: Hears of each block's size when it is written.

    Returns:
        ``target``.

    Raises:
        ChecksumMismatchError: The bytes are not those that were written; the temporary file is gone.
        StoreError: As for ``PinnedObject.get``.
        OSError: The file could not be written (no such folder, full disk, …); the temporary file is gone.
    """
    with _named(target), _temporary_beside(target) as temporary:
        with _created(temporary) as file:
            drain(source, _Writer(file, source.pointer.size, count), verifier.update)
        verifier.finish()
        temporary.replace(target)
    return target


@contextmanager
def _named(target: Path) -> Iterator[None]:
    """Let an error of the file system name the target, not the temporary file, and not nothing (full disk)."""
    try:
        yield
    except OSError as error:
        # Some of ours are kinds of OSError; and what a rename says of both its names is right already.
        if not isinstance(error, StepoutError) and error.filename2 is None:
            error.filename = str(target)
        raise


@contextmanager
def _temporary_beside(target: Path) -> Iterator[Path]:
    temporary = target.with_name(f".stepout-{secrets.token_hex(8)}.part")
    try:
        yield temporary
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


@contextmanager
def _created(path: Path) -> Iterator[int]:
    """Create a file that was not there, with the mode that the process's umask gives every file."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
    file = os.open(path, flags | getattr(os, "O_CLOEXEC", 0), 0o666)
    try:
        yield file
    finally:
        os.close(file)


class _Writer:
    """Writes one view after another; space is set aside with the first.

    Not earlier: by then the object has been found to have the size that the document says, which is no reason to fill
    a disk.
    """

    def __init__(self, file: int, size: int, count: Count | None) -> None:
        self._file = file
        self._count = count
        self._unreserved: int | None = size

    def __call__(self, view: memoryview) -> None:
        if self._unreserved is not None:
            reserve(self._file, self._unreserved)
            self._unreserved = None
        written = 0
        while written < len(view):
            written += os.write(self._file, view[written:])
        if self._count is not None:
            self._count(written)


# Folders ----------------------------------------------------------------------------------------------------------


def download_tree(entries: Iterable[Entry], target: Path, fetch: Fetch) -> Path:
    """Download the files of a directory below ``target``.

    A target that does not exist yet appears whole or not at all. Into one that exists, each file is put whole.

    Args:
        entries: The files; their paths have been checked by ``listing``.
        target: The folder.
        fetch: Downloads one file to a path.

    Raises:
        NotAllowedError: A path would leave the folder, by a symbolic link for example.
        StoreError: As for a file.
    """
    if target.exists():
        _fetch_all(entries, target, fetch)
        return target
    temporary = target.with_name(f".stepout-{secrets.token_hex(8)}.part")
    with _named(target):
        temporary.mkdir()
    try:
        _fetch_all(entries, temporary, fetch, fresh=True)
        temporary.replace(target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return target


def _fetch_all(entries: Iterable[Entry], folder: Path, fetch: Fetch, *, fresh: bool = False) -> None:
    for entry in entries:
        place = _inside(folder, entry.path)
        if fresh and os.path.lexists(place):
            msg = f"refused to write {entry.path!r} below {folder}: this file system takes it for another of its files"
            raise NotAllowedError(msg)
        fetch(entry, place)


def _inside(folder: Path, path: str) -> Path:
    """Return the place of ``path`` below ``folder``, its folders made, none of them a way out."""
    fault = path_fault(path)
    place = folder
    for segment in path.split("/")[:-1] if fault is None else []:
        place /= segment
        if place.is_symlink() or (place.exists() and not place.is_dir()):
            fault = "one of its folders is a link or a file here"
            break
        place.mkdir(exist_ok=True)
    place /= path.rpartition("/")[2]
    if fault is None and place.is_dir() and not place.is_symlink():
        fault = "a folder is in its place"
    if fault is not None:
        msg = f"refused to write {path!r} below {folder}: {fault}"
        raise NotAllowedError(msg)
    return place
