"""What inputs and outputs in a history name: documents, the objects they point to, manifests of results. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from stepout.artifacts.reading.documents.foreign import find_references, load_foreign, opened_texts
from stepout.schemas.errors import InvalidDocumentError
from stepout.schemas.search.locate import find_documents
from stepout.schemas.search.traversal import called

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stepout.artifacts.reading.documents.foreign import ForeignReference

_MARKS: Final = ("stepout", "ResultWriterDetails")
_URL_VARIABLE: Final = "STEPOUT_OUTPUT"
_DEEPEST: Final = 30


class ObjectName(NamedTuple):
    """What an artifact is known by, wherever it is named: bucket, key, and version (``""``: none is said)."""

    bucket: str
    key: str
    version: str


@dataclass(frozen=True, kw_only=True)
class NamedThings:
    """What one input or output names.

    Attributes:
        outputs: Task outputs, as they are.
        objects: The objects of all pointers.
        manifests: ResultWriters' manifests.
        items: What the whole is a list of; ``None`` if it is no list.
        problem: Why it could not be searched.
    """

    outputs: tuple[dict[str, Any], ...] = ()
    objects: tuple[ObjectName, ...] = ()
    manifests: tuple[ForeignReference, ...] = ()
    items: list[Any] | None = None
    problem: str = ""


NOTHING: Final = NamedThings()


def named_in(text: object) -> NamedThings:
    """Find what a text of a history names.

    Args:
        text: An input or an output: JSON as text; anything else names nothing.
    """
    if not isinstance(text, str) or not any(mark in text for mark in _MARKS):
        return NOTHING
    try:
        value = opened_texts(load_foreign(text))
        found = find_documents(value)
        references = find_references(value)
    except InvalidDocumentError as error:
        return NamedThings(problem=str(error))
    return NamedThings(
        outputs=tuple(each.document for each in found if each.kind == "output"),
        objects=tuple(dict.fromkeys(name for each in found for name in objects_of(each.document))),
        manifests=tuple(each for each in references if each.kind == "result-writer"),
        items=value if isinstance(value, list) else None,
    )


def objects_of(document: dict[str, Any]) -> Iterator[ObjectName]:
    """Yield the objects that a document points to: a pointer's own, or those of all pointers of an output."""
    if called(document) == "pointer":
        yield from _named_by(document)
        return
    artifacts = document.get("artifacts")
    for each in (*(artifacts.values() if isinstance(artifacts, dict) else ()), *_beside(document)):
        if called(each) == "pointer":
            yield from _named_by(each)


def _beside(document: dict[str, Any]) -> tuple[Any, Any]:
    return document.get("manifest"), document.get("result")


def _named_by(pointer: dict[str, Any]) -> Iterator[ObjectName]:
    bucket, key, version = pointer.get("bucket"), pointer.get("key"), pointer.get("versionId", "")
    if isinstance(bucket, str) and isinstance(key, str):
        yield ObjectName(bucket, key, version if isinstance(version, str) else "")


def outcome_url(text: object) -> str:
    """Return the URL that a task was told to write its outcome to (pull mode); ``""`` if there is none.

    The parameters of a state hold its task's token: nothing else of them is kept.

    Args:
        text: The parameters of a state, as a history has them.

    >>> outcome_url('{"Environment": [{"Name": "STEPOUT_OUTPUT", "Value": "s3://bucket/runs/1"}]}')
    's3://bucket/runs/1'
    """
    if not isinstance(text, str) or _URL_VARIABLE not in text:
        return ""
    try:
        return next(_urls(load_foreign(text), _DEEPEST), "")
    except InvalidDocumentError:
        return ""


def _urls(value: Any, room: int) -> Iterator[str]:
    """Yield the values of the variable: a pair as ECS, Batch and Kubernetes have it, or a member (Lambda)."""
    if not room:
        return
    if isinstance(value, dict):
        pair = value.get("Name", value.get("name")), value.get("Value", value.get("value"))
        for url in (pair[1] if pair[0] == _URL_VARIABLE else None, value.get(_URL_VARIABLE)):
            if isinstance(url, str) and url.startswith(("s3://", "dynamodb://")):
                yield url
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        if isinstance(each, dict | list):
            yield from _urls(each, room - 1)
