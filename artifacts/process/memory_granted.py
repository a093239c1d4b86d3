"""How much memory this process was granted, who says so, and which share of it transfers may use.

The one source for everything that depends on it: limits of reads, the cache of blocks, the settings of a transfer, and
the budget that all transfers of a process share.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, NamedTuple

from stepout.schemas.runtime.process import PerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_LAMBDA: Final = (
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE"  # MiB; https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html
)
_CGROUP: Final = "/sys/fs/cgroup"
_SELF: Final = "/proc/self/cgroup"

_MIB: Final = 1 << 20
_LEAST: Final = 16 * _MIB
_TRANSFER_MOST: Final = 256 * _MIB
_PROCESS_MOST: Final = 1024 * _MIB
_TRANSFER_UNKNOWN: Final = 64 * _MIB
_PROCESS_UNKNOWN: Final = 256 * _MIB


class GrantedMemory(NamedTuple):
    """What was found.

    Attributes:
        size: Bytes; ``None`` where no source says anything.
        source: Which source grants the least: ``"Lambda"``, ``"cgroup"``, ``"resource limit"``, ``"machine"``, or
            ``"unknown"``.
    """

    size: int | None
    source: str


def least_of(grants: Mapping[str, int | None]) -> GrantedMemory:
    """Return the smallest of all grants.

    Args:
        grants: Bytes by source; ``None`` and numbers below 1 stand for a source that says nothing.

    >>> least_of({"Lambda": None, "cgroup": 512 << 20, "machine": 64 << 30})
    GrantedMemory(size=536870912, source='cgroup')
    >>> least_of({})
    GrantedMemory(size=None, source='unknown')
    """
    known = {source: grant for source, grant in grants.items() if grant is not None and grant > 0}
    if not known:
        return GrantedMemory(None, "unknown")
    source = min(known, key=known.__getitem__)
    return GrantedMemory(known[source], source)


def find_memory(environ: Mapping[str, str], cgroup: str = _CGROUP, groups: str = _SELF) -> GrantedMemory:
    """Return what the process was granted: asked now, and not remembered.

    That is the least of the Lambda function's memory, the memory limits of the process's control groups (version 2 and
    1; those of the containers around it count as well), its resource limits, and the physical memory. A source that the
    system does not have is ignored.

    Args:
        environ: Of the process.
        cgroup: Where control groups are mounted.
        groups: Which of them the process is in, as ``/proc/self/cgroup`` says it.
    """
    return least_of({
        "Lambda": _lambda(environ),
        "cgroup": _least(_cgroups(cgroup, groups)),
        "resource limit": _least(_resources()),
        "machine": _physical(),
    })  # fmt: skip


_GRANTED: Final = PerProcess(lambda: find_memory(os.environ), name="memory granted")


def granted_memory() -> GrantedMemory:
    """Return what this process was granted: looked for at first use, and anew after a fork."""
    return _GRANTED.current or _GRANTED.get()


def transfer_share(granted: GrantedMemory) -> int:
    """Return how many bytes one transfer may use: an eighth, from 16 to 256 MiB; 64 where nothing is known.

    >>> [transfer_share(GrantedMemory(size << 20, "cgroup")) >> 20 for size in (64, 128, 512, 2048, 65536)]
    [16, 16, 64, 256, 256]
    """
    return _share(granted.size, 8, _TRANSFER_MOST, _TRANSFER_UNKNOWN)


def process_share(granted: GrantedMemory) -> int:
    """Return how many bytes all transfers of a process share: a quarter, from 16 MiB to 1 GiB; 256 MiB if unknown.

    >>> [process_share(GrantedMemory(size << 20, "cgroup")) >> 20 for size in (64, 128, 512, 2048, 65536)]
    [16, 32, 128, 512, 1024]
    """
    return _share(granted.size, 4, _PROCESS_MOST, _PROCESS_UNKNOWN)


def _share(size: int | None, parts: int, most: int, unknown: int) -> int:
    return unknown if size is None else min(max(size // parts // _MIB * _MIB, _LEAST), most)


def _lambda(environ: Mapping[str, str]) -> int | None:
    size = _whole(environ.get(_LAMBDA, ""))
    return None if size is None else size << 20


def _least(grants: Iterator[int | None]) -> int | None:
    return min((grant for grant in grants if grant is not None and grant > 0), default=None)


def _cgroups(mount: str, groups: str) -> Iterator[int | None]:
    """Yield the limits of a process's groups and of all above them (Linux, Documentation/admin-guide/cgroup-v2.rst)."""
    for line in _text(groups).splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "memory" not in controllers.split(","):
            continue
        # In a container the path may be the host's, which is not mounted: only the folders that exist are read.
        parts = [part for part in path.split("/") if part not in ("", "..")]
        limits, root = (_version_1, f"{mount}/memory") if controllers else (_version_2, mount)
        for depth in range(len(parts) + 1):
            yield from limits("/".join([root, *parts[:depth]]))


def _version_2(folder: str) -> Iterator[int | None]:
    yield _whole(_text(f"{folder}/memory.max").strip())
    yield _whole(_text(f"{folder}/memory.high").strip())  # beyond it the kernel slows the process down


def _version_1(folder: str) -> Iterator[int | None]:
    yield _whole(_text(f"{folder}/memory.limit_in_bytes").strip())
    # The limit of groups above that are not mounted here: such as an ECS task's around its containers', often the only
    # one on Fargate (https://github.com/dotnet/runtime/issues/83563).
    for line in _text(f"{folder}/memory.stat").splitlines():
        name, _, value = line.partition(" ")
        if name == "hierarchical_memory_limit":
            yield _whole(value)


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
