"""Request bodies made of views: sent without copying, and rewound for botocore's retries."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from stepout.artifacts.checksums import sha256_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

SMALL = 256 * 1024
"""Up to here one copy is cheaper than a body object, and head and body leave in one send."""


class Views(tuple["memoryview", ...]):  # noqa: SLOT001 - a tuple's subclass cannot have slots that hold anything
    """Bytes in memory, in order; they know their own SHA-256 once it was asked for, however often they are sent."""

    _sha256: str | None = None

    @classmethod
    def cut(cls, view: memoryview, size: int) -> Self:
        """Cut a view into pieces of ``size`` bytes, the last one shorter."""
        return cls(view[start : start + size] for start in range(0, len(view), size))

    def sha256(self) -> str:
        """Return the SHA-256 of all of them, in hex."""
        if self._sha256 is None:
            self._sha256 = sha256_of(self)
        return self._sha256


class ViewBody:
    """A readable, seekable body over views.

    ``read(n)`` returns a whole view where one begins, however small ``n`` is when the body is being sent: http.client
    asks for 16 KiB at a time, and large sends are what makes an upload fast. Readers take whatever length comes back.

    Args:
        views: The body's bytes, in order.
        sha256: Theirs in hex, where it is known.
    """

    def __init__(self, views: Sequence[memoryview], sha256: str | None = None) -> None:
        self._source = views if isinstance(views, Views) else Views(views)
        self._sha256 = sha256
        self._views = [view for view in views if len(view)]
        self._size = sum(map(len, self._views))
        self._index = self._offset = self._position = 0

    def __len__(self) -> int:
        return self._size

    def read(self, size: int | None = -1) -> memoryview | bytes:
        """Return the rest of the current view; ``b""`` at the end. ``size`` only matters where it is 0."""
        if size == 0 or self._index == len(self._views):
            return b""
        view = self._views[self._index][self._offset :]
        self._index, self._offset = self._index + 1, 0
        self._position += len(view)
        return view

    def readinto(self, target: memoryview) -> int:
        """Fill ``target``, which is how awscrt reads a body that it signs, and return how much there was."""
        filled = 0
        while filled < len(target) and self._index < len(self._views):
            view = self._views[self._index]
            count = min(len(target) - filled, len(view) - self._offset)
            target[filled : filled + count] = view[self._offset : self._offset + count]
            filled, self._offset, self._position = filled + count, self._offset + count, self._position + count
            if self._offset == len(view):
                self._index, self._offset = self._index + 1, 0
        return filled

    def sha256(self) -> str:
        """Return the SHA-256 of all of it in hex, wherever it has been read to; for a signature."""
        return self._sha256 or self._source.sha256()

    def tell(self) -> int:
        """Return how many bytes have been read."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to ``offset``; botocore rewinds to 0 and measures with the end."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = rest = min(max(base + offset, 0), self._size)
        self._index = 0
        while self._index < len(self._views) and rest >= len(self._views[self._index]):
            rest -= len(self._views[self._index])
            self._index += 1
        self._offset = rest
        return self._position

    def seekable(self) -> bool:
        """Say that the body can be rewound."""
        return True


def request_body(views: Sequence[memoryview], *, sha256: str | None = None) -> bytes | ViewBody:
    """Return what to pass to boto3: bytes where they are few, else a body that copies nothing.

    Args:
        views: The bytes, in order.
        sha256: Theirs in hex, where it is known: a signature then costs no second pass.
    """
    if sum(map(len, views)) <= SMALL:
        return b"".join(views)
    return ViewBody(views, sha256)
