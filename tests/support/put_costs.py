"""A program that puts to warm up and once more counted: what it read, hashed and copied, whoever did it.

Run as ``python put_costs.py HOW PATH`` where the environment says how S3 is reached; ``HOW`` is one of ``PUTS``,
``PATH`` a file, beside which it makes another. It prints a line when it is warm, waits for a line of input, puts again,
and prints JSON: bytes that the process read, by the kernel's count (``null`` elsewhere than on Linux); bytes that went
into each algorithm of hashlib, zlib and awscrt, by wrappers that were there before anybody else imported those; the
most bytes of Python's memory that were in use beyond what was before.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
import tracemalloc
import zlib
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

PIECE = 100_000  # what a writer is given at a time: no multiple of anything

hashed: Counter[str] = Counter()
_lock = threading.Lock()


def _note(name: str, data: Any) -> None:
    with _lock:
        hashed[name] += memoryview(data).nbytes


class Hash:
    """One of hashlib's objects, counted."""

    def __init__(self, real: Any) -> None:
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def update(self, data: Any) -> None:
        """Take bytes and count them."""
        _note(self._real.name, data)
        self._real.update(data)

    def copy(self) -> Hash:
        """Return another one; what it has seen is counted already."""
        return Hash(self._real.copy())


def _constructor(real: Callable[..., Any]) -> Callable[..., Hash]:
    def construct(*arguments: Any, **options: Any) -> Hash:
        made = real(*arguments, **options)
        for data in arguments[1:] if real is _new else arguments:
            _note(made.name, data)
        return Hash(made)

    return construct


def _counted(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
    def count(data: Any, *previous: Any) -> Any:
        _note(name, data)
        return real(data, *previous)

    return count


_new = hashlib.new


def count_hashes() -> None:
    """Put counters in the place of whatever computes checksums; ``hashlib.file_digest`` uses them as well."""
    for name in hashlib.algorithms_guaranteed:
        setattr(hashlib, name, _constructor(getattr(hashlib, name)))
    hashlib.new = _constructor(_new)  # type: ignore[assignment] # as good as the real one
    zlib.crc32 = _counted("crc32", zlib.crc32)
    try:
        from awscrt import checksums
    except ImportError:
        return
    for name in [each for each in vars(checksums) if each.startswith("crc")]:
        setattr(checksums, name, _counted(name, getattr(checksums, name)))


def be_nearby() -> None:
    """Let the server stay one that is near, and no part be late: only a busy machine could make it seem otherwise."""
    from stepout.artifacts.process.servers import ServerState
    from stepout.artifacts.transfer import tails

    setattr(ServerState, "saw_latency", lambda *_: None)  # noqa: B010 - a name of another module
    tails.NEAR_LATE = tails.FAR_LATE = 3600.0


def bytes_read() -> int | None:
    """Return how many bytes this process's read calls have brought, in all threads; see proc_pid_io(5)."""
    try:
        lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next(int(line.split()[1]) for line in lines if line.startswith("rchar:"))


def put_file(manager: Any, name: str, path: Path, _: bytes) -> None:
    """Put a file by its path."""
    manager.put_file(name, path)


def put_stream(manager: Any, name: str, path: Path, _: bytes) -> None:
    """Put what an open file gives."""
    with path.open("rb", buffering=0) as source:
        manager.put_file(name, source)


def put_bytes(manager: Any, name: str, _: Path, data: bytes) -> None:
    """Put what is in memory."""
    manager.put_bytes(name, data)


def write(manager: Any, name: str, _: Path, data: bytes) -> None:
    """Write through a file object, in pieces that are copied by nobody before it."""
    with memoryview(data) as view, manager.open(name) as file:
        for start in range(0, len(view), PIECE):
            file.write(view[start : start + PIECE])


def put_many(manager: Any, name: str, _: Path, data: bytes) -> None:
    """Put four values at once."""
    manager.put_many({f"{name}_{number}": data for number in range(4)})


PUTS = {each.__name__: each for each in (put_file, put_stream, put_bytes, write, put_many)}


def main(how: str, path: Path) -> None:
    """Put, wait, put again and print what that cost."""
    count_hashes()
    from stepout.artifacts import ArtifactManager

    be_nearby()
    manager = ArtifactManager(os.environ["BUCKET"])
    put, size = PUTS[how], path.stat().st_size
    other = path.with_name("other")
    for name in ("cold", "warm"):  # the second small request goes another way, which is imported then
        # Other bytes: a list of blocks that is there already takes a look at it.
        other.write_bytes(os.urandom(size))
        put(manager, name, other, other.read_bytes())
    data = b"" if how in {"put_file", "put_stream"} else path.read_bytes()
    sys.stdout.write("warm\n")
    sys.stdout.flush()
    sys.stdin.readline()
    hashed.clear()
    tracemalloc.start()
    before, start = bytes_read(), tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    put(manager, "counted", path, data)
    peak, after = tracemalloc.get_traced_memory()[1], bytes_read()
    read = None if before is None or after is None else after - before
    sys.stdout.write(json.dumps({"read": read, "hashed": hashed, "beyond": peak - start}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
