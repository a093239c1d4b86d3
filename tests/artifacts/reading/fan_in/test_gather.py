"""The children of a Distributed Map and of an inline Map, one by one: what each is, and what is wrong with one."""

from __future__ import annotations

import json
import re
import threading
from typing import TYPE_CHECKING, Any

import pytest
from support.map_results import PARENT, MapResults, child_arn, task_output
from support.shelf import ALLOW, BreakingStore, Shelf

import stepout
from stepout.artifacts.reading.documents.resolved import Resolved
from stepout.artifacts.reading.fan_in import result_writer
from stepout.artifacts.reading.output import Output
from stepout.artifacts.store import ObjectInfo
from stepout.schemas.errors import (
    ArtifactChangedError,
    ArtifactNotFoundError,
    ChecksumMismatchError,
    ConfigurationError,
    InvalidDocumentError,
    NotAllowedError,
    ReadBudgetError,
    SizeMismatchError,
    StepoutError,
    StoreUnavailableError,
    TaskFailedError,
)

if TYPE_CHECKING:
    from stepout.artifacts.reading.fan_in.children import Child

MANIFEST = "s3://results/runs/map/manifest.json"


def _gathered(source: Any, shelf: Shelf, **options: Any) -> list[Child]:
    return list(stepout.gather(source, **{"allow": ALLOW, "client": shelf.store, **options}))


def _error(child: Child) -> str:
    """The message of a child's error, which names the file and the row where there are such."""
    assert isinstance(child.error, StepoutError)
    assert (child.output, child.status == "SUCCEEDED") == (None, False)
    for told in (child.file, None if child.row is None else f"row {child.row}"):
        assert told is None or told in str(child.error)
    return str(child.error)


def _map(shelf: Shelf, count: int = 3, **settings: Any) -> MapResults:
    results = MapResults(shelf, **settings)
    for index in range(count):
        results.succeeded(index, task_output(shelf, index))
    return results


# A ResultWriter's files ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lines", [False, True])
@pytest.mark.parametrize("transformation", ["NONE", "COMPACT", "FLATTEN"])
def test_hundreds_of_children_come_from_whatever_the_writer_wrote(
    shelf: Shelf, transformation: Any, lines: bool
) -> None:
    """Several files, failed and pending children last, each with its file, row and index."""
    results = _map(shelf, 200, transformation=transformation, lines=lines, per_file=60)
    results.failed(200)
    results.pending(201)
    event = results.write()
    children = _gathered(MANIFEST if lines else event, shelf)
    assert [child.index for child in children] == list(range(202))
    assert [child.status for child in children[199:]] == ["SUCCEEDED", "FAILED", "PENDING"]
    assert [child.output.result["rows"] for child in children[:200]] == list(range(200))
    assert (children[130].row, children[130].file) == (11, f"s3://results/runs/map/SUCCEEDED_2.json{'l' * lines}")
    assert children[130].execution == (child_arn(130) if transformation == "NONE" else None)
    failed, pending = children[200:]
    assert isinstance(failed.error, TaskFailedError)
    assert (failed.error.error, failed.error.cause, failed.name) == ("Demo.Error", "dark", "00000200")
    assert "failed: Demo.Error: dark" in _error(failed)
    assert "is pending" in _error(pending)


def test_a_child_that_raises_ends_it_where_that_is_asked_for(shelf: Shelf) -> None:
    """``on_error="raise"`` raises the first child's error, a pending one's too."""
    results = _map(shelf)
    results.pending(3)
    with pytest.raises(TaskFailedError, match=r"child 3 .*PENDING_0\.json, row 1.*is pending"):
        _gathered(results.write(), shelf, on_error="raise")


@pytest.mark.parametrize("status", ["TIMED_OUT", "ABORTED"])
def test_a_child_that_was_ended_is_told_from_one_that_failed(shelf: Shelf, status: str) -> None:
    """Such children lie among the failed ones, without an error of their own."""
    results = _map(shelf, 1)
    results.rows["FAILED"].append({"ExecutionArn": child_arn(1), "Name": "1", "Status": status})
    event = results.write()
    (child,) = _gathered(event, shelf)[1:]
    assert isinstance(child.error, TaskFailedError)
    assert (child.status, child.error.error) == ("FAILED", status)
    resolved = stepout.resolve_all(event, allow=ALLOW, client=shelf.store)
    assert [failure.error for failure in resolved.failures.values()] == [status]


@pytest.mark.parametrize(
    ("output", "told"),
    [
        ('{"stepout": "output/1"', "not JSON"),
        ('{"stepout": "output/1"}', r"\$\.artifacts"),
        ('{"stepout": "output/7", "artifacts": {}}', "this stepout reads"),
        ('{"stepout": "output/1", "artifacts": {}, "artifacts": {}}', "more than once"),
        ('{"a": NaN}', "is NaN"),
        (f"[{'9' * 6_000}]", "thousands of digits"),
        ("[" * 50_000 + "]" * 50_000, "nested deeper"),
        ('{"ResultWriterDetails": {"Bucket": "results", "Key": "runs/map/manifest.json"}}', "no manifest is followed"),
    ],
)
def test_a_bad_child_is_its_own_error(shelf: Shelf, output: str, told: str) -> None:
    """The nine beside it are read."""
    results = _map(shelf, 9)
    results.rows["SUCCEEDED"].insert(4, {"ExecutionArn": "arn:x", "Status": "SUCCEEDED", "Output": output})
    children = _gathered(results.write(), shelf)
    assert [child.index for child in children if child.error is not None] == [4]
    assert re.search(told, _error(children[4]))
    assert [child.output["mask"].read_text() for child in children if child.error is None] == list("012345678")


def test_a_pointer_outside_the_allow_list_is_that_childs_error(shelf: Shelf) -> None:
    """And nothing of it is requested."""
    results = _map(shelf, 2)
    foreign = json.loads(json.dumps(task_output(shelf, 2)).replace("runs/child", "elsewhere/child"))
    results.succeeded(2, foreign)
    *good, bad = _gathered(results.write(), shelf)
    assert [child.error for child in good] == [None, None]
    assert isinstance(bad.error, NotAllowedError)
    assert "elsewhere" in _error(bad)


def test_a_child_of_another_run_is_an_error_where_a_run_is_named(shelf: Shelf) -> None:
    """Its own execution counts, and the one that started it; a child that does not say whose it is does not."""
    results = _map(shelf, 2, transformation="COMPACT")
    other = task_output(shelf, 2)
    other["producer"]["parentExecution"] = PARENT.replace("7f3c", "other")
    results.succeeded(2, other)
    results.succeeded(3, {"stepout": "output/1", "artifacts": {}})
    event = results.write()
    assert [child.error for child in _gathered(event, shelf)] == [None] * 4
    children = _gathered(event, shelf, execution=PARENT)
    assert [child.error is None for child in children] == [True, True, False, False]
    assert "It is another run's" in _error(children[2])
    own = _gathered(event, shelf, execution=child_arn(1))
    assert [child.error is None for child in own] == [False, True, False, False]


def test_what_a_child_returned_is_told_by_what_is_in_it(shelf: Shelf) -> None:
    """Merged outputs, several of them, lone pointers, what Catch kept, and anything else."""
    output = task_output(shelf, 0)
    pointer = output["artifacts"]["mask"]
    items = [
        output,
        {"item": 1, "mask": output},
        {"Payload": json.dumps(output)},
        [output, output],
        pointer,
        {"item": 1, "error": {"Error": "Demo.Error", "Cause": "dark"}},
        {"mask": output, "error": {"Error": "Demo.Error", "Cause": "dark"}},
        {"@middy-store": f"s3://results/{pointer['key']}"},
        {"rows": 3},
        None,
        "text",
    ]
    children = _gathered(items, shelf)
    kinds = [type(child.output).__name__ for child in children]
    assert kinds == [
        "Output", "Output", "Output", "Resolved", "Artifact", "NoneType", "Output", "ForeignArtifact", "dict",
        "NoneType", "str",
    ]  # fmt: skip
    assert [child.index for child in children] == list(range(11))
    assert isinstance(children[3].output, Resolved)
    assert list(children[3].output) == ["$[0]", "$[1]"]
    assert isinstance(children[5].error, TaskFailedError)
    assert [child.error for child in children[6:]] == [None] * 5
    assert (children[8].output, children[10].output, children[0].file) == ({"rows": 3}, "text", None)


def test_spilled_outputs_are_followed_side_by_side(shelf: Shelf) -> None:
    """In order, each a request of the budget; one that is gone is its child's error."""
    under_way, most = [0], [0]
    lock, together = threading.Lock(), threading.Barrier(4)

    class Slow(BreakingStore):
        def get(self, key: str, **pin: Any) -> Any:
            with lock:
                under_way[0] += 1
                most[0] = max(most[0], under_way[0])
            if "whole/" in key and int(key.rpartition("/")[2]) < 4:
                together.wait(60)
            try:
                return super().get(key, **pin)
            finally:
                with lock:
                    under_way[0] -= 1

    results = MapResults(shelf)
    for index in range(100):
        whole = shelf.put(json.dumps(task_output(shelf, index)).encode(), f"whole/{index}")
        results.succeeded(index, {"stepout": "output/1", "manifest": whole.to_dict()})
    shelf.store.delete("runs/whole/70")
    event = results.write()
    children = _gathered(event, shelf, client=Slow(shelf.store, []))
    assert most[0] >= 4
    assert [child.index for child in children] == list(range(100))
    assert isinstance(children[70].error, ArtifactNotFoundError)
    assert [child.output.result["rows"] for child in children if child.error is None] == [*range(70), *range(71, 100)]
    with pytest.raises(ReadBudgetError, match="requests"):
        _gathered(event, shelf, budget=stepout.ReadBudget(requests=50))


# Faults of a file ----------------------------------------------------------------------------------------------------


def test_a_file_that_is_cut_off_is_told_and_the_others_go_on(shelf: Shelf) -> None:
    """In an array, with the row; the rows before it were yielded, those of the next file come behind."""
    results = _map(shelf, 6, per_file=3)
    whole = results.file(results.rows["SUCCEEDED"][:3])
    event = results.write(SUCCEEDED_0=whole[:-30])
    children = _gathered(event, shelf)
    assert [child.index for child in children] == [0, 1, -1, 2, 3, 4]
    assert "its array does not end behind row 2" in _error(children[2])
    assert (children[2].file, children[2].row) == ("s3://results/runs/map/SUCCEEDED_0.json", None)
    with pytest.raises(InvalidDocumentError, match=r"SUCCEEDED_0\.json: .*does not end behind row 2"):
        list(stepout.read_result_writer(event, allow=ALLOW, client=shelf.store))


@pytest.mark.parametrize("lines", [False, True])
def test_a_flipped_byte_shows_when_the_file_ends(shelf: Shelf, lines: bool) -> None:
    """Rows are provisional until then; what does not belong is told with the file, by every function that reads it."""
    results = _map(shelf, 6, per_file=3, lines=lines)
    event = results.write()
    key = f"runs/map/SUCCEEDED_0.json{'l' * lines}"
    before = shelf.store.objects[key]
    data = before.data.replace(b"item", b"itfm", 1)

    class Damaged(BreakingStore):
        def head(self, name: str, **pin: Any) -> ObjectInfo:
            found = shelf.store.head(name, **pin)
            if name == key:
                return ObjectInfo(size=found.size, checksum=before.info.checksum)
            return found

    shelf.store.replace(key, data)
    store = Damaged(shelf.store, [])
    children = _gathered(event, shelf, client=store)
    fault = next(child for child in children if child.index == -1)
    assert isinstance(fault.error, ChecksumMismatchError)
    # A small array is known to be whole before its first row comes; with a row a line, the rows came.
    assert [child.index for child in children] == ([0, 1, 2, -1, 3, 4, 5] if lines else [-1, 0, 1, 2])
    assert ("Rows 1 to 3 of it came before" in _error(fault)) is lines
    for read in (stepout.read_result_writer, stepout.resolve_all):
        with pytest.raises(ChecksumMismatchError):
            list(read(event, allow=ALLOW, client=store))


@pytest.mark.parametrize("lines", [False, True])
def test_a_flipped_bit_is_told_wherever_it_is(shelf: Shelf, monkeypatch: pytest.MonkeyPatch, lines: bool) -> None:
    """In a key, a number, a quote, between two rows: each time the file as a whole is told, in a child of its own."""
    monkeypatch.setattr(result_writer, "_BLOCK", 512)
    event = _map(shelf, 4, lines=lines).write()
    key = f"runs/map/SUCCEEDED_0.json{'l' * lines}"
    stored = shelf.store.objects[key]
    for place in range(0, len(stored.data), 61):
        data = bytearray(stored.data)
        data[place] ^= 1 << place % 8
        told = ObjectInfo(size=len(data), checksum=stored.info.checksum)
        shelf.store.replace(key, bytes(data))
        store = BreakingStore(shelf.store, [])
        monkeypatch.setattr(
            store, "head", lambda name, told=told: told if name == key else shelf.store.head(name), False
        )
        children = _gathered(event, shelf, client=store)
        assert [type(child.error) for child in children if child.index == -1] == [ChecksumMismatchError], place


def test_an_array_is_told_to_be_cut_off_wherever_that_is(shelf: Shelf) -> None:
    """Inside a text, a character, between two rows, before the last bracket; only rows that are whole come."""
    results = _map(shelf, 3, transformation="COMPACT")
    results.succeeded(3, {"text": "é" * 40})
    whole = json.dumps(results.rows["SUCCEEDED"], ensure_ascii=False).encode()
    ends = [
        len(json.dumps(results.rows["SUCCEEDED"][:count], ensure_ascii=False).encode()) - 1 for count in range(1, 5)
    ]
    for size in [*range(1, len(whole) - 1, 41), len(whole) - 1]:
        *rows, fault = _gathered(results.write(SUCCEEDED_0=whole[:size]), shelf)
        assert (fault.index, type(fault.error)) == (-1, InvalidDocumentError), size
        assert len(rows) <= sum(size >= end for end in ends)
        assert [row.error for row in rows] == [None] * len(rows)


def test_a_file_of_another_size_or_none_is_its_own_error(shelf: Shelf) -> None:
    """What the manifest says is compared before the file is read."""
    results = _map(shelf, 3, per_file=1)
    event = results.write()
    shelf.put(b"[1, 2]", "map/SUCCEEDED_0.json")
    shelf.store.delete("runs/map/SUCCEEDED_1.json")
    first, second, third = _gathered(event, shelf)
    assert isinstance(first.error, SizeMismatchError)
    assert isinstance(second.error, ArtifactNotFoundError)
    assert (first.index, second.index, third.index, third.output.result["rows"]) == (-1, -1, 0, 2)
    assert "the manifest says" in _error(first)


def test_a_download_that_breaks_is_taken_up_and_one_that_never_works_is_told(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows do not show the break; a store that is away is the fault of the files that it keeps."""
    monkeypatch.setattr("stepout.artifacts.reading.pinned_object.reconnect_delay", lambda *_: 0.0)
    event = _map(shelf, 5, lines=True).write()
    broken = BreakingStore(shelf.store, [None, 1_000, 0, 700])
    assert [child.index for child in _gathered(event, shelf, client=broken)] == list(range(5))
    away = BreakingStore(shelf.store, [None, 1_000, *[-1] * 99])
    *some, fault = _gathered(event, shelf, client=away)
    assert all(child.error is None for child in some)
    assert (fault.index, type(fault.error)) == (-1, StoreUnavailableError)


def test_a_manifest_that_is_none_is_raised_whatever_errors_do(shelf: Shelf) -> None:
    """So is a file outside the allow-list: nothing of the source can be read then."""
    shelf.put(b"{}", "map/manifest.json")
    with pytest.raises(InvalidDocumentError, match="no ResultWriter manifest"):
        _gathered(MANIFEST, shelf)
    listed = {"SUCCEEDED": [{"Key": "elsewhere/x", "Size": 1}]}
    shelf.put(json.dumps({"DestinationBucket": "results", "ResultFiles": listed}).encode(), "map/manifest.json")
    with pytest.raises(NotAllowedError, match="elsewhere"):
        _gathered(MANIFEST, shelf)


def test_a_manifest_that_lists_a_manifest_leads_no_further(shelf: Shelf) -> None:
    """As a result file it has one row, which is an error."""
    _map(shelf, 1).write(folder="inner")
    listed = {"SUCCEEDED": [{"Key": "runs/inner/manifest.json"}]}
    shelf.put(json.dumps({"DestinationBucket": "results", "ResultFiles": listed}).encode(), "map/manifest.json")
    (child,) = _gathered(MANIFEST, shelf)
    assert "no manifest is followed to the next" in _error(child)


def test_a_row_of_300_kib_and_rows_that_occur_twice_are_read(shelf: Shelf) -> None:
    """A row is no document that only one may be: each is a child."""
    results = _map(shelf, 1)
    results.succeeded(1, {"stepout": "output/1", "artifacts": {}, "result": {"text": "ü" * 150_000}})
    results.rows["SUCCEEDED"] *= 2
    children = _gathered(results.write(), shelf)
    assert [child.index for child in children] == [0, 1, 2, 3]
    assert [len(children[index].output.result["text"]) for index in (1, 3)] == [150_000] * 2


def test_a_million_children_end_at_the_budget(shelf: Shelf) -> None:
    """One by one, as they come; the error says what the budget is."""
    shelf.put(b"[" + b"0," * 999_999 + b"0]", "map/SUCCEEDED_0.json")
    listed = {"SUCCEEDED": [{"Key": "runs/map/SUCCEEDED_0.json", "Size": 2_000_001}]}
    shelf.put(json.dumps({"DestinationBucket": "results", "ResultFiles": listed}).encode(), "map/manifest.json")
    budget = stepout.ReadBudget(entries=1_000)
    children = stepout.gather(MANIFEST, allow=ALLOW, client=shelf.store, budget=budget)
    assert [next(children).output for _ in range(1_000)] == [0] * 1_000
    with pytest.raises(ReadBudgetError, match="1,001 entries, its budget is 1,000"):
        next(children)


def test_an_iterator_that_is_left_leaves_no_thread(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor do the files that were begun ahead."""
    monkeypatch.setattr(result_writer, "_BLOCK", 64)
    event = _map(shelf, 40, per_file=4).write()
    children = stepout.gather(event, allow=ALLOW, client=shelf.store)
    next(children)
    del children
    for thread in threading.enumerate():
        if thread.name == "stepout-ahead":
            thread.join(60)
            assert not thread.is_alive()


# Resuming ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lines", [False, True])
def test_any_position_gives_the_rest(shelf: Shelf, lines: bool) -> None:
    """With the same indices, and without a request for what came before: the range begins at the row's end."""
    results = _map(shelf, 7, per_file=3, lines=lines)
    results.failed(7)
    event = results.write()
    children = _gathered(event, shelf)
    for child in children:
        store = BreakingStore(shelf.store, [])
        rest = _gathered(event, shelf, client=store, resume=child.position)
        assert [each.index for each in rest] == list(range(child.index + 1, 8))
        begun = [start for start, _, _ in store.requests[1:]]
        assert any(start > 0 for start in begun) or (lines and child.row in {1, 3})  # or it was the file's last byte
        assert len(begun) <= len({each.file for each in rest} | {child.file})
    items = [task_output(shelf, index) for index in range(3)]
    middle = _gathered(items, shelf)[1]
    assert [each.index for each in _gathered(items, shelf, resume=middle.position)] == [2]


def test_a_changed_file_is_not_resumed(shelf: Shelf) -> None:
    """It is held to the ETag that it had; a position of another source is refused."""
    event = _map(shelf, 4).write()
    position = _gathered(event, shelf)[1].position
    shelf.put(shelf.store.read("runs/map/SUCCEEDED_0.json").replace(b"item", b"itfm", 1), "map/SUCCEEDED_0.json")
    (child,) = _gathered(event, shelf, resume=position)
    assert isinstance(child.error, ArtifactChangedError)
    for source, wrong in ((event, "item 3"), ([1], position), (event, ""), (event, position.replace("0", "9" * 5_000))):
        with pytest.raises(ConfigurationError, match="resume= is no position"):
            _gathered(source, shelf, resume=wrong)
    with pytest.raises(ConfigurationError, match="resume= is of another manifest: this one lists 1 files"):
        _gathered(event, shelf, resume="rows 2 7 0 1 0 - -")


@pytest.mark.parametrize(
    ("source", "options", "error"),
    [
        ([], {"on_error": "skip"}, ConfigurationError),
        ([], {"order": "size"}, ConfigurationError),
        ([], {"prefer": "first"}, ConfigurationError),
        ([], {"count": 3}, ConfigurationError),
        (MANIFEST, {"prefer": "latest"}, ConfigurationError),
        ("s3://results/runs/", {"prefer": "latest", "count": 3}, ConfigurationError),
        ("s3://results/runs/x.json", {}, InvalidDocumentError),
        ({"rows": 3}, {}, InvalidDocumentError),
        ("{", {}, InvalidDocumentError),
    ],
)
def test_a_wrong_call_is_refused_when_it_is_made(shelf: Shelf, source: Any, options: Any, error: Any) -> None:
    """Not when the first child is asked for."""
    with pytest.raises(error):
        stepout.gather(source, allow=ALLOW, client=shelf.store, **options)


def test_an_output_is_what_any_other_resolve_gives(shelf: Shelf) -> None:
    """It pickles, verifies, and reads through the same client."""
    (child,) = _gathered([task_output(shelf, 7)], shelf)
    assert isinstance(child.output, Output)
    assert child.output["mask"].read_bytes() == b"7"
