"""Carries connections from clients to a server as ``model`` says: one loop for all connections of a process."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import selectors
import socket
import struct
import time
from typing import TYPE_CHECKING, Any

from benchmarks.network.conduit import make_conduit
from benchmarks.network.model import METHODS, PEEKED, LaneClock, Mishap, mishap_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.counting import Counters
    from benchmarks.network.model import Conditions

__all__ = ["COUNTED", "NAME", "Relay", "shallow"]

NAME = struct.Struct("!qq")
"""How a connection's seed and number travel to the process that carries it."""
COUNTED = ("opened", "closed", "refused", "requests", "stalled", "cut", "bytes_up", "bytes_down")
TLS = b"\x16"
TOO_SOON = 0.0003
"""Seconds that are not worth a timer: what arrives so soon arrives now, and the pace makes up for it."""
TURNS = 8
SWEEP = 0.25
BUFFER = 256 << 10


def shallow(sock: socket.socket) -> None:
    """Let little wait in the kernel: what was not carried yet must stay with the sender, as on a real line."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)


class _End:
    """A socket, and which of its two lanes wait for it."""

    def __init__(self, sock: socket.socket, relay: Relay) -> None:
        self.sock, self._relay = sock, relay
        self._waiting: dict[int, _Lane] = {}
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def wait(self, event: int, lane: _Lane) -> None:
        """Call the lane's ``advance`` when the event comes; once."""
        if not self._waiting:
            self._relay.selector.register(self.sock, event, self)
        else:
            self._relay.selector.modify(self.sock, event | sum(self._waiting), self)
        self._waiting[event] = lane

    def happened(self, mask: int, now: float) -> None:
        """Wake the lanes that waited; none does where an event before this one has closed the connection."""
        if not self._waiting:
            return
        woken = [self._waiting.pop(event) for event in list(self._waiting) if event & mask]
        if self._waiting:
            self._relay.selector.modify(self.sock, sum(self._waiting), self)
        else:
            self._relay.selector.unregister(self.sock)
        for lane in woken:
            lane.advance(now)

    def close(self) -> None:
        """Close the socket."""
        if self._waiting:
            self._waiting.clear()
            self._relay.selector.unregister(self.sock)
        self.sock.close()


class _Lane:
    """One direction of a connection."""

    def __init__(self, link: _Link, name: str, source: _End, target: _End) -> None:
        self.name, self.ended, self.carried = name, False, 0
        self._link, self._source, self._target = link, source, target
        self._pace = LaneClock(link.relay.conditions, link.opened)
        self._slice = link.relay.conditions.slice_bytes()
        self._conduit = make_conduit(self._slice)
        self._due = 0.0
        self._turned = False

    def start(self) -> None:
        """Wait for bytes."""
        self._source.wait(selectors.EVENT_READ, self)

    def advance(self, now: float) -> None:
        """Carry what can be carried now, then wait for time or for a socket."""
        try:
            for _ in range(TURNS):
                if self._link.closed or self.ended or not (self._give(now) and self._take(now)):
                    return
            self._link.relay.at(now, self)
        except (OSError, ValueError):  # one of the two is gone
            self._link.close()

    def _give(self, now: float) -> bool:
        if self._due - now > TOO_SOON:
            self._link.relay.at(self._due, self)
            return False
        try:
            while self._conduit.pending:
                self._conduit.give(self._target.sock)
        except BlockingIOError:
            self._target.wait(selectors.EVENT_WRITE, self)
            return False
        return True

    def _take(self, now: float) -> bool:
        """Take the next slice, unless the lane has to wait first; ``False`` if there is nothing to do now."""
        # What has waited for its turn is taken, whatever the other end says meanwhile: over TLS both may speak at once,
        # and would make each other wait for ever.
        if self._link.turned_to is not self and not self._turned and self._turn(now):
            return False
        most = self._slice
        fault = self._link.fault
        if fault is not None and fault.place == self.name:
            most = min(most, fault.after - self.carried)
            if most <= 0:
                return self._meet(fault, now)
        try:
            count = self._conduit.take(self._source.sock, most)
        except BlockingIOError:
            self._source.wait(selectors.EVENT_READ, self)
            return False
        if count == 0:
            self._end()
            return False
        self._turned = False
        self.carried += count
        self._link.relay.counters.add(f"bytes_{self.name}", count)
        self._link.used_at = now
        self._due = self._pace.carry(now, count)
        return True

    def _turn(self, now: float) -> bool:
        """Begin after a change of direction, if there are bytes: whether the lane has to wait."""
        try:
            head = self._source.sock.recv(PEEKED, socket.MSG_PEEK)
        except BlockingIOError:
            self._source.wait(selectors.EVENT_READ, self)
            return True
        self._link.turn(self, head)
        self._turned = True
        self._due = self._pace.turn(now)
        fault = self._link.fault
        if fault is not None and fault.place == "answer" and self.name == "down":
            self._link.spend(fault)
            self._due = self._pace.hold(self._due, self._link.relay.conditions.stall_seconds)
        return not self._give(now)

    def _meet(self, fault: Mishap, now: float) -> bool:
        self._link.spend(fault)
        if fault.kind == "cut":
            self._link.cut()
        else:
            self._due = self._pace.hold(now, self._link.relay.conditions.stall_seconds)
            self._link.relay.at(self._due, self)
        return False

    def _end(self) -> None:
        self.ended = True
        with contextlib.suppress(OSError):
            self._target.sock.shutdown(socket.SHUT_WR)
        self._link.ended()

    def close(self) -> None:
        """Free what it holds."""
        self._conduit.close()


class _Link:
    """A connection: two sockets, two lanes."""

    def __init__(self, relay: Relay, client: socket.socket, server: socket.socket, name: tuple[int, int]) -> None:
        self.relay, self._name = relay, name
        self.opened = self.used_at = relay.clock()
        self.closed, self.requests = False, 0
        self.fault: Mishap | None = None
        self.turned_to: _Lane | None = None
        self._tls = False
        self._ends = (_End(client, relay), _End(server, relay))
        self._lanes = (_Lane(self, "up", *self._ends), _Lane(self, "down", *reversed(self._ends)))
        for lane in self._lanes:
            lane.start()

    def turn(self, lane: _Lane, head: bytes) -> None:
        """Note that bytes go the other way now; those of a new request decide what it meets."""
        self._tls = self._tls or (self.turned_to is None and head.startswith(TLS))
        self.turned_to = lane
        if lane.name == "up" and head and (self._tls or head.startswith(METHODS)):
            self.requests += 1
            for each in self._lanes:
                each.carried = 0
            self.relay.counters.add("requests")
            self.fault = mishap_of(self.relay.conditions, *self._name, self.requests, head)

    def spend(self, fault: Mishap) -> None:
        """Count a fault, which happens once."""
        self.fault = None
        self.relay.counters.add("stalled" if fault.kind == "stall" else "cut")

    def cut(self) -> None:
        """Reset both ends."""
        for end in self._ends:
            end.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def ended(self) -> None:
        """Close, when both lanes are at their end."""
        if all(lane.ended for lane in self._lanes):
            self.close()

    def close(self) -> None:
        """Close both sockets."""
        if not self.closed:
            self.closed = True
            for each in (*self._ends, *self._lanes):
                each.close()
            self.relay.forget(self)


class Relay:
    """The loop of one process.

    Args:
        upstream: Address of the server.
        conditions: The network.
        counters: Where it counts.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        upstream: tuple[str, int],
        conditions: Conditions,
        counters: Counters,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.conditions, self.counters, self.clock = conditions, counters, clock
        self.selector: Any = selectors.DefaultSelector()
        self._upstream = upstream
        self._links: set[_Link] = set()
        self._timers: list[tuple[float, int, _Lane]] = []
        self._sequence = itertools.count()

    def add(self, client: socket.socket, name: tuple[int, int]) -> None:
        """Carry one more connection; its name is a seed and a number."""
        try:
            server = socket.socket()
            if self.conditions.rate:
                shallow(server)
            server.connect(self._upstream)
        except OSError:
            client.close()
            self.counters.add("closed")
            return
        self._links.add(_Link(self, client, server, name))

    def at(self, when: float, lane: _Lane) -> None:
        """Call the lane's ``advance`` then."""
        heapq.heappush(self._timers, (when, next(self._sequence), lane))

    def forget(self, link: _Link) -> None:
        """Count a connection that was closed."""
        self._links.discard(link)
        self.counters.add("closed")

    def run(self, sockets: socket.socket) -> None:
        """Serve for ever what comes over a Unix socket: connections, each with its name."""
        sockets.setblocking(False)
        self.selector.register(sockets, selectors.EVENT_READ, None)
        while True:
            for key, mask in self._wait():
                if key.data is not None:
                    key.data.happened(mask, self.clock())
                elif not self._receive(sockets):
                    return
            self._tick(self.clock())

    def _receive(self, sockets: socket.socket) -> bool:
        with contextlib.suppress(BlockingIOError):
            data, files, _, _ = socket.recv_fds(sockets, NAME.size, 1)
            if not data:
                return False
            self.add(socket.socket(fileno=files[0]), NAME.unpack(data))
        return True

    def _wait(self) -> list[Any]:
        """Wait for the next event or timer; the selector counts in milliseconds, which is too coarse at the end."""
        limit = SWEEP if self.conditions.idle else 60.0
        left = min(max(self._timers[0][0] - self.clock(), 0), limit) if self._timers else limit
        if left >= 0.002:
            return list(self.selector.select(left - 0.001))
        events = list(self.selector.select(0))
        if not events and left:
            time.sleep(left)
        return events

    def _tick(self, now: float) -> None:
        while self._timers and self._timers[0][0] <= now:
            heapq.heappop(self._timers)[2].advance(now)
        if self.conditions.idle:
            for link in [each for each in self._links if each.used_at < now - self.conditions.idle]:
                link.close()
