"""Writes a table as a dataset: partitions are Parquet files, each an object of its own, and a manifest names them.

``stepout.artifacts.dataset_manifest`` says what the manifest holds. It is written last, so a dataset that could not be
sent whole has none and cannot be read; files that were committed before stay in the bucket, and nothing names them.

Rows are gathered by partition. Once all that wait take ``row_group_bytes``, the partition that has most of them gets a
row group. Each file that is open holds up to a part and a block of encoded bytes, since S3 takes no smaller part, so as
many are open as the memory of one transfer carries; the one that was written to least recently is ended for another,
and its partition's next rows begin its next file. So a dataset takes as much memory as a table, however many partitions
it has, and rows that come sorted by partition, or partitions that fit in memory, give one file each.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Protocol, runtime_checkable

from stepout.artifacts.dataset_manifest import (
    DATASET_FILES_LIMIT,
    DatasetFile,
    DatasetManifest,
    partition_segment,
    value_fault,
)
from stepout.artifacts.formats import column_statistics, partitions, tables
from stepout.artifacts.formats.row_groups import ROW_GROUP_BYTES
from stepout.artifacts.keys import dataset_key
from stepout.artifacts.media_types import DATASET, PARQUET
from stepout.artifacts.process.budget import process_budget
from stepout.artifacts.transfer.buffer_pool import BufferPool
from stepout.artifacts.transfer.plan import BLOCK_SIZE, MIN_PART_SIZE, most_senders, pool_size
from stepout.artifacts.transfer.progress import PartsAtOnce, for_artifact
from stepout.schemas.errors import ConfigurationError
from stepout.schemas.runtime.events import carried
from stepout.schemas.text.json_text import SIZE_LIMIT

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from concurrent.futures import Future

    from stepout.artifacts.formats.partitions import Partitioning, Values, WaitingRows
    from stepout.artifacts.formats.tables import TableEncoder
    from stepout.artifacts.transfer.upload import Upload
    from stepout.artifacts.writing.planned_put import PlannedPut, PutOptions, PutPlanner
    from stepout.artifacts.writing.writes import Writes
    from stepout.schemas import Pointer

_OWN: Final = ("rows", "files", "bytes", "partitioning")
_GATHERED: Final = 8 << 20
"""Arrow memory that is split by partition at once: small batches would cost more calls than rows."""

_WAITING: Final = MIN_PART_SIZE + BLOCK_SIZE
"""Encoded bytes that an open file may hold while it waits."""

_MOST_OPEN: Final = 16
_FILE_BYTES: Final = 32 << 30
"""A file ends here: 10,000 parts of the smallest size carry no more than 48 GiB."""

_LEAST_OPEN: Final = 4
"""Files that may be open where other transfers of the process have taken its memory: each is small, if they are few."""

_COMMITTERS: Final = 2
"""Threads that commit files while the next rows are encoded."""


@runtime_checkable
class HasManifest(Protocol):
    """A dataset that is there already, such as a resolved ``Artifact``."""

    def manifest(self) -> DatasetManifest:
        """Return what it consists of."""
        ...


@dataclass(frozen=True)
class DatasetSettings:
    """How a dataset is cut into files.

    Attributes:
        partition_by: The partition columns, outermost first.
        max_rows_per_file: A file with more rows is split; ``None``: it is not.
        max_open_files: Files that are open at once; ``None``: as many as the memory of a transfer carries, at most 16.
        compression: Of every page.
        row_group_bytes: Arrow memory of the rows that wait, of all partitions together.
    """

    partition_by: Sequence[str] = ()
    max_rows_per_file: int | None = None
    max_open_files: int | None = None
    compression: str = "snappy"
    row_group_bytes: int = ROW_GROUP_BYTES

    def __post_init__(self) -> None:
        optional = {"max_rows_per_file": self.max_rows_per_file, "max_open_files": self.max_open_files}
        given = {name: value for name, value in optional.items() if value is not None}
        for name, value in {**given, "row_group_bytes": self.row_group_bytes}.items():
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ConfigurationError(f"{name} is {value!r}: expected a whole number, 1 or more. Nothing was sent")

    def memory_needed(self, memory: int) -> int:
        """Return how much of a transfer's memory the dataset cannot do without.

        Raises:
            ConfigurationError: More files are to be open than it carries.
        """
        carried = _open_files(memory)
        wanted = self.max_open_files or min(carried, _LEAST_OPEN)
        need = (wanted + 1) * _WAITING + (memory - pool_size(memory))
        if wanted > carried:
            msg = f"max_open_files is {self.max_open_files}: the memory of one transfer carries {carried}"
            raise ConfigurationError(f"{msg}; settings=TransferSettings(memory={need:_}) would do. Nothing was sent")
        return need


def _open_files(memory: int) -> int:
    """Return how many files so much memory carries."""
    return (pool_size(memory) - _WAITING) // _WAITING  # one part more than waits must be on its way, or all would wait


def put_dataset(  # noqa: PLR0913, PLR0917 - what a put needs
    planner: PutPlanner,
    writes: Writes,
    name: str,
    data: object,
    settings: DatasetSettings,
    append_to: HasManifest | None,
    options: PutOptions,
) -> Pointer:
    """Write every file, then the manifest.

    Raises:
        ConfigurationError: See ``ArtifactManager.put_dataset``.
    """
    planned = _planned(planner, name, options)
    transfer = writes.settings
    least = settings.memory_needed(transfer.memory)
    report = for_artifact(writes.progress, name)
    with (
        writes.upload(planned, _unreported) as upload,
        closing(tables.table_source(data)) as source,
        process_budget().grant(transfer.memory, most_senders(transfer), least=least) as grant,
    ):
        most_open = settings.max_open_files or min(_open_files(grant.memory), _MOST_OPEN)
        pool = BufferPool(pool_size(grant.memory))
        each = replace(transfer, part_size=MIN_PART_SIZE)
        if grant.connections < most_senders(transfer):
            each = replace(each, connections=grant.connections)
        shared = replace(writes, pool=pool, progress=None, settings=each)
        compression = tables.checked_compression(settings.compression)
        partitioning = partitions.partitioning_of(source.schema, settings.partition_by)
        own = DatasetManifest(
            schema=partitions.schema_message(partitioning.schema), columns=partitioning.columns, rows=0, files=()
        )
        before = [] if append_to is None else manifests_of([append_to])
        merged([*before, own])  # refuses what cannot be appended before anything is sent
        settings = replace(settings, compression=compression, max_open_files=most_open)
        files = _Files(planner, shared, planned, partitioning, settings, PartsAtOnce(report))
        try:
            for table in tables.row_groups(source, min(settings.row_group_bytes, _GATHERED)):
                files.add(table)
            written = files.end()
        except BaseException:
            files.drop()
            raise
        own = replace(own, rows=sum(file.rows for file in written), files=tuple(written))
        return _put_manifest(writes, planned, upload, merged([*before, own]))


def merge_datasets(
    planner: PutPlanner, writes: Writes, name: str, parts: Iterable[HasManifest], options: PutOptions
) -> Pointer:
    """Write one manifest over the files of several datasets.

    Raises:
        ConfigurationError: See ``ArtifactManager.merge_datasets``.
    """
    planned = _planned(planner, name, options)
    with writes.upload(planned, _unreported) as upload:
        return _put_manifest(writes, planned, upload, merged(manifests_of(parts)))


def manifests_of(parts: Iterable[HasManifest]) -> list[DatasetManifest]:
    """Read the manifest of each part.

    Raises:
        ConfigurationError: One is no artifact.
    """
    found = []
    for number, part in enumerate(parts):
        if not isinstance(part, HasManifest):
            msg = (
                f"part {number} is a {type(part).__name__}: expected an Artifact, as resolve_artifact(pointer) returns"
            )
            raise ConfigurationError(f"{msg} it. Nothing was sent")
        found.append(part.manifest())
    return found


def merged(manifests: Sequence[DatasetManifest]) -> DatasetManifest:
    """Return one manifest over all files, in order.

    Where two have one path, the later file's gets a number: ``part-00000.parquet`` becomes ``part-00000-1.parquet``, or
    the next number that is free. Keys stay as they are.

    Raises:
        ConfigurationError: Schemas or partition columns differ, one object is in two of them, they have too many files,
            or there is none.
    """
    if not manifests:
        raise ConfigurationError("there are no datasets to merge. Nothing was sent")
    first, owners = manifests[0], dict[tuple[str, str, str | None], int]()
    files: dict[str, DatasetFile] = {}
    numbers: Counter[str] = Counter()  # tried before, so that thousands of parts do not try all of them again
    for number, manifest in enumerate(manifests):
        _check_alike(first, manifest, number)
        for file in manifest.files:
            path, (stem, _, extension) = file.path, file.path.rpartition(".")
            while path in files:
                numbers[file.path] += 1
                path = f"{stem}-{numbers[file.path]}.{extension}"
            files[path] = replace(file, path=path)
            named = (file.pointer.bucket, file.pointer.key, file.pointer.version_id)
            if owners.setdefault(named, number) != number:
                msg = f"datasets {owners[named]} and {number} both have the file {file.pointer.url}, whose rows would"
                raise ConfigurationError(f"{msg} count twice: leave one of them out. Nothing was sent")
    _check_count(len(files))
    return replace(first, rows=sum(file.rows for file in files.values()), files=tuple(files.values()))


def _check_alike(first: DatasetManifest, other: DatasetManifest, number: int) -> None:
    fault = None
    if other.columns != first.columns:
        by = [", ".join(columns) or "nothing" for columns in (other.columns, first.columns)]
        fault = f"it is partitioned by {by[0]} instead of {by[1]}"
    elif other.schema != first.schema:
        fault = partitions.schema_difference(first.schema, other.schema)
    if fault is not None:
        msg = f"dataset {number} does not go with dataset 0: {fault}. Datasets are merged or appended to only if their"
        raise ConfigurationError(f"{msg} columns and their partition columns are equal. Nothing was sent")


def _check_count(files: int) -> None:
    if files > DATASET_FILES_LIMIT:
        msg = f"the dataset would have {files:,} files; a manifest names {DATASET_FILES_LIMIT:,} at most"
        raise ConfigurationError(
            f"{msg}. Partition by something coarser, or raise max_rows_per_file. Nothing can be read of what was sent"
        )


def _planned(planner: PutPlanner, name: str, options: PutOptions) -> PlannedPut:
    planned = planner.plan(name, DATASET, ".json", options, _OWN)
    if planned.draft.media_type != DATASET:
        raise ConfigurationError(f"media_type of the dataset {name!r} is {DATASET}, which is how readers know it")
    return planned


def _put_manifest(writes: Writes, planned: PlannedPut, upload: Upload, manifest: DatasetManifest) -> Pointer:
    document = manifest.to_bytes()
    if len(document) > SIZE_LIMIT:  # what readers may skip by is less than being read at all
        document = replace(manifest, files=tuple(replace(file, statistics=None) for file in manifest.files)).to_bytes()
    own = {
        "rows": manifest.rows,
        "files": len(manifest.files),
        "bytes": sum(file.pointer.size for file in manifest.files),
        "partitioning": {"flavor": "hive", "columns": list(manifest.columns)},
    }
    return writes.record(planned, upload, upload.send_buffer(document), own)


def _unreported(_done: int, _total: int | None) -> None:
    return None


@dataclass(eq=False)
class _Partition:
    """What is known of one partition while it is written."""

    values: Values
    folder: str
    waiting: WaitingRows
    begun: int = 0
    file: _OpenFile | None = None


@dataclass(frozen=True, eq=False)
class _OpenFile:
    """A file that takes rows."""

    path: str
    planned: PlannedPut
    upload: Upload
    encoder: TableEncoder


class _Files:
    """The files of one dataset: takes tables, and writes row groups of each partition."""

    def __init__(  # noqa: PLR0913, PLR0917 - what one put of a dataset shares
        self,
        planner: PutPlanner,
        writes: Writes,
        parent: PlannedPut,
        partitioning: Partitioning,
        settings: DatasetSettings,
        progress: PartsAtOnce,
    ) -> None:
        from concurrent.futures import ThreadPoolExecutor

        self._planner, self._writes, self._parent, self._progress = planner, writes, parent, progress
        self._partitioning, self._settings = partitioning, settings
        self._partitions: dict[Values, _Partition] = {}
        self._open: OrderedDict[Values, _OpenFile] = OrderedDict()  # the least recently used is first
        self._committers = ThreadPoolExecutor(_COMMITTERS, "stepout-dataset")
        self._committing: list[tuple[_OpenFile, Future[DatasetFile]]] = []
        self._waiting = 0

    def add(self, table: Any) -> None:
        """Take rows; write row groups while too many wait."""
        for values, batch in self._partitioning.split(table):
            partition = self._partitions.get(values) or self._new_partition(values)
            self._waiting += partition.waiting.add(batch)
        while self._waiting >= self._settings.row_group_bytes:
            # Rows of a file that is open count double: they need not end another.
            self._flush(max(self._partitions.values(), key=lambda each: each.waiting.weight * (2 if each.file else 1)))

    def end(self) -> list[DatasetFile]:
        """Write the rest, commit every file, and return them in the order of their paths."""
        for partition in sorted(self._partitions.values(), key=lambda each: each.file is None):
            self._flush(partition)
            self._close(partition)
        files = [future.result() for _, future in self._committing]
        self._committers.shutdown()
        return sorted(files, key=lambda file: file.path)

    def drop(self) -> None:
        """Abort every upload that is not committed, all at once: each waits a little for its requests in flight."""
        from concurrent.futures import ThreadPoolExecutor

        files = [*self._open.values(), *(file for file, _ in self._committing)]
        for file in self._open.values():
            file.encoder.drop()
        with ThreadPoolExecutor(_MOST_OPEN, "stepout-abort") as threads:
            list(threads.map(lambda file: file.upload.abort(), files))
        self._committers.shutdown(cancel_futures=True)
        for file in files:
            self._writes.registry.fail(None, file.upload)

    def _new_partition(self, values: Values) -> _Partition:
        columns = self._partitioning.columns
        for column, value in zip(columns, values, strict=True):
            fault = value_fault(column, value)
            if fault is not None:
                msg = f"a value of the partition column {column!r} cannot be the name of a folder: {fault}"
                raise ConfigurationError(f"{msg}. Nothing can be read of what was sent")
        folder = "".join(f"{partition_segment(*each)}/" for each in zip(columns, values, strict=True))
        waiting = partitions.WaitingRows(self._partitioning.file_schema)
        partition = self._partitions[values] = _Partition(values, folder, waiting)
        dataset_key(self._planner.folder, self._parent.label, f"{folder}part-00000.parquet")
        _check_count(len(self._partitions))
        return partition

    def _flush(self, partition: _Partition) -> None:
        """Write what waits of a partition as a row group, or as several where a file may have no more rows."""
        self._waiting -= partition.waiting.weight
        rows = partition.waiting.take()
        most = self._settings.max_rows_per_file or rows.num_rows
        while rows.num_rows:
            file = self._file_of(partition)
            group = rows.slice(0, most - file.encoder.rows if self._settings.max_rows_per_file else most)
            file.encoder.write(group)
            rows = rows.slice(group.num_rows)
            full = self._settings.max_rows_per_file is not None and file.encoder.rows >= most
            if full or file.upload.size >= _FILE_BYTES:
                self._close(partition)

    def _file_of(self, partition: _Partition) -> _OpenFile:
        if partition.file is not None:
            self._open.move_to_end(partition.values)
            return partition.file
        if len(self._open) >= (self._settings.max_open_files or _MOST_OPEN):
            self._close(self._partitions[next(iter(self._open))])
        path = f"{partition.folder}part-{partition.begun:05}.parquet"
        label = self._parent.label
        key = dataset_key(self._planner.folder, label, path)
        planned = self._planner.plan_file(self._parent, f"{label}/{path}", key, PARQUET)
        upload = self._writes.start(planned.without_blocks(), self._progress.another())
        compression, schema = self._settings.compression, self._partitioning.file_schema
        file = _OpenFile(path, planned, upload, tables.TableEncoder(schema, upload, compression, planned.blocks))
        partition.begun += 1
        partition.file = self._open[partition.values] = file
        _check_count(len(self._committing) + len(self._open))
        return file

    def _close(self, partition: _Partition) -> None:
        """End a partition's file, and have it committed beside what follows."""
        file = partition.file
        if file is None:
            return
        encoded = file.encoder.end()
        del self._open[partition.values]
        partition.file = None
        named = dict(zip(self._partitioning.columns, partition.values, strict=True))
        statistics = column_statistics.statistics_of(encoded.metadata, self._partitioning.file_schema)

        def commit() -> DatasetFile:
            try:
                pointer = self._writes.record_table(file.planned, file.upload, encoded)
            except BaseException as error:
                if self._writes.pool is not None:  # the thread that encodes may wait for this file's buffers
                    self._writes.pool.fail(error)
                raise
            rows = encoded.annotation["rows"]
            return DatasetFile(
                path=file.path, pointer=pointer, rows=rows, partition=named, statistics=statistics or None
            )

        for _, earlier in self._committing[-_MOST_OPEN:]:
            if earlier.done():
                earlier.result()  # raises what it failed with, before more is sent
        self._committing.append((file, self._committers.submit(carried(commit))))
