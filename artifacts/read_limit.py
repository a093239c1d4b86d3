"""The default limit of reads into memory, a quarter of the memory that the process was granted; and what text takes."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

MOST: Final = 1 << 30
"""Bytes: the limit if the amount of memory is unknown, and the highest limit."""

_SHARE: Final = 4
_LAMBDA: Final = (
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE"  # MiB; https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html
)
_CGROUP: Final = "/sys/fs/cgroup"
_SELF: Final = "/proc/self/cgroup"
_BEYOND_16_BITS: Final = re.compile(rb"[\xf0-\xff]")
_BEYOND_8_BITS: Final = re.compile(rb"[\xc4-\xff]")


def limit_of(grants: Iterable[int | None]) -> int:
    """Return the limit for the smallest of all grants of memory.

    Args:
        grants: Bytes; ``None`` and numbers below 1 stand for a source that says nothing.

    >>> limit_of([None, 512 << 20, 64 << 30]) >> 20, limit_of([64 << 30]) >> 20, limit_of([]) >> 20
    (128, 1024, 1024)
    """
    known = [grant for grant in grants if grant is not None and grant > 0]
    return min(min(known) // _SHARE, MOST) if known else MOST


def read_limit(environ: Mapping[str, str] | None = None, cgroup: str = _CGROUP, groups: str = _SELF) -> int:
    """Return the limit of a read into memory, in bytes.

    The grant is the least of the Lambda function's memory, the memory limits of the process's control groups
    (version 2 and 1; those of the containers around it count as well), its resource limits, and the physical memory.
    A source that the system does not have is ignored.

    Args:
        environ: ``None``: ``os.environ``.
        cgroup: Where control groups are mounted.
        groups: Which of them the process is in, as ``/proc/self/cgroup`` says it.
    """
    found = os.environ if environ is None else environ
    return limit_of([_lambda(found), *_cgroups(cgroup, groups), *_resources(), _physical()])


def _lambda(environ: Mapping[str, str]) -> int | None:
    size = _whole(environ.get(_LAMBDA, ""))
    return None if size is None else size << 20


def _cgroups(mount: str, groups: str) -> Iterator[int | None]:
    """Yield the limits of a process's groups and of all above them (Linux, Documentation/admin-guide/cgroup-v2.rst)."""
    for line in _text(groups).splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "memory" not in controllers.split(","):
            continue
        folder, file = (f"{mount}/memory", "memory.limit_in_bytes") if controllers else (mount, "memory.max")
        # In a container the path may be the host's, which is not mounted: only the folders that exist are read.
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for depth in range(len(parts) + 1):
            yield _whole(_text("/".join([folder, *parts[:depth], file])).strip())


def _resources() -> Iterator[int | None]:
    try:
        import resource  # not on Windows
    except ImportError:
        return
    for name in ("RLIMIT_AS", "RLIMIT_DATA"):
        kind = getattr(resource, name, None)
        soft = resource.RLIM_INFINITY if kind is None else resource.getrlimit(kind)[0]
        yield None if soft == resource.RLIM_INFINITY else soft


def _physical() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # Windows has no sysconf; other systems lack some names
        return None


def _text(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:  # noqa: PTH123 - pathlib costs more than the read
            return file.read()
    except OSError:
        return ""


def _whole(text: str) -> int | None:
    """Return the number that a text holds; ``None`` for ``max`` (no limit) and anything else that is no number."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None  # noqa: PLR2004 - 64 bits


def text_memory(data: bytes, encoding: str) -> int:
    """Return what text takes: Python keeps as many bytes for each character as the widest of them needs."""
    if data.isascii():
        return len(data)
    if encoding.lower().replace("_", "-") not in ("utf-8", "utf8"):
        return 2 * len(data)
    return len(data) * (4 if _BEYOND_16_BITS.search(data) else 2 if _BEYOND_8_BITS.search(data) else 1)
