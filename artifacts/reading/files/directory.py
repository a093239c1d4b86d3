"""A directory's listing, read as far as it is needed: the index first, then the stretches that a caller asks for.

Nothing is believed before it is verified: the index is held to the SHA-256 that the pointer has, a stretch to the one
that the index has. A pass over everything also compares order, counts, bytes and the digest of the tree, the last of
them at its end; until then what it yields is what the index says, and the index may be wrong about the whole.
"""

from __future__ import annotations

import difflib
import hashlib
from contextlib import closing
from typing import TYPE_CHECKING, Final

from stepout.artifacts.directory_listing import (
    INDEX_LIMIT,
    LINES_VERSION,
    LISTING_LIMIT,
    PATH_LIMIT,
    EmptyFolder,
    ListingIndex,
    PathOrder,
    Stretch,
    TreeDigest,
    index_place,
    invalid_listing,
    parse_index,
    tree_of,
)
from stepout.artifacts.media_types import DIRECTORY, essence
from stepout.artifacts.reading.access import DOCUMENT_LIMIT
from stepout.artifacts.reading.pinned_object import PinnedObject, check_cap
from stepout.artifacts.reading.ranges.block_cache import BLOCKS
from stepout.artifacts.reading.whole_read import read_whole
from stepout.schemas.errors import ArtifactNotFoundError, ChecksumMismatchError
from stepout.schemas.problems import Problem
from stepout.schemas.text.foreign_text import shown
from stepout.schemas.text.json_text import dump_json, load_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from stepout.artifacts.listing import Entry

_SMALL: Final = 128 << 10
"""A listing of so many bytes is fetched in one request: a second one takes longer than the bytes do."""

_TOGETHER: Final = 1 << 20
"""Stretches that follow one another are fetched in one request, up to so many bytes; the first ones are fewer."""


class Listing:
    """The listing of a directory, its index read and verified. Threads may share it.

    Args:
        pinned: The listing's object.
        index: Its last line.
        held: The whole listing, where it was fetched in one request.

    Attributes:
        index: What it says of the directory as a whole.
    """

    def __init__(self, pinned: PinnedObject, index: ListingIndex, held: memoryview | None = None) -> None:
        self.index = index
        self._pinned = pinned
        self._held = held

    def entries(self, prefix: str = "", *, whole: bool = False) -> Iterator[Entry | EmptyFolder]:
        """Yield files and empty folders in the order of their paths, each from a stretch that has been verified.

        Args:
            prefix: Only paths that begin with this text, which only their stretches are fetched for.
            whole: Count every file's bytes, before the first of them is yielded.

        Yields:
            What was written. A pass over everything compares at its end; an error then says that the whole is not it.

        Raises:
            InvalidDocumentError: A line is invalid, out of order, or there twice; or there are others than the index
                says.
            NotAllowedError: A file lies outside the allow-list, or its path would leave the folder.
            ReadBudgetError: The files are more than the budget.
            ChecksumMismatchError: A stretch, or the digest of the tree, is not what was written.
            StoreError: The listing could not be read.
        """
        index, access = self.index, self._pinned.access
        spending, order, totals = access.spending_of_directory(), PathOrder(index.url), _ListingTotals(index)
        if not prefix:
            spending.take(index.url, entries=index.files + index.folders, size=index.size if whole else 0)
        for stretch, lines in self._fetched(index.below(prefix)):
            for entry in self._entries(stretch, lines):
                order.take(entry)
                totals.take(entry)
                path = _spelled(entry)
                if not path.startswith(prefix):
                    continue
                if prefix:
                    spending.take(index.url, entries=1)
                if not isinstance(entry, EmptyFolder):
                    access.allowed.check(entry.pointer.bucket, entry.pointer.key)
                yield entry
        if not prefix:
            totals.compare(tree_of(self._pinned.pointer))

    def entry(self, path: str) -> Entry:
        """Return a file: the index leads to the one stretch that has it.

        Raises:
            ArtifactNotFoundError: The directory has no such file; the message has names that are like it.
            NotAllowedError: It lies outside the allow-list.
            ChecksumMismatchError: As for ``entries``.
            StoreError: As for ``entries``.
        """
        found = self.find(path)
        if found is None:
            raise self._missing(path)
        return found

    def find(self, path: str) -> Entry | None:
        """Return a file; ``None`` if the directory has no such file. Otherwise as ``entry``."""
        stretch = self.index.holding(path)
        if stretch is None:
            return None
        lines = self._kept(stretch)
        # All lines of a stretch take 15 ms to parse, and mostly one of them begins like this, as our writers write it.
        begins = b'"path":' + dump_json(path)
        start = lines.find(b"\n{" + begins)
        if start >= 0 and lines.count(begins) == 1:
            entries = list(self.index.entries(lines[start + 1 : lines.find(b"\n", start + 1)]))
        else:
            entries = self._in_order(stretch, lines)
        for entry in entries:
            if not isinstance(entry, EmptyFolder) and entry.path == path:
                self._pinned.access.allowed.check(entry.pointer.bucket, entry.pointer.key)
                return entry
        return None

    def has_folder(self, path: str) -> bool:
        """Say whether something lies in a folder, or it is listed as empty."""
        inside = f"{path}/"
        stretches = self.index.below(inside)
        if len(stretches) != 1:  # every one but the first begins with a path in it
            return bool(stretches)
        lines = self._kept(stretches[0])
        return any(_spelled(entry).startswith(inside) for entry in self._in_order(stretches[0], lines))

    # Lines ------------------------------------------------------------------------------------------------------------

    def _entries(self, stretch: Stretch, lines: bytes) -> Iterator[Entry | EmptyFolder]:
        """Yield the entries of a stretch, which begins as the index says."""
        if stretch.start == 0:
            header, _, lines = lines.partition(b"\n")
            document = load_json(header)
            if not isinstance(document, dict) or document.get("stepout") != LINES_VERSION:
                problem = Problem("$.stepout", "version", f'must be "{LINES_VERSION}" in the first line')
                raise invalid_listing(self.index.url, [problem])
        first = None
        for entry in self.index.entries(lines):
            if len(entry.path) > PATH_LIMIT:
                problem = Problem("$.path", "length", f"is longer than {PATH_LIMIT:,} characters")
                raise invalid_listing(self.index.url, [problem])
            if first is None:
                first = _spelled(entry)
                self._check_first(stretch, first)
            yield entry
        if first is None:
            self._check_first(stretch, "")

    def _check_first(self, stretch: Stretch, first: str) -> None:
        if first != stretch.first:
            problem = Problem("$.stretches", "value", "has a stretch that begins with another path than it says")
            raise invalid_listing(self.index.url, [problem])

    def _in_order(self, stretch: Stretch, lines: bytes) -> list[Entry | EmptyFolder]:
        order, entries = PathOrder(self.index.url), list(self._entries(stretch, lines))
        for entry in entries:
            order.take(entry)
        return entries

    def _missing(self, path: str) -> ArtifactNotFoundError:
        message = f"the directory {self.index.url} has no file {shown(repr(path))}"
        if self.has_folder(path):
            return ArtifactNotFoundError(f"{message}: that is a folder; iter_files(prefix=…) has what is in one")
        stretch = self.index.holding(path)
        near = [] if stretch is None else [_spelled(each) for each in self._in_order(stretch, self._kept(stretch))]
        like = ", ".join(shown(repr(each)) for each in difflib.get_close_matches(path, near, n=3))
        hint = f"; it has {like}" if like else "; iter_files() has the paths that there are"
        return ArtifactNotFoundError(f"{message}{hint}")

    # Bytes ------------------------------------------------------------------------------------------------------------

    def _kept(self, stretch: Stretch) -> bytes:
        """Return the verified bytes of a stretch, which the process keeps for the next file that is asked for."""
        if self._held is not None:
            return self._verified(stretch, self._held[stretch.start : stretch.stop])
        key = _key(self._pinned, stretch.start, stretch.sha256)
        cache = self._pinned.access.kept or BLOCKS.get()
        lines = cache.get(key)
        if lines is None:
            lines = self._verified(stretch, memoryview(_range(self._pinned, stretch.start, stretch.stop)))
            cache.put(key, lines)
        return lines

    def _fetched(self, stretches: Sequence[Stretch]) -> Iterator[tuple[Stretch, bytes]]:
        """Yield stretches with their verified bytes, several from one request."""
        for group in _groups(stretches):
            start, stop = group[0].start, group[-1].stop
            data = self._held[start:stop] if self._held is not None else memoryview(_range(self._pinned, start, stop))
            for stretch in group:
                yield stretch, self._verified(stretch, data[stretch.start - start : stretch.stop - start])

    def _verified(self, stretch: Stretch, lines: memoryview) -> bytes:
        _compare(self._pinned, stretch.start, lines, stretch.sha256)
        return bytes(lines)


class _ListingTotals:
    """What a pass over a listing has seen, held to what its index says; a number beyond it is an error at once."""

    def __init__(self, index: ListingIndex) -> None:
        self._index = index
        self._files = self._folders = self._size = 0
        self._tree = TreeDigest()

    def take(self, entry: Entry | EmptyFolder) -> None:
        self._tree.add(entry)
        if isinstance(entry, EmptyFolder):
            self._folders += 1
        else:
            self._files += 1
            self._size += entry.pointer.size
        index = self._index
        if self._files > index.files or self._folders > index.folders or self._size > index.size:
            self._disagree()

    def compare(self, said: str | None) -> None:
        """Compare everything, at the end of a pass over everything; ``said`` is the digest that the pointer has."""
        index = self._index
        if (self._files, self._folders, self._size) != (index.files, index.folders, index.size):
            self._disagree()
        actual = self._tree.hexdigest()
        for expected, where in ((index.tree, "its index"), (said or actual, "its pointer")):
            if expected != actual:
                raise ChecksumMismatchError(
                    f"{index.url}: the directory's content is not what was written: {where} has the tree digest "
                    f"{shown(expected)}, its entries have {actual}. Take nothing of it for whole; run the task again"
                )

    def _disagree(self) -> None:
        index = self._index
        expected = f"{index.files:,} files and {index.folders:,} empty folders of {index.size:,} bytes"
        actual = f"{self._files:,}, {self._folders:,} and {self._size:,}"
        problem = Problem("$", "value", f"has other lines than its index says: {expected}; so far there are {actual}")
        raise invalid_listing(index.url, [problem])


def open_listing(pinned: PinnedObject) -> Listing:
    """Open the listing of a directory: a request for its index, or one for all of it where it is small.

    Args:
        pinned: It. Where the pointer does not say where the index is, it is read whole and held to its checksum.

    Raises:
        InvalidDocumentError: It is no such listing, or its index is invalid.
        ChecksumMismatchError: It, or its index, is not what was written.
        ArtifactTooLargeError: It is larger than any that a writer makes.
        StoreError: It could not be read.
    """
    pointer = pinned.pointer
    if essence(pointer.media_type) != DIRECTORY:
        raise invalid_listing(pointer.url, [Problem("$.mediaType", "value", f"must be {DIRECTORY}")])
    place = index_place(pointer)
    check_cap(pointer, DOCUMENT_LIMIT if place is None else LISTING_LIMIT, instead="a listing of this size is not read")
    if place is None:
        data = read_whole(pinned, pinned.access.verify)
        start = data.rfind(b"\n", 0, max(len(data) - 1, 0)) + 1
        return Listing(pinned, parse_index(data[start:], start, pointer.url), memoryview(data))
    start, digest = place
    if not 0 < pointer.size - start <= INDEX_LIMIT:
        message = f"must leave the index, of up to {INDEX_LIMIT:,} bytes"
        raise invalid_listing(pointer.url, [Problem("$.annotations.directory.index.start", "range", message)])
    key = _key(pinned, start, digest)
    cache = pinned.access.kept or BLOCKS.get()
    line, held = cache.get(key), None
    if line is None and pointer.size <= _SMALL:
        held = memoryview(read_whole(pinned, pinned.access.verify))
        line = bytes(held[start:])
    elif line is None:
        line = _range(pinned, start, pointer.size)
    _compare(pinned, start, memoryview(line), digest)
    cache.put(key, line)
    listing = Listing(pinned, parse_index(line, start, pointer.url), held)
    if held is not None:
        for stretch in listing.index.stretches:  # few: the next that opens it asks for nothing
            lines = bytes(held[stretch.start : stretch.stop])
            _compare(pinned, stretch.start, memoryview(lines), stretch.sha256)
            cache.put(_key(pinned, stretch.start, stretch.sha256), lines)
    return listing


def _spelled(entry: Entry | EmptyFolder) -> str:
    """Return a path as its line has it: a folder's ends in a slash."""
    return f"{entry.path}/" if isinstance(entry, EmptyFolder) else entry.path


def _groups(stretches: Iterable[Stretch]) -> Iterator[list[Stretch]]:
    """Gather stretches that follow one another; the first group is small, since it may be all that is wanted."""
    group: list[Stretch] = []
    most = _SMALL
    for stretch in stretches:
        if group and stretch.stop - group[0].start > most:
            yield group
            group, most = [], min(2 * most, _TOGETHER)
        group.append(stretch)
    if group:
        yield group


def _range(pinned: PinnedObject, start: int, stop: int) -> bytes:
    with closing(pinned.blocks(start, None if stop == pinned.size else stop)) as blocks:
        return b"".join(map(bytes, blocks))


def _key(pinned: PinnedObject, start: int, sha256: str) -> tuple[object, ...]:
    pointer = pinned.pointer
    return pointer.bucket, pointer.key, pointer.version_id, pointer.etag, pointer.size, start, sha256


def _compare(pinned: PinnedObject, start: int, data: memoryview, expected: str) -> None:
    actual = hashlib.sha256(data).hexdigest()
    if actual != expected:
        raise ChecksumMismatchError(
            f"{pinned.pointer.url}: bytes {start:,} to {start + len(data) - 1:,} of the listing are not those written: "
            f"expected SHA-256 {shown(expected)}, got {actual}. Nothing of them was used. Read again; if it "
            "persists, the stored object is damaged: run the task again"
        )
