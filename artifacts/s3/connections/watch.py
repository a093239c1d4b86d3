"""What one connection of ours is noted for: how long its requests take, where, and whether it answers at all.

``Shared`` is what the connections of one pool know together.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from stepout.artifacts.s3.connections.addresses import AddressBook, Connecting, addresses_of
from stepout.artifacts.s3.connections.cancellation import current_cancellation, end_if_cancelled
from stepout.artifacts.s3.connections.limit import ConnectionLimit
from stepout.artifacts.s3.connections.tls import Authorities
from stepout.artifacts.s3.job_signals import raise_own
from stepout.artifacts.s3.routes.http_exchange import exchange

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepout.artifacts.s3.connections.addresses import Address
    from stepout.artifacts.s3.routes.http_exchange import HttpAnswer

T = TypeVar("T")

OPEN_SECONDS: Final = 10.0
"""For a name's lookup and all its addresses together, and once more for the TLS handshake. The system sends a lost SYN
again after 1, 3 and 7 seconds."""

SEND_SECONDS: Final = 60.0
"""For each MiB of a request: 17 KB/s must get through. urllib3 calls it the connect timeout."""

READ_SECONDS: Final = 60.0
"""Without a byte of the answer."""

PROOF_SECONDS: Final = 10.0
"""Instead of ``READ_SECONDS`` for the first byte of an answer on a connection that is in doubt: it has brought no
answer yet while others have, or it has been idle for ``DOUBT_SECONDS``. Only where the request may be sent twice."""

DOUBT_SECONDS: Final = 4.0
"""Load balancers that forget idle connections in silence do it after 5 seconds or more."""

IDLE_SECONDS: Final = 50.0
"""A connection that has been idle for longer is opened anew."""

LOST_SECONDS: Final = 30.0
"""Without any acknowledgement of what was sent, or with a server that takes nothing more; on Linux."""

# Where the system has them: probes on a connection that is waited on, and an end to what is never acknowledged.
_OPTIONS: Final = (("TCP_KEEPIDLE", 30), ("TCP_KEEPALIVE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))
_UNACKNOWLEDGED: Final = ("TCP_USER_TIMEOUT", int(LOST_SECONDS * 1000))


class IdleFirst(queue.LifoQueue[Any]):
    """What a pool keeps its connections in: open ones are given first, whatever came back after them.

    urllib3 puts a placeholder on top for each connection that failed, and would open another one beside an idle one.
    """

    def _put(self, item: Any) -> None:
        if item is None or item.sock is None:
            self.queue.insert(0, item)
        else:
            self.queue.append(item)


class Shared:
    """What the connections of one pool know together.

    Args:
        clock: Seconds, monotonic.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.book, self.limit = AddressBook(clock=clock), ConnectionLimit(clock=clock)
        self.authorities = Authorities()
        self._lent = set[Callable[[], None]]()
        self.distrusted = float("-inf")
        """Connections that have been idle since before this moment are opened anew."""

    def take(self, give: Callable[[], Any]) -> Any:
        """Return a connection to use, once there may be one more; one that was idle for too long is closed."""
        return self.limit.take(partial(self._ready, give), self._look)

    def lend(self, back: Callable[[], None]) -> Callable[[], None]:
        """Return ``back`` as something that is done once, by whoever holds the connection or by who waits for it."""
        calls = [back]

        def once() -> None:
            self._lent.discard(once)
            with contextlib.suppress(IndexError):  # done already; to pop is one step
                calls.pop()()

        self._lent.add(once)
        return once

    def _look(self) -> None:
        end_if_cancelled()
        for each in list(self._lent):
            each()

    def _ready(self, give: Callable[[], Any]) -> Any:
        while True:
            connection = give()
            connection.watch.take()
            # Where there may be no more, one that was closed meanwhile is left out for one that is open.
            if connection.sock is not None or not connection.watch.was_open or not self.limit.limit:
                return connection


class ConnectionWatch:
    """Of one connection.

    Args:
        connection: Which has ``sock`` and ``close``.
        shared: Its pool's.
    """

    def __init__(self, connection: Any, shared: Shared) -> None:
        self._connection, self._shared, self._clock = connection, shared, shared.clock
        self._address: Address | None = None
        self._began = self._idle_since = shared.clock()
        self._method, self._twice, self._doubtful = "", False, False
        self.moved = 0
        """Bytes of the request and its answer so far."""
        self.was_open = self._was_open = False
        """Whether the connection went into its pool open."""

    def connect(
        self,
        host: str,
        port: int,
        seconds: float,
        *,
        options: Sequence[tuple[int, int, int | bytes]],
        source: tuple[str, int] | None,
    ) -> socket.socket:
        """Return a socket that is connected, with ``seconds`` for what follows.

        Raises:
            OSError: As ``Connecting.first``.
        """
        from urllib3.util.connection import allowed_gai_family

        shared = self._shared
        look = None if current_cancellation() is None else end_if_cancelled
        began = self._clock()
        found = addresses_of(host, port, allowed_gai_family(), seconds=seconds, look=look)
        left = began + seconds - self._clock()
        addresses = shared.book.order(found)
        attempts = Connecting(shared.book, seconds=left, options=options, source=source, look=look)
        try:
            sock, self._address = attempts.first(addresses)
        except OSError as error:
            raise_own(error)
            shared.limit.refused()
            raise
        _keep_watch(sock)
        sock.settimeout(seconds)
        shared.book.opened(self._address)
        shared.limit.opened(self._connection)
        self._began, self._doubtful = self._clock(), False
        return sock

    def take(self) -> None:
        """Take note that it is about to be used."""
        self.was_open, self._was_open = self._was_open, False
        if self._connection.sock is None:
            return
        idle = self._clock() - self._idle_since
        if idle > IDLE_SECONDS or self._idle_since < self._shared.distrusted:
            self._connection.close()
        self._doubtful = idle > DOUBT_SECONDS

    def begin(self, method: str, url: str) -> None:
        """Take note of a request."""
        self._method, self._twice = method, method == "GET" or (method == "PUT" and "partNumber=" in url)
        self._began, self.moved = self._clock(), 0

    def exchange(self, method: str, request: bytes, *, limit: int, deadline: float) -> HttpAnswer:
        """Do what ``http_exchange.exchange`` does, on this connection, which is open."""
        self.begin(method, "")
        self.moved = len(request)
        patience = self.patience
        if patience is not None:
            deadline = min(deadline, time.monotonic() + patience)
        try:
            answer = self.run(partial(exchange, self._connection.sock, request, limit=limit, deadline=deadline))
        except TimeoutError:
            if patience is not None:
                self.give_up()
            raise
        self.answered(str(len(answer.body)))
        return answer

    @property
    def patience(self) -> float | None:
        """Seconds to wait for the first byte before ``give_up`` is asked; ``None``: as long as usual."""
        in_doubt = self._doubtful or not self._shared.limit.has_proved(self._connection)
        return PROOF_SECONDS if self._twice and in_doubt else None

    def give_up(self) -> None:
        """Raise ``TimeoutError`` if the request had better be sent once more, on another connection.

        Raises:
            CancelledError: This thread's request was cancelled, which says nothing of the connection.
        """
        end_if_cancelled()
        if self._doubtful:
            self._shared.distrusted = self._clock()
            raise TimeoutError("no answer on a connection that had been idle")
        if self._shared.limit.unanswered(self._connection, self._began):
            raise TimeoutError("no answer on a new connection, while others are answered")

    def run(self, act: Callable[[], T]) -> T:
        """Do a part of a request; a connection that breaks before it has brought an answer may be one too many."""
        try:
            return act()
        except OSError as error:  # also what http.client raises where a connection ends without an answer
            raise_own(error)
            end_if_cancelled()
            if self._address is not None:
                since = self._began if isinstance(error, TimeoutError) else None
                self._shared.limit.unanswered(self._connection, since)
            raise

    def answered(self, length: str | None) -> None:
        """Take note of an answer's head, and of how many bytes follow."""
        self._shared.limit.answered(self._connection)
        self._doubtful = False
        if self._method != "HEAD" and length is not None and length.isdigit():
            self.moved += int(length)

    def back(self, *, discard: bool) -> None:
        """Take note of the end of a request; the connection is closed if nobody should use it."""
        self._idle_since = now = self._clock()
        if self._connection.sock is not None and self._address is not None and not discard and self._method:
            self._shared.book.saw(self._address, self.moved, now - self._began)
            discard = self._shared.book.is_slow(self._address)
        self._method = ""
        if discard:
            self._connection.close()
        elif self._connection.sock is None and self._address is not None:
            self.closed()  # the answer came early, and took the socket along
        self._was_open = self._connection.sock is not None
        self._shared.limit.back(self._connection)

    def closed(self) -> None:
        """Take note that it has no socket any more."""
        address, self._address = self._address, None
        if address is not None:
            self._shared.book.closed(address)
        self._shared.limit.closed(self._connection)


def _keep_watch(sock: socket.socket) -> None:
    for name, value in (*_OPTIONS, _UNACKNOWLEDGED):
        option = getattr(socket, name, None)
        if option is not None:
            with contextlib.suppress(OSError):  # a system may know the name and refuse the option
                sock.setsockopt(socket.IPPROTO_TCP, option, value)
