"""How a body is cut into parts: pure functions of sizes, memory and cores.

The limits are S3's: at most 10,000 parts of 5 MiB to 5 GiB each, the last one of any size
(https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

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

# A stream of unknown length starts with small parts, so that short ones are cheap, and grows them twice.
_SMALL_PARTS = 64
_MIDDLE_PARTS = 5_000
_NEAR_SENDERS = 8
_FAR_SENDERS = 10  # as many connections as boto3's clients keep open


@dataclass(frozen=True, kw_only=True)
class TransferSettings:
    """How much one transfer may use.

    Attributes:
        memory: Bytes that one transfer may use for an artifact of any size: nearly all of them hold parts on
            their way (4 MiB less, for connections and threads). It bounds the size of a part (half of it), and so the
            size of an artifact: 64 MiB carry streams of 233 GiB and files of 312 GiB. Beside other transfers of the
            process it may get less, but always enough for an artifact of that size.
        connections: Requests in flight at once; ``None`` chooses from cores and memory.
        part_size: Bytes in each part; ``None`` adapts to the size. At most half of ``memory``; rounded down
            to whole MiB.

    Raises:
        ConfigurationError: A value is outside S3's limits, or the values contradict each other.
    """

    memory: int = 64 * MIB
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
        """The small, the middle and the large part: an eighth, a quarter and half of the memory, in whole blocks."""
        if self.part_size is not None:
            return (self.part_size // BLOCK_SIZE * BLOCK_SIZE,) * 3
        small, middle, large = (
            min(max(self.memory // share // BLOCK_SIZE * BLOCK_SIZE, MIN_PART_SIZE), MAX_PART_SIZE)
            for share in (8, 4, 2)
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


def part_size_for(size: int, settings: TransferSettings, *, far: bool = False) -> int:
    """Return the size of every part but the last of a body of ``size`` bytes.

    Args:
        size: Of the body.
        settings: How much memory there is.
        far: Whether the server is far away. Then many small parts on their way at once bring more than the requests
            that larger ones save.

    Raises:
        ConfigurationError: Even the largest part that the memory allows would need more than 10,000 parts.
    """
    small, middle, large = settings.ladder
    least = small if settings.part_size is not None else MIN_PART_SIZE
    if far and size <= MAX_PARTS * least:
        return least
    if size <= (MAX_PARTS if far else _SMALL_PARTS) * small:
        return small
    for candidate in (middle, large):
        if math.ceil(size / candidate) <= MAX_PARTS:
            return candidate
    needed = "part_size" if settings.part_size is not None else "memory"
    message = f"{size:,} bytes do not fit in {MAX_PARTS:,} parts of {large:,} bytes; nothing was sent. Raise {needed}"
    raise ConfigurationError(message)


def part_sizes(size: int, settings: TransferSettings) -> list[int]:
    """Return the sizes of all parts of a body of ``size`` bytes, in order; at least one part."""
    each = part_size_for(size, settings)
    full, rest = divmod(size, each)
    return [each] * full + ([rest] if rest or not full else [])


def ceiling(settings: TransferSettings) -> int:
    """Return how many bytes a stream of unknown length can carry.

    >>> ceiling(TransferSettings()) // 1024**3
    233
    """
    small, middle, large = settings.ladder
    return _SMALL_PARTS * small + (_MIDDLE_PARTS - _SMALL_PARTS) * middle + (MAX_PARTS - _MIDDLE_PARTS) * large


def pool_size(memory: int) -> int:
    """Return how many bytes the buffers of a transfer may take that has so much memory.

    >>> pool_size(TransferSettings().memory) // MIB
    60
    """
    return memory - _RESERVED


def memory_for(part_size: int) -> int:
    """Return the least memory with which a part of that size can be filled and sent: it and a block must fit.

    >>> memory_for(8 * MIB) // MIB
    13
    """
    return part_size + BLOCK_SIZE + _RESERVED


def memory_wanted(total: int | None, settings: TransferSettings) -> int:
    """Return how much memory a transfer would use alone: a body that is known and short does not need all.

    >>> memory_wanted(20 * MIB, TransferSettings()) // MIB, memory_wanted(None, TransferSettings()) // MIB
    (26, 64)
    """
    if total is None:
        return settings.memory
    # Beyond the body's own there is one more block: only the read that finds nothing tells that it has ended.
    return min(settings.memory, _RESERVED + (total // BLOCK_SIZE + 2) * BLOCK_SIZE)


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
    part = math.ceil(math.ceil(total / MAX_PARTS) / BLOCK_SIZE) * BLOCK_SIZE
    return max(2 * part, MIN_MEMORY)


def most_senders(settings: TransferSettings) -> int:
    """Return how many parts of one body may be on their way at once, wherever the server is."""
    return settings.connections or _FAR_SENDERS


def is_far(waited: float) -> bool:
    """Say whether a server is far away, from the seconds that its first answer took, connecting included.

    A busy machine may take a near server for a far one; that costs some more requests, and nothing else.

    >>> is_far(0.003), is_far(0.06)
    (False, True)
    """
    return waited > NEAR_SECONDS


def sender_count(part_size: int, settings: TransferSettings, *, cores: int, far: bool = False) -> int:
    """Return how many parts may be on their way at once.

    Latency wants more connections than cores, the interpreter's lock wants few; memory holds only so many parts,
    one of which is being filled.
    """
    wanted = settings.connections or (_FAR_SENDERS if far else min(_NEAR_SENDERS, max(4, cores)))
    return max(1, min(wanted, settings.memory // part_size - 1))


class SenderLimits(NamedTuple):
    """How many parts may be on their way at once: until the first answer, and then by how far the server is."""

    first: int
    near: int
    far: int


def sender_limits(
    total: int | None, settings: TransferSettings, *, cores: int, most: int, equal: bool = False
) -> SenderLimits:
    """Return how many parts of one body may be on their way at once.

    Args:
        total: The body's size; ``None`` while it is unknown.
        settings: How much memory there is.
        cores: Of this machine.
        most: The connections that there are.
        equal: Whether the parts have one size, wherever the server is.
    """
    near = settings.ladder[0] if total is None else part_size_for(total, settings)
    # Parts are cut for a server that is far away until its first answer tells.
    small = near if total is None or equal else part_size_for(total, settings, far=True)
    return SenderLimits(
        first=min(most, sender_count(small, settings, cores=cores)),
        near=min(most, sender_count(near, settings, cores=cores)),
        far=min(most, sender_count(small, settings, cores=cores, far=True)),
    )
