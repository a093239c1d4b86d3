"""Media types and file extensions: fixed tables, since the operating system's differ between machines."""

from __future__ import annotations

import functools
import mimetypes
import re
from pathlib import PurePath  # noqa: TC003 - the doctests use it
from typing import Final

DEFAULT: Final = "application/octet-stream"
DATASET: Final = "application/vnd.stepout.dataset+json"
DIRECTORY: Final = "application/vnd.stepout.directory+jsonl"
DIRECTORY_1: Final = "application/vnd.stepout.directory+json"
JSON: Final = "application/json"
PARQUET: Final = "application/vnd.apache.parquet"
TEXT: Final = "text/plain; charset=utf-8"

# What the standard library's table does not know, or what differs between Python versions.
_TYPES: Final = {
    ".arrow": "application/vnd.apache.arrow.file",
    ".arrows": "application/vnd.apache.arrow.stream",
    ".avro": "application/vnd.apache.avro",
    ".bin": DEFAULT,
    ".bz2": "application/x-bzip2",
    ".feather": "application/vnd.apache.arrow.file",
    ".geojson": "application/geo+json",
    ".gz": "application/gzip",
    ".jsonl": "application/jsonl",
    ".log": TEXT,
    ".md": "text/markdown; charset=utf-8",
    ".ndjson": "application/x-ndjson",
    ".orc": "application/vnd.apache.orc",
    ".parquet": PARQUET,
    ".rst": "text/x-rst",
    ".sqlite": "application/vnd.sqlite3",
    ".toml": "application/toml",
    ".txt": TEXT,
    ".webp": "image/webp",
    ".xz": "application/x-xz",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
    ".zst": "application/zstd",
}
_SUFFIXES: Final = {
    DATASET: ".json",
    DIRECTORY: ".jsonl",
    DIRECTORY_1: ".json",
    JSON: ".json",
    PARQUET: ".parquet",
    "application/jsonl": ".jsonl",
    "application/pdf": ".pdf",
    "application/zip": ".zip",
    "image/jpeg": ".jpeg",
    "image/png": ".png",
    "image/tiff": ".tiff",
    "image/webp": ".webp",
    "text/csv": ".csv",
    "text/html": ".html",
    "text/markdown": ".md",
    "text/plain": ".txt",
}
_COMPRESSED: Final = {".bz2", ".gz", ".xz", ".zst"}
_SHORT = re.compile(r"\.[A-Za-z0-9_-]{1,16}")


@functools.cache
def _builtin() -> mimetypes.MimeTypes:
    return mimetypes.MimeTypes(filenames=())


def extension_of(path: PurePath) -> str:
    """Return the extension that an artifact made from a file keeps; ``""`` where there is none to keep.

    >>> extension_of(PurePath("a.tar.gz")), extension_of(PurePath("v1.2 final.CSV")), extension_of(PurePath("x.a b"))
    ('.tar.gz', '.CSV', '')
    """
    suffixes = path.suffixes
    if not suffixes or not _SHORT.fullmatch(suffixes[-1]):
        return ""
    if suffixes[-1].lower() in _COMPRESSED and len(suffixes) > 1 and _SHORT.fullmatch(suffixes[-2]):
        return "".join(suffixes[-2:])
    return suffixes[-1]


def media_type_of(path: PurePath) -> str:
    """Guess a media type from a file's name alone.

    >>> media_type_of(PurePath("scores.parquet")), media_type_of(PurePath("page.html")), media_type_of(PurePath("x"))
    ('application/vnd.apache.parquet', 'text/html', 'application/octet-stream')
    """
    suffix = path.suffix.lower()
    known = _TYPES.get(suffix) or _builtin().types_map[True].get(suffix)
    return known or DEFAULT


def essence(media_type: str) -> str:
    """Return a media type without its parameters, in lower case.

    >>> essence("Text/CSV; charset=utf-8")
    'text/csv'
    """
    return media_type.partition(";")[0].strip().lower()


def suffix_for(media_type: str) -> str:
    """Return the file extension that goes with a media type, ``""`` where it says nothing.

    >>> suffix_for("text/csv; charset=utf-8"), suffix_for("application/octet-stream")
    ('.csv', '')
    """
    return _SUFFIXES.get(essence(media_type), "")
