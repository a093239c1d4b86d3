"""Which address of a name a connection goes to: several are tried, staggered, and what was learned of them is kept.

urllib3 tries a name's addresses one after the other, each for the whole connect timeout, and always in the system's
order. So an IPv6 route that leads nowhere costs every connection that timeout, and one slow machine behind a name gets
as many requests as its siblings. Here attempts overlap as RFC 8305 ("Happy Eyeballs") has it, the first that connects
wins, and later connections begin with what worked, spread over what is neither dead nor slow.

Code of our own, as no library fits below urllib3: aiohappyeyeballs is for asyncio only, and urllib3-future replaces the
urllib3 that botocore needs. Sockets connect without blocking, under one selector; only a name's lookup has a thread.
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
import threading
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from stepout.artifacts.s3.job_signals import raise_own
from stepout.artifacts.s3.routes.direct_connections import looked_up

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

STAGGER_SECONDS: Final = 0.25
"""Before the next address is tried beside those that have not answered: https://www.rfc-editor.org/rfc/rfc8305#section-8"""

_TICK: Final = 0.1
"""Seconds between looks at whether the request was cancelled."""

_REST_SECONDS: Final = 60.0
"""For so long an address that did not answer, or was slow, comes after all others."""

_FAMILY_SECONDS: Final = 600.0
"""For so long the family that connected last is tried first."""

_ENOUGH: Final = 3
"""Requests, before an address is compared with others."""

_SLOWER: Final = 3.0
"""Times the median of the others, which makes an address slow; for short requests also so many seconds more:"""
_LATER: Final = 0.1

_MANY: Final = 32
"""Addresses of which something is known, before what is known for longer than ``_REST_SECONDS`` is forgotten."""

_WEIGHT: Final = 0.3
_LARGE: Final = 1 << 20

_UNDER_WAY: Final = frozenset({errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EAGAIN, getattr(errno, "WSAEWOULDBLOCK", 0)})


class Address(NamedTuple):
    """One address of a name, as ``getaddrinfo`` gives it: the family, and what a socket connects to."""

    family: int
    place: Any


class _Seen:
    """What requests to one address took: seconds a request for short ones, seconds a MiB for long ones."""

    def __init__(self) -> None:
        self.count = [0, 0]
        self.took = [0.0, 0.0]
        self.last = 0.0

    def add(self, size: int, seconds: float, now: float) -> None:
        kind = int(size >= _LARGE)
        took = seconds / (size / _LARGE) if kind else seconds
        known = self.took[kind]
        self.took[kind] = took if not self.count[kind] else known + _WEIGHT * (took - known)
        self.count[kind] += 1
        self.last = now


class AddressBook:
    """What is known of the addresses of one name and port; for any thread.

    Args:
        clock: Seconds, monotonic.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # Reentrant: connections are also closed by the garbage collector, in the middle of anything.
        self._lock = threading.RLock()
        self._open: dict[Address, int] = {}
        self._dead: dict[Address, float] = {}
        self._seen: dict[Address, _Seen] = {}
        self._family: tuple[int, float] | None = None

    def order(self, found: Iterable[Address]) -> list[Address]:
        """Return addresses in the order to try them: families in turn, few connections first, dead and slow ones last.

        Args:
            found: In the system's order.
        """
        with self._lock:
            addresses = list(dict.fromkeys(found))
            now = self._clock()
            family = addresses[0].family if addresses else 0
            if self._family is not None and now - self._family[1] < _FAMILY_SECONDS:
                family = self._family[0]
            bad = {each: self._is_dead(each, now) or self.is_slow(each) for each in addresses}
            spread = sorted(addresses, key=lambda each: (bad[each], self._open.get(each, 0)))
            first = [each for each in spread if each.family == family]
            other = [each for each in spread if each.family != family]
            turns = {each: (place, each.family != family) for part in (first, other) for place, each in enumerate(part)}
            return sorted(spread, key=lambda each: (bad[each], turns[each]))

    def opened(self, address: Address) -> None:
        """Take note of a connection; ``closed`` tells of its end."""
        with self._lock:
            self._open[address] = self._open.get(address, 0) + 1
            self._dead.pop(address, None)
            self._family = (address.family, self._clock())

    def closed(self, address: Address) -> None:
        """Take note of a connection's end."""
        with self._lock:
            left = self._open.pop(address, 0) - 1
            if left > 0:
                self._open[address] = left

    def failed(self, address: Address) -> None:
        """Take note of an address that refused, or did not answer while another one did."""
        with self._lock:
            now = self._clock()
            self._dead[address] = now
            if len(self._dead) > _MANY:
                self._dead = {each: since for each, since in self._dead.items() if now - since < _REST_SECONDS}

    def saw(self, address: Address, size: int, seconds: float) -> None:
        """Take note of what a request took.

        Args:
            address: Where it went.
            size: Bytes of its body and of its answer's.
            seconds: From its beginning to the end of its answer.
        """
        with self._lock:
            now = self._clock()
            self._seen.setdefault(address, _Seen()).add(size, seconds, now)
            if len(self._seen) > _MANY:  # S3 has thousands of addresses and names a few at a time
                self._seen = {each: seen for each, seen in self._seen.items() if now - seen.last <= _REST_SECONDS}

    def is_slow(self, address: Address) -> bool:
        """Say whether requests to an address take several times as long as those to the others."""
        with self._lock:
            here = self._seen.get(address)
            if here is None:
                return False
            if self._clock() - here.last > _REST_SECONDS:  # it may have recovered: it is judged anew
                del self._seen[address]
                return False
            return any(self._slower(address, here, kind) for kind in (0, 1))

    def _slower(self, address: Address, here: _Seen, kind: int) -> bool:
        others = [
            each.took[kind] for other, each in self._seen.items() if other != address and each.count[kind] >= _ENOUGH
        ]
        if here.count[kind] < _ENOUGH or not others:
            return False
        from statistics import median  # brings fractions and more, which few processes need

        usual = median(others)
        return here.took[kind] > _SLOWER * usual and (kind == 1 or here.took[kind] > usual + _LATER)

    def _is_dead(self, address: Address, now: float) -> bool:
        return address in self._dead and now - self._dead[address] < _REST_SECONDS


def addresses_of(
    host: str,
    port: int,
    family: int = socket.AF_UNSPEC,
    *,
    seconds: float,
    look: Callable[[], None] | None = None,
) -> list[Address]:
    """Return a name's addresses in the system's order; arguments and errors as for ``looked_up``."""
    name = host.strip("[]") if host.startswith("[") else host
    return [Address(each[0], each[4]) for each in looked_up(name, port, family, seconds=seconds, look=look)]


class Connecting:
    """One connection on its way, to whichever address answers first.

    Args:
        book: What is known of the addresses.
        seconds: How long all attempts may take together.
        options: Set on each socket before it connects, as ``setsockopt`` takes them.
        source: What each socket is bound to; ``None``: whatever the system chooses.
        look: Called now and then; raises to end the attempts.
        clock: Seconds, monotonic.
    """

    def __init__(  # noqa: PLR0913 - keyword-only, each with its own meaning
        self,
        book: AddressBook,
        *,
        seconds: float | None,
        options: Sequence[tuple[int, int, int | bytes]] = (),
        source: tuple[str, int] | None = None,
        look: Callable[[], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._book, self._options, self._source = book, options, source
        self._look, self._clock = look, clock
        self._deadline = None if seconds is None else clock() + seconds
        self._error: OSError | None = None
        self._asked: list[Address] = []

    def first(self, addresses: Sequence[Address]) -> tuple[socket.socket, Address]:
        """Return the first socket that is connected, and where to.

        Args:
            addresses: In the order to try them.

        Raises:
            TimeoutError: None answered in time.
            OSError: All refused; the first one's error.
        """
        waiting = list(reversed(addresses))
        # Not epoll or kqueue, which would cost a descriptor more for each connection.
        with getattr(selectors, "PollSelector", selectors.SelectSelector)() as selector:
            try:
                return self._race(selector, waiting)
            finally:
                for key in list(selector.get_map().values()):
                    key.fileobj.close()

    def _race(self, selector: Any, waiting: list[Address]) -> tuple[socket.socket, Address]:
        next_start = self._clock()
        while waiting or selector.get_map():
            now = self._clock()
            if self._deadline is not None and now >= self._deadline:
                raise TimeoutError("timed out")
            if self._look is not None:
                self._look()
            if waiting and (now >= next_start or not selector.get_map()):
                # One that refuses at once keeps the next one waiting no longer.
                next_start = now + (STAGGER_SECONDS if self._start(selector, waiting.pop()) else 0)
                continue
            for key, _ in selector.select(self._patience(next_start if waiting else None)):
                selector.unregister(key.fileobj)
                if self._is_connected(key.fileobj, key.data):
                    self._forsake(selector, key.data)
                    return key.fileobj, key.data
                next_start = now
        raise self._error or OSError("getaddrinfo returned no addresses")

    def _start(self, selector: Any, address: Address) -> bool:
        sock = None
        try:
            sock = socket.socket(address.family, socket.SOCK_STREAM)
            for option in self._options:
                sock.setsockopt(*option)
            if self._source:
                sock.bind(self._source)
            sock.setblocking(False)
            _raise_for(sock.connect_ex(address.place))
        except OSError as error:
            self._note(sock, address, error)
            return False
        self._asked.append(address)
        selector.register(sock, selectors.EVENT_WRITE, address)
        return True

    def _is_connected(self, sock: socket.socket, address: Address) -> bool:
        try:
            _raise_for(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
        except OSError as error:
            self._note(sock, address, error)
            return False
        return True

    def _note(self, sock: socket.socket | None, address: Address, error: OSError) -> None:
        if sock is not None:
            sock.close()
        raise_own(error)
        self._error = self._error or error
        self._book.failed(address)

    def _forsake(self, selector: Any, winner: Address) -> None:
        # Who was asked before the winner and has not answered yet is not asked first next time.
        silent = {key.data for key in selector.get_map().values()}
        for address in self._asked[: self._asked.index(winner)]:
            if address in silent:
                self._book.failed(address)

    def _patience(self, next_start: float | None) -> float | None:
        ends = [each for each in (self._deadline, next_start) if each is not None]
        patience = max(0.0, min(ends) - self._clock()) if ends else None
        if self._look is None:
            return patience
        return _TICK if patience is None else min(patience, _TICK)


def _raise_for(code: int) -> None:
    if code and code not in _UNDER_WAY:
        raise OSError(code, os.strerror(code))
