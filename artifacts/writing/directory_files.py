"""What lies below a directory that is to be put: its files and its empty folders, in the order of their paths.

A folder is read when it is its turn, and of those on the way only the names that are left are held. Names are sorted
with a slash behind those of folders, which gives the order of the full paths: ``a-b``, ``a/x``, ``a0``.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from stepout.artifacts.directory_listing import PATH_LIMIT, EmptyFolder
from stepout.artifacts.keys import file_key
from stepout.artifacts.listing import FILES_LIMIT
from stepout.artifacts.paths import path_fault
from stepout.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

_PLAIN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,199}")
"""Names that no system but Windows takes for anything else: most names, so they are told apart first."""


class FoundFile(NamedTuple):
    """One file below a directory.

    Attributes:
        path: Relative, with slashes.
        source: Where it is.
        size: In bytes, when it was found.
        executable: Whether its owner may execute it; never on Windows.
    """

    path: str
    source: str
    size: int
    executable: bool


def walk(root: Path, outcome: str) -> Iterator[FoundFile | EmptyFolder]:
    """Yield what lies below a directory, sorted by path.

    Args:
        root: The directory. Symbolic links in it are followed only to files inside it.
        outcome: What became of the put, for messages.

    Raises:
        ConfigurationError: It is no directory, has too many files, or holds an entry that cannot be part: a link out of
            the directory, a link to a folder, a pipe, a name that no listing can hold.
        OSError: A folder or a file cannot be looked at.
    """
    if not root.is_dir():
        raise ConfigurationError(f"{root} is no directory; {outcome}")
    refuse = _Refusal(root, outcome)
    count = 0
    # Of each folder on the way: its path with a slash, and the names that are left, the next one last.
    ahead: list[tuple[str, list[str]]] = [("", _names(os.fspath(root)))]
    while ahead:
        folder, names = ahead[-1]
        if not names:
            ahead.pop()
            continue
        name = names.pop()
        path = folder + name
        found: FoundFile | EmptyFolder
        if name.endswith("/"):
            refuse.name(path[:-1], name[:-1])
            below = _names(os.path.join(root, path))  # noqa: PTH118 - pathlib takes ten times as long
            if below:
                ahead.append((path, below))
                continue
            found = EmptyFolder(path[:-1])
        else:
            refuse.name(path, name)
            found = _file(root, path, refuse)
        count += 1
        if count > FILES_LIMIT:
            msg = (
                f"{root} has more than {FILES_LIMIT:,} files and empty folders; pack them into an archive and put that"
            )
            raise ConfigurationError(f"{msg}. {outcome}")
        yield found


def size_of_tree(root: Path, folder: str) -> int:
    """Look through a directory before anything is sent, and return the bytes of its files.

    Args:
        root: The directory.
        folder: Of the files' keys.

    Raises:
        ConfigurationError: See ``walk``; or two files would have one key.
    """
    total = 0
    folded: dict[int, str] = {}  # by a digest of the key: there may be hundreds of thousands
    for found in walk(root, "Nothing was sent"):
        if isinstance(found, EmptyFolder):
            continue
        total += found.size
        key = file_key(folder, found.path)
        if len(key) == len(folder) + 1 + len(found.path) and key.endswith(found.path):
            continue
        other = folded.setdefault(hash(key), found.path)
        if other != found.path:
            msg = f"{found.path!r} and {other!r} in {root} would have the same key, {key}: rename one of them"
            raise ConfigurationError(f"{msg}. Nothing was sent")
    return total


def _names(folder: str) -> list[str]:
    """Return the names in a folder, the last one first, with a slash behind those of folders."""
    with os.scandir(folder) as entries:
        names = [f"{entry.name}/" if entry.is_dir(follow_symlinks=False) else entry.name for entry in entries]
    names.sort(reverse=True)
    return names


def _file(root: Path, path: str, refuse: _Refusal) -> FoundFile:
    source = os.path.join(root, path)  # noqa: PTH118 - pathlib takes ten times as long
    state = os.lstat(source)
    if stat.S_ISLNK(state.st_mode):
        state = refuse.link(path, source)
    if not stat.S_ISREG(state.st_mode):
        raise refuse.error(path, "it is no regular file (links to folders are not followed)")
    executable = os.name != "nt" and bool(state.st_mode & stat.S_IXUSR)
    return FoundFile(path, source, state.st_size, executable)


class _Refusal:
    """Refuses what cannot be part of a directory artifact."""

    def __init__(self, root: Path, outcome: str) -> None:
        self._root, self._real, self._outcome = root, root.resolve(), outcome

    def name(self, path: str, name: str) -> None:
        """Refuse a path whose last segment is ``name`` if no listing can hold it; those before were asked."""
        if len(path) > PATH_LIMIT:
            raise self.error(path, f"its path has more than {PATH_LIMIT:,} characters, which no reader takes")
        if os.name == "nt" or _PLAIN.fullmatch(name) is None:
            fault = path_fault(path)
            if fault is not None:
                raise self.error(path, fault)

    def link(self, path: str, source: str) -> os.stat_result:
        """Return the state of what a link leads to, if that lies inside the directory."""
        try:
            if Path(source).resolve().is_relative_to(self._real):
                return os.stat(source)  # noqa: PTH116 - as lstat
        except (OSError, RuntimeError) as error:  # of links in a circle, pathlib says RuntimeError before Python 3.13
            if isinstance(error, OSError) and error.errno not in {errno.ENOENT, errno.ELOOP}:
                raise
            raise self.error(path, "it is a symbolic link to nothing") from None
        raise self.error(path, "it is a symbolic link out of the directory")

    def error(self, path: str, fault: str) -> ConfigurationError:
        """Return the error for an entry."""
        shown = path.encode("utf-8", "backslashreplace").decode()
        return ConfigurationError(f"{shown!r} in {self._root} cannot be part of an artifact: {fault}. {self._outcome}")
