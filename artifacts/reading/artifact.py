"""``Artifact``: everything that a consumer does with one pointer."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from stepout.artifacts.reading.access import Access, Verify, checked_limit, checked_verify
from stepout.artifacts.reading.pinned_object import ALGORITHMS, PinnedObject, check_cap, digest_of
from stepout.artifacts.reading.whole_read import read_whole
from stepout.schemas.errors import (
    ArtifactTooLargeError,
    ConfigurationError,
    InvalidDocumentError,
    UndecodableError,
    invalid_document,
)
from stepout.schemas.pointer import Pointer
from stepout.schemas.text.foreign_text import shown

if TYPE_CHECKING:
    import io
    import os
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    import pyarrow as pa
    import pyarrow.dataset as ds
    from PIL import Image

    from stepout.artifacts.dataset_manifest import DatasetManifest
    from stepout.artifacts.reading.files.filesystem import FileSystemKind
    from stepout.artifacts.transfer.progress import ProgressSetting

_TINY: Final = 64 << 10  # within any grant: looking that up takes longer than a small read should
LONGEST_PRESIGN: Final = 7 * 24 * 3600  # Signature Version 4 allows no more


class Artifact:
    """What one pointer names, read and verified on demand; nothing is requested before the first read.

    Whole reads compare size and checksum; see each method for what the others compare. All of them raise, and none
    returns a part: ``ArtifactNotFoundError``, ``ArtifactExpiredError``, ``AccessDeniedError``,
    ``ArtifactChangedError``, ``ArtifactTooLargeError``, ``SizeMismatchError``, ``ChecksumMismatchError``,
    ``StoreUnavailableError``. A connection that breaks is taken up again where it ended, several times.

    Args:
        pointer: What to read.
        access: How to read it; ``resolve_artifact`` and ``Output`` make artifacts, and know it.
        name: Its name in the output; ``None`` outside one.

    Attributes:
        access: As the argument; so are ``pointer`` and ``name``.

    Raises:
        NotAllowedError: The allow-list does not hold the object.
    """

    def __init__(self, pointer: Pointer, access: Access, name: str | None = None) -> None:
        self._pinned = PinnedObject(access, pointer, name)
        self.access = access
        self.pointer = pointer
        self.name = name

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.pointer, self.access, self.name)

    def __dask_tokenize__(self) -> tuple[str, str, str]:
        """Return what is the same for the same content, in every process."""
        return "stepout-artifact", digest_of(self.pointer), self.media_type

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {shown(self.pointer.url, None)} {self.pointer.size:,} bytes>"

    @property
    def url(self) -> str:
        """``s3://bucket/key``."""
        return self.pointer.url

    @property
    def size(self) -> int:
        """Size in bytes, as the pointer says."""
        return self.pointer.size

    @property
    def media_type(self) -> str:
        """For example ``application/vnd.apache.parquet``."""
        return self.pointer.media_type

    @property
    def is_directory(self) -> bool:
        """Whether the pointer names a directory's listing."""
        from stepout.artifacts.listing import is_directory

        return is_directory(self.pointer)

    @property
    def is_dataset(self) -> bool:
        """Whether the pointer names a dataset's manifest."""
        from stepout.artifacts.dataset_manifest import is_dataset

        return is_dataset(self.pointer)

    @property
    def verifiable(self) -> bool:
        """Whether there is a checksum that reads can be held against; every stepout pointer has one."""
        return any(algorithm in self.pointer.checksum for algorithm in ALGORITHMS)

    # Into memory --------------------------------------------------------------------------------------------------

    def read_bytes(self, *, max_size: int | None = None) -> bytes:
        """Read all bytes, verified.

        Args:
            max_size: The most to take, in bytes; ``None``: what ``resolve`` was told, or else a quarter of the memory
                that the process was granted, at most 1 GiB.

        Raises:
            ArtifactTooLargeError: It is larger; nothing was requested.
            ChecksumMismatchError: The bytes are not those that were written.
            StoreError: Missing, expired, denied, changed, or unreachable.
        """
        if self.pointer.size > _TINY or max_size is not None or self.access.max_size is not None:
            check_cap(self.pointer, self._limit(max_size))
        return read_whole(self._pinned, self.access.verify)

    def read_text(self, encoding: str = "utf-8", *, max_size: int | None = None) -> str:
        """Read all as text, verified, line ends as they are.

        Args:
            encoding: How the bytes are to be decoded, strictly.
            max_size: As for ``read_bytes``.

        Raises:
            InvalidDocumentError: The bytes are those that were written, but no text in that encoding.
            ConfigurationError: There is no such encoding.
            StoreError: As for ``read_bytes``.
        """
        from stepout.artifacts.reading.decoded import check_encoding, decoded_text

        check_encoding(encoding)
        return decoded_text(self.read_bytes(max_size=max_size), encoding, self.url, self._decoded_limit(max_size))

    def read_json(self, *, max_size: int | None = None) -> Any:
        """Read JSON, verified and strictly parsed: UTF-8, no member twice, no NaN, at most 100 levels deep.

        Integers beyond 2**53 - 1, which other readers round, are refused as well: ``json.loads(read_text())`` has them.

        Args:
            max_size: As for ``read_bytes``; what its values take is held against the limit of ``resolve``, or this one
                if it is higher.

        Raises:
            ArtifactTooLargeError: It is larger, or its values take more memory; they were not decoded.
            InvalidDocumentError: The bytes are those that were written, but no such JSON.
            StoreError: As for ``read_bytes``.
        """
        from stepout.artifacts.reading.decoded import decoded_json

        return decoded_json(self.read_bytes(max_size=max_size), self.url, self._decoded_limit(max_size))

    def read_image(self, *, max_size: int | None = None, max_pixels: int | None = None) -> Image.Image:
        """Read and decode an image, verified; a photograph stands upright, as its EXIF says.

        Args:
            max_size: The most to take, in bytes: of the file, and of memory for decoding, by what the file declares.
            max_pixels: The most pixels to decode; ``None``: Pillow's own limit, 179 million.

        Returns:
            A ``PIL.Image.Image``, loaded.

        Raises:
            ArtifactTooLargeError: It has more bytes or pixels, or takes more memory; nothing was decoded.
            UndecodableError: The bytes are those that were written, but no image.
            StoreError: As for ``read_bytes``.
        """
        from stepout.artifacts.formats.images import decode_image

        data = self.read_bytes(max_size=max_size)
        try:
            return decode_image(data, max_pixels=max_pixels, max_size=self._limit(max_size))
        except (ArtifactTooLargeError, UndecodableError) as error:
            raise type(error)(f"{self.url}: {error}") from error

    def read_table(
        self,
        columns: Sequence[str] | None = None,
        filters: Any = None,
        *,
        verify: Verify | None = None,
        max_size: int | None = None,
    ) -> pa.Table:
        """Read a Parquet table.

        Without ``columns`` and ``filters`` (and always up to 1 MiB, or where the file has no page checksums) the
        whole file is read and verified. Else the footer's digest is compared, and then the blocks and the page
        checksums of what is fetched; docs/explanation/what-is-checked.md says what is covered without blocks.

        Args:
            columns: Names of the columns to read; ``None`` for all.
            filters: As for ``pyarrow.parquet.read_table``: ``[("score", ">", 0.5)]`` or an expression.
            verify: ``None``: what ``resolve`` was told. ``"pinned"``: ranges are held to the version, not verified.
                ``"sha256"``: the whole file is read and verified.
            max_size: The most to take, in bytes: of what is fetched, and of Arrow memory. What would be more is not
                decoded: page headers are read before, and what they leave open is counted. The file itself and what
                is being decoded come on top: four times this at most.

        Raises:
            ArtifactTooLargeError: The file, or the table that it unfolds into, is larger.
            InvalidDocumentError: Its media type is another format's.
            UndecodableError: It is no Parquet file that pyarrow can read, though its bytes are those written.
            ConfigurationError: pyarrow is missing, or a column or filter does not fit the table.
            StoreError: As for ``read_bytes``.
        """
        from stepout.artifacts.reading.tables.parquet import ParquetRead, read_table

        verify = self.access.verify if verify is None else checked_verify(verify)
        wanted = ParquetRead(columns=columns, filters=filters, verify=verify, max_size=self._limit(max_size))
        return read_table(self._pinned, wanted)

    # Other ways ---------------------------------------------------------------------------------------------------

    def open(self, *, verify: Verify | None = None) -> io.BufferedReader:
        """Open a seekable binary file, for whatever reads files: zipfile, csv, PIL, pyarrow.

        Where the pointer has a list of blocks, every read is verified by block, after a seek as well. Bytes that are
        read in order from 0 are also hashed, and the read that reaches the end raises instead of returning if they are
        not those that were written. Without a list, parts that a seek leaves out are pinned to the version only.

        Args:
            verify: ``None``: what ``resolve`` was told. ``"pinned"``: nothing is verified. ``"sha256"``: where the
                blocks have CRCs, a read that leaves the order from 0 on raises ``ConfigurationError``.

        Returns:
            A file; close it, or use it in a ``with`` block. Its reads raise what ``read_bytes`` raises.
        """
        from stepout.artifacts.reading.ranges.reader import open_reader

        return open_reader(self._pinned, self.access.verify if verify is None else checked_verify(verify))

    def download(self, path: str | os.PathLike[str], *, progress: ProgressSetting = None) -> Path:
        """Download to a file, verified; for a directory or dataset artifact, to a folder.

        The bytes go to a temporary file beside the target, which takes its place when they have been verified.

        Args:
            path: A file, replaced if it exists; or a folder, in which the file gets the last segment of its key. For a
                directory or dataset, the folder: one that does not exist appears whole or not at all.
            progress: A callable ``(name, done, total)``, in bytes, for a directory or dataset of all of its files;
                ``"auto"`` or ``True`` for a bar on a terminal.

        Returns:
            The file or folder.

        Raises:
            NotAllowedError: A name in the document would leave the folder.
            ReadBudgetError: Its files have more bytes than the budget, or than the ``max_size`` that ``resolve`` was
                told; no file was requested.
            OSError: The file could not be written: no such folder, full disk, …
            StoreError: As for ``read_bytes``.
        """
        from stepout.artifacts.reading.files.download import download

        return download(self._pinned, path, self._count(progress))

    def verify(self, *, progress: ProgressSetting = None) -> Mapping[str, str]:
        """Read everything, keep nothing, and compare; for a directory or dataset artifact, every file as well.

        Args:
            progress: As for ``download``.

        Returns:
            The checksum that was compared, hex by algorithm.

        Raises:
            ConfigurationError: There is no checksum to compare with.
            ReadBudgetError: As for ``download``.
            ChecksumMismatchError: The bytes are not those that were written.
            StoreError: As for ``read_bytes``.
        """
        from stepout.artifacts.reading.files.listed_files import compare_all

        return compare_all(self._pinned, self._count(progress))

    def dataset(self, *, verify: Verify | None = None, max_size: int | None = None) -> ds.Dataset:
        """Return a lazy pyarrow dataset over a dataset, a Parquet file, or a directory of Parquet files.

        Of a dataset only the manifest is fetched here, of others the first footer too. A scan opens the files whose
        partition the filter leaves, and reads the columns it asks for, every byte verified; how much that takes is for
        the caller to bound. It can be pickled, if the artifact can. See also ``to_dask``, ``to_ray``, ``scan_polars``.

        Args:
            verify: As for ``read_table``.
            max_size: The most to take for a file that has to be read whole, in bytes.

        Raises:
            InvalidDocumentError: Its media type is another format's, it is a directory without Parquet files, or a
                manifest has no schema that Arrow reads. A scan raises it for a file of another schema.
            UndecodableError: The first file is no Parquet that pyarrow can read.
            StoreError: As for ``read_bytes``.
        """
        from stepout.artifacts.reading.tables.dataset import open_dataset

        return open_dataset(PinnedObject(self.access.told(verify, max_size), self.pointer), self.name).dataset

    def to_dask(self, *, columns: Sequence[str] | None = None, filters: Any = None, **options: Any) -> Any:
        """Return a Dask DataFrame over ``dataset()``: one partition a file, columns of pandas' Arrow types.

        Args:
            columns: Names of the columns to read; ``None`` for all. Dask itself narrows them to those that it uses.
            filters: As for ``read_table``. Dask pushes none down: say here which partitions and rows are wanted.
            options: For ``dask.dataframe.from_map``.

        Raises:
            ConfigurationError: Dask is not installed, or a column or filter does not fit; others as for ``dataset``.
        """
        from stepout.artifacts.reading.tables import dataset, engines

        return engines.dask_frame(dataset.in_pieces(self._pinned, self.name, filters), columns, **options)

    def to_ray(self, *, columns: Sequence[str] | None = None, filters: Any = None, **options: Any) -> Any:
        """Return a Ray dataset over ``dataset()``; Ray pushes columns and expressions down.

        Args:
            columns: As for ``to_dask``.
            filters: As for ``to_dask``.
            options: For ``ray.data.read_datasource``.

        Raises:
            ConfigurationError: Ray is not installed, or a column or filter does not fit; others as for ``dataset``.
        """
        from stepout.artifacts.reading.tables import dataset, engines

        return engines.ray_dataset(dataset.in_pieces(self._pinned, self.name, filters), columns, **options)

    def scan_polars(self) -> Any:
        """Return a polars LazyFrame over ``dataset()``; polars pushes columns and filters down.

        Raises:
            ConfigurationError: polars is not installed; others as for ``dataset``.
        """
        from stepout.artifacts.reading.tables.engines import polars_frame

        return polars_frame(self.dataset())

    def to_duckdb(self, connection: Any = None) -> Any:
        """Return a DuckDB relation over ``dataset()``; DuckDB pushes columns and filters down.

        Args:
            connection: Where it lives; ``None``: DuckDB's default connection.

        Raises:
            ConfigurationError: DuckDB is not installed; others as for ``dataset``.
        """
        from stepout.artifacts.reading.tables.engines import duckdb_relation

        return duckdb_relation(self.dataset(), connection)

    def files(self) -> dict[str, Artifact]:
        """Read and verify the listing of a directory artifact, or the manifest of a dataset: all files by their paths.

        Raises:
            InvalidDocumentError: This is neither, or its listing is invalid.
            NotAllowedError: A file lies outside the allow-list, or its path would leave the folder.
            ReadBudgetError: The files are more than the budget.
            StoreError: As for ``read_bytes``.
        """
        return dict(self.iter_files())

    def iter_files(self, prefix: str = "") -> Iterator[tuple[str, Artifact]]:
        """Yield the files of a directory or dataset artifact with their paths, in memory that does not grow with them.

        Each comes from a stretch of the listing that is verified. That the whole is what was written is known when the
        last of all has come: the order, the counts and the digest of the tree are compared then.

        Args:
            prefix: Only paths that begin with this text, such as ``"images/"``; no other stretch is fetched.

        Raises:
            StoreError: As for ``files``, at once or while they come; so do the others.
        """
        from stepout.artifacts.reading.files.listed_files import files_below

        found = files_below(self._pinned, prefix)
        return ((entry.path, Artifact(entry.pointer, self.access, entry.path)) for entry in found)

    def file(self, path: str) -> Artifact:
        """Return one file of a directory or dataset, by its path: of a long listing, an index and a stretch are read.

        Raises:
            ArtifactNotFoundError: There is no such file; the message has names that are like it.
            StoreError: As for ``files``; so do the others.
        """
        from stepout.artifacts.reading.files.listed_files import file_of

        return Artifact(file_of(self._pinned, path).pointer, self.access, path)

    def manifest(self) -> DatasetManifest:
        """Read and verify a dataset's manifest: its schema, and every file with its partition and its pointer.

        Raises:
            InvalidDocumentError: This is no dataset, or its manifest is invalid; others as for ``files``.
        """
        from stepout.artifacts.reading.files.listed_files import read_manifest

        return read_manifest(self._pinned)

    def filesystem(
        self, kind: FileSystemKind = "pyarrow", *, verify: Verify | None = None, max_size: int | None = None
    ) -> Any:
        """Return a read-only file system over the artifact, for engines: verified, and it can be pickled.

        The artifact is the file ``NAME``; a directory or a dataset is the folder ``NAME``, with its files in it.
        Outside an output, NAME is ``artifact``. The bucket is not listed: what documents do not name cannot be seen.

        It travels to other processes as pointers and settings, with the names of endpoint and profile, and never with
        credentials: each process builds its own client. What reads through ``client=`` stays in this process.

        Args:
            kind: ``"pyarrow"`` for a ``pyarrow.fs.PyFileSystem``, ``"fsspec"`` for an ``fsspec.AbstractFileSystem``.
            verify: ``None``: what ``resolve`` was told. ``"pinned"``: reads are held to the version, not verified.
            max_size: The most to take for a file that can only be verified as a whole, in bytes.

        Raises:
            ConfigurationError: There is no such kind, its library is not installed, or another argument is invalid.
        """
        from stepout.artifacts.reading.files.filesystem import file_system

        access = self.access.told(verify, max_size)
        return file_system({self.name or "": self.pointer}, access, kind)

    def fsspec(self, **options: Any) -> tuple[Any, str]:
        """Return an s3fs file system and the bare path, for tools that want those: pinned, but not verified.

        Unlike that of ``filesystem("fsspec")``, its pickle has the credentials that were passed.

        Args:
            options: For ``s3fs.S3FileSystem``; credentials are those that s3fs finds, not the client's.

        Raises:
            ArtifactChangedError: Another object is there.
            ArtifactNotFoundError: None is there.
            ConfigurationError: s3fs is not installed.
            SizeMismatchError: The object has another size than the pointer says.
        """
        from stepout.artifacts.reading.files.filesystem import fsspec_path

        return fsspec_path(self.pointer, self.access.stores, **options)

    def presign(self, seconds: int = 300) -> str:
        """Return a URL that gives anyone this version of the object for a while; never put it into a document.

        Args:
            seconds: How long, 1 second to 7 days. Temporary credentials end it earlier.

        Raises:
            ConfigurationError: ``seconds`` is out of range.
        """
        if isinstance(seconds, bool) or not isinstance(seconds, int) or not 1 <= seconds <= LONGEST_PRESIGN:
            msg = f"seconds={seconds!r}: expected 1 to {LONGEST_PRESIGN:,}"
            raise ConfigurationError(msg)
        store = self.access.stores.of(self.pointer.bucket)
        return store.presign(self.pointer.key, version_id=self.pointer.version_id, seconds=seconds)

    # Inside -------------------------------------------------------------------------------------------------------

    def _count(self, progress: ProgressSetting) -> Callable[[int], Callable[[int], None]] | None:
        """Return what makes the counter of a read of so many bytes; ``None`` where nobody wants to know."""
        if progress is None:
            return None
        from stepout.artifacts.transfer.progress import counted

        return partial(counted, progress, self.name or self.pointer.key.rpartition("/")[2])

    def _limit(self, max_size: int | None) -> int:
        return self.access.limit if max_size is None else checked_limit("max_size", max_size)

    def _decoded_limit(self, max_size: int | None) -> Callable[[], int]:
        """Return what looks up how much memory decoded values may take, only once there is something to hold it to."""
        return lambda: max(self._limit(max_size), self.access.limit)


def make_artifact(value: object, access: Access, location: str = "$", *, name: str | None = None) -> Artifact:
    """Parse a pointer to its artifact.

    Args:
        value: Parsed JSON.
        access: How it is read.
        location: Where it was found, for messages.
        name: As for ``Artifact``.

    Raises:
        InvalidDocumentError: It is invalid; ``problems`` says where it lies in the whole value.
        NotAllowedError: The allow-list does not hold the object.
    """
    try:
        pointer = Pointer.from_dict(value)
    except InvalidDocumentError as error:
        raise invalid_document("the pointer", [each.below(location) for each in error.problems]) from None
    return Artifact(pointer, access, name)
