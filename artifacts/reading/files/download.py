"""``Artifact.download``: to a temporary file beside the target, verified, then renamed. Nothing half-written stays.

A folder that is not there yet is made under a temporary name, its files right where they belong, and renamed last. Into
one that is there, each file goes as a file by itself does. Files come side by side; the first error ends all of them.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from stepout.artifacts.directory_listing import EmptyFolder
from stepout.artifacts.listing import Entry, names_files
from stepout.artifacts.paths import path_fault
from stepout.artifacts.reading.files.file_in_pieces import FileInPieces
from stepout.artifacts.reading.files.listed_files import files_to_read, work_on
from stepout.artifacts.reading.pinned_object import PinnedObject, verifier_for
from stepout.artifacts.reading.read_events import is_read
from stepout.artifacts.reading.whole_read import drain
from stepout.schemas.errors import NotAllowedError, StepoutError

if TYPE_CHECKING:
    from stepout.artifacts.reading.access import Access
    from stepout.artifacts.reading.files.listed_files import Listed

Count = Callable[[int], None]
Counter = Callable[[int], Count]
"""Called with the bytes that are to come; returns what counts them."""

_FILE: Final = 0o666
_PROGRAM: Final = 0o777
_PATIENCE: Final = 30.0
"""How long the end of what is under way is waited for after an error, in seconds: a dead connection may hold it up."""


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


@is_read("download")
def download(pinned: PinnedObject, path: str | os.PathLike[str], counter: Counter | None = None) -> Path:
    """Download an object to a file; of a listing or a manifest, its files to a folder.

    Args:
        pinned: The object.
        path: See ``Artifact.download``.
        counter: Called with all bytes that are to come; returns what is called with each block's size when it is
            written.

    Returns:
        The file or the folder.
    """
    place = Path(path)
    if not names_files(pinned.pointer):
        count = None if counter is None else counter(pinned.size)
        return download_file(pinned, target_of(place, pinned.pointer.key), count)
    found = files_to_read(pinned)
    count = None if counter is None else counter(found.size)
    return download_tree(found.entries, pinned.access, place, count)


# Files ------------------------------------------------------------------------------------------------------------


def download_file(pinned: PinnedObject, target: Path, count: Count | None = None, mode: int = _FILE) -> Path:
    """Download an object, verify it, and put it at ``target`` in one step.

    Args:
        pinned: The object; its access says what the bytes are held against.
        target: Where it goes.
        count: Called with each block's size when it is written.
        mode: The file's permissions, less what the process's umask takes away.

    Returns:
        ``target``.

    Raises:
        ChecksumMismatchError: The bytes are not those that were written; the temporary file is gone.
        StoreError: As for ``PinnedObject.get``.
        OSError: The file could not be written (no such folder, full disk, …); the temporary file is gone.
    """
    with _named(target), _temporary_beside(target) as temporary:
        _write(pinned, temporary, count, mode)
        # Last of all: whoever sees the target sees a file that is whole and verified. A rename within a folder is
        # one step on every file system; that is why the temporary file lies beside the target.
        temporary.replace(target)
    return target


def _write(pinned: PinnedObject, place: Path, count: Count | None, mode: int) -> None:
    """Download an object into a file that was not there, and verify it."""
    verifier = verifier_for(pinned.pointer, pinned.access.verify)
    with _created(place, mode) as file, FileInPieces(file, pinned.size, count) as pieces:
        drain(pinned, verifier, pieces, file=pieces.random_access)


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
def _created(path: Path, mode: int) -> Iterator[int]:
    """Create a file that was not there, with the mode that the process's umask leaves of this one."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
    file = os.open(path, flags | getattr(os, "O_CLOEXEC", 0), mode)
    try:
        yield file
    finally:
        os.close(file)


# Folders ----------------------------------------------------------------------------------------------------------


class _Placed(NamedTuple):
    """A file of a directory, and where it goes."""

    file: Listed
    place: Path

    @property
    def mode(self) -> int:
        return _PROGRAM if isinstance(self.file, Entry) and self.file.executable else _FILE


class _StoppedError(Exception):
    """Another file has failed."""


class _UnderWay:
    """The files that are being written: who deletes a folder waits for them, or they would make what stays behind."""

    def __init__(self) -> None:
        self._ended = threading.Condition()
        self._count = 0
        self._stopped = False

    def __enter__(self) -> None:
        with self._ended:
            self.check()
            self._count += 1

    def __exit__(self, *exc: object) -> None:
        with self._ended:
            self._count -= 1
            if not self._count:
                self._ended.notify_all()

    def check(self, size: int = 0) -> None:  # noqa: ARG002 - as what counts bytes is called
        """Raise once the rest is not wanted any more."""
        if self._stopped:
            raise _StoppedError

    def stop(self) -> None:
        """Let nothing more begin, and wait for what is under way, which ends at its next block."""
        with self._ended:
            self._stopped = True
            self._ended.wait_for(lambda: not self._count, timeout=_PATIENCE)


def download_tree(
    entries: Iterable[Listed | EmptyFolder], access: Access, target: Path, count: Count | None = None
) -> Path:
    """Download the files of a directory below ``target``.

    A target that does not exist yet appears whole or not at all. Into one that exists, each file is put whole.

    Args:
        entries: Files and empty folders, whose paths ``listing`` has checked.
        access: How they are read.
        target: The folder.
        count: As for ``download_file``; called in several threads.

    Raises:
        NotAllowedError: A path would leave the folder, by a symbolic link for example.
        StoreError: As for a file.
    """
    if target.exists():
        _download_all(entries, access, target, count)
        return target
    temporary = target.with_name(f".stepout-{secrets.token_hex(8)}.part")
    with _named(target):
        temporary.mkdir()
    try:
        _download_all(entries, access, temporary, count, fresh=target)
        temporary.replace(target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return target


def _download_all(
    entries: Iterable[Listed | EmptyFolder],
    access: Access,
    folder: Path,
    count: Count | None,
    *,
    fresh: Path | None = None,
) -> None:
    """Download everything below a folder; ``fresh``: what it will be called, where nobody else writes into it."""
    under_way, one = _UnderWay(), access.one_of_many()

    def counted(size: int) -> None:
        under_way.check()
        if count is not None:
            count(size)

    def fetch(placed: _Placed) -> None:
        with under_way:
            pinned = PinnedObject(one, placed.file.pointer)
            if fresh is None:
                download_file(pinned, placed.place, counted, placed.mode)
            else:
                _download_fresh(pinned, placed, fresh, counted)

    try:
        placed = _placed(entries, folder, fresh=fresh is not None)
        work_on(placed, fetch, lambda placed: placed.file.pointer.size, access)
    finally:
        under_way.stop()


def _download_fresh(pinned: PinnedObject, placed: _Placed, folder: Path, count: Count) -> None:
    """Download a file to where it belongs: the folder has its name when all of them are there."""
    path = placed.file.path
    try:
        with _named(folder / path):
            _write(pinned, placed.place, count, placed.mode)
    except FileExistsError as error:
        # Two names of a listing may be one name here: file systems fold case, or Unicode's forms of a letter.
        raise _refused(folder, path, "this file system takes it for another of its files") from error


def _placed(entries: Iterable[Listed | EmptyFolder], folder: Path, *, fresh: bool) -> Iterator[_Placed]:
    """Say where each file goes, and make the folders: one after the other, so that no two threads make one."""
    known, inside = "", folder
    for entry in entries:
        fault = path_fault(entry.path)
        parent, _, name = entry.path.rpartition("/")
        if fault is not None:
            raise _refused(folder, entry.path, fault)
        if isinstance(entry, EmptyFolder):
            _made(folder, entry.path, entry.path)
            continue
        if parent != known or not fresh:  # where nobody else writes, a folder stays what it was
            known, inside = parent, _made(folder, parent, entry.path)
        place = inside / name
        if not fresh and place.is_dir() and not place.is_symlink():
            raise _refused(folder, entry.path, "a folder is in its place")
        yield _Placed(entry, place)


def _made(folder: Path, path: str, named: str) -> Path:
    """Make a folder below ``folder`` and those that it lies in, none of them a way out; ``named`` is for messages."""
    place = folder
    for segment in path.split("/") if path else []:
        place /= segment
        # A link, too, if it leads to a folder inside: what it leads to can change before the file is opened.
        if place.is_symlink() or (place.exists() and not place.is_dir()):
            raise _refused(folder, named, "one of its folders is a link or a file here")
        place.mkdir(exist_ok=True)
    return place


def _refused(folder: Path, path: str, fault: str) -> NotAllowedError:
    return NotAllowedError(f"refused to write {path!r} below {folder}: {fault}")
