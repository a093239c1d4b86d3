"""Lazy datasets over artifacts: fragments by path on the artifacts' file system, so that engines read what they need.

A dataset artifact's manifest has the schema, and the partition values of every file: nothing else is fetched before a
scan. A scan opens a file only if the filter can hold for its partition, and reads of it the footer and the columns that
are asked for, every byte verified. A lone Parquet file, and a directory of such files, have no manifest: the schema is
the first file's, and folders named ``column=value`` give their column back, typed as their texts look.

Datasets can be pickled: the file system goes with them, as documents and settings, and never as a client.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import and_
from typing import TYPE_CHECKING, Any

from stepout.artifacts.blocks import FOOTER_KEY
from stepout.artifacts.dataset_manifest import is_dataset
from stepout.artifacts.formats.parquet_footer import check_footer, read_end
from stepout.artifacts.listing import names_files
from stepout.artifacts.reading.files.committed_files import ALONE, CommittedFiles
from stepout.artifacts.reading.files.filesystem import ArtifactFiles
from stepout.artifacts.reading.files.listed_files import read_entries, read_manifest
from stepout.artifacts.reading.tables.parquet import is_parquet, require_parquet, require_pyarrow
from stepout.schemas.errors import ConfigurationError, InvalidDocumentError, StepoutError, UndecodableError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa

    from stepout.artifacts.dataset_manifest import DatasetManifest
    from stepout.artifacts.reading.pinned_object import PinnedObject
    from stepout.schemas.pointer import Pointer


@dataclass(frozen=True)
class LazyDataset:
    """A dataset, and what it is made of.

    Attributes:
        dataset: A ``pyarrow.dataset.FileSystemDataset``.
        pointers: Of its files, by their paths in its file system.
        rows: Of each file whose rows are known.
    """

    dataset: Any
    pointers: Mapping[str, Pointer]
    rows: Mapping[str, int]


def open_dataset(pinned: PinnedObject, name: str | None) -> LazyDataset:
    """Open a dataset, a Parquet file, or a directory of Parquet files.

    Args:
        pinned: The manifest, the file or the listing.
        name: Of the artifact; ``None`` outside an output.

    Raises:
        ConfigurationError: pyarrow is missing.
        InvalidDocumentError: Its media type is another format's, it is a directory without Parquet files, or Arrow
            cannot read its manifest's schema.
        UndecodableError: Without a manifest: the first file is no Parquet that pyarrow can read.
        StoreError: The manifest or the listing, or without a manifest the first file, could not be read.
    """
    require_pyarrow()
    pointer, root = pinned.pointer, (name or ALONE).rpartition("/")[2]
    if is_dataset(pointer):
        manifest = read_manifest(pinned)
        files = CommittedFiles({root: pointer}, pinned.access, manifest.files)
        pointers = {f"{root}/{file.path}": file.pointer for file in manifest.files}
        rows = {f"{root}/{file.path}": file.rows for file in manifest.files}
        return LazyDataset(_of_manifest(files, root, manifest, pointer.url), pointers, rows)
    if not names_files(pointer):
        require_parquet(pointer)
        return LazyDataset(_of_files(CommittedFiles({root: pointer}, pinned.access), [root], root), {root: pointer}, {})
    entries = read_entries(pinned)
    pointers = {f"{root}/{entry.path}": entry.pointer for entry in entries if is_parquet(entry.pointer)}
    if not pointers:
        raise InvalidDocumentError(f"{pointer.url} is a directory without Parquet files")
    files = CommittedFiles({root: pointer}, pinned.access, entries)
    return LazyDataset(_of_files(files, list(pointers), root), pointers, {})


def _of_manifest(committed: CommittedFiles, root: str, manifest: DatasetManifest, url: str) -> Any:
    """Make fragments of what the manifest says; no file is asked for."""
    import pyarrow as pa
    import pyarrow.dataset as ds

    schema = schema_of(manifest, url)
    held = pa.schema([field for field in schema if field.name not in manifest.columns])
    files, layout = verified_file_system(committed, held), parquet_format()
    fragments = [
        layout.make_fragment(f"{root}/{file.path}", files, partition_condition(schema, file.partition, url))
        for file in manifest.files
    ]
    return ds.FileSystemDataset(fragments, schema, layout, files)


def _of_files(committed: CommittedFiles, paths: Sequence[str], root: str) -> Any:
    """Take the schema of the first file, and the partition columns of the paths."""
    import pyarrow.dataset as ds

    options = ds.FileSystemFactoryOptions(
        partition_base_dir=root, partitioning=ds.HivePartitioning.discover(), exclude_invalid_files=False
    )
    try:
        factory = ds.FileSystemDatasetFactory(
            verified_file_system(committed, None), list(paths), parquet_format(), options
        )
        return factory.finish(without_blocks(factory.inspect(fragments=1)))
    except (StepoutError, MemoryError):
        raise
    except Exception as error:
        told = str(error).partition("\n")[0][:200] or type(error).__name__
        msg = f"{paths[0]} is no Parquet file that can be read, though its bytes are those written: {told}"
        raise UndecodableError(msg) from error


# What the manifest says --------------------------------------------------------------------------------------------


def schema_of(manifest: DatasetManifest, url: str) -> pa.Schema:
    """Return the schema of a dataset, partition columns last.

    Raises:
        InvalidDocumentError: Arrow cannot read it, or it lacks a partition column.
    """
    import pyarrow as pa

    try:
        schema = without_blocks(pa.ipc.read_schema(pa.py_buffer(manifest.schema)))
    except (pa.ArrowException, OSError, ValueError) as error:
        msg = f"the manifest {url} has a schema that Arrow cannot read: {type(error).__name__}. Nothing was read"
        raise InvalidDocumentError(msg) from error
    names = schema.names
    if len(set(names)) != len(names) or tuple(names[len(names) - len(manifest.columns) :]) != manifest.columns:
        msg = f"the manifest {url}: its schema must have each column once, and end in the partition columns"
        raise InvalidDocumentError(f"{msg} {list(manifest.columns)}. Nothing was read")
    return schema


def without_blocks(schema: pa.Schema) -> pa.Schema:
    """Return a schema without the list of blocks that a footer may hold."""
    metadata = schema.metadata or {}
    return schema.with_metadata({key: value for key, value in metadata.items() if key != FOOTER_KEY} or None)


def partition_condition(schema: pa.Schema, partition: Any, url: str) -> Any:
    """Return the expression that holds for every row of a file."""
    import pyarrow as pa
    import pyarrow.dataset as ds

    conditions = []
    for name, text in partition.items():
        column, kind = ds.field(name), schema.field(name).type
        try:
            conditions.append(column.is_null() if text is None else column == pa.scalar(text, pa.string()).cast(kind))
        except (pa.ArrowException, ValueError) as error:
            msg = f"the manifest {url}: a partition value of {name!r} is no {kind}. Nothing was read"
            raise InvalidDocumentError(msg) from error
    return reduce(and_, conditions) if conditions else ds.scalar(True)


# In pieces ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Piece:
    """One file of a dataset, for a worker.

    Attributes:
        dataset: It alone, partition columns included.
        rows: How many it has; ``None``: nobody said.
        size: Bytes of the file.
    """

    dataset: Any
    rows: int | None
    size: int


@dataclass(frozen=True)
class Pieces:
    """A dataset in pieces, each pickled by itself.

    Attributes:
        schema: Of them all.
        pieces: Those whose partition may have a row that is wanted.
        condition: What a row must meet, an Arrow expression; ``None``: nothing.
    """

    schema: pa.Schema
    pieces: Sequence[Piece]
    condition: Any


def in_pieces(pinned: PinnedObject, name: str | None, filters: Any) -> Pieces:
    """Cut a dataset into its files: what is pickled with a piece is its own pointer, and no other.

    Args:
        pinned: As for ``open_dataset``.
        name: As for ``open_dataset``.
        filters: As for ``pyarrow.parquet.read_table``.

    Raises:
        ConfigurationError: The filters do not fit; or as for ``open_dataset``.
        StoreError: As for ``open_dataset``.
    """
    import pyarrow.dataset as ds
    import pyarrow.parquet as pq

    whole = open_dataset(pinned, name)
    dataset, layout, pieces = whole.dataset, whole.dataset.format, []
    try:
        condition = None if filters is None else pq.filters_to_expression(filters)
        ds.dataset(dataset.schema.empty_table()).to_table(filter=condition)
        fragments = list(dataset.get_fragments(filter=condition))
    except Exception as error:
        msg = f"{pinned.pointer.url}: the filters do not fit the dataset ({type(error).__name__}); nothing was read"
        raise ConfigurationError(msg) from error
    for fragment in fragments:
        pointer, last = whole.pointers[fragment.path], fragment.path.rpartition("/")[2]
        files = verified_file_system(CommittedFiles({last: pointer}, pinned.access), dataset.filesystem.handler.held)
        own = layout.make_fragment(last, files, fragment.partition_expression)
        alone = ds.FileSystemDataset([own], dataset.schema, layout, files)
        pieces.append(Piece(alone, whole.rows.get(fragment.path), pointer.size))
    return Pieces(dataset.schema, pieces, condition)


# Files -------------------------------------------------------------------------------------------------------------


def parquet_format() -> Any:
    """Return the format of every file: its pages are compared with their checksums."""
    import pyarrow.dataset as ds

    options = ds.ParquetFragmentScanOptions(page_checksum_verification=True, pre_buffer=True)
    return ds.ParquetFileFormat(default_fragment_scan_options=options)


def verified_file_system(committed: CommittedFiles, held: pa.Schema | None) -> Any:
    """Return the file system of a dataset's files; ``held`` as for ``DatasetFiles``."""
    import pyarrow.fs as pafs

    return pafs.PyFileSystem(dataset_files(committed, held))


def dataset_files(committed: CommittedFiles, held: pa.Schema | None) -> DatasetFiles:
    """Return what ``pyarrow.fs.PyFileSystem`` is made over; pyarrow takes it from then on for one of its handlers."""
    import pyarrow.fs as pafs

    pafs.FileSystemHandler.register(DatasetFiles)
    return DatasetFiles(committed, held)


class DatasetFiles(ArtifactFiles):
    """The files of a dataset, each looked at when it is opened.

    Args:
        files: The files.
        held: The schema of each of them; ``None``: whatever it is. Arrow fills columns that a file lacks with nulls, so
            that a file of another schema would be read as one whose values are missing.
    """

    pages = True  # ``parquet_format`` has them compared

    def __init__(self, files: CommittedFiles, held: pa.Schema | None) -> None:
        super().__init__(files)
        self.held = held
        self._fitting: set[str] = set()

    def __reduce__(self) -> tuple[Any, ...]:
        return dataset_files, (self.files, self.held)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DatasetFiles) and super().__eq__(other) and self.held == other.held

    def __hash__(self) -> int:
        return super().__hash__()

    def open_input_file(self, path: str) -> Any:
        """Open a file, seekable.

        Raises:
            InvalidDocumentError: It has other columns than the manifest says.
            UndecodableError: It is no Parquet, or its footer is one that Arrow does not survive.
        """
        file = super().open_input_file(path)
        if path not in self._fitting:
            self._check(path, file)
            self._fitting.add(path)
        return file

    open_input_stream = open_input_file

    def _check(self, path: str, file: Any) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        def read_at(start: int, size: int) -> memoryview:
            file.seek(start)
            return memoryview(file.read(size))

        end = read_end(read_at, file.size())
        try:
            parquet = pq.ParquetFile(pa.BufferReader(end), pre_buffer=False)
            check_footer(end, parquet.metadata)
            found = parquet.schema_arrow
        except (pa.ArrowException, ValueError, OSError) as error:  # the last is Arrow's, too: it reads memory
            raise UndecodableError(f"{path} is no Parquet file that can be read: {error}") from error
        held = self.held
        if held is None or found.equals(held):
            return
        expected = {field.name: str(field) for field in held}
        actual = {field.name: str(field) for field in found}
        odd = [name for name in {**expected, **actual} if expected.get(name) != actual.get(name)]
        told = f"{', '.join(map(repr, odd[:5]))} differ" if odd else "their order differs"
        msg = f"{path} has other columns than the manifest, or the first file, of its dataset says: {told}"
        raise InvalidDocumentError(f"{msg}. Nothing of it was returned; write it anew")
