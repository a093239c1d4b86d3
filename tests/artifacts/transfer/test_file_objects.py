"""Open files: named after the bytes that they give, read from where they stand, refused where they give none."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import os
import pathlib
import sys
import tarfile
import tempfile
import zipfile
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from stepout.artifacts import ArtifactManager, MemoryStore
from stepout.schemas.errors import ConfigurationError
from stepout.schemas.many_failed import ManyFailedError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# The files behind decompressors, archives and codecs are closed when they are collected.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

ROWS = b"id,score\n1,0.5\n"
CSV, UNKNOWN = ("text/csv", ".csv"), ("application/octet-stream", "")
NAMED_INSIDE = CSV if sys.version_info >= (3, 13) else UNKNOWN  # earlier ones do not say which file they read


@pytest.fixture
def store() -> MemoryStore:
    """A store without a network."""
    return MemoryStore("results")


@pytest.fixture
def manager(store: MemoryStore) -> ArtifactManager:
    """A manager that writes to it."""
    return ArtifactManager(store)


def gz(folder: Path, name: str = "rows.csv.gz") -> Any:
    """A file that is decompressed while it is read."""
    with gzip.open(folder / name, "wb") as file:
        file.write(ROWS)
    return gzip.open(folder / name)


def packed(folder: Path, module: Any, name: str) -> Any:
    """The same by another module."""
    with module.open(folder / name, "wb") as file:
        file.write(ROWS)
    return module.open(folder / name)


def plain(folder: Path) -> Path:
    """A file of its own name."""
    path = folder / "rows.csv"
    path.write_bytes(ROWS)
    return path


def tarred(folder: Path) -> Any:
    """A file in an archive."""
    with tarfile.open(folder / "all.tar.gz", "w:gz") as archive:
        archive.add(plain(folder), "rows.csv")
    return tarfile.open(folder / "all.tar.gz").extractfile("rows.csv")


def zipped(folder: Path) -> Any:
    """The same in a zip file."""
    with zipfile.ZipFile(folder / "all.zip", "w") as archive:
        archive.write(plain(folder), "rows.csv")
    return zipfile.ZipFile(folder / "all.zip").open("rows.csv")


def temporary(**options: Any) -> Any:
    """A temporary file that was written and rewound."""
    file = tempfile.NamedTemporaryFile(**options)  # noqa: SIM115 - the test reads it
    file.write(ROWS)
    file.seek(0)
    return file


def named_buffer(_: Path) -> Any:
    """A buffer that somebody gave a name."""
    buffer = io.BytesIO(ROWS)
    buffer.name = "rows.csv"
    return buffer


def foreign(_: Path) -> Any:
    """A file object of somebody else's, with the name of the file behind it."""

    class Decrypting:
        name = "rows.csv.aes"
        inner = io.BytesIO(ROWS)

        def read(self, size: int = -1) -> bytes:
            return self.inner.read(size)

    return Decrypting()


SOURCES: dict[str, tuple[Callable[[Path], Any], tuple[str, str]]] = {
    "a file": (lambda folder: plain(folder).open("rb"), CSV),
    "a file without a buffer": (lambda folder: plain(folder).open("rb", buffering=0), CSV),
    "a file for both": (lambda folder: plain(folder).open("r+b"), CSV),
    "a file opened by bytes": (lambda folder: io.FileIO(os.fsencode(plain(folder))), CSV),
    "a descriptor": (lambda folder: os.fdopen(os.open(plain(folder), os.O_RDONLY), "rb"), UNKNOWN),
    "gzip": (gz, CSV),
    "gzip, other letters": (lambda folder: gz(folder, "ROWS.csv.GZ"), CSV),
    "gzip of a tar": (lambda folder: gz(folder, "all.tgz"), ("application/x-tar", ".tar")),
    "gzip by another name": (lambda folder: gz(folder, "rows.csv"), UNKNOWN),
    "gzip of one ending": (lambda folder: gz(folder, "rows.gz"), UNKNOWN),
    "gzip of a file object": (lambda folder: gzip.GzipFile(fileobj=io.FileIO(gz(folder).name)), CSV),
    "gzip behind a buffer": (lambda folder: io.BufferedReader(gz(folder)), CSV),
    "bz2": (lambda folder: packed(folder, bz2, "rows.csv.bz2"), NAMED_INSIDE),
    "lzma": (lambda folder: packed(folder, lzma, "rows.csv.xz"), NAMED_INSIDE),
    "a member of a tar": (tarred, NAMED_INSIDE),
    "a member of a zip": (zipped, CSV),
    "a temporary file": (lambda _: temporary(suffix=".csv"), CSV),
    "a temporary file without a suffix": (lambda _: temporary(), UNKNOWN),
    "a buffer": (lambda _: io.BytesIO(ROWS), UNKNOWN),
    "a named buffer": (named_buffer, CSV),
    "a codec": (lambda folder: codecs.EncodedFile(plain(folder).open("rb"), "utf-8", "latin-1"), UNKNOWN),
    "a reader of somebody else's": (foreign, UNKNOWN),
}  # fmt: skip


@pytest.mark.parametrize("put", ["put", "put_file"])
@pytest.mark.parametrize("case", SOURCES)
def test_type_and_extension_are_those_of_the_bytes_that_are_read(
    manager: ArtifactManager, store: MemoryStore, tmp_path: Path, case: str, put: str
) -> None:
    """The name of a file behind a decompressor, an archive or a codec is not the name of what is stored."""
    make, (media_type, extension) = SOURCES[case]
    source = make(tmp_path)
    pointer = getattr(manager, put)("rows", source)
    if hasattr(source, "close"):
        source.close()
    assert store.read(pointer.key) == ROWS
    assert (pointer.media_type, pointer.key.rpartition("/")[2]) == (media_type, f"rows{extension}")


def spool(folder: Path) -> Any:
    """A spooled file that was written and left at its end."""
    file = tempfile.SpooledTemporaryFile(dir=str(folder))  # noqa: SIM115 - the test reads it
    file.write(ROWS)
    return file


def at_end(source: Any) -> Any:
    """Read a source to its end."""
    source.read()
    return source


def saved(_: Path) -> Any:
    """A buffer that Pillow has written to."""
    buffer = io.BytesIO()
    Image.new("L", (2, 2)).save(buffer, "PNG")
    return buffer


def written(_: Path) -> Any:
    """A buffer that was written to."""
    buffer = io.BytesIO()
    buffer.write(ROWS)
    return buffer


SPENT: dict[str, Callable[[Path], Any]] = {
    "a buffer": written,
    "a buffer of Pillow's": saved,
    "a file": lambda folder: at_end(plain(folder).open("rb")),
    "a raw file": lambda folder: at_end(plain(folder).open("rb", buffering=0)),
    "gzip": lambda folder: at_end(gz(folder)),
    "a member of a tar": lambda folder: at_end(tarred(folder)),
    "a member of a zip": lambda folder: at_end(zipped(folder)),
    "a temporary file": lambda _: at_end(temporary()),
    "a spooled file": spool,
}


@pytest.mark.parametrize("case", SPENT)
def test_a_source_at_its_end_is_refused(
    manager: ArtifactManager, store: MemoryStore, tmp_path: Path, case: str
) -> None:
    """Not an empty artifact but an error that says how to go back; after that, all of it is stored."""
    source = SPENT[case](tmp_path)
    with pytest.raises(ConfigurationError, match=r"at its end.*seek\(0\).*Nothing was sent"):
        manager.put("rows", source)
    assert store.keys() == []
    source.seek(0)
    assert store.read(manager.put("rows", source).key)
    source.close()


@given(content=st.binary(max_size=50), start=st.integers(0, 60))
def test_a_source_is_read_from_where_it_stands(content: bytes, start: int) -> None:
    """The rest is stored, and an empty rest is refused unless there is nothing in front of it either."""
    store, source = MemoryStore("results"), io.BytesIO(content)
    source.seek(start)
    if start and start >= len(content):
        with pytest.raises(ConfigurationError, match="at its end"):
            ArtifactManager(store).put_file("rest", source)
    else:
        assert store.read(ArtifactManager(store).put_file("rest", source).key) == content[start:]


def test_what_is_empty_is_stored_empty(manager: ArtifactManager, tmp_path: Path) -> None:
    """An empty buffer, an empty file and a pipe that brings nothing are empty artifacts."""
    (tmp_path / "empty").touch()
    reader, writer = os.pipe()
    os.close(writer)
    with (tmp_path / "empty").open("rb") as file, os.fdopen(reader, "rb") as pipe:
        for name, source in (("a", io.BytesIO()), ("b", file), ("c", pipe), ("d", tmp_path / "empty")):
            assert manager.put(name, source).size == 0


def closed(source: Any) -> Any:
    """Close a source."""
    source.close()
    return source


UNREADABLE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "StringIO": (lambda _: io.StringIO("a"), r"put_text with its getvalue\(\)"),
    "a text file": (lambda folder: plain(folder).open(), "'rb'"),
    "text over bytes": (lambda _: io.TextIOWrapper(io.BytesIO(ROWS)), "put_text with what it reads"),
    "text over gzip": (lambda folder: gzip.open(gz(folder).name, "rt"), "'rb'"),  # noqa: SIM115 - closed below
    "a temporary file of text": (lambda _: tempfile.NamedTemporaryFile("w+"), "'rb'"),  # noqa: SIM115 - closed below
    "a codec": (lambda folder: codecs.getreader("utf-8")(plain(folder).open("rb")), "'rb'"),
    "a closed buffer": (lambda _: closed(io.BytesIO(ROWS)), "the file is closed"),
    "a closed file": (lambda folder: closed(plain(folder).open("rb")), "the file is closed"),
    "a closed gzip": (lambda folder: closed(gz(folder)), "the file is closed"),
    "a closed temporary file": (lambda _: closed(temporary()), "the file is closed"),
    "a gzip for writing": (lambda folder: gzip.open(folder / "new.gz", "wb"), "not open for reading"),  # noqa: SIM115 - closed below
    "a raw file for writing": (lambda folder: (folder / "new").open("wb", buffering=0), "not open for reading"),
    "a file for writing": (lambda folder: (folder / "new").open("wb"), "not open for reading"),
}


@pytest.mark.parametrize("put", ["put", "put_file"])
@pytest.mark.parametrize("case", UNREADABLE)
def test_what_gives_no_bytes_is_refused_before_anything_is_sent(
    manager: ArtifactManager, store: MemoryStore, tmp_path: Path, case: str, put: str
) -> None:
    """Text, closed files and files for writing are errors that say what to do; the name stays free."""
    make, match = UNREADABLE[case]
    source = make(tmp_path)
    with pytest.raises(ConfigurationError, match=match):
        getattr(manager, put)("rows", source)
    closed(source)
    assert store.keys() == []
    manager.put("rows", ROWS)


@pytest.mark.parametrize(
    ("put", "value", "match"),
    [
        ("put_bytes", io.StringIO("a"), r"use put_text with its getvalue\(\)"),
        ("put_bytes", io.BytesIO(ROWS), "use put_file"),
        ("put_bytes", "rows.csv", "use put_text for text, put_file for a path"),
        ("put_text", io.StringIO("a"), r"use put_text with its getvalue\(\)"),
        ("put_text", ROWS, "expected text, got bytes"),
    ],
)
def test_the_wrong_put_names_the_right_one(manager: ArtifactManager, put: str, value: Any, match: str) -> None:
    """Who meant another put is told which."""
    with pytest.raises(ConfigurationError, match=match):
        getattr(manager, put)("rows", value)


# Text that names a file --------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory and the home, with a file and a folder in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "output.json").write_text("{}")
    (tmp_path / "results").mkdir()
    return tmp_path


NAMES = [
    ("output.json", "put_file"),
    ("./output.json", "put_file"),
    ("~/output.json", "put_file"),
    (b"output.json", "put_file"),
    (b"~/output.json", "put_file"),
    ("results", "put_directory"),
    ("results/", "put_directory"),
    ("~/results", "put_directory"),
]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(("value", "put"), NAMES)
def test_text_that_names_what_is_there_is_refused(
    manager: ArtifactManager, store: MemoryStore, value: Any, put: str
) -> None:
    """``put`` cannot tell whether the name or the file is meant, so the error has both ways to say it."""
    plain_put = "put_text" if isinstance(value, str) else "put_bytes"
    with pytest.raises(ConfigurationError, match=f"{put} or pass a pathlib.Path.*{plain_put}.*Nothing was sent"):
        manager.put("d", value)
    with pytest.raises(ManyFailedError, match=plain_put):
        manager.put_many({"d": value})
    assert store.keys() == []
    stored = store.read(getattr(manager, plain_put)("d", value).key)
    assert stored == (value if isinstance(value, bytes) else value.encode())


@pytest.mark.usefixtures("folder")
def test_the_ways_to_say_which_is_meant(manager: ArtifactManager, store: MemoryStore) -> None:
    """A path object is a file, a put by name takes what it says, and text that names nothing is content."""
    assert store.read(manager.put("a", pathlib.Path("output.json")).key) == b"{}"
    assert store.read(manager.put("b", pathlib.PurePath("output.json")).key) == b"{}"
    assert store.read(manager.put_file("c", "output.json").key) == b"{}"
    assert store.read(manager.put_text("d", "output.json").key) == b"output.json"
    assert store.read(manager.put_json("e", "output.json").key) == b'"output.json"'
    for index, text in enumerate(
        ("", ".", "/", "~", "missing.json", "output.json\n", "~nobody-of-this-name/x", "a\0b", "x" * 5_000)
    ):
        assert store.read(manager.put(f"t{index}", text).key) == text.encode()
        assert store.read(manager.put(f"b{index}", text.encode()).key) == text.encode()
