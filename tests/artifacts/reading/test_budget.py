"""What a small document may make a consumer fetch is bounded: requests, entries, bytes, duplicates counted."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from support.shelf import ALLOW, BreakingStore, Shelf

from stepout.artifacts.reading.budget import ReadBudget
from stepout.artifacts.resolve import read_result_writer, resolve_all, resolve_artifact, resolve_output
from stepout.schemas import TaskOutput
from stepout.schemas.errors import ArtifactTooLargeError, ConfigurationError, InvalidDocumentError, ReadBudgetError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DIRECTORY = "application/vnd.stepout.directory+json"


class Counting(BreakingStore):
    """A store that counts HEADs beside GETs."""

    def __init__(self, shelf: Shelf) -> None:
        super().__init__(shelf.store, [])
        self.heads = 0
        self._all = shelf.store

    def head(self, key: str, **pin: Any) -> Any:
        """Count, and describe."""
        self.heads += 1
        return self._all.head(key, **pin)

    @property
    def sent(self) -> int:
        """All requests so far."""
        return self.heads + len(self.requests)


def manifest_of(shelf: Shelf, name: str, files: list[str]) -> dict[str, Any]:
    """Store a manifest that lists these files; return the event that names it."""
    listed = [{"Key": f"runs/{file}"} for file in files]
    manifest = {"DestinationBucket": "results", "ResultFiles": {"SUCCEEDED": listed}}
    pointer = shelf.put(json.dumps(manifest).encode(), name)
    return {"ResultWriterDetails": {"Bucket": "results", "Key": pointer.key}}


def directory_of(shelf: Shelf, count: int, size: int, **settings: Any) -> Any:
    """Resolve a directory that names one object many times."""
    pointer = shelf.put(b"x" * size, "one").to_dict()
    files = [{"path": f"{index}", "pointer": pointer} for index in range(count)]
    listing = json.dumps({"stepout": "directory/1", "files": files}).encode()
    return resolve_artifact(shelf.put(listing, "dir.json", media_type=DIRECTORY), allow=ALLOW, **settings)


def test_a_manifest_that_lists_one_file_many_times_ends_at_the_budget(shelf: Shelf) -> None:
    """Every mention counts, also of the same file; the error names the budget and how to raise it."""
    shelf.put(b"[]", "f.json")
    event = manifest_of(shelf, "m.json", ["f.json"] * 5_000)
    store = Counting(shelf)
    with pytest.raises(ReadBudgetError, match=r"1,001 requests, its budget is 1,000.*budget=ReadBudget\(requests="):
        resolve_all(event, allow=ALLOW, client=store)
    assert store.sent <= 1_000
    assert resolve_all(event, allow=ALLOW, client=store, budget=ReadBudget(requests=20_000)) == {}


def test_manifests_inside_manifests_do_not_multiply(shelf: Shelf) -> None:
    """Nine files of nine, four levels deep, were 6,561 requests; now the second level is refused."""
    event: dict[str, Any] = {"rows": 1}
    for level in range(4):
        shelf.put(json.dumps([event]).encode(), f"f{level}.json")
        event = manifest_of(shelf, f"m{level}.json", [f"f{level}.json"] * 9)
    store = Counting(shelf)
    with pytest.raises(InvalidDocumentError, match="no manifest is followed to the next"):
        resolve_all(event, allow=ALLOW, client=store)
    assert store.sent <= 2 + 2 * 9  # the files of the first level are begun ahead


@pytest.mark.parametrize("kind", ["references", "manifests", "foreign"])
def test_one_budget_counts_everything_that_a_document_leads_to(shelf: Shelf, kind: str) -> None:
    """Many ResultWriters, many spilled outputs, many references of others: each is a request or two."""
    whole = shelf.put(TaskOutput().to_json().encode(), "whole.json", media_type="application/json")
    one: dict[str, Any] = {
        "references": manifest_of(shelf, "m.json", []),
        "manifests": {"stepout": "output/1", "manifest": whole.to_dict()},
        "foreign": {"@middy-store": whole.url},
    }[kind]
    store = Counting(shelf)
    with pytest.raises(ReadBudgetError, match="8 requests"):
        resolve_all([one] * 100, allow=ALLOW, client=store, budget=ReadBudget(requests=7))
    assert store.sent <= 7
    assert resolve_all([one] * 3, allow=ALLOW, client=store, budget=ReadBudget(requests=7)) is not None


def test_children_and_their_bytes_are_counted(shelf: Shelf) -> None:
    """Over all files of a manifest, whichever function reads it."""
    shelf.put(json.dumps([{}] * 10).encode(), "f.json")
    event = manifest_of(shelf, "m.json", ["f.json"] * 3)
    reads: list[Callable[..., Any]] = [resolve_all, lambda *args, **named: list(read_result_writer(*args, **named))]
    for read in reads:
        with pytest.raises(ReadBudgetError, match="30 entries, its budget is 29"):
            read(event, allow=ALLOW, client=shelf.store, budget=ReadBudget(entries=29))
        with pytest.raises(ReadBudgetError, match="bytes, its budget is 100"):
            read(event, allow=ALLOW, client=shelf.store, budget=ReadBudget(bytes=100))
        read(event, allow=ALLOW, client=shelf.store, budget=ReadBudget(entries=30))


def test_a_spilled_output_counts_its_bytes_before_it_is_fetched(shelf: Shelf) -> None:
    """By the size that its pointer names."""
    whole = shelf.put(TaskOutput().to_json().encode(), "whole.json", media_type="application/json")
    store = Counting(shelf)
    with pytest.raises(ReadBudgetError, match="bytes"):
        resolve_output(
            {"stepout": "output/1", "manifest": whole.to_dict()}, allow=ALLOW, client=store, budget=ReadBudget(bytes=9)
        )
    assert store.sent == 0


@pytest.mark.parametrize("setting", [{"max_size": 999}, {"budget": ReadBudget(bytes=999)}])
def test_a_directory_may_not_multiply_one_object(shelf: Shelf, tmp_path: Path, setting: dict[str, Any]) -> None:
    """A thousand names of one object are a thousand objects: refused before the first file is asked for."""
    store = Counting(shelf)
    artifact = directory_of(shelf, 1_000, 1, client=store, **setting)
    for read in (artifact.verify, lambda: artifact.download(tmp_path / "d")):
        before = store.sent
        with pytest.raises(ArtifactTooLargeError, match="1,000 bytes, its budget is 999"):
            read()
        assert store.sent <= before + 2  # the listing, which verify() reads as an artifact first
    assert not (tmp_path / "d").exists()
    assert len(artifact.files()) == 1_000  # names alone cost nothing further


def test_a_budget_that_was_passed_is_a_directorys_whatever_max_size_says(shelf: Shelf, tmp_path: Path) -> None:
    """``max_size`` is about memory; whoever passes a budget has said what may be fetched."""
    artifact = directory_of(shelf, 3, 5, client=shelf.store, max_size=5, budget=ReadBudget(bytes=15))
    assert len(list(artifact.download(tmp_path / "d").iterdir())) == 3
    assert len(list(artifact.download(tmp_path / "e").iterdir())) == 3  # each read has a budget of its own


def test_the_reader_keeps_the_writers_limit_of_files(shelf: Shelf) -> None:
    """A listing of more files than any writer makes is invalid."""
    with pytest.raises(InvalidDocumentError, match="10,001 files; writers kept to 10,000"):
        directory_of(shelf, 10_001, 1, client=shelf.store).files()
    with pytest.raises(ReadBudgetError, match="3 entries"):
        directory_of(shelf, 3, 1, client=shelf.store, budget=ReadBudget(entries=2)).files()


def test_no_listing_leads_to_another(shelf: Shelf) -> None:
    """Directories in directories would multiply without end."""
    inner = shelf.put(b'{"stepout": "directory/1", "files": []}', "inner.json", media_type=DIRECTORY).to_dict()
    listing = {"stepout": "directory/1", "files": [{"path": "a", "pointer": inner}]}
    outer = shelf.put(json.dumps(listing).encode(), "outer.json", media_type=DIRECTORY)
    with pytest.raises(InvalidDocumentError, match="no listing leads to another"):
        resolve_artifact(outer, allow=ALLOW, client=shelf.store).verify()


@pytest.mark.parametrize("setting", [{"requests": 0}, {"entries": True}, {"bytes": "1"}, {"bytes": -1}])
def test_a_budget_that_cannot_be_meant_is_refused(setting: dict[str, Any]) -> None:
    """Whole numbers from 1 on; and nothing but a budget is one."""
    with pytest.raises(ConfigurationError, match="expected a whole number"):
        ReadBudget(**setting)
    with pytest.raises(ConfigurationError, match="expected a ReadBudget"):
        resolve_output({}, allow=ALLOW, budget=1_000)  # type: ignore[arg-type] # that is the fault under test
