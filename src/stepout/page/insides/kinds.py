"""What an artifact is, for a page: by its media type, by its key where that says nothing, or by its first bytes. Pure.

SVG and HTML are text here: a page shows how they are written, and never lets them act.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final, Literal

from stepout.artifacts.listing import is_directory
from stepout.artifacts.media_types import DATASET, DEFAULT, essence, media_type_of
from stepout.artifacts.reading.tables.parquet import is_parquet
from stepout.schemas.text.foreign_text import shown

if TYPE_CHECKING:
    from stepout.schemas.pointer import Pointer

Kind = Literal["image", "table", "dataset", "directory", "json", "text", "unknown", "other"]
"""``"unknown"``: neither media type nor key says; the first bytes may. ``"other"``: nothing that a page shows."""

_IMAGES: Final = frozenset(
    {"image/png", "image/jpeg", "image/jpg", "image/webp", "image/tiff", "image/gif", "image/bmp"}
)
_TEXTS: Final = frozenset(
    f"application/{name}"
    for name in (
        "jsonl", "x-ndjson", "x-jsonlines", "json-seq", "xml", "yaml", "x-yaml", "toml", "javascript", "ecmascript",
        "sql", "x-sh", "x-python", "x-httpd-php", "x-tex", "x-latex", "rtf", "csv", "graphql", "x-subrip",
    )
)  # fmt: skip
_UNSPECIFIC: Final = frozenset({DEFAULT, "binary/octet-stream", "application/x-binary", ""})

_STARTS: Final = (
    (b"\x89PNG\r\n\x1a\n", "image", "a PNG image"),
    (b"\xff\xd8\xff", "image", "a JPEG image"),
    (b"GIF8", "image", "a GIF image"),
    (b"II*\0", "image", "a TIFF image"),
    (b"MM\0*", "image", "a TIFF image"),
    (b"PAR1", "other", "a Parquet file"),
    (b"ARROW1", "other", "an Arrow file"),
    (b"PK\x03\x04", "other", "a ZIP archive, or a file made of one"),
    (b"\x1f\x8b", "other", "gzip-compressed"),
    (b"BZh", "other", "bzip2-compressed"),
    (b"\xfd7zXZ\0", "other", "xz-compressed"),
    (b"\x28\xb5\x2f\xfd", "other", "zstd-compressed"),
    (b"%PDF-", "other", "a PDF document"),
    (b"\x93NUMPY", "other", "a NumPy array"),
    (b"\x89HDF\r\n\x1a\n", "other", "an HDF5 file"),
    (b"SQLite format 3\0", "other", "an SQLite database"),
    (b"Obj\x01", "other", "an Avro file"),
    (b"ORC", "other", "an ORC file"),
    (b"\x7fELF", "other", "a program"),
    (b"\x80\x04", "other", "a Python pickle, which stepout never loads"),
    (b"\x80\x05", "other", "a Python pickle, which stepout never loads"),
)
_WEBP: Final = b"WEBP"


def kind_of(pointer: Pointer) -> Kind:
    """Return what a pointer names, as far as it says."""
    if is_directory(pointer):
        return "directory"
    if is_parquet(pointer):
        return "table"
    media_type = essence(pointer.media_type)
    if media_type in _UNSPECIFIC:
        media_type = essence(media_type_of(PurePosixPath(pointer.key)))
    return "unknown" if media_type in _UNSPECIFIC else _kind_of_type(media_type)


def _kind_of_type(media_type: str) -> Kind:
    if media_type == DATASET:
        return "dataset"
    if media_type in _IMAGES:
        return "image"
    if media_type == "application/json" or media_type.endswith("+json"):
        return "json"
    if media_type.startswith("text/") or media_type in _TEXTS or media_type.endswith(("+xml", "+yaml")):
        return "text"
    return "other"


def kind_of_start(start: bytes) -> tuple[Kind, str]:
    r"""Return what some first bytes are of, and the words for it; ``"text"`` if they may be text.

    >>> kind_of_start(b"PK\x03\x04..."), kind_of_start(b"a,b"), kind_of_start(b"\0\1\2")
    (('other', 'a ZIP archive, or a file made of one'), ('text', 'text'), ('other', 'no text'))
    """
    for begins, kind, words in _STARTS:
        if start.startswith(begins):
            return ("image", words) if kind == "image" else ("other", words)
    if start.startswith(b"RIFF") and start[8:12] == _WEBP:
        return "image", "a WebP image"
    return ("text", "text") if not is_binary(start) else ("other", "no text")


def is_binary(start: bytes) -> bool:
    """Say whether bytes are no text in any encoding that a page shows: without a byte-order mark, a NUL says so."""
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        return False
    controls = sum(byte < 32 and byte not in b"\t\n\r\f\x1b" for byte in start)  # noqa: PLR2004 - C0
    return b"\0" in start or controls * 10 > len(start)


def described(pointer: Pointer) -> str:
    """Return the sentence for an artifact whose content a page does not show."""
    return f"Its media type is {shown(pointer.media_type, 100)}: a page shows nothing of the content of those."
