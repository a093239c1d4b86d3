"""Find task outputs and pointers inside other JSON, such as a Lambda's event."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from stepout.schemas.json_text import load_json
from stepout.schemas.json_value import DEPTH_LIMIT
from stepout.schemas.output import OUTPUT_VERSION
from stepout.schemas.pointer import POINTER_VERSION
from stepout.schemas.problems import Problem, invalid_document, item, member

if TYPE_CHECKING:
    from stepout.schemas.errors import InvalidDocumentError

__all__ = ["DocumentKind", "Found", "TheDocument", "find_documents", "the_document"]

DocumentKind = Literal["output", "pointer"]


class Found(NamedTuple):
    """A document, and where it was found.

    Attributes:
        location: For example ``$.Payload.output``.
        kind: What it calls itself; whether it is valid, and of a known version, has not been looked at.
        document: The very object that was found, not a copy.
    """

    location: str
    kind: DocumentKind
    document: dict[str, Any]


class TheDocument(NamedTuple):
    """The one document that a value is about.

    Attributes:
        kind: ``"output"`` or ``"pointer"``.
        document: The very object that was found, not a copy.
        location: Where it was found.
    """

    kind: DocumentKind
    document: dict[str, Any]
    location: str


_VERSIONS: Final = {"output": OUTPUT_VERSION, "pointer": POINTER_VERSION}
_CALLED: Final = re.compile(r"(output|pointer)/([0-9]{1,9}\Z)?")
_NONE: Final = "no task output and no pointer in it; each is an object with the member stepout"


def find_documents(value: object) -> list[Found]:
    """Find every task output and every pointer, at any depth.

    Args:
        value: Parsed JSON; or JSON as text, which is parsed first. Text inside it is not looked into.

    Returns:
        What was found, in the value's order. What lies inside a found document is not listed apart.

    Raises:
        InvalidDocumentError: The text is not JSON, or the value is nested too deep to search.

    >>> find_documents({"steps": [{"stepout": "output/1", "artifacts": {}}]})[0].location
    '$.steps[0]'
    """
    if isinstance(value, str | bytes | bytearray):
        value = load_json(value)
    found: list[Found] = []
    waiting: list[tuple[str, object, tuple[int, ...]]] = [("$", value, ())]
    while waiting:
        location, current, above = waiting.pop()
        kind = _kind(current)
        if kind is not None and isinstance(current, dict):
            found.append(Found(location, kind, current))
        elif isinstance(current, dict | list) and current and id(current) not in above:
            if len(above) >= DEPTH_LIMIT:
                raise invalid_document("the value", [_too_deep(location)], "It was not searched.")
            waiting.extend(reversed(_children(location, current, (*above, id(current)))))
    return found


def the_document(value: object) -> TheDocument:
    """Return the one document that a value contains: its only task output, or else its only pointer.

    Args:
        value: Parsed JSON, or JSON as text.

    Returns:
        Kind, document and location; the document is of a known version but may be invalid otherwise.

    Raises:
        InvalidDocumentError: There is none, there are several (``problems`` has their locations), or its version is
            unknown.
    """
    found = find_documents(value)
    outputs = [each for each in found if each.kind == "output"]
    candidates = outputs or found
    if not candidates:
        raise invalid_document("the value", [Problem("$", "missing", f"has {_NONE}")])
    if len(candidates) > 1:
        raise _several(candidates)
    location, kind, document = candidates[0]
    if document["stepout"] != _VERSIONS[kind]:
        raise _unknown_version(location, kind, document)
    return TheDocument(kind, document, location)


def _kind(value: object) -> DocumentKind | None:
    called = value.get("stepout") if isinstance(value, dict) else None
    match = _CALLED.match(called) if isinstance(called, str) else None
    if match is None:
        return None
    return "output" if match[1] == "output" else "pointer"


def _children(
    location: str, value: dict[Any, Any] | list[Any], above: tuple[int, ...]
) -> list[tuple[str, object, tuple[int, ...]]]:
    # Only what can hold a document gets a location: an event may hold a million numbers.
    if isinstance(value, list):
        pairs = ((index, child) for index, child in enumerate(value) if isinstance(child, dict | list))
        return [(item(location, index), child, above) for index, child in pairs]
    return [(member(location, name), child, above) for name, child in value.items() if isinstance(child, dict | list)]


def _too_deep(location: str) -> Problem:
    return Problem(location, "depth", f"lies deeper than {DEPTH_LIMIT} objects and arrays")


def _several(candidates: list[Found]) -> InvalidDocumentError:
    kind = "task output" if candidates[0].kind == "output" else "pointer"
    problems = [Problem(each.location, "several", f"is one {kind} of {len(candidates)}") for each in candidates]
    return invalid_document("the value", problems, "Pass the one that is meant, or use resolve_all.")


def _unknown_version(location: str, kind: DocumentKind, document: dict[str, Any]) -> InvalidDocumentError:
    match = _CALLED.match(document["stepout"])
    # Only what looks like a version is quoted: anything else may be anything.
    called = f'"{kind}/{match[2]}"' if match and match[2] else f"of no version of {kind}"
    message = f'is {called}, this stepout reads "{_VERSIONS[kind]}"; a newer stepout may read it: upgrade'
    return invalid_document("the document", [Problem(member(location, "stepout"), "version", message)])
