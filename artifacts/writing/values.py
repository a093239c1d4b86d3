"""Decides by a value's type how to write it, and encodes plain values: bytes, text, JSON.

Only this module recognises values of other libraries; ``formats`` encodes images and tables.
"""

from __future__ import annotations

import io
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from stepout.schemas import Pointer, invalid_document, json_problems
from stepout.schemas.errors import ConfigurationError
from stepout.schemas.problems import Problem
from stepout.schemas.text.json_text import dump_plain_json

_NAME = re.compile(r"\w")
_LONGEST_PATH = 4_096  # bytes; Linux's limit, and other systems have lower ones
_LARGE = 8 << 20

Kind = Literal["bytes", "text", "json", "file", "directory", "image", "table"]


def kind_of(value: object) -> Kind:  # noqa: PLR0911 - one return for each kind
    """Return the kind of a value, which says how to write it.

    Args:
        value: Bytes; text; a path (``pathlib``; text is content, never a path) or a binary file object; a PIL image or
            a numpy array; a table or an iterator of batches; JSON.

    Raises:
        ConfigurationError: Nothing here writes values of this type.

    >>> kind_of(b"x"), kind_of("x"), kind_of({"rows": 1}), kind_of(Path("no such file"))
    ('bytes', 'text', 'json', 'file')
    """
    if isinstance(value, bytes | bytearray | memoryview):
        return "bytes"
    if isinstance(value, str):
        return "text"
    if isinstance(value, os.PathLike):
        return "directory" if Path(value).is_dir() else "file"
    from stepout.artifacts.formats.arrow import is_table  # most values have been told by now
    from stepout.artifacts.formats.images import is_image

    if is_image(value):
        return "image"
    if is_table(value) or (isinstance(value, list) and bool(value) and is_table(value[0])):
        return "table"
    if value is None or isinstance(value, bool | int | float | dict | list):
        return "json"
    return _kind_of_stream(value)


def check_no_path(name: str, value: object) -> None:
    """Refuse text or bytes that are the name of an existing file or folder: most likely, its content is meant.

    Args:
        name: The artifact's name.
        value: What ``put`` was given.

    Raises:
        ConfigurationError: The value is such a name; the message shows how to put the content and how to put the name.
    """
    if not isinstance(value, str | bytes) or len(value) > _LONGEST_PATH:
        return
    text = os.fsdecode(value)
    if not _NAME.search(text):
        return  # "." and "/" name folders everywhere, and are meant as they stand
    try:
        # os.stat and not pathlib, which takes five times as long: every small put pays.
        found = os.stat(os.path.expanduser(text) if text.startswith("~") else text)  # noqa: PTH111, PTH116
    except (OSError, ValueError):  # no such file, too long a name, a character that no path has
        return
    what, put = ("folder", "put_directory") if stat.S_ISDIR(found.st_mode) else ("file", "put_file")
    kind, plain = ("text", "put_text") if isinstance(value, str) else ("bytes", "put_bytes")
    msg = f"artifact {name!r}: the {kind} to put is the name of a {what} that is there. To put the {what}, use"
    raise ConfigurationError(f"{msg} {put} or pass a pathlib.Path; to put the {kind}, use {plain}. Nothing was sent")


def _kind_of_stream(value: object) -> Kind:
    if callable(getattr(value, "readinto", None)) or callable(getattr(value, "read", None)):
        return "file"
    if isinstance(value, Iterator):
        return "table"
    if isinstance(value, tuple | set | frozenset) or hasattr(value, "isoformat") or hasattr(value, "item"):
        return "json"  # put_json reports what is wrong with it
    if isinstance(value, Pointer):
        msg = "this is the pointer of an artifact that is there already: use adopt(name, pointer.url) to name it here"
        raise ConfigurationError(msg)
    msg = (
        f"nothing here writes a {type(value).__module__}.{type(value).__qualname__}: put takes bytes, text, JSON, "
        "paths, binary files, images and tables; open(name, 'wb') takes what your own writer produces"
    )
    raise ConfigurationError(msg)


def is_file_object(value: object) -> bool:
    """Return whether a value can be read from, as a file object can."""
    return hasattr(value, "read")


def is_large(value: object) -> bool:
    """Return whether a value is sent as a stream of parts; JSON and images are encoded in memory first."""
    if isinstance(value, bytes | bytearray | memoryview | str):
        return len(value) > _LARGE
    if isinstance(value, os.PathLike):
        try:
            state = Path(value).stat()
        except OSError:
            return False  # the put says why
        return state.st_size > _LARGE or Path(value).is_dir()
    if isinstance(value, io.BytesIO):
        return value.getbuffer().nbytes > _LARGE
    return callable(getattr(value, "read", None)) or hasattr(value, "__arrow_c_stream__") or hasattr(value, "__next__")


def weight(value: object) -> int:
    """Return how many bytes of memory a value holds while it waits, if its type tells."""
    if isinstance(value, bytes | bytearray | str):
        return len(value)
    try:
        if isinstance(value, io.BytesIO):
            value = value.getbuffer()
        if isinstance(value, memoryview):
            return value.nbytes
    except ValueError:  # closed, or released; the put says so
        pass
    return 0


# Bytes of plain values --------------------------------------------------------------------------------------------


def buffer_of(name: str, data: Any) -> memoryview:
    """Return the memory of the argument of ``put_bytes``.

    Raises:
        ConfigurationError: The value has no memory to read.
    """
    try:
        return memoryview(data)
    except TypeError as error:
        msg = f"artifact {name!r}: expected bytes, got {type(data).__name__}; {_instead(data)}. Nothing was sent"
        raise ConfigurationError(msg) from error


def encoded_text(name: str, text: object, encoding: object) -> bytes:
    """Return text as UTF-8.

    Raises:
        ConfigurationError: The value is not text, or the encoding is not UTF-8.
        InvalidDocumentError: The text holds a lone surrogate.
    """
    if str(encoding).lower().replace("_", "-") not in ("utf-8", "utf8"):
        raise ConfigurationError(f"encoding is {encoding!r}: text artifacts are UTF-8; use put_bytes for others")
    if not isinstance(text, str):
        msg = f"artifact {name!r}: expected text, got {type(text).__name__}; {_instead(text)}. Nothing was sent"
        raise ConfigurationError(msg)
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        problem = Problem("$", "surrogate", f"holds a lone surrogate at character {error.start:,}")
        raise invalid_document(f"the text of artifact {name!r}", [problem], "Nothing was sent.") from None


def encoded_json(name: str, value: Any) -> bytes:
    """Return JSON: compact, UTF-8.

    Raises:
        InvalidDocumentError: The value is not JSON; ``problems`` says which members.
    """
    problems = json_problems(value, convertible=True)
    if problems:
        raise invalid_document(f"the value of artifact {name!r}", problems, "Nothing was sent.")
    return dump_plain_json(value)


def path_of(name: str, path: object) -> Path:
    """Return a path.

    Raises:
        ConfigurationError: The path is of another type.
    """
    if isinstance(path, str | os.PathLike):
        return Path(path)
    msg = f"artifact {name!r}: expected a path, or a binary file object, got {type(path).__name__}"
    raise ConfigurationError(f"{msg}; nothing was sent")


def _instead(value: object) -> str:
    """Name the put for a value that put_bytes and put_text refuse."""
    if isinstance(value, io.StringIO):
        return "use put_text with its getvalue()"
    if isinstance(value, str):
        return "use put_text for text, put_file for a path"
    if is_file_object(value) or isinstance(value, os.PathLike):
        return "use put_file"
    return "put picks by type"
