"""Directories: every file an object, a listing that names them, nothing from outside."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from stepout.artifacts import ArtifactManager, MemoryStore
from stepout.artifacts.listing import parse_listing
from stepout.artifacts.writing import directory
from stepout.schemas import Pointer
from stepout.schemas.errors import ConfigurationError, StoreUnavailableError

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any


@pytest.fixture
def store() -> MemoryStore:
    """An empty bucket."""
    return MemoryStore("results")


@pytest.fixture
def manager(store: MemoryStore) -> ArtifactManager:
    """A manager."""
    return ArtifactManager(store, "runs")


def fill(root: Path, *paths: str) -> Path:
    """Make files that hold their own path."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(path)
    return root


def test_a_directory_is_a_listing_of_pointers(manager: ArtifactManager, store: MemoryStore, tmp_path: Path) -> None:
    """The listing names every file by its relative path, sorted, and a reader takes it."""
    fill(tmp_path, "b.txt", "a/c.csv", "a/b/x y (é).json", ".hidden")
    (tmp_path / "empty").mkdir()
    pointer = manager.put("d", tmp_path)
    listing = json.loads(store.read(pointer.key))
    assert listing["stepout"] == "directory/1"
    assert [file["path"] for file in listing["files"]] == [".hidden", "a/b/x y (é).json", "a/c.csv", "b.txt"]
    for file in listing["files"]:
        found = Pointer.from_dict(file["pointer"])
        assert store.read(found.key).decode() == file["path"]
        assert found.key.startswith(pointer.key.removesuffix(".json") + "/")
    assert listing["files"][2]["pointer"]["mediaType"] == "text/csv"
    assert pointer.media_type == "application/vnd.stepout.directory+json"
    assert pointer.annotations == {"files": 4, "bytes": sum(len(file["path"].encode()) for file in listing["files"])}
    assert [entry.path for entry in parse_listing(store.read(pointer.key), pointer.url)] == [
        file["path"] for file in listing["files"]
    ]
    assert list(manager.pointers) == ["d"]


def test_an_empty_directory_is_an_empty_listing(manager: ArtifactManager, store: MemoryStore, tmp_path: Path) -> None:
    """No files are no error."""
    assert json.loads(store.read(manager.put_directory("d", tmp_path).key))["files"] == []


def test_options_reach_every_file(manager: ArtifactManager, store: MemoryStore, tmp_path: Path) -> None:
    """Expiry and mode hold for the files as for the listing."""
    fill(tmp_path, "a.txt")
    pointer = manager.put_directory("d", tmp_path, expires_at="2030-01-01T00:00:00Z", mode="overwrite")
    (file,) = json.loads(store.read(pointer.key))["files"]
    assert file["pointer"]["expiresAt"] == pointer.expires_at == "2030-01-01T00:00:00Z"
    assert {stored.options.mode for stored in store.objects.values()} == {"overwrite"}
    with pytest.raises(ConfigurationError, match="media_type"):
        manager.put_directory("e", tmp_path, media_type="application/json")


def _link_out(root: Path) -> None:
    (root.parent / "secret").write_text("x")
    (root / "link").symlink_to(root.parent / "secret")


def _link_to_folder(root: Path) -> None:
    (root / "folder").mkdir()
    (root / "link").symlink_to(root / "folder")


def _dangling(root: Path) -> None:
    (root / "link").symlink_to(root / "nowhere")


def _pipe(root: Path) -> None:
    os.mkfifo(root / "pipe")


def _control(root: Path) -> None:
    (root / "a\nb").write_text("x")


def _backslash(root: Path) -> None:
    (root / "a\\b").write_text("x")


def _no_unicode(root: Path) -> None:
    (root / os.fsdecode(b"a\xff")).write_text("x")


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot make these")
@pytest.mark.parametrize("make", [_link_out, _link_to_folder, _dangling, _pipe, _control, _backslash, _no_unicode])
def test_what_is_no_file_of_the_directory_is_refused(
    manager: ArtifactManager, store: MemoryStore, tmp_path: Path, make: Any
) -> None:
    """Links out, links to folders, pipes, and names that no listing can hold: nothing is sent, the name is free."""
    root = tmp_path / "root"
    root.mkdir()
    fill(root, "a.txt")
    make(root)
    with pytest.raises(ConfigurationError, match="cannot be part of an artifact"):
        manager.put_directory("d", root)
    assert store.keys() == []
    manager.put("d", b"")


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege on Windows")
def test_a_link_to_a_file_inside_is_its_content(manager: ArtifactManager, store: MemoryStore, tmp_path: Path) -> None:
    """A link that stays inside is stored as the file it names."""
    fill(tmp_path, "a.txt")
    (tmp_path / "b.txt").symlink_to(tmp_path / "a.txt")
    listing = json.loads(store.read(manager.put_directory("d", tmp_path).key))
    assert [store.read(file["pointer"]["key"]) for file in listing["files"]] == [b"a.txt", b"a.txt"]


def test_limits_and_wrong_paths(manager: ArtifactManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many files, a file, and nothing at all are configuration errors."""
    fill(tmp_path, "a", "b", "c")
    monkeypatch.setattr(directory, "FILES_LIMIT", 2)
    with pytest.raises(ConfigurationError, match="more than 2 files"):
        manager.put_directory("d", tmp_path)
    for path in (tmp_path / "a", tmp_path / "missing"):
        with pytest.raises(ConfigurationError, match="is no directory"):
            manager.put_directory("d", path)


def test_a_folder_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    """A folder is never left out in silence."""
    with pytest.raises(PermissionError):
        directory._raise(PermissionError(13, "denied", str(tmp_path)))


def test_a_failure_halfway_writes_no_listing(tmp_path: Path) -> None:
    """Files that were sent before stay behind, but nothing names them."""

    class Failing(MemoryStore):
        def put(self, key: str, *args: Any, **options: Any) -> Any:
            """Fail for one file."""
            if key.endswith("b.txt"):
                raise StoreUnavailableError("no")
            return super().put(key, *args, **options)

    store = Failing("results")
    manager = ArtifactManager(store)
    fill(tmp_path, "a.txt", "b.txt", "c.txt")
    with pytest.raises(StoreUnavailableError):
        manager.put_directory("d", tmp_path)
    assert [key.rpartition("/")[2] for key in store.objects] == ["a.txt"]
    assert manager.pointers == {}
