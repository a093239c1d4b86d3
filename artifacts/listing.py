"""What a directory artifact lists, and ``directory/1``: the listing as one JSON document, read but not written.

A listing is untrusted, like any document. ``directory_listing`` has the version that is written.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from stepout.artifacts.media_types import DATASET, DIRECTORY, DIRECTORY_1, essence
from stepout.artifacts.paths import collisions, path_fault
from stepout.schemas.errors import InvalidDocumentError, NotAllowedError
from stepout.schemas.pointer import Pointer
from stepout.schemas.problems import Problem, item, member
from stepout.schemas.text.json_text import load_json

LISTING_VERSION: Final = "directory/1"

FILES_LIMIT: Final = 500_000
"""Files and empty folders in one directory artifact."""

_LIMIT_1: Final = 10_000  # of directory/1, which is read whole


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a directory: its relative path, with slashes, its pointer, and whether it may be executed."""

    path: str
    pointer: Pointer
    executable: bool = False


def is_directory(pointer: Pointer) -> bool:
    """Tell whether a pointer names a directory's listing."""
    return essence(pointer.media_type) in (DIRECTORY, DIRECTORY_1)


def names_files(pointer: Pointer) -> bool:
    """Tell whether a pointer names a listing of files: a directory's, or the manifest of a dataset."""
    return essence(pointer.media_type) in (DIRECTORY, DIRECTORY_1, DATASET)


def size_of_files(pointer: Pointer) -> int | None:
    """Return how many bytes an artifact has; for a directory or dataset its files together, as whoever put it says.

    Returns:
        ``None`` where the pointer does not say: its ``size`` is that of the listing or the manifest.
    """
    return _said(pointer, "bytes") if names_files(pointer) else pointer.size


def count_of_files(pointer: Pointer) -> int | None:
    """Return how many files a directory or a dataset has, as whoever put it says; ``None``: nobody says."""
    return _said(pointer, "files") if names_files(pointer) else None


def _said(pointer: Pointer, name: str) -> int | None:
    said = (pointer.annotations or {}).get(name)
    return said if isinstance(said, int) and not isinstance(said, bool) and said >= 0 else None


def parse_listing(data: bytes, url: str) -> tuple[Entry, ...]:
    """Parse a listing of ``directory/1``.

    Args:
        data: JSON: ``{"stepout": "directory/1", "files": [{"path": "a/b.txt", "pointer": {…}}]}``.
        url: Where it was read, for messages.

    Raises:
        NotAllowedError: A path would leave the folder it is downloaded to.
        InvalidDocumentError: It is no listing, two files have one path, or a file is another's folder.
    """
    document = load_json(data)
    files = document.get("files") if isinstance(document, dict) else None
    if not isinstance(files, list) or document.get("stepout") != LISTING_VERSION:
        problem = Problem(
            "$", "version", f'must be an object with "stepout": "{LISTING_VERSION}" and the array "files"'
        )
        raise _invalid(url, [problem])
    if len(files) > _LIMIT_1:
        raise _invalid(url, [Problem("$.files", "size", f"has {len(files):,} files; writers kept to {_LIMIT_1:,}")])
    entries = tuple(_entry(file, item("$.files", index), url) for index, file in enumerate(files))
    problems = collisions([entry.path for entry in entries])
    if problems:
        raise _invalid(url, problems)
    return entries


def _entry(file: Any, location: str, url: str) -> Entry:
    path = file.get("path") if isinstance(file, dict) else None
    if not isinstance(path, str):
        raise _invalid(url, [Problem(member(location, "path"), "type", "must be text")])
    fault = path_fault(path, windows=False)
    if fault is not None:
        msg = f"refused the listing {url}: {member(location, 'path')} could leave the target folder: {fault}"
        raise NotAllowedError(msg)
    place = member(location, "pointer")
    try:
        entry = Entry(path, Pointer.from_dict(file.get("pointer")))
    except InvalidDocumentError as error:
        raise _invalid(url, [each.below(place) for each in error.problems]) from error
    if names_files(entry.pointer):
        raise _invalid(url, [Problem(place, "unexpected", "is a listing itself; no listing leads to another")])
    return entry


def _invalid(url: str, problems: list[Problem]) -> InvalidDocumentError:
    told = "; ".join(map(str, problems[:5]))
    return InvalidDocumentError(f"the directory listing {url} is invalid: {told}. Nothing was downloaded.", problems)
