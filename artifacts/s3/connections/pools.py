"""The connections of the clients that we build: they can be cancelled, and are never used again half-used.

**Half-used.** A server may answer before it has read a request's body: with a denial instead of ``100 Continue``, or
while the body is on its way. botocore then sends no body, or not all of it, and its pool takes the connection back; a
server that goes on reading takes the head of the next request for the body that it waits for, and answers that one with
nonsense (RFC 9112, section 9.6, has the client close such a connection). Here the socket is closed once the answer's
head has arrived; the answer itself can still be read to its end.

**Cancelled.** A connection tells the cancellation of its thread (``cancellation``) which socket is in use, from when it
is opened or taken for a request until it goes back to the pool or is closed.

**Spread and watched.** A connection goes to whichever address of a name answers first (``addresses``), and what it
brings is noted: by address, and for how many connections there may be (``watch``, ``limit``). All of them trust the
same authorities, whose certificates are read once (``tls``).

The classes are made from botocore's own, once they are needed.
"""

from __future__ import annotations

import functools
import socket
import sys
from ssl import SSLSocket
from typing import TYPE_CHECKING, Any

from stepout.artifacts.s3.connections.cancellation import SocketUse
from stepout.artifacts.s3.connections.tls import is_open
from stepout.artifacts.s3.connections.watch import OPEN_SECONDS, ConnectionWatch, IdleFirst, Shared
from stepout.artifacts.s3.internals import ANSWERED_EARLY, open_pool, pool_classes

if TYPE_CHECKING:
    from collections.abc import Callable

_FIRST_ERROR = 300


def use_own_connections(client: Any) -> None:
    """Let a client use these connections, and no others.

    Where a version of botocore lacks the members that are needed (``internals``), connections are used as it uses them.

    Args:
        client: A boto3 S3 client that nobody else uses yet.
    """
    pools = pool_classes(client)
    if pools is not None:
        pools.update({scheme: _pool_of(pool) for scheme, pool in pools.items()})


def is_own(pool: Any) -> bool:
    """Say whether a pool has these connections."""
    return _shared_of(pool) is not None


def is_limited(pool: Any) -> bool:
    """Say whether something between allows fewer connections than are wanted, as far as a pool of ours knows."""
    shared = _shared_of(pool)
    return shared is not None and shared.limit.limit is not None


def lend(pool: Any, back: Callable[[], None]) -> Callable[[], None]:
    """Return what gives a connection back that somebody holds and does not use yet.

    A pool of ours does it by itself where a request waits for a connection and there may be no more.

    Args:
        pool: Which it was taken out of.
        back: Gives it back; called once.
    """
    shared = _shared_of(pool)
    return back if shared is None else shared.lend(back)


def _shared_of(pool: Any) -> Shared | None:
    found = None if pool is None else vars(pool).get("shared")
    return found if isinstance(found, Shared) else None


@functools.cache
def _pool_of(pool: Any) -> Any:
    """Return a class of pools like ``pool``, with connections of ours."""
    return _with_connections(open_pool(pool))


def _with_connections(base: Any) -> Any:
    class Pool(base):  # type: ignore[misc] # of a base that is only known here, as all below
        ConnectionCls = _never_half_used(_cancellable(_watched(_with_tls(_spread(base.ConnectionCls)))))
        QueueCls = IdleFirst

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.conn_kw["shared"] = self.shared = Shared()

        def taken(self, give: Callable[[], Any]) -> Any:
            return self.shared.take(functools.partial(super().taken, give))

        def taken_back(self, connection: Any) -> None:
            cancelled = connection.socket_use.end()  # as the answer had come: the socket is of no use to others
            connection.watch.back(discard=cancelled)

    return Pool


def _spread(base: Any) -> Any:
    from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

    class Spread(base):  # type: ignore[misc]
        def __init__(self, *args: Any, shared: Shared | None = None, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.watch = ConnectionWatch(self, shared or Shared())

        def open_socket(self) -> Any:
            seconds = OPEN_SECONDS if self.timeout is None else min(self.timeout, OPEN_SECONDS)
            options, source = self.socket_options or (), self.source_address
            # The errors are those that urllib3 raises here, by which it tells what failed.
            try:
                sock = self.watch.connect(self.lookup_name, self.port, seconds, options=options, source=source)
            except socket.gaierror as error:
                raise NameResolutionError(self.host, self, error) from error
            except TimeoutError as error:
                text = f"Connection to {self.host} timed out. (connect timeout={seconds})"
                raise ConnectTimeoutError(self, text) from error
            except OSError as error:
                raise NewConnectionError(self, f"Failed to establish a new connection: {error}") from error
            sys.audit("http.client.connect", self, self.host, self.port)
            return sock

    return Spread


def _with_tls(base: Any) -> Any:
    from urllib3.connection import HTTPSConnection

    if not issubclass(base, HTTPSConnection):
        return base

    class Secure(base):  # type: ignore[misc]
        ca_certs: str | None

        def __init__(self, *args: Any, shared: Shared | None = None, **kwargs: Any) -> None:
            shared = shared or Shared()
            super().__init__(*args, shared=shared, **kwargs)
            self._authorities = shared.authorities

        @property
        def is_connected(self) -> bool:
            return super().is_connected or (isinstance(self.sock, SSLSocket) and is_open(self.sock))

        def connect(self) -> None:
            context, file = self.ssl_context, self.ca_certs
            # A proxy may have a context of its own, which needs the file as well.
            if context and file and self.proxy is None and self._authorities.read_into(context, file):
                self.ca_certs = None
            try:
                super().connect()
            finally:
                self.ca_certs = file

    return Secure


def _watched(base: Any) -> Any:
    from urllib3.util import wait_for_read

    class Watched(base):  # type: ignore[misc]
        def connect(self) -> None:
            self.watch.run(super().connect)
            if self.sock is not None:
                self.sock.settimeout(self.timeout)  # until now it had less time

        def request(self, method: str, url: str, *args: Any, **kwargs: Any) -> Any:
            self.watch.begin(method, url)
            return self.watch.run(functools.partial(super().request, method, url, *args, **kwargs))

        def send(self, data: Any) -> Any:
            self.watch.moved += len(data)
            return super().send(data)

        def getresponse(self) -> Any:
            patience = self.watch.patience
            if patience is not None and self.sock is not None and not wait_for_read(self.sock, patience):
                self.watch.give_up()
            response = self.watch.run(super().getresponse)
            self.watch.answered(response.headers.get("content-length"))
            return response

        def exchange(self, *args: Any, **kwargs: Any) -> Any:
            return self.watch.exchange(*args, **kwargs)

        def close(self) -> None:
            self.watch.closed()
            super().close()

    return Watched


def _cancellable(base: Any) -> Any:
    class Cancellable(base):  # type: ignore[misc]
        _answering = False

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.socket_use = SocketUse()

        def open_socket(self) -> Any:
            sock = super().open_socket()
            self.socket_use.begin(sock)  # from here on, as TLS is negotiated before anything is sent
            return sock

        def connect(self) -> None:
            self.socket_use.run(super().connect)

        def request(self, *args: Any, **kwargs: Any) -> Any:
            if self.sock is not None:
                self.socket_use.begin(self.sock)
            return self.socket_use.run(functools.partial(super().request, *args, **kwargs))

        def getresponse(self) -> Any:
            self._answering = True
            try:
                return self.socket_use.run(super().getresponse)
            finally:
                self._answering = False

        def exchange(self, *args: Any, **kwargs: Any) -> Any:
            self.socket_use.begin(self.sock)
            return self.socket_use.run(functools.partial(super().exchange, *args, **kwargs))

        def close(self) -> None:
            # http.client closes in the middle of getresponse where the answer is the connection's last one; its body is
            # still to be read, and may be cancelled until the thread's next request.
            if not self._answering:
                self.socket_use.end()
            super().close()

    return Cancellable


def _never_half_used(base: Any) -> Any:
    from urllib3.util import wait_for_read

    class Whole(base):  # type: ignore[misc]
        sock: Any
        _whole = True
        _early = False
        _sends = 0

        def request(self, *args: Any, **kwargs: Any) -> Any:
            self._whole, self._early, self._sends = False, False, 0
            # A broken pipe leaves this method by an exception, so _whole stays False; botocore reads the answer all the
            # same, which is why the socket is looked at in getresponse and not here.
            done = super().request(*args, **kwargs)
            self._whole = not getattr(self, ANSWERED_EARLY, False)
            return done

        def send(self, data: Any) -> Any:
            # Head, first piece, and only then a look: bodies of one piece are sent before there is a choice.
            self._sends += 1
            if self._sends > 2 and not self._early:  # noqa: PLR2004 - as said above
                self._early = wait_for_read(self.sock, 0)
            return super().send(data)

        def getresponse(self) -> Any:
            response = super().getresponse()
            # Under TLS there are other things to read than answers (tickets): something to read and then a success
            # is no sign of an early answer. Something to read and then an error is taken for one: at worst a good
            # connection is closed.
            well = self._whole and not (self._early and response.status >= _FIRST_ERROR)
            if not well and self.sock is not None:
                sock, self.sock = self.sock, None
                sock.close()  # the answer holds a file over it, and closes that at its end
            return response

    return Whole
