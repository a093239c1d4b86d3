"""What is JSON and what is not, told of Python values.

JSON here is what every reader of a document keeps exactly: ``dict`` with text names, ``list``, ``str`` without lone
surrogates, ``bool``, ``None``, finite ``float``, and ``int`` up to 2**53 - 1 either way (beyond it, JavaScript, JSONata
and every other reader that has only doubles round silently: RFC 8259, section 6). Subclasses of these types count
(``numpy.float64`` is a ``float``, an ``IntEnum`` an ``int``); tuples, sets, bytes, dates and other scalars do not.

What a program sets, as against what it has parsed, may also be *convertible*: tuples, other mappings, and the scalars
of numpy (and of what is like it), which stand for a number, a boolean or text.
"""

from __future__ import annotations

import math
import numbers
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Final, TypeVar

from stepout.schemas.errors import invalid_document
from stepout.schemas.problems import Problem, item, member

T = TypeVar("T")

DEPTH_LIMIT: Final = 100
"""How many objects and arrays may lie inside each other, the outermost included."""

MOST_PROBLEMS: Final = 1_000
"""How many findings are listed of one value: a text may hold a million NaN, each finding is larger."""

INTEGER_LIMIT: Final = 2**53 - 1
"""The largest integer that every JSON reader keeps exactly."""

_SURROGATE = re.compile(r"[\ud800-\udfff]").search
_PLAIN = (str, float, int)
_TIMES = ("m", "M")  # numpy's kinds of timedelta64 and datetime64


class NotPlainError(ValueError):
    """The value holds something other than plain JSON; ``json_problems`` tells what, if anything, is wrong."""


def json_problems(value: object, location: str = "$", *, convertible: bool = False) -> list[Problem]:
    """Find everything in a Python value that is not JSON.

    Args:
        value: Any Python value; cycles and any depth are fine.
        location: What to call the value itself.
        convertible: Whether what ``plain_copy`` makes JSON of counts as JSON.

    Returns:
        A problem for each finding, in the order of the value, named by member. Kinds: ``"not-json"`` (a type that JSON
        does not have, or a member's name that is no text), ``"not-finite"``, ``"range"`` (an integer beyond 2**53 - 1),
        ``"surrogate"``, ``"depth"``, ``"cycle"``; the first thousand. Empty for JSON.
    """
    try:
        copy_json(value)
    except NotPlainError:
        kept = _plain_scalar if convertible else _same
        return list(islice(_findings(value, location, (), kept), MOST_PROBLEMS))
    return []


def copy_json(value: Any, room: int = DEPTH_LIMIT) -> Any:
    """Copy a plain JSON value deeply, checking it on the way; the fast path of everything here.

    Args:
        value: The value.
        room: How many levels of objects and arrays it may have.

    Returns:
        A copy that shares nothing mutable with ``value``.

    Raises:
        NotPlainError: Something is not of the plain types, or not JSON.
    """
    kind = type(value)
    if kind is str:
        if value.isascii() or not _SURROGATE(value):
            return value
    elif kind is dict:
        if room:
            return {_copy_name(name): copy_json(child, room - 1) for name, child in value.items()}
    elif kind is int:
        if -INTEGER_LIMIT <= value <= INTEGER_LIMIT:
            return value
    elif kind is list:
        if room:
            return [copy_json(child, room - 1) for child in value]
    elif value is None or kind is bool or (kind is float and math.isfinite(value)):
        return value
    raise NotPlainError


def plain_copy(value: Any) -> Any:
    """Copy mappings, lists, tuples and scalars (also numpy's) into the plain types; leave the rest as it is.

    Args:
        value: A value in which nothing contains itself.

    Returns:
        The copy. What is not JSON stays, for ``json_problems`` to name.

    >>> plain_copy({"shape": (3, 4)})
    {'shape': [3, 4]}
    """
    if isinstance(value, Mapping):
        return {_plain_scalar(name): plain_copy(child) for name, child in value.items()}
    if isinstance(value, list | tuple):
        return [plain_copy(child) for child in value]
    return _plain_scalar(value)


def read_strictly(
    document: object,
    what: str,
    read: Callable[[Any], T],
    problems: Callable[[Any], Iterable[Problem]],
) -> T:
    """Parse a document: at once where everything in it is plain, else with every problem named.

    Args:
        document: Parsed JSON.
        what: What to call it in an error.
        read: Parses it, and raises ``NotPlainError`` at whatever is out of the ordinary.
        problems: Yields what keeps JSON from being such a document.

    Returns:
        What ``read`` returned; of a document that is valid and yet not plain (it holds subclasses of JSON's types), of
        its plain copy.

    Raises:
        InvalidDocumentError: With every problem found.
    """
    try:
        return read(document)
    except NotPlainError:
        found = json_problems(document) or list(problems(document))
    if found:
        raise invalid_document(what, found)
    return read(plain_copy(document))


def _copy_name(name: object) -> str:
    if type(name) is str and (name.isascii() or not _SURROGATE(name)):
        return name
    raise NotPlainError


def _plain_scalar(value: Any) -> Any:
    # Not str(value) and the like: an Enum's __str__ is its name, json writes its value.
    if type(value) in _PLAIN or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, float):
        return float.__float__(value)
    return int.__int__(value) if isinstance(value, int) else _unwrapped(value)


def _same(value: Any) -> Any:
    return value


def _unwrapped(value: Any) -> Any:
    """The number, boolean or text that a scalar of numpy stands for, without importing numpy; else the value itself."""
    if getattr(getattr(value, "dtype", None), "kind", "") in _TIMES:
        return value  # item() counts nanoseconds, and a timedelta64 calls itself an integer
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple) and not shape and callable(getattr(value, "item", None)):
        found = value if getattr(value, "mask", False) else value.item()  # a masked value is no 0
        return found if isinstance(found, _PLAIN) else value
    return operator.index(value) if isinstance(value, numbers.Integral) else value


def _findings(value: object, location: str, above: tuple[int, ...], scalar: Callable[[Any], Any]) -> Iterator[Problem]:
    convertible = scalar is not _same
    if isinstance(value, dict | list) or (convertible and isinstance(value, Mapping | tuple)):
        yield from _container_findings(value, location, above, scalar)
        return
    value = scalar(value)
    if isinstance(value, str):
        yield from _text_findings(value, location)
    elif isinstance(value, float):
        if not math.isfinite(value):
            yield Problem(
                location, "not-finite", "is NaN or infinite, which JSON cannot hold; leave it out or use null"
            )
    elif isinstance(value, int):
        if not -INTEGER_LIMIT <= value <= INTEGER_LIMIT:
            yield Problem(location, "range", "is an integer beyond 2**53 - 1, which readers round; write it as text")
    elif value is not None:
        yield Problem(
            location, "not-json", f"is of type {_type_name(value)}, which JSON does not have; {_remedy(value)}"
        )


def _container_findings(
    value: Mapping[Any, Any] | list[Any] | tuple[Any, ...],
    location: str,
    above: tuple[int, ...],
    scalar: Callable[[Any], Any],
) -> Iterator[Problem]:
    if id(value) in above:
        yield Problem(location, "cycle", "contains itself, which JSON cannot hold")
    elif len(above) >= DEPTH_LIMIT:
        yield Problem(location, "depth", f"lies deeper than {DEPTH_LIMIT} objects and arrays; flatten it")
    elif isinstance(value, Mapping):
        for name, child in value.items():
            place = member(location, name)
            if isinstance(name, str):
                yield from _text_findings(name, place)
            else:
                yield Problem(place, "not-json", f"has a name of type {_type_name(name)}; names of members are text")
            yield from _findings(child, place, (*above, id(value)), scalar)
    else:
        for index, child in enumerate(value):
            yield from _findings(child, item(location, index), (*above, id(value)), scalar)


def _text_findings(text: str, location: str) -> Iterator[Problem]:
    if _SURROGATE(text):
        yield Problem(location, "surrogate", "holds a lone surrogate, which UTF-8 cannot encode; replace it")


def _type_name(value: object) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _remedy(value: object) -> str:
    if isinstance(value, tuple | set | frozenset):
        return "make it a list"
    if isinstance(value, bytes | bytearray | memoryview):
        return "put it into an artifact, or encode it as text"
    advice = {
        "use .isoformat()": hasattr(value, "isoformat"),
        "use float(), or str() to keep every digit": type(value).__name__ == "Decimal",
        "use str()": getattr(getattr(value, "dtype", None), "kind", "") in _TIMES,
        "use .item(), or .tolist() for an array": hasattr(value, "item"),
    }
    return next((each for each, fits in advice.items() if fits), "convert it first")
