"""What earlier tries of a directory have left in the bucket, so that another one does not send it again.

Their folders are listed, and a file whose key is there with its size is looked at: the checksum that the server
keeps is compared with the file's own. What is the same is named where it lies, in the version that was looked at; what
differs, or has no checksum in common, is sent; and so is what clean-up may remove before a record names it: a file of
a task of another execution that keeps a record.

The keys of the listing are kept as digests of key and size, in the memory of a few bytes each. The order of a listing
is of no use: that of SeaweedFS and of S3's directory buckets is not that of the keys.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from stepout.artifacts.blocks import BlockDigests
from stepout.artifacts.checksums import Digest, has_native_crc64nvme
from stepout.artifacts.commit_record import RecordedTask, is_safe_to_name
from stepout.artifacts.keys import file_key, files_folder
from stepout.artifacts.listing import FILES_LIMIT
from stepout.artifacts.retries import Retries
from stepout.artifacts.s3.request_bodies import SMALL
from stepout.artifacts.store import Lists
from stepout.artifacts.transfer.block_lists import list_of, put_list
from stepout.artifacts.transfer.conditional_write import Content, Match, Uploaded, compare
from stepout.artifacts.transfer.sources import FileSource
from stepout.schemas.errors import AccessDeniedError, ArtifactNotFoundError, ConfigurationError
from stepout.schemas.text.locations import split_s3_url

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stepout.artifacts.blocks import WantedBlocks
    from stepout.artifacts.checksums import Crc
    from stepout.artifacts.keys import Layout
    from stepout.artifacts.store import ObjectInfo, Store
    from stepout.artifacts.writing.directory_files import FoundFile
    from stepout.artifacts.writing.planned_put import PlannedPut, PutPlanner

ResumeFrom: TypeAlias = str | Sequence[str] | None
"""The folder of an earlier try as a URL, or those of several."""

_READ = 1 << 20


@dataclass(frozen=True)
class ResumePlace:
    """Where a manager may look for what an earlier try has left.

    Attributes:
        bucket: The manager's.
        prefix: The manager's; with ``layout="fixed"`` every try of an attempt writes to ``folder``.
        folder: The manager's run's.
        layout: The manager's.
    """

    bucket: str
    prefix: str
    folder: str
    layout: Layout

    def earlier(self, resume_from: ResumeFrom) -> Sequence[str]:
        """Return the folders of earlier tries, without a slash at their ends.

        Raises:
            ConfigurationError: ``resume_from`` is no folder in the bucket and below the prefix. Nothing was sent.
        """
        urls = [resume_from] if isinstance(resume_from, str) or not isinstance(resume_from, Sequence) else resume_from
        own = [self.folder] if self.layout == "fixed" else []
        return list(dict.fromkeys(own + [self._folder_of(url) for url in urls if url is not None]))

    def _folder_of(self, url: object) -> str:
        within = f"{self.prefix}/" if self.prefix else ""
        try:
            bucket, key = split_s3_url(url) if isinstance(url, str) else ("", "")
        except ValueError:
            bucket, key = "", ""
        folder = key.removesuffix("/")
        if bucket != self.bucket or not folder or not folder.startswith(within):
            msg = f"resume_from has {url!r}: expected the url of an earlier try's manager, a folder below"
            raise ConfigurationError(
                f"{msg} s3://{self.bucket}/{within}. Clean-up looks for records below the prefix only: it would remove "
                "what lies elsewhere. Nothing was sent"
            )
        return folder


class EarlierFiles:
    """The files of one directory that earlier tries have left.

    Args:
        planner: The manager's.
        store: The manager's.
        parent: The directory.
        folders: Of the earlier tries; see ``ResumePlace.earlier``.

    Raises:
        AccessDeniedError: A folder is another one than this run's, and may not be listed.
        ConfigurationError: The same, and the store cannot list.
    """

    def __init__(self, planner: PutPlanner, store: Store, parent: PlannedPut, folders: Sequence[str]) -> None:
        self._planner, self._store, self._parent = planner, store, parent
        self._folders = [files_folder(folder, parent.label) for folder in folders]
        self._found: set[int] = set()
        for folder, files in zip(folders, self._folders, strict=True):
            self._look(files, asked=folder != planner.folder)

    def _look(self, files: str, *, asked: bool) -> None:
        """Take note of what is there; ``asked``: the caller wants just this to be looked at."""
        if not isinstance(self._store, Lists):
            if asked:
                raise ConfigurationError(f"resume_from: a {type(self._store).__name__} cannot list. Nothing was sent")
            return
        try:
            for each in itertools.islice(self._store.iter_objects(f"{files}/"), FILES_LIMIT):
                self._found.add(hash((each.key, each.size)))
        except AccessDeniedError:
            if asked:
                raise

    def same(self, found: FoundFile, media_type: str) -> tuple[PlannedPut, Uploaded] | None:
        """Return what is there of a file, if it has the file's content, and the plan of its pointer.

        Raises:
            ArtifactChangedError: The file changed while it was read.
            OSError: It cannot be read.
        """
        keys = (file_key(folder, found.path) for folder in self._folders)
        there = (self._same(found, key, media_type) for key in keys if hash((key, found.size)) in self._found)
        return next(filter(None, there), None)

    def _same(self, found: FoundFile, key: str, media_type: str) -> tuple[PlannedPut, Uploaded] | None:
        with suppress(ArtifactNotFoundError, AccessDeniedError):
            info = self._store.head(key)
            theirs = RecordedTask.from_metadata(info.metadata, key)
            safe = is_safe_to_name(theirs, self._planner.recorded)
            if safe and info.archived is None and info.size == found.size:
                planned = self._planner.plan_file(self._parent, f"{self._parent.label}/{found.path}", key, media_type)
                content = self._compared(found, planned, info)
                if content is not None:
                    return planned.for_earlier(info.last_modified), content
        return None

    def _compared(self, found: FoundFile, planned: PlannedPut, info: ObjectInfo) -> Uploaded | None:
        native = found.size > SMALL and has_native_crc64nvme()
        crc: Crc | None = "crc64nvme" if native else None
        if "sha256" not in info.checksum:
            crc = next((each for each in _CRCS if each in info.checksum), crc)
        checksum, size, digests = _digested(found, crc, planned.blocks)
        member, stored = (None, None) if planned.blocks is None else list_of(planned.blocks, digests, size)
        if compare(Content(size=size, checksum=checksum), info) is not Match.SAME:
            return None
        if stored is not None:
            put_list(self._store, stored, planned.options, Retries(time.sleep, conflicts=True))(True)
        known = {name: value for name, value in checksum.items() if name in {"sha256", "crc64nvme"}}
        return Uploaded(size=size, checksum=known, etag=info.etag, version_id=info.version_id, blocks=member)


_CRCS: tuple[Crc, ...] = ("crc64nvme", "crc32")


def _digested(found: FoundFile, crc: Crc | None, wanted: WantedBlocks | None) -> tuple[Mapping[str, str], int, bytes]:
    """Return a file's checksums, its size and the digests of its blocks."""
    whole, blocks = Digest(crc), None if wanted is None else BlockDigests(wanted.algorithm)
    room = memoryview(bytearray(min(_READ, found.size + 1)))
    with FileSource(found.source) as source:
        while count := source.readinto(room):
            whole.update(room[:count])
            if blocks is not None:
                blocks.update(room[:count])
        source.check(whole.size)
    return whole.checksums(), whole.size, b"" if blocks is None else blocks.digests()
