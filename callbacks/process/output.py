"""Writes a child process's output to a descriptor, or passes it on line by line."""

from __future__ import annotations

import os
import select
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_LONGEST_LINE: Final = 1 << 20
"""Bytes; a longer line, or one that never ends, is broken into several."""


def write_all(fd: int, data: bytes) -> None:
    """Write all of ``data`` to a descriptor; wait while it is full."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:  # Another process has set our output to non-blocking.
            select.select([], [fd], [])


class LineSplitter:
    r"""Turns pieces into lines.

    Args:
        on_line: Called with each line as text, without its line end; bytes that are not UTF-8 are replaced.

    Example:
        >>> split = LineSplitter(print)
        >>> split(b"one\ntw")
        one
        >>> split(b"o\r\nthree")
        two
        >>> split(b"")
        three
    """

    def __init__(self, on_line: Callable[[str], object]) -> None:
        self._on_line = on_line
        self._rest = b""

    def __call__(self, data: bytes) -> None:
        """Take a piece of the output; ``b""`` means the end, and ends the last line, too."""
        *lines, rest = (self._rest + data).split(b"\n")
        if rest and (not data or len(rest) > _LONGEST_LINE):
            lines, rest = [*lines, rest], b""
        self._rest = rest
        for line in lines:
            self._on_line(line.decode("utf-8", "replace").rstrip("\r"))
