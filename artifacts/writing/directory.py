"""Writes a directory as an artifact: each file is an object of its own, and a listing names them.

The listing is the artifact: ``{"stepout": "directory/1", "files": [{"path": "a/b.txt", "pointer": {…}}]}``, media type
``application/vnd.stepout.directory+json``, paths relative, sorted, with ``/``. It is written last, so a directory that
could not be sent whole has no listing; the files that were sent before stay in the bucket. Folders without files are
not kept, and neither are modes and times.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepout.artifacts.keys import file_key
from stepout.artifacts.listing import FILES_LIMIT, LISTING_VERSION
from stepout.artifacts.media_types import DIRECTORY_1 as DIRECTORY
from stepout.artifacts.media_types import media_type_of
from stepout.artifacts.paths import path_fault
from stepout.artifacts.transfer.progress import PartsOfOne, for_artifact
from stepout.schemas import dump_json
from stepout.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepout.artifacts.transfer.progress import ProgressReport
    from stepout.artifacts.writing.planned_put import PlannedPut, PutOptions, PutPlanner
    from stepout.artifacts.writing.writes import Writes
    from stepout.schemas import Pointer


@dataclass(frozen=True)
class FoundFile:
    """One file below a directory: its relative path with ``/``, and where it is."""

    path: str
    source: Path


def find_files(root: Path) -> tuple[FoundFile, ...]:
    """List the files below a directory, sorted by path.

    Args:
        root: The directory. Symbolic links in it are followed only to files inside it.

    Raises:
        ConfigurationError: The path is no directory, has too many files, or holds an entry that cannot be part: a
            link out of the directory, a link to a folder, a pipe, a name that no listing can hold.
    """
    if not root.is_dir():
        raise ConfigurationError(f"{root} is no directory; nothing was sent")
    real = root.resolve()
    found: list[FoundFile] = []
    for folder, folders, names in os.walk(root, onerror=_raise):
        linked = [name for name in folders if Path(folder, name).is_symlink()]
        for name in [*names, *linked]:
            source = Path(folder, name)
            found.append(FoundFile(_relative(source, root, real), source))
        if len(found) > FILES_LIMIT:
            msg = (
                f"{root} has more than {FILES_LIMIT:,} files; pack them into an archive and put that. Nothing was sent"
            )
            raise ConfigurationError(msg)
    return tuple(sorted(found, key=lambda file: file.path))


def put_directory(planner: PutPlanner, writes: Writes, name: str, root: Path, options: PutOptions) -> Pointer:
    """Write every file below ``root``, then the listing.

    Raises:
        ArtifactChangedError: A file changed while it was read. No listing was written.
        ConfigurationError: See ``find_files``.
    """
    planned = planner.plan(name, DIRECTORY, ".json", options, ("files", "bytes"))
    if planned.draft.media_type != DIRECTORY:
        raise ConfigurationError(f"media_type of the directory {name!r} is {DIRECTORY}, which is how readers know it")
    report = for_artifact(writes.progress, name)
    # The listing's own bytes are not the caller's, so progress does not count them.
    with writes.upload(planned, None if report is None else _unreported) as upload:
        found = find_files(root)
        parts = None if report is None else _parts(report, found)
        files = [_put_file(planner, writes, planned, file, parts) for file in found]
        listing = dump_json({"stepout": LISTING_VERSION, "files": [entry for entry, _ in files]})
        own = {"files": len(files), "bytes": sum(size for _, size in files)}
        return writes.record(planned, upload, upload.send_buffer(listing), own)


def _parts(report: ProgressReport, found: Sequence[FoundFile]) -> PartsOfOne:
    """Return one progress count for the whole directory; files' sizes are read only if progress is shown."""
    return PartsOfOne(report, sum(file.source.stat().st_size for file in found))


def _unreported(_done: int, _total: int | None) -> None:
    return None


def _put_file(
    planner: PutPlanner, writes: Writes, parent: PlannedPut, file: FoundFile, parts: PartsOfOne | None
) -> tuple[dict[str, Any], int]:
    key = file_key(planner.folder, parent.label, file.path)
    planned = planner.plan_file(parent, f"{parent.label}/{file.path}", key, media_type_of(file.source))
    with writes.upload(planned, None if parts is None else parts.following()) as upload:
        pointer = writes.record(planned, upload, upload.send_file(file.source))
    return {"path": file.path, "pointer": pointer.to_dict()}, pointer.size


def _relative(source: Path, root: Path, real: Path) -> str:
    path = source.relative_to(root).as_posix()
    shown = path.encode("utf-8", "backslashreplace").decode()
    fault = path_fault(path)
    if fault is None and source.is_symlink() and not source.resolve().is_relative_to(real):
        fault = "it is a symbolic link out of the directory"
    if fault is None and not source.is_file():
        fault = "it is no regular file (links to folders are not followed)"
    if fault is not None:
        raise ConfigurationError(f"{shown!r} in {root} cannot be part of an artifact: {fault}. Nothing was sent")
    return path


def _raise(error: OSError) -> None:
    raise error
