"""What one measured process is told, and the few things that every peer needs."""

from __future__ import annotations

import hashlib
import mmap
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

__all__ = ["ETAG", "MIB", "Beside", "Job", "Work", "children_cpu", "hash_file", "mapped", "sha256"]

MIB = 1 << 20
BUCKET = "bench"
ETAG = '"0123456789abcdef0123456789abcdef"'
"""Of every object of the sink; the pointers have it, as those that a producer passes on do."""

Work = Callable[[], dict[str, Any]]
"""The part that is measured; what it returns is checked and reported."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One measurement, small enough to travel as JSON.

    Attributes:
        peer: Who does it.
        operation: What is done: a name in the peer's table.
        endpoint: Where S3 is.
        authority: The certificate authority to trust, for HTTPS.
        path: The file to send, or to write to.
        size: Bytes in the object; for small objects, in each.
        sha256: Of the object; a peer that claims to know it must come to the same.
        hashed: The same job (SHA-256 of the whole, integrity checked by the server), or doing less.
        key: The object.
        count: How many objects, for small ones.
        options: Anything else, by operation.
    """

    peer: str
    operation: str
    endpoint: str = ""
    authority: str | None = None
    path: str = ""
    size: int = 0
    sha256: str = ""
    hashed: bool = True
    key: str = "object"
    count: int = 1
    bucket: str = BUCKET
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def https(self) -> bool:
        """Whether the endpoint speaks TLS."""
        return self.endpoint.startswith("https:")

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return asdict(self)


def children_cpu() -> float:
    """Return user and system seconds of the processes that this one started and that have ended."""
    if sys.platform == "win32":
        return 0.0
    import resource  # finer than os.times, which counts in hundredths

    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def mapped(path: str) -> memoryview:
    """Map a file into memory."""
    with Path(path).open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def hash_file(path: str) -> str:
    """Hash a file the way a user would."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256(view: memoryview) -> str:
    """Hash what is in memory, a MiB at a time."""
    digest = hashlib.sha256()
    for at in range(0, len(view), MIB):
        digest.update(view[at : at + MIB])
    return digest.hexdigest()


class Beside:
    """Hashes a file in a thread beside other work: what a careful user of a peer can do."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._sha256 = ""
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join()

    def _run(self) -> None:
        self._sha256 = hash_file(self._path)

    @property
    def sha256(self) -> str:
        """The digest, after the block."""
        return self._sha256
