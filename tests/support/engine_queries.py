"""Queries of a dataset on each engine, importable by the processes that an engine starts.

``whole`` returns every row, ``narrow`` two columns of the rows of one day above a score; each as an Arrow table with
the dataset's types, in the order of ``id``.
"""

from __future__ import annotations

import datetime as dt
import pickle
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from stepout.artifacts.reading.artifact import Artifact

DAY = dt.date(2026, 1, 2)
SCHEMA = pa.schema(
    [("id", pa.int64()), ("score", pa.float64()), ("note", pa.string()), ("day", pa.date32()), ("n", pa.int32())]
)


def ordered(table: pa.Table, columns: list[str]) -> pa.Table:
    """Return columns in a fixed order of rows and with the dataset's types, whatever an engine calls them."""
    names = [field for field in SCHEMA if field.name in columns]
    return table.select(columns).cast(pa.schema(names)).sort_by("id").combine_chunks()


def _pyarrow_whole(artifact: Artifact) -> pa.Table:
    return artifact.dataset().to_table()


def _pyarrow_narrow(artifact: Artifact) -> pa.Table:
    return artifact.dataset().to_table(["id", "score"], (pc.field("day") == DAY) & (pc.field("score") > 0.5))


def _duckdb_whole(artifact: Artifact) -> pa.Table:
    import duckdb

    with duckdb.connect() as connection:
        return artifact.to_duckdb(connection).to_arrow_table()


def _duckdb_narrow(artifact: Artifact) -> pa.Table:
    import duckdb

    with duckdb.connect() as connection:
        days = artifact.to_duckdb(connection)
        return days.filter(f"day = DATE '{DAY}' AND score > 0.5").project("id, score").to_arrow_table()


def _polars_whole(artifact: Artifact) -> pa.Table:
    return artifact.scan_polars().collect().to_arrow()


def _polars_narrow(artifact: Artifact) -> pa.Table:
    import polars as pl

    wanted = (pl.col("day") == DAY) & (pl.col("score") > 0.5)
    return artifact.scan_polars().filter(wanted).select("id", "score").collect().to_arrow()


def _dask_whole(artifact: Artifact) -> pa.Table:
    return pa.Table.from_pandas(artifact.to_dask().compute(), preserve_index=False)


def _dask_narrow(artifact: Artifact) -> pa.Table:
    frame = artifact.to_dask(filters=[("day", "==", DAY), ("score", ">", 0.5)])[["id", "score"]]
    return pa.Table.from_pandas(frame.compute(), preserve_index=False)


def _ray_whole(artifact: Artifact) -> pa.Table:
    return _gathered(artifact.to_ray(), SCHEMA)


def _ray_narrow(artifact: Artifact) -> pa.Table:
    from ray.data.expressions import col

    wanted = artifact.to_ray().filter(expr=(col("day") == DAY) & (col("score") > 0.5)).select_columns(["id", "score"])
    return _gathered(wanted, pa.schema([SCHEMA.field("id"), SCHEMA.field("score")]))


def _gathered(found: Any, schema: pa.Schema) -> pa.Table:
    import ray

    tables = [table.select(schema.names) for table in ray.get(found.to_arrow_refs()) if table.num_columns]
    return pa.concat_tables(tables) if tables else schema.empty_table()


def run(engine: str, query: str, artifact: Artifact) -> pa.Table:
    """Run one of the queries above."""
    table = globals()[f"_{engine}_{query}"](artifact)
    return ordered(table, SCHEMA.names if query == "whole" else ["id", "score"])


def run_pickled(engine: str, query: str, output: bytes, name: str) -> tuple[str, Any]:
    """Run a query in another process, on an output that was pickled; an error comes back as text.

    Returns:
        ``("table", …)`` or ``("error", its class and message, and those of what it came of)``.
    """
    try:
        return "table", run(engine, query, pickle.loads(output)[name])
    except BaseException as error:  # noqa: BLE001 - DuckDB's and polars' own classes may not travel
        return "error", told(error)


def told(error: BaseException | None) -> str:
    """Return what an error and all that it came of say."""
    parts = []
    while error is not None:
        parts.append(f"{type(error).__name__}: {error}")
        error = error.__cause__ or error.__context__
    return "\n".join(parts)
