"""A look into a directory: the tree of its files, from its listing alone; of a long one, as far as a page shows it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from stepout.artifacts.directory_listing import EmptyFolder, index_place
from stepout.artifacts.reading.files.directory import open_listing
from stepout.artifacts.reading.files.listed_files import is_lines, read_entries
from stepout.page.budget import PageBudgetError
from stepout.page.model import TreeEntry, TreeInside
from stepout.schemas.text.foreign_text import shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from stepout.artifacts.reading.files.listed_files import Listed
    from stepout.page.insides.look import Look, ReadForLook

LINES: Final = 400
"""Files and folders that a page shows of one directory."""

READ: Final = 20_000
"""Files of a listing that are read: of a longer one the first, which are a few megabytes."""

_IN_A_FOLDER: Final = 50  # then the next folder is shown: one of thousands of files would hide the others
_DEPTH: Final = 16
_NAME: Final = 200


@dataclass
class _Folder:
    """What lies in one folder, as far as it was read."""

    files: int = 0
    size: int = 0
    folders: dict[str, _Folder] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)


def look_at_directory(read: ReadForLook) -> Look:
    """Read a directory's listing, or its beginning.

    Raises:
        PageBudgetError: Not even its index may be read.
        InvalidDocumentError: It is no such listing.
        NotAllowedError: A file lies outside the allow-list.
        StoreError: It could not be read.
    """
    if not is_lines(read.pinned):
        read.budget.check(read.pinned.size)
        entries = read_entries(read.pinned)
        root, _ = _tree(entries)
        return _told(read, root, len(entries), sum(entry.pointer.size for entry in entries), all_read=True)
    place = index_place(read.pinned.pointer)
    read.budget.check(read.pinned.size - (0 if place is None else min(place[0], read.pinned.size)))
    listing = open_listing(read.pinned)
    index = listing.index
    whole = index.files + index.folders <= READ
    try:
        if whole:
            read.budget.check(read.pinned.size)
        root, all_read = _tree(listing.entries(), None if whole else READ)
    except PageBudgetError as error:
        return _told(read, _Folder(), index.files, index.size, all_read=False).noting(error.sentence)
    return _told(read, root, index.files, index.size, all_read=all_read)


def _told(read: ReadForLook, root: _Folder, files: int, size: int, *, all_read: bool) -> Look:
    entries, left_out = _chosen(root)
    look = read.whole(TreeInside(files=files, size=size, entries=entries, cut=left_out or not all_read))
    if look.verified == "not":
        return look
    what = "Its listing was" if all_read else "The beginning of its listing was"
    note = f"{what} read and compared with its checksums; none of its files was read."
    return replace(look, verified="part", verified_note=note)


def _tree(entries: Iterable[Listed | EmptyFolder], most: int | None = None) -> tuple[_Folder, bool]:
    """Return the tree of some files, the first ``most``, and whether there are no more."""
    root = _Folder()
    for count, entry in enumerate(entries):
        if count == most:
            return root, False
        _add(root, entry)
    return root, True


def _add(root: _Folder, entry: Listed | EmptyFolder) -> None:
    """Put a file, or an empty folder, into its place, and count it in every folder that it lies in."""
    *above, name = entry.path.split("/")
    folder, file = root, None if isinstance(entry, EmptyFolder) else entry.pointer.size
    for part in above if file is not None else (*above, name):
        folder.files += file is not None
        folder.size += file or 0
        folder = folder.folders.setdefault(part, _Folder())
    if file is not None:
        folder.files += 1
        folder.size += file
        folder.sizes[name] = file


def _chosen(root: _Folder) -> tuple[tuple[TreeEntry, ...], bool]:
    """Return the lines of a tree that a page shows, those near its root first, and whether there are others."""
    shown_of: dict[int, tuple[list[str], list[str]]] = {}
    waiting, left, left_out = deque([(root, 0)]), LINES, False
    while waiting:
        folder, depth = waiting.popleft()
        most = min(_IN_A_FOLDER, left) if depth < _DEPTH else 0
        folders = sorted(folder.folders)[:most]
        files = sorted(folder.sizes)[: most - len(folders)]
        left -= len(folders) + len(files)
        left_out = left_out or len(folders) + len(files) < len(folder.folders) + len(folder.sizes)
        shown_of[id(folder)] = folders, files
        waiting.extend((folder.folders[name], depth + 1) for name in folders)
    return _entries(root, shown_of), left_out


def _entries(folder: _Folder, shown_of: Mapping[int, tuple[list[str], list[str]]]) -> tuple[TreeEntry, ...]:
    names, files = shown_of[id(folder)]
    below = [(name, folder.folders[name]) for name in names]
    return (
        *(
            TreeEntry(name=f"{shown(name, _NAME)}/", size=each.size, files=each.files, entries=_entries(each, shown_of))
            for name, each in below
        ),
        *(TreeEntry(name=shown(name, _NAME), size=folder.sizes[name]) for name in files),
    )
