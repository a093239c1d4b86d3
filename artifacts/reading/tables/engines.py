"""Datasets for engines that scale: Dask, Ray, polars, DuckDB. Each reads the committed files, verified, in its workers.

polars and DuckDB take a pyarrow dataset and push columns and filters down into it. Dask and Ray get one dataset of one
file for each task, pickled: a worker builds its own client, from its own credentials. Their own Parquet readers are not
used: they list folders, and guess a partition column's type from its text.
"""

from __future__ import annotations

from functools import partial, reduce
from operator import and_, eq, ge, gt, le, lt
from typing import TYPE_CHECKING, Any

from stepout.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import pyarrow as pa
    import pyarrow.dataset as ds

    from stepout.artifacts.reading.tables.dataset import Piece, Pieces


def missing(engine: str, package: str, error: ImportError) -> ConfigurationError:
    """Return the error that says what to install."""
    msg = f"{engine} is not installed: pip install {package!r}; nothing was read ({error})"
    return ConfigurationError(msg)


# polars and DuckDB -------------------------------------------------------------------------------------------------


def polars_frame(dataset: ds.Dataset) -> Any:
    """Return a ``polars.LazyFrame`` over a dataset."""
    try:
        import polars as pl
    except ImportError as error:
        raise missing("polars", "polars", error) from error
    from polars.io.plugins import register_io_source

    schema = pl.from_arrow(dataset.schema.empty_table()).schema  # type: ignore[union-attr]  # of a table, a frame
    return register_io_source(partial(_polars_batches, dataset), schema=schema)


def _polars_batches(
    dataset: ds.Dataset, columns: list[str] | None, predicate: Any, rows: int | None, size: int | None
) -> Iterator[Any]:
    """Yield the frames of a scan.

    polars' own scan of a pyarrow dataset has Arrow filter by all that can be said in Arrow's words, and loses rows:
    those with NaN, which is the greatest number to polars, and those of times with a zone, which it leaves out. So
    Arrow only skips what polars would skip, and polars filters what is left.
    """
    import polars as pl

    needed = columns
    if columns is not None and predicate is not None:
        needed = list(dict.fromkeys([*columns, *predicate.meta.root_names()]))
    condition = None if predicate is None or rows is not None else reduce(and_, _in_arrow(predicate, dataset.schema))
    options: dict[str, Any] = {} if size is None else {"batch_size": size}
    for batch in dataset.to_batches(columns=needed, filter=condition, **options):
        frame: Any = pl.from_arrow(batch)
        if rows is not None:  # of the source, before any filter
            frame = frame.head(rows)
            rows -= frame.height
        if predicate is not None:
            frame = frame.filter(predicate)
        yield frame if columns is None else frame.select(columns)
        if rows == 0:
            return


def _in_arrow(predicate: Any, schema: pa.Schema) -> Iterator[Any]:
    """Yield Arrow expressions that hold for every row for which a polars predicate holds, and perhaps for more."""
    import polars as pl
    import pyarrow as pa
    import pyarrow.dataset as ds

    yield ds.scalar(True)
    inputs = predicate.meta.pop()
    if len(inputs) != 2:  # noqa: PLR2004 - both sides of an operator
        return
    left, right = reversed(inputs)
    if (left & right).meta.eq(predicate):
        yield from _in_arrow(left, schema)
        yield from _in_arrow(right, schema)
        return
    if not (left.meta.is_column() and right.meta.is_literal()):
        return
    name = left.meta.output_name()
    column, kind = ds.field(name), schema.field(name).type
    compare = next((each for each in (eq, lt, le, gt, ge) if each(left, right).meta.eq(predicate)), None)
    if compare is None or pa.types.is_nested(kind) or pa.types.is_dictionary(kind):
        return
    try:
        value = pl.select(right).to_series().to_arrow()[0]
        same = value.cast(kind)
        exact = same.cast(value.type).equals(value)
    except (pa.ArrowException, pl.exceptions.PolarsError):
        return
    if exact:
        condition = compare(column, same)
        yield condition | column.is_nan() if pa.types.is_floating(kind) else condition


def duckdb_relation(dataset: ds.Dataset, connection: Any) -> Any:
    """Return a ``duckdb.DuckDBPyRelation`` over a dataset, in a connection or, for ``None``, in DuckDB's default."""
    try:
        import duckdb
    except ImportError as error:
        raise missing("DuckDB", "duckdb", error) from error
    return (duckdb if connection is None else connection).from_arrow(_unlocked(dataset))


def _unlocked(dataset: ds.FileSystemDataset) -> ds.FileSystemDataset:
    """Return a dataset whose scanners' ``to_reader`` does not start the scan with Python's lock held.

    pyarrow's does. A file whose reader raises meanwhile, as ours does for damage, ends in a deadlock then: Arrow's
    scheduler holds a lock of its own and waits for Python's, to print the error (pyarrow 26). ``to_batches`` is free.
    """
    import pyarrow as pa
    import pyarrow.dataset as ds

    class Unlocked(ds.FileSystemDataset):  # type: ignore[misc] # pyarrow has no types
        def scanner(self, **options: Any) -> ds.Scanner:
            scanner = super().scanner(**options)
            reader = pa.RecordBatchReader.from_batches(scanner.projected_schema, scanner.to_batches())
            return ds.Scanner.from_batches(reader)

    return Unlocked(list(dataset.get_fragments()), dataset.schema, dataset.format, dataset.filesystem)


# Dask --------------------------------------------------------------------------------------------------------------


def dask_frame(cut: Pieces, columns: Sequence[str] | None, **options: Any) -> Any:
    """Return a ``dask.dataframe.DataFrame`` with one partition for each file, of pandas' Arrow types.

    Args:
        cut: The dataset.
        columns: Those that are read, if the frame is not asked for fewer.
        options: For ``dask.dataframe.from_map``.
    """
    try:
        import dask.dataframe as dd
    except ImportError as error:
        raise missing("Dask", "dask[dataframe]", error) from error
    empty = _to_pandas(selected(cut.schema, columns).empty_table())
    if not cut.pieces:
        return dd.from_pandas(empty, npartitions=1)
    own = {"columns": list(empty.columns), "condition": cut.condition, "meta": empty, "label": "stepout"}
    return dd.from_map(_read_frame, [piece.dataset for piece in cut.pieces], **{**own, **options})


def _read_frame(dataset: ds.Dataset, columns: Sequence[str] | None = None, condition: Any = None) -> Any:
    """Read one file into pandas; Dask passes the columns that are asked for."""
    return _to_pandas(dataset.to_table(columns=None if columns is None else list(columns), filter=condition))


def _to_pandas(table: pa.Table) -> Any:
    import pandas as pd

    # What pandas wrote into the schema would take back its own types, and lose nulls.
    return table.replace_schema_metadata(None).to_pandas(types_mapper=pd.ArrowDtype)


# Ray ---------------------------------------------------------------------------------------------------------------

_RAY_STUB = "__bsp_stub"
"""What Ray calls the column of a table of which only the rows count (``ray.data._internal.arrow_block``)."""


def ray_dataset(cut: Pieces, columns: Sequence[str] | None, **options: Any) -> Any:
    """Return a ``ray.data.Dataset``.

    Args:
        cut: The dataset.
        columns: Those that are read, if the dataset is not asked for fewer.
        options: For ``ray.data.read_datasource``.
    """
    try:
        import ray.data
    except ImportError as error:
        raise missing("Ray", "ray[data]", error) from error
    chosen = None if columns is None else {name: name for name in selected(cut.schema, columns).names}
    return ray.data.read_datasource(_ray_source()(cut, chosen), **options)


def _ray_source() -> Any:
    """Return the class of what Ray reads from; Ray can only be imported where it is used."""
    from ray.data import Datasource, ReadTask
    from ray.data.block import BlockMetadata

    class StepoutDatasource(Datasource):
        """One task for each file, or for several of them where Ray wants fewer tasks."""

        def __init__(self, cut: Pieces, projection: Any) -> None:
            super().__init__()  # type: ignore[no-untyped-call]  # Ray's
            self._cut = cut
            self._projection_map = projection  # a member of Ray's, which its ``apply_projection`` narrows

        def supports_projection_pushdown(self) -> bool:
            return True

        def supports_predicate_pushdown(self) -> bool:
            return True

        def estimate_inmemory_data_size(self) -> int:
            return sum(piece.size for piece in self._cut.pieces)

        def get_read_tasks(
            self,
            parallelism: int,
            per_task_row_limit: int | None = None,
            data_context: Any = None,  # noqa: ARG002 - Ray passes it
        ) -> list[Any]:
            condition = _narrowed(self._cut.condition, self.get_current_predicate())
            projection = self.get_projection_map()
            schema = selected(self._cut.schema, None if projection is None else list(projection))

            def task(group: Sequence[Piece]) -> Any:
                rows = _rows_of(group) if condition is None else None
                said = BlockMetadata(rows, sum(piece.size for piece in group), None, None)
                read = partial(_read_blocks, [piece.dataset for piece in group], schema, condition)
                returned = countable(schema.empty_table()).schema
                return ReadTask(read, said, schema=returned, per_task_row_limit=per_task_row_limit)

            return [task(group) for group in _in_groups(self._cut.pieces, parallelism)]

    return StepoutDatasource


def _narrowed(condition: Any, predicate: Any) -> Any:
    """Return a pyarrow condition with Ray's predicate on top of it; either may be ``None``."""
    if predicate is None:
        return condition
    return predicate.to_pyarrow() if condition is None else condition & predicate.to_pyarrow()


def _rows_of(pieces: Sequence[Piece]) -> int | None:
    """Return how many rows files have together; ``None`` where nobody said."""
    counts = [piece.rows for piece in pieces if piece.rows is not None]
    return sum(counts) if len(counts) == len(pieces) else None


def _read_blocks(datasets: Iterable[ds.Dataset], schema: pa.Schema, condition: Any) -> Iterator[pa.Table]:
    """Yield a table for each file."""
    for dataset in datasets:
        yield countable(dataset.to_table(columns=schema.names, filter=condition))
    if not datasets:
        yield countable(schema.empty_table())


def countable(table: pa.Table) -> pa.Table:
    """Return a table whose rows Ray can count: where no column is asked for, the column that Ray itself puts there.

    Ray's ``count()`` asks for no column. It joins the tables that it gets, and tables without columns join to one
    without rows. Its own readers add a column of nulls, which Ray shows to nobody.
    """
    import pyarrow as pa

    return table if table.num_columns else table.append_column(_RAY_STUB, pa.nulls(table.num_rows))


def selected(schema: pa.Schema, columns: Sequence[str] | None) -> pa.Schema:
    """Return the fields of these columns, without what pandas wrote into the schema.

    Raises:
        ConfigurationError: There is no such column.
    """
    import pyarrow as pa

    names = schema.names if columns is None else list(columns)
    absent = [name for name in names if name not in schema.names]
    if absent or len(set(names)) != len(names):
        raise ConfigurationError(f"columns={names}: expected names of {schema.names[:50]}, each once; nothing was read")
    return pa.schema([schema.field(name) for name in names])


def _in_groups(pieces: Sequence[Piece], most: int) -> list[Sequence[Piece]]:
    """Deal pieces, in their order, to at most so many groups."""
    count = max(1, min(most, len(pieces)))
    return [pieces[index * len(pieces) // count : (index + 1) * len(pieces) // count] for index in range(count)]
