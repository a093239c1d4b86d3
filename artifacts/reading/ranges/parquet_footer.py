"""The footer of a Parquet file: what its pointer says of it, its verified bytes, and the list of blocks in it.

Nothing here needs pyarrow: whoever reads the file's bytes, and no table, may not have it.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from stepout.artifacts.blocks import FOOTER_KEY, decoded
from stepout.schemas.errors import ArtifactTooLargeError, ChecksumMismatchError, invalid_document
from stepout.schemas.problems import Problem

if TYPE_CHECKING:
    from stepout.artifacts.reading.pinned_object import PinnedObject
    from stepout.schemas.pointer import Pointer

TAIL: Final = 64 << 10
"""What pyarrow reads first of a file, whatever its footer's size, in bytes."""

_FOOTER_LIMIT: Final = 64 << 20
_USUAL: Final = 1 << 20  # a footer of so many bytes is read whatever the limit: 3,000 columns, in bytes
_TRAILER: Final = 12  # length, magic, and the magic at the start: less is no file


@dataclass(frozen=True)
class Footer:
    """The footer as a pointer's annotations describe it: the last ``size`` bytes, trailer included."""

    size: int
    sha256: str


def footer_of(pointer: Pointer) -> Footer | None:
    """Return the footer that ``annotations.parquet`` describes; ``None`` without page checksums or a digest."""
    note = (pointer.annotations or {}).get("parquet")
    if not isinstance(note, dict) or note.get("pageChecksums") is not True:
        return None
    size, sha256 = note.get("footerSize"), note.get("footerSha256")
    if type(size) is not int or not _TRAILER <= size <= min(pointer.size, _FOOTER_LIMIT):
        return None
    if not isinstance(sha256, str) or not re.fullmatch("[0-9a-f]{64}", sha256):
        return None
    return Footer(size, sha256)


def read_tail(pinned: PinnedObject, footer: Footer, start: int) -> bytes:
    """Fetch the end of a file from ``start`` in one request, and compare the footer's digest.

    Raises:
        ArtifactTooLargeError: It is larger than what may be read into memory.
        ChecksumMismatchError: It is not the footer that was written.
        StoreError: As for ``PinnedObject.get``.
    """
    pointer, limit = pinned.pointer, max(pinned.access.limit, _USUAL)
    if footer.size > limit:
        msg = (
            f"{pointer.url}: its Parquet footer has {footer.size:,} bytes, the limit here is {limit:,}; nothing was "
            "read: pass max_size="
        )
        raise ArtifactTooLargeError(msg)
    tail = b"".join(map(bytes, pinned.blocks(start, pointer.size)))
    actual = hashlib.sha256(memoryview(tail)[-footer.size :]).hexdigest()
    if actual != footer.sha256:
        msg = (
            f"{pointer.url}: the Parquet footer is not the one that was written: expected sha256 {footer.sha256}, "
            f"got {actual}. No column was read. Read again; if it persists, the stored object is damaged"
        )
        raise ChecksumMismatchError(msg)
    return tail


def digests_in(footer: bytes, size: int, url: str) -> bytes:
    """Return the digests of blocks that a verified footer has in its key-value metadata.

    They are found by how Thrift's compact protocol writes a ``KeyValue`` of this key and of a value of this length
    (parquet.thrift in apache/parquet-format): parsing the whole footer in Python takes seconds where a file has
    thousands of columns.

    Args:
        footer: The footer, trailer included.
        size: Bytes in the list that the pointer announces.
        url: The object, for the message.

    Raises:
        InvalidDocumentError: It has none of that length, or several.
    """
    length = -(-size // 3) * 4
    head = b"\x18" + _varint(len(FOOTER_KEY)) + FOOTER_KEY + b"\x18" + _varint(length)
    ends = (found.end() for found in re.finditer(re.escape(head), footer))
    values = {footer[end : end + length] for end in ends if footer[end + length : end + length + 1] == b"\0"}
    if len(values) != 1:
        got = "several" if values else "none"
        message = f"announces a list of {size:,} bytes in the Parquet footer, under {FOOTER_KEY.decode()}; it has {got}"
        advice = 'Nothing was returned; read_bytes and download need no list, and verify="pinned" reads without'
        raise invalid_document(f"{url}: the pointer", [Problem("$.blocks", "value", message)], advice)
    return decoded(values.pop(), url)


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 127:  # noqa: PLR2004 - seven bits a byte
        encoded.append(number & 127 | 128)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
