"""Where a child process's output goes: a descriptor, or somebody who wants lines."""

from __future__ import annotations

import os
import select
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_LONGEST_LINE: Final = 1 << 20
"""Bytes; what goes on longer, or never ends, is broken into several."""


def write_all(fd: int, data: bytes) -> None:
    """Write to a descriptor, which may be full: whatever happens to it, nothing is left out."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:  # Somebody set our output to non-blocking.
            select.select([], [fd], [])


class LineSplitter:
    r"""Turns pieces into lines.

    Args:
        on_line: Called with each line, without its end, as text: what is no UTF-8 is replaced.

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
        """Take a piece; ``b""`` is the end, and with it of the last line."""
        *lines, rest = (self._rest + data).split(b"\n")
        if rest and (not data or len(rest) > _LONGEST_LINE):
            lines, rest = [*lines, rest], b""
        self._rest = rest
        for line in lines:
            self._on_line(line.decode("utf-8", "replace").rstrip("\r"))
