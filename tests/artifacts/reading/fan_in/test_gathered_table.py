"""The tables of all children as one lazy dataset: its rows, its schema, and what keeps a child's table out of it."""

from __future__ import annotations

import logging
import pickle
from typing import TYPE_CHECKING, Any

import pytest
from support.map_results import MapResults
from support.shelf import ALLOW, BreakingStore, Shelf

import stepout
from stepout.schemas import TaskOutput
from stepout.schemas.errors import (
    ConfigurationError,
    IntegrityError,
    InvalidDocumentError,
    TaskFailedError,
    UndecodableError,
)

pa = pytest.importorskip("pyarrow")

if TYPE_CHECKING:
    from pathlib import Path

    from stepout.schemas import Pointer


def _manager(shelf: Shelf, index: int) -> stepout.ArtifactManager:
    run = stepout.RunIdentity(execution=f"arn:aws:states:eu-west-1:123456789012:execution:Segment:{index}", state="S")
    return stepout.ArtifactManager("results", "runs", client=shelf.store, run=run)


def _output(pointer: Pointer, name: str = "features") -> dict[str, Any]:
    return TaskOutput(artifacts={name: pointer}).to_dict()


def _table(index: int, rows: int = 3, **columns: Any) -> Any:
    return pa.table({"child": [index] * rows, "value": [float(row) for row in range(rows)], **columns})


def _files(shelf: Shelf, count: int) -> list[dict[str, Any]]:
    return [_output(_manager(shelf, index).put_table("features", _table(index))) for index in range(count)]


def _gathered(source: Any, shelf: Shelf, **options: Any) -> Any:
    return stepout.gather_table(source, **{"allow": ALLOW, "client": shelf.store, **options})


def test_the_files_of_all_children_are_one_dataset(shelf: Shelf) -> None:
    """In the order of the children; one footer is read before a scan, and a filter leaves files unread."""
    results = MapResults(shelf, per_file=4)
    for index, output in enumerate(_files(shelf, 10)):
        results.succeeded(index, output)
    event = results.write()
    store = BreakingStore(shelf.store, [])
    dataset = _gathered(event, shelf, client=store)
    before = len(store.requests)
    assert before <= 1 + 3 + 2
    found = dataset.to_table()
    assert found["child"].to_pylist() == [index for index in range(10) for _ in range(3)]
    assert len(store.requests) > before
    assert dataset.count_rows() == 30
    assert dataset.to_table(columns=["value"], filter=pa.compute.field("child") == 7)["value"].to_pylist() == [0, 1, 2]


def test_datasets_and_directories_are_taken_apart(shelf: Shelf, tmp_path: Path) -> None:
    """Manifests and listings are read once each; partition columns are those that the manifests type."""
    outputs = []
    for index in range(3):
        table = _table(index, 4, day=[1, 1, 2, 2])
        outputs.append(_output(_manager(shelf, index).put_dataset("features", table, partition_by=["day"])))
    dataset = _gathered(outputs, shelf)
    assert dataset.schema.names == ["child", "value", "day"]
    assert dataset.to_table(filter=pa.compute.field("day") == 2)["child"].to_pylist() == [0, 0, 1, 1, 2, 2]
    import pyarrow.parquet as pq

    folder = tmp_path / "d"
    folder.mkdir()
    for part in range(2):
        pq.write_table(_table(9 + part), folder / f"{part}.parquet")
    (folder / "note.txt").write_text("none of the table's")
    mixed = [_output(_manager(shelf, 9).put_directory("features", folder)), *_files(shelf, 1)]
    assert _gathered(mixed, shelf).to_table()["child"].to_pylist() == [9] * 3 + [10] * 3 + [0] * 3


def test_columns_of_another_kind_are_refused(shelf: Shelf) -> None:
    """A manifest's before anything is returned, a file's when it is opened; with the child and the column."""
    parts = [
        _manager(shelf, 1).put_dataset("features", _table(1)),
        _manager(shelf, 2).put_dataset("features", _table(2, more=[1, 2, 3])),
    ]
    with pytest.raises(
        InvalidDocumentError, match=r"the table of child 1 .*does not go with that of child 0: .*'more'"
    ):
        _gathered([_output(part) for part in parts], shelf)
    by_day = _manager(shelf, 3).put_dataset("features", _table(3, day=[1, 1, 2]), partition_by=["day"])
    with pytest.raises(InvalidDocumentError, match="partitioned by day instead of nothing"):
        _gathered([_output(parts[0]), _output(by_day)], shelf)
    with pytest.raises(InvalidDocumentError, match=r"children 0 and 1 both name .* count twice"):
        _gathered(_files(shelf, 1) * 2, shelf)
    odd = _output(_manager(shelf, 4).put_table("features", _table(4, more=[1, 2, 3])))
    dataset = _gathered([*_files(shelf, 1), odd], shelf)
    with pytest.raises(InvalidDocumentError, match=r"child-1\.parquet .* the first file, .*'more' differ"):
        dataset.to_table()


def test_a_child_without_a_table_is_raised_or_left_out(shelf: Shelf, caplog: pytest.LogCaptureFixture) -> None:
    """A failed one, and one that has no such artifact; a warning says how many there were."""
    failed = {"Error": "Demo.Error", "Cause": "dark"}
    other = _output(_manager(shelf, 8).put_table("features", _table(8)), "others")
    for bad, error in ((failed, TaskFailedError), (other, InvalidDocumentError), ({"rows": 1}, InvalidDocumentError)):
        with pytest.raises(error):
            _gathered([*_files(shelf, 2), bad], shelf)
    with caplog.at_level(logging.WARNING, "stepout"):
        dataset = _gathered([failed, *_files(shelf, 2), other], shelf, on_error="skip")
    assert dataset.to_table()["child"].to_pylist() == [0, 0, 0, 1, 1, 1]
    assert "2 of 4 children are left out" in caplog.text
    for wrong, options in (([], {}), ([failed], {"on_error": "skip"})):
        with pytest.raises(InvalidDocumentError, match="no child has a file of the table"):
            _gathered(wrong, shelf, **options)
    with pytest.raises(ConfigurationError, match="on_error='yield'"):
        _gathered([], shelf, on_error="yield")


def test_the_fault_of_a_result_file_is_never_left_out(shelf: Shelf) -> None:
    """All rows of it could be wrong: they are not in a dataset that says nothing of it."""
    results = MapResults(shelf, per_file=2)
    for index, output in enumerate(_files(shelf, 4)):
        results.succeeded(index, output)
    whole = results.file(results.rows["SUCCEEDED"][:2])
    with pytest.raises(InvalidDocumentError, match="is it cut off"):
        _gathered(results.write(SUCCEEDED_0=whole[:-20]), shelf, on_error="skip")


def test_every_byte_is_verified(shelf: Shelf) -> None:
    """As of any dataset: a flipped bit is refused, wherever it is; and a caller's client stays in its process."""
    outputs = [_output_of(each["artifacts"]["features"]) for each in _files(shelf, 3)]
    dataset = _gathered(outputs, shelf)
    with pytest.raises(Exception, match="cannot be pickled"):
        pickle.dumps(dataset)
    key = outputs[1]["artifacts"]["features"]["key"]
    whole = shelf.store.read(key)
    for position in (20, len(whole) // 2, len(whole) - 20):
        data = bytearray(whole)
        data[position] ^= 1
        shelf.store.replace(key, bytes(data))
        with pytest.raises((IntegrityError, UndecodableError, OSError)):
            _gathered(outputs, shelf).to_table()
    shelf.store.replace(key, whole)
    assert _gathered(outputs, shelf).to_table().num_rows == 9


def _output_of(pointer: dict[str, Any]) -> dict[str, Any]:
    """Return an output whose pointer has no ETag, as if the server had not noticed what became of the bytes."""
    return {"stepout": "output/1", "artifacts": {"features": {k: v for k, v in pointer.items() if k != "etag"}}}
