"""The tables of many children as one lazy dataset: every file verified when it is read, nothing copied.

What a child has may be a Parquet file, a dataset, or a directory of Parquet files. Manifests say their schemas, which
are compared before anything is returned; a file says it in its footer, and is compared when it is opened.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from stepout.artifacts.dataset_manifest import DatasetManifest, is_dataset
from stepout.artifacts.formats import partitions
from stepout.artifacts.listing import names_files
from stepout.artifacts.reading.files.committed_files import CommittedFiles
from stepout.artifacts.reading.output import Output
from stepout.artifacts.reading.tables.dataset import (
    parquet_format,
    partition_condition,
    schema_of,
    verified_file_system,
    without_blocks,
)
from stepout.artifacts.reading.tables.parquet import is_parquet, require_parquet, require_pyarrow
from stepout.artifacts.transfer.worker_pool import CONNECTIONS, work_through
from stepout.schemas.errors import InvalidDocumentError, StepoutError, UndecodableError
from stepout.schemas.text.foreign_text import logger

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from stepout.artifacts.reading.access import Access
    from stepout.artifacts.reading.artifact import Artifact
    from stepout.artifacts.reading.fan_in.children import Child
    from stepout.schemas.pointer import Pointer

_log = logger("stepout.artifacts.resolve")

_WEIGHT: Final = 1 << 20  # bytes: a manifest of some thousand files


@dataclass(frozen=True)
class _Table:
    """What one child has: its files with their partitions, and the manifest if there is one."""

    index: int
    url: str
    files: list[tuple[Pointer, Mapping[str, str | None]]]
    manifest: DatasetManifest | None = None


def table_of(children: Iterable[Child], name: str, access: Access, *, skip: bool) -> Any:
    """Return one ``pyarrow.dataset.FileSystemDataset`` over an artifact of every child; see ``gather_table``.

    Args:
        children: In the order in which their rows are to be.
        name: Of the artifact.
        access: How files are read.
        skip: Leave out children with an error instead of raising it; the fault of a whole result file is raised.
    """
    require_pyarrow()
    tables, left_out = [], 0
    with closing(
        work_through(
            children,
            lambda child: _table(child, name),
            threads=access.at_once(CONNECTIONS),
            weigh=lambda _child: _WEIGHT,
        )
    ) as found:
        for done in found:
            if done.result is not None:
                tables.append(done.result)
            elif skip and done.item.index >= 0 and isinstance(done.error, StepoutError):  # a file's is all its rows'
                left_out += 1
                _log.info("gather_table: left out: %s", done.error)
            else:
                raise done.error or AssertionError
    if left_out:
        _log.warning("gather_table: %d of %d children are left out", left_out, left_out + len(tables))
    tables.sort(key=lambda table: table.index)
    if not any(table.files for table in tables):
        raise InvalidDocumentError(f"no child has a file of the table {name!r}. Nothing was read")
    return _dataset(tables, access)


def _table(child: Child, name: str) -> _Table:
    if child.error is not None:
        raise child.error
    artifact = _artifact(child, name)
    pointer = artifact.pointer
    if is_dataset(pointer):
        manifest = artifact.manifest()
        files = [(file.pointer, file.partition) for file in manifest.files]
        return _Table(child.index, artifact.url, files, manifest)
    if not names_files(pointer):
        require_parquet(pointer)
        return _Table(child.index, artifact.url, [(pointer, {})])
    listed = {path: file.pointer for path, file in artifact.files().items() if is_parquet(file.pointer)}
    if any("=" in path.rpartition("/")[0] for path in listed):
        msg = f"{artifact.url} is a directory with folders that are named column=value, whose columns no manifest types"
        raise InvalidDocumentError(f"{msg}: put_dataset writes one that gather_table reads. Nothing was read")
    return _Table(child.index, artifact.url, [(each, {}) for each in listed.values()])


def _artifact(child: Child, name: str) -> Artifact:
    if isinstance(child.output, Output) and name in child.output:
        return child.output[name]
    has = ", ".join(child.output) if isinstance(child.output, Output) else "no task output"
    raise InvalidDocumentError(f"child {child.index} has no artifact {name!r}: it has {has or 'none'}")


def _dataset(tables: list[_Table], access: Access) -> Any:
    import pyarrow as pa
    import pyarrow.dataset as ds

    pointers = dict(_named(tables))
    committed, layout = CommittedFiles(pointers, access), parquet_format()
    first = next(table for table in tables if table.files)
    if first.manifest is not None:
        schema, columns = schema_of(first.manifest, first.url), first.manifest.columns
    else:
        schema, columns = _schema_in(next(iter(pointers)), committed), ()
    _check_alike(tables, first, partitions.schema_message(schema), columns)
    _check_once(tables)
    held = pa.schema([field for field in schema if field.name not in columns])
    files, paths = verified_file_system(committed, held), iter(pointers)
    fragments = [
        layout.make_fragment(next(paths), files, partition_condition(schema, partition, table.url))
        for table in tables
        for _, partition in table.files
    ]
    return ds.FileSystemDataset(fragments, schema, layout, files)


def _named(tables: list[_Table]) -> Iterator[tuple[str, Pointer]]:
    """Yield every file by a path that says which child's it is."""
    for table in tables:
        for number, (pointer, _) in enumerate(table.files):
            yield f"child-{table.index}{f'-{number}' if len(table.files) > 1 else ''}.parquet", pointer


def _schema_in(path: str, committed: CommittedFiles) -> Any:
    """Return the schema of a file, whose footer is read."""
    try:
        return without_blocks(parquet_format().inspect(path, verified_file_system(committed, None)))
    except (StepoutError, MemoryError):
        raise
    except Exception as error:
        told = str(error).partition("\n")[0][:200] or type(error).__name__
        msg = f"{path} is no Parquet file that can be read, though its bytes are those written: {told}"
        raise UndecodableError(msg) from error


def _check_alike(tables: list[_Table], first: _Table, schema: bytes, columns: tuple[str, ...]) -> None:
    """Compare what manifests say; files are compared when they are opened."""
    for table in tables:
        own = () if table.manifest is None else table.manifest.columns
        fault = None
        if own != columns and table.files:
            by = [", ".join(each) or "nothing" for each in (own, columns)]
            fault = f"it is partitioned by {by[0]} instead of {by[1]}"
        elif table.manifest is not None:
            fault = partitions.schema_difference(schema, table.manifest.schema)
        if fault is not None:
            msg = f"the table of child {table.index} ({table.url}) does not go with that of child {first.index}"
            raise InvalidDocumentError(f"{msg}: {fault}. Nothing was read of either")


def _check_once(tables: list[_Table]) -> None:
    owners: dict[tuple[str, str, str | None], int] = {}
    for table in tables:
        for pointer, _ in table.files:
            owner = owners.setdefault((pointer.bucket, pointer.key, pointer.version_id), table.index)
            if owner != table.index:
                msg = f"children {owner} and {table.index} both name {pointer.url}, whose rows would count twice"
                raise InvalidDocumentError(f"{msg}. Nothing was read of either")
