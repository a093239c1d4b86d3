"""``directory/2``: lines, index and tree digest, as values."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepout.artifacts import directory_listing
from stepout.artifacts.directory_listing import (
    STRETCH,
    STRETCH_LIMIT,
    EmptyFolder,
    ListingIndex,
    ListingLines,
    PathOrder,
    TreeDigest,
    parse_index,
)
from stepout.artifacts.listing import Entry
from stepout.schemas.errors import ConfigurationError, InvalidDocumentError, NotAllowedError
from stepout.schemas.pointer import Pointer

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMON = {"bucket": "results", "createdAt": "2026-11-28T12:00:00Z"}
SEGMENT = st.text(
    st.characters(codec="utf-8", exclude_characters="/\\", exclude_categories=["Cc", "Cs"]), min_size=1
).filter(lambda text: text not in {".", ".."} and text[1:2] != ":" and len(text.encode()) < 200)


def entry(path: str, *, executable: bool = False, key: str | None = None, media_type: str = "text/plain") -> Entry:
    """Return a file whose content is its path."""
    data = path.encode()
    pointer = Pointer(
        key=key or f"runs/out/{path}",
        size=len(data),
        checksum={"sha256": hashlib.sha256(data).hexdigest()},
        media_type=media_type,
        etag='"0123456789abcdef0123456789abcdef"',
        bucket="results",
        created_at=COMMON["createdAt"],
    )
    return Entry(path, pointer, executable)


def written(entries: Sequence[Entry | EmptyFolder]) -> tuple[bytes, ListingIndex]:
    """Return a listing's bytes and its index, read back."""
    lines = ListingLines(COMMON, "runs/out")
    data = lines.begin() + b"".join(map(lines.add, entries))
    start = len(data)
    data += lines.end()
    index = parse_index(data[start:], start, "s3://results/runs/out.jsonl")
    assert lines.annotations()["directory"]["index"] == {
        "start": start,
        "sha256": hashlib.sha256(data[start:]).hexdigest(),
    }
    return data, index


def read_back(data: bytes, index: ListingIndex) -> list[Entry | EmptyFolder]:
    """Return the entries of all stretches, each held to its digest."""
    found: list[Entry | EmptyFolder] = []
    for stretch in index.stretches:
        lines = data[stretch.start : stretch.stop]
        assert hashlib.sha256(lines).hexdigest() == stretch.sha256
        found += index.entries(lines)
    return found


@given(st.sets(st.lists(SEGMENT, min_size=1, max_size=3).map("/".join), max_size=30))
def test_a_listing_gives_back_its_entries(paths: set[str]) -> None:
    """Whatever files a listing names, its reader gets the same pointers back, in order."""
    ordered = sorted(path for path in paths if not any(other.startswith(f"{path}/") for other in paths))
    files = [entry(path, executable=len(path) % 2 == 0) for path in ordered]
    data, index = written(files)
    assert read_back(data, index) == files
    assert (index.files, index.size) == (len(files), sum(each.pointer.size for each in files))


def test_one_file_of_many_is_in_one_stretch() -> None:
    """The index leads to the one stretch that has a file, and to those below a folder."""
    files = [entry(f"{folder:02}/{number:04}.txt") for folder in range(20) for number in range(200)]
    data, index = written(files)
    assert len(index.stretches) > 4
    for each in files[::97]:
        stretch = index.holding(each.path)
        assert stretch is not None
        assert stretch.stop - stretch.start < STRETCH + 1000
        assert each in list(index.entries(data[stretch.start : stretch.stop]))
    below = [each for stretch in index.below("07/") for each in index.entries(data[stretch.start : stretch.stop])]
    assert {each.path for each in files if each.path.startswith("07/")} <= {each.path for each in below}
    assert len(below) < 2000


def test_a_listing_with_long_paths_stays_within_its_readers_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stretches get longer before the index is more than a reader takes; where that is not enough, none is written."""
    files = [entry(f"{'d' * 250}/{'e' * 250}/{number:04}") for number in range(1000)]
    usual = written(files)[1]
    monkeypatch.setattr(directory_listing, "INDEX_LIMIT", 5_000)
    data, index = written(files)
    assert 1 < len(index.stretches) < len(usual.stretches)
    assert max(stretch.stop - stretch.start for stretch in index.stretches) <= STRETCH_LIMIT
    assert read_back(data, index) == files
    monkeypatch.setattr(directory_listing, "INDEX_LIMIT", 1_000)
    with pytest.raises(ConfigurationError, match="too long for one listing"):
        written(files)


def test_a_file_costs_about_150_bytes() -> None:
    """What all files share is said once."""
    data, _index = written([entry(f"images/{number:06}.png", media_type="image/png") for number in range(1000)])
    assert len(data) / 1000 < 180


def test_what_does_not_follow_from_the_path_is_said() -> None:
    """Another key, another media type, a version and an empty folder come back."""
    files: list[Entry | EmptyFolder] = [
        entry("a.txt"),
        entry("b.txt", key="elsewhere/b", media_type="text/html"),
        EmptyFolder("logs"),
        entry("run", executable=True),
    ]
    data, index = written(files)
    assert read_back(data, index) == files
    assert b'"path":"logs/"' in data


@pytest.mark.parametrize(
    ("paths", "told"),
    [
        (["a", "a"], "more than once"),
        (["b", "a"], "sorts behind"),
        (["a", "a-b", "a/b"], "below a path that is a file"),
        (["a/", "a/b"], "listed as empty"),
        (["a/", "a/"], "more than once"),
    ],
)
def test_order_is_held(paths: list[str], told: str) -> None:
    """A path twice, out of order, or below a file is refused."""
    order = PathOrder("s3://results/x.jsonl")
    entries = [EmptyFolder(path[:-1]) if path.endswith("/") else entry(path) for path in paths]
    for each in entries[:-1]:
        order.take(each)
    with pytest.raises(InvalidDocumentError, match=told):
        order.take(entries[-1])


@pytest.mark.parametrize("path", ["../x", "/x", "a//b", "a/./b", "C:/x", "a\\b"])
def test_a_path_that_escapes_is_refused(path: str) -> None:
    """No path of a listing leads out of the folder."""
    _data, index = written([entry("a.txt")])
    with pytest.raises(NotAllowedError):
        list(index.entries(f'{{"path":{json.dumps(path)},"size":0,"sha256":"{"0" * 64}"}}'.encode()))


def test_the_tree_digest_is_of_the_content() -> None:
    """Where files lie does not change the digest; their content, names, mode and empty folders do."""

    def tree(*entries: Entry | EmptyFolder) -> str:
        digest = TreeDigest()
        for each in entries:
            digest.add(each)
        return digest.hexdigest()

    assert tree(entry("a")) == tree(entry("a", key="elsewhere", media_type="image/png"))
    others = [tree(entry("b")), tree(entry("a", executable=True)), tree(entry("a"), EmptyFolder("b")), tree()]
    assert len({tree(entry("a")), *others}) == 5


@pytest.mark.parametrize(
    "stretches", [[], [["a", 1, "x"]], [["a", 0, "x"], ["a", 50, "x"]], [["a", 0, "x"], ["b", 0, "y"]], [["a", 0]], [3]]
)
def test_an_index_that_contradicts_itself_is_refused(stretches: list[object]) -> None:
    """Stretches are sorted, of some bytes each, and begin with the listing."""
    from stepout.schemas import dump_json

    line = dump_json(
        {"files": 1, "folders": 0, "bytes": 1, "folder": "f", "tree": "", "mediaTypes": {}, "stretches": stretches}
    )
    with pytest.raises(InvalidDocumentError):
        parse_index(line, 100, "s3://results/x.jsonl")
