"""The proxy's process: it accepts connections, numbers them and hands them to workers.

    python -m benchmarks.network.proxy --upstream 127.0.0.1:9000 --latency 0.03 --rate 80e6 --stalls 0.01

It prints its port. ``counters`` on its standard input is answered with its counts as JSON; ``seed 7`` sets the seed and
begins to number connections anew. It ends with its standard input.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import sys
import threading
import traceback
from dataclasses import fields

from benchmarks.counting import Counters
from benchmarks.network.model import Conditions
from benchmarks.network.relay import COUNTED, NAME, Relay, shallow
from benchmarks.priority import before_clients

__all__ = ["main"]


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.network.proxy", description=__doc__.partition("\n")[0], allow_abbrev=False
    )
    parser.add_argument("--upstream", required=True, help="host:port of the server")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--processes", type=int, default=max(2, os.cpu_count() or 2))
    for field in fields(Conditions):
        kind = int if field.name in {"connections", "seed", "stalled_connection"} else float
        parser.add_argument(
            f"--{field.name.replace('_', '-')}", type=kind, default=field.default, help="see model.Conditions"
        )
    return parser.parse_args(arguments)


def _fork(workers: int, upstream: tuple[str, int], conditions: Conditions, counters: Counters) -> list[socket.socket]:
    """Start the workers; return where each takes connections."""
    doors: list[socket.socket] = []
    for row in range(workers):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if os.fork() == 0:
            for door in (*doors, ours):  # a worker ends when the last copy of its door is closed
                door.close()
            counters.row = row + 1
            try:
                Relay(upstream, conditions, counters).run(theirs)
            except Exception:
                traceback.print_exc()
            finally:
                os._exit(0)
        theirs.close()
        doors.append(ours)
    return doors


class Front:
    """Accepts connections, and gives each its name and one of the workers.

    Args:
        listener: Where they come from.
        doors: Where workers take them.
        counters: What was opened and closed.
        conditions: The first seed, and how many may be open.
    """

    def __init__(
        self, listener: socket.socket, doors: list[socket.socket], counters: Counters, conditions: Conditions
    ) -> None:
        self._listener, self._doors, self._counters = listener, doors, counters
        self._seed, self._number, self._most = conditions.seed, 0, conditions.connections

    def reseed(self, seed: int) -> None:
        """Begin anew with the numbers of connections."""
        self._seed, self._number = seed, 0

    def run(self) -> None:
        """Accept for ever."""
        while True:
            with contextlib.suppress(ConnectionError):
                client, _ = self._listener.accept()
                with contextlib.closing(client):
                    self._pass_on(client)

    def _pass_on(self, client: socket.socket) -> None:
        total = self._counters.total()
        if self._most and total["opened"] - total["closed"] >= self._most:
            self._counters.add("refused")
            return
        self._number += 1
        self._counters.add("opened")
        door = self._doors[self._number % len(self._doors)]
        socket.send_fds(door, [NAME.pack(self._seed, self._number)], [client.fileno()])


def main(arguments: list[str] | None = None) -> None:
    """Serve until standard input ends or SIGTERM."""
    options = _options(arguments)
    conditions = Conditions(**{field.name: getattr(options, field.name) for field in fields(Conditions)})
    before_clients()
    host, _, port = options.upstream.rpartition(":")
    counters = Counters(COUNTED, options.processes + 1)
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if conditions.rate:
        shallow(listener)
    listener.bind(("127.0.0.1", options.port))
    listener.listen(512)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    doors = _fork(options.processes, (host, int(port)), conditions, counters)
    front = Front(listener, doors, counters, conditions)
    threading.Thread(target=front.run, daemon=True).start()
    print(listener.getsockname()[1], flush=True)
    for line in sys.stdin:
        word, _, seed = line.strip().partition(" ")
        if word == "seed":
            front.reseed(int(seed))
        print(json.dumps(counters.total()), flush=True)


if __name__ == "__main__":
    main()
