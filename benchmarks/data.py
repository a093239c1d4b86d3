"""The bytes of a run: pseudo-random, made at the start in a temporary folder, warm in the page cache."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from benchmarks.job import MIB

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Data"]


@dataclass
class Data:
    """One pattern file, and files of other sizes made of its bytes, repeated where they are longer.

    Attributes:
        folder: Where everything goes; it is the caller's to remove.
        size: Bytes in the pattern.
    """

    folder: Path
    size: int
    _digests: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        with self.pattern.open("wb") as file:
            for at in range(0, self.size, MIB):
                file.write(os.urandom(min(MIB, self.size - at)))

    @property
    def pattern(self) -> Path:
        """The pattern file."""
        return self.folder / "pattern"

    def file(self, size: int) -> Path:
        """Return a file of that size."""
        if size == self.size:
            return self.pattern
        path = self.folder / f"file-{size}"
        if not path.exists():
            with path.open("wb") as file:
                for block in self._blocks(size):
                    file.write(block)
        return path

    def forget(self, size: int) -> None:
        """Remove the file of that size, unless it is the pattern."""
        (self.folder / f"file-{size}").unlink(missing_ok=True)

    def sha256(self, size: int) -> str:
        """Return the digest of the object of that size."""
        if size not in self._digests:
            digest = hashlib.sha256()
            for block in self._blocks(size):
                digest.update(block)
            self._digests[size] = digest.hexdigest()
        return self._digests[size]

    def small_files(self, count: int, size: int) -> Path:
        """Return a folder of that many small files, for tools that only take files."""
        folder = self.folder / f"small-{count}"
        if not folder.exists():
            folder.mkdir()
            with self.pattern.open("rb") as file:
                for number in range(count):
                    file.seek(number * size % max(self.size - size, 1))
                    (folder / f"{number}").write_bytes(file.read(size))
        return folder

    def _blocks(self, size: int) -> list[bytes] | _Blocks:
        return _Blocks(self.pattern, self.size, size)


class _Blocks:
    """The first bytes of the endless repetition of a file, a few MiB at a time."""

    def __init__(self, path: Path, period: int, size: int) -> None:
        self._path, self._period, self._size = path, period, size

    def __iter__(self):  # noqa: ANN204 - an iterator of bytes
        left = self._size
        with self._path.open("rb") as file:
            while left:
                block = file.read(min(4 * MIB, left))
                if not block:
                    file.seek(0)
                    continue
                left -= len(block)
                yield block
