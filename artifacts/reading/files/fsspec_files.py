"""Committed files as an fsspec file system; imported by whoever asks for it, since its base class is fsspec's."""

from __future__ import annotations

import io
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NoReturn

from fsspec import AbstractFileSystem

from stepout.artifacts.reading.files.committed_files import checked_path

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stepout.artifacts.reading.files.committed_files import CommittedFiles
    from stepout.artifacts.reading.files.file_tree import FileTreeEntry

_BUFFER: Final = 64 << 10  # what a text or a header is read through; larger reads pass it by
_LARGEST_BUFFER: Final = 1 << 20


class CommittedFile(io.BufferedReader):
    """A file, as fsspec's users know it.

    Attributes:
        fs: The file system.
        path: Its path there.
        size: In bytes.
        blocksize: The bytes of the buffer, all of them verified.
    """

    def __init__(self, raw: io.RawIOBase, fs: CommittedFileSystem, entry: FileTreeEntry, buffer: int) -> None:
        super().__init__(raw, buffer)
        self.fs, self.path, self.size, self.blocksize = fs, entry.path, entry.size, buffer

    def info(self) -> dict[str, Any]:
        """Return what ``fs.info`` does."""
        return self.fs.info(self.path)


class CommittedFileSystem(AbstractFileSystem):  # type: ignore[misc] # fsspec has no types
    """Committed artifacts, read-only and verified: ``NAME`` or ``NAME/PATH``.

    It pickles to documents and settings; a process that unpickles it builds its own client. Nothing is listed in the
    bucket, and nothing that the documents do not name can be seen.

    Args:
        files: What it is over.
    """

    protocol = "stepout"
    root_marker = ""
    cachable = False

    def __init__(self, files: CommittedFiles, **options: Any) -> None:
        super().__init__(**options)
        self.files = files

    def __reduce__(self) -> tuple[Any, ...]:
        return CommittedFileSystem, (self.files,)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CommittedFileSystem) and self.files == other.files

    def __hash__(self) -> int:
        return hash(self.files)

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        """Return what is the same for the same names and contents, in every process."""
        return "fsspec", *self.files.__dask_tokenize__()

    @property
    def fsid(self) -> str:
        """What tells this file system from others."""
        return f"stepout_{self.checksum('')}"

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(each) for each in path]
        return super()._strip_protocol(path).lstrip("/")

    def to_json(self, *, include_password: bool = True) -> NoReturn:
        """Refuse: its documents are not options of fsspec's."""
        raise NotImplementedError(
            f"to_json(include_password={include_password}): pickle it, or pass the documents in storage_options"
        )

    # What is there ------------------------------------------------------------------------------------------------

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Return name, size, type, media type and digest of a file or folder; nothing is requested for it.

        Raises:
            FileNotFoundError: Nothing is there.
        """
        return self._told(self.files.entry(self._path(path)))

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        """Return what lies in a folder, or the file itself; ``detail=False``: only names.

        Raises:
            FileNotFoundError: Nothing is there.
        """
        entry = self.files.entry(self._path(path))
        entries = self.files.tree.children(entry.path) if entry.pointer is None else [entry]
        return [self._told(each) if detail else each.path for each in entries]

    def checksum(self, path: str) -> str:
        """Return ``sha256:…``, or the digest that the document has; of a folder, what changes with its content."""
        return self.files.checksum(self._path(path))

    ukey = checksum

    def created(self, path: str) -> datetime:
        """Return when a file was written, by its pointer.

        Raises:
            FileNotFoundError: Nothing is there, or it does not say.
        """
        pointer = self.files.entry(self._path(path)).pointer
        if pointer is None or pointer.created_at is None:
            raise FileNotFoundError(f"stepout://{path}: the document does not say when it was written")
        return datetime.fromisoformat(pointer.created_at)

    modified = created

    def _path(self, path: str) -> str:
        return checked_path(self._strip_protocol(path))

    def _told(self, entry: FileTreeEntry) -> dict[str, Any]:
        pointer = entry.pointer
        if pointer is None:
            return {"name": entry.path, "size": 0, "type": "directory"}
        digest = self.files.checksum(entry.path)
        told = {"name": entry.path, "size": entry.size, "type": "file", "checksum": digest, "ukey": digest}
        if pointer.created_at is not None:
            told["created"] = pointer.created_at
        return {**told, "ContentType": pointer.media_type}

    # Bytes --------------------------------------------------------------------------------------------------------

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: Any = None,
        autocommit: bool = True,  # noqa: ARG002 - of writes
        cache_options: Mapping[str, Any] | None = None,  # noqa: ARG002 - verified blocks are what is kept
        **_: Any,
    ) -> CommittedFile:
        if mode != "rb":
            self._refused()
        entry = self.files.entry(self._path(path))
        asked = block_size if isinstance(block_size, int) and block_size > 0 else _BUFFER
        return CommittedFile(self.files.open(entry.path), self, entry, min(asked, _LARGEST_BUFFER))

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        """Return a file's bytes from ``start`` to ``end``, counted from the end where they are negative."""
        entry = self.files.entry(self._path(path))
        first, stop, _step = slice(start, end).indices(entry.size)
        with self.files.open(entry.path) as file:
            file.seek(first)
            return _exactly(file, max(stop - first, 0)) if entry.size else file.read() or b""

    def _refused(self, *_: object, **__: object) -> NoReturn:
        raise PermissionError("stepout:// is read-only: an ArtifactManager writes artifacts")

    mkdir = makedirs = rmdir = rm = rm_file = _rm = cp_file = mv = touch = put_file = pipe_file = sign = _refused


def _exactly(file: io.RawIOBase, count: int) -> bytes:
    """Read so many bytes, or up to the end."""
    pieces: list[bytes] = []
    while count:
        piece = file.read(count)
        if not piece:
            break
        pieces.append(piece)
        count -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
