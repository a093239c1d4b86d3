"""Looks into directories: the tree of their files, from the listing alone."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from support.looks import Bench
from support.shelf import ALLOW

from stepout.artifacts.directory_listing import EmptyFolder, ListingLines
from stepout.artifacts.listing import Entry
from stepout.artifacts.media_types import DIRECTORY
from stepout.page.budget import PageBudget
from stepout.page.insides import tree
from stepout.page.insides.tree import LINES
from stepout.page.model import TreeEntry, TreeInside
from stepout.schemas import Pointer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from stepout.page.insides import Look


def _inside(look: Look) -> TreeInside:
    assert isinstance(look.inside, TreeInside), look
    return look.inside


def _lines(entries: Iterable[TreeEntry]) -> Iterator[TreeEntry]:
    for entry in entries:
        yield entry
        yield from _lines(entry.entries)


def _listing(bench: Bench, entries: Iterable[Entry | EmptyFolder]) -> Pointer:
    """Put a listing as ``put_directory`` writes it, of files that nobody wrote."""
    lines = ListingLines({"bucket": "results"}, "runs/d")
    data = b"".join([lines.begin(), *map(lines.add, entries), lines.end()])
    return bench.shelf.put(data, "d.jsonl", media_type=DIRECTORY, annotations=lines.annotations())


def _entry(path: str, size: int = 10) -> Entry:
    key = f"runs/d/{path}"
    return Entry(path, Pointer(bucket="results", key=key, size=size, checksum={"sha256": "0" * 64}, etag='"e"'))


def test_a_directory_is_a_tree(tmp_path: Path) -> None:
    """Folders first, each with the number and the bytes of all that is below; no file is read."""
    for path, size in {"b.txt": 3, "a/one.bin": 10, "a/deep/two.bin": 20, "z/three": 1}.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(b"x" * size)
    (tmp_path / "empty").mkdir()
    bench = Bench()
    look = bench.look(bench.artifacts.put_directory("d", tmp_path))
    deep = TreeEntry(name="deep/", size=20, entries=(TreeEntry(name="two.bin", size=20),))
    assert look.inside == TreeInside(
        files=4,
        size=34,
        entries=(
            TreeEntry(name="a/", size=30, files=2, entries=(deep, TreeEntry(name="one.bin", size=10))),
            TreeEntry(name="empty/", size=0, files=0),
            TreeEntry(name="z/", size=1, files=1, entries=(TreeEntry(name="three", size=1),)),
            TreeEntry(name="b.txt", size=3),
        ),
    )
    assert (look.verified, look.problem) == ("part", None)
    assert "none of its files" in look.verified_note
    assert bench.budget.spent().requests == 1


def test_a_directory_of_many_files_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its number of files and bytes are said; of its listing the beginning is read."""
    monkeypatch.setattr(tree, "READ", 300)
    bench = Bench()
    pointer = _listing(bench, (_entry(f"f{index:06}") for index in range(5_000)))
    look = bench.look(pointer)
    inside = _inside(look)
    assert (inside.files, inside.size, inside.cut) == (5_000, 50_000, True)
    assert bench.budget.spent().bytes_read < pointer.size
    assert 0 < len(list(_lines(inside.entries))) <= LINES
    assert (look.verified, look.problem) == ("part", None)


def test_no_folder_hides_the_others() -> None:
    """Of each a few lines are shown, those near the root first."""
    bench = Bench()
    entries = [_entry(f"{folder}/{index:04}/file") for folder in "abc" for index in range(300)]
    inside = _inside(bench.look(_listing(bench, entries)))
    assert [(entry.name, entry.files) for entry in inside.entries] == [("a/", 300), ("b/", 300), ("c/", 300)]
    assert all(entry.entries for entry in inside.entries)
    assert inside.cut
    assert len(list(_lines(inside.entries))) <= LINES


def test_a_deep_directory_is_cut() -> None:
    """Hundreds of folders in one another are no error."""
    bench = Bench()
    inside = _inside(bench.look(_listing(bench, [_entry("x/" * 450 + "f")])))
    assert (inside.files, inside.cut) == (1, True)


def test_a_listing_beyond_the_budget_is_not_read_to_its_end() -> None:
    """The card says so; what the index says is shown."""
    bench = Bench()
    pointer = _listing(bench, (_entry(f"f{index:06}") for index in range(5_000)))
    look = bench.look(pointer, PageBudget(bytes=pointer.size // 2))
    assert look.inside == TreeInside(files=5_000, size=50_000, entries=(), cut=True)
    assert "bytes" in look.verified_note
    look = bench.look(replace(pointer, annotations=None), PageBudget(bytes=pointer.size))
    assert (look.inside, look.problem, bench.budget.spent().requests) == (None, None, 0)


def test_a_file_outside_the_allow_list_is_a_problem() -> None:
    """The listing leads there, and nothing of it is shown."""
    bench = Bench()
    entry = Entry("f", Pointer(bucket="elsewhere", key="k", size=1, checksum={"sha256": "0" * 64}, etag='"e"'))
    lines = ListingLines({"bucket": "elsewhere"}, "")
    data = b"".join([lines.begin(), lines.add(entry), lines.end()])
    look = bench.look(bench.shelf.put(data, "d.jsonl", media_type=DIRECTORY), allow=ALLOW)
    assert look.inside is None
    assert look.problem is not None
    assert look.problem.error in ("Stepout.NotAllowed", "Stepout.InvalidDocument")


@pytest.mark.parametrize("data", [b"", b"{}\n", b'{"stepout": "directory/2"}\n{"path": "a"}\n'])
def test_what_is_no_listing_is_a_problem(data: bytes) -> None:
    """Though its bytes are those that were written."""
    bench = Bench()
    look = bench.look(bench.shelf.put(data, "d.jsonl", media_type=DIRECTORY))
    assert look.inside is None
    assert look.problem is not None
