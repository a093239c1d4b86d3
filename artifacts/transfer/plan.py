"""How a body is cut into parts, and how many are on their way: pure functions of sizes, memory, cores, and the server.

How many connections fill a line follows from Little's law: as many requests are on their way as end in a second, times
the seconds that each takes.

The limits are S3's: at most 10,000 parts of 5 MiB to 5 GiB each, the last one of any size
(https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from stepout.artifacts.process.memory_granted import granted_memory, transfer_share
from stepout.schemas.errors import ConfigurationError

MIB = 1 << 20
MAX_PARTS = 10_000
MIN_PART_SIZE = 5 * MIB
MAX_PART_SIZE = 5 * 1024 * MIB

BLOCK_SIZE = MIB
"""Parts are made of blocks of this size; one block is one send."""

MIN_MEMORY = 16 * MIB

NEAR_SECONDS = 0.03
"""A choice: above what loopback and local networks take, below what a server behind a wide network does."""

_RESERVED = 4 * MIB
"""The part of a transfer's memory that its connections and threads need besides the blocks."""

_SMALL_PART = 8 * MIB
_MIDDLE_PART = 16 * MIB

# A stream of unknown length starts with small parts, so that short ones are cheap, and grows them twice.
_SMALL_PARTS = 64
_MIDDLE_PARTS = 5_000
_NEAR_SENDERS = 8

_USUAL_SENDERS: Final = 16
"""To a server that nobody knows: so many connections of 80 MB/s fill a line of 10 Gbit a second."""

LINE: Final = 800e6
"""Bytes per second that one transfer is planned for: a line of 5 Gbit carries 625e6, and connections differ."""

USUAL_RATE: Final = 80e6
"""Bytes per second that a connection to S3 brings where nothing was measured (S3's guide says 85 to 90 MB/s)."""

FAST_RATE: Final = 150e6
"""Bytes per second of one connection from which on a near server is bound by the processor: more only cost."""

MOST_SENDERS: Final = 32
"""The most connections of one transfer, unless its settings say another number."""

_USUAL_MEMORY = 64 * MIB
"""A choice: what a transfer takes, if it is granted, however few connections it has; so its reader runs ahead."""


@dataclass(frozen=True, kw_only=True)
class TransferSettings:
    """How much one transfer may use.

    Attributes:
        memory: Bytes that one transfer may use for an artifact of any size: nearly all of them hold parts on
            their way (4 MiB less, for connections and threads). If not given, an eighth of the memory that the process
            was granted by its control group, its Lambda function or its machine: 16 MiB at least, 256 MiB at most. It
            bounds the size of a part (half of it), and so the size of an artifact: 64 MiB carry streams of 233 GiB and
            files of 312 GiB. Beside other transfers of the process it may get less, but always enough for an artifact
            of that size.
        connections: Requests in flight at once; ``None``: as many as fill a line of 5 Gbit a second, as far as memory
            goes, and 32 at most.
        part_size: Bytes in each part; ``None`` adapts to the size. At most half of ``memory``; rounded down
            to whole MiB.

    Raises:
        ConfigurationError: A value is outside S3's limits, or the values contradict each other.
    """

    memory: int = field(default_factory=lambda: transfer_share(granted_memory()))
    connections: int | None = None
    part_size: int | None = None

    def __post_init__(self) -> None:
        given = {"memory": self.memory, "connections": self.connections, "part_size": self.part_size}
        for name, value in given.items():
            optional = name != "memory" and value is None
            if not optional and (isinstance(value, bool) or not isinstance(value, int)):
                raise ConfigurationError(f"{name} is a {type(value).__name__}: expected a whole number")
        if self.memory < MIN_MEMORY:
            raise ConfigurationError(f"memory is {self.memory:,} bytes: at least {MIN_MEMORY:,} are needed")
        if self.connections is not None and not 1 <= self.connections <= 256:  # noqa: PLR2004 - named in the message
            raise ConfigurationError(f"connections is {self.connections}: expected 1 to 256")
        if self.part_size is not None:
            self._check_part_size(self.part_size)

    @cached_property  # asked for by every put, however small
    def ladder(self) -> tuple[int, int, int]:
        """The small, the middle and the large part, in whole blocks.

        An eighth, a quarter and half of the memory; the first two end at 8 and 16 MiB. Where there is more memory it
        holds more parts, not larger ones.
        """
        if self.part_size is not None:
            return (self.part_size // BLOCK_SIZE * BLOCK_SIZE,) * 3
        small, middle, large = (
            min(max(self.memory // share // BLOCK_SIZE * BLOCK_SIZE, MIN_PART_SIZE), most)
            for share, most in ((8, _SMALL_PART), (4, _MIDDLE_PART), (2, MAX_PART_SIZE))
        )
        return small, middle, large

    def _check_part_size(self, part_size: int) -> None:
        if not MIN_PART_SIZE <= part_size <= MAX_PART_SIZE:
            raise ConfigurationError(
                f"part_size is {part_size:,} bytes: S3 takes {MIN_PART_SIZE:,} to {MAX_PART_SIZE:,}"
            )
        if part_size > self.memory // 2:
            message = f"part_size is {part_size:,} bytes: at most half of memory ({self.memory:,}), so raise memory too"
            raise ConfigurationError(message)


def part_size_at(number: int, settings: TransferSettings) -> int:
    """Return the size of part ``number`` (from 1) of a stream whose length is unknown."""
    small, middle, large = settings.ladder
    if number <= _SMALL_PARTS:
        return small
    return middle if number <= _MIDDLE_PARTS else large


def part_size_for(size: int, settings: TransferSettings, *, senders: int | None = None) -> int:
    """Return the size of every part but the last of a body of ``size`` bytes.

    Args:
        size: Of the body.
        settings: How much memory there is.
        senders: How many parts are to be on their way at once. A body is cut into as few rounds of so many parts as
            memory lets it, and evenly: no connection is idle while the last round is on its way. ``None``: it is not
            known.

    Raises:
        ConfigurationError: Even the largest part that the memory allows would need more than 10,000 parts.

    >>> large = TransferSettings(memory=256 * MIB)
    >>> [part_size_for(size * MIB, large, senders=16) // MIB for size in (20, 128, 1024)]
    [5, 8, 13]
    """
    small, middle, large = settings.ladder
    if senders is None:
        each = small if size <= _SMALL_PARTS * small else middle
    else:
        least = small if settings.part_size is not None else MIN_PART_SIZE
        most = max(least, min(middle, settings.memory // (senders + 1) // BLOCK_SIZE * BLOCK_SIZE))
        rounds = max(1, math.ceil(size / (senders * most)))
        each = min(most, max(least, _blocks(math.ceil(size / (senders * rounds)))))
    # No larger than 10,000 of them have to be: the larger they are, the fewer memory holds.
    each = max(each, _blocks(math.ceil(size / MAX_PARTS)))
    if each <= large:
        return each
    needed = "part_size" if settings.part_size is not None else "memory"
    message = f"{size:,} bytes do not fit in {MAX_PARTS:,} parts of {large:,} bytes; nothing was sent. Raise {needed}"
    raise ConfigurationError(message)


def _blocks(size: int) -> int:
    """Return a size in whole blocks, rounded up."""
    return math.ceil(size / BLOCK_SIZE) * BLOCK_SIZE


def ceiling(settings: TransferSettings) -> int:
    """Return how many bytes a stream of unknown length can carry.

    >>> [ceiling(TransferSettings(memory=memory * MIB)) // 1024**3 for memory in (16, 64, 256)]
    [63, 233, 702]
    """
    small, middle, large = settings.ladder
    return _SMALL_PARTS * small + (_MIDDLE_PARTS - _SMALL_PARTS) * middle + (MAX_PARTS - _MIDDLE_PARTS) * large


def pool_size(memory: int) -> int:
    """Return how many bytes the buffers of a transfer may take that has so much memory.

    >>> pool_size(64 * MIB) // MIB
    60
    """
    return memory - _RESERVED


def memory_for(part_size: int) -> int:
    """Return the least memory with which a part of that size can be filled and sent: it and a block must fit.

    >>> memory_for(8 * MIB) // MIB
    13
    """
    return part_size + BLOCK_SIZE + _RESERVED


def memory_wanted(
    total: int | None, settings: TransferSettings, *, senders: int | None = None, part_size: int = MIN_PART_SIZE
) -> int:
    """Return how much memory a transfer would use alone: all only for a long body and many connections.

    Args:
        total: The body's size; ``None``: it is unknown.
        settings: Of the transfer.
        senders: How many parts may be on their way at once; ``None``: it is not known.
        part_size: Of each of them.

    >>> large = TransferSettings(memory=256 * MIB)
    >>> memory_wanted(20 * MIB, large) // MIB, memory_wanted(None, large) // MIB
    (26, 256)
    >>> [memory_wanted(None, large, senders=senders) // MIB for senders in (4, 15, 32)]
    [64, 84, 169]
    """
    most = settings.memory
    if senders is not None:  # one more part is being filled
        most = min(most, max(_USUAL_MEMORY, _RESERVED + (senders + 1) * part_size))
    if total is None:
        return most
    # Beyond the body's own there is one more block: only the read that finds nothing tells that it has ended.
    return min(most, _RESERVED + (total // BLOCK_SIZE + 2) * BLOCK_SIZE)


def memory_needed(total: int | None, settings: TransferSettings) -> int:
    """Return the least memory with which a body can be carried in parts, where less is free than is wanted.

    Args:
        total: The body's size; ``None`` while it is unknown: its first parts have to fit, and later ones are asked for.
        settings: Of the transfer; its own memory is always enough.
    """
    if settings.part_size is not None:
        return 2 * settings.part_size
    if total is None:
        return memory_for(settings.ladder[0])
    part = _blocks(math.ceil(total / MAX_PARTS))
    return max(2 * part, MIN_MEMORY)


def most_senders(settings: TransferSettings, pooled: int | None = None) -> int:
    """Return how many parts of one body may be on their way at once, wherever the server is.

    Args:
        settings: Of the transfer; what they say counts.
        pooled: How many connections the client keeps open: each further one would be opened for one request.

    >>> most_senders(TransferSettings()), most_senders(TransferSettings(), pooled=10)
    (32, 10)
    """
    return settings.connections or min(MOST_SENDERS, pooled or MOST_SENDERS)


def senders_for_line(part_size: int, latency: float, rate: float, line: float = LINE) -> int:
    """Return how many parts must be on their way at once to fill a line: Little's law.

    ``line / part_size`` parts arrive in a second, and each is on its way for ``latency + part_size / rate`` seconds.

    Args:
        part_size: Bytes.
        latency: Seconds from the end of a request to its answer.
        rate: Bytes per second that one connection carries.
        line: Bytes per second that all of them are to carry.

    >>> [senders_for_line(5 * MIB, latency, 80e6, line=625e6) for latency in (0.001, 0.03, 0.1)]
    [8, 12, 20]
    """
    return max(1, math.ceil(line / part_size * (latency + part_size / rate)))


def sender_count(
    part_size: int, settings: TransferSettings, *, cores: int, latency: float | None = None, rate: float | None = None
) -> int:
    """Return how many parts may be on their way at once.

    Latency and slow connections want more of them than cores; only a server that is known as near and fast gets few,
    since there the interpreter's lock decides. Memory holds only so many parts, one of which is being filled.

    Args:
        part_size: Bytes.
        settings: Of the transfer.
        cores: Of this machine.
        latency: Seconds that it takes to answer, where they were measured.
        rate: Bytes per second that one connection carried, where they were measured.

    >>> large = TransferSettings(memory=256 * MIB)
    >>> sender_count(5 * MIB, large, cores=2), sender_count(5 * MIB, large, cores=2, latency=0.001, rate=500e6)
    (16, 4)
    >>> sender_count(5 * MIB, large, cores=2, latency=0.01, rate=25e6)
    32
    """
    wanted = settings.connections or _senders_wanted(part_size, cores, latency or 0.0, rate)
    return max(1, min(wanted, settings.memory // part_size - 1))


def is_near_and_fast(latency: float | None, rate: float | None) -> bool:
    """Say whether a server with that latency and rate is bound by the processor: more connections only cost."""
    return (latency or 0.0) <= NEAR_SECONDS and rate is not None and rate >= FAST_RATE


def _senders_wanted(part_size: int, cores: int, latency: float, rate: float | None) -> int:
    if is_near_and_fast(latency, rate):
        return min(_NEAR_SENDERS, max(4, cores))
    return min(MOST_SENDERS, max(_USUAL_SENDERS, senders_for_line(part_size, latency, rate or USUAL_RATE)))


def single_request_limit(
    latency: float | None, rate: float | None, connections: int, settings: TransferSettings
) -> int:
    """Return up to which size, in bytes, a body goes out faster as one request than in parts.

    With R seconds of latency and r bytes per second a connection, S bytes take R + S/r as one request. In parts they
    take 2R more, to begin the upload and to complete it, and R + p/r for the longest row of parts, where p is what one
    of n connections carries: S/n, and S3's least part at least. So one request wins up to S = p + 2Rr.

    It is never less than the first part of a stream, since each part costs a request, too; nor more than half of the
    memory, since a body that fails has to be sent anew as a whole. A ``part_size`` in the settings is the limit.

    Args:
        latency: Seconds; ``None``: not known, and the first part of a stream is the limit.
        rate: Bytes per second; ``None``: not known, and taken for what S3 usually brings.
        connections: How many parts may be on their way at once.
        settings: Of the transfer.

    >>> large = TransferSettings(memory=256 * MIB)
    >>> [single_request_limit(latency, 80e6, 15, large) // MIB for latency in (0.001, 0.03, 0.1, 0.2)]
    [8, 9, 20, 35]
    """
    least = settings.ladder[0]
    if latency is None or settings.part_size is not None:
        return least
    saved = 2 * latency * (rate or USUAL_RATE)
    most = min(settings.memory // 2, MAX_PART_SIZE)
    if connections < 2:  # noqa: PLR2004 - nothing is sent beside anything
        return max(least, most)
    # Up to so many bytes all connections carry one least part; beyond, each carries its share of the body.
    even = connections * MIN_PART_SIZE
    limit = MIN_PART_SIZE + saved if MIN_PART_SIZE + saved <= even else saved * connections / (connections - 1)
    return max(least, min(most, int(limit)))


def sender_limit(  # noqa: PLR0913 - keyword-only, each with its own meaning
    total: int | None,
    settings: TransferSettings,
    *,
    cores: int,
    most: int,
    equal: bool = False,
    latency: float | None = None,
    rate: float | None = None,
) -> int:
    """Return how many parts of one body may be on their way at once.

    Args:
        total: The body's size; ``None`` while it is unknown.
        settings: How much memory there is.
        cores: Of this machine.
        most: The connections that there are.
        equal: Whether the parts have one size, however many are on their way.
        latency: Seconds that the server took to answer earlier requests; ``None``: there were none.
        rate: Bytes per second that one connection carried to it; ``None``: there was none.
    """
    if total is None:
        part = settings.ladder[0]
    else:  # the least parts that can be cut: with more connections they are smaller
        part = part_size_for(total, settings, senders=None if equal else MOST_SENDERS)
    return min(most, sender_count(part, settings, cores=cores, latency=latency, rate=rate))
