"""Connections to one server by the standard library's sockets alone, kept for the next request.

For requests before botocore is loaded. Certificates are verified, and the host's name is: a server that cannot show who
it is fails like one that cannot be reached. Nothing is followed to another host.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import socket
import time
import weakref
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from stepout.artifacts.s3.routes.http_exchange import NotPlainAnswerError, exchange

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepout.artifacts.s3.routes.http_exchange import HttpAnswer

_MOST_IDLE: Final = 16
_LONGEST_IDLE: Final = 4.0
"""Seconds. Load balancers close after five or more; what slept longer, in a frozen process, may be dead in silence."""

_LONGEST_LOOKUP: Final = 10.0
"""Seconds. The C library asks each server of its list twice, five seconds each, and then perhaps for other names."""

_FORSAKEN: Final = 60.0
"""Seconds. A lookup that has taken so long may never end, so nobody waits for that one any more."""

_TICK: Final = 0.1
"""Seconds between looks at whether a lookup is still wanted. On Windows no signal ends a wait for a lock."""

_EACH_ADDRESS: Final = 3.0
"""Seconds for one address while there is another: enough for a lost packet to be sent again."""


class Server(NamedTuple):
    """Where requests go.

    Attributes:
        host: A name or an address, an IPv6 one without brackets.
        port: The port.
        tls: Whether it speaks TLS.
        authority: The file of the certificates that are trusted, instead of the system's; ``None``: the system's.
    """

    host: str
    port: int
    tls: bool
    authority: str | None = None

    @property
    def host_header(self) -> str:
        """The value of ``Host``: without the port where it is the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"


class DirectConnections:
    """Sends requests to one server, each over an idle connection or a new one; for any thread.

    A child of a fork uses none of its parent's connections.

    Args:
        server: Where it is.
        clock: Seconds, monotonic.
        now: Seconds since 1970. A process that was frozen finds its monotonic clock stopped, but not this one.
    """

    def __init__(
        self,
        server: Server,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.server = server
        self._clock, self._now = clock, now
        # A list, without a lock: a signal's handler may read while this does.
        self._idle: list[tuple[Any, float]] = []
        self._pid = os.getpid()
        self._context: Any = None
        weakref.finalize(self, _close_all, self._idle)

    def exchange(self, request: bytes, *, limit: int, seconds: float, chunks: bool = False) -> HttpAnswer:
        """Send a request and return its answer.

        A request that fails on a connection that was idle, which the server may have closed by then, is sent once more
        on a new one. So only requests may come here that can be sent twice.

        Args:
            request: Head and body in one piece.
            limit: Bytes of the longest body that is wanted.
            seconds: How long all of it may take.
            chunks: As for ``http_exchange.exchange``.

        Raises:
            NotPlainAnswerError: As for ``http_exchange.exchange``.
            OSError: The server cannot be reached or verified; ``TimeoutError`` when the time is up.
        """
        deadline = self._clock() + seconds
        sock = self._taken()
        if sock is not None:
            try:
                return self._exchanged(sock, request, limit, deadline, chunks)
            except NotPlainAnswerError:
                pass
            except OSError as error:
                _raise_own(error)
        return self._exchanged(self._opened(deadline), request, limit, deadline, chunks)

    def _exchanged(self, sock: Any, request: bytes, limit: int, deadline: float, chunks: bool) -> HttpAnswer:
        try:
            answer = exchange(sock, request, limit=limit, deadline=deadline, chunks=chunks, clock=self._clock)
        except BaseException:
            sock.close()
            raise
        if answer.reusable and len(self._idle) < _MOST_IDLE and self._pid == os.getpid():
            self._idle.append((sock, self._now()))
        else:
            sock.close()
        return answer

    def _taken(self) -> Any:
        """Return an idle connection that is young enough, or ``None``."""
        if self._pid != os.getpid():
            _close_all(self._idle)  # this process's copies alone; the parent's stay open
            self._pid = os.getpid()
        while True:
            try:
                sock, since = self._idle.pop()
            except IndexError:
                return None
            if 0 <= self._now() - since <= _LONGEST_IDLE and self._is_quiet(sock):
                return sock
            sock.close()

    def _is_quiet(self, sock: Any) -> bool:
        """Say whether nothing has come on an idle connection: neither its end nor what would pass for an answer."""
        nothing: type[OSError] = BlockingIOError
        if self.server.tls:
            import ssl  # loaded already, since there is a connection

            nothing = ssl.SSLWantReadError
        try:
            sock.settimeout(0)
            sock.recv(1)
        except nothing:
            return True
        except OSError as error:
            _raise_own(error)
        return False

    def _opened(self, deadline: float) -> Any:
        server = self.server
        sock = connected(server.host, server.port, deadline, self._clock)
        if not server.tls:
            return sock
        try:
            sock.settimeout(_left(deadline, self._clock))
            if self._context is None:
                self._context = _verifying(server.authority)
            return self._context.wrap_socket(sock, server_hostname=server.host.encode("ascii"))
        except BaseException:
            sock.close()
            raise


class _Lookup:
    """One question to the system's resolver, which has no timeout, in a thread that may have to be left behind.

    Without an ``Event``: a signal's handler that connects, in the middle of a wait for one, would wait for its lock.
    """

    def __init__(self, key: tuple[Any, ...]) -> None:
        self._key = key
        self.began = time.monotonic()
        self.found: list[Any] | None = None
        self.error: Exception | None = None
        self.unanswered = _thread.allocate_lock()
        self.unanswered.acquire()

    def start(self) -> None:
        try:
            # As a daemon of ``threading``, which takes three times as long to start one.
            _thread.start_new_thread(self._ask, ())
        except RuntimeError:  # there may be no more threads, or the interpreter ends
            self._ask()

    def _ask(self) -> None:
        _, host, port, family = self._key
        try:
            # As bytes: for text Python loads its codec of international names, and most are plain already.
            name = host.encode("ascii") if host.isascii() else host
            self.found = socket.getaddrinfo(name, port, family, socket.SOCK_STREAM)
        except Exception as error:  # noqa: BLE001 - whoever waits raises it
            self.error = error
        finally:
            if _lookups.get(self._key) is self:
                _lookups.pop(self._key, None)
            self.unanswered.release()


# Under way; by process, as a child of a fork has none of its parent's threads. Without a lock, for the same child.
_lookups: Final[dict[tuple[Any, ...], _Lookup]] = {}


def looked_up(
    host: str,
    port: int,
    family: int = socket.AF_UNSPEC,
    *,
    seconds: float,
    look: Callable[[], None] | None = None,
) -> list[Any]:
    """Return what ``getaddrinfo`` says of a name, for streams; threads that want the same one wait for one answer.

    Args:
        host: A name or an address.
        port: The port.
        family: Of addresses.
        seconds: How long to wait at most.
        look: Called now and then; raises to end the wait.

    Raises:
        socket.gaierror: There is no such name, nobody to ask, or no answer in time.
    """
    if ":" in host or host.replace(".", "").isdigit():  # an address: nobody is asked
        return socket.getaddrinfo(host.encode("ascii"), port, family, socket.SOCK_STREAM)
    key = (os.getpid(), host, port, family)
    lookup = _lookups.get(key)
    if lookup is None or time.monotonic() - lookup.began > _FORSAKEN:
        mine = _Lookup(key)
        if lookup is None:
            lookup = _lookups.setdefault(key, mine)
        else:
            lookup = _lookups[key] = mine
        if lookup is mine:
            mine.start()
    deadline = time.monotonic() + seconds
    while lookup.found is None and lookup.error is None:
        left = deadline - time.monotonic()
        if left <= 0:
            raise socket.gaierror(socket.EAI_AGAIN, f"no answer to the lookup of {host} within {seconds:.0f} s")
        if look is not None:
            look()
        if lookup.unanswered.acquire(timeout=min(left, _TICK)):
            lookup.unanswered.release()  # for the next one who waits
    if lookup.error is not None:
        raise type(lookup.error)(*lookup.error.args)
    return lookup.found or []


def connected(host: str, port: int, deadline: float, clock: Callable[[], float]) -> socket.socket:
    """Return a connection to the first of a name's addresses that takes one.

    Args:
        host: A name or an address.
        port: The port.
        deadline: When it must stand, by the clock.
        clock: Seconds, monotonic.

    Raises:
        OSError: There is none; the last address's reason.
    """
    found = looked_up(host, port, seconds=min(_left(deadline, clock), _LONGEST_LOOKUP))
    failure: OSError | None = None
    for number, (family, kind, protocol, _, address) in enumerate(found):
        left = _left(deadline, clock)
        more = number + 1 < len(found)
        try:
            sock = socket.socket(family, kind, protocol)
            try:
                sock.settimeout(min(left, _EACH_ADDRESS) if more else left)
                sock.connect(address)
                # Else a request waits until the server has acknowledged the end of the handshake.
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except BaseException:
                sock.close()
                raise
        except OSError as error:
            _raise_own(error)
            failure = error
        else:
            return sock
    raise failure or OSError(f"{host} has no address")


def _raise_own(error: OSError) -> None:
    """Raise what a signal's handler of the job has raised in the middle of a request: it is no failure of that."""
    from stepout.artifacts.s3.job_signals import raise_own  # costs a cold start nothing while all is well

    raise_own(error)


def _left(deadline: float, clock: Callable[[], float]) -> float:
    left = deadline - clock()
    if left <= 0:
        raise TimeoutError("no connection in time")
    return left


def _verifying(authority: str | None) -> Any:
    """Return a TLS context that verifies, as botocore's does: names, certificates, version 1.2 at least."""
    import ssl  # takes longer to import than all the rest of a cold read, and HTTP does without

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if authority is None:
        context.load_default_certs()
    else:
        context.load_verify_locations(authority)
    return context


def _close_all(idle: list[tuple[Any, float]]) -> None:
    while idle:
        with contextlib.suppress(OSError, IndexError):
            idle.pop()[0].close()
