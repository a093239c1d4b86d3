"""What a document leads to: all of it by location, for ``resolve_all``; or a child's one outcome, for ``gather``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from stepout.artifacts.reading.artifact import Artifact, make_artifact
from stepout.artifacts.reading.documents.foreign_artifact import make_foreign
from stepout.artifacts.reading.output import Output, make_output
from stepout.schemas.errors import InvalidDocumentError, NotAllowedError, invalid_document
from stepout.schemas.problems import Problem
from stepout.schemas.search.locate import check_version, find_documents, find_failures, survey
from stepout.schemas.text.foreign_text import logger

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stepout.artifacts.reading.access import Access
    from stepout.artifacts.reading.documents.foreign import ForeignReference
    from stepout.schemas.pull import Failure
    from stepout.schemas.search.traversal import DocumentKind

_log = logger("stepout.artifacts.resolve")


class Resolved(dict[str, "Output | Artifact"]):
    """What ``resolve_all`` found, by location, and the failures that it found beside.

    Attributes:
        failures: What each task that failed said (``error``, ``cause``), by location: what ``Catch`` kept, children of
            a Map or of a ResultWriter that did not succeed. Nothing that a failure holds is an outcome.
    """

    def __init__(self) -> None:
        super().__init__()
        self.failures: dict[str, Failure] = {}


def resolve_every(value: Any, access: Access, *, inside: bool = False) -> Resolved:
    """Return everything in a value by location, failures apart; as ``resolve_all``.

    Args:
        value: Parsed JSON.
        access: How to read.
        inside: Whether it is a child's output, in which no manifest is followed.
    """
    resolved = Resolved()
    for location, each in _every(value, access, resolved.failures, inside=inside):
        resolved[location] = each
    return resolved


def outcome_in(value: Any, access: Access) -> Any:
    """Return what a child's output means to its reader: anything may be in it.

    Returns:
        The one ``Output``, or else the one ``Artifact``, wherever it lies; ``Resolved`` where there are several; the
        value itself where there is none.

    Raises:
        TaskFailedError: It holds a failure and no document, such as what ``Catch`` kept.
        InvalidDocumentError: What it holds is invalid, or is a ResultWriter's manifest.
        NotAllowedError: A pointer lies outside the allow-list.
        StoreError: What a document was spilled into could not be read.
    """
    from stepout.artifacts.reading.documents.foreign import find_references, opened_texts

    if isinstance(value, str):
        value = opened_texts(value)
    if not isinstance(value, dict | list):
        return value
    seen = survey(value)
    if seen.texts or not seen.found:
        value = opened_texts(value)
        seen = survey(value)
        if not seen.found and not seen.failures and not find_references(value):
            return value
    outputs = [each for each in seen.found if each.kind == "output"]
    if len(outputs or seen.found) == 1 or seen.failures:
        kind, document, location = seen.the_document()
        return _make_one(document, kind, location, access)
    found = resolve_every(value, access, inside=True)
    return next(iter(found.values())) if len(found) == 1 else found


def _every(
    value: Any, access: Access, failures: dict[str, Failure], *, inside: bool = False
) -> Iterator[tuple[str, Output | Artifact]]:
    """Yield everything in a value by location, and put what failed into ``failures``."""
    from stepout.artifacts.reading.documents.foreign import find_references, opened_texts

    value = opened_texts(value)
    failures.update(find_failures(value))
    for each in find_documents(value):
        check_version(each)
        made = _make_one(each.document, each.kind, each.location, access)
        yield each.location, made
        if isinstance(made, Output):
            yield from _of_result(made, each.location, access)
    for reference in find_references(value):
        if reference.kind != "result-writer":
            yield reference.location, make_foreign(reference, access)
        elif inside:
            raise _endless(reference)
        else:
            yield from _of_children(reference, access, failures)


def _of_result(output: Output, location: str, access: Access) -> Iterator[tuple[str, Output | Artifact]]:
    """Yield the documents that a task put into its result, which may hold whatever it likes otherwise."""
    result = output.document.result
    if not isinstance(result, Mapping):
        return
    for each in find_documents(result):
        try:
            check_version(each)
            made = _make_one(each.document, each.kind, each.location, access)
        except (InvalidDocumentError, NotAllowedError) as error:
            _log.info("%s.result: left as data: %s", location, error)
            continue
        yield f"{location}.result{each.location[1:]}", made


def _of_children(
    reference: ForeignReference, access: Access, failures: dict[str, Failure]
) -> Iterator[tuple[str, Output | Artifact]]:
    from stepout.artifacts.reading.fan_in.result_writer import children_of
    from stepout.schemas.pull import Failure

    counts: dict[str, int] = {}
    for child in children_of(access, reference):
        index = counts.setdefault(child.status, 0)
        counts[child.status] += 1
        location = f"{reference.location}.{child.status}[{index}]"
        if child.status != "SUCCEEDED":
            failures[location] = Failure(child.error or child.status, child.cause or "", execution=child.execution)
            continue
        told: dict[str, Failure] = {}
        for place, inner in _every(child.output, access, told, inside=True):
            yield location + place[1:], inner
        failures.update((location + place[1:], failure) for place, failure in told.items())


def _make_one(value: Any, kind: DocumentKind, location: str, access: Access) -> Output | Artifact:
    """Return what a document is to its reader."""
    if kind == "output":
        return make_output(value, access, location)
    return make_artifact(value, access, location)


def _endless(reference: ForeignReference) -> InvalidDocumentError:
    message = "is a ResultWriter's manifest that another one led to, and no manifest is followed to the next"
    advice = "Pass the child's output to resolve_all by itself (read_result_writer has it)."
    return invalid_document("a child's output", [Problem(reference.location, "cycle", message)], advice)
