"""Looks into datasets: what the manifest says, the first rows of the first file, the last rows of the last one."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from support.looks import Bench

from stepout.page.insides.rows import NOT_READ
from stepout.page.model import TableInside


def _days(rows: int = 400, days: int = 4) -> pa.Table:
    return pa.table(
        {
            "id": np.arange(rows),
            "name": [f"n{index % 7}" for index in range(rows)],
            "day": [f"2026-01-{1 + index * days // rows:02}" for index in range(rows)],
        }
    )


def test_a_dataset_is_told_by_its_manifest() -> None:
    """Rows, files, schema, bounds of all files; of rows those of the first file and the last."""
    bench = Bench()
    pointer = bench.artifacts.put_dataset("d", _days(), partition_by=["day"])
    look = bench.look(pointer)
    inside = look.inside
    assert isinstance(inside, TableInside)
    assert (inside.rows, inside.files, inside.total_columns, inside.histogram_rows) == (400, 4, 3, 100)
    told = {column.name: (column.nulls, column.minimum, column.maximum) for column in inside.columns}
    assert told == {
        "id": (None, "0", "399"),
        "name": (None, "n0", "n6"),
        "day": (0, "2026-01-01", "2026-01-04"),
    }
    assert inside.head[0] == ("0", "n0", "2026-01-01")
    assert inside.tail[-1] == ("399", "n0", "2026-01-04")
    assert sum(inside.columns[0].histogram) == 100
    assert (look.verified, look.problem) == ("part", None)
    assert "2 of its 4 files" in look.verified_note


def test_a_dataset_of_one_file_and_one_of_none() -> None:
    """There is nothing beside it."""
    bench = Bench()
    inside = bench.look(bench.artifacts.put_dataset("d", _days(20, 1), partition_by=[])).inside
    assert isinstance(inside, TableInside)
    assert (inside.rows, inside.files, len(inside.head), len(inside.tail)) == (20, 1, 10, 5)
    assert (inside.columns[0].nulls, inside.tail[-1][0]) == (0, "19")
    look = bench.look(bench.artifacts.put_dataset("e", _days().slice(0, 0), partition_by=["day"]))
    assert isinstance(look.inside, TableInside)
    assert (look.inside.rows, look.inside.head, look.problem) == (0, (), None)
    assert [column.name for column in look.inside.columns] == ["id", "name", "day"]


def test_a_missing_file_of_a_dataset_is_its_problem() -> None:
    """What the manifest says is shown all the same."""
    bench = Bench()
    pointer = bench.artifacts.put_dataset("d", _days(), partition_by=["day"])
    last = max(key for key, _ in bench.shelf.store.listing("runs/") if "2026-01-04" in key)
    bench.shelf.store.delete(last)
    look = bench.look(pointer)
    assert look.problem is not None
    assert look.problem.error == "Stepout.ArtifactNotFound"
    assert isinstance(look.inside, TableInside)
    assert (look.inside.rows, len(look.inside.head), look.inside.tail) == (400, 10, ())
    assert NOT_READ not in look.inside.head[0]
