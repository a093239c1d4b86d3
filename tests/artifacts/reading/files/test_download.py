"""`download()`: whole and verified, or not there; and nothing leaves the target folder."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.shelf import ALLOW, Shelf

from stepout.artifacts.media_types import DIRECTORY_1
from stepout.artifacts.paths import path_fault
from stepout.artifacts.reading.files import download as download_module
from stepout.artifacts.resolve import resolve_artifact
from stepout.schemas.errors import (
    ArtifactNotFoundError,
    ChecksumMismatchError,
    InvalidDocumentError,
    NotAllowedError,
)

BIG = bytes(range(256)) * (24 << 10)


@pytest.mark.parametrize("data", [b"", b"hello", BIG])
def test_a_file_arrives_whole(shelf: Shelf, tmp_path: Path, data: bytes) -> None:
    """Into a file, over a file, or into a folder under the key's last segment; nothing else is left there."""
    artifact = shelf.artifact(data, "deep/features.parquet")
    assert artifact.download(tmp_path / "x.bin") == tmp_path / "x.bin"
    assert artifact.download(str(tmp_path / "x.bin")).read_bytes() == data
    assert artifact.download(tmp_path) == tmp_path / "features.parquet"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["features.parquet", "x.bin"]


@pytest.mark.parametrize("data", [b"hello", BIG])
def test_damage_leaves_what_was_there(shelf: Shelf, tmp_path: Path, data: bytes) -> None:
    """On a mismatch the temporary file is deleted and the old file stays."""
    target = tmp_path / "x.bin"
    target.write_bytes(b"old")
    with pytest.raises(ChecksumMismatchError):
        shelf.damage(data, len(data) - 1).download(target)
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.skipif(os.name == "nt", reason="POSIX modes")
def test_the_mode_is_what_the_umask_gives(shelf: Shelf, tmp_path: Path) -> None:
    """Neither private like mkstemp's nor open to all."""
    script = "import os,sys; os.umask(0o027); open(sys.argv[1], 'w').close()"
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "plain")], check=True)
    before = os.umask(0o027)
    try:
        shelf.artifact(b"x").download(tmp_path / "ours")
    finally:
        os.umask(before)
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "ours")}
    assert modes == {0o640}


@pytest.mark.parametrize("data", [b"hello", BIG])
def test_a_full_disk_passes_and_leaves_nothing(
    shelf: Shelf, tmp_path: Path, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ENOSPC is an OSError of its own, raised from whichever thread writes; the temporary file is gone."""

    def full(_file: int, _view: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("stepout.artifacts.reading.files.download.os.write", full)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)) as caught:
        shelf.artifact(data).download(tmp_path / "x")
    monkeypatch.undo()
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(tmp_path / "x"))
    assert str(caught.value).endswith(f"{str(tmp_path / 'x')!r}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="needs a limit on the size of files")
def test_a_disk_that_takes_no_more_is_an_error_of_the_system(tmp_path: Path) -> None:
    """The system's own error comes through: a file size limit of 4 KiB, in a process of its own."""
    script = (
        "import resource, signal, sys\n"
        "from support.shelf import Shelf\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "artifact = Shelf().artifact(bytes(range(256)) * (24 << 10))\n"
        "try:\n"
        "    artifact.download(sys.argv[1])\n"
        "except OSError as error:\n"
        "    print(error.errno)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "x")], check=True, capture_output=True, text=True, env=environment
    )
    assert done.stdout.strip() == str(errno.EFBIG)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_or_object_is_told(shelf: Shelf, tmp_path: Path) -> None:
    """A folder that is not there is the caller's OSError; a missing object leaves no file."""
    artifact = shelf.artifact(b"x")
    with pytest.raises(FileNotFoundError) as caught:
        artifact.download(tmp_path / "no" / "x")
    assert not isinstance(caught.value, ArtifactNotFoundError)
    assert caught.value.filename == str(tmp_path / "no" / "x")  # not the temporary file's
    shelf.store.delete("runs/a.bin")
    with pytest.raises(ArtifactNotFoundError):
        artifact.download(tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["C:evil", "a\\b"])
def test_a_key_that_is_no_file_name_needs_one(shelf: Shelf, tmp_path: Path, name: str) -> None:
    """Into a folder, the key's last segment must be a plain name; to a file, it does not matter."""
    artifact = shelf.artifact(b"x", name)
    with pytest.raises(NotAllowedError, match="file name"):
        artifact.download(tmp_path)
    assert artifact.download(tmp_path / "ok").read_bytes() == b"x"


# Directories ------------------------------------------------------------------------------------------------------


def _directory(shelf: Shelf, contents: dict[str, bytes], **changes: Any) -> Any:
    entries = [
        {"path": path, "pointer": shelf.put(data, f"d/{i}").to_dict()}
        for i, (path, data) in enumerate(contents.items())
    ]
    listing = {"stepout": "directory/1", "files": entries, **changes}
    return shelf.artifact(json.dumps(listing).encode(), "d.json", media_type=DIRECTORY_1)


def test_a_directory_arrives_whole(shelf: Shelf, tmp_path: Path) -> None:
    """Into a new folder, or into one that exists; every file verified."""
    files = {"a.txt": b"1", "deep/er/b.txt": b"2" * 1000, "deep/c": b""}
    artifact = _directory(shelf, files)
    assert artifact.is_directory
    for target in (tmp_path / "new", tmp_path):
        assert artifact.download(target) == target
        assert {path: (target / path).read_bytes() for path in files} == files
    assert {path: each.read_bytes() for path, each in artifact.files().items()} == files
    assert "sha256" in artifact.verify()


def test_a_damaged_file_leaves_no_new_folder(shelf: Shelf, tmp_path: Path) -> None:
    """A folder that did not exist appears whole or not at all."""
    artifact = _directory(shelf, {"a": b"1", "b": b"2"})
    shelf.store.replace("runs/d/1", b"3")
    for read in (lambda: artifact.download(tmp_path / "new"), artifact.verify):
        with pytest.raises(Exception, match="changed"):
            read()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "path",
    ["../x", "/x", "a//b", "a/./b", "", "C:x", "c:/x", "a\\..\\b", "\\\\host\\x", "a\x00b", "a/" + "x" * 256, "a\n"],
)
def test_no_path_can_leave_the_folder(shelf: Shelf, tmp_path: Path, path: str) -> None:
    """A hostile listing is refused as a whole, before a file is fetched."""
    artifact = _directory(shelf, {"good": b"1", path: b"2"})
    for read in (lambda: artifact.download(tmp_path / "new"), artifact.files):
        with pytest.raises(NotAllowedError, match="leave the target folder"):
            read()
    assert list(tmp_path.iterdir()) == []


@given(st.text(max_size=20))
def test_a_path_without_a_fault_stays_inside(path: str) -> None:
    """Whatever passes the check, joined to a folder, lies in it: on POSIX and on Windows."""
    from pathlib import PurePosixPath, PureWindowsPath

    if path_fault(path, windows=False) is None:
        joined = PurePosixPath("/base", path)
        assert joined.is_relative_to("/base")
        assert ".." not in joined.parts
    if path_fault(path, windows=True) is None:
        base = PureWindowsPath("C:\\base")
        assert (base / path).is_relative_to(base)
        assert (base / path) != base


@pytest.mark.parametrize("name", ["CON", "nul.txt", "com1", "LPT9.log", "aa:b", "a.", "a ", "a?", "COM\u00b9"])
def test_names_that_windows_reads_otherwise_are_refused_there(name: str) -> None:
    """Devices, streams and trailing dots are plain names elsewhere."""
    assert path_fault(name, windows=True) is not None
    assert path_fault(name, windows=False) is None
    assert path_fault("\ud800") is not None


def test_links_in_the_target_are_not_followed(shelf: Shelf, tmp_path: Path) -> None:
    """A folder that is a link leads elsewhere; a file that is a link is replaced, not written through."""
    outside, target = tmp_path / "outside", tmp_path / "target"
    outside.mkdir()
    target.mkdir()
    (target / "deep").symlink_to(outside)
    with pytest.raises(NotAllowedError, match="link"):
        _directory(shelf, {"deep/x": b"1"}).download(target)
    (outside / "file").write_bytes(b"old")
    (target / "x").symlink_to(outside / "file")
    _directory(shelf, {"x": b"new"}).download(target)
    assert (target / "x").read_bytes() == b"new"
    assert (outside / "file").read_bytes() == b"old"
    assert sorted(path.name for path in outside.iterdir()) == ["file"]


def test_a_folder_in_a_files_place_is_told(shelf: Shelf, tmp_path: Path) -> None:
    """Neither is replaced by the other."""
    (tmp_path / "x").mkdir()
    (tmp_path / "y").write_bytes(b"")
    for path in ("x", "y/z"):
        with pytest.raises(NotAllowedError, match="refused to write"):
            _directory(shelf, {path: b"1"}).download(tmp_path)


def test_names_that_the_file_system_takes_for_one_are_told(shelf: Shelf, tmp_path: Path, monkeypatch: Any) -> None:
    """Where `A` and `a` are one file, neither silently replaces the other."""
    real = download_module._created
    monkeypatch.setattr(download_module, "_created", lambda path, mode: real(path.with_name(path.name.lower()), mode))
    with pytest.raises(NotAllowedError, match="file system"):
        _directory(shelf, {"A": b"1", "a": b"2"}).download(tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"stepout": "directory/2"},
        {"files": {}},
        {"files": [{"pointer": {}}]},
        {"files": ["x"]},
        {"files": [{"path": "x", "pointer": {"stepout": "pointer/1"}}]},
    ],
)
def test_what_is_no_listing_is_an_invalid_document(shelf: Shelf, tmp_path: Path, changes: dict[str, Any]) -> None:
    """Another version, and missing or wrong members, are problems with their locations."""
    artifact = _directory(shelf, {"a": b"1"}, **changes)
    with pytest.raises(InvalidDocumentError, match="directory listing") as caught:
        artifact.download(tmp_path / "new")
    assert caught.value.problems[0].location.startswith("$")


def test_a_path_of_many_segments_costs_no_more_than_its_length(shelf: Shelf) -> None:
    """Folders are not spelled out one by one, which would be gigabytes here; collisions are found all the same."""
    pointer = shelf.put(b"x").to_dict()
    paths = [*("/".join(["a"] * 30_000 + [last]) for last in "bcd"), "a!", "a.b/c", "a.b"]
    listing = {"stepout": "directory/1", "files": [{"path": path, "pointer": pointer} for path in paths]}
    artifact = shelf.artifact(json.dumps(listing).encode(), "dir.json", media_type=DIRECTORY_1)
    with pytest.raises(InvalidDocumentError) as caught:
        artifact.files()
    assert [str(problem) for problem in caught.value.problems] == [
        "$.files[5].path: is a file and another file's folder"
    ]


def test_two_files_of_one_path_are_invalid(shelf: Shelf) -> None:
    """Neither the same path twice nor a file that is another's folder."""
    pointer = shelf.put(b"1", "d/0").to_dict()
    for paths in (["a", "a"], ["a", "a/b"], ["a/b/c", "a/b"]):
        files = [{"path": path, "pointer": pointer} for path in paths]
        with pytest.raises(InvalidDocumentError, match="directory listing"):
            _directory(shelf, {}, files=files).files()
    with pytest.raises(InvalidDocumentError, match="no directory"):
        shelf.artifact(b"x").files()


def test_files_outside_the_allow_list_are_refused_before_any_is_fetched(shelf: Shelf, tmp_path: Path) -> None:
    """Every hop is checked: the listing's files too."""
    outside = {**shelf.put(b"1", "d/0").to_dict(), "key": "elsewhere/x"}
    inside = shelf.put(b"1", "d/0").to_dict()
    files = [{"path": "a", "pointer": inside}, {"path": "b", "pointer": outside}]
    artifact = _directory(shelf, {}, files=files)
    for read in (lambda: artifact.download(tmp_path / "new"), artifact.files, artifact.verify):
        with pytest.raises(NotAllowedError, match="elsewhere"):
            read()
    assert list(tmp_path.iterdir()) == []
    assert resolve_artifact(inside, allow=ALLOW, client=shelf.store).read_bytes() == b"1"
