"""Blocks: digests of stretches of one object, so that any range of it can be verified without the rest.

An object of more than one block has a list of digests, one for each block, in order. ``Pointer.blocks`` announces it:

- ``algorithm``: ``crc64nvme``, ``crc32`` or ``sha256``. A CRC detects damage, not forgery;
- ``size``: bytes in every block but the last, a power of two;
- ``place``: where the list is. ``"pointer"``: in ``digests``, as base64. ``"object"``: the whole content of the object
  ``key`` in the same bucket, whose name ends in its SHA-256, which is ``sha256`` too. ``"footer"``: in the metadata of
  a Parquet file's footer, under the key "stepout:blocks", as base64; it covers every byte before the footer.

The list is the digests' bytes, most significant first, one behind the other. A CRC is taken of 256 KiB; where the list
would have more than 1 MiB, two neighbours are combined to one until it fits, so the blocks of an object above 32 GiB
are larger. SHA-256 cannot be combined: its blocks have 1 MiB, and its list 32 KiB for each GiB.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, cast

from stepout.artifacts.checksums import combined, crc_function
from stepout.schemas.errors import InvalidDocumentError
from stepout.schemas.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from typing_extensions import Buffer

    from stepout.artifacts.checksums import Crc

BlockAlgorithm = Literal["crc64nvme", "crc32", "sha256"]

CRC_BLOCK: Final = 256 << 10
"""Bytes of which a CRC is taken."""

SHA256_BLOCK: Final = 1 << 20

LIST_LIMIT: Final = 1 << 20
"""CRCs are combined until their list has at most so many bytes."""

POINTER_LIMIT: Final = 256
"""A list of at most so many bytes, 8 MiB of CRC64NVME, is kept in the pointer: 344 characters, and no request."""

FOOTER_KEY: Final = b"stepout:blocks"

_WIDTH: Final[Mapping[str, int]] = {"crc64nvme": 8, "crc32": 4, "sha256": 32}
_SIZES: Final = (64 << 10, 64 << 20)  # what a reader takes: a block is held in memory before it is given away


class WantedBlocks(NamedTuple):
    """Which list of blocks an object gets if it has more than one of them.

    Attributes:
        algorithm: Of the digests.
        folder: Of keys, without a slash at its end; lists that are objects go there.
        writer: The id of the one process that writes there; ``None``: others may as well.
    """

    algorithm: BlockAlgorithm
    folder: str
    writer: int | None = None

    @property
    def size(self) -> int:
        """Bytes of which one digest is taken."""
        return SHA256_BLOCK if self.algorithm == "sha256" else CRC_BLOCK


@dataclass(frozen=True, kw_only=True)
class BlockList:
    """The digests of an object's blocks.

    Attributes:
        algorithm: What they are.
        size: Bytes in every block but the last.
        covered: How many bytes of the object they cover, from its start.
        digests: One behind the other.
    """

    algorithm: BlockAlgorithm
    size: int
    covered: int
    digests: bytes

    def aligned(self, start: int, stop: int) -> tuple[int, int]:
        """Return the least range of whole blocks that holds ``start`` to ``stop``."""
        return start - start % self.size, min(-(-stop // self.size) * self.size, self.covered)

    def digest(self, index: int) -> bytes:
        """Return what the block ``index``, from 0, should have."""
        width = _WIDTH[self.algorithm]
        return self.digests[index * width : (index + 1) * width]

    def holds(self, index: int, block: Buffer) -> bool:
        """Say whether ``block`` has the digest of the block ``index``."""
        return digest_of(self.algorithm, block) == self.digest(index)


def digest_of(algorithm: BlockAlgorithm, block: Buffer) -> bytes:
    """Return the digest of one block."""
    if algorithm == "sha256":
        return hashlib.sha256(block).digest()
    return crc_function(algorithm)(block, 0).to_bytes(_WIDTH[algorithm], "big")


class BlockDigests:
    """Takes the bytes of an object, or of a part of it, in order, and makes the digests of its blocks.

    Args:
        algorithm: Of the digests.
    """

    def __init__(self, algorithm: BlockAlgorithm) -> None:
        self.algorithm = algorithm
        self.covered = 0
        self._size = SHA256_BLOCK if algorithm == "sha256" else CRC_BLOCK
        self._digests = bytearray()
        self._open = 0  # bytes in the block that is not full yet
        self._sha256 = hashlib.sha256()
        self._crc_of = None if algorithm == "sha256" else crc_function(algorithm)
        self._crc = 0

    def update(self, data: Buffer) -> None:
        """Take the next bytes."""
        view = memoryview(data).cast("B")
        self.covered += len(view)
        while view:
            piece = view[: self._size - self._open]
            view = view[len(piece) :]
            if self._crc_of is not None:
                self._crc = self._crc_of(piece, self._crc)
            else:
                self._sha256.update(piece)
            self._open += len(piece)
            if self._open == self._size:
                self._end_block()

    def digests(self) -> bytes:
        """End the last block, and return all digests: nothing is taken after this."""
        if self._open:
            self._end_block()
        return bytes(self._digests)

    def _end_block(self) -> None:
        if self._crc_of is None:
            self._digests += self._sha256.digest()
            self._sha256 = hashlib.sha256()
        else:
            self._digests += self._crc.to_bytes(_WIDTH[self.algorithm], "big")
        self._crc = self._open = 0


def listed(algorithm: BlockAlgorithm, digests: bytes, covered: int) -> BlockList | None:
    """Make an object's list of what ``BlockDigests`` gave for all of its bytes, in order.

    Args:
        algorithm: Of the digests.
        digests: One for each ``CRC_BLOCK`` or ``SHA256_BLOCK``.
        covered: How many bytes they cover.

    Returns:
        ``None`` for an object of one block: a list would say no more than its checksum.
    """
    size = SHA256_BLOCK if algorithm == "sha256" else CRC_BLOCK
    if covered <= size:
        return None
    while algorithm != "sha256" and len(digests) > LIST_LIMIT:
        digests, size = _in_pairs(algorithm, digests, covered, size), 2 * size
    return BlockList(algorithm=algorithm, size=size, covered=covered, digests=digests)


def _in_pairs(algorithm: Crc, digests: bytes, covered: int, size: int) -> bytes:
    """Combine the CRCs of every two neighbouring blocks."""
    crcs = _numbers(algorithm, digests)
    pairs = bytearray()
    for index in range(0, len(crcs), 2):
        value = crcs[index]
        if index + 1 < len(crcs):
            value = combined(algorithm, value, crcs[index + 1], min(size, covered - (index + 1) * size))
        pairs += value.to_bytes(_WIDTH[algorithm], "big")
    return bytes(pairs)


def whole_crc(algorithm: Crc, digests: bytes, covered: int) -> str:
    """Combine the CRCs of all blocks of ``CRC_BLOCK`` into that of the ``covered`` bytes, hex."""
    total = 0
    for index, crc in enumerate(_numbers(algorithm, digests)):
        total = combined(algorithm, total, crc, min(CRC_BLOCK, covered - index * CRC_BLOCK))
    return total.to_bytes(_WIDTH[algorithm], "big").hex()


def _numbers(algorithm: Crc, digests: bytes) -> list[int]:
    width = _WIDTH[algorithm]
    return [int.from_bytes(digests[start : start + width], "big") for start in range(0, len(digests), width)]


# The pointer's member ----------------------------------------------------------------------------------------------


def in_pointer(blocks: BlockList) -> dict[str, Any]:
    """Return ``Pointer.blocks`` with the list in it."""
    return {**_announced(blocks, "pointer"), "digests": encoded(blocks)}


def in_object(blocks: BlockList, key: str) -> dict[str, Any]:
    """Return ``Pointer.blocks`` for a list that is the object ``key``."""
    return {**_announced(blocks, "object"), "key": key, "sha256": hashlib.sha256(blocks.digests).hexdigest()}


def in_footer(blocks: BlockList) -> dict[str, Any]:
    """Return ``Pointer.blocks`` for a list that is in the footer of the Parquet file itself."""
    return _announced(blocks, "footer")


def _announced(blocks: BlockList, place: str) -> dict[str, Any]:
    return {"algorithm": blocks.algorithm, "size": blocks.size, "place": place}


def encoded(blocks: BlockList) -> str:
    """Return the digests as base64, as a pointer and a Parquet footer have them."""
    return base64.b64encode(blocks.digests).decode("ascii")


def list_size(member: Mapping[str, Any], covered: int, url: str) -> int:
    """Return how many bytes the list has that ``Pointer.blocks`` announces.

    Args:
        member: ``Pointer.blocks``, as a document has it.
        covered: How many bytes of the object it covers.
        url: The object, for the message.

    Raises:
        InvalidDocumentError: The algorithm or the size of a block is none that this version reads.
    """
    width = _WIDTH.get(str(member.get("algorithm")))
    size = member.get("size")
    if width is None:
        raise _invalid(url, "algorithm", "names an algorithm that this version of stepout does not know")
    if not isinstance(size, int) or not _SIZES[0] <= size <= _SIZES[1] or size & (size - 1):
        raise _invalid(url, "size", f"must be a power of two from {_SIZES[0]:,} to {_SIZES[1]:,}")
    return -(-covered // size) * width


def decoded(text: str | bytes, url: str) -> bytes:
    """Return the digests of what ``encoded`` gave.

    Raises:
        InvalidDocumentError: It is no base64.
    """
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise _invalid(url, "digests", "must be base64") from None


def read_list(member: Mapping[str, Any], digests: bytes, covered: int, url: str) -> BlockList:
    """Return the list that ``Pointer.blocks`` announces, once its bytes are there.

    Args:
        member: ``Pointer.blocks``, as a document has it.
        digests: The list's bytes.
        covered: How many bytes of the object it covers.
        url: The object, for the message.

    Raises:
        InvalidDocumentError: It has another length than that object's list has, or ``list_size`` raises.
    """
    expected = list_size(member, covered, url)
    if len(digests) != expected:
        message = f"has {len(digests):,} bytes of digests; {expected:,} belong to {covered:,} bytes of the object"
        raise _invalid(url, "digests", message)
    algorithm = cast("BlockAlgorithm", member["algorithm"])
    return BlockList(algorithm=algorithm, size=member["size"], covered=covered, digests=digests)


def _invalid(url: str, name: str, message: str) -> InvalidDocumentError:
    problem = Problem(f"$.blocks.{name}", "value", message)
    return InvalidDocumentError(
        f'{url}: its list of blocks is invalid: {problem}. Nothing was returned; verify="pinned" reads without it',
        [problem],
    )


def part_digests(algorithm: BlockAlgorithm, views: Iterable[memoryview]) -> bytes:
    """Return the digests of a part whose size is a multiple of the blocks', or that is the object's last."""
    digests = BlockDigests(algorithm)
    for view in views:
        digests.update(view)
    return digests.digests()
