"""Requests that another thread may end: its socket is shut down under the thread that waits on it.

Shut down, not closed: a closed descriptor may be another connection's by the time that the blocked call looks at it
again. The waiting call then finds the end of the stream, or cannot send, and raises. A shutdown goes through a
descriptor of its own (``dup``): while TLS is negotiated nobody else has a socket object, and a socket that its owner
closes meanwhile stays this connection and no other.

On Windows a call that waits to receive may notice only when the server has closed its side as well.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from concurrent.futures import CancelledError
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from stepout.artifacts.store import RequestCancelledError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

T = TypeVar("T")

_of_thread = threading.local()


class SocketCancellation:
    """The requests of one thread for as long as a block runs; see ``Cancels``.

    Only one socket is in use at a time: the thread's. It is held from when a connection is opened, or taken for a
    request, until its answer has been read or it is closed.
    """

    def __init__(self) -> None:
        # Reentrant: a signal's handler may cancel in the middle of what this thread does here.
        self._lock = threading.RLock()
        self._cancelled = False
        self._held: socket.socket | None = None
        self._owner: object = None

    @property
    def cancelled(self) -> bool:
        """Whether ``cancel`` was called."""
        return self._cancelled

    def cancel(self) -> None:
        """End the request that is under way, and refuse all further ones of the block; for any thread."""
        with self._lock:
            self._cancelled = True
            if self._held is not None:
                with contextlib.suppress(OSError):  # the connection is gone already
                    self._held.shutdown(socket.SHUT_RDWR)

    def hold(self, owner: object, sock: Any) -> None:
        """Take note of the socket on which the thread sends its request.

        Args:
            owner: The connection that it belongs to.
            sock: A socket, or what TLS made of one.

        Raises:
            CancelledError: The request was cancelled before it began; botocore does not try again after this one.
        """
        with self._lock:
            if self._cancelled:
                raise CancelledError
            if self._owner is owner and self._held is not None:
                return
            self._release()
            # A shutdown looks at no address, so any family does.
            self._owner, self._held = owner, socket.fromfd(sock.fileno(), socket.AF_INET, socket.SOCK_STREAM)

    def let_go(self, owner: object) -> bool:
        """Forget the socket of a connection that others may use from now on; say whether it was shut down."""
        with self._lock:
            if self._owner is not owner:
                return False
            self._release()
            return self._cancelled

    def end(self) -> None:
        """Forget whatever is held: the block ends."""
        with self._lock:
            self._release()

    def _release(self) -> None:
        held, self._held, self._owner = self._held, None, None
        if held is not None:
            held.close()


class SocketUse:
    """Whose the socket of one connection is: at most one thread's request, and the cancellation of that."""

    def __init__(self) -> None:
        self._by: SocketCancellation | None = None

    def begin(self, sock: Any) -> None:
        """Take note that this thread uses the socket, which is closed if the request was cancelled already.

        Raises:
            CancelledError: It was.
        """
        self.end()
        self._by = current_cancellation()
        try:
            if self._by is not None:
                self._by.hold(self, sock)
        except CancelledError:
            sock.close()
            raise

    def end(self) -> bool:
        """Take note that nobody uses it any more; say whether it was shut down."""
        by, self._by = self._by, None
        return by is not None and by.let_go(self)

    def run(self, act: Callable[[], T]) -> T:
        """Do a part of the request; whatever comes of a shutdown is a ``CancelledError``.

        That is the one error after which botocore does not send again, whatever it was told of retries.
        """
        try:
            return act()
        except Exception as error:
            if self._by is not None and self._by.cancelled:
                raise CancelledError from error
            raise


def cancelled_request(what: str) -> RequestCancelledError:
    """Return the error to raise.

    Args:
        what: The operation and the object.
    """
    return RequestCancelledError(f"{what}: the request was cancelled by this program, which has no more use for it")


def current_cancellation() -> SocketCancellation | None:
    """Return what ends the requests of this thread, inside a block of ``cancellable``."""
    return getattr(_of_thread, "current", None)  # a thread that was in no block yet has no such attribute


def end_if_cancelled() -> None:
    """Raise ``CancelledError`` if this thread's request was cancelled."""
    found = current_cancellation()
    if found is not None and found.cancelled:
        raise CancelledError


@contextmanager
def cancellable() -> Iterator[SocketCancellation]:
    """Let any thread end the requests that this one sends inside the block; see ``Cancels``."""
    outer, own = current_cancellation(), SocketCancellation()
    _of_thread.current = own
    try:
        yield own
    finally:
        _of_thread.current = outer
        own.end()
