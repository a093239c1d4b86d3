"""JSON text, read and written strictly: what one side writes, every other side reads the same."""

from __future__ import annotations

import codecs
import json
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from stepout.schemas.errors import InvalidDocumentError, invalid_document
from stepout.schemas.problems import Problem, item, member
from stepout.schemas.text.json_value import DEPTH_LIMIT, MOST_PROBLEMS, json_problems, plain_copy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SIZE_LIMIT: Final = 64 * 2**20
"""How many bytes of text are read unless the caller says otherwise."""

# What CPython takes for a container and its copy while it is checked, and for a value and its place in both, in bytes.
_OBJECT, _ARRAY, _MEMBER, _ITEM = 320, 150, 64, 48


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
    value = parse_json(text, max_bytes=max_bytes)
    problems = json_problems(value)
    if problems:
        raise invalid_document("the JSON text", problems)
    return value


def parse_json(text: str | bytes | bytearray | memoryview, *, max_bytes: int | None = SIZE_LIMIT) -> Any:
    """Read JSON text whose values are somebody else's to judge: any integer, lone surrogates, any depth.

    Args:
        text: JSON, as text or as UTF-8.
        max_bytes: As for ``load_json``.

    Raises:
        InvalidDocumentError: It is not JSON (NaN and infinity are not), is too long or too deep, or an object has two
            members of one name.
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


def json_memory(text: bytes | bytearray) -> int:
    """Return what reading JSON text takes in memory at most, about, in bytes: counted, not parsed.

    Args:
        text: JSON as UTF-8. Marks inside of its strings are counted as well.

    >>> json_memory(b'[1, {"a": []}]') < 1_000
    True
    """
    containers = text.count(b"{") * _OBJECT + text.count(b"[") * _ARRAY
    return len(text) * 2 + containers + text.count(b":") * _MEMBER + text.count(b",") * _ITEM


class _DuplicateError(Exception):
    """An object has two members of one name."""


class _ConstantError(Exception):
    """There is a NaN or an infinity."""


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
        return [], _STRICT.decode(decoded)
    except (ValueError, RecursionError, _ConstantError, _DuplicateError):
        pass  # what is wrong, and where, is looked up below
    try:
        problems, value = _read(decoded, _unique)
    except _DuplicateError:
        # What follows the object may be wrong in another way, which comes first: it was not read yet.
        problems, value = _read(decoded, _doubled)
        return problems or list(islice(_duplicates(value, "$", DEPTH_LIMIT), MOST_PROBLEMS)), None
    return problems, value


def _read(text: str, pairs_hook: Callable[[list[tuple[str, Any]]], dict[str, Any]]) -> tuple[list[Problem], Any]:
    constants: list[str] = []

    def constant(name: str) -> float:
        constants.append(name)
        return float(name)

    try:
        value = json.loads(text, object_pairs_hook=pairs_hook, parse_constant=constant)
        # Where they are is looked up only if there are any: the search takes longer than the reading.
        return [each for each in json_problems(value) if each.kind == "not-finite"] if constants else [], value
    except json.JSONDecodeError as error:
        return [Problem("$", "syntax", f"is not JSON at line {error.lineno}, column {error.colno}")], None
    except RecursionError:
        return [too_deep("$")], None
    except ValueError:
        return [Problem("$", "range", "holds an integer of thousands of digits")], None


def too_deep(location: str) -> Problem:
    """Return the problem of a value that has more levels than a document may have."""
    return Problem(location, "depth", f"is nested deeper than {DEPTH_LIMIT} objects and arrays")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _DuplicateError
    return members


def _refused(_name: str) -> float:
    raise _ConstantError


_STRICT: Final = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refused)


def _doubled(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = _Doubled(pairs)
    members.names = tuple(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
    return members


def _duplicates(value: object, location: str, room: int) -> Iterator[Problem]:
    if not room and isinstance(value, dict | list):
        yield too_deep(location)
    elif isinstance(value, _Doubled):
        for name in value.names:
            yield Problem(member(location, name), "duplicate", "occurs more than once; readers would disagree on which")
        for name, child in value.items():
            if not isinstance(child, dict | list):
                continue  # a location for each of a million numbers would take seconds
            yield from _duplicates(child, member(location, name), room - 1)
    elif isinstance(value, list):
        for index, child in enumerate(value):
            if not isinstance(child, dict | list):
                continue
            yield from _duplicates(child, item(location, index), room - 1)
