"""A real terminal for tests: a pair of pseudo-terminals, whose other end is read by a thread."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class PseudoTerminal:
    """A terminal, and what it was sent once it is closed.

    Attributes:
        stream: What a program writes to.
        received: What it wrote, in pieces; line feeds come as carriage return and line feed.
    """

    stream: TextIO
    received: list[bytes]

    @property
    def text(self) -> str:
        """Everything that was written; only after the ``with`` block."""
        return b"".join(self.received).decode()

    @property
    def drawn(self) -> list[str]:
        """What each redrawing of a line put there."""
        return [piece.split("\r\n")[0] for piece in self.text.split("\r\x1b[K")[1:]]


@contextmanager
def pseudo_terminal(columns: int = 80) -> Iterator[PseudoTerminal]:
    """Open a terminal of so many columns; at the end of the block all that was written has been received."""
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    received: list[bytes] = []

    def receive() -> None:
        with suppress(OSError):  # Linux says EIO where others say that it has ended
            while piece := os.read(ours, 65_536):
                received.append(piece)

    reader = threading.Thread(target=receive)
    reader.start()
    try:
        with os.fdopen(theirs, "w") as stream:
            yield PseudoTerminal(stream, received)
    finally:
        reader.join()
        os.close(ours)
