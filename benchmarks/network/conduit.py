"""Moves bytes from one socket to another: by the kernel alone where it can (Linux), through memory elsewhere."""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import socket

__all__ = ["Conduit", "MemoryConduit", "SpliceConduit", "make_conduit"]


class Conduit(Protocol):
    """Holds one slice between two sockets that do not block."""

    @property
    def pending(self) -> int:
        """How many bytes it holds."""

    def take(self, source: socket.socket, most: int) -> int:
        """Take bytes from a socket; 0 at its end. It must be empty.

        Raises:
            BlockingIOError: There are none yet.
        """

    def give(self, target: socket.socket) -> None:
        """Give what it holds to a socket, as much as that takes.

        Raises:
            BlockingIOError: It takes nothing now.
        """

    def close(self) -> None:
        """Free what it holds."""


class SpliceConduit:
    """A pipe: bytes go from socket to socket without a copy."""

    def __init__(self, capacity: int) -> None:
        self.pending = 0
        self._out, self._in = os.pipe()
        with contextlib.suppress(OSError):  # beyond what the system allows: slices become smaller
            fcntl.fcntl(self._in, fcntl.F_SETPIPE_SZ, capacity)

    def take(self, source: socket.socket, most: int) -> int:
        """See ``Conduit``."""
        self.pending = os.splice(source.fileno(), self._in, most, flags=os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK)
        return self.pending

    def give(self, target: socket.socket) -> None:
        """See ``Conduit``."""
        self.pending -= os.splice(
            self._out, target.fileno(), self.pending, flags=os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK
        )

    def close(self) -> None:
        """See ``Conduit``."""
        os.close(self._in)
        os.close(self._out)


class MemoryConduit:
    """A buffer, for systems that cannot splice."""

    def __init__(self, capacity: int) -> None:
        self.pending = 0
        self._at = 0
        self._view = memoryview(bytearray(capacity))

    def take(self, source: socket.socket, most: int) -> int:
        """See ``Conduit``."""
        self._at, self.pending = 0, source.recv_into(self._view[:most])
        return self.pending

    def give(self, target: socket.socket) -> None:
        """See ``Conduit``."""
        sent = target.send(self._view[self._at : self._at + self.pending])
        self._at += sent
        self.pending -= sent

    def close(self) -> None:
        """See ``Conduit``."""
        self._view.release()


def make_conduit(capacity: int) -> Conduit:
    """Make the one that costs least here."""
    return SpliceConduit(capacity) if hasattr(os, "splice") else MemoryConduit(capacity)
