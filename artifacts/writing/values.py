"""Which put a value calls for: a function of its type alone."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from stepout.artifacts.formats.arrow import is_table
from stepout.artifacts.formats.images import is_image
from stepout.schemas import Pointer
from stepout.schemas.errors import ConfigurationError

_NAME = re.compile(r"\w")
_LONGEST_PATH = 4_096  # bytes; Linux takes no longer one, others less

Kind = Literal["bytes", "text", "json", "file", "directory", "image", "table"]


def kind_of(value: object) -> Kind:  # noqa: PLR0911 - one return for each kind
    """Return how a value is written.

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
    if is_image(value):
        return "image"
    if is_table(value) or (isinstance(value, list) and bool(value) and is_table(value[0])):
        return "table"
    if value is None or isinstance(value, bool | int | float | dict | list):
        return "json"
    return _kind_of_stream(value)


def check_no_path(name: str, value: object) -> None:
    """Refuse text, or bytes, that name a file or a folder which is there: meant is most likely what lies in it.

    Args:
        name: The artifact's name.
        value: What ``put`` was given.

    Raises:
        ConfigurationError: It does; the message has both ways to say it.
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
        return "json"  # none of these is, and put_json says what to make of it
    if isinstance(value, Pointer):
        msg = "this is the pointer of an artifact that is there already: use adopt(name, pointer.url) to name it here"
        raise ConfigurationError(msg)
    msg = (
        f"nothing here writes a {type(value).__module__}.{type(value).__qualname__}: put takes bytes, text, JSON, "
        "paths, binary files, images and tables; open(name, 'wb') takes what your own writer produces"
    )
    raise ConfigurationError(msg)
