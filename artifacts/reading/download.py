"""``Artifact.download``: to a temporary file beside the target, verified, then renamed. Nothing half-written stays."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from stepout.artifacts.listing import names_files
from stepout.artifacts.paths import path_fault
from stepout.artifacts.reading.listed_files import read_entries
from stepout.artifacts.reading.pinned_object import PinnedObject, drain, verifier_for
from stepout.artifacts.reading.preallocation import preallocate
from stepout.schemas.errors import NotAllowedError, StepoutError

if TYPE_CHECKING:
    from pathlib import Path

Count = Callable[[int], None]
Counter = Callable[[int], Count]
"""Called with the bytes that are to come; returns what counts them."""


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


def download(pinned: PinnedObject, path: Path, counter: Counter | None = None) -> Path:
    """Download an object to a file; of a listing or a manifest, its files to a folder.

    Args:
        pinned: The object.
        path: See ``Artifact.download``.
        counter: Called with all bytes that are to come; returns what is called with each block's size when it is
            written.

    Returns:
        The file or the folder.
    """
    if not names_files(pinned.pointer):
        count = None if counter is None else counter(pinned.size)
        return download_file(pinned, target_of(path, pinned.pointer.key), count)
    entries = read_entries(pinned, whole=True)
    count = None if counter is None else counter(sum(entry.pointer.size for entry in entries))
    return download_tree(((entry.path, PinnedObject(pinned.access, entry.pointer)) for entry in entries), path, count)


# Files ------------------------------------------------------------------------------------------------------------


def download_file(pinned: PinnedObject, target: Path, count: Count | None = None) -> Path:
    """Download an object, verify it, and put it at ``target`` in one step.

    Args:
        pinned: The object; its access says what the bytes are held against.
        target: Where it goes.
        count: Called with each block's size when it is written.

    Returns:
        ``target``.

    Raises:
        ChecksumMismatchError: The bytes are not those that were written; the temporary file is gone.
        StoreError: As for ``PinnedObject.get``.
        OSError: The file could not be written (no such folder, full disk, …); the temporary file is gone.
    """
    verifier = verifier_for(pinned.pointer, pinned.access.verify)
    with _named(target), _temporary_beside(target) as temporary:
        with _created(temporary) as file:
            drain(pinned, verifier, _Writer(file, pinned.size, count))
        # Last of all: whoever sees the target sees a file that is whole and verified. A rename within a folder is
        # one step on every file system; that is why the temporary file lies beside the target.
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
        self._unallocated: int | None = size

    def __call__(self, view: memoryview) -> None:
        if self._unallocated is not None:
            preallocate(self._file, self._unallocated)
            self._unallocated = None
        written = 0
        while written < len(view):
            written += os.write(self._file, view[written:])
        if self._count is not None:
            self._count(written)


# Folders ----------------------------------------------------------------------------------------------------------


def download_tree(files: Iterable[tuple[str, PinnedObject]], target: Path, count: Count | None = None) -> Path:
    """Download the files of a directory below ``target``.

    A target that does not exist yet appears whole or not at all. Into one that exists, each file is put whole.

    Args:
        files: Each with its relative path, which ``listing`` has checked.
        target: The folder.
        count: As for ``download_file``.

    Raises:
        NotAllowedError: A path would leave the folder, by a symbolic link for example.
        StoreError: As for a file.
    """
    if target.exists():
        _download_all(files, target, count)
        return target
    temporary = target.with_name(f".stepout-{secrets.token_hex(8)}.part")
    with _named(target):
        temporary.mkdir()
    try:
        _download_all(files, temporary, count, fresh=True)
        temporary.replace(target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return target


def _download_all(
    files: Iterable[tuple[str, PinnedObject]], folder: Path, count: Count | None, *, fresh: bool = False
) -> None:
    for path, pinned in files:
        place = _inside(folder, path)
        # Two names of a listing may be one name here: file systems fold case, or Unicode's forms of a letter.
        if fresh and os.path.lexists(place):
            msg = f"refused to write {path!r} below {folder}: this file system takes it for another of its files"
            raise NotAllowedError(msg)
        download_file(pinned, place, count)


def _inside(folder: Path, path: str) -> Path:
    """Return the place of ``path`` below ``folder``, its folders made, none of them a way out."""
    fault = path_fault(path)
    place = folder
    for segment in path.split("/")[:-1] if fault is None else []:
        place /= segment
        # A link, too, if it leads to a folder inside: what it leads to can change before the file is opened.
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
