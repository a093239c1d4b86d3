"""JSON text, read and written strictly: what one side writes, every other side reads the same."""

from __future__ import annotations

import codecs
import json
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from stepout.schemas.errors import InvalidDocumentError
from stepout.schemas.json_value import DEPTH_LIMIT, MOST_PROBLEMS, json_problems, plain_copy
from stepout.schemas.problems import Problem, invalid_document, item, member

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["SIZE_LIMIT", "dump_json", "dump_plain_json", "load_json"]

SIZE_LIMIT: Final = 64 * 2**20
"""How many bytes of text are read unless the caller says otherwise."""


def dump_json(value: object) -> bytes:
    r"""Write a JSON value as compact UTF-8.

    Args:
        value: Any Python value.

    Returns:
        The text, without white space, non-ASCII characters as themselves.

    Raises:
        InvalidDocumentError: The value holds something that is not JSON; ``problems`` names every such member.

    >>> dump_json({"é": [1, None]})
    b'{"\xc3\xa9":[1,null]}'
    """
    problems = json_problems(value)
    if problems:
        raise invalid_document("the value", problems, "Nothing was written.")
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def dump_plain_json(value: object) -> bytes:
    """Write a JSON value, or one that ``plain_copy`` makes JSON of, as ``dump_json`` does.

    Raises:
        InvalidDocumentError: As ``dump_json``.
    """
    try:
        return dump_json(value)
    except InvalidDocumentError:
        return dump_json(plain_copy(value))


def load_json(text: str | bytes | bytearray | memoryview, *, max_bytes: int | None = SIZE_LIMIT) -> Any:
    """Read JSON text strictly.

    Args:
        text: JSON, as text or as UTF-8.
        max_bytes: How many bytes of UTF-8 it may have; ``None`` for any number.

    Returns:
        The value: plain ``dict``, ``list``, ``str``, ``int``, ``float``, ``bool`` and ``None``.

    Raises:
        InvalidDocumentError: ``problems`` holds one of the kinds ``"type"``, ``"size"``, ``"encoding"``, ``"syntax"``,
            ``"depth"``, ``"duplicate"`` (a member twice) or everything that ``json_problems`` finds in the value.
    """
    problems, value = _text_problems(text, max_bytes), None
    if not problems:
        problems, value = _parsed(text)
    if problems:
        raise invalid_document("the JSON text", _marked(text) or problems)
    return value


def _marked(text: object) -> list[Problem]:
    """Name a byte-order mark, which parsers only call bad syntax."""
    if isinstance(text, str):
        start = b"" if not text.startswith("\ufeff") else codecs.BOM_UTF8
    elif isinstance(text, bytes | bytearray | memoryview):
        start = bytes(text.tobytes() if isinstance(text, memoryview) else text[:4])
    else:
        return []
    kind, advice = "syntax", 'take it off, in Python by decoding with "utf-8-sig"'
    if not start.startswith(codecs.BOM_UTF8):
        kind, advice = "encoding", "it is UTF-16 or UTF-32: write UTF-8"
    if not start.startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)):
        return []
    message = f"begins with a byte-order mark, which JSON must not have (RFC 8259, section 8.1): {advice}"
    return [Problem("$", kind, message)]


class _DuplicateError(Exception):
    """An object has two members of one name."""


class _Doubled(dict[str, Any]):
    """An object that had members twice, and which."""

    names: tuple[str, ...] = ()


def _text_problems(text: object, max_bytes: int | None) -> list[Problem]:
    if not isinstance(text, str | bytes | bytearray | memoryview):
        return [Problem("$", "type", f"must be text or bytes, not of type {type(text).__name__}")]
    size = memoryview(text).nbytes if not isinstance(text, str) else len(text)
    if isinstance(text, str) and max_bytes is not None and size <= max_bytes < 4 * size and not text.isascii():
        size = len(text.encode("utf-8", "surrogatepass"))
    if max_bytes is None or size <= max_bytes:
        return []
    return [Problem("$", "size", f"is longer than {max_bytes:,} bytes, the most that is read here")]


def _parsed(text: str | bytes | bytearray | memoryview) -> tuple[list[Problem], Any]:
    try:
        # A view may have gaps, which ``str`` refuses.
        data = text.tobytes() if isinstance(text, memoryview) else text
        decoded = data if isinstance(data, str) else str(data, "utf-8")
    except UnicodeDecodeError as error:
        return [Problem("$", "encoding", f"is not UTF-8 at byte {error.start}")], None
    try:
        problems, value = _read(decoded, _unique)
    except _DuplicateError:
        # What follows the object may be wrong in another way, which comes first: it was not read yet.
        problems, value = _read(decoded, _doubled)
        return problems or list(islice(_duplicates(value, "$", DEPTH_LIMIT), MOST_PROBLEMS)), None
    return problems or json_problems(value), value


def _read(text: str, pairs_hook: Callable[[list[tuple[str, Any]]], dict[str, Any]]) -> tuple[list[Problem], Any]:
    try:
        return [], json.loads(text, object_pairs_hook=pairs_hook)
    except json.JSONDecodeError as error:
        return [Problem("$", "syntax", f"is not JSON at line {error.lineno}, column {error.colno}")], None
    except RecursionError:
        return [_too_deep("$")], None
    except ValueError:
        return [Problem("$", "range", "holds an integer of thousands of digits")], None


def _too_deep(location: str) -> Problem:
    return Problem(location, "depth", f"is nested deeper than {DEPTH_LIMIT} objects and arrays")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _DuplicateError
    return members


def _doubled(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = _Doubled(pairs)
    members.names = tuple(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
    return members


def _duplicates(value: object, location: str, room: int) -> Iterator[Problem]:
    if not room and isinstance(value, dict | list):
        yield _too_deep(location)
    elif isinstance(value, _Doubled):
        for name in value.names:
            yield Problem(member(location, name), "duplicate", "occurs more than once; readers would disagree on which")
        for name, child in value.items():
            yield from _duplicates(child, member(location, name), room - 1)
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from _duplicates(child, item(location, index), room - 1)
