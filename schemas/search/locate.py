"""Find task outputs, pointers and failures inside other JSON, such as a Lambda's event; ``traversal`` has the rule."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from stepout.schemas.errors import TaskFailedError, invalid_document
from stepout.schemas.output import OUTPUT_VERSION
from stepout.schemas.pointer import POINTER_VERSION
from stepout.schemas.problems import Problem, item, member
from stepout.schemas.search.traversal import CALLED, DocumentKind, JsonRole, looked_into, told_by
from stepout.schemas.text.json_text import dump_json, load_json, too_deep
from stepout.schemas.text.json_value import DEPTH_LIMIT, MOST_PROBLEMS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stepout.schemas.errors import InvalidDocumentError
    from stepout.schemas.pull import Failure


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


_Child = tuple[str, object, JsonRole]
_NO_CHILD: Final[_Child] = ("", None, JsonRole.FREE)

_VERSIONS: Final = {"output": OUTPUT_VERSION, "pointer": POINTER_VERSION}
_NONE: Final = "no task output and no pointer in it; each is an object with the member stepout"
_STEP: Final = re.compile(r"\.\w+|\[[0-9]+\]|\[[^\]]*\]?")


def find_documents(value: object) -> list[Found]:
    """Find every task output and every pointer, at any depth.

    Args:
        value: Parsed JSON; or JSON as text, which is parsed first. Text inside it is not looked into.

    Returns:
        What was found, in the value's order: also what was merged into another document. What belongs to a found
        document (its artifacts, its manifest) is not listed apart.

    Raises:
        InvalidDocumentError: The text is not JSON, or the value is nested too deep to search, or holds NaN.

    >>> find_documents({"steps": [{"stepout": "output/1", "artifacts": {}}]})[0].location
    '$.steps[0]'
    """
    return survey(value).found


def find_failures(value: object) -> dict[str, Failure]:
    """Find every failure that JSON tells of, at any depth: what ``Catch`` keeps, failed children, causes.

    Args:
        value: As for ``find_documents``.

    Returns:
        Each by its location, in the value's order.

    Raises:
        InvalidDocumentError: As for ``find_documents``.

    >>> find_failures([{"Error": "Demo.Error", "Cause": "dark"}])["$[0]"].error
    'Demo.Error'
    """
    return {location: _failure(*told) for location, told in survey(value).failures}


def the_document(value: object) -> TheDocument:
    """Return the one document that a value contains: its only task output, or else its only pointer.

    A failure beside it is the state machine's affair, but for the items of one array, which stand for tasks of equal
    rank: an output beside a failure there is one of several.

    Args:
        value: Parsed JSON, or JSON as text.

    Returns:
        Kind, document and location; the document is of a known version but may be invalid otherwise.

    Raises:
        InvalidDocumentError: No document is there, or several are (``problems`` has their locations), or its version is
            unknown.
        TaskFailedError: No document is there, but a failure.
    """
    return survey(value).the_document()


class Survey:
    """What lies in a value, from one walk through it.

    Attributes:
        found: The documents, in order.
        failures: Where the failures are, with error and cause.
        texts: Whether a text, where documents may lie, may hold one.
    """

    def __init__(self) -> None:
        self.found: list[Found] = []
        self.failures: list[tuple[str, tuple[str, Any]]] = []
        self.texts = False

    def the_document(self) -> TheDocument:
        """Return the one document; see ``the_document``."""
        return _the_one(self.found, self.failures)


def _the_one(found: list[Found], failures: list[tuple[str, tuple[str, Any]]]) -> TheDocument:
    outputs = [each for each in found if each.kind == "output"]
    candidates = outputs or found
    if not candidates:
        raise _none(failures)
    rivals = [location for location, _ in failures if _beside(location, candidates[0].location)]
    if len(candidates) > 1 or rivals:
        raise _several(candidates, rivals)
    check_version(candidates[0])
    location, kind, document = candidates[0]
    return TheDocument(kind, document, location)


def check_version(found: Found) -> None:
    """Raise ``InvalidDocumentError`` unless a document is of a version that this stepout reads."""
    if found.document["stepout"] != _VERSIONS[found.kind]:
        raise _unknown_version(*found)


def survey(value: object) -> Survey:
    """Find the documents and the failures in a value; as ``find_documents``."""
    if isinstance(value, str | bytes | bytearray):
        value = load_json(value)
    seen = Survey()
    numbers: list[Problem] = []
    # Children are taken one by one: a list of a million would need a million locations at once.
    # Each with what lies above it, and how many levels may lie below.
    waiting: list[tuple[Iterator[_Child], tuple[int, ...], int]] = [
        (iter([("$", value, JsonRole.FREE)]), (), DEPTH_LIMIT)
    ]
    while waiting:
        children, above, room = waiting[-1]
        location, current, part = next(children, _NO_CHILD)
        if not location:
            waiting.pop()
            continue
        if part is JsonRole.FREE and isinstance(current, dict):
            kind, told = told_by(current)
            if kind is not None:
                seen.found.append(Found(location, kind, current))
                room = DEPTH_LIMIT  # a document has its own levels
            if told is not None:
                seen.failures.append((location, told))
        if isinstance(current, dict | list) and current and id(current) not in above:
            if room == 0 or len(above) >= 2 * DEPTH_LIMIT:
                raise invalid_document("the value", [too_deep(location)], "It was not searched.")
            below = _children(location, current, part, numbers, seen)
            waiting.append((below, (*above, id(current)), room - 1))
    if numbers:
        raise invalid_document("the value", numbers, "It was not searched further.")
    return seen


def _children(
    location: str, value: dict[Any, Any] | list[Any], part: JsonRole, numbers: list[Problem], seen: Survey
) -> Iterator[_Child]:
    # Only what can hold a document gets a location: an event may hold a million numbers.
    place = item if isinstance(value, list) else member
    for step, child, role in looked_into(value, part):
        if isinstance(child, dict | list):
            yield place(location, step), child, role
        elif isinstance(child, str):
            if not seen.texts and "stepout" in child and child.lstrip()[:1] in {"{", "["}:
                seen.texts = True
        elif isinstance(child, float) and not math.isfinite(child) and len(numbers) < MOST_PROBLEMS:
            message = "is NaN or infinite, which JSON cannot hold; leave it out or use null"
            numbers.append(Problem(place(location, step), "not-finite", message))


def _failure(error: str, cause: Any) -> Failure:
    from stepout.schemas.pull import Failure

    if isinstance(cause, str):
        return Failure(error[:256], cause[:32_768])
    try:
        return Failure(error[:256], dump_json(cause).decode()[:32_768])
    except ValueError:  # it is not JSON, so it holds no document
        return Failure(error[:256])


def _beside(one: str, other: str) -> bool:
    """Tell whether two locations part at the items of one array."""
    steps = zip(_STEP.findall(one), _STEP.findall(other), strict=False)
    parting = next(((a, b) for a, b in steps if a != b), ("", ""))
    return all(step[:1] == "[" and step[1:2].isdigit() for step in parting)


def _none(failures: list[tuple[str, tuple[str, Any]]]) -> Exception:
    if not failures:
        return invalid_document("the value", [Problem("$", "missing", f"has {_NONE}")])
    location, told = failures[0]
    failure = _failure(*told)
    more = f" (the first of {len(failures)} failures)" if len(failures) > 1 else ""
    message = f"{location} is a failure and no output: {failure}{more}; what its cause holds is no outcome"
    return TaskFailedError(message, error=failure.error, cause=failure.cause)


def _several(candidates: list[Found], rivals: list[str]) -> InvalidDocumentError:
    kind = "task output" if candidates[0].kind == "output" else "pointer"
    problems = [Problem(each.location, "several", f"is one {kind} of {len(candidates)}") for each in candidates]
    problems += [Problem(location, "failed", "is the failure of another task beside it") for location in rivals]
    advice = 'Pass the one that is meant, or use resolve_all, which gives each by its location: resolve_all(…)["$"].'
    return invalid_document("the value", problems, advice)


def _unknown_version(location: str, kind: DocumentKind, document: dict[str, Any]) -> InvalidDocumentError:
    match = CALLED.match(document["stepout"])
    # Only what looks like a version is quoted: anything else may be anything.
    called = f'"{kind}/{match[2]}"' if match and match[2] else f"of no version of {kind}"
    message = f'is {called}, this stepout reads "{_VERSIONS[kind]}"; a newer stepout may read it: upgrade'
    return invalid_document("the document", [Problem(member(location, "stepout"), "version", message)])
