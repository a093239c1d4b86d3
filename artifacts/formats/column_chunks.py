"""What a Parquet file's footer says of its column chunks, where the footer may be anything.

Where it contradicts itself, ``column`` of pyarrow's row group and ``statistics`` of its column chunk end the process:
a C++ error leaves them that nobody catches (pyarrow 26.0.1). pyarrow's reader raises the same error in Python. So the
reader is asked first, for a file that has this footer and nothing else, and gets no further than to its first byte.
"""

from __future__ import annotations

import io
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence


class ColumnChunks:
    """The column chunks that a footer describes.

    Args:
        metadata: A ``pyarrow.parquet.FileMetaData``.
    """

    def __init__(self, metadata: Any) -> None:
        self._metadata = metadata
        self._sound: set[tuple[int, int]] = set()

    def of(self, group: int, leaves: Sequence[int]) -> list[Any]:
        """Return a row group's ``pyarrow.parquet.ColumnChunkMetaData`` of some columns, in their order.

        Args:
            group: Its index.
            leaves: Their places among the columns of the file.

        Raises:
            OSError: The footer contradicts itself; as pyarrow says it.
        """
        new = [leaf for leaf in leaves if (group, leaf) not in self._sound]
        if new:
            with suppress(_ReachedError):
                self._reader.read_row_group(group, column_indices=new, use_threads=False)
            self._sound.update((group, leaf) for leaf in new)
        described = self._metadata.row_group(group)
        return [described.column(leaf) for leaf in leaves]

    def statistics(self, group: int, leaf: int) -> Any:
        """Return the ``pyarrow.parquet.Statistics`` of a column chunk; ``None`` where there are none.

        Args:
            group: As for ``of``.
            leaf: Its place among the columns of the file.

        Raises:
            OSError: As for ``of``.
            ValueError: It has another type than its column.
        """
        (chunk,) = self.of(group, [leaf])
        if chunk.physical_type != self._metadata.schema.column(leaf).physical_type:
            msg = f"a column chunk of column {leaf} has another type than the column"
            raise ValueError(msg)
        return chunk.statistics

    @cached_property
    def _reader(self) -> Any:
        import pyarrow as pa
        import pyarrow.parquet as pq

        # With a buffer it reads nothing before it has looked at all column chunks.
        return pq.ParquetFile(pa.PythonFile(_Unread(), mode="r"), metadata=self._metadata, buffer_size=1).reader


class _ReachedError(Exception):
    """The reader wants the first byte of a column chunk: it has found nothing wrong with the footer."""


class _Unread(io.RawIOBase):
    """A file as long as any footer may say, from which nothing is read."""

    def __init__(self) -> None:
        super().__init__()
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = offset + (1 << 62 if whence == io.SEEK_END else 0)
        return self._position

    def tell(self) -> int:
        return self._position

    def read(self, _size: int = -1) -> bytes:
        raise _ReachedError
