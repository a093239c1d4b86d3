"""Folders with files, and the listings of directories that were put, read as their readers do."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from stepout.artifacts.directory_listing import EmptyFolder, PathOrder, index_place, parse_index, tree_of
from stepout.artifacts.listing import Entry

if TYPE_CHECKING:
    from pathlib import Path

    from stepout.artifacts import MemoryStore
    from stepout.schemas import Pointer


def fill(root: Path, *paths: str) -> Path:
    """Make files that hold their own path."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(path)
    return root


def entries_of(store: MemoryStore, pointer: Pointer) -> list[Entry | EmptyFolder]:
    """Read a listing as its readers do: the index by the pointer, each stretch by the index, all in order."""
    data, place = store.read(pointer.key), index_place(pointer)
    assert place is not None
    assert hashlib.sha256(data[place[0] :]).hexdigest() == place[1]
    index, order = parse_index(data[place[0] :], place[0], pointer.url), PathOrder(pointer.url)
    found: list[Entry | EmptyFolder] = []
    for stretch in index.stretches:
        lines = data[stretch.start : stretch.stop]
        assert hashlib.sha256(lines).hexdigest() == stretch.sha256
        found += index.entries(lines)
    for each in found:
        order.take(each)
    assert index.tree == tree_of(pointer)
    return found


def files_of(store: MemoryStore, pointer: Pointer) -> dict[str, Entry]:
    """Return the files of a listing by their paths."""
    return {each.path: each for each in entries_of(store, pointer) if isinstance(each, Entry)}
