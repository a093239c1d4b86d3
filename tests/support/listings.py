"""Directories in a store, as a writer leaves them: files, and a listing of ``directory/2`` that names them."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from stepout.artifacts.directory_listing import EmptyFolder, ListingLines
from stepout.artifacts.listing import Entry
from stepout.artifacts.media_types import DIRECTORY
from stepout.artifacts.store_writes import WriteOptions
from stepout.schemas import Pointer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from stepout.artifacts.store import Store

FOLDER = "runs/out"


def put_bytes(store: Store, key: str, data: bytes, **members: Any) -> Pointer:
    """Store bytes and return their pointer; ``members`` replace what it says."""
    sha256 = {"sha256": hashlib.sha256(data).hexdigest()}
    written = store.put(key, [memoryview(data)], checksum=sha256, options=WriteOptions(mode="overwrite"))
    said = {"size": len(data), "checksum": sha256, "etag": written.etag, "version_id": written.version_id, **members}
    return Pointer(bucket=store.bucket, key=key, **said)


def listed(store: Store, entries: Iterable[Entry | EmptyFolder]) -> Pointer:
    """Store a listing of these entries, in their order, and return its pointer."""
    lines = ListingLines({"bucket": store.bucket}, FOLDER)
    data = b"".join([lines.begin(), *map(lines.add, entries), lines.end()])
    return put_bytes(store, f"{FOLDER}.jsonl", data, media_type=DIRECTORY, annotations=lines.annotations())


def put_tree(store: Store, files: Mapping[str, bytes | None], *, programs: Iterable[str] = ()) -> Pointer:
    """Store a directory and return the pointer of its listing; an empty folder's path has the content ``None``."""
    made: list[tuple[str, Entry | EmptyFolder]] = []
    for path, data in files.items():
        if data is None:
            made.append((f"{path}/", EmptyFolder(path)))
        else:
            pointer = put_bytes(store, f"{FOLDER}/{path}", data)
            made.append((path, Entry(path, pointer, path in programs)))
    return listed(store, [entry for _, entry in sorted(made, key=lambda pair: pair[0])])


def named(path: str, *, size: int = 0, bucket: str = "results", key: str | None = None) -> Entry:
    """Return a file of a listing that was never stored."""
    checksum = {"sha256": hashlib.sha256(path.encode()).hexdigest()}
    return Entry(path, Pointer(bucket=bucket, key=key or f"{FOLDER}/{path}", size=size, checksum=checksum, etag='"e"'))
