"""A look into a dataset: what its manifest says, the first rows of its first file, the last rows of its last one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from stepout.artifacts.formats.column_statistics import ColumnStatistics
from stepout.artifacts.reading.files.listed_files import read_manifest
from stepout.artifacts.reading.pinned_object import PinnedObject
from stepout.artifacts.reading.tables.dataset import schema_of
from stepout.artifacts.reading.tables.preview import open_preview
from stepout.page.budget import PageBudgetError
from stepout.page.insides.columns import COLUMNS, summary_of
from stepout.page.insides.look import Look
from stepout.page.insides.rows import HEAD_ROWS, TAIL_ROWS, RowsRead, first_rows, last_rows, row_texts
from stepout.page.insides.table import check_footer
from stepout.page.model import CardProblem, TableInside
from stepout.schemas.errors import StepoutError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import pyarrow as pa

    from stepout.artifacts.dataset_manifest import DatasetFile, DatasetManifest
    from stepout.artifacts.reading.tables.preview import TablePreview
    from stepout.page.insides.look import ReadForLook


def look_at_dataset(read: ReadForLook) -> Look:
    """Look into a dataset.

    Raises:
        PageBudgetError: Not even its manifest may be read.
        InvalidDocumentError: Its manifest is invalid.
        StoreError: The manifest could not be read.
    """
    read.budget.check(read.pinned.size)
    manifest = read_manifest(read.pinned)
    schema, files = schema_of(manifest, read.pinned.pointer.url), [file for file in manifest.files if file.rows]
    places, first, last = range(min(len(schema), COLUMNS)), RowsRead(), RowsRead()
    if files:
        first = _of_file(read, files[0], schema, first_rows)
    if len(files) > 1:
        last = _of_file(read, files[-1], schema, last_rows)
    tail = first if len(files) == 1 and first.rows == manifest.rows else last
    inside = TableInside(
        rows=manifest.rows,
        columns=tuple(
            summary_of(
                schema.field(place),
                _statistics(manifest, schema.field(place)),
                None if schema.names[place] in manifest.columns else first.columns.get(place),
                all_values=first.rows == manifest.rows,
            )
            for place in places
        ),
        total_columns=len(schema),
        head=row_texts(first, places, 0, HEAD_ROWS),
        tail=row_texts(tail, places, max(tail.rows - TAIL_ROWS, HEAD_ROWS if tail is first else 0), tail.rows),
        histogram_rows=first.rows if first.columns else 0,
        files=len(manifest.files),
    )
    look = _told(read, inside, len({file.path for file in (*files[:1], *files[-1:])}))
    return replace(look, problem=first.problem or last.problem).noting(first.note, last.note)


def _told(read: ReadForLook, inside: TableInside, opened: int) -> Look:
    """Return a look that says what was compared: the manifest as a whole, of the files what was read."""
    look = read.whole(inside)
    if look.verified == "not":
        return look
    files = f"{opened:,} of its {inside.files:,} files" if opened < inside.files else "each of its files"
    note = f"Its manifest was read whole and compared with its checksum; of {files} a part was read and compared."
    return Look(inside=inside, verified="part", verified_note=note)


def _of_file(
    read: ReadForLook,
    file: DatasetFile,
    schema: pa.Schema,
    take: Callable[[ReadForLook, TablePreview, Sequence[int]], RowsRead],
) -> RowsRead:
    """Return rows of one file, by the places that the columns have in the dataset's schema, partition columns too."""
    import pyarrow as pa

    pinned = PinnedObject(read.pinned.access, file.pointer)
    try:
        check_footer(read, pinned)
        with open_preview(pinned) as preview:
            names = preview.schema.names
            held = {names.index(name): place for place, name in enumerate(schema.names[:COLUMNS]) if name in names}
            rows = take(read, preview, list(held))
    except PageBudgetError as error:
        return RowsRead(note=error.sentence)
    except StepoutError as error:
        return RowsRead(problem=CardProblem(error=error.error_name, message=str(error)))
    if not rows.columns:
        return rows
    columns: dict[int, pa.ChunkedArray] = {held[place]: values for place, values in rows.columns.items()}
    for name, text in file.partition.items():
        value = pa.scalar(text, pa.string()).cast(schema.field(name).type)
        columns[schema.get_field_index(name)] = pa.chunked_array([pa.repeat(value, rows.rows)])
    return replace(rows, columns=columns)


def _statistics(manifest: DatasetManifest, field: pa.Field) -> ColumnStatistics:
    """Return what the manifest says of a column of all files together."""
    if field.name in manifest.columns:
        return _of_partition(manifest, field)
    bounds = [(file.statistics or {}).get(field.name) for file in manifest.files if file.rows]
    told: list[Mapping[str, Any]] = [each for each in bounds if each is not None]
    if not told or len(told) < len(bounds):
        return ColumnStatistics()
    try:
        return ColumnStatistics(None, min(each["min"] for each in told), max(each["max"] for each in told))
    except TypeError:  # files that say bounds of different types
        return ColumnStatistics()


def _of_partition(manifest: DatasetManifest, field: pa.Field) -> ColumnStatistics:
    """Return the same of a partition column: each file has one value of it."""
    import pyarrow as pa
    import pyarrow.compute as pc

    nulls = sum(file.rows for file in manifest.files if file.partition[field.name] is None)
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    values = pa.array([file.partition[field.name] for file in manifest.files], pa.string()).cast(kind)
    try:
        ends = pc.min_max(values).as_py()
    except pa.ArrowException:
        return ColumnStatistics(nulls)
    return ColumnStatistics(nulls, ends["min"], ends["max"])
