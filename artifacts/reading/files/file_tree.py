"""The files of committed artifacts as a tree of paths, made from documents only: what lies in the bucket is not asked.

``NAME`` is the file itself for an artifact of one object, and a folder for a directory or a dataset, whose listing is
opened when something in that folder is first asked for. Of a listing with an index, only what is asked for is read.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stepout.artifacts.directory_listing import EmptyFolder
from stepout.artifacts.listing import names_files
from stepout.artifacts.reading.files.directory import Listing
from stepout.schemas.runtime.process import PerProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from stepout.artifacts.dataset_manifest import DatasetFile
    from stepout.artifacts.listing import Entry
    from stepout.schemas.pointer import Pointer


@dataclass(frozen=True)
class FileTreeEntry:
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
        listing: Returns what the pointer of a directory or a dataset leads to: its files, or a listing that is looked
            up; called once for each.
    """

    def __init__(
        self,
        pointers: Mapping[str, Pointer],
        listing: Callable[[Pointer], Listing | Sequence[Entry | DatasetFile]],
    ) -> None:
        self._pointers = pointers
        self._listing = listing
        self._lock = PerProcess(threading.Lock, name="lock")  # another thread may hold it when a process is forked
        self._opened: dict[str, ReadFolders | ListedFolders] = {}
        self._roots = {
            name: FileTreeEntry(name, None if names_files(pointer) else pointer) for name, pointer in pointers.items()
        }

    def entry(self, path: str) -> FileTreeEntry | None:
        """Return what is at a path; ``None`` if nothing is.

        Raises:
            StepoutError: It lies in a directory or a dataset whose listing could not be read, or is invalid.
        """
        if not path:
            return FileTreeEntry("")
        if "/" not in path:
            return self._roots.get(path)
        folders = self._folders(path)
        return None if folders is None else folders.entry(path)

    def children(self, path: str) -> list[FileTreeEntry]:
        """Return what lies directly in a folder, in the documents' order; nothing for anything else.

        Raises:
            StepoutError: As for ``entry``.
        """
        if not path:
            return list(self._roots.values())
        folders = self._folders(path)
        return [] if folders is None else folders.children(path)

    def below(self, path: str) -> Iterator[FileTreeEntry]:
        """Yield everything in a folder, at any depth, each folder before what lies in it."""
        if path:
            folders = self._folders(path)
            yield from () if folders is None else folders.below(path)
            return
        for root in self._roots.values():
            yield root
            yield from self.below(root.path)

    def _folders(self, path: str) -> ReadFolders | ListedFolders | None:
        """Return the folders of the artifact that a path lies in; its listing is opened once."""
        name = path.partition("/")[0]
        pointer, found = self._pointers.get(name), self._opened.get(name)
        if found is not None or pointer is None or not names_files(pointer):
            return found
        with self._lock.get():
            if name not in self._opened:
                listing = self._listing(pointer)
                if isinstance(listing, Listing):
                    self._opened[name] = ListedFolders(name, listing)
                else:
                    self._opened[name] = ReadFolders(name, listing)
            return self._opened[name]


class ReadFolders:
    """The folders of an artifact whose files are all in memory.

    Args:
        name: The artifact's; every path begins with it.
        files: Its files.
    """

    def __init__(self, name: str, files: Sequence[Entry | DatasetFile]) -> None:
        self._found = folders = dict[str, dict[str, FileTreeEntry]]({name: {}})
        for file in files:
            folder = name
            *parents, last = file.path.split("/")
            for segment in parents:
                inner = f"{folder}/{segment}"
                folders[folder].setdefault(segment, FileTreeEntry(inner))
                folder = inner
                folders.setdefault(folder, {})
            folders[folder][last] = FileTreeEntry(f"{folder}/{last}", file.pointer)

    def entry(self, path: str) -> FileTreeEntry | None:
        """Return what is at a path; ``None`` if nothing is."""
        parent, _, last = path.rpartition("/")
        return self._found.get(parent, {}).get(last)

    def children(self, path: str) -> list[FileTreeEntry]:
        """Return what lies directly in a folder."""
        return list(self._found.get(path, {}).values())

    def below(self, path: str) -> Iterator[FileTreeEntry]:
        """Yield everything in a folder."""
        for child in self.children(path):
            yield child
            if child.pointer is None:
                yield from self.below(child.path)


class ListedFolders:
    """The folders of a directory whose listing is looked up: a file costs the stretch that has it.

    Args:
        name: The artifact's; every path begins with it.
        listing: Its listing.
    """

    def __init__(self, name: str, listing: Listing) -> None:
        self._name = name
        self._listing = listing
        self._children: dict[str, list[FileTreeEntry]] = {}

    def entry(self, path: str) -> FileTreeEntry | None:
        """Return what is at a path; ``None`` if nothing is."""
        inner = self._inner(path)
        found = self._listing.find(inner)
        if found is not None:
            return FileTreeEntry(path, found.pointer)
        return FileTreeEntry(path) if self._listing.has_folder(inner) else None

    def children(self, path: str) -> list[FileTreeEntry]:
        """Return what lies directly in a folder, kept: engines ask for it again and again."""
        if path not in self._children:
            depth = path.count("/") + 1
            self._children[path] = [each for each in self.below(path) if each.path.count("/") == depth]
        return self._children[path]

    def below(self, path: str) -> Iterator[FileTreeEntry]:
        """Yield everything in a folder; what lies in one folder follows one another in a listing."""
        inner = self._inner(path)
        within = inner.split("/") if inner else []  # the folders that the last path lay in
        for entry in self._listing.entries(f"{inner}/" if inner else ""):
            if entry.path == inner:  # an empty folder itself
                continue
            parents = entry.path.split("/")[:-1]
            for depth in range(1, len(parents) + 1):
                if parents[:depth] != within[:depth]:
                    yield FileTreeEntry("/".join([self._name, *parents[:depth]]))
            within = parents
            place = f"{self._name}/{entry.path}"
            yield FileTreeEntry(place) if isinstance(entry, EmptyFolder) else FileTreeEntry(place, entry.pointer)

    def _inner(self, path: str) -> str:
        return path[len(self._name) + 1 :]
