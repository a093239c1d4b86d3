"""Writes a directory as an artifact: each file is an object of its own, and a listing names them.

The listing is the artifact (``directory_listing`` says what it holds). Files are sent several at once, and their lines
go into the listing's open upload in the order of the paths, so a directory takes the same memory whatever is in it. The
listing is committed last: a directory that could not be sent whole has none; the files that were sent before stay in
the bucket, where a second try can find them (``resume``). Times and other modes than the executable bit are not kept.
"""

from __future__ import annotations

import threading
from contextlib import closing
from dataclasses import replace
from pathlib import PurePath
from typing import TYPE_CHECKING, Final

from stepout.artifacts.directory_listing import EmptyFolder, ListingLines
from stepout.artifacts.keys import file_key, files_folder
from stepout.artifacts.listing import Entry
from stepout.artifacts.media_types import DIRECTORY, media_type_of
from stepout.artifacts.run import rfc3339
from stepout.artifacts.transfer.conditional_write import Uploaded
from stepout.artifacts.transfer.progress import PartsAtOnce, for_artifact
from stepout.artifacts.transfer.sources import FileSource
from stepout.artifacts.transfer.worker_pool import CONNECTIONS, work_in_order
from stepout.artifacts.writing.directory_files import FoundFile, size_of_tree, walk
from stepout.artifacts.writing.resume import EarlierFiles
from stepout.schemas.errors import ConfigurationError, StoreError

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    from stepout.artifacts.transfer.upload import Upload
    from stepout.artifacts.writing.planned_put import PlannedPut, PutOptions, PutPlanner
    from stepout.artifacts.writing.writes import Writes
    from stepout.schemas import Pointer

_LARGE: Final = 8 << 20
"""Larger files are sent one at a time: each fills connections and memory of its own."""

_WINDOW: Final = 8192
"""Files whose lines may wait for that of an earlier one, at about 1.5 KB each."""

_LINES: Final = 64 << 10
"""Bytes of lines that go into the listing's upload at once."""


def put_directory(  # noqa: PLR0913, PLR0917 - what a put needs
    planner: PutPlanner, writes: Writes, name: str, root: Path, earlier: Sequence[str], options: PutOptions
) -> Pointer:
    """Write every file below ``root``, then the listing; ``ArtifactManager.put_directory`` says what it raises.

    Args:
        planner: The manager's.
        writes: The manager's.
        name: The artifact's name.
        root: The directory.
        earlier: The folders of earlier tries to look at.
        options: Of the put.
    """
    planned = planner.plan(name, DIRECTORY, ".jsonl", options, ("files", "bytes", "directory"))
    if planned.draft.media_type != DIRECTORY:
        raise ConfigurationError(f"media_type of the directory {name!r} is {DIRECTORY}, which is how readers know it")
    report = for_artifact(writes.progress, name)
    # The listing's own bytes are not the caller's, so progress does not count them.
    with writes.upload(planned.without_blocks(), _unreported) as upload:
        total = size_of_tree(root, files_folder(planner.folder, name))
        there = EarlierFiles(planner, writes.store, planned, earlier) if earlier else None
        files = _FilesUnderWay(planner, writes, planned, PartsAtOnce(report, total), there)
        lines = ListingLines(files.common(), files.folder)
        waiting = bytearray(lines.begin())
        with closing(files.sent(root)) as sent:
            for entry in sent:
                waiting += lines.add(entry)
                if len(waiting) >= _LINES:
                    upload.write(waiting)
                    waiting.clear()
        until = files.expires_at()
        upload.write(waiting + lines.end(until))
        planned = planned if until is None else planned.until(until)
        return writes.record(planned, upload, upload.commit(), lines.annotations())


def _unreported(_done: int, _total: int | None) -> None:
    return None


class _FilesUnderWay:
    """The files of one directory on their way."""

    def __init__(
        self,
        planner: PutPlanner,
        writes: Writes,
        parent: PlannedPut,
        progress: PartsAtOnce,
        earlier: EarlierFiles | None,
    ) -> None:
        self._planner, self._writes, self._parent = planner, replace(writes, progress=None), parent
        self._progress, self._earlier = progress, earlier
        self._created_at = rfc3339(writes.clock())
        self.folder = files_folder(planner.folder, parent.label)
        self._large = threading.Semaphore(1)
        self._open: dict[int, Upload] = {}
        self._ended = False
        self._expiries: set[str] = set()

    def common(self) -> dict[str, object]:
        """Return the members that the pointers of all files have."""
        return self._parent.pointer(Uploaded(size=0, checksum={}), self._created_at).to_dict()

    def expires_at(self) -> str | None:
        """Return when the first of the files goes that an earlier try has left; ``None``: nobody said, or none."""
        return min(self._expiries, default=None)

    def sent(self, root: Path) -> Generator[Entry | EmptyFolder, None, None]:
        """Send every file, and yield the entries in the order of their paths.

        Whatever ends it before all are sent, ends the uploads that are under way.
        """
        found = walk(root, "Nothing can be read of what was sent")
        try:
            yield from work_in_order(found, self._send, threads=CONNECTIONS, weigh=_weight, window=_WINDOW)
        except BaseException:
            self._ended = True
            for upload in list(self._open.values()):
                upload.abort()
            raise

    def _send(self, found: FoundFile | EmptyFolder) -> Entry | EmptyFolder:
        if isinstance(found, EmptyFolder):
            return found
        media_type = media_type_of(PurePath(found.path))
        if found.size <= _LARGE:
            return Entry(found.path, self._pointer(found, media_type), found.executable)
        with self._large:
            return Entry(found.path, self._pointer(found, media_type), found.executable)

    def _pointer(self, found: FoundFile, media_type: str) -> Pointer:
        self._check()
        there = None if self._earlier is None else self._earlier.same(found, media_type)
        # What may go at any moment is sent again.
        if there is None or (there[0].draft.expires_at or self._created_at) < self._created_at:
            key, label = file_key(self.folder, found.path), f"{self._parent.label}/{found.path}"
            return self._put(self._planner.plan_file(self._parent, label, key, media_type), found)
        if (report := self._progress.another()) is not None:
            report(found.size, found.size)
        planned, uploaded = there
        if planned.draft.expires_at is not None:
            self._expiries.add(planned.draft.expires_at)
        return planned.pointer(uploaded, self._created_at)

    def _put(self, planned: PlannedPut, found: FoundFile) -> Pointer:
        with self._writes.upload(planned, self._progress.another()) as upload:
            self._open[id(upload)] = upload
            try:
                self._check()
                uploaded = upload.send_file(found.source) if found.size > _LARGE else _send_whole(upload, found)
            finally:
                self._open.pop(id(upload))
            pointer = planned.pointer(uploaded, self._created_at)
            self._writes.commit(None, pointer, upload, uploaded.size)
        return pointer

    def _check(self) -> None:
        """Raise if there is no point in going on."""
        if self._ended:
            raise StoreError(f"the directory {self._parent.label!r} has failed; no more of its files are sent")


def _weight(found: FoundFile | EmptyFolder) -> int:
    return found.size if isinstance(found, FoundFile) and found.size <= _LARGE else 0


def _send_whole(upload: Upload, found: FoundFile) -> Uploaded:
    """Send a file in one piece, read before: the shortest way for a small one."""
    with FileSource(found.source) as source:
        if source.size is not None and source.size > _LARGE:  # it has grown since it was found
            return upload.send_file(found.source)
        data = source.read()
        source.check(len(data))
    return upload.send_buffer(data)
