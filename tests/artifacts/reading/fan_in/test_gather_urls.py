"""Children of an array job, and of a prefix of commit records: read by URL, several at once."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from support.map_results import PARENT, task_output
from support.seaweed import ADMIN
from support.shelf import ALLOW, BreakingStore, Shelf

import stepout
from stepout.artifacts.reading.fan_in.children import _EndedIndices
from stepout.artifacts.store import Lists
from stepout.schemas import RunIdentity
from stepout.schemas.errors import (
    ArtifactNotFoundError,
    ConfigurationError,
    InvalidDocumentError,
    NotAllowedError,
    ReadBudgetError,
    TaskFailedError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.seaweed import Seaweed

    from stepout.artifacts.reading.fan_in.children import Child
    from stepout.artifacts.store import Store
    from stepout.artifacts.store_writes import ListedObject

URL = "s3://results/runs/out/Mask.json"
PREFIX = "s3://results/runs/Segment/"


def _gathered(source: Any, shelf: Shelf, **options: Any) -> list[Child]:
    return list(stepout.gather(source, **{"allow": ALLOW, "client": shelf.store, **options}))


def _document(value: Any) -> bytes:
    return json.dumps(value).encode()


# Array jobs ----------------------------------------------------------------------------------------------------------


def _array(shelf: Shelf, count: int = 40) -> None:
    for index in range(count):
        shelf.put(_document(task_output(shelf, index)), f"out/Mask.json/{index}")


@pytest.mark.parametrize("order", ["arrival", "index"])
def test_children_of_an_array_job_are_read_side_by_side(shelf: Shelf, order: Any) -> None:
    """A failed one, a missing one and one of another run are errors of their own; the rest is there."""
    _array(shelf)
    for gone in (3, 7, 9):
        shelf.store.delete(f"runs/out/Mask.json/{gone}")
    shelf.put(_document({"error": "Demo.Error", "cause": "dark"}), "out/Mask.json/3.0-a1b2.failure.json")
    shelf.put(b"[]", "out/Mask.json/9")
    children = _gathered(URL, shelf, count=40, order=order)
    if order == "index":
        assert [child.index for child in children] == list(range(40))
    found = {child.index: child for child in children}
    assert sorted(found) == list(range(40))
    assert {index for index, child in found.items() if child.error is not None} == {3, 7, 9}
    assert isinstance(found[3].error, TaskFailedError)
    assert found[3].error.error == "Demo.Error"
    assert (found[7].status, type(found[7].error)) == ("PENDING", ArtifactNotFoundError)
    assert isinstance(found[9].error, InvalidDocumentError)
    assert found[39].output["mask"].read_bytes() == b"39"
    assert found[39].file == f"{URL}/39"


def test_children_of_an_array_job_are_resumed_whatever_their_order(shelf: Shelf) -> None:
    """The position says which ones have come, and only the others are asked for."""
    _array(shelf)
    children = stepout.gather(URL, count=40, allow=ALLOW, client=shelf.store)
    seen = [next(children) for _ in range(17)]
    store = BreakingStore(shelf.store, [])
    rest = _gathered(URL, shelf, count=40, client=store, resume=seen[-1].position)
    assert sorted(child.index for child in [*seen, *rest]) == list(range(40))
    assert len(store.requests) == 23


def test_positions_of_an_array_job_are_ranges() -> None:
    """Of what has come, in whatever order."""
    ended = _EndedIndices(None)
    told = [ended.add(index) for index in (3, 1, 2, 9, 8, 0)]
    assert told[1] == "array 1-1,3-3"
    assert told[2:] == ["array 1-3", "array 1-3,9-9", "array 1-3,8-9", "array 0-3,8-9"]
    again = _EndedIndices(told[-1])
    assert [index for index in range(11) if index not in again] == [4, 5, 6, 7, 10]


def test_what_says_nothing_of_a_child_is_raised(shelf: Shelf) -> None:
    """A URL outside the allow-list is every child's; a wrong count is refused at once."""
    with pytest.raises(NotAllowedError):
        _gathered("s3://results/other/Mask.json", shelf, count=2)
    with pytest.raises(ConfigurationError, match="count=0"):
        stepout.gather(URL, count=0, allow=ALLOW, client=shelf.store)


# Commit records ------------------------------------------------------------------------------------------------------


def _record(shelf: Shelf, folder: str, index: int) -> None:
    shelf.put(_document(task_output(shelf, index)), f"Segment/{folder}/_output.json")
    shelf.put(b"x", f"Segment/{folder}/mask.bin")


def test_each_record_below_a_prefix_is_a_child(shelf: Shelf) -> None:
    """In the order of keys, of any state and item; artifacts beside it are passed over, and so are other documents."""
    for index in range(300):
        _record(shelf, f"7f3c/{index:03d}/Mask/0-ab{index}", index)
    for other in ("0-ab0/a_output.json", "0-ab0/tiles/_output.json", "_output.json"):
        shelf.put(b"{}", f"Segment/7f3c/000/Mask/{other}")
    children = _gathered(PREFIX, shelf, execution=PARENT)
    assert [(child.index, child.output.result["rows"], child.error) for child in children] == [
        (index, index, None) for index in range(300)
    ]
    assert children[5].file == f"{PREFIX}7f3c/005/Mask/0-ab5/_output.json"
    rest = _gathered(PREFIX, shelf, resume=children[297].position)
    assert [child.index for child in rest] == [298, 299]


def test_several_records_of_one_child_are_its_error(shelf: Shelf) -> None:
    """Unless the latest is asked for: by the store's clock, whatever the attempts' numbers are."""
    _record(shelf, "7f3c/Mask/0-aaaa", 0)
    _record(shelf, "7f3c/Mask/3/0-bbbb", 1)  # lies between the attempts of the other task
    _record(shelf, "7f3c/Mask/9-cccc", 2)
    _record(shelf, "7f3c/Mask/1-dddd", 3)
    twice, once = _gathered(PREFIX, shelf)
    assert isinstance(twice.error, InvalidDocumentError)
    assert len(twice.error.problems) == 3
    assert "prefer=" in str(twice.error)
    assert once.output.result["rows"] == 1
    latest, once = _gathered(PREFIX, shelf, prefer="latest")
    assert (latest.output.result["rows"], once.output.result["rows"]) == (3, 1)
    assert latest.file == f"{PREFIX}7f3c/Mask/1-dddd/_output.json"


def test_the_attempts_number_decides_within_a_second_of_the_clock(shelf: Shelf) -> None:
    """S3 tells whole seconds."""

    class Coarse(BreakingStore):
        def iter_objects(self, prefix: str) -> Iterator[ListedObject]:
            for each in shelf.store.iter_objects(prefix):
                yield replace(each, last_modified="2026-01-01T00:00:00+00:00")

    _record(shelf, "7f3c/Mask/10-aaaa", 10)
    _record(shelf, "7f3c/Mask/9-bbbb", 9)
    (latest,) = _gathered(PREFIX, shelf, client=Coarse(shelf.store, []), prefer="latest")
    assert latest.output.result["rows"] == 10


@pytest.mark.parametrize("own", [True, False], ids=["with its record", "before its record"])
def test_a_file_of_a_directory_is_no_record_whatever_it_is_called(shelf: Shelf, tmp_path: Path, own: bool) -> None:
    """It says which record is its task's; a state that is called like an artifact has records all the same."""
    run = RunIdentity(execution="arn:aws:states:eu-west-1:123456789012:execution:Segment:7", state="Mask", nonce="ab")
    artifacts = stepout.ArtifactManager("results", "runs", run=run, client=shelf.store, commit_record=True)
    for folder in ("2024", "1-cd"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "_output.json").write_bytes(_document(task_output(shelf, 5)))
    pointer = artifacts.put_directory("data", tmp_path)
    if own:
        artifacts.put_record({"stepout": "output/1", "artifacts": {"data": pointer.to_dict()}})
    _record(shelf, "7/data/1-cd", 1)
    children = _gathered(PREFIX, shelf, prefer="latest")
    names = ["7/Mask/0-ab"] * own + ["7/data/1-cd"]
    assert [child.file for child in children] == [f"{PREFIX}{name}/_output.json" for name in names]
    rest = _gathered(PREFIX, shelf, resume=children[0].position)
    assert [child.index for child in rest] == [child.index for child in children[1:]]


def test_a_record_that_is_none_is_its_own_error(shelf: Shelf) -> None:
    """What is no JSON, no output, or another run's."""
    for index, data in enumerate((b"{", b"[]", b'{"rows": 1}', b'{"stepout": "output/1", "artifacts": {}}')):
        shelf.put(data, f"Segment/7f3c/{index}/Mask/0-ab/_output.json")
    _record(shelf, "7f3c/4/Mask/0-ab", 4)
    children = _gathered(PREFIX, shelf, execution=PARENT)
    assert [child.error is None for child in children] == [False, False, False, False, True]
    assert all(child.file in str(child.error) for child in children[:4] if child.file is not None)


def test_records_are_counted_and_held_to_the_allow_list(shelf: Shelf) -> None:
    """Before anything is requested, and before more is read."""
    for index in range(4):
        _record(shelf, f"7f3c/{index}/Mask/0-ab", index)
    with pytest.raises(ReadBudgetError, match="4 entries, its budget is 3"):
        _gathered(PREFIX, shelf, budget=stepout.ReadBudget(entries=3))
    with pytest.raises(NotAllowedError):
        _gathered("s3://results/", shelf)


def test_more_than_a_thousand_objects_are_listed(store: Store) -> None:
    """Every store goes on behind a page, in the order of keys."""
    from stepout.artifacts.store_writes import WriteOptions

    names = [f"many/{index:04d}" for index in range(1_005 if "Memory" in type(store).__name__ else 12)]
    for name in names:
        checksum = {"sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}
        store.put(name, [memoryview(b"")], checksum=checksum, options=WriteOptions())
    assert isinstance(store, Lists)
    found = list(store.iter_objects("many/"))
    assert [each.key for each in found] == names
    assert {each.size for each in found} == {0}
    assert list(store.iter_objects("none/")) == []


def test_pages_of_s3_follow_each_other() -> None:
    """By the token of the page before."""
    from datetime import UTC, datetime

    from stepout.artifacts.s3.store import S3Store

    class Client:
        """A client of a bucket whose pages hold one object."""

        asked: list[str | None]

        def list_objects_v2(self, **request: Any) -> dict[str, Any]:
            """Return one page."""
            number = int(request.get("ContinuationToken", "0"))
            found = {
                "Key": f"k{number}",
                "Size": number,
                "ETag": '"e"',
                "LastModified": datetime(2026, 1, 1, tzinfo=UTC),
            }
            following = {"IsTruncated": True, "NextContinuationToken": str(number + 1)}
            return {"Contents": [found], **(following if number < 2 else {"IsTruncated": False})}

    found = list(S3Store(Client(), "results").iter_objects("k"))
    assert [(each.key, each.size, each.last_modified) for each in found] == [
        (f"k{number}", number, "2026-01-01T00:00:00+00:00") for number in range(3)
    ]


def test_a_client_of_our_own_reads_from_a_real_server(
    seaweed: Seaweed, seaweed_client: Any, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A result file of several blocks, and records: the store that stepout builds has what both need."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", seaweed.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ADMIN.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", ADMIN.secret_key)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    rows = [{"stepout": "output/1", "artifacts": {}, "result": {"row": row, "text": "x" * 1_000}} for row in range(900)]
    manifest = {"DestinationBucket": bucket, "ResultFiles": {"SUCCEEDED": [{"Key": "map/SUCCEEDED_0.json"}]}}
    for key, value in (
        ("map/SUCCEEDED_0.json", rows),
        ("map/manifest.json", manifest),
        ("runs/Mask/0-ab/_output.json", rows[0]),
    ):
        seaweed_client.put_object(Bucket=bucket, Key=key, Body=_document(value))
    allow = [f"s3://{bucket}/"]
    children = list(stepout.gather(f"s3://{bucket}/map/manifest.json", allow=allow))
    assert [child.output.result["row"] for child in children] == list(range(900))
    rest = stepout.gather(f"s3://{bucket}/map/manifest.json", allow=allow, resume=children[700].position)
    assert [child.index for child in rest] == list(range(701, 900))
    (record,) = stepout.gather(f"s3://{bucket}/runs/", allow=allow)
    assert record.output.result["row"] == 0
