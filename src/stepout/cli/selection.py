"""``--at`` and ``--all``: which of the documents that one document holds, such as the children of a Map state."""

from __future__ import annotations

import contextlib
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from stepout.artifacts.listing import names_files
from stepout.artifacts.reading.artifact import Artifact
from stepout.artifacts.reading.documents.foreign import find_references, opened_texts
from stepout.schemas.errors import ConfigurationError, InvalidDocumentError, invalid_document
from stepout.schemas.output import TaskOutput
from stepout.schemas.pointer import Pointer
from stepout.schemas.problems import Problem
from stepout.schemas.search.locate import check_version, find_documents, find_failures
from stepout.schemas.search.traversal import called
from stepout.schemas.text.foreign_text import shown

if TYPE_CHECKING:
    import argparse
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from stepout.artifacts.reading.output import Output
    from stepout.schemas.pull import Failure
    from stepout.schemas.search.locate import Found

T = TypeVar("T")
_LISTED = 30
_LONGEST_PATH = 200


class AtPath(NamedTuple, Generic[T]):
    """One artifact, or one pointer, of a document that holds several.

    Attributes:
        at: The location of the output, or of the pointer itself, such as ``$.results[3]``.
        path: Its own location, such as ``$.results[3].artifacts.table``.
        name: What it is called within the output; a lone pointer is named after its key.
        found: The artifact or the pointer.
    """

    at: str
    path: str
    name: str
    found: T


def add_paths(parser: argparse.ArgumentParser, *, every: bool = True) -> None:
    """Declare which of several documents; ``every``: whether all of them may be meant."""
    group = parser.add_argument_group(
        "which one, if the document has several (a Map's results, merged outputs, a ResultWriter's manifest)"
    )
    which = group.add_mutually_exclusive_group()
    which.add_argument(
        "--at",
        metavar="PATH",
        help="only the output or pointer at this place, such as '$[3]' or '$.score'; a wrong PATH lists all places",
    )
    if every:
        which.add_argument(
            "--all", action="store_true", help="every output and pointer; names then begin with the path"
        )
    else:
        parser.set_defaults(all=False)


def wanted_path(text: str) -> str:
    """Return a path as locations are written: ``results[3]`` is ``$.results[3]``.

    >>> wanted_path("results[3]"), wanted_path("[0]"), wanted_path("$.score")
    ('$.results[3]', '$[0]', '$.score')
    """
    if text.startswith("$"):
        return text
    return f"${text}" if text.startswith(("[", ".")) else f"$.{text}"


def entries_of(found: Mapping[str, Output | Artifact], *, spilled: bool) -> Iterator[AtPath[Artifact]]:
    """Yield the artifacts of what ``resolve_all`` found; ``spilled``: a result that was spilled is one of them."""
    for at, each in found.items():
        if isinstance(each, Artifact):
            yield AtPath(at, at, lone_name(each.pointer, stem=names_files(each.pointer)), each)
            continue
        yield from (AtPath(at, f"{at}.artifacts.{name}", name, artifact) for name, artifact in each.items())
        if spilled and each.spilled:
            yield AtPath(at, f"{at}.result", "(result)", each.spilled)


def pointers_of(found: Sequence[Found]) -> Iterator[AtPath[Pointer]]:
    """Yield the pointers of documents as they are, nothing read; a manifest stands for what is in it.

    Raises:
        InvalidDocumentError: One of them is invalid.
    """
    for each in found:
        check_version(each)
        if each.kind == "pointer":
            pointer = Pointer.from_dict(each.document)
            yield AtPath(each.location, each.location, lone_name(pointer), pointer)
            continue
        output, at = TaskOutput.from_dict(each.document), each.location
        for name, pointer in (output.artifacts or {}).items():
            yield AtPath(at, f"{at}.artifacts.{name}", name, pointer)
        others = {"result": output.result, "manifest": output.manifest}
        for name, value in others.items():
            if isinstance(value, Pointer):
                yield AtPath(at, f"{at}.{name}", f"({name})", value)


def with_results(found: Sequence[Found]) -> list[Found]:
    """Return documents with those that tasks put into their results; what is invalid there is a task's own data."""
    every: list[Found] = []
    for each in found:
        every.append(each)
        result = each.document.get("result") if each.kind == "output" else None
        if not isinstance(result, dict) or called(result) == "pointer":  # that is the result, spilled
            continue
        for inner in find_documents(result):
            inside = inner._replace(location=f"{each.location}.result{inner.location[1:]}")
            with contextlib.suppress(InvalidDocumentError):
                list(pointers_of([inside]))
                every.append(inside)
    return every


def pick(entries: Sequence[AtPath[T]], places: Collection[str], at: str | None, *, more: str = "") -> dict[str, T]:
    """Return what was asked for, by name.

    Args:
        entries: All that there is.
        places: The locations of all documents; an output may have no artifact.
        at: A document's location, or an artifact's own; ``None`` for all, each named by its path.
        more: What else may be there, for the error.

    Raises:
        ConfigurationError: There is nothing at that path; the message lists what there is.
    """
    if at is None:
        return {entry.path: entry.found for entry in entries}
    wanted = wanted_path(at)
    if wanted in places:
        return {entry.name: entry.found for entry in entries if entry.at == wanted}
    if alone := {entry.name: entry.found for entry in entries if entry.path == wanted}:
        return alone
    listed = [shown(place, _LONGEST_PATH) for place in list(places)[:_LISTED]]
    rest = f" and {len(places) - _LISTED:,} more" if len(places) > _LISTED else ""
    has = f"it has {', '.join(listed)}{rest}" if listed else "nothing is in it"
    raise ConfigurationError(f"--at: no task output and no pointer is at {shown(at, _LONGEST_PATH)}: {has}{more}")


def lone_name(pointer: Pointer, *, stem: bool = False) -> str:
    """Name a pointer that stands alone after its key; ``stem``: without its extension, as a folder is named."""
    last = PurePosixPath(pointer.key)
    return last.stem if stem else last.name


def say_failures(failures: Mapping[str, Failure]) -> list[str]:
    """Return a line for what ``--all`` leaves out: the tasks of the document that failed."""
    if not failures:
        return []
    listed = [f"{shown(at, _LONGEST_PATH)} ({shown(each.error)})" for at, each in list(failures.items())[:_LISTED]]
    rest = f" and {len(failures) - _LISTED:,} more" if len(failures) > _LISTED else ""
    return [f"{len(failures):,} of the tasks failed and left no output: {', '.join(listed)}{rest}"]


def with_hint(error: InvalidDocumentError, value: Any, *, reading: bool = False) -> InvalidDocumentError:
    """Say on the command line what chooses among several documents: exactly the paths that ``--at`` takes.

    Args:
        error: What was raised.
        value: The parsed document.
        reading: Whether references of others, which have to be read, are among those that are taken.
    """
    if not any(each.kind == "several" for each in error.problems):
        return error
    value = opened_texts(value)
    found = with_results(find_documents(value))
    places = [
        Problem(each.location, "several", f"is one {'task output' if each.kind == 'output' else 'pointer'}")
        for each in found
    ]
    if reading:
        others = (each for each in find_references(value) if each.kind != "result-writer")
        places += [Problem(each.location, "several", f"is one reference ({each.kind})") for each in others]
    advice = "Pass --at with one of these paths (in single quotes), or --all."
    failed = "".join(f" {line}." for line in say_failures(find_failures(value)))
    return invalid_document("the value", places, advice + failed)


def say_beside(value: Any, chosen: str) -> list[str]:
    """Return a line for the pointers that lie beside the one output that was taken for the document.

    Args:
        value: The parsed document.
        chosen: Where the output is.
    """
    beside = [each.location for each in find_documents(value) if each.location != chosen]
    if not beside:
        return []
    listed = ", ".join(shown(each, _LONGEST_PATH) for each in beside[:_LISTED])
    rest = f" and {len(beside) - _LISTED:,} more" if len(beside) > _LISTED else ""
    what, was = ("pointer", "was") if len(beside) == 1 else ("pointers", "were")
    return [f"{len(beside):,} {what} beside it {was} not looked at: {listed}{rest}; --all"]


def to_be_read(value: Any) -> Any:
    """Return a copy of a document with what has to be read alone: outputs that are kept in manifests, and references.

    All that is left keeps its location.
    """
    if isinstance(value, list):
        return [to_be_read(each) for each in value]
    if not isinstance(value, dict):
        return value
    kind = called(value)
    if kind == "pointer":
        return None
    if kind == "output" and "manifest" in value:
        return value
    left_out = {"stepout", "producer", "result"} if kind == "output" else set()
    return {name: to_be_read(each) for name, each in value.items() if name not in left_out}


def file_stem(name: str) -> str:
    """Return what a file is called after: an artifact's name, or its path without what all paths share.

    >>> file_stem("table"), file_stem("$.results[3].artifacts.table"), file_stem("$.score")
    ('table', 'results.3.table', 'score')
    """
    if not name.startswith("$"):
        return name
    bare = name.removeprefix("$").replace(".artifacts.", ".")
    return ".".join(part for part in bare.replace("[", ".").replace("]", ".").split(".") if part) or "artifact"
