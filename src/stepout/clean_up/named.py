"""Which objects records name: their pointers, and what those lead to."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from stepout.artifacts.directory_listing import EmptyFolder
from stepout.artifacts.listing import names_files
from stepout.artifacts.media_types import DIRECTORY, essence
from stepout.artifacts.reading.access import DOCUMENT_LIMIT, Access
from stepout.artifacts.reading.files.directory import open_listing
from stepout.artifacts.reading.files.listed_files import read_entries
from stepout.artifacts.reading.pinned_object import PinnedObject, check_cap
from stepout.artifacts.reading.whole_read import read_whole
from stepout.artifacts.s3.inventory import NO_VERSION, Inventory, StoredVersion
from stepout.artifacts.transfer.worker_pool import CONNECTIONS, work_through
from stepout.clean_up.decisions import is_record, task_of
from stepout.schemas import Pointer, TaskOutput
from stepout.schemas.errors import ArtifactExpiredError, ArtifactNotFoundError, StepoutError, StoreError
from stepout.schemas.output import is_pointer
from stepout.schemas.text.json_text import load_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_ONE: Final = 1 << 20  # what a record that is being read may take, in bytes


class Names:
    """Which objects are named, as hashes: a million take 110 MB or less, and two that are the same only keep an object.

    A bucket has several names (access points), and in a copy of it records name the original, whose versions it does
    not have: a pointer into a bucket of another name stands for all versions.

    Args:
        bucket: The one that is looked at.
    """

    def __init__(self, bucket: str) -> None:
        self._bucket = bucket
        self._keys: set[int] = set()
        self._versions: set[int] = set()

    def add(self, pointer: Pointer) -> None:
        """Take what a pointer names: its object, in all versions if it names none here; and its list of blocks."""
        if pointer.version_id is None or pointer.bucket != self._bucket:
            self._keys.add(hash(pointer.key))
        else:
            self._versions.add(hash((pointer.key, pointer.version_id)))
        blocks = (pointer.blocks or {}).get("key")
        if blocks is not None:
            self._keys.add(hash(blocks))

    def __contains__(self, version: StoredVersion) -> bool:
        return hash(version.key) in self._keys or hash((version.key, version.version_id)) in self._versions


class Records:
    """Reads records, each once, with everything that they lead to.

    Args:
        inventory: The bucket.
        access: How documents are read.

    Attributes:
        names: What they name.
    """

    def __init__(self, inventory: Inventory, access: Access) -> None:
        self.names = Names(inventory.bucket)
        self._inventory = inventory
        self._access = replace(access, now=lambda: inventory.now)
        self._read: set[int] = set()
        self._unreadable: dict[str, str] = {}

    @property
    def unreadable(self) -> Mapping[str, str]:
        """What could not be read, by the record's key: why, and what it was."""
        return self._unreadable

    def read(self, prefix: str) -> None:
        """Read every record whose key begins with ``prefix``, in all versions, that was not read before.

        Raises:
            StoreError: They could not be listed.
        """
        for done in work_through(self._unread(prefix), self._take, threads=CONNECTIONS, weigh=lambda _: _ONE):
            if done.error is not None:
                if not isinstance(done.error, StepoutError):
                    raise done.error
                if not self._is_of_an_artifact(done.item):
                    self._unreadable[done.item.key] = str(done.error)

    def fault_below(self, prefix: str) -> str | None:
        """Return why not all is known that records below a prefix name; ``None`` if it is."""
        return next((why for key, why in self._unreadable.items() if key.startswith(prefix)), None)

    def _unread(self, prefix: str) -> Iterator[StoredVersion]:
        for page in self._inventory.versions(prefix):
            for version in page:
                identity = hash((version.key, version.version_id, version.etag))
                if is_record(version.key) and identity not in self._read:
                    self._read |= {identity, hash(version.key)}
                    yield version
        for page in self._inventory.newest(prefix):
            for version in page:
                if is_record(version.key) and hash(version.key) not in self._read:
                    self._read.add(hash(version.key))
                    yield version

    def _is_of_an_artifact(self, version: StoredVersion) -> bool:
        """Tell whether a task says that it wrote this as a file of a directory: a record itself says nothing."""
        with suppress(StoreError):
            looked = self._inventory.look(version)
            return looked is not None and task_of(version.key, looked[1]) is not None
        return False

    def _take(self, version: StoredVersion) -> None:
        named = version.version_id != NO_VERSION or not version.latest
        pointer = Pointer(
            bucket=self._inventory.bucket,
            key=version.key,
            size=version.size,
            checksum={},
            version_id=version.version_id if named else None,
        )
        try:
            output = TaskOutput.from_dict(self._document(pointer))
        except ArtifactNotFoundError:  # it went while we looked, so it names nothing any more
            return
        self._follow(output, manifest_allowed=True)

    def _follow(self, output: TaskOutput, *, manifest_allowed: bool) -> None:
        for pointer in _pointers(output.to_dict()):
            self._name(pointer)
        if isinstance(output.result, Pointer):
            for pointer in _pointers(self._unless_expired(output.result)):
                self._name(pointer)
        if output.manifest is not None and manifest_allowed:
            document = self._unless_expired(output.manifest)
            if document is not None:
                self._follow(TaskOutput.from_dict(document, manifest_allowed=False), manifest_allowed=False)

    def _name(self, pointer: Pointer) -> None:
        self.names.add(pointer)
        identity = hash((pointer.bucket, pointer.key, pointer.version_id, pointer.etag))
        if names_files(pointer) and identity not in self._read:
            try:
                for file in _files(PinnedObject(self._access, pointer)):
                    self.names.add(file)
            except ArtifactExpiredError:  # its files went with it, as its pointer says
                return
            self._read.add(identity)

    def _unless_expired(self, pointer: Pointer) -> Any:
        try:
            return self._document(pointer)
        except ArtifactExpiredError:
            return None

    def _document(self, pointer: Pointer) -> Any:
        check_cap(pointer, DOCUMENT_LIMIT, instead="a document of this size is not read")
        return load_json(read_whole(PinnedObject(self._access, pointer), bool(pointer.checksum)))


def _pointers(document: Any) -> Iterator[Pointer]:
    """Yield every pointer in a JSON value, wherever it stands: a result may hold some, too."""
    waiting = [document]
    while waiting:
        value = waiting.pop()
        if is_pointer(value):
            yield Pointer.from_dict(value)
        elif isinstance(value, dict):
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)


def _files(listing: PinnedObject) -> Iterator[Pointer]:
    """Yield the files of a directory or a dataset."""
    if essence(listing.pointer.media_type) != DIRECTORY:
        for file in read_entries(listing):
            yield file.pointer
        return
    for entry in open_listing(listing).entries():
        if not isinstance(entry, EmptyFolder):
            yield entry.pointer
