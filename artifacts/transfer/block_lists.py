"""The list of an object's blocks on its way: made of the digests that were taken while the bytes passed.

A list that is too long for a pointer is an object of its own. It is stored before the object that it belongs to, so
that no artifact lacks its list. An upload that fails after that leaves it behind: 1 MiB at most, or 32 KiB for each GiB
with SHA-256, that no pointer names.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from stepout.artifacts.blocks import POINTER_LIMIT, BlockDigests, in_object, in_pointer, listed, whole_crc
from stepout.artifacts.checksums import Digest, checksums_of, pieces
from stepout.artifacts.keys import blocks_key
from stepout.artifacts.media_types import DEFAULT
from stepout.artifacts.transfer.conditional_write import Content, put_once
from stepout.schemas.errors import AccessDeniedError, ArtifactExistsError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stepout.artifacts.blocks import WantedBlocks
    from stepout.artifacts.checksums import Crc
    from stepout.artifacts.retries import Retries
    from stepout.artifacts.store import Store, WriteOptions


class ListObject(NamedTuple):
    """A list that is an object of its own."""

    key: str
    data: bytes
    content: Content


def list_of(wanted: WantedBlocks, digests: bytes, size: int) -> tuple[Mapping[str, Any] | None, ListObject | None]:
    """Make the list of an object's blocks.

    Args:
        wanted: Which list it gets.
        digests: What ``BlockDigests`` gave for all of its bytes, in order.
        size: The object's, in bytes.

    Returns:
        What its pointer says of them, ``None`` for an object of one block; and what has to be stored before it.
    """
    blocks = listed(wanted.algorithm, digests, size)
    if blocks is None:
        return None, None
    data = blocks.digests
    if len(data) <= POINTER_LIMIT:
        return in_pointer(blocks), None
    content = Content(size=len(data), checksum=checksums_of([memoryview(data)]))
    key = blocks_key(wanted.folder, content.checksum["sha256"])
    return in_object(blocks, key), ListObject(key, data, content)


def digested(views: Sequence[memoryview], crc: Crc | None, wanted: WantedBlocks) -> tuple[Content, ListObject | None]:
    """Digest a body and its blocks in one pass.

    Args:
        views: Its bytes, in order; more than one block.
        crc: The CRC of the whole that is wanted besides SHA-256; ``None`` for none.
        wanted: Which list it gets.

    Returns:
        What it is; and what has to be stored before it.
    """
    combines = crc == wanted.algorithm
    whole, blocks = Digest(None if combines else crc), BlockDigests(wanted.algorithm)
    for piece in pieces(views):
        whole.update(piece)
        blocks.update(piece)
    checksum, digests = whole.checksums(), blocks.digests()
    if crc is not None and combines:
        checksum[crc] = whole_crc(crc, digests, whole.size)
    member, stored = list_of(wanted, digests, whole.size)
    return Content(size=whole.size, checksum=checksum, blocks=member), stored


def put_list(store: Store, stored: ListObject, options: WriteOptions, retries: Retries) -> None:
    """Store a list, before the object that it belongs to.

    Args:
        store: Where that object goes.
        stored: From ``list_of``.
        options: Of that object: the list is encrypted, tagged and kept as it is.
        retries: For the request.

    Raises:
        StoreError: It could not be stored.
    """
    views, written = [memoryview(stored.data)], replace(options, media_type=DEFAULT)
    try:
        retries.run(partial(put_once, store, stored.key, views, stored.content, written))
    except ArtifactExistsError as error:
        # The key is the content's digest: what is there is the same list, for those too who may not look at it.
        if not isinstance(error.__cause__, AccessDeniedError):
            raise
