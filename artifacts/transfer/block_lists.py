"""The list of an object's blocks on its way: made of the digests that were taken while the bytes passed.

A list that is too long for a pointer is an object of its own. It is stored before the object that it belongs to, so
that no artifact lacks its list. An upload that fails after that removes it again, if it has made it, may remove it, and
no other process may rely on it. Else it stays: 1 MiB at most, or 32 KiB for each GiB with SHA-256, that no pointer
names.
"""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from stepout.artifacts.blocks import POINTER_LIMIT, BlockDigests, in_object, in_pointer, listed, whole_crc
from stepout.artifacts.checksums import Digest, checksums_of, pieces
from stepout.artifacts.keys import blocks_key
from stepout.artifacts.media_types import DEFAULT
from stepout.artifacts.process.budget import process_budget
from stepout.artifacts.store import Removes
from stepout.artifacts.transfer.conditional_write import Content, put_or_found
from stepout.schemas.errors import AccessDeniedError, ArtifactExistsError, StepoutError
from stepout.schemas.text.foreign_text import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from stepout.artifacts.blocks import WantedBlocks
    from stepout.artifacts.checksums import Crc
    from stepout.artifacts.retries import Retries
    from stepout.artifacts.store import Store
    from stepout.artifacts.store_writes import WriteOptions, Written

_log = logger("stepout.artifacts")

_REMOVAL_SECONDS: Final = 5.0


class ListObject(NamedTuple):
    """A list that is an object of its own."""

    key: str
    data: bytes
    content: Content
    writer: int | None
    """The id of the one process that may rely on it; ``None``: others may as well."""


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
    return in_object(blocks, key), ListObject(key, data, content, wanted.writer)


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


def put_list(store: Store, stored: ListObject, options: WriteOptions, retries: Retries) -> Callable[[bool], None]:
    """Store a list, before the object that it belongs to.

    Args:
        store: Where that object goes.
        stored: From ``list_of``.
        options: Of that object: the list is encrypted, tagged and kept as it is.
        retries: For the request.

    Returns:
        What is to be called once the object is committed (``True``), or will not be: then the list is removed, unless
        it was there before, another upload needs it, or another process may.

    Raises:
        StoreError: It could not be stored.
    """
    if stored.writer != os.getpid():  # a fork goes on with its copy of a manager
        _put(store, stored, options, retries)
        return lambda _committed: None

    uses = process_budget().server(store).lists

    def leave(committed: bool) -> None:
        uses.leave(stored.key, committed=committed)

    uses.join(stored.key)
    try:
        written = _put(store, stored, options, retries)
    except BaseException:
        leave(False)
        raise
    if written is not None:
        uses.made(stored.key, partial(_remove, store, stored.key, written.version_id))
    return leave


@contextmanager
def beside_list(store: Store, stored: ListObject, options: WriteOptions, retries: Retries) -> Iterator[None]:
    """Store a list, with the arguments of ``put_list``; it is removed again if the block, which commits, raises."""
    leave = put_list(store, stored, options, retries)
    try:
        yield
    except BaseException:
        # Whoever is interrupted waits no longer than for other ends of an upload.
        removal = threading.Thread(target=leave, args=(False,), name="stepout-abort", daemon=True)
        removal.start()
        removal.join(_REMOVAL_SECONDS)
        raise
    leave(True)


def _put(store: Store, stored: ListObject, options: WriteOptions, retries: Retries) -> Written | None:
    """Store a list; return what was written, or ``None`` if the list may have been there before."""
    views, as_bytes = [memoryview(stored.data)], replace(options, media_type=DEFAULT)
    try:
        written, made = retries.run(partial(put_or_found, store, stored.key, views, stored.content, as_bytes))
    except ArtifactExistsError as error:
        # The key is the content's digest: what is there is the same list, for those too who may not look at it.
        if not isinstance(error.__cause__, AccessDeniedError):
            raise
        return None
    return written if made else None


def _remove(store: Store, key: str, version_id: str | None) -> None:
    if isinstance(store, Removes):
        try:
            store.remove(key, version_id=version_id)
        except StepoutError as error:  # a task need not have the right
            _log.debug("s3://%s/%s is not needed and could not be removed: %s", store.bucket, key, error)
