"""The proxy's process: it accepts connections, numbers them and hands them to workers.

    python -m benchmarks.network.proxy --upstream 127.0.0.1:9000 --latency 0.03 --rate 80e6 --stalls 0.01

It prints its port. A line on its standard input is answered with its counts as JSON; it ends with its standard input.
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
from dataclasses import fields

from benchmarks.counting import Counters
from benchmarks.network.model import Conditions
from benchmarks.network.relay import COUNTED, Relay, shallow

__all__ = ["main"]

PRIORITY = -10
"""Where it is allowed."""


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.network.proxy", description=__doc__.partition("\n")[0], allow_abbrev=False
    )
    parser.add_argument("--upstream", required=True, help="host:port of the server")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--processes", type=int, default=max(2, os.cpu_count() or 2))
    for field in fields(Conditions):
        kind = int if field.name in {"connections", "seed"} else float
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
            finally:
                os._exit(0)
        theirs.close()
        doors.append(ours)
    return doors


def _accept(listener: socket.socket, doors: list[socket.socket], counters: Counters, most: int) -> None:
    number = 0
    while True:
        with contextlib.suppress(ConnectionError):
            client, _ = listener.accept()
            total = counters.total()
            if most and total["opened"] - total["closed"] >= most:
                counters.add("refused")
                client.close()
                continue
            number += 1
            counters.add("opened")
            socket.send_fds(doors[number % len(doors)], [number.to_bytes(8)], [client.fileno()])
            client.close()


def main(arguments: list[str] | None = None) -> None:
    """Serve until standard input ends or SIGTERM."""
    options = _options(arguments)
    conditions = Conditions(**{field.name: getattr(options, field.name) for field in fields(Conditions)})
    with contextlib.suppress(OSError, AttributeError):  # a network is not slower because the client is busy
        os.setpriority(os.PRIO_PROCESS, 0, PRIORITY)
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
    accepting = threading.Thread(target=_accept, args=(listener, doors, counters, conditions.connections), daemon=True)
    accepting.start()
    print(listener.getsockname()[1], flush=True)
    for _ in sys.stdin:
        print(json.dumps(counters.total()), flush=True)


if __name__ == "__main__":
    main()
