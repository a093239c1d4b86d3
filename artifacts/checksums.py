"""Checksums: SHA-256 in one pass, and CRCs whose parts combine into the whole object's.

Hex, lower case, most significant byte first, is what documents and ``Store`` speak; base64 of the same bytes is what
S3's headers speak. CRC64NVME is computed by awscrt where that is installed; CRC32 by zlib always.
"""

from __future__ import annotations

import binascii
import functools
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from typing_extensions import Buffer

Crc = Literal["crc64nvme", "crc32"]

# hashlib lets go of the interpreter lock from 2,048 bytes on. For the microseconds that a small object takes, getting
# it back from other threads that put small objects costs several times as much.
_STEP = 2047
_UNSHARED = 64 * 1024

_FOLDED = 128  # bytes; below it, folding costs more than it saves

BLOCK = 1 << 20
"""Bytes hashed at a time: large enough to release the interpreter lock, small enough to stay in the cache."""

CRC_WIDTH: Mapping[str, int] = {"crc64nvme": 64, "crc32": 32}

# Bit-reversed generator polynomials: CRC-64/NVME of the NVM Express specification, and the CRC-32 of IEEE 802.3.
_POLYNOMIAL: Mapping[str, int] = {"crc64nvme": 0x9A6C9329AC4BC9B5, "crc32": 0xEDB88320}

CrcFunction = Callable[["Buffer", int], int]


def to_base64(checksum: str) -> str:
    """Turn a hex checksum into what S3's headers hold.

    >>> to_base64("00ff")
    'AP8='
    """
    return binascii.b2a_base64(bytes.fromhex(checksum), newline=False).decode("ascii")


def from_base64(header: str) -> str:
    """Turn a header's checksum into hex.

    >>> from_base64("AP8=")
    '00ff'
    """
    return binascii.a2b_base64(header, strict_mode=True).hex()


def has_native_crc64nvme() -> bool:
    """Say whether awscrt is installed, so that CRC64NVME costs next to nothing."""
    return _native_crc64nvme() is not None


def best_crc() -> Crc:
    """Return the full-object CRC to ask a server for: CRC64NVME where it is fast, else CRC32."""
    return "crc64nvme" if has_native_crc64nvme() else "crc32"


@functools.cache
def _native_crc64nvme() -> CrcFunction | None:
    try:
        from awscrt import checksums
    except ImportError:
        return None
    function: CrcFunction | None = getattr(checksums, "crc64nvme", None)
    return function


@functools.cache
def _table(algorithm: str) -> tuple[int, ...]:
    polynomial = _POLYNOMIAL[algorithm]
    rows = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = (value >> 1) ^ (polynomial if value & 1 else 0)
        rows.append(value)
    return tuple(rows)


def pure_crc64nvme(data: Buffer, previous: int = 0) -> int:
    """Compute CRC64NVME without awscrt, for readers that must verify and have nothing better: some 60 MB/s.

    A CRC is linear, so the first half of the bytes can be folded into the second: multiplied by what x to the power of
    the second half's length leaves, a polynomial of 64 bits, it is the sum of some 32 shifts of one long number. What
    Python does slowest, one byte after the other, is left for the last few.
    """
    view = memoryview(data).cast("B")
    size, register = len(view), previous ^ 0xFFFF_FFFF_FFFF_FFFF
    if size > _FOLDED:
        # Reflected, as this CRC is defined: bit 0 of the number is the coefficient of the highest power.
        number = int.from_bytes(view, "little") ^ register
        while size > _FOLDED:
            first = (size - 8) // 2  # the product is 8 bytes longer than its first factor
            rest = size - first
            head = number & ((1 << 8 * first) - 1)
            number = (number >> 8 * first) ^ (_product(head, _shift("crc64nvme", rest)) << (8 * (rest - first) - 63))
            size = rest
        view, register = memoryview(number.to_bytes(size, "little")), 0
    table = _table("crc64nvme")
    for byte in view:
        register = table[(register ^ byte) & 0xFF] ^ (register >> 8)
    return register ^ 0xFFFF_FFFF_FFFF_FFFF


def _product(long: int, short: int) -> int:
    """Multiply two polynomials over GF(2)."""
    product = shift = 0
    while short:
        if short & 1:
            product ^= long << shift
        short, shift = short >> 1, shift + 1
    return product


def crc_function(algorithm: Crc) -> CrcFunction:
    """Return ``f(data, previous) -> int`` for an algorithm; the first ``previous`` is 0."""
    if algorithm == "crc32":
        from zlib import crc32  # few reads need it, and every cold start would pay

        return crc32
    return _native_crc64nvme() or pure_crc64nvme


def pieces(body: Iterable[memoryview]) -> Iterable[memoryview]:
    """Cut a body's views into pieces that the processor's cache holds."""
    for view in body:
        for start in range(0, len(view), BLOCK):
            yield view[start : start + BLOCK]


def crc_of(algorithm: Crc, body: Iterable[memoryview]) -> str:
    """Compute the CRC of a body's views, in order, as hex."""
    function, value = crc_function(algorithm), 0
    for block in pieces(body):
        value = function(block, value)
    return _hex(algorithm, value)


def md5_of(body: Iterable[memoryview]) -> str:
    """Compute the MD5 of a body's views, in order, as hex: for servers that check nothing else of a body."""
    digest = hashlib.md5(usedforsecurity=False)
    for block in pieces(body):
        digest.update(block)
    return digest.hexdigest()


def sha256_of(body: Iterable[memoryview]) -> str:
    """Compute the SHA-256 of a body's views, in order, as hex."""
    digest = hashlib.sha256()
    for view in body:
        if view.nbytes <= BLOCK:  # without a generator: small objects are many
            update_sha256(digest, view)
            continue
        for block in pieces((view,)):
            digest.update(block)
    return digest.hexdigest()


def _hex(algorithm: str, value: int) -> str:
    return f"{value:0{CRC_WIDTH[algorithm] // 4}x}"


def update_sha256(sha256: hashlib._Hash, data: memoryview) -> None:
    """Give the next bytes to a SHA-256, a few at a time where letting go of Python's lock would cost more."""
    if data.nbytes > _UNSHARED:
        sha256.update(data)
        return
    for start in range(0, data.nbytes, _STEP):
        sha256.update(data[start : start + _STEP])


class Digest:
    """SHA-256, and a CRC if one is wanted, over a stream of views.

    Args:
        crc: The CRC to compute beside SHA-256; ``None`` for none.
    """

    def __init__(self, crc: Crc | None = None) -> None:
        self._sha256 = hashlib.sha256()
        self._crc = crc
        self._function = crc_function(crc) if crc else None
        self._value = 0
        self.size = 0

    def update(self, view: Buffer) -> None:
        """Take the next bytes."""
        data = memoryview(view)
        update_sha256(self._sha256, data)
        if self._function is not None:
            self._value = self._function(data, self._value)
        self.size += data.nbytes

    def checksums(self) -> dict[str, str]:
        """Return what has been computed so far, hex by algorithm."""
        found = {"sha256": self._sha256.hexdigest()}
        if self._crc:
            found[self._crc] = _hex(self._crc, self._value)
        return found


def checksums_of(body: Iterable[memoryview], crc: Crc | None = None) -> dict[str, str]:
    """Compute SHA-256, and a CRC if one is wanted, of a body's views, in order: hex by algorithm."""
    if crc is None:
        return {"sha256": sha256_of(body)}
    digest = Digest(crc)
    for block in pieces(body):
        digest.update(block)
    return digest.checksums()


# Combination: the CRC of A+B from CRC(A), CRC(B) and len(B), by arithmetic on polynomials over GF(2) ---------------


def _times(algorithm: str, left: int, right: int) -> int:
    polynomial, bit = _POLYNOMIAL[algorithm], 1 << (CRC_WIDTH[algorithm] - 1)
    product = 0
    while bit:
        if left & bit:
            product ^= right
        bit >>= 1
        right = (right >> 1) ^ (polynomial if right & 1 else 0)
    return product


@functools.lru_cache(maxsize=64)
def _shift(algorithm: str, length: int) -> int:
    """The polynomial x to the power of 8 * length, modulo the generator; remembered, as parts share a length."""
    one = 1 << (CRC_WIDTH[algorithm] - 1)
    result, square, exponent = one, one >> 1, 8 * length
    while exponent:
        if exponent & 1:
            result = _times(algorithm, result, square)
        square = _times(algorithm, square, square)
        exponent >>= 1
    return result


def combine(algorithm: Crc, first: str, second: str, second_length: int) -> str:
    """Combine the CRCs of two neighbouring pieces into the CRC of both.

    Args:
        algorithm: ``"crc64nvme"`` or ``"crc32"``.
        first: The first piece's CRC, hex.
        second: The second piece's CRC, hex.
        second_length: The second piece's length in bytes.

    Returns:
        The CRC of the first piece followed by the second, hex.
    """
    return _hex(algorithm, combined(algorithm, int(first, 16), int(second, 16), second_length))


def combined(algorithm: Crc, first: int, second: int, second_length: int) -> int:
    """Do the same with numbers."""
    native = _native_combine() if algorithm == "crc64nvme" else None
    if native is not None:
        return native(first, second, second_length)
    return _times(algorithm, _shift(algorithm, second_length), first) ^ second


@functools.cache
def _native_combine() -> Callable[[int, int, int], int] | None:
    try:
        from awscrt import checksums
    except ImportError:
        return None
    function: Callable[[int, int, int], int] | None = getattr(checksums, "combine_crc64nvme", None)
    return function


PartSum = tuple[str, int]
"""A part's CRC in hex, and its size in bytes."""


def combine_all(algorithm: Crc, parts: Sequence[PartSum]) -> str:
    """Combine the CRCs of all parts, in order, into the whole object's."""
    total = _hex(algorithm, 0)
    for checksum, size in parts:
        total = combine(algorithm, total, checksum, size)
    return total
