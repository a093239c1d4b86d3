"""The files that a directory's listing or a dataset's manifest names: read once, verified, every file allowed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepout.artifacts.dataset_manifest import is_dataset, parse_manifest
from stepout.artifacts.listing import names_files, parse_listing
from stepout.artifacts.reading.access import DOCUMENT_LIMIT
from stepout.artifacts.reading.pinned_object import PinnedObject, check_cap, compare_whole, read_whole
from stepout.schemas.errors import InvalidDocumentError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from stepout.artifacts.dataset_manifest import DatasetFile, DatasetManifest
    from stepout.artifacts.listing import Entry

    Counter = Callable[[int], Callable[[int], None]]


def read_entries(listing: PinnedObject, *, whole: bool = False) -> Sequence[Entry | DatasetFile]:
    """Read the listing of a directory, or the manifest of a dataset.

    Args:
        listing: Either of them.
        whole: Count every file's bytes, before the first of them is asked for.

    Raises:
        InvalidDocumentError: It is invalid.
        NotAllowedError: A file lies outside the allow-list, or its path would leave the folder.
        ReadBudgetError: The files are more than the budget.
        StoreError: The listing could not be read.
    """
    if is_dataset(listing.pointer):
        return read_manifest(listing, whole=whole).files
    entries = parse_listing(_read(listing), listing.pointer.url)
    _check(listing, entries, whole=whole)
    return entries


def read_manifest(manifest: PinnedObject, *, whole: bool = False) -> DatasetManifest:
    """Read the manifest of a dataset; see ``read_entries``."""
    if not is_dataset(manifest.pointer):
        url, media_type = manifest.pointer.url, manifest.pointer.media_type
        raise InvalidDocumentError(f"{url} has the media type {media_type!r}; it is no dataset artifact")
    found = parse_manifest(_read(manifest), manifest.pointer.url)
    _check(manifest, found.files, whole=whole)
    return found


def compare_all(pinned: PinnedObject, counter: Counter | None = None) -> Mapping[str, str]:
    """Read an object whole and compare it; of a listing or a manifest, every file as well.

    Args:
        pinned: The object.
        counter: See ``download``.

    Returns:
        The object's own checksum that was compared, hex by algorithm.

    Raises:
        ConfigurationError: One has no checksum to compare with.
        IntegrityError: One is not what was written.
        StoreError: As for ``read_entries``.
    """
    if not names_files(pinned.pointer):
        return compare_whole(pinned, None if counter is None else counter(pinned.size))
    compared, files = compare_whole(pinned), read_entries(pinned, whole=True)
    count = None if counter is None else counter(sum(file.pointer.size for file in files))
    for file in files:
        compare_whole(PinnedObject(pinned.access, file.pointer), count)
    return compared


def _read(listing: PinnedObject) -> bytes:
    check_cap(listing.pointer, DOCUMENT_LIMIT, instead="a listing of this size is not read")
    return read_whole(listing, listing.access.verify)


def _check(listing: PinnedObject, files: Sequence[Entry | DatasetFile], *, whole: bool) -> None:
    access = listing.access
    for file in files:
        access.allowed.check(file.pointer.bucket, file.pointer.key)
    size = sum(file.pointer.size for file in files) if whole else 0
    access.spending_of_directory().take(listing.pointer.url, entries=len(files), size=size)
