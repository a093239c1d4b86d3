"""The files that a directory's listing or a dataset's manifest names: verified, each allowed, read side by side."""

from __future__ import annotations

import threading
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from stepout.artifacts.dataset_manifest import DatasetFile, is_dataset, parse_manifest
from stepout.artifacts.directory_listing import EmptyFolder
from stepout.artifacts.listing import Entry, names_files, parse_listing
from stepout.artifacts.media_types import DIRECTORY, essence
from stepout.artifacts.reading.access import DOCUMENT_LIMIT
from stepout.artifacts.reading.files.directory import Listing, open_listing
from stepout.artifacts.reading.pinned_object import PinnedObject, check_cap
from stepout.artifacts.reading.read_events import is_read
from stepout.artifacts.reading.whole_read import compare_whole, read_whole
from stepout.artifacts.transfer.stages import BLOCK
from stepout.artifacts.transfer.worker_pool import CONNECTIONS, work_through
from stepout.schemas.errors import ArtifactNotFoundError, InvalidDocumentError
from stepout.schemas.text.foreign_text import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from stepout.artifacts.dataset_manifest import DatasetManifest
    from stepout.artifacts.reading.access import Access

    Counter = Callable[[int], Callable[[int], None]]

Listed = Entry | DatasetFile
Item = TypeVar("Item")

_LARGE: Final = 4 * BLOCK
"""A larger file fills connections and memory of its own, in bytes."""


@dataclass(frozen=True)
class ListedFiles:
    """Everything that is to be read of a directory or a dataset.

    Attributes:
        size: Bytes of all files together.
        entries: Files, and empty folders; taken as they are needed.
    """

    size: int
    entries: Iterable[Listed | EmptyFolder]


def files_to_read(listing: PinnedObject) -> ListedFiles:
    """Return what a directory or a dataset consists of; bytes are counted before the first file is asked for.

    Raises:
        InvalidDocumentError: It is invalid; ``entries`` raises it, too, and the others.
        NotAllowedError: A file lies outside the allow-list, or its path would leave the folder.
        ReadBudgetError: The files are more than the budget.
        StoreError: The listing could not be read.
    """
    if is_lines(listing):
        found = open_listing(listing)
        return ListedFiles(found.index.size, found.entries(whole=True))
    entries = _read_at_once(listing, whole=True)
    return ListedFiles(sum(entry.pointer.size for entry in entries), entries)


def files_below(listing: PinnedObject, prefix: str = "") -> Iterator[Listed]:
    """Yield the files whose paths begin with a text; of a long listing no more is fetched than that takes.

    Raises:
        InvalidDocumentError: It is no directory and no dataset, or as for ``files_to_read``.
        StoreError: As for ``files_to_read``, and the others.
    """
    check_names_files(listing)
    if is_lines(listing):
        found = open_listing(listing).entries(prefix)
        return (entry for entry in found if isinstance(entry, Entry))
    return (entry for entry in _read_at_once(listing) if entry.path.startswith(prefix))


def file_of(listing: PinnedObject, path: str) -> Listed:
    """Return one file; of a long listing, its index and the stretch that has the file are fetched.

    Raises:
        ArtifactNotFoundError: There is no such file.
        InvalidDocumentError: As for ``files_below``.
        StoreError: As for ``files_below``, and the others.
    """
    check_names_files(listing)
    if is_lines(listing):
        return open_listing(listing).entry(path)
    for entry in _read_at_once(listing):
        if entry.path == path:
            return entry
    message = f"{listing.pointer.url} has no file {shown(repr(path))}; iter_files() has the paths that there are"
    raise ArtifactNotFoundError(message)


def open_files(listing: PinnedObject) -> Listing | Sequence[Listed]:
    """Open the listing of a directory or a dataset: a long one to be looked up, others read; raises as the others."""
    return open_listing(listing) if is_lines(listing) else _read_at_once(listing)


def read_entries(listing: PinnedObject) -> Sequence[Listed]:
    """Read all files of a directory or a dataset; raises what ``files_below`` raises."""
    return tuple(files_below(listing))


def read_manifest(manifest: PinnedObject, *, whole: bool = False) -> DatasetManifest:
    """Read the manifest of a dataset.

    Args:
        manifest: It.
        whole: Count every file's bytes, before the first of them is asked for.

    Raises:
        InvalidDocumentError: It is none, or is invalid.
        StoreError: As for ``files_to_read``, and the others.
    """
    if not is_dataset(manifest.pointer):
        url, media_type = manifest.pointer.url, manifest.pointer.media_type
        raise InvalidDocumentError(f"{url} has the media type {media_type!r}; it is no dataset artifact")
    found = parse_manifest(_read(manifest), manifest.pointer.url)
    _check(manifest, found.files, whole=whole)
    return found


def is_lines(listing: PinnedObject) -> bool:
    """Tell whether a listing is one of lines with an index, ``directory/2``."""
    return essence(listing.pointer.media_type) == DIRECTORY


def check_names_files(listing: PinnedObject) -> None:
    """Raise unless a pointer names a directory or a dataset.

    Raises:
        InvalidDocumentError: It does not.
    """
    pointer = listing.pointer
    if not names_files(pointer):
        msg = f"{pointer.url} has the media type {pointer.media_type!r}; it is no directory or dataset artifact"
        raise InvalidDocumentError(msg)


# Side by side -----------------------------------------------------------------------------------------------------


def work_on(
    files: Iterable[Item], act: Callable[[Item], object], size_of: Callable[[Item], int], access: Access
) -> None:
    """Act on files in several threads; a large one fills connections of its own, so only one of those at a time.

    The first error ends it; what is under way then is not waited for.

    Args:
        files: Taken as they are needed.
        act: Called in a thread.
        size_of: A file's bytes.
        access: How they are read: as many at once as its settings allow connections, each by ``one_of_many``.

    Raises:
        Exception: What ``act`` raised first, or taking the files did.
    """
    large = threading.Semaphore(1)

    def act_on(file: Item) -> None:
        if size_of(file) <= _LARGE:
            act(file)
        else:
            with large:
                act(file)

    def weigh(file: Item) -> int:
        return min(size_of(file), BLOCK)

    memory = None if access.settings is None else access.settings.memory
    threads = access.at_once(CONNECTIONS)
    with closing(work_through(files, act_on, threads=threads, weigh=weigh, memory=memory)) as found:
        for done in found:
            if done.error is not None:
                raise done.error


@is_read("verify")
def compare_all(pinned: PinnedObject, counter: Counter | None = None) -> Mapping[str, str]:
    """Read an object whole and compare it; of a listing or a manifest, every file as well, several at once.

    Args:
        pinned: The object.
        counter: See ``download``.

    Returns:
        The object's own checksum that was compared, hex by algorithm.

    Raises:
        ConfigurationError: One has no checksum to compare with.
        IntegrityError: One is not what was written.
        StoreError: As for ``files_to_read``.
    """
    if not names_files(pinned.pointer):
        return compare_whole(pinned, None if counter is None else counter(pinned.size))
    compared, found = compare_whole(pinned), files_to_read(pinned)
    count = None if counter is None else counter(found.size)
    access, one = pinned.access, pinned.access.one_of_many()
    files = (PinnedObject(one, each.pointer) for each in found.entries if not isinstance(each, EmptyFolder))
    work_on(files, lambda file: compare_whole(file, count), lambda file: file.size, access)
    return compared


# Read at once -----------------------------------------------------------------------------------------------------


def _read_at_once(listing: PinnedObject, *, whole: bool = False) -> Sequence[Listed]:
    """Read a listing that is one JSON document: ``directory/1``, or the manifest of a dataset."""
    if is_dataset(listing.pointer):
        return read_manifest(listing, whole=whole).files
    entries = parse_listing(_read(listing), listing.pointer.url)
    _check(listing, entries, whole=whole)
    return entries


def _read(listing: PinnedObject) -> bytes:
    check_cap(listing.pointer, DOCUMENT_LIMIT, instead="a listing of this size is not read")
    return read_whole(listing, listing.access.verify)


def _check(listing: PinnedObject, files: Sequence[Listed], *, whole: bool) -> None:
    access = listing.access
    for file in files:
        access.allowed.check(file.pointer.bucket, file.pointer.key)
    size = sum(file.pointer.size for file in files) if whole else 0
    access.spending_of_directory().take(listing.pointer.url, entries=len(files), size=size)
