"""A line that all connections share: a network namespace whose packets pass a token bucket. Linux, with root only."""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["FarEnd", "shared_line"]

_NUMBERS = itertools.count()
BURST, QUEUE = "256kb", "20ms"
"""Of the token bucket: what passes at once, and how long a packet waits before it is dropped."""


@dataclass(frozen=True)
class FarEnd:
    """Where a server is to run so that all its bytes pass the line.

    Attributes:
        address: Of the server's end.
        within: What a command begins with to run there.
    """

    address: str
    within: tuple[str, ...]


@contextlib.contextmanager
def shared_line(rate: float) -> Iterator[FarEnd]:
    """Make a line, and remove it after the block.

    Args:
        rate: Bits per second, each way.

    Raises:
        PermissionError: This process may not make namespaces, or this kernel has no token buckets.
        FileNotFoundError: ``ip`` or ``tc`` is not installed.
    """
    number = next(_NUMBERS)  # a namespace goes away some time after it was deleted
    name, third = f"line{os.getpid() % 10**6}-{number}", (os.getpid() + number) % 250
    ours, theirs = f"{name}a", f"{name}b"
    address, within = f"10.203.{third}.2", ("ip", "netns", "exec", name)
    bucket = ("root", "tbf", "rate", f"{rate:.0f}bit", "burst", BURST, "latency", QUEUE)
    try:
        _run("ip", "netns", "add", name)
        _run("ip", "link", "add", ours, "type", "veth", "peer", "name", theirs, "netns", name)
        for where, device, its in (((), ours, f"10.203.{third}.1"), (within, theirs, address)):
            _run(*where, "ip", "address", "add", f"{its}/30", "dev", device)
            _run(*where, "ip", "link", "set", device, "up")
            _run(*where, "tc", "qdisc", "add", "dev", device, *bucket)
        _run(*within, "ip", "link", "set", "lo", "up")
        yield FarEnd(address, within)
    finally:
        with contextlib.suppress(OSError):
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


def _run(*command: str) -> None:
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode:
        msg = f"{' '.join(command[:3])}: {run.stderr.strip()}"
        raise PermissionError(msg)
