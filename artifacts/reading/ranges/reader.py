"""``Artifact.open()``: a seekable file over one object, which never shows a byte of another version of it.

Where the pointer has a list of blocks, every read is verified by block before it returns (``reading.blocks``).

Bytes are hashed in order from 0 as well: ``verified_to`` is how far that has come. Reads that begin beyond it (after a
seek) are not hashed, and without a list only pinned; reads that reach it again carry it on, and a read at 0 begins anew
(``prefix_checksums``). When it reaches the end, the checksum is compared before the read returns; a mismatch is raised
by that read and by every later one.
"""

from __future__ import annotations

import errno
import io
import operator
from typing import TYPE_CHECKING, Final, NamedTuple

from stepout.artifacts.reading.pinned_object import Verifier, verifier_for
from stepout.artifacts.reading.ranges.blocks import WholeObject, blocks_for
from stepout.artifacts.reading.ranges.prefix_checksums import PrefixChecksums
from stepout.schemas.errors import ConfigurationError, StepoutError

if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import NoReturn

    from _typeshed import WriteableBuffer

    from stepout.artifacts.reading.access import Verify
    from stepout.artifacts.reading.pinned_object import PinnedObject
    from stepout.artifacts.reading.ranges.blocks import VerifiedBytes

BUFFER: Final = 1 << 20
SKIP: Final = 256 << 10
"""A seek forward by no more than this reads on instead of asking anew, in bytes."""
FIRST_WINDOW: Final = 1 << 20
LAST_WINDOW: Final = 32 << 20


class Ahead(NamedTuple):
    """How much more than a read wants is asked for with it, in bytes.

    Attributes:
        first: At a new place.
        last: At most, where one read follows the other: twice as much each time.
    """

    first: int
    last: int


GENEROUS: Final = Ahead(FIRST_WINDOW, LAST_WINDOW)
"""For whoever reads on; a read at the start asks for all there is."""

WHEN_FOLLOWED: Final = Ahead(0, LAST_WINDOW)
"""For engines, most of whose reads lie apart."""

EXACT: Final = Ahead(0, 0)
"""For callers that plan their own ranges."""


class ArtifactReader(io.RawIOBase):
    """A raw, seekable, read-only file over one object.

    Args:
        pinned: The object.
        verifier: What the whole of its bytes is held against.
        ahead: How much more is asked for than each read wants.
        tail: The last bytes of the object, where they have been read and verified already.
        verified: Where bytes come from that are verified before they are given away; ``None``: from the object.
        in_order: Refuse what leaves the order from 0 on, because it could not be verified.
    """

    def __init__(  # noqa: PLR0913 - how one file reads
        self,
        pinned: PinnedObject,
        verifier: Verifier,
        *,
        ahead: Ahead = GENEROUS,
        tail: bytes = b"",
        verified: VerifiedBytes | None = None,
        in_order: bool = False,
    ) -> None:
        super().__init__()
        self._pinned = pinned
        self._verifier = verifier
        self._checksums = PrefixChecksums(pinned.pointer, verifier)
        self._ahead = ahead
        self._tail = tail
        self._verified = verified
        self._in_order = in_order
        self._size = pinned.size
        self._position = 0
        self._stream: Generator[memoryview] | None = None
        self._stream_position = 0
        self._stream_stop = 0
        self._rest = memoryview(b"")
        self._window = ahead.first
        self.failure: StepoutError | None = None

    @property
    def name(self) -> str:
        """The object's URL."""
        return self._pinned.pointer.url

    @property
    def mode(self) -> str:
        """``"rb"``."""
        return "rb"

    @property
    def verified_to(self) -> int:
        """How far the prefix reaches that the last hashed read extended, in bytes from the start."""
        return self._checksums.verified_to

    def readable(self) -> bool:
        """Return ``True``."""
        self._check_open()
        return True

    def seekable(self) -> bool:
        """Return ``True``."""
        self._check_open()
        return True

    def writable(self) -> bool:
        """Return ``False``."""
        self._check_open()
        return False

    def write(self, _data: object, /) -> NoReturn:
        """Refuse.

        Raises:
            io.UnsupportedOperation: Always; ``ArtifactManager`` writes.
        """
        self._check_open()
        msg = "an artifact is opened for reading only"
        raise io.UnsupportedOperation(msg)

    def tell(self) -> int:
        """Return the position in bytes."""
        self._check_open()
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move; nothing is requested before the next read.

        Raises:
            OSError: ``EINVAL``: before the start, as of every file of the system.
            io.UnsupportedOperation: An unknown ``whence``.
        """
        self._check_open()
        bases = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}
        if whence not in bases:
            msg = f"whence={whence!r}: expected 0, 1 or 2"
            raise io.UnsupportedOperation(msg)
        position = bases[whence] + operator.index(offset)
        if position < 0:  # zipfile and others look for this class and ask a file that is too short for them no more
            raise OSError(errno.EINVAL, f"cannot seek to {position}, before the start")
        self._position = position
        return position

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Read into ``buffer`` until it is full or the object ends; return how many bytes came.

        Raises:
            ChecksumMismatchError: A block, or all that was read when the last byte came, is not what was written.
            ConfigurationError: ``verify="sha256"``, and the blocks have CRCs: the read leaves the order from 0 on.
            StoreError: Missing, expired, denied, changed, or unreachable.
        """
        self._check_open()
        if self.failure is not None:
            raise self.failure
        start = self._position
        try:
            with memoryview(buffer) as whole:
                if not whole.nbytes:  # what has no bytes has no shape that could be cast
                    return 0
                with whole.cast("B") as target:
                    return self._fill(target)
        except ConfigurationError:  # of the caller's making: another read may be fine
            raise
        except StepoutError as error:
            self.failure = error
            self._close_stream()
            raise
        except BaseException:  # Ctrl-C, or what a signal's handler raised: none of these bytes were returned
            self._position = start
            self._close_stream()  # a generator that was interrupted has ended, and would look like the object's end
            raise

    def read(self, size: int | None = -1, /) -> bytes:
        """Read up to ``size`` bytes; no memory is taken for what lies beyond the end."""
        if size is None or size < 0:
            return self.readall()
        self._check_open()
        return super().read(min(size, max(self._size - self._position, 1))) or b""

    def readall(self) -> bytes:
        """Read everything from here on, allocated once, and only after the first response was compared."""
        self._check_open()
        left = self._size - self._position
        if left <= 0 and not self._empty_unread():
            return b""
        first = bytearray(max(min(left, SKIP), 1))
        got = self.readinto(first)
        if got in (left, 0):
            return bytes(first[:got])
        target = io.BytesIO()
        target.seek(left - 1)
        target.write(b"\0")
        with target.getbuffer() as buffer, buffer[got:] as rest:
            buffer[:got] = first
            self.readinto(rest)
        return target.getvalue()

    def close(self) -> None:
        """End the download, if one is under way."""
        try:
            if not self.closed:
                self._close_stream()
        finally:
            super().close()

    # How bytes come -----------------------------------------------------------------------------------------------

    def _fill(self, target: memoryview) -> int:
        wanted = max(min(len(target), self._size - self._position), 0)
        if self._verified is not None and (wanted or not self._size):
            self._verified.load()
            self._tail = self._verified.tail
        elif self._empty_unread():
            self._touch()
        filled = 0
        while filled < wanted:
            piece = self._next(wanted - filled)
            target[filled : filled + len(piece)] = piece
            self._checksums.take(self._position, piece)
            self._position += len(piece)
            filled += len(piece)
        return filled

    def _next(self, wanted: int) -> memoryview:
        """Return the next bytes at the position, at least one and at most ``wanted``."""
        tail_start = self._size - len(self._tail)
        if self._position >= tail_start:
            self._check_order()  # what lies before a footer is held to CRCs as well
            start = self._position - tail_start
            return memoryview(self._tail)[start : start + wanted]
        self._place(wanted)
        while not self._rest:
            assert self._stream is not None  # noqa: S101 - _place opened it
            self._rest = next(self._stream)
        piece = self._rest[:wanted]
        self._rest = self._rest[len(piece) :]
        self._stream_position += len(piece)
        return piece

    def _place(self, wanted: int) -> None:
        """Bring the stream to the position: read on, skip a little, or ask anew."""
        gap = self._position - self._stream_position
        within = self._stream is not None and self._stream_position <= self._position < self._stream_stop
        if within and gap <= max(SKIP, len(self._rest)):
            self._skip(gap)
            return
        follows = self._stream is not None and self._position == self._stream_stop
        self._check_order()
        self._close_stream()
        self._window = min(max(self._window * 2, FIRST_WINDOW), self._ahead.last) if follows else self._ahead.first
        self._stream_stop = self._stop(wanted)
        self._stream_position = self._position
        hashed = self._verifier.algorithm is not None
        if self._verified is not None:
            self._stream = self._verified.stream(self._position, self._stream_stop, hashed=hashed)
        else:
            at_end = self._stream_stop == self._size
            self._stream = self._pinned.blocks(self._position, None if at_end else self._stream_stop, hashed=hashed)

    def _check_order(self) -> None:
        if not self._in_order or self._position in (0, self.verified_to):
            return
        raise ConfigurationError(
            f'{self.name}: verify="sha256" was asked for, but its blocks have CRCs: bytes from {self._position:,} on '
            f"cannot be read after the first {self.verified_to:,}, and nothing of them was. Read in order from the "
            'start; write it with blocks="sha256"; or pass verify=True, which finds damage and no forgery'
        )

    def _stop(self, wanted: int) -> int:
        end = self._size - len(self._tail)
        if self._ahead.first and self._position == 0:  # most who read the start read it all
            return end
        return min(self._position + max(wanted, self._window), end)

    def _skip(self, gap: int) -> None:
        while gap:
            if not self._rest:
                assert self._stream is not None  # noqa: S101 - there is one while there is something to skip
                self._rest = next(self._stream)
            piece = self._rest[:gap]
            self._checksums.take(self._stream_position, piece)
            self._rest = self._rest[len(piece) :]
            self._stream_position += len(piece)
            gap -= len(piece)

    def _empty_unread(self) -> bool:
        return self._size == 0 and self._stream is None

    def _touch(self) -> None:
        """An empty object is asked for too: it may be missing, or no longer empty."""
        self._stream = self._pinned.blocks()
        for _ in self._stream:
            pass
        self._verifier.finish()

    def _close_stream(self) -> None:
        self._rest = memoryview(b"")
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _check_open(self) -> None:
        if self.closed:
            msg = "I/O operation on closed file: open the artifact again"
            raise ValueError(msg)


def open_reader(pinned: PinnedObject, verify: Verify) -> io.BufferedReader:
    """Return a buffered file over an object; see ``ArtifactReader``. A small one without a list is read whole.

    Raises:
        ConfigurationError: As for ``verifier_for``.
    """
    verifier = verifier_for(pinned.pointer, verify)
    blocks = blocks_for(pinned, verify)
    if blocks is None and verifier.algorithm is not None and pinned.size <= BUFFER:
        # It has one block, or no list: the buffer would take nearly all of it at once, so a seek is no reason to verify
        # less.
        whole = ArtifactReader(pinned, Verifier(pinned.pointer, None), verified=WholeObject(pinned, verify))
        return io.BufferedReader(whole, BUFFER)
    in_order = verify == "sha256" and blocks is not None and blocks.forgeable
    return io.BufferedReader(ArtifactReader(pinned, verifier, verified=blocks, in_order=in_order), BUFFER)
