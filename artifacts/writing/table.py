"""Writes a table as Parquet as an artifact."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from stepout.artifacts.formats import tables
from stepout.artifacts.media_types import PARQUET

if TYPE_CHECKING:
    from stepout.artifacts.writing.planned_put import PutOptions, PutPlanner
    from stepout.artifacts.writing.writes import Writes
    from stepout.schemas import Pointer


def put_table(  # noqa: PLR0913, PLR0917 - what a put needs
    planner: PutPlanner,
    writes: Writes,
    name: str,
    table: object,
    compression: str,
    row_group_bytes: int,
    options: PutOptions,
) -> Pointer:
    """Encode a table while it is sent; ``ArtifactManager.put_table`` says what it raises."""
    planned = planner.plan(name, PARQUET, ".parquet", options, ("parquet", "rows", "columns"))
    with writes.upload(planned.without_blocks()) as upload, closing(tables.table_source(table)) as source:
        encoded = tables.encode_table(source, upload, compression, row_group_bytes, planned.blocks)
        return writes.record_table(planned, upload, encoded)
