"""Ranges of one object as a file for pyarrow: column chunks are fetched once, looked at, decoded from memory."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Final

from stepout.artifacts.formats.parquet_footer import read_end
from stepout.artifacts.reading.pinned_object import PinnedObject, Verifier
from stepout.artifacts.reading.ranges.reader import EXACT, ArtifactReader

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepout.artifacts.reading.ranges.blocks import VerifiedBlocks
    from stepout.schemas.errors import StepoutError

_HOLE: Final = 8 << 10
"""Ranges with no more than this between them are fetched as one, in bytes."""


class FetchedRanges:
    """Fetches ranges of an object, and serves them to pyarrow.

    Args:
        pinned: The object.
        tail: Its last bytes, where they have been read and verified already, and no blocks are.
        blocks: Verifies every range; ``None``: they are pinned only.
    """

    def __init__(self, pinned: PinnedObject, tail: bytes, blocks: VerifiedBlocks | None) -> None:
        self._pinned = pinned
        self._tail = tail
        self._blocks = blocks
        self._readers: list[ArtifactReader] = []
        self._pieces: list[tuple[int, memoryview]] = []
        self._end: memoryview | None = None
        self._reader = self._new_reader()

    @property
    def failure(self) -> StepoutError | None:
        """What the store said, where pyarrow has only said that it could not read."""
        return next((reader.failure for reader in self._readers if reader.failure is not None), None)

    def open_file(self) -> io.RawIOBase:
        """Return a file over the object; what was fetched is not asked for again."""
        return _RangeFile(self, self._new_reader(), self._pinned.size)

    @property
    def end(self) -> memoryview:
        """The end of the file, with all of its footer; it is held, and pyarrow reads it from here."""
        if self._end is None:
            self._end = read_end(self._read_at, self._pinned.size)
        return self._end

    def fetch(self, spans: Sequence[tuple[int, int]]) -> list[memoryview]:
        """Fetch ranges in as few requests as they allow, in the place of those that were fetched before.

        Raises:
            ValueError: One lies outside of the object.
        """
        self._pieces = []  # let go of the last row group before the next one is fetched: the limit counts one
        size = self._pinned.size
        joined: list[tuple[int, int]] = []
        for start, stop in sorted(spans):
            if not 0 <= start <= stop <= size:
                msg = "a column chunk lies outside of the file"
                raise ValueError(msg)
            if joined and self._near(joined[-1][1], start):
                joined[-1] = (joined[-1][0], max(stop, joined[-1][1]))
            else:
                joined.append((start, stop))
        for start, stop in joined:
            self._pieces.append((start, self._read_at(start, stop - start)))
        return [self._found(start, stop) for start, stop in spans]

    def held(self, start: int, stop: int) -> memoryview | None:
        """Return bytes that were fetched; ``None`` unless all of them were."""
        held = [] if self._end is None else [(self._pinned.size - len(self._end), self._end)]
        for first, piece in (*held, *self._pieces):
            if first <= start and stop <= first + len(piece):
                return piece[start - first : stop - first]
        return None

    def close(self) -> None:
        """End what is being downloaded, and let go of the rest."""
        self._pieces = []
        for reader in self._readers:
            reader.close()

    def _read_at(self, start: int, size: int) -> memoryview:
        piece = memoryview(bytearray(size))
        self._reader.seek(start)
        self._reader.readinto(piece)
        return piece.toreadonly()

    def _near(self, stop: int, start: int) -> bool:
        """Say whether what is between two ranges is fetched with them."""
        if start <= stop + _HOLE:  # a request costs more than the bytes of a small hole
            return True
        # No block is fetched twice, and neighbouring blocks come in one request.
        return self._blocks is not None and start // self._blocks.size <= -(-stop // self._blocks.size)

    def _found(self, start: int, stop: int) -> memoryview:
        piece = self.held(start, stop)
        assert piece is not None  # noqa: S101 - it has just been fetched
        return piece

    def _new_reader(self) -> ArtifactReader:
        # Nothing is hashed: blocks and pages have checksums of their own, and ranges are never all. A reader each:
        # pyarrow keeps the position of one that it has open, and ours must not move with it.
        unhashed = Verifier(self._pinned.pointer, None)
        reader = ArtifactReader(self._pinned, unhashed, ahead=EXACT, tail=self._tail, verified=self._blocks)
        self._readers.append(reader)
        return self._readers[-1]


class _RangeFile(io.RawIOBase):
    """What pyarrow reads from."""

    def __init__(self, ranges: FetchedRanges, reader: ArtifactReader, size: int) -> None:
        super().__init__()
        self._ranges = ranges
        self._reader = reader
        self._size = size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        self._position = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence] + offset
        return self._position

    def read(self, size: int = -1, /) -> bytes:
        stop = self._size if size is None or size < 0 else min(self._position + size, self._size)
        piece = self._ranges.held(self._position, stop)
        if piece is None:
            self._reader.seek(self._position)
            piece = memoryview(bytearray(max(stop - self._position, 0)))
            self._reader.readinto(piece)
        self._position += len(piece)
        return bytes(piece)

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override] # what is called is read
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)
