"""``stepout.artifacts.dataset_manifest``: one parser for a document that may come from anyone."""

from __future__ import annotations

import base64
import copy
import json
from typing import Any

import pytest

from stepout.artifacts.dataset_manifest import (
    DATASET_FILES_LIMIT,
    DatasetFile,
    DatasetManifest,
    column_fault,
    is_dataset,
    parse_manifest,
    partition_segment,
    value_fault,
)
from stepout.artifacts.listing import size_of_files
from stepout.schemas import Pointer
from stepout.schemas.errors import InvalidDocumentError, NotAllowedError

URL = "s3://results/runs/m/e/s/0-n/days.json"
SCHEMA = b"\xff\xff\xff\xff\x10\x00\x00\x00" + bytes(16)


def pointer(key: str, **changes: Any) -> Pointer:
    """Return a Parquet file's pointer."""
    settings = {"size": 100, "checksum": {"sha256": "0" * 64}, "media_type": "application/vnd.apache.parquet"}
    return Pointer(bucket="results", key=key, **{**settings, **changes})


def a_file(day: str | None, number: int = 0, **changes: Any) -> DatasetFile:
    """Return one file of one day."""
    path = f"{partition_segment('day', day)}/part-{number:05}.parquet"
    settings = {"pointer": pointer(f"runs/days/{path}"), "rows": 5, "partition": {"day": day}}
    return DatasetFile(path=path, **{**settings, **changes})


def manifest(*files: DatasetFile) -> DatasetManifest:
    """Return the manifest of some files."""
    return DatasetManifest(schema=SCHEMA, columns=("day",), rows=sum(file.rows for file in files), files=files)


def document(*files: DatasetFile) -> dict[str, Any]:
    """Return its JSON."""
    found: dict[str, Any] = json.loads(manifest(*files).to_bytes())
    return found


def kinds(value: object) -> set[tuple[str, str]]:
    """Return the places and kinds of everything that is wrong with a document."""
    with pytest.raises(InvalidDocumentError) as caught:
        parse_manifest(json.dumps(value).encode(), URL)
    assert URL in str(caught.value)
    return {(problem.location, problem.kind) for problem in caught.value.problems}


def test_a_manifest_comes_back_as_it_was() -> None:
    """What ``to_bytes`` writes, ``parse_manifest`` reads, with null, statistics and escaped values."""
    whole = manifest(
        a_file("2026-01-01", statistics={"id": {"min": 0, "max": 4}, "at": {"min": "2026-01-01", "max": "2026-01-02"}}),
        a_file(None),
        a_file("a/b=c%\N{GRINNING FACE}"),
    )
    assert parse_manifest(whole.to_bytes(), URL) == whole
    assert b" " not in whole.to_bytes().replace(b"a/b", b"")
    assert [file.path.split("/")[0] for file in whole.files[1:]] == [
        "day=__HIVE_DEFAULT_PARTITION__",
        "day=a%2Fb%3Dc%25%F0%9F%98%80",
    ]
    empty = DatasetManifest(schema=SCHEMA, columns=(), rows=0, files=())
    assert parse_manifest(empty.to_bytes(), URL) == empty


def test_all_problems_are_told_at_once_and_without_values() -> None:
    """One error has every finding, with its place; no text of the document is in it."""
    bad = document(a_file("secret-1"), a_file("secret-2"), a_file("secret-3"), a_file("secret-4"))
    bad["schema"] = "secret!"
    bad["partitioning"]["flavor"] = "secret"
    bad["files"][0]["partition"] = {"day": 5}
    bad["files"][1]["pointer"]["mediaType"] = "text/secret"
    bad["files"][2]["rows"] = -1
    bad["files"][3]["statistics"] = {"id": {"min": 1, "max": "secret"}}
    with pytest.raises(InvalidDocumentError) as caught:
        parse_manifest(json.dumps(bad).encode(), URL)
    assert {problem.location for problem in caught.value.problems} == {
        "$.schema",
        "$.partitioning.flavor",
        "$.files[0].partition.day",
        "$.files[1].pointer.mediaType",
        "$.files[2].rows",
        "$.files[3].statistics.id",
    }
    assert "secret" not in str(caught.value) + str(caught.value.problems)


FILE = "$.files[0]"
WRONG: list[tuple[str, Any, tuple[str, str]]] = [
    ("stepout", "dataset/2", ("$", "version")),
    ("files", {}, ("$.files", "type")),
    ("files.0", "text", (FILE, "type")),
    ("schema", None, ("$.schema", "type")),
    ("schema", "?", ("$.schema", "encoding")),
    ("schema", base64.b64encode(b"no message").decode(), ("$.schema", "value")),
    ("partitioning", [], ("$.partitioning", "type")),
    ("partitioning.columns", "day", ("$.partitioning.columns", "type")),
    ("partitioning.columns", ["day", "day"], ("$.partitioning.columns[1]", "name")),
    ("partitioning.columns", ["a/b"], ("$.partitioning.columns[0]", "name")),
    ("partitioning.columns", ["day", "hour"], (f"{FILE}.partition.hour", "missing")),
    ("partitioning.columns", [], (f"{FILE}.partition.day", "unexpected")),
    ("rows", 6, ("$.rows", "value")),
    ("rows", "5", ("$.rows", "type")),
    ("files.0.rows", 1.5, (f"{FILE}.rows", "type")),
    ("files.0.path", 5, (f"{FILE}.path", "type")),
    ("files.0.path", "day=other/part-00000.parquet", (f"{FILE}.path", "value")),
    ("files.0.path", "part-00000.parquet", (f"{FILE}.path", "value")),
    ("files.0.path", "day=x/more/part-00000.parquet", (f"{FILE}.path", "value")),
    ("files.0.partition", None, (f"{FILE}.partition", "type")),
    ("files.0.partition.day", None, (f"{FILE}.path", "value")),
    ("files.0.partition.day", 5, (f"{FILE}.partition.day", "type")),
    ("files.0.partition.day", "", (f"{FILE}.partition.day", "value")),
    ("files.0.partition.day", "a\0b", (f"{FILE}.partition.day", "value")),
    ("files.0.partition.day", "x" * 1000, (f"{FILE}.partition.day", "value")),
    ("files.0.partition.day", "__HIVE_DEFAULT_PARTITION__", (f"{FILE}.partition.day", "value")),
    ("files.0.pointer", None, (f"{FILE}.pointer", "type")),
    ("files.0.pointer.size", "5", (f"{FILE}.pointer.size", "type")),
    ("files.0.pointer.mediaType", "text/csv", (f"{FILE}.pointer.mediaType", "value")),
    ("files.0.pointer.mediaType", "application/vnd.stepout.dataset+json", (f"{FILE}.pointer.mediaType", "value")),
    ("files.0.pointer.annotations", {"parquet": {"rows": 6}}, (f"{FILE}.pointer.annotations.parquet.rows", "value")),
    ("files.0.statistics", [], (f"{FILE}.statistics", "type")),
    ("files.0.statistics", {"id": 5}, (f"{FILE}.statistics.id", "type")),
    ("files.0.statistics", {"id": {"min": 5}}, (f"{FILE}.statistics.id", "type")),
    ("files.0.statistics", {"id": {"min": None, "max": None}}, (f"{FILE}.statistics.id", "type")),
    ("files.0.statistics", {"id": {"min": [1], "max": [2]}}, (f"{FILE}.statistics.id", "type")),
    ("files.0.statistics", {"id": {"min": 1, "max": True}}, (f"{FILE}.statistics.id", "type")),
    ("files.0.statistics", {"id": {"min": 2, "max": 1}}, (f"{FILE}.statistics.id", "value")),
    ("files.0.statistics", {"day": {"min": "a", "max": "b"}}, (f"{FILE}.statistics.day", "unexpected")),
]


@pytest.mark.parametrize(("place", "value", "problem"), WRONG)
def test_a_member_that_is_wrong_is_named(place: str, value: Any, problem: tuple[str, str]) -> None:
    """Each kind of damage is a problem of its own kind at its own place."""
    bad: Any = copy.deepcopy(document(a_file("x")))
    *way, last = [int(step) if step.isdigit() else step for step in place.split(".")]
    inner = bad
    for step in way:
        inner = inner[step]
    inner[last] = value
    assert problem in kinds(bad)


@pytest.mark.parametrize("name", ["path", "rows", "partition", "pointer"])
def test_a_file_lacks_a_member(name: str) -> None:
    """Only ``statistics`` may be absent."""
    bad = document(a_file("x"))
    del bad["files"][0][name]
    assert kinds(bad) == {(f"{FILE}.{name}", "missing")}


@pytest.mark.parametrize(
    "path", ["../x.parquet", "/day=x/a.parquet", "day=x/../../a", "day=x\\a", "day=x/a\0b", "C:/a", "day=x//a", ""]
)
def test_a_path_that_escapes_is_not_allowed(path: str) -> None:
    """As in a directory's listing, whatever else is wrong."""
    bad = document(a_file("x"))
    bad["files"][0]["path"] = path
    with pytest.raises(NotAllowedError, match=r"\$\.files\[0\]\.path"):
        parse_manifest(json.dumps(bad).encode(), URL)


def test_a_file_that_is_listed_twice() -> None:
    """One path twice, and one object under two paths, whose rows would count twice."""
    same = manifest(a_file("x"), a_file("x", pointer=pointer("other")))
    assert kinds(json.loads(same.to_bytes())) == {("$.files[1].path", "duplicate")}
    twice = manifest(a_file("x"), a_file("x", 1, pointer=a_file("x").pointer))
    assert kinds(json.loads(twice.to_bytes())) == {("$.files[1].pointer", "duplicate")}
    versions = manifest(
        a_file("x", pointer=pointer("k", version_id="1")), a_file("x", 1, pointer=pointer("k", version_id="2"))
    )
    assert parse_manifest(versions.to_bytes(), URL) == versions


def test_a_file_that_is_anothers_folder() -> None:
    """A file ``day=x`` contradicts its partition, and cannot be downloaded beside ``day=x/…``."""
    bad = document(a_file("x"), a_file("x", 1))
    bad["files"][1]["path"] = "day=x"
    assert ("$.files[1].path", "duplicate") in kinds(bad)


def test_too_many_files() -> None:
    """As for a directory's listing: a manifest is read whole, and each file is a request."""
    bad = document()
    bad["files"] = [{}] * (DATASET_FILES_LIMIT + 1)
    assert kinds(bad) == {("$.files", "size")}


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b'{"stepout": "directory/1", "files": []}', b"\xff"])
def test_what_is_no_manifest(data: bytes) -> None:
    """Other JSON, and no JSON at all."""
    with pytest.raises(InvalidDocumentError):
        parse_manifest(data, URL)


def test_names_and_values_that_no_path_can_hold() -> None:
    """The rules that a writer asks before it sends are those that the parser holds."""
    assert [column_fault(name) is None for name in ("day", "größe", "a b-c.d_e")] == [True] * 3
    assert [column_fault(name) is None for name in ("", "_day", ".day", "a/b", "a=b", "a%", "a\0", "a\\b")] == [
        False
    ] * 8
    assert [value_fault("day", value) is None for value in (None, "a/b", "=", "%", "\N{GRINNING FACE}")] == [True] * 5
    assert value_fault("day", "\ud800") == "it is no valid Unicode"


def test_a_pointer_that_names_a_dataset() -> None:
    """By its media type alone; its size is what the writer says of its files."""
    named = pointer("days.json", media_type="application/vnd.stepout.Dataset+json; charset=utf-8")
    assert (is_dataset(named), is_dataset(pointer("a.parquet"))) == (True, False)
    assert size_of_files(named) is None
    assert size_of_files(pointer("days.json", media_type=named.media_type, annotations={"bytes": 7})) == 7
