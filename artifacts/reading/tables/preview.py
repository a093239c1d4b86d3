"""A look at a Parquet file without reading it: its footer, and some columns of one row group, verified.

What is fetched is verified as a column read is (``tables.parquet``): by blocks, or the footer by its digest and pages
by their checksums. A file that has neither, or is small, is read and verified whole. The caller says how many bytes may
be fetched; columns that would take more are left out, the largest first, so that most of them are seen.
"""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Self

from stepout.artifacts.formats.column_statistics import ColumnStatistics, leaf_places, statistics_of_leaf
from stepout.artifacts.formats.parquet_decoding import GroupDecoder, TooMuchError, prefixes_of, span_of
from stepout.artifacts.reading.tables.parquet import (
    ParquetRead,
    by_columns,
    open_parquet,
    require_parquet,
    require_pyarrow,
    undecodable,
)
from stepout.schemas.errors import ChecksumMismatchError, StepoutError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import pyarrow as pa

    from stepout.artifacts.reading.pinned_object import PinnedObject
    from stepout.artifacts.reading.tables.parquet import ParquetBytes

DECODED: Final = 128 << 20
"""Memory that what is decoded at once may take, in bytes."""

_HOLE: Final = 8 << 10  # what lies between two ranges is fetched with them up to here, as ``FetchedRanges`` does
_STATISTICS: Final = 100_000  # so many are read of a footer: each takes some microseconds


def whole_size(pinned: PinnedObject) -> int | None:
    """Return how many bytes a preview fetches at once; ``None`` if it reads ranges.

    Args:
        pinned: The file.
    """
    return None if by_columns(pinned.pointer, _wanted(pinned)) else pinned.size


def open_preview(pinned: PinnedObject) -> TablePreview:
    """Open a file: its footer is fetched, or all of it. Close it.

    Raises:
        ConfigurationError: pyarrow is missing.
        InvalidDocumentError: Its media type is another format's.
        UndecodableError: It is no Parquet file that pyarrow can read.
        StoreError: As for ``read_table``; so do the others.
    """
    require_parquet(pinned.pointer)
    require_pyarrow()
    return TablePreview(open_parquet(pinned, _wanted(pinned)), pinned)


def _wanted(pinned: PinnedObject) -> ParquetRead:
    return ParquetRead(columns=(), verify=pinned.access.verify, max_size=pinned.access.limit)


class TablePreview:
    """An open file.

    Args:
        file: Its bytes.
        pinned: Where they come from.

    Attributes:
        schema: As Arrow has it.
        rows: Of the whole file.
    """

    def __init__(self, file: ParquetBytes, pinned: PinnedObject) -> None:
        self._file = file
        self._pointer = pinned.pointer
        try:
            with self._typed():
                self._parquet = file.opened()
                self._metadata: Any = self._parquet.metadata
                self.schema: pa.Schema = self._parquet.schema_arrow
                self._names: list[str] = self.schema.names
                self.rows: int = self._metadata.num_rows
                self._groups = [self._metadata.row_group(index) for index in range(self._metadata.num_row_groups)]
                described = self._metadata.schema
                self._paths = [described.column(leaf).path for leaf in range(self._metadata.num_columns)]
                self._leaves = self._leaves_of_columns()
                self._named = Counter(name for path in self._paths for name in prefixes_of(path))
        except BaseException:
            file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()

    @property
    def whole(self) -> bool:
        """Whether all of it was read."""
        return self._file.ranges is None

    @property
    def filled_groups(self) -> list[int]:
        """The row groups that have rows, in order."""
        return [index for index, group in enumerate(self._groups) if group.num_rows]

    def rows_of(self, group: int) -> int:
        """Return how many rows a row group has."""
        return int(self._groups[group].num_rows)

    def statistics(self, places: Sequence[int]) -> list[ColumnStatistics]:
        """Return what the footer says of top-level columns; nothing of nested ones, nor where there are too many.

        Args:
            places: Of the columns in ``schema``.
        """
        most = _STATISTICS // max(len(self._groups), 1)
        leaves = leaf_places(self.schema)
        if not self._leaves:
            return [ColumnStatistics() for _ in places]
        found = []
        for count, place in enumerate(places):
            leaf = leaves[place]
            with self._typed():
                told = leaf is None or count >= most or self._leaves[place] != [leaf]
                found.append(ColumnStatistics() if told or leaf is None else statistics_of_leaf(self._groups, leaf))
        return found

    def unfolds(self, group: int, place: int) -> bool:
        """Say whether a column of a row group takes more memory, decoded, than a preview takes.

        Args:
            group: From ``filled_groups``.
            place: Of the column in ``schema``.
        """
        leaves = self._leaves[place] if self._leaves else []
        return bool(sum(self._groups[group].column(leaf).total_uncompressed_size for leaf in leaves) > DECODED)

    def fetchable(self, group: int, places: Sequence[int]) -> list[int]:
        """Return which of some columns of a row group can be fetched at all, whatever that takes.

        Args:
            group: From ``filled_groups``.
            places: Of the columns in ``schema``; one whose name another has as well is left out.
        """
        often = Counter(self._names)
        return [place for place in places if often[self._names[place]] == 1 and self._spans(group, place)]

    def affordable(self, group: int, places: Sequence[int], size: int, requests: int) -> list[int]:
        """Return which of some columns of a row group can be fetched within bytes and requests, in their order.

        Args:
            group: From ``filled_groups``.
            places: Of the columns in ``schema``; one whose name another has as well is left out.
            size: Bytes at most.
            requests: At most.
        """
        spans = {place: self._spans(group, place) for place in self.fetchable(group, places)}
        if self.whole:
            return list(spans)
        chosen: list[int] = []
        together: list[tuple[int, int]] = []
        for place in sorted(spans, key=lambda each: sum(stop - start for start, stop in spans[each])):
            more = self._joined([*together, *spans[place]])
            if sum(stop - start for start, stop in more) <= size and len(more) <= requests:
                chosen.append(place)
                together = more
        return sorted(chosen)

    def columns(self, group: int, places: Sequence[int]) -> Mapping[int, pa.ChunkedArray]:
        """Fetch, verify and decode columns of a row group.

        Args:
            group: From ``filled_groups``.
            places: From ``affordable``.

        Returns:
            Each column by its place. One that unfolds into more memory than a preview takes is left out.

        Raises:
            ChecksumMismatchError: A page or a block is not what was written.
            UndecodableError: pyarrow cannot decode it.
            StoreError: As for ``read_table``.
        """
        if not places:
            return {}
        decoder = self._decoder(places)
        with self._typed():
            pieces = self._file.fetch(decoder.spans(group))
            try:
                return self._decoded(decoder, group, pieces, places)
            except TooMuchError:
                pass
            found: dict[int, pa.ChunkedArray] = {}
            for place in places:  # one of them is too much, or all together
                alone = self._decoder([place])
                held = [pieces[decoder.spans(group).index(span)] for span in alone.spans(group)]
                try:
                    found |= self._decoded(alone, group, held, [place])
                except TooMuchError:
                    continue
            return found

    # Inside -----------------------------------------------------------------------------------------------------------

    def _decoder(self, places: Sequence[int]) -> GroupDecoder:
        names = [self._names[place] for place in places]
        return GroupDecoder(self._parquet, names, DECODED, sifted=False, reopen=self._file.reopened)

    def _decoded(
        self, decoder: GroupDecoder, group: int, pieces: Sequence[memoryview], places: Sequence[int]
    ) -> dict[int, pa.ChunkedArray]:
        import pyarrow as pa

        table = pa.concat_tables([decoder.keep(each) for each in decoder.tables(group, pieces)])
        if table.num_rows != self._groups[group].num_rows:
            msg = f"{table.num_rows:,} rows came of a row group, the footer says {self._groups[group].num_rows:,}"
            raise ValueError(msg)
        held = set(table.column_names)
        return {place: table.column(self._names[place]) for place in places if self._names[place] in held}

    def _leaves_of_columns(self) -> list[list[int]]:
        """Return for each top-level column its places among the columns of the file; nothing where they do not fit."""
        names = self._names
        leaves: list[list[int]] = [[] for _ in names]
        column = 0
        for leaf, path in enumerate(self._paths):
            while column < len(names) and not _is_of(path, names[column], taken=leaves[column]):
                column += 1
            if column == len(names):
                return []
            leaves[column].append(leaf)
        return leaves

    def _spans(self, group: int, place: int) -> list[tuple[int, int]]:
        """Return where a column of a row group lies; nothing if it unfolds into too much, or others come with it."""
        leaves = self._leaves[place] if self._leaves else []
        chunks = [self._groups[group].column(leaf) for leaf in leaves]
        size = sum(chunk.total_uncompressed_size for chunk in chunks)
        return (
            [span_of(chunk) for chunk in chunks]
            if self._named[self._names[place]] == len(leaves) and size <= DECODED
            else []
        )

    def _joined(self, spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """Return what is fetched for some ranges: whole blocks, and what lies close together in one request."""
        block = (self._pointer.blocks or {}).get("size", 1) if self._file.ranges is not None else 1
        step = block if isinstance(block, int) and block > 0 else 1
        joined: list[tuple[int, int]] = []
        for start, stop in sorted(spans):
            first, last = start - start % step, min(-(-stop // step) * step, self._pointer.size)
            if joined and first <= joined[-1][1] + (_HOLE if step == 1 else 0):
                joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
            else:
                joined.append((first, last))
        return joined

    @contextmanager
    def _typed(self) -> Iterator[None]:
        """Make typed errors of whatever pyarrow raises inside of it."""
        try:
            yield
        except (StepoutError, MemoryError, TooMuchError):
            raise
        except Exception as error:
            if self._file.failure is not None:
                raise self._file.failure from error
            if self._file.checked and self._pointer.blocks is None and "CRC" in str(error):
                msg = f"{self._pointer.url}: a page is not what was written: its checksum differs. Read again; if it"
                raise ChecksumMismatchError(f"{msg} persists, the stored object is damaged") from error
            raise undecodable(self._pointer, error) from error


def _is_of(path: str, name: str, *, taken: Sequence[int]) -> bool:
    """Say whether a path of the file is a top-level column's: a simple one has one alone, and its own name."""
    return (path == name and not taken) or path.startswith(f"{name}.")
