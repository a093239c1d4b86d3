"""Ranges of one object, verified block by block before a byte of them is given away.

The list of blocks is loaded once, at the first read: from the pointer, from an object of the same bucket that is held
to its SHA-256, or from a Parquet footer that is held to the pointer's ``footerSha256``. A range is fetched in whole
blocks and in one request. Blocks that a read used only in part are kept for the next (``block_cache``).
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol

from stepout.artifacts.blocks import decoded, digest_of, list_size, read_list
from stepout.artifacts.reading.pinned_object import PinnedObject, check_cap
from stepout.artifacts.reading.ranges.block_cache import BLOCKS
from stepout.artifacts.reading.ranges.parquet_footer import TAIL, digests_in, footer_of, read_tail
from stepout.artifacts.reading.whole_read import read_whole
from stepout.artifacts.transfer.stages import BLOCK
from stepout.schemas.errors import ChecksumMismatchError, IntegrityError, StoreError, invalid_document
from stepout.schemas.pointer import Pointer
from stepout.schemas.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from stepout.artifacts.blocks import BlockList
    from stepout.artifacts.reading.access import KeptBytes, Verify
    from stepout.artifacts.reading.ranges.parquet_footer import Footer

_INSTEAD: Final = (
    'whole reads (read_bytes, download) need no list, and verify="pinned" reads ranges that are not verified'
)
_LARGE: Final = 1 << 20  # no more is fetched beside a footer to make its first block whole, in bytes


class VerifiedBytes(Protocol):
    """Where a file takes bytes from that are verified already."""

    @property
    def tail(self) -> bytes:
        """The last bytes of the object, in memory; all of them once ``load`` was called."""
        ...

    def load(self) -> None:
        """Fetch what has to be there before the first range; once."""
        ...

    def stream(self, start: int, stop: int, *, hashed: bool = False) -> Generator[memoryview]:
        """Yield bytes ``start`` to ``stop``, which lie before the tail; a view is valid until the next is asked for."""
        ...


class VerifiedBlocks:
    """The bytes of an object whose pointer announces a list of blocks. Threads may share it.

    Args:
        pinned: The object.

    Attributes:
        tail: Its last bytes, verified: a Parquet file's footer and what lies just before; empty elsewhere.
    """

    def __init__(self, pinned: PinnedObject) -> None:
        self._pinned = pinned
        self._member: Mapping[str, Any] = pinned.pointer.blocks or {}
        self._listed: BlockList | None = None
        self.tail = b""

    @property
    def forgeable(self) -> bool:
        """Whether its digests are CRCs, which detect damage and no forgery."""
        return self._member.get("algorithm") != "sha256"

    @property
    def size(self) -> int:
        """Bytes in a block."""
        return self._loaded().size

    def load(self) -> None:
        """Load the list, if it was not before.

        Raises:
            InvalidDocumentError: It is not the list of this object, or the pointer does not say where it is.
            ChecksumMismatchError: It, or the footer that has it, is not what was written.
            NotAllowedError: The allow-list does not hold it.
            ArtifactTooLargeError: It is larger than what may be read into memory.
            StoreError: It is missing, denied, or unreachable.
        """
        self._loaded()

    def stream(self, start: int, stop: int, *, hashed: bool = False) -> Generator[memoryview]:
        """Yield bytes ``start`` to ``stop`` in order, each only after its block was verified.

        Args:
            start: The first byte.
            stop: One behind the last; the list covers it.
            hashed: As for ``PinnedObject.get``.

        Yields:
            Views, each valid until the next is asked for.

        Raises:
            ChecksumMismatchError: A block is not what was written; nothing of it was yielded.
            StoreError: As for ``PinnedObject.get``, and as for ``load``.
        """
        listed = self._loaded()
        size, end = listed.size, listed.aligned(start, stop)[1]
        position, last = start, None
        while position < stop and (kept := self._kept(position // size)) is not None:
            part = memoryview(kept)[position % size : stop - (position - position % size)]
            position += len(part)
            yield part
        if position < stop and end > stop and position < end - 1 - (end - 1) % size:
            last = self._kept((end - 1) // size)
            end = end - 1 - (end - 1) % size if last is not None else end
        if position < stop:
            with closing(self._fetched(position // size, end, hashed)) as blocks:
                for index, block in blocks:
                    first = index * size
                    if first < position:
                        self._cache().put(self._key(index), bytes(block[:size]))
                    if stop < first + len(block) and (stop - first > size or first >= position):
                        partial = (stop - first) // size
                        self._cache().put(self._key(index + partial), bytes(block[partial * size :]))
                    yield block[max(position - first, 0) : stop - first]
        if last is not None:
            yield memoryview(last)[: stop - end]

    def _fetched(self, index: int, stop: int, hashed: bool) -> Generator[tuple[int, memoryview]]:
        """Yield whole blocks up to ``stop`` with the first one's index, received where they are verified.

        Small blocks come together: calls for each 256 KiB are a fifth of the cost of a read in order.
        """
        listed, at_end = self._loaded(), stop == self._pinned.size
        size, step = listed.size, max(listed.size, BLOCK)
        room, got = memoryview(bytearray(min(step, stop - index * size))), 0
        views = self._pinned.blocks(index * size, None if at_end else stop, lend=lambda: room[got:], hashed=hashed)
        with closing(views):
            for view in views:
                rest = view
                while rest:
                    piece = rest[: len(room) - got]
                    rest = rest[len(piece) :]
                    if piece.obj is not room.obj:
                        room[got : got + len(piece)] = piece
                    got += len(piece)
                    if got < len(room):
                        continue
                    left = stop - index * size - got
                    if not left:  # to its end, which gives the connection back
                        list(views)
                    for number in range(-(-len(room) // size)):
                        self._check(listed, index + number, room[number * size : (number + 1) * size])
                    yield index, room
                    index, got, room = index + step // size, 0, room[:left]

    def _check(self, listed: BlockList, index: int, block: memoryview) -> None:
        actual = digest_of(listed.algorithm, block)
        if actual != listed.digest(index):
            start = index * listed.size
            msg = (
                f"{self._pinned.pointer.url}: bytes {start:,} to {start + len(block) - 1:,} are not those that were "
                f"written: expected {listed.algorithm} {listed.digest(index).hex()}, got {actual.hex()}. Nothing of "
                "them was returned. Read again; if it persists, the stored object is damaged: run the task again"
            )
            raise ChecksumMismatchError(msg)

    # What is kept ---------------------------------------------------------------------------------------------------

    def _cache(self) -> KeptBytes:
        return self._pinned.access.kept or BLOCKS.get()

    def _kept(self, index: int) -> bytes | None:
        return self._cache().get(self._key(index))

    def _key(self, index: int) -> tuple[object, ...]:
        listed = self._loaded()
        return (*self._identity(), listed.size, listed.digest(index), index)

    def _identity(self) -> tuple[object, ...]:
        pointer = self._pinned.pointer
        place = (pointer.bucket, pointer.key, pointer.version_id, pointer.etag, pointer.size)
        return (*place, frozenset(pointer.checksum.items()))

    # The list -------------------------------------------------------------------------------------------------------

    def _loaded(self) -> BlockList:
        # Without a lock: of two lists that threads load at once one is dropped, and both are the same.
        if self._listed is None:
            self._listed = self._in_footer() if self._member.get("place") == "footer" else self._elsewhere()
        return self._listed

    def _elsewhere(self) -> BlockList:
        pointer, member = self._pinned.pointer, self._member
        if member.get("place") == "object":
            digests = self._of_object(list_size(member, pointer.size, pointer.url))
        elif isinstance(member.get("digests"), str):
            digests = decoded(member["digests"], pointer.url)
        else:
            self._invalid("does not say where the list of blocks is")
        return read_list(member, digests, pointer.size, pointer.url)

    def _of_object(self, size: int) -> bytes:
        pointer, access = self._pinned.pointer, self._pinned.access
        key, sha256 = self._member.get("key"), self._member.get("sha256")
        if not isinstance(key, str) or not isinstance(sha256, str):
            self._invalid("lacks the key or the SHA-256 of the list of blocks")
        # Asked for its key first, whatever is kept.
        listed = PinnedObject(access, Pointer(bucket=pointer.bucket, key=key, size=size, checksum={"sha256": sha256}))
        digests = self._cache().get((sha256, size))
        if digests is None:
            check_cap(listed.pointer, access.limit, instead=f"it is the list of blocks of {pointer.url}; {_INSTEAD}")
            # Its bytes only: each list is asked for by a read of the caller's, and so is its one request.
            access.spending.take(pointer.url, size=size)
            try:
                digests = read_whole(listed, "sha256")
            except (StoreError, IntegrityError) as error:
                msg = f"{pointer.url}: the list of its blocks is gone, or cannot be read: {error}. Nothing was returned"
                raise type(error)(f"{msg}; {_INSTEAD}") from error
            self._cache().put((sha256, size), digests)
        return digests

    def _in_footer(self) -> BlockList:
        pointer, member, footer = self._pinned.pointer, self._member, footer_of(self._pinned.pointer)
        if footer is None:
            self._invalid("announces blocks in a Parquet footer whose digest annotations.parquet does not have")
        covered = pointer.size - footer.size
        size = list_size(member, covered, pointer.url)
        # From the start of a block on, so that everything here is verified; a block of a hostile size is left out.
        block, start = member["size"], covered
        if block <= _LARGE:
            start = min(max(pointer.size - TAIL, 0), covered)
            start -= start % block
        kept = (*self._identity(), footer, member["algorithm"], block, start)
        # Engines open a file several times: for its schema, for its rows, in each thread.
        found = self._cache().get(kept)
        tail = read_tail(self._pinned, footer, start) if found is None else found
        listed = read_list(member, digests_in(tail[-footer.size :], size, pointer.url), covered, pointer.url)
        if found is None:
            for index in range(start // block, -(-covered // block)) if start < covered else ():
                self._check(
                    listed, index, memoryview(tail)[index * block - start : min((index + 1) * block, covered) - start]
                )
            self._cache().put(kept, tail)
        self.tail = tail  # before the list: a reader in another thread that finds the list takes this, too
        return listed

    def _invalid(self, message: str) -> NoReturn:
        problem = Problem("$.blocks", "value", message)
        raise invalid_document(
            f"{self._pinned.pointer.url}: the pointer", [problem], f"Nothing was returned; {_INSTEAD}"
        )


def blocks_for(pinned: PinnedObject, verify: Verify) -> VerifiedBlocks | None:
    """Return an object's blocks, where its pointer announces a list and reads are to be verified; nothing is loaded."""
    if pinned.pointer.blocks is None or verify is False or verify == "pinned":
        return None
    return VerifiedBlocks(pinned)


class WholeObject:
    """All bytes of an object, verified as a whole: where a range cannot be verified, and all of them fit into memory.

    Args:
        pinned: The object.
        verify: What it is held against.
    """

    def __init__(self, pinned: PinnedObject, verify: Verify) -> None:
        self._pinned = pinned
        self._verify = verify
        self._read = False
        self.tail = b""

    def load(self) -> None:
        """Read it, if it was not before; raises what ``read_whole`` raises."""
        if not self._read:
            self.tail, self._read = read_whole(self._pinned, self._verify), True

    def stream(self, start: int, stop: int, *, hashed: bool = False) -> NoReturn:  # noqa: ARG002 - of the protocol
        """Nothing lies before the tail."""
        msg = f"bytes {start:,} to {stop:,} lie outside of {self._pinned.pointer.url}"
        raise ValueError(msg)


class CheckedPages:
    """The bytes of a Parquet file without a list of blocks: its footer is verified here, its pages by whoever decodes.

    Args:
        pinned: The file.
        footer: What its pointer says of its footer.
    """

    def __init__(self, pinned: PinnedObject, footer: Footer) -> None:
        self._pinned = pinned
        self._footer = footer
        self.tail = b""

    def load(self) -> None:
        """Fetch the footer, if it was not before; raises what ``read_tail`` raises."""
        if not self.tail:
            size = self._pinned.size
            self.tail = read_tail(self._pinned, self._footer, size - min(max(self._footer.size, TAIL), size))

    def stream(self, start: int, stop: int, *, hashed: bool = False) -> Generator[memoryview]:
        """Yield bytes that are pinned: the checksums of the pages in them are the decoder's to compare."""
        return self._pinned.blocks(start, stop, hashed=hashed)
