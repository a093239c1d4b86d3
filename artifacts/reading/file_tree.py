"""The files of committed artifacts as a tree of paths, made from documents only: what lies in the bucket is not asked.

``NAME`` is the file itself for an artifact of one object, and a folder for a directory or a dataset, whose listing is
read when something in that folder is first asked for.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stepout.artifacts.listing import names_files
from stepout.schemas.runtime.process import PerProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from stepout.artifacts.dataset_manifest import DatasetFile
    from stepout.artifacts.listing import Entry
    from stepout.schemas.pointer import Pointer


@dataclass(frozen=True)
class TreeEntry:
    """A file or a folder.

    Attributes:
        path: From the root, with slashes; ``""`` is the root.
        pointer: The file's; ``None`` for a folder.
    """

    path: str
    pointer: Pointer | None = None

    @property
    def size(self) -> int:
        """In bytes; 0 for a folder."""
        return 0 if self.pointer is None else self.pointer.size


class FileTree:
    """Paths of artifacts' files.

    Args:
        pointers: The artifacts by name.
        listing: Returns the files that the pointer of a directory or a dataset leads to; called once for each.
    """

    def __init__(
        self, pointers: Mapping[str, Pointer], listing: Callable[[Pointer], Sequence[Entry | DatasetFile]]
    ) -> None:
        self._pointers = pointers
        self._listing = listing
        self._lock = PerProcess(threading.Lock, name="lock")  # another thread may hold it when a process is forked
        self._read: set[str] = set()
        roots = {name: TreeEntry(name, None if names_files(pointer) else pointer) for name, pointer in pointers.items()}
        self._folders: dict[str, dict[str, TreeEntry]] = {"": roots}

    def entry(self, path: str) -> TreeEntry | None:
        """Return what is at a path; ``None`` if nothing is.

        Raises:
            StepoutError: It lies in a directory or a dataset whose listing could not be read, or is invalid.
        """
        if not path:
            return TreeEntry("")
        name, below, _ = path.partition("/")
        if below:
            self._list(name)
        parent, _, last = path.rpartition("/")
        return self._folders.get(parent, {}).get(last)

    def children(self, path: str) -> list[TreeEntry]:
        """Return what lies directly in a folder, in the documents' order; nothing for anything else.

        Raises:
            StepoutError: As for ``entry``.
        """
        if path:
            self._list(path.partition("/")[0])
        return list(self._folders.get(path, {}).values())

    def below(self, path: str) -> Iterator[TreeEntry]:
        """Yield everything in a folder, at any depth, each folder before what lies in it."""
        for child in self.children(path):
            yield child
            if child.pointer is None:
                yield from self.below(child.path)

    def _list(self, name: str) -> None:
        """Read the listing of a directory or a dataset, once."""
        pointer = self._pointers.get(name)
        if pointer is None or not names_files(pointer) or name in self._read:
            return
        with self._lock.get():
            if name not in self._read:
                folders = _folders_of(name, self._listing(pointer))
                self._folders = {**self._folders, **folders}  # threads that look meanwhile see all of it, or nothing
                self._read.add(name)


def _folders_of(name: str, files: Sequence[Entry | DatasetFile]) -> dict[str, dict[str, TreeEntry]]:
    """Return what lies in each folder of one artifact, by the folder's path."""
    folders: dict[str, dict[str, TreeEntry]] = {name: {}}
    for file in files:
        folder = name
        *parents, last = file.path.split("/")
        for segment in parents:
            inner = f"{folder}/{segment}"
            folders[folder].setdefault(segment, TreeEntry(inner))
            folder = inner
            folders.setdefault(folder, {})
        folders[folder][last] = TreeEntry(f"{folder}/{last}", file.pointer)
    return folders
