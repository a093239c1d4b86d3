"""Directories read: one file of many, all of them, and listings that are not what they say."""

from __future__ import annotations

import hashlib
import json
import os
import random
import stat
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from support.listings import FOLDER, listed, named, put_bytes, put_tree
from support.shelf import ALLOW, BreakingStore

from stepout.artifacts.allow import ANY_BUCKET, allowed_from
from stepout.artifacts.directory_listing import LISTING_LIMIT, EmptyFolder, ListingLines, TreeDigest, tree_of
from stepout.artifacts.media_types import DIRECTORY, DIRECTORY_1
from stepout.artifacts.memory import MemoryStore
from stepout.artifacts.reading.access import Access
from stepout.artifacts.reading.budget import ReadBudget
from stepout.artifacts.reading.files import directory, download
from stepout.artifacts.reading.files.directory import open_listing
from stepout.artifacts.reading.files.listed_files import work_on
from stepout.artifacts.reading.pinned_object import PinnedObject
from stepout.artifacts.reading.ranges.block_cache import BlockCache
from stepout.artifacts.resolve import resolve_artifact
from stepout.artifacts.s3.store import S3Store
from stepout.schemas import dump_json
from stepout.schemas.errors import (
    ArtifactChangedError,
    ArtifactNotFoundError,
    ChecksumMismatchError,
    InvalidDocumentError,
    NotAllowedError,
    ReadBudgetError,
    StepoutError,
    StoreUnavailableError,
)
from stepout.schemas.runtime.process import PerProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from stepout.artifacts.listing import Entry
    from stepout.artifacts.reading.artifact import Artifact
    from stepout.schemas import Pointer

FILES: dict[str, bytes | None] = {
    "a.txt": b"1",
    "bin/run": b"#!/bin/sh\n",
    "deep/er/b.txt": b"2" * 1000,
    "deep/c": b"",
    "logs": None,
    "z": b"z",
}


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each test begin without what others have read, since they count requests."""
    _forget(monkeypatch)


def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "BLOCKS", PerProcess(lambda: BlockCache(1 << 20)))


@pytest.fixture
def store() -> MemoryStore:
    """An empty bucket."""
    return MemoryStore("results")


def artifact_of(pointer: Pointer, store: Any, **settings: Any) -> Artifact:
    """Resolve a pointer that leads into the store."""
    return resolve_artifact(pointer, allow=ALLOW, client=store, **settings)


def contents(root: Path) -> dict[str, bytes]:
    """Return the files below a folder by their paths."""
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def many(count: int, **members: Any) -> list[Entry]:
    """Return files that were never stored, a thousand to a folder."""
    return [named(f"{number // 1000:03}/{number:06}.bin", **members) for number in range(count)]


# What is written comes back ---------------------------------------------------------------------------------------


def test_a_directory_arrives_whole(store: MemoryStore, tmp_path: Path) -> None:
    """Into a new folder and into one that is there: files, empty folders and the executable bit."""
    artifact = artifact_of(put_tree(store, FILES, programs=["bin/run"]), store)
    expected = {path: data for path, data in FILES.items() if data is not None}
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "z").write_bytes(b"old")
    for name in ("new", "there"):
        root = artifact.download(tmp_path / name)
        assert contents(root) == expected
        assert (root / "logs").is_dir()
        if os.name != "nt":
            assert {path for path in expected if os.access(root / path, os.X_OK)} == {"bin/run"}
            assert stat.S_IMODE((root / "bin/run").stat().st_mode) == 0o777 & ~_umask()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "there"]
    assert "sha256" in artifact.verify()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize("kind", ["directory/1", "directory/2"])
def test_files_are_found_by_path_and_by_prefix(store: MemoryStore, kind: str) -> None:
    """All, those below a prefix, and one; the same of listings of both versions."""
    pointer = put_tree(store, FILES)
    if kind == "directory/1":
        entries = artifact_of(pointer, store).files()
        files = [{"path": path, "pointer": each.pointer.to_dict()} for path, each in entries.items()]
        data = dump_json({"stepout": "directory/1", "files": files})
        pointer = put_bytes(store, f"{FOLDER}.json", data, media_type=DIRECTORY_1)
    artifact = artifact_of(pointer, store)
    expected = {path: data for path, data in FILES.items() if data is not None}
    assert {path: each.read_bytes() for path, each in artifact.files().items()} == expected
    assert [path for path, _ in artifact.iter_files("deep/")] == ["deep/c", "deep/er/b.txt"]
    assert [path for path, _ in artifact.iter_files("deep/e")] == ["deep/er/b.txt"]
    assert list(artifact.iter_files("no")) == []
    assert artifact.file("deep/er/b.txt").read_bytes() == expected["deep/er/b.txt"]
    assert artifact.file("z").name == "z"
    for path in ("", "deep", "logs", "zz", "../z"):
        with pytest.raises(ArtifactNotFoundError, match="has no file"):
            artifact.file(path)
    with pytest.raises(InvalidDocumentError, match="no directory"):
        artifact.file("z").file("z")
    with pytest.raises(InvalidDocumentError, match="no directory"):
        artifact.file("z").iter_files()


def test_a_missing_file_is_told_with_what_is_like_it(store: MemoryStore) -> None:
    """A slip of the pen is found by the message, and a folder is called one."""
    artifact = artifact_of(put_tree(store, FILES), store)
    with pytest.raises(ArtifactNotFoundError, match=r"it has 'deep/er/b.txt'"):
        artifact.file("deep/er/b.tx")
    with pytest.raises(ArtifactNotFoundError, match=r"that is a folder; iter_files\(prefix="):
        artifact.file("deep/er")


def test_one_file_of_many_costs_the_index_a_stretch_and_itself(store: MemoryStore) -> None:
    """Three requests for the first file of 5,000, and less than a tenth of the listing; one for its neighbour."""
    data = b"content"
    pointer = put_bytes(store, f"{FOLDER}/mine", data)
    entries = [replace(each, pointer=pointer) for each in many(5_000)]
    listing = listed(store, entries)
    counted = BreakingStore(store, [])
    artifact = artifact_of(listing, counted)
    assert artifact.file("003/003456.bin").read_bytes() == data
    assert len(counted.requests) == 3
    ranges = [(start, listing.size if stop is None else stop) for start, stop, _ in counted.requests[:2]]
    assert sum(stop - start for start, stop in ranges) < listing.size / 10
    artifact.file("003/003457.bin")
    assert len(counted.requests) == 3
    assert len(list(artifact.iter_files("002/"))) == 1000
    assert len(counted.requests) <= 6


def test_a_small_listing_is_one_request(store: MemoryStore) -> None:
    """A second one would take longer than the bytes do; what it brought is kept."""
    counted = BreakingStore(store, [])
    artifact = artifact_of(put_tree(store, FILES), counted)
    assert artifact.file("a.txt").read_bytes() == b"1"
    assert len(counted.requests) == 2
    artifact.file("z")
    assert len(artifact.files()) == 5
    assert len(counted.requests) <= 4


def test_a_listing_whose_pointer_says_nothing_is_read_whole(store: MemoryStore) -> None:
    """Without the index's place it is held to the pointer's checksum."""
    pointer = replace(listed(store, many(3_000)), annotations=None)
    artifact = artifact_of(pointer, store)
    assert artifact.file("002/002999.bin").pointer.key == f"{FOLDER}/002/002999.bin"
    assert len(artifact.files()) == 3_000
    with pytest.raises(ChecksumMismatchError):
        artifact_of(replace(pointer, checksum={"sha256": "0" * 64}), store).files()


# As file systems and as tables ------------------------------------------------------------------------------------


def test_file_systems_look_files_up(store: MemoryStore) -> None:
    """Folders, empty ones too, and files; opening one file of many reads neither the others nor their lines."""
    one = put_bytes(store, f"{FOLDER}/one", b"content")
    entries: list[Entry | EmptyFolder] = [*(replace(each, pointer=one) for each in many(2_000)), EmptyFolder("logs")]
    counted = BreakingStore(store, [])
    files = artifact_of(listed(store, entries), counted).filesystem("fsspec")
    with files.open("artifact/001/001500.bin") as file:
        assert file.read() == b"content"
    assert len(counted.requests) == 3
    assert [each.rpartition("/")[2] for each in files.ls("artifact", detail=False)] == ["000", "001", "logs"]
    assert len(files.ls("artifact/000")) == 1000
    assert files.isdir("artifact/001")
    assert files.isdir("artifact/logs")
    assert files.ls("artifact/logs") == []
    assert not files.exists("artifact/001/x")
    assert not files.exists("artifact/1")
    assert len(files.find("artifact")) == 2_000
    found = list(files.files.tree.below(""))
    folders = [each.path for each in found if each.pointer is None]
    assert folders == ["artifact", "artifact/000", "artifact/001", "artifact/logs"]
    assert len(found) == 2_004


def test_parquet_files_are_a_dataset(store: MemoryStore) -> None:
    """A directory of Parquet is one, with its folders' partition values; other files are passed over."""
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq

    entries = [named("notes.txt")]
    for day in "ab":
        sink = io.BytesIO()
        pq.write_table(pa.table({"id": [1, 2, 3]}), sink)
        pointer = put_bytes(
            store, f"{FOLDER}/day={day}/x.parquet", sink.getvalue(), media_type="application/vnd.apache.parquet"
        )
        entries.append(replace(named(f"day={day}/x.parquet"), pointer=pointer))
    dataset = artifact_of(listed(store, sorted(entries, key=lambda each: each.path)), store).dataset()
    assert dataset.to_table().num_rows == 6
    assert sorted(set(dataset.to_table()["day"].to_pylist())) == ["a", "b"]


# Bad input --------------------------------------------------------------------------------------------------------


class Forged(ListingLines):
    """Makes listings that are not what they say: another tree, other numbers, other places of stretches."""

    def __init__(self, change: Callable[[dict[str, Any]], None]) -> None:
        super().__init__({"bucket": "results"}, FOLDER)
        self._change = change

    def put(self, store: MemoryStore, lines: Sequence[bytes | Entry | EmptyFolder]) -> Pointer:
        """Store a listing of these entries and raw lines; its digests fit whatever is in it."""
        raw = b'{"stepout":"directory/2"}\n'
        for line in lines:
            raw += line if isinstance(line, bytes) else self.add(line)
        tree = TreeDigest()
        for line in lines:
            if not isinstance(line, bytes):
                tree.add(line)
        paths = [line.path for line in lines if not isinstance(line, bytes | EmptyFolder)]
        index: dict[str, Any] = {
            "bucket": "results", "folder": FOLDER, "mediaTypes": {}, "files": self.files, "folders": self.folders,
            "bytes": self.size, "tree": tree.hexdigest(),
            "stretches": [[paths[0] if paths else "", 0, hashlib.sha256(raw).hexdigest()]],
        }  # fmt: skip
        self._change(index)
        last = dump_json(index) + b"\n"
        place = {"start": len(raw), "sha256": hashlib.sha256(last).hexdigest()}
        said = {"directory": {"tree": tree.hexdigest(), "index": place}}
        return put_bytes(store, f"{FOLDER}.jsonl", raw + last, media_type=DIRECTORY, annotations=said)


def _raises_everywhere(artifact: Artifact, tmp_path: Path, error: type[Exception], match: str) -> None:
    for read in (lambda: artifact.download(tmp_path / "new"), artifact.files, artifact.verify):
        with pytest.raises(error, match=match):
            read()
    assert list(tmp_path.iterdir()) == []


def _named_in(store: MemoryStore, *paths: str) -> list[Entry]:
    return [replace(named(path), pointer=put_bytes(store, f"{FOLDER}/{path}", b"x")) for path in paths]


@pytest.mark.parametrize(
    ("paths", "match"),
    [
        (["a", "a"], "more than once"),
        (["b", "a"], "sorts behind"),
        (["a", "a-b", "a/b"], "below a path that is a file"),
    ],
)
def test_a_listing_that_names_files_wrongly_is_refused(
    store: MemoryStore, tmp_path: Path, paths: list[str], match: str
) -> None:
    """A path twice, out of order, or below a file; nothing of the folder stays."""
    pointer = listed(store, _named_in(store, *paths))
    _raises_everywhere(artifact_of(pointer, store), tmp_path, InvalidDocumentError, match)


@pytest.mark.parametrize("path", ["../x", "/x", "a//b", "a/./b", "C:/x", "a\\b", "a\x00b", "x" * 256])
def test_no_path_can_leave_the_folder(store: MemoryStore, tmp_path: Path, path: str) -> None:
    """A path that escapes is refused, by a whole read and where it is asked for by itself."""
    line = dump_json({"path": path, "size": 1, "sha256": "0" * 64, "key": f"{FOLDER}/a"}) + b"\n"
    artifact = artifact_of(Forged(lambda index: index.update(files=1)).put(store, [line]), store)
    _raises_everywhere(artifact, tmp_path, NotAllowedError, "leave the target folder")
    with pytest.raises(NotAllowedError):
        artifact.file(path)


def test_a_path_that_no_system_takes_is_refused(store: MemoryStore) -> None:
    """Or each of its thousands of folders would have to be spelled out."""
    path = "/".join(["a"] * 2100)
    artifact = artifact_of(Forged(lambda _: None).put(store, [named(path, key=f"{FOLDER}/a")]), store)
    with pytest.raises(InvalidDocumentError, match="longer than"):
        artifact.files()


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"tree": "0" * 64}, ChecksumMismatchError, "its index has the tree digest"),
        ({"files": 3}, InvalidDocumentError, "other lines than its index says"),
        ({"files": 1}, InvalidDocumentError, "other lines than its index says"),
        ({"bytes": 1}, InvalidDocumentError, "other lines than its index says"),
        ({"bytes": 3}, InvalidDocumentError, "other lines than its index says"),
        ({"folders": 1}, InvalidDocumentError, "other lines than its index says"),
        ({"files": 10**6}, InvalidDocumentError, "1,000,000 files; writers keep to 500,000"),
        ({"files": -1}, InvalidDocumentError, r"\$\.files"),
        ({"stretches": []}, InvalidDocumentError, r"\$\.stretches"),
        ({"folder": "elsewhere"}, NotAllowedError, "allow-list"),
    ],
)
def test_an_index_that_does_not_fit_its_lines_is_refused(
    store: MemoryStore, tmp_path: Path, change: dict[str, Any], error: type[StepoutError], match: str
) -> None:
    """Counts, bytes and the tree digest are compared, and nothing of the folder stays."""
    pointer = Forged(lambda index: index.update(change)).put(store, _named_in(store, "a", "b"))
    _raises_everywhere(artifact_of(pointer, store), tmp_path, error, match)


def test_a_tree_that_the_pointer_does_not_name_is_refused(store: MemoryStore, tmp_path: Path) -> None:
    """The pointer's tree digest is of the content, and another content is not it."""
    pointer = put_tree(store, FILES)
    assert tree_of(pointer) is not None
    said = json.loads(json.dumps(pointer.to_dict()))
    said["annotations"]["directory"]["tree"] = "1" * 64
    artifact = resolve_artifact(said, allow=ALLOW, client=store)
    _raises_everywhere(artifact, tmp_path, ChecksumMismatchError, "its pointer has the tree digest")


def test_stretches_that_begin_with_other_paths_are_refused(store: MemoryStore) -> None:
    """An index that sorts stretches wrongly would hide files; the first path of each is compared."""
    lie = {"stretches": None}

    def change(index: dict[str, Any]) -> None:
        lie["stretches"] = index["stretches"]
        index["stretches"][0][0] = "B"

    artifact = artifact_of(Forged(change).put(store, _named_in(store, "a", "b")), store)
    for read in (artifact.files, lambda: artifact.file("c"), lambda: list(artifact.iter_files("b"))):
        with pytest.raises(InvalidDocumentError, match="begins with another path"):
            read()


def test_a_first_line_of_another_version_is_refused(store: MemoryStore) -> None:
    """What a later stepout writes is not guessed at."""
    listing = listed(store, many(10))
    data = store.read(listing.key).replace(b"directory/2", b"directory/3")
    lines = data.splitlines(keepends=True)
    index = json.loads(lines[-1])
    index["stretches"][0][2] = hashlib.sha256(b"".join(lines[:-1])).hexdigest()
    data = b"".join(lines[:-1]) + dump_json(index) + b"\n"
    pointer = put_bytes(store, listing.key, data, media_type=DIRECTORY)
    with pytest.raises(InvalidDocumentError, match='must be "directory/2"'):
        artifact_of(pointer, store).files()


@pytest.mark.parametrize("bucket", ["results", "other"])
def test_a_file_outside_the_allow_list_is_refused(store: MemoryStore, tmp_path: Path, bucket: str) -> None:
    """Every file is held to the list; asked for by itself, too."""
    entries: list[Any] = _named_in(store, "a")
    if bucket == "other":
        artifact = artifact_of(Forged(lambda index: index.update(bucket="other")).put(store, entries), store)
    else:
        entries.append(named("b", key="elsewhere/b"))
        artifact = artifact_of(listed(store, entries), store)
    _raises_everywhere(artifact, tmp_path, NotAllowedError, "allow-list")
    with pytest.raises(NotAllowedError, match="allow-list"):
        artifact.file("b" if bucket == "results" else "a")


@pytest.mark.parametrize("media_type", [DIRECTORY, DIRECTORY_1, "application/vnd.stepout.dataset+json"])
def test_no_listing_leads_to_another(store: MemoryStore, tmp_path: Path, media_type: str) -> None:
    """Directories in directories would multiply without end."""
    entry = named("a")
    pointer = listed(store, [replace(entry, pointer=replace(entry.pointer, media_type=media_type))])
    artifact = artifact_of(pointer, store)
    _raises_everywhere(artifact, tmp_path, InvalidDocumentError, "no listing leads to another")
    with pytest.raises(InvalidDocumentError, match="no listing leads to another"):
        artifact.file("a")


def test_a_listing_that_is_cut_off_is_refused(store: MemoryStore) -> None:
    """At hundreds of places, whether the pointer says so or not: never an entry, and never a crash."""
    listing = listed(store, many(300))
    data = store.read(listing.key)
    for number in range(200):
        size = len(data) * number // 200
        store.replace(listing.key, data[:size])
        with pytest.raises(StepoutError):
            artifact_of(replace(listing, etag=None), store).files()
        # The pointer was forged with the listing: its size and checksum fit, its index is somewhere in what is left.
        cut = put_bytes(store, listing.key, data[:size], media_type=DIRECTORY)
        with pytest.raises(InvalidDocumentError):
            artifact_of(cut, store).files()


@pytest.mark.parametrize("count", [200, 2_000])
def test_no_flipped_bit_makes_another_entry(store: MemoryStore, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """At hundreds of places of the listing: what comes out is what was written, or an error, never anything else."""
    entries = many(count)
    listing = replace(listed(store, entries), etag=None)
    data = store.read(listing.key)
    pointers = {each.path: each.pointer for each in entries}
    dice = random.Random(count)
    caught = 0
    for number in range(300):
        flipped = bytearray(data)
        position = dice.randrange(len(data))
        flipped[position] ^= 1 << dice.randrange(8)
        store.replace(listing.key, bytes(flipped))
        _forget(monkeypatch)  # what is kept would hide what was flipped
        artifact = artifact_of(listing, store)
        near = entries[min(position * count // len(data), count - 1)].path  # mostly in the stretch that was flipped
        try:
            assert artifact.file(near).pointer == pointers[near]
        except ChecksumMismatchError:
            caught += 1
        if number % 30 == 0:
            found: list[tuple[str, Artifact]] = []
            with pytest.raises(ChecksumMismatchError):
                found.extend(artifact.iter_files())
            assert all(each.pointer == pointers[path] for path, each in found)
    assert caught > 200


def test_entries_and_bytes_are_counted(store: MemoryStore, tmp_path: Path) -> None:
    """Before the first file is asked for; with a prefix, as they come. Names alone cost no bytes."""
    listing = listed(store, many(50, size=100))
    budget = ReadBudget(entries=49)
    with pytest.raises(ReadBudgetError, match="50 entries, its budget is 49"):
        artifact_of(listing, store, budget=budget).files()
    assert len(list(artifact_of(listing, store, budget=budget).iter_files("000/00000"))) == 10
    with pytest.raises(ReadBudgetError, match="4 entries, its budget is 3"):
        list(artifact_of(listing, store, budget=ReadBudget(entries=3)).iter_files("000/"))
    counted = BreakingStore(store, [])
    artifact = artifact_of(listing, counted, max_size=4_999)
    for read in (lambda: artifact.download(tmp_path / "new"), artifact.verify):
        with pytest.raises(ReadBudgetError, match="5,000 bytes, its budget is 4,999"):
            read()
    assert len(counted.requests) <= 2
    assert len(artifact.files()) == 50


def test_bytes_beyond_what_the_index_says_are_refused(store: MemoryStore, tmp_path: Path) -> None:
    """An index that says too little does not get past the budget."""
    pointer = Forged(lambda index: index.update(bytes=150)).put(store, many(50, size=100))
    artifact = artifact_of(pointer, store, max_size=200)
    for read in (lambda: artifact.download(tmp_path / "new"), artifact.verify):
        with pytest.raises((InvalidDocumentError, ArtifactNotFoundError)):
            read()


def test_what_is_no_listing_is_not_opened(store: MemoryStore) -> None:
    """Another media type, an index beyond the end, and one that is too large."""
    pointer = put_tree(store, FILES)
    with pytest.raises(InvalidDocumentError, match="mediaType"):
        open_listing(PinnedObject(artifact_of(pointer, store).access, replace(pointer, media_type="text/plain")))
    for start in (pointer.size, pointer.size + 1):
        said = {"directory": {"index": {"start": start, "sha256": "0" * 64}}}
        with pytest.raises(InvalidDocumentError, match="index"):
            artifact_of(replace(pointer, annotations=said), store).files()
    large = replace(pointer, size=LISTING_LIMIT + 1)
    with pytest.raises(StepoutError, match="a listing of this size is not read"):
        artifact_of(large, store).files()


# While it is read -------------------------------------------------------------------------------------------------


def test_a_file_that_was_replaced_meanwhile_is_an_error(store: MemoryStore, tmp_path: Path) -> None:
    """Nothing of the folder stays, and the others are not fetched for nothing."""
    artifact = artifact_of(put_tree(store, FILES), store)
    store.replace(f"{FOLDER}/deep/c", b"3")
    for read in (lambda: artifact.download(tmp_path / "new"), artifact.verify):
        with pytest.raises((ArtifactChangedError, ChecksumMismatchError)):
            read()
    assert list(tmp_path.iterdir()) == []


def test_a_listing_that_was_replaced_meanwhile_is_an_error(store: MemoryStore) -> None:
    """Index and stretches are of one version, or nothing is read."""
    listing = listed(store, many(3_000))
    opened = open_listing(PinnedObject(artifact_of(listing, store).access, listing))
    listed(store, many(2_999))
    with pytest.raises(ArtifactChangedError):
        list(opened.entries())


def test_files_come_side_by_side(store: MemoryStore, tmp_path: Path) -> None:
    """Each of eight files waits until all of them have been asked for, for both verbs."""
    pointer = put_tree(store, {f"{number}": b"x" for number in range(8)})
    together = threading.Barrier(8, timeout=60)

    class Waiting(BreakingStore):
        def get(self, key: str, **options: Any) -> Any:
            """Wait for the others, if it is a file."""
            if not key.endswith(".jsonl"):
                together.wait()
            return super().get(key, **options)

    artifact = artifact_of(pointer, Waiting(store, []))
    assert len(contents(artifact.download(tmp_path / "new"))) == 8
    assert "sha256" in artifact.verify()


def test_large_files_come_one_at_a_time() -> None:
    """Each of them fills connections and memory of its own; small ones go on beside it."""
    lock, beside = threading.Lock(), threading.Event()
    now, most = 0, 0

    def act(size: int) -> None:
        nonlocal now, most
        if size == 1:
            beside.set()
            return
        with lock:
            now += 1
            most = max(most, now)
        assert beside.wait(60)
        with lock:
            now -= 1

    work_on([5 << 20] * 3 + [1] * 20, act, lambda size: size, Access(allowed=allowed_from(ANY_BUCKET)))
    assert (now, most) == (0, 1)


def test_the_rest_of_a_listing_waits_until_it_is_wanted(store: MemoryStore) -> None:
    """The first of many files costs the index and some stretches, not all of them."""
    counted = BreakingStore(store, [])
    files = artifact_of(listed(store, many(5_000)), counted).iter_files()
    assert next(files)[0] == "000/000000.bin"
    assert len(counted.requests) == 2
    assert sum(1 for _ in files) == 4_999
    assert len(counted.requests) == 4


def test_a_server_is_read_like_memory(seaweed_client: Any, bucket: str, tmp_path: Path) -> None:
    """Ranges, versions and files of a real S3 server."""
    server = S3Store(seaweed_client, bucket, request_payer=None)
    contents_of = {f"{number:04}": b"%d" % number for number in range(40)}
    small = put_tree(server, {**contents_of, "logs": None})
    read = {"allow": [f"s3://{bucket}/"], "client": seaweed_client}
    root = resolve_artifact(small, **read).download(tmp_path / "new")
    assert contents(root) == contents_of
    assert (root / "logs").is_dir()
    one = put_bytes(server, f"{FOLDER}/one", b"content")
    large = listed(server, [replace(each, pointer=one) for each in many(1_500)])
    artifact = resolve_artifact(large, **read)
    assert artifact.file("001/001234.bin").read_bytes() == b"content"
    assert len(artifact.files()) == 1_500
    with pytest.raises(ArtifactNotFoundError):
        artifact.file("001/nothing")


def test_the_first_error_ends_all_of_them(store: MemoryStore, tmp_path: Path) -> None:
    """What is under way ends, nothing else begins, and neither a file nor the folder stays."""
    files = {f"{number:03}": b"x" for number in range(400)}
    pointer = put_tree(store, files)

    class Failing(BreakingStore):
        def get(self, key: str, **options: Any) -> Any:
            """Fail for one file."""
            if key.endswith("/020"):
                raise StoreUnavailableError("no")
            return super().get(key, **options)

    counted = Failing(store, [])
    with pytest.raises(StoreUnavailableError):
        artifact_of(pointer, counted).download(tmp_path / "new")
    assert len(counted.requests) < 200
    assert list(tmp_path.iterdir()) == []


def test_what_is_under_way_has_ended_when_the_folder_goes(store: MemoryStore, tmp_path: Path) -> None:
    """A thread that still receives a file would make the folder anew, or keep it from going."""
    pointer = put_tree(store, {"a": b"x", "b": b"y"})
    slow, failed = threading.Event(), threading.Event()

    class Slow(BreakingStore):
        def get(self, key: str, **options: Any) -> Any:
            """Let one file wait until the other has failed."""
            if key.endswith("/a"):
                slow.set()
                assert failed.wait(60)
            elif key.endswith("/b"):
                assert slow.wait(60)
                threading.Timer(0.1, failed.set).start()
                raise StoreUnavailableError("no")
            return super().get(key, **options)

    with pytest.raises(StoreUnavailableError):
        artifact_of(pointer, Slow(store, [])).download(tmp_path / "new")
    assert failed.is_set()
    assert list(tmp_path.iterdir()) == []


def test_names_that_the_file_system_takes_for_one_are_told(
    store: MemoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where `A` and `a` are one file, neither silently replaces the other."""
    real = download._created
    monkeypatch.setattr(download, "_created", lambda path, mode: real(path.with_name(path.name.lower()), mode))
    with pytest.raises(NotAllowedError, match="file system"):
        artifact_of(put_tree(store, {"A": b"1", "a": b"2"}), store).download(tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege on Windows")
def test_links_in_the_target_are_not_followed(store: MemoryStore, tmp_path: Path) -> None:
    """Neither for a file's folder nor for an empty one; a folder in a file's place stays."""
    outside = tmp_path / "outside"
    outside.mkdir()
    artifact = artifact_of(put_tree(store, {"a.txt": b"1", "deep/x": b"2", "logs": None}), store)
    for name in ("deep", "logs", "a.txt"):
        target = tmp_path / f"has {name}"
        target.mkdir()
        if name == "a.txt":
            (target / name).mkdir()
        else:
            (target / name).symlink_to(outside)
        with pytest.raises(NotAllowedError, match="refused to write"):
            artifact.download(target)
    assert list(outside.iterdir()) == []


def test_progress_counts_all_bytes(store: MemoryStore, tmp_path: Path) -> None:
    """Of all files together, to the last of them, for both verbs."""
    artifact = artifact_of(put_tree(store, FILES), store)
    total = sum(len(data) for data in FILES.values() if data is not None)
    reads: Iterator[Callable[..., Any]] = iter(
        [lambda **options: artifact.download(tmp_path / "new", **options), artifact.verify]
    )
    for read in reads:
        seen: list[tuple[int, int | None]] = []
        read(progress=lambda _name, done, said, seen=seen: seen.append((done, said)))
        assert seen[-1] == (total, total)
        assert [done for done, _ in seen] == sorted(done for done, _ in seen)
