"""Every put of the artifact manager: from a value to a pointer."""

from __future__ import annotations

import io
import os
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from stepout.artifacts.formats import images, tables
from stepout.artifacts.media_types import DEFAULT, JSON, PARQUET, TEXT, extension_of, media_type_of
from stepout.artifacts.transfer import file_objects, many
from stepout.artifacts.writing import directory, values
from stepout.artifacts.writing.writer import ArtifactTextWriter, ArtifactWriter
from stepout.artifacts.writing.writes import PutOptions
from stepout.schemas import invalid_document, json_problems
from stepout.schemas.errors import ConfigurationError
from stepout.schemas.problems import Problem
from stepout.schemas.text.json_text import dump_plain_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Unpack

    from stepout.artifacts.writing.writes import Writes
    from stepout.schemas import Pointer


class Puts:
    """The writing half of ``ArtifactManager``, whose docstring says what holds for every put."""

    _outbox: Writes

    # One artifact from one value ---------------------------------------------------------------------------------

    def put(self, name: str, value: Any, **options: Any) -> Pointer:
        """Write a value as its type calls for.

        Args:
            name: The artifact's name.
            value: Bytes; text (content; what names a file or a folder that is there is refused); a ``pathlib.Path`` of
                a file or a directory, or a binary file object; a PIL image or a numpy array (an image); a table, or an
                iterator of record batches; anything that is JSON.
            options: See ``PutOptions``, and the put that the value calls for.

        Raises:
            ConfigurationError: Text, or bytes, that name a file or a folder: say ``put_file`` or ``put_text``.
        """
        values.check_no_path(name, value)
        kind = values.kind_of(value)
        pointer: Pointer = getattr(self, f"put_{kind}")(name, value, **options)
        return pointer

    def put_bytes(self, name: str, data: bytes | bytearray | memoryview, **options: Unpack[PutOptions]) -> Pointer:
        """Write bytes; ``application/octet-stream`` unless ``media_type=`` says otherwise.

        Args:
            name: The artifact's name.
            data: Not to be changed before this returns.
            options: See ``PutOptions``.
        """
        target = self._outbox.target(name, DEFAULT, "", options)
        try:
            view = memoryview(data)
        except TypeError as error:
            msg = f"artifact {name!r}: expected bytes, got {type(data).__name__}; {_instead(data)}. Nothing was sent"
            raise ConfigurationError(msg) from error
        return self._outbox.put(target, lambda upload: upload.send_buffer(view))

    def put_text(self, name: str, text: str, *, encoding: str = "utf-8", **options: Unpack[PutOptions]) -> Pointer:
        """Write text as UTF-8, newlines as they are.

        Args:
            name: The artifact's name.
            text: Without lone surrogates.
            encoding: ``"utf-8"``, the one that every reader agrees on.
            options: See ``PutOptions``.
        """
        target = self._outbox.target(name, TEXT, ".txt", options)
        if str(encoding).lower().replace("_", "-") not in ("utf-8", "utf8"):
            raise ConfigurationError(f"encoding is {encoding!r}: text artifacts are UTF-8; use put_bytes for others")
        if not isinstance(text, str):
            msg = f"artifact {name!r}: expected text, got {type(text).__name__}; {_instead(text)}. Nothing was sent"
            raise ConfigurationError(msg)
        try:
            data = text.encode()
        except UnicodeEncodeError as error:
            problem = Problem("$", "surrogate", f"holds a lone surrogate at character {error.start:,}")
            raise invalid_document(f"the text of artifact {name!r}", [problem], "Nothing was sent.") from None
        return self._outbox.put(target, lambda upload: upload.send_buffer(data))

    def put_json(self, name: str, value: Any, **options: Unpack[PutOptions]) -> Pointer:
        """Write JSON: compact, UTF-8. Tuples become arrays, numpy's scalars numbers.

        Args:
            name: The artifact's name.
            value: What ``stepout.schemas.json_problems`` finds nothing wrong with: no NaN, dates, bytes or sets.
            options: See ``PutOptions``.

        Raises:
            InvalidDocumentError: It is not JSON; ``problems`` says which members. Nothing was sent.
        """
        target = self._outbox.target(name, JSON, ".json", options)
        problems = json_problems(value, convertible=True)
        if problems:
            raise invalid_document(f"the value of artifact {name!r}", problems, "Nothing was sent.")
        data = dump_plain_json(value)
        return self._outbox.put(target, lambda upload: upload.send_buffer(data))

    def put_file(self, name: str, path: str | os.PathLike[str] | Any, **options: Unpack[PutOptions]) -> Pointer:
        """Write a file that nobody changes meanwhile, or a binary file object from where it stands to its end.

        Media type and extension follow from the name of the bytes that are read: of ``gzip.open("rows.csv.gz")`` they
        are those of ``rows.csv``. Where nobody knows that name, they are ``application/octet-stream`` and none.

        Args:
            name: The artifact's name.
            path: A path, or an object with ``read``.
            options: See ``PutOptions``.

        Raises:
            ArtifactChangedError: The file changed while it was read. Nothing was kept.
            ConfigurationError: The file object is closed, gives text, or stands at its end behind bytes that it holds
                (``seek(0)`` goes back). Nothing was sent.
            OSError: The file cannot be read.
        """
        if hasattr(path, "read"):
            return self._put_stream(name, path, options)
        source = _path(name, path)
        target = self._outbox.target(name, media_type_of(source), extension_of(source), options)
        if source.is_dir():
            raise ConfigurationError(f"artifact {name!r}: {source} is a directory; use put_directory. Nothing was sent")
        return self._outbox.put(target, lambda upload: upload.send_file(source))

    def _put_stream(self, name: str, source: Any, options: PutOptions) -> Pointer:
        file_objects.check_binary(name, source)
        origin = file_objects.name_of(source)
        target = self._outbox.target(name, media_type_of(origin), extension_of(origin), options)
        return self._outbox.put(target, lambda upload: upload.send_stream(source))

    def put_directory(self, name: str, path: str | os.PathLike[str], **options: Unpack[PutOptions]) -> Pointer:
        """Write every file below a directory, then a listing of them, which is the artifact.

        Args:
            name: The artifact's name.
            path: The directory; at most 10,000 files. Links out of it are refused, empty folders are not kept.
            options: See ``PutOptions``.
        """
        return directory.put_directory(self._outbox, name, _path(name, path), options)

    def put_image(
        self,
        name: str,
        image: Any,
        format: str = "png",  # noqa: A002 - the name users expect, as in Pillow
        **options: Any,
    ) -> Pointer:
        """Write an image; needs the extra ``image``.

        Args:
            name: The artifact's name.
            image: A PIL image or a numpy array; see ``encode_image``.
            format: ``"png"``, ``"jpeg"``, ``"webp"`` or ``"tiff"``; the key's extension follows it.
            options: See ``PutOptions``; and options of Pillow's writer, for example ``quality=90``.
        """
        ours, save = _split(options)
        wanted = images.check_format(format)
        images.check_options(wanted, save)
        target = self._outbox.target(name, f"image/{wanted}", f".{wanted}", ours, ("image",))
        with self._outbox.reserved(target):
            encoded = images.encode_image(image, wanted, **save)
            with self._outbox.upload(target) as upload:
                return self._outbox.record(target, upload.send_buffer(encoded.data), {"image": encoded.annotation})

    def put_table(
        self,
        name: str,
        table: Any,
        *,
        compression: str = "snappy",
        row_group_bytes: int = tables.ROW_GROUP_BYTES,
        **options: Unpack[PutOptions],
    ) -> Pointer:
        """Write a table as Parquet; encoding, hashing and sending overlap. Needs the extra ``parquet``.

        Args:
            name: The artifact's name.
            table: Anything with the Arrow C stream or array interface (pyarrow, pandas, polars, duckdb), a pyarrow
                dataset or scanner, or an iterator of such things. A stream takes one row group of memory, a ring of
                parts and the footer, however long it is. The first item of an iterator decides what the columns are,
                and whether pandas' index is one (row numbers are not); a later one that could not follow without loss
                is refused. Whatever is read once is closed, whether this succeeds or not.
            compression: ``"snappy"``, ``"zstd"``, ``"gzip"``, ``"lz4"``, ``"brotli"`` or ``"none"``.
            row_group_bytes: Arrow memory that is gathered into one row group, about, in bytes.
            options: See ``PutOptions``.

        Raises:
            ConfigurationError: Duplicate column names, rows without columns, a type that Arrow or Parquet cannot hold
                as what it is (before anything is sent), or batches that differ in their columns. Nothing was kept.
        """
        target = self._outbox.target(name, PARQUET, ".parquet", options, ("parquet", "rows", "columns"))
        if not isinstance(row_group_bytes, int) or row_group_bytes < 1:
            raise ConfigurationError(f"row_group_bytes is {row_group_bytes!r}: expected a whole number, 1 or more")
        with self._outbox.reserved(target), closing(tables.table_source(table)) as source:
            codec = tables.check_compression(compression)
            with self._outbox.upload(target) as upload:
                own = tables.encode_table(source, upload, compression=codec, row_group_bytes=row_group_bytes)
                annotations = {"rows": own["rows"], "columns": own["columns"], "parquet": own}
                return self._outbox.record(target, upload.commit(), annotations)

    # Many artifacts at once --------------------------------------------------------------------------------------

    def put_many(
        self,
        items: Mapping[str, Any] | Iterable[tuple[str, Any]],
        *,
        connections: int | None = None,
        **options: Unpack[PutOptions],
    ) -> dict[str, Pointer]:
        """Write many values, several at once, each as ``put`` writes it; small ones cost least this way.

        Everything is tried, and what failed is reported at once. What would make all others fail alike ends it early:
        a missing bucket, refused credentials or permissions, a manager that was aborted, and a store that does not
        answer 32 times in a row. An exception of ``items`` leaves unchanged; what was under way then ends by itself.

        Args:
            items: Names and values; an iterator of pairs is taken lazily, in this thread: no more than four times
                as many values as there are connections, and of bytes and text no more than 64 MiB, wait at once.
            connections: Requests in flight at once, 16 by default.
            options: See ``PutOptions``; they hold for all.

        Returns:
            The pointers, in the order of ``items``; they are in ``pointers`` as well.

        Raises:
            ManyFailedError: ``failures`` says which failed and how, ``pointers`` has all others; ``retryable`` if all
                failures are.
            ConfigurationError: ``items`` or ``connections`` is none.
        """
        self._outbox.check_process("put_many")
        ledger = self._outbox.ledger
        ledger.check_open()
        return many.put_many(
            lambda name, value: self.put(name, value, **options),
            items,
            connections=connections,
            ended=lambda: ledger.ended,
        )

    # One artifact from a stream of writes ------------------------------------------------------------------------

    @overload
    def open(self, name: str, kind: Literal["wb"] = "wb", /, **options: Unpack[PutOptions]) -> ArtifactWriter: ...
    @overload
    def open(self, name: str, kind: Literal["w"], /, **options: Unpack[PutOptions]) -> ArtifactTextWriter: ...
    def open(
        self, name: str, kind: Literal["wb", "w"] = "wb", /, **options: Unpack[PutOptions]
    ) -> ArtifactWriter | ArtifactTextWriter:
        """Open an artifact for writing.

        Args:
            name: The artifact's name.
            kind: ``"wb"`` for bytes, ``"w"`` for text as UTF-8.
            options: See ``PutOptions``; ``mode=`` is ``"create"`` or ``"overwrite"``.

        Returns:
            A file object. Closing it commits; an exception that leaves its ``with`` block leaves nothing. It goes
            forward only: for a writer that seeks (Pillow's for TIFF and PDF does), write to memory or to a file first.
        """
        if options.get("mode") in ("wb", "w"):  # open(name, mode="wb"), as the builtin has it
            kind = options.pop("mode")  # type: ignore[assignment]  # said by the wrong name
        if kind not in ("wb", "w"):
            raise ConfigurationError(
                f"open({name!r}, {kind!r}): expected 'wb' or 'w'; artifacts are written, not read, here"
            )
        media_type, suffix = (TEXT, ".txt") if kind == "w" else (DEFAULT, "")
        suffix_wanted = options.get("suffix")
        if suffix_wanted is not None and options.get("media_type") is None:
            media_type = media_type_of(Path(f"x{suffix_wanted}"))
        writer = ArtifactWriter(self._outbox, self._outbox.target(name, media_type, suffix, options))
        return ArtifactTextWriter(writer) if kind == "w" else writer


def _instead(value: object) -> str:
    """Say which put takes what put_bytes and put_text do not."""
    if isinstance(value, io.StringIO):
        return "use put_text with its getvalue()"
    if isinstance(value, str):
        return "use put_text for text, put_file for a path"
    if hasattr(value, "read") or isinstance(value, os.PathLike):
        return "use put_file"
    return "put picks by type"


def _path(name: str, path: object) -> Path:
    if isinstance(path, str | os.PathLike):
        return Path(path)
    msg = f"artifact {name!r}: expected a path, or a binary file object, got {type(path).__name__}"
    raise ConfigurationError(f"{msg}; nothing was sent")


def _split(options: Mapping[str, Any]) -> tuple[PutOptions, dict[str, Any]]:
    """Tell what every put accepts from what an encoder accepts."""
    ours: Any = {name: value for name, value in options.items() if name in PutOptions.__annotations__}
    return ours, {name: value for name, value in options.items() if name not in ours}
