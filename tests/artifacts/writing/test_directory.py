"""Directories: every file an object, a listing that names them, nothing from outside."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest
from support.directories import entries_of, files_of, fill

from stepout.artifacts import ArtifactManager, MemoryStore
from stepout.artifacts.directory_listing import EmptyFolder
from stepout.artifacts.transfer.sources import FileSource
from stepout.artifacts.writing import directory, directory_files
from stepout.schemas.errors import ArtifactChangedError, ConfigurationError, StoreError, StoreUnavailableError

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


def test_a_directory_is_a_listing_of_pointers(manager: ArtifactManager, store: MemoryStore, tmp_path: Path) -> None:
    """The listing names every file by its relative path, sorted, and every empty folder; a reader takes it."""
    fill(tmp_path, "b.txt", "a/c.csv", "a/b/x y (é).json", ".hidden", "a-b")
    (tmp_path / "empty" / "inner").mkdir(parents=True)
    pointer = manager.put("d", tmp_path)
    found = entries_of(store, pointer)
    assert [each.path for each in found] == [".hidden", "a-b", "a/b/x y (é).json", "a/c.csv", "b.txt", "empty/inner"]
    assert found[-1] == EmptyFolder("empty/inner")
    files = files_of(store, pointer)
    for path, file in files.items():
        assert store.read(file.pointer.key).decode() == path
        assert file.pointer.key.startswith(pointer.key.removesuffix(".jsonl") + "/")
    assert files["a/c.csv"].pointer.media_type == "text/csv"
    assert pointer.media_type == "application/vnd.stepout.directory+jsonl"
    assert pointer.annotations is not None
    assert {name: pointer.annotations[name] for name in ("files", "bytes")} == {
        "files": 5,
        "bytes": sum(len(path.encode()) for path in files),
    }
    assert list(manager.pointers) == ["d"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no executable bit")
def test_a_program_stays_one(manager: ArtifactManager, store: MemoryStore, tmp_path: Path) -> None:
    """What its owner may execute is marked; nothing else of a file's mode is kept."""
    fill(tmp_path, "run.sh", "data")
    (tmp_path / "run.sh").chmod(0o700)
    (tmp_path / "data").chmod(0o611)
    found = files_of(store, manager.put_directory("d", tmp_path))
    assert {path: file.executable for path, file in found.items()} == {"data": False, "run.sh": True}


def test_an_empty_directory_is_an_empty_listing(manager: ArtifactManager, store: MemoryStore, tmp_path: Path) -> None:
    """No files are no error."""
    assert entries_of(store, manager.put_directory("d", tmp_path)) == []


def test_options_reach_every_file(manager: ArtifactManager, store: MemoryStore, tmp_path: Path) -> None:
    """Expiry and mode hold for the files as for the listing."""
    fill(tmp_path, "a.txt")
    pointer = manager.put_directory("d", tmp_path, expires_at="2030-01-01T00:00:00Z", mode="overwrite")
    file = files_of(store, pointer)["a.txt"]
    assert file.pointer.expires_at == pointer.expires_at == "2030-01-01T00:00:00Z"
    assert {stored.options.mode for stored in store.objects.values()} == {"overwrite"}
    with pytest.raises(ConfigurationError, match="media_type"):
        manager.put_directory("e", tmp_path, media_type="application/json")


@pytest.mark.parametrize("size", [300 << 10, 9 << 20])
def test_a_larger_file_has_its_blocks_and_the_listing_none(
    manager: ArtifactManager, store: MemoryStore, tmp_path: Path, size: int
) -> None:
    """A file in one request and one in parts has the digests that it would have as an artifact of its own."""
    (tmp_path / "large.bin").write_bytes(os.urandom(1 << 10) * (size >> 10))
    pointer = manager.put_directory("d", tmp_path)
    alone = manager.put_file("alone", tmp_path / "large.bin")
    file = files_of(store, pointer)["large.bin"].pointer
    assert (file.size, file.checksum, file.blocks) == (alone.size, alone.checksum, alone.blocks)
    assert file.blocks is not None
    assert pointer.blocks is None


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


def _long_path(root: Path) -> None:
    (root / "/".join(["d" * 150] * 7)).mkdir(parents=True)


def _circle(root: Path) -> None:
    (root / "one").symlink_to(root / "two")
    (root / "two").symlink_to(root / "one")


def _no_unicode(root: Path) -> None:
    (root / os.fsdecode(b"a\xff")).write_text("x")


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot make these")
@pytest.mark.parametrize(
    "make",
    [_link_out, _link_to_folder, _dangling, _circle, _pipe, _control, _backslash, _no_unicode, _long_path],
)
def test_what_is_no_file_of_the_directory_is_refused(
    manager: ArtifactManager, store: MemoryStore, tmp_path: Path, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Links out, in a circle or to folders, pipes, paths that no reader takes: nothing is sent, the name is free."""
    monkeypatch.setattr("stepout.artifacts.writing.directory_files.PATH_LIMIT", 1000)  # Linux makes none of 4,097
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
    files = files_of(store, manager.put_directory("d", tmp_path))
    assert [store.read(file.pointer.key) for file in files.values()] == [b"a.txt", b"a.txt"]


def test_limits_and_wrong_paths(manager: ArtifactManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many files, a file, and nothing at all are configuration errors."""
    fill(tmp_path, "a", "b", "c")
    monkeypatch.setattr(directory_files, "FILES_LIMIT", 2)
    with pytest.raises(ConfigurationError, match=r"more than 2 files.*Nothing was sent"):
        manager.put_directory("d", tmp_path)
    for path in (tmp_path / "a", tmp_path / "missing"):
        with pytest.raises(ConfigurationError, match="is no directory"):
            manager.put_directory("d", path)


def test_a_folder_that_cannot_be_read_is_an_error(
    manager: ArtifactManager, store: MemoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder is never left out in silence."""
    fill(tmp_path, "a/b.txt")
    scandir = os.scandir

    def denied(folder: str) -> Any:
        if folder.endswith("a/"):
            raise PermissionError(13, "denied", folder)
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", denied)  # who runs the tests may be root, who may read everything
    with pytest.raises(PermissionError):
        manager.put_directory("d", tmp_path)
    assert store.keys() == []


def test_two_names_that_fold_to_one_key_are_refused(
    manager: ArtifactManager, store: MemoryStore, tmp_path: Path
) -> None:
    """Names whose SHA-256 begins alike would be one object; neither is sent."""
    fill(tmp_path, "\u561e\u4f86", "\u4e5b\u4fa4")  # found by trying: ten digits of SHA-256 are 40 bits
    with pytest.raises(ConfigurationError, match="would have the same key"):
        manager.put_directory("d", tmp_path)
    assert store.keys() == []


def test_a_failure_halfway_writes_no_listing(tmp_path: Path) -> None:
    """Files that were sent before stay behind, but nothing names them; the name is free again."""

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
    assert {key.rpartition("/")[2] for key in store.objects} <= {"a.txt", "c.txt"}
    assert manager.pointers == {}
    manager.put("d", b"")


def test_the_first_failure_ends_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a thousand files that would all fail, only those under way are tried; an upload in parts is aborted."""
    monkeypatch.setattr(directory, "CONNECTIONS", 2)
    begun = threading.Event()

    class Failing(MemoryStore):
        tries = 0

        def put(self, *_args: Any, **_options: Any) -> Any:
            """Fail once the large file is on its way."""
            begun.wait(60)
            self.tries += 1
            raise StoreError("no")

        def put_part(self, *args: Any, **options: Any) -> Any:
            """Take note."""
            begun.set()
            return super().put_part(*args, **options)

    store = Failing("results")
    fill(tmp_path, *(f"b/{number}" for number in range(1000)))
    (tmp_path / "a").write_bytes(bytes(40 << 20))
    with pytest.raises(StoreError, match="no"):
        ArtifactManager(store).put_directory("d", tmp_path)
    assert store.tries < 20
    assert store.open_uploads == []


@pytest.mark.parametrize("change", ["grow", "vanish"])
def test_a_file_that_changes_fails_the_directory(
    manager: ArtifactManager, store: MemoryStore, tmp_path: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What changes or vanishes while the directory is sent is an error that names the file."""
    fill(tmp_path, "a.txt")
    file, read = tmp_path / "a.txt", FileSource.read

    def late(source: Any) -> bytes | memoryview:
        data = read(source)
        file.write_text("longer than before") if change == "grow" else file.unlink()
        return data

    monkeypatch.setattr(FileSource, "read", late)
    with pytest.raises(ArtifactChangedError, match=r"a\.txt"):
        manager.put_directory("d", tmp_path)
    assert store.keys() == []
    assert manager.pointers == {}


def test_a_slow_file_holds_up_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the first file is on its way, all that the window has room for are sent, and no more."""
    window, others = 20, threading.Semaphore(0)
    monkeypatch.setattr(directory, "_WINDOW", window)
    monkeypatch.setattr(directory, "CONNECTIONS", 2)

    class Slow(MemoryStore):
        seen = 0

        def put(self, key: str, *args: Any, **options: Any) -> Any:
            """Keep the first file until the others have come."""
            if key.endswith("/000"):
                for _ in range(window):
                    assert others.acquire(timeout=60)
                self.seen = len(self.keys())
            written = super().put(key, *args, **options)
            others.release()
            return written

    slow = Slow("results")
    fill(tmp_path, *(f"{number:03}" for number in range(200)))
    pointer = ArtifactManager(slow).put_directory("d", tmp_path)
    assert window <= slow.seen < window + 20
    assert len(entries_of(slow, pointer)) == 200


_PEAK = """
import sys, time
from stepout.artifacts import ArtifactManager, MemoryStore
from stepout.artifacts.store_writes import Written

class Sink(MemoryStore):
    def put(self, key, body, *, checksum, options):
        time.sleep(0.01)
        return Written(etag='"x"')

def peak():
    text = open("/proc/self/status").read()
    return int(text.split("VmHWM:")[1].split()[0]) >> 10

manager, before = ArtifactManager(Sink("results")), peak()
manager.put_directory("d", sys.argv[1])
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_that_of_what_is_under_way(tmp_path: Path) -> None:
    """64 MiB of files are held at once; what a thread has sent goes back to the system, however many threads."""
    for number in range(48):
        with (tmp_path / f"{number}").open("wb") as file:
            file.truncate(8 << 20)
    done = subprocess.run([sys.executable, "-c", _PEAK, str(tmp_path)], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 110


def test_progress_counts_the_whole(store: MemoryStore, tmp_path: Path) -> None:
    """Bytes of all files together, of a total that is known from the start; the listing's own are not counted."""
    fill(tmp_path, *(f"{number:03}" for number in range(20)))
    told: list[tuple[str, int, int | None]] = []
    ArtifactManager(store, progress=lambda *each: told.append(each)).put_directory("d", tmp_path)
    assert {name for name, _, _ in told} == {"d"}
    assert {total for _, _, total in told} == {60}
    assert sorted(done for _, done, _ in told) == [done for _, done, _ in told]
    assert told[-1][1] == 60


def test_an_abort_ends_the_files_under_way(tmp_path: Path) -> None:
    """An abort from another thread, while files are sent, leaves no listing and no parts."""

    class Aborting(MemoryStore):
        def put_part(self, *args: Any, **options: Any) -> Any:
            """Abort the writer at the first part."""
            threading.Thread(target=writer.abort).start()
            return super().put_part(*args, **options)

    store = Aborting("results")
    writer = ArtifactManager(store)
    (tmp_path / "a").write_bytes(bytes(40 << 20))
    with pytest.raises(StoreError, match="aborted"):
        writer.put_directory("d", tmp_path)
    assert store.keys() == []
    assert store.open_uploads == []
