"""``directory/2``: a directory's listing as sorted JSON lines, with an index by which one file of many is found.

The lines, each of them JSON in UTF-8:

- the first: ``{"stepout": "directory/2"}``;
- one for each file, sorted by path: ``{"path": "a/b.png", "size": 10, "sha256": "…", "etag": "…"}``. What all files
  share is left out. ``versionId`` takes the place of ``etag`` where there is one; ``"executable": true`` marks a
  program; ``key`` and ``mediaType`` are there where they do not follow from the path; other members are the pointer's;
- one for each empty folder, in the same order: ``{"path": "logs/"}``;
- the last: the index. ``bucket``, ``folder`` (a file's key is ``folder/path``), ``mediaTypes`` by the extension, and
  members that every file's pointer has; ``files``, ``folders``, ``bytes``; ``tree``, the digest of the content; and
  ``stretches``: for each stretch of lines, its first path, its first byte, and its SHA-256.

The listing's pointer says in its annotations where the index starts and which SHA-256 it has, so one file costs two
ranged requests, the index and a stretch, and both are verified. The tree digest is the SHA-256 of one line for each
entry: ``path NUL f size NUL sha256 LF`` for a file, ``x`` for a program, and ``path NUL d LF`` for an empty folder. Two
directories with the same content have the same, wherever they are.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from stepout.artifacts.listing import FILES_LIMIT, Entry, names_files
from stepout.artifacts.media_types import DEFAULT
from stepout.artifacts.paths import path_fault
from stepout.schemas import rules
from stepout.schemas.errors import ConfigurationError, InvalidDocumentError, NotAllowedError
from stepout.schemas.pointer import POINTER_VERSION, Pointer
from stepout.schemas.problems import Problem, describe_problems
from stepout.schemas.text.json_text import dump_json, load_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

LINES_VERSION: Final = "directory/2"

STRETCH: Final = 64 << 10
"""A stretch ends with the line that reaches so many bytes."""

LONG_STRETCH: Final = 8 * STRETCH
"""The same where paths are so long that the index has reached half of its limit."""

STRETCH_LIMIT: Final = 1 << 20
"""What a reader takes into memory as one stretch, in bytes."""

INDEX_LIMIT: Final = 4 << 20
"""The same for the index: it has about 150 bytes for each stretch."""

PATH_LIMIT: Final = 4096
"""Characters of a path, at most: Linux takes no more bytes. A key that would be longer than S3 takes is shortened."""

LISTING_LIMIT: Final = 1 << 30
"""The largest listing that is read, in bytes: 500,000 files with long paths, keys and checksums."""

_SUFFIXES: Final = 256  # extensions whose media type is said once; what else a name ends in is no kind of file
_COMMON: Final = ("bucket", "bucketOwner", "region", "createdAt", "expiresAt")
_OWN: Final = frozenset({"path", "size", "sha256", "executable", "mediaType", "key"})


@dataclass(frozen=True, slots=True)
class EmptyFolder:
    """A folder without files; ``path`` has no slash at its end."""

    path: str


@dataclass(frozen=True, slots=True)
class Stretch:
    """Some lines of a listing: bytes ``start`` to ``stop``, and the path of the first of them."""

    first: str
    start: int
    stop: int
    sha256: str


class TreeDigest:
    """The digest of a directory's content; the module's docstring says of what."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()

    def add(self, entry: Entry | EmptyFolder) -> None:
        """Take the next entry, in the order of the paths."""
        if isinstance(entry, EmptyFolder):
            line = f"{entry.path}\0d\n"
        else:
            kind, pointer = "x" if entry.executable else "f", entry.pointer
            line = f"{entry.path}\0{kind}{pointer.size}\0{pointer.checksum['sha256']}\n"
        self._sha256.update(line.encode())

    def hexdigest(self) -> str:
        """Return the digest of what was taken."""
        return self._sha256.hexdigest()


class PathOrder:
    """Holds entries to their order: sorted, none twice, and no file that is another's folder.

    Args:
        url: The listing, for messages.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._last = ""
        self._files: list[str] = []  # each the beginning of the last path, as text: one may be the next one's folder

    def take(self, entry: Entry | EmptyFolder) -> None:
        """Take the next entry.

        Raises:
            InvalidDocumentError: It is out of order, occurs twice, or lies below a file.
        """
        path = f"{entry.path}/" if isinstance(entry, EmptyFolder) else entry.path
        if path <= self._last:
            kind = "duplicate" if path == self._last else "order"
            fault = "occurs more than once" if path == self._last else "comes after a path that sorts behind it"
            raise invalid_listing(self._url, [Problem("$.path", kind, fault)])
        while self._files and not path.startswith(self._files[-1]):
            self._files.pop()
        if any(path.startswith(f"{file}/") for file in self._files):
            raise invalid_listing(self._url, [Problem("$.path", "duplicate", "lies below a path that is a file")])
        if self._last and path.startswith(self._last) and self._last.endswith("/"):
            raise invalid_listing(
                self._url, [Problem("$.path", "duplicate", "lies in a folder that is listed as empty")]
            )
        if isinstance(entry, Entry):
            self._files.append(path)
        self._last = path


# Writing -----------------------------------------------------------------------------------------------------------


class ListingLines:
    """Makes the lines of a listing; the caller sends them one behind the other.

    Args:
        common: The members that every file's pointer has: ``bucket``, and what else of ``bucketOwner``, ``region``,
            ``createdAt`` and ``expiresAt`` there is.
        folder: A file's usual key is ``folder/path``.
    """

    def __init__(self, common: Mapping[str, Any], folder: str) -> None:
        self._common = {name: common[name] for name in _COMMON if common.get(name) is not None}
        self._folder = folder
        self._media_types: dict[str, str] = {}
        self._stretches: list[tuple[str, int, str]] = []
        self._tree = TreeDigest()
        self._first: str | None = None
        self._start = self._position = 0
        self._enough, self._rows = STRETCH, 0
        self._hashing = hashlib.sha256()
        self._index: tuple[int, str] = (0, "")
        self.files = self.folders = self.size = 0

    def begin(self) -> bytes:
        """Return the first line."""
        return self._took(dump_json({"stepout": LINES_VERSION}) + b"\n")

    def add(self, entry: Entry | EmptyFolder) -> bytes:
        """Return the line of the next entry; the caller keeps to the order of the paths."""
        self._tree.add(entry)
        if isinstance(entry, EmptyFolder):
            self.folders += 1
            return self._line(f"{entry.path}/", {"path": f"{entry.path}/"})
        self.files += 1
        self.size += entry.pointer.size
        return self._line(entry.path, self._members(entry))

    def end(self, expires_at: str | None = None) -> bytes:
        """Return what is left: the index.

        Args:
            expires_at: Until when all files are there, if that has turned out to be earlier than ``common`` has it.

        Raises:
            ConfigurationError: No reader would take so long a listing.
        """
        self._end_stretch()
        index = dump_json(
            {
                **self._common,
                **({} if expires_at is None else {"expiresAt": expires_at}),
                "folder": self._folder,
                "mediaTypes": self._media_types,
                "files": self.files,
                "folders": self.folders,
                "bytes": self.size,
                "tree": self._tree.hexdigest(),
                "stretches": [list(stretch) for stretch in self._stretches],
            }
        )
        if len(index) >= INDEX_LIMIT or self._position + len(index) >= LISTING_LIMIT:
            raise ConfigurationError(
                f"the paths of the {self.files:,} files in {self._folder} are too long for one listing, which has "
                f"{LISTING_LIMIT:,} bytes at most, and its index {INDEX_LIMIT:,}: put them as several directories, or "
                "pack them into an archive. Nothing can be read of what was sent"
            )
        self._index = self._position, hashlib.sha256(index + b"\n").hexdigest()
        return index + b"\n"

    def annotations(self) -> dict[str, Any]:
        """Return what the listing's pointer says of it, once it has ended."""
        start, digest = self._index
        directory = {"tree": self._tree.hexdigest(), "index": {"start": start, "sha256": digest}}
        return {"files": self.files, "bytes": self.size, "directory": directory}

    def _members(self, entry: Entry) -> dict[str, Any]:
        pointer = entry.pointer
        if pointer.blocks is None and not pointer.annotations and not pointer.extra:
            pins = (("etag", pointer.etag), ("versionId", pointer.version_id))
            document: dict[str, Any] = {name: value for name, value in pins if value is not None}
        else:  # a copy of everything takes as long as the rest of a line
            document = pointer.to_dict()
            for name in ("stepout", "bucket", *_COMMON, "key", "size", "mediaType", "checksum"):
                document.pop(name, None)
        checksum = dict(pointer.checksum)
        members: dict[str, Any] = {"path": entry.path, "size": pointer.size, "sha256": checksum.pop("sha256")}
        if entry.executable:
            members["executable"] = True
        if pointer.key != f"{self._folder}/{entry.path}":
            members["key"] = pointer.key
        suffix = suffix_of(entry.path)
        if suffix not in self._media_types and len(self._media_types) < _SUFFIXES:
            self._media_types[suffix] = pointer.media_type
        if pointer.media_type != self._media_types.get(suffix, DEFAULT):
            members["mediaType"] = pointer.media_type
        if pointer.version_id is not None:  # a version holds the reader to it by itself
            document.pop("etag", None)
        return {**members, **({"checksum": checksum} if checksum else {}), **document}

    def _line(self, path: str, members: dict[str, Any]) -> bytes:
        if self._first is None:
            self._first = path
        line = self._took(dump_json(members) + b"\n")
        if self._position - self._start >= self._enough:
            self._end_stretch()
        return line

    def _took(self, line: bytes) -> bytes:
        self._hashing.update(line)
        self._position += len(line)
        return line

    def _end_stretch(self) -> None:
        if self._first is not None or not self._stretches:
            self._rows += len(dump_json(self._first)) + 90
            if self._rows > INDEX_LIMIT // 2:
                self._enough = LONG_STRETCH
            self._stretches.append((self._first or "", self._start, self._hashing.hexdigest()))
        self._first, self._start, self._hashing = None, self._position, hashlib.sha256()


def suffix_of(path: str) -> str:
    """Return what a listing takes for a path's extension: from the last dot of its last segment.

    >>> suffix_of("a.b/c.tar.gz"), suffix_of("a.b/c")
    ('.gz', '')
    """
    name = path.rpartition("/")[2]
    dot = name.rfind(".")
    return name[dot:] if dot >= 0 else ""


# Reading -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ListingIndex:
    """The last line of a listing.

    Attributes:
        url: The listing, for messages.
        common: The members that every file's pointer has.
        folder: A file's usual key is ``folder/path``.
        media_types: By extension.
        files: How many there are.
        folders: How many empty folders there are.
        size: Bytes of all files together.
        tree: The digest of the content.
        stretches: In the order of their bytes and paths.
    """

    url: str
    common: Mapping[str, Any]
    folder: str
    media_types: Mapping[str, Any]
    files: int
    folders: int
    size: int
    tree: str
    stretches: Sequence[Stretch]

    def holding(self, path: str) -> Stretch | None:
        """Return the stretch that has the line of ``path`` if any has."""
        place = bisect_right(self.stretches, path, key=lambda stretch: stretch.first)
        return self.stretches[max(place - 1, 0)] if self.stretches else None

    def below(self, prefix: str) -> Sequence[Stretch]:
        """Return the stretches that may have lines whose path begins with ``prefix``."""
        if not prefix:
            return self.stretches
        start = bisect_right(self.stretches, prefix, key=lambda stretch: stretch.first)
        stop = start
        while stop < len(self.stretches) and self.stretches[stop].first.startswith(prefix):
            stop += 1
        return self.stretches[max(start - 1, 0) : stop]

    def entries(self, lines: bytes) -> Iterator[Entry | EmptyFolder]:
        """Yield the entries of a stretch, whose bytes the caller has verified.

        Raises:
            InvalidDocumentError: A line is invalid.
            NotAllowedError: A path would leave the folder that it is downloaded to.
        """
        for line in lines.splitlines():
            yield from self._entry(load_json(line))

    def _entry(self, line: Any) -> Iterator[Entry | EmptyFolder]:
        if not isinstance(line, dict) or not isinstance(path := line.get("path"), str):
            if line == {"stepout": LINES_VERSION}:
                return
            raise invalid_listing(self.url, [Problem("$.path", "type", "must be text")])
        folder = path.endswith("/")
        fault = path_fault(path.removesuffix("/"), windows=False)
        if fault is not None:
            raise NotAllowedError(f"refused the listing {self.url}: a path could leave the target folder: {fault}")
        yield (
            EmptyFolder(path[:-1]) if folder else Entry(path, self._pointer(path, line), line.get("executable") is True)
        )

    def _pointer(self, path: str, line: dict[str, Any]) -> Pointer:
        others = line.get("checksum")
        document = {
            "stepout": POINTER_VERSION,
            **self.common,
            "key": line.get("key", f"{self.folder}/{path}"),
            "size": line.get("size"),
            "checksum": {**(others if isinstance(others, dict) else {}), "sha256": line.get("sha256")},
            "mediaType": line.get("mediaType", self.media_types.get(suffix_of(path), DEFAULT)),
            **{name: value for name, value in line.items() if name not in _OWN and name != "checksum"},
        }
        try:
            pointer = Pointer.from_dict(document)
        except InvalidDocumentError as error:
            raise invalid_listing(self.url, error.problems) from None
        if names_files(pointer):
            message = "is a listing itself; no listing leads to another"
            raise invalid_listing(self.url, [Problem("$.mediaType", "unexpected", message)])
        return pointer


def parse_index(line: bytes, start: int, url: str) -> ListingIndex:
    """Parse the last line of a listing, which the caller has verified.

    Args:
        line: The line.
        start: Its first byte in the listing.
        url: The listing, for messages.

    Raises:
        InvalidDocumentError: It is no index.
    """
    document = load_json(line)
    if not isinstance(document, dict):
        raise invalid_listing(url, [rules.wrong_type("$", "object", document)])
    numbers = {name: rules.whole(document.get(name)) for name in ("files", "folders", "bytes")}
    problems = [
        rules.wrong_type(f"$.{name}", "integer", document.get(name)) for name, n in numbers.items() if n is None
    ]
    for name, kind in (("folder", str), ("tree", str), ("mediaTypes", dict), ("stretches", list)):
        if not isinstance(document.get(name), kind):
            problems.append(Problem(f"$.{name}", "type", "is missing, or of another type"))
    stretches = [] if problems else list(_stretches(document["stretches"], start, problems))
    if problems:
        raise invalid_listing(url, problems)
    if (numbers["files"] or 0) + (numbers["folders"] or 0) > FILES_LIMIT:
        message = f"has {numbers['files']:,} files; writers keep to {FILES_LIMIT:,}, empty folders included"
        raise invalid_listing(url, [Problem("$.files", "size", message)])
    return ListingIndex(
        url=url,
        common={name: document[name] for name in _COMMON if name in document},
        folder=document["folder"],
        media_types=document["mediaTypes"],
        files=numbers["files"] or 0,
        folders=numbers["folders"] or 0,
        size=numbers["bytes"] or 0,
        tree=document["tree"],
        stretches=tuple(stretches),
    )


def _stretches(rows: list[Any], end: int, problems: list[Problem]) -> Iterator[Stretch]:
    well = rows and all(
        isinstance(row, list) and len(row) == 3 and list(map(type, row)) == [str, int, str]  # noqa: PLR2004 - as written
        for row in rows
    )
    if not well or rows[0][1] != 0:
        problems.append(Problem("$.stretches", "type", "must be rows of a path, a first byte from 0 on, and a SHA-256"))
        return
    for row, following in zip(rows, [*rows[1:], ["", end, ""]], strict=True):
        size = following[1] - row[1]
        if not 0 < size <= STRETCH_LIMIT or (following[0] and following[0] <= row[0]):
            message = f"must be sorted, and of 1 to {STRETCH_LIMIT:,} bytes each"
            problems.append(Problem("$.stretches", "value", message))
            return
        yield Stretch(row[0], row[1], following[1], row[2])


def index_place(pointer: Pointer) -> tuple[int, str] | None:
    """Return where a listing's index starts, and its SHA-256, as its pointer says; ``None``: it does not.

    Then the listing is read whole, held to the pointer's own checksum, and its last line is the index.
    """
    own = (pointer.annotations or {}).get("directory")
    index = own.get("index") if isinstance(own, dict) else None
    start = rules.whole(index.get("start")) if isinstance(index, dict) else None
    digest = index.get("sha256") if isinstance(index, dict) else None
    return (start, digest) if start is not None and isinstance(digest, str) else None


def tree_of(pointer: Pointer) -> str | None:
    """Return the digest of a directory's content, as its pointer says; ``None``: it does not."""
    own = (pointer.annotations or {}).get("directory")
    tree = own.get("tree") if isinstance(own, dict) else None
    return tree if isinstance(tree, str) else None


def invalid_listing(url: str, problems: Sequence[Problem]) -> InvalidDocumentError:
    """Return the error for a listing that is none."""
    told = describe_problems(list(problems))
    return InvalidDocumentError(f"the directory listing {url} is invalid: {told}. No more is read by it", problems)
