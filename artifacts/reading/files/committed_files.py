"""The files of committed artifacts, read-only: what both file systems, pyarrow's and fsspec's, are made over.

It travels as documents and settings. What another process unpickles builds a client of its own, and reads the listings
anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stepout.artifacts.reading.files.file_tree import FileTree, FileTreeEntry
from stepout.artifacts.reading.files.listed_files import open_files
from stepout.artifacts.reading.pinned_object import PinnedObject, digest_of
from stepout.artifacts.reading.ranges.random_access import open_random

if TYPE_CHECKING:
    import io
    from collections.abc import Mapping, Sequence

    from stepout.artifacts.reading.access import Access
    from stepout.artifacts.reading.files.listed_files import Listed
    from stepout.schemas.pointer import Pointer

ALONE = "artifact"
"""What an artifact outside an output is called."""


class CommittedFiles:
    """Files by path.

    Args:
        pointers: The artifacts by name; the last segment of a name counts.
        access: How they are read.
        listed: The files of the one artifact among them, where its listing has been read already; this process's only.

    Raises:
        NotAllowedError: The allow-list does not hold one of them.
    """

    def __init__(
        self,
        pointers: Mapping[str, Pointer],
        access: Access,
        listed: Sequence[Listed] | None = None,
    ) -> None:
        self._pointers = {name.rpartition("/")[2] or ALONE: pointer for name, pointer in pointers.items()}
        self._access = access
        for pointer in self._pointers.values():
            access.allowed.check(pointer.bucket, pointer.key)
        self.tree = FileTree(self._pointers, lambda pointer: listed or open_files(PinnedObject(access, pointer)))

    def __reduce__(self) -> tuple[Any, ...]:
        return CommittedFiles, (self._pointers, self._access)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CommittedFiles):
            return NotImplemented
        return self._pointers == other._pointers and self._access.reads_like(other._access)

    def __hash__(self) -> int:
        return hash(self.__dask_tokenize__())

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        """Return what is the same for the same names and contents, in every process."""
        return "stepout-files", *((name, digest_of(pointer)) for name, pointer in sorted(self._pointers.items()))

    def entry(self, path: str) -> FileTreeEntry:
        """Return what is at a path.

        Raises:
            FileNotFoundError: Nothing is.
            StepoutError: A listing could not be read.
        """
        found = self.tree.entry(path)
        if found is None:
            name = path.partition("/")[0]
            known = ", ".join(self._pointers) or "none"
            told = f"has no such file in {name!r}" if name in self._pointers else f"has these artifacts: {known}"
            raise FileNotFoundError(f"stepout://{path}: the document {told}")
        return found

    def open(self, path: str, *, pages: bool = False) -> io.RawIOBase:
        """Open a file: seekable, every read verified as ``resolve`` was told.

        Args:
            path: In one of the artifacts.
            pages: As for ``open_random``.

        Raises:
            FileNotFoundError: There is none.
            IsADirectoryError: It is a folder.
            ConfigurationError: It can only be verified as a whole, and is larger than what may be read into memory.
            StepoutError: A listing could not be read.
        """
        pointer = self.entry(path).pointer
        if pointer is None:
            raise IsADirectoryError(f"stepout://{path} is a folder: it is listed, and its files are opened")
        return open_random(PinnedObject(self._access, pointer), self._access.verify, pages=pages)

    def checksum(self, path: str) -> str:
        """Return ``algorithm:hex`` of a file; for a folder, what changes with the content of its artifact."""
        pointer = self.entry(path).pointer
        if pointer is not None:
            return digest_of(pointer)
        name, _, below = path.partition("/")
        if name:
            return f"{digest_of(self._pointers[name])}{'/' if below else ''}{below}"
        return " ".join(f"{each}={digest_of(pointer)}" for each, pointer in sorted(self._pointers.items()))


def checked_path(path: str) -> str:
    """Return a path as the tree spells it: no slash at its end.

    Raises:
        ValueError: It begins with a slash or a scheme, or has an empty segment, ``.``, ``..`` or NUL.

    >>> checked_path("features/day=2026-01-01/")
    'features/day=2026-01-01'
    """
    fault = None
    bare = path.removesuffix("/")
    if "://" in path:
        fault = "is a URL: leave out the scheme, the path begins with the artifact's name"
    elif path.startswith("/"):
        fault = "begins with a slash: it begins with the artifact's name"
    elif "\0" in path or (bare and any(segment in {"", ".", ".."} for segment in bare.split("/"))):
        fault = "has an empty segment, '.', '..' or NUL"
    if fault is not None:
        raise ValueError(f"the path {path[:200]!r} {fault}")
    return bare
