"""Committed files for engines: as a file system of pyarrow's, and of fsspec's; and one pointer by s3fs, unverified.

s3fs reads a version where it is told one, and otherwise holds every range to the ETag that it saw when it opened the
object. That is a pin, not a proof: nothing hashes what it reads.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn

from stepout.artifacts.reading.files.arrow_exit import check_running, wait_at_exit
from stepout.artifacts.reading.files.committed_files import CommittedFiles, checked_path
from stepout.artifacts.store import Located, Regional
from stepout.schemas.errors import ArtifactChangedError, ArtifactNotFoundError, ConfigurationError, SizeMismatchError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from s3fs import S3FileSystem

    from stepout.artifacts.reading.access import Access
    from stepout.artifacts.reading.bucket_stores import BucketStores
    from stepout.artifacts.reading.files.file_tree import FileTreeEntry
    from stepout.schemas.pointer import Pointer

FileSystemKind = Literal["pyarrow", "fsspec"]

_READ_ONLY: Final = "the file system of committed artifacts is read-only: an ArtifactManager writes them"


def file_system(pointers: Mapping[str, Pointer], access: Access, kind: FileSystemKind = "pyarrow") -> Any:
    """Return a file system over artifacts.

    Args:
        pointers: The artifacts by name.
        access: How they are read.
        kind: ``"pyarrow"`` for a ``pyarrow.fs.PyFileSystem``, ``"fsspec"`` for an ``fsspec.AbstractFileSystem``.

    Raises:
        ConfigurationError: There is no such kind, or its library is not installed.
    """
    files = CommittedFiles(pointers, access)
    try:
        if kind == "pyarrow":
            import pyarrow.fs as pafs

            return pafs.PyFileSystem(arrow_handler(files))
        if kind == "fsspec":
            from stepout.artifacts.reading.files.fsspec_files import CommittedFileSystem

            return CommittedFileSystem(files)
    except ImportError as error:
        how = 'install stepout with its extra "parquet"' if kind == "pyarrow" else "pip install fsspec"
        raise ConfigurationError(f"filesystem({kind!r}) needs {kind}, which is not installed: {how}") from error
    raise ConfigurationError(f'filesystem({kind!r}): expected "pyarrow" or "fsspec"')


def arrow_handler(files: CommittedFiles) -> ArtifactFiles:
    """Return what ``pyarrow.fs.PyFileSystem`` is made over; pyarrow takes it from then on for one of its handlers."""
    import pyarrow.fs as pafs

    pafs.FileSystemHandler.register(ArtifactFiles)
    return ArtifactFiles(files)


class ArtifactFiles:
    """What ``pyarrow.fs.FileSystemHandler`` asks for, over committed files; pickles to documents and settings.

    Args:
        files: The files.
    """

    pages = False
    """Whether whoever reads compares the checksums of Parquet's pages."""

    def __init__(self, files: CommittedFiles) -> None:
        wait_at_exit()
        self.files = files

    def __reduce__(self) -> tuple[Any, ...]:
        return arrow_handler, (self.files,)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ArtifactFiles) and self.files == other.files

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self.files)

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        """Return what is the same for the same names and contents, in every process."""
        return "pyarrow", *self.files.__dask_tokenize__()

    def get_type_name(self) -> str:
        """Return the name of the kind of file system."""
        return "stepout"

    def normalize_path(self, path: str) -> str:
        """Return the path without a slash at its end."""
        return checked_path(path)

    def get_file_info(self, paths: Sequence[str]) -> list[Any]:
        """Return what each path is; one that does not exist is ``NotFound``."""
        return [_info(path, self.files.tree.entry(checked_path(path))) for path in paths]

    def get_file_info_selector(self, selector: Any) -> list[Any]:
        """Return what lies in a folder, at any depth if the selector is recursive.

        Raises:
            FileNotFoundError: There is no such folder, and the selector does not allow that.
            NotADirectoryError: It is a file.
        """
        path = checked_path(selector.base_dir)
        found = self.files.tree.entry(path)
        if found is None and selector.allow_not_found:
            return []
        if self.files.entry(path).pointer is not None:
            raise NotADirectoryError(f"{path} is a file")
        tree = self.files.tree
        return [_info(each.path, each) for each in (tree.below(path) if selector.recursive else tree.children(path))]

    def open_input_file(self, path: str) -> Any:
        """Open a file, seekable; see ``CommittedFiles.open``."""
        import pyarrow as pa

        check_running()
        return pa.PythonFile(self.files.open(checked_path(path), pages=self.pages), mode="r")

    open_input_stream = open_input_file

    def _refused(self, *_: object, **__: object) -> NoReturn:
        raise PermissionError(_READ_ONLY)

    create_dir = delete_dir = delete_dir_contents = delete_root_dir = delete_file = move = copy_file = _refused
    open_output_stream = open_append_stream = _refused


def _info(path: str, entry: FileTreeEntry | None) -> Any:
    import pyarrow.fs as pafs

    if entry is None:
        return pafs.FileInfo(path, pafs.FileType.NotFound)
    if entry.pointer is None:
        return pafs.FileInfo(path, pafs.FileType.Directory)
    created = entry.pointer.created_at
    written = None if created is None else datetime.fromisoformat(created)
    return pafs.FileInfo(path, pafs.FileType.File, mtime=written, size=entry.size)


# One pointer by s3fs ----------------------------------------------------------------------------------------------


def fsspec_path(pointer: Pointer, stores: BucketStores, **options: Any) -> tuple[Any, str]:
    """Return a file system and a path in it, after one look at the object.

    Args:
        pointer: What to read; the caller has checked it against the allow-list.
        stores: They know the bucket's server and region, and who pays.
        options: For ``s3fs.S3FileSystem``, such as ``key``, ``secret`` or ``profile``.

    Returns:
        The file system, and ``bucket/key``, with ``?versionId=…`` where the pointer has a version.

    Raises:
        ArtifactChangedError: Another object is there.
        ArtifactNotFoundError: None is there.
        ConfigurationError: s3fs is not installed.
        SizeMismatchError: The object has another size than the pointer says.
    """
    store = stores.of(pointer.bucket)
    place: dict[str, Any] = {
        "endpoint_url": store.endpoint_url if isinstance(store, Located) else None,
        "region": store.region if isinstance(store, Regional) else None,
    }
    if stores.request_payer is not None:
        place["requester_pays"] = True
    system = _file_system(pointer, {**place, **options})
    path = f"{pointer.bucket}/{pointer.key}"
    if pointer.version_id is not None:
        path = f"{path}?versionId={pointer.version_id}"
    try:
        found = system.info(path)
    except FileNotFoundError as error:
        raise ArtifactNotFoundError(f"{pointer.url}: the object does not exist") from error
    if pointer.etag is not None and found.get("ETag") not in {None, pointer.etag}:
        raise ArtifactChangedError(f"{pointer.url}: the object has changed since it was written; write it anew")
    if found["size"] != pointer.size:
        raise SizeMismatchError(f"{pointer.url}: {pointer.size:,} bytes expected, {found['size']:,} found")
    return system, path


def _file_system(pointer: Pointer, options: Any) -> S3FileSystem:
    try:
        from s3fs import S3FileSystem
    except ImportError as error:
        message = 'fsspec paths need s3fs, which is not installed: install stepout with its extra "s3fs"'
        raise ConfigurationError(message) from error
    given = dict(options)
    given["client_kwargs"] = {"region_name": given.pop("region"), **given.get("client_kwargs", {})}
    # s3fs keeps file systems and listings for the process; a pinned read must look for itself.
    return S3FileSystem(
        version_aware=pointer.version_id is not None, use_listings_cache=False, skip_instance_cache=True, **given
    )
