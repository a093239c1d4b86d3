"""Holds the network against a plain socket: does a round trip take what was asked for, and a MiB?

``python -m benchmarks.network.check --latency 0.03 --rate 80e6`` says so.
"""

from __future__ import annotations

import contextlib
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.network.model import Conditions
    from benchmarks.servers import Server

__all__ = ["Check", "check"]

MIB = 1 << 20
TIMES = 7
BODY_SECONDS = 0.4
LEAST_BODY, MOST_BODY = 4 * MIB, 64 * MIB


@dataclass(frozen=True)
class Check:
    """What a plain socket found, beside what the model says, in seconds.

    Attributes:
        first: A connection and its first small request: two round trips.
        next: One more on the same connection: one.
        up: A body of ``size`` bytes sent, and its answer.
        down: As many bytes received.
        size: Of the bodies.
        conditions: What was asked for.
    """

    first: float
    next: float
    up: float
    down: float
    size: int
    conditions: Conditions

    def errors(self) -> dict[str, float]:
        """Return by how much each is off, as a share of the model's: 0.02 is two per cent too slow."""
        latency, rate = self.conditions.latency, self.conditions.rate
        body = latency + (self.size / rate if rate else 0)
        expected = {"first": 2 * latency, "next": latency, **({"up": body, "down": body} if rate else {})}
        return {name: getattr(self, name) / seconds - 1 for name, seconds in expected.items() if seconds}

    def __str__(self) -> str:
        shown = ", ".join(f"{name} {100 * error:+.1f} %" for name, error in self.errors().items())
        return f"{1000 * self.conditions.latency:g} ms, {self.conditions.rate / 1e6:g} MB/s: {shown}"


def check(server: Server, conditions: Conditions) -> Check:
    """Ask a sink behind the network, over plain sockets; the least of a few, because a busy machine only adds time.

    Args:
        server: A sink over HTTP, as ``servers.network`` returns it.
        conditions: Those of that network. Requests must not stall.
    """
    host, port = server.endpoint.rpartition("/")[2].split(":")
    size = min(max(int(conditions.rate * BODY_SECONDS), LEAST_BODY), MOST_BODY)
    firsts: list[float] = []
    nexts: list[float] = []
    ups: list[float] = []
    downs: list[float] = []
    for _ in range(TIMES):
        start = time.perf_counter()
        with contextlib.closing(socket.create_connection((host, int(port)))) as sock:
            _ask(sock, b"HEAD", 1)
            firsts.append(time.perf_counter() - start)
            nexts.append(_timed(sock, b"HEAD", 1))
            ups.append(_timed(sock, b"PUT", size))
            downs.append(_timed(sock, b"GET", size))
    return Check(min(firsts), min(nexts), min(ups), min(downs), size, conditions)


def _timed(sock: socket.socket, method: bytes, size: int) -> float:
    start = time.perf_counter()
    _ask(sock, method, size)
    return time.perf_counter() - start


def _ask(sock: socket.socket, method: bytes, size: int) -> None:
    length = size if method == b"PUT" else 0
    sock.sendall(b"%s /bench/pattern/%d HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (method, size, length))
    block = bytes(MIB)
    for at in range(0, length, MIB):
        sock.sendall(block[: min(MIB, length - at)])
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += sock.recv(1 << 16)
    left = size - len(answer.partition(b"\r\n\r\n")[2]) if method == b"GET" else 0
    memory = bytearray(MIB)
    while left:
        left -= sock.recv_into(memory, min(left, MIB))


def main() -> None:
    """Check one network before a sink of its own."""
    import argparse
    import tempfile
    from pathlib import Path

    from benchmarks import servers
    from benchmarks.network.model import Conditions

    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.network.check", description=__doc__.partition("\n")[0], allow_abbrev=False
    )
    parser.add_argument("--latency", type=float, default=0.03)
    parser.add_argument("--rate", type=float, default=80e6)
    options = parser.parse_args()
    conditions = Conditions(latency=options.latency, rate=options.rate)
    with tempfile.TemporaryDirectory() as folder:
        pattern = Path(folder) / "pattern"
        pattern.write_bytes(bytes(8 * MIB))
        with servers.sink(pattern) as server, servers.network(server, conditions) as network:
            print(check(network, conditions))


if __name__ == "__main__":
    main()
