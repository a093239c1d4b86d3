"""File objects as sources: checks before a byte is read, the name of the bytes, and reading them."""

from __future__ import annotations

import io
import os
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final

from stepout.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

# What decompressors read is not what their file's name says, unless the name says both: "rows.csv.gz".
_DECOMPRESSED: Final = {
    ("gzip", "GzipFile"): (".gz",),
    ("bz2", "BZ2File"): (".bz2",),
    ("lzma", "LZMAFile"): (".xz", ".lzma"),
    ("compression.zstd", "ZstdFile"): (".zst",),
    ("backports.zstd", "ZstdFile"): (".zst",),
}
_ARCHIVES: Final = {".tgz": ".gz", ".tbz": ".bz2", ".tbz2": ".bz2", ".txz": ".xz", ".tzst": ".zst"}


def name_of(source: object) -> PurePath:
    """Return the name of the bytes that a file object gives; an empty path if the name is not known.

    Many file objects carry the name of the file behind them, which holds other bytes: a decompressor, a file in an
    archive, a codec. A name is believed where the object gives that file's own bytes, and where the name is known to be
    that of what is inside.

    Args:
        source: A file object.

    >>> buffer = io.BytesIO()
    >>> buffer.name = "rows.csv"
    >>> name_of(buffer).suffix, name_of(io.BytesIO()).suffix
    ('.csv', '')
    """
    inner = _of_temporary_file(source)
    if inner is not None:
        return _path(source) if _is_plain(inner) else PurePath()
    classes = _classes(source)
    suffixes = next((_DECOMPRESSED[each] for each in classes if each in _DECOMPRESSED), None)
    if suffixes is not None:
        return _decompressed(_path(source), suffixes)
    if ("tarfile", "ExFileObject") in classes:
        return _of_tar_member(source)
    if isinstance(source, io.BufferedReader) and not _is_plain(source):
        return name_of(source.raw)
    if _is_plain(source) or isinstance(source, io.BytesIO) or ("zipfile", "ZipExtFile") in classes:
        return _path(source)  # a BytesIO has a name only if somebody gave it one; that of a ZipExtFile is the member's
    return PurePath()


def check_binary(name: str, source: Any) -> None:
    """Refuse a file object that is closed, gives text, or cannot be read.

    Args:
        name: The artifact's name.
        source: An object with ``read``.

    Raises:
        ConfigurationError: It is one of them; the message says what to do.
    """
    inner = _of_temporary_file(source)
    if isinstance(source, io.StringIO):
        msg = "a StringIO holds text: use put_text with its getvalue(), or a BytesIO"
        raise ConfigurationError(f"artifact {name!r}: {msg}. Nothing was sent")
    if getattr(source, "closed", False) is True:
        raise ConfigurationError(f"artifact {name!r}: the file is closed; put it before it is. Nothing was sent")
    if isinstance(inner or source, io.TextIOBase) or ("codecs", "StreamReader") in _classes(source):
        msg = "the file is open as text; open it with 'rb', or use put_text with what it reads"
        raise ConfigurationError(f"artifact {name!r}: {msg}. Nothing was sent")
    # Only of files: who writes a RawIOBase with readinto alone has inherited that it cannot be read.
    opened: Any = inner or source
    is_file = isinstance(opened, io.FileIO | io.BufferedWriter) or not _DECOMPRESSED.keys().isdisjoint(_classes(opened))
    if is_file and not opened.readable():
        raise ConfigurationError(f"artifact {name!r}: the file is not open for reading; use 'rb'. Nothing was sent")


class StreamSource:
    """A binary file object, from where it stands to its end; it can be read once, and stays open.

    Args:
        stream: What has ``readinto`` or ``read``.
    """

    size = None

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._into = hasattr(stream, "readinto")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def readinto(self, room: memoryview, /) -> int:
        """Read the next bytes; see ``ByteSource``.

        Raises:
            BlockingIOError: The stream does not block, and has nothing to give now.
            OSError: It gives more than it was asked for.
            TypeError: It gives text.
        """
        count = self._stream.readinto(room) if self._into else self._copied(room)
        if count is None:
            raise BlockingIOError("the stream does not block and has nothing to give; pass one that blocks")
        return int(count)

    def _copied(self, room: memoryview) -> int | None:
        data = self._stream.read(len(room))
        if data is None:
            return None
        if isinstance(data, str):
            raise TypeError("the stream gives text; open it in binary mode")
        if len(data) > len(room):
            raise OSError(
                f"the stream was asked for {len(room):,} bytes and gave {len(data):,}; its read(n) is at fault"
            )
        room[: len(data)] = data
        return len(data)

    def check(self, read: int) -> None:
        """Refuse a stream that gave nothing because it stood at its end.

        Who wrote a buffer and forgot to go back would get an empty artifact. A file object that is empty stands at 0.

        Raises:
            ConfigurationError: It stands behind bytes that were read or written before.
        """
        if read:
            return
        try:
            position = self._stream.tell()
        except Exception:  # noqa: BLE001 - a pipe, or no file in earnest: it cannot say
            return
        if isinstance(position, int) and position > 0:
            msg = f"the source stands at its end, behind {position:,} bytes that were read or written before"
            raise ConfigurationError(
                f"{msg}, and gives none: seek(0) to put what it holds, or put_bytes(name, b'') for an empty artifact. "
                "Nothing was sent"
            )


def _classes(source: object) -> list[tuple[str, str]]:
    return [(cls.__module__, cls.__name__) for cls in type(source).__mro__]


def _of_temporary_file(source: object) -> object | None:
    """Return the file that a temporary file's wrapper stands for; other objects' ``file`` may mean anything."""
    if ("tempfile", "_TemporaryFileWrapper") not in _classes(source):
        return None
    inner: object = getattr(source, "file", None)
    return inner


def _is_plain(source: object) -> bool:
    """Say whether an object gives the bytes of one file of the operating system, as they are."""
    # Not by attributes alone: a codec passes on those of the file behind it.
    return isinstance(source.raw if isinstance(source, io.BufferedReader | io.BufferedRandom) else source, io.FileIO)


def _path(source: object) -> PurePath:
    """Return what a file object calls itself; a descriptor's number is no name."""
    label = getattr(source, "name", None)
    if not isinstance(label, str | bytes | os.PathLike):
        return PurePath()
    return PurePath(os.fsdecode(label))


def _decompressed(path: PurePath, suffixes: tuple[str, ...]) -> PurePath:
    suffix = path.suffix.lower()
    if suffix in suffixes:
        return path.with_suffix("")
    return path.with_suffix(".tar") if _ARCHIVES.get(suffix) in suffixes else PurePath()


def _of_tar_member(source: object) -> PurePath:
    raw = getattr(source, "raw", None)
    archive = getattr(getattr(raw, "fileobj", None), "name", None)
    # Python 3.13 and later give the member's name; before, it is the archive's.
    return PurePath() if getattr(raw, "name", None) in (None, archive) else _path(raw)
