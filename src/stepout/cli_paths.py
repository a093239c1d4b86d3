"""``--at`` and ``--all``: which of the documents that one document holds, such as the children of a Map state."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from stepout.artifacts.artifact import Artifact
from stepout.schemas.errors import ConfigurationError, InvalidDocumentError
from stepout.schemas.foreign_text import shown
from stepout.schemas.locate import check_version
from stepout.schemas.output import TaskOutput
from stepout.schemas.pointer import Pointer
from stepout.schemas.problems import Problem, invalid_document

if TYPE_CHECKING:
    import argparse
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from stepout.artifacts.output import Output
    from stepout.schemas.locate import Found
    from stepout.schemas.pull import Failure

__all__ = [
    "AtPath",
    "add_paths",
    "entries_of",
    "file_stem",
    "lone_name",
    "pick",
    "pointers_of",
    "say_failures",
    "wanted_path",
    "with_hint",
]

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
    group = parser.add_argument_group("which of several (a Map's results, merged outputs, a ResultWriter's manifest)")
    which = group.add_mutually_exclusive_group()
    which.add_argument(
        "--at",
        metavar="PATH",
        help="the output or pointer at this place, such as '$[3]' or '$.score'; a wrong PATH lists all",
    )
    if every:
        which.add_argument("--all", action="store_true", help="each of them, named by its path")
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
            yield AtPath(at, at, lone_name(each.pointer, is_directory=each.is_directory), each)
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


def lone_name(pointer: Pointer, *, is_directory: bool = False) -> str:
    """Name a pointer that stands alone after its key."""
    last = PurePosixPath(pointer.key)
    return last.stem if is_directory else last.name


def say_failures(failures: Mapping[str, Failure]) -> list[str]:
    """Return a line for what ``--all`` leaves out: the tasks of the document that failed."""
    if not failures:
        return []
    listed = [f"{shown(at, _LONGEST_PATH)} ({shown(each.error)})" for at, each in list(failures.items())[:_LISTED]]
    rest = f" and {len(failures) - _LISTED:,} more" if len(failures) > _LISTED else ""
    return [f"{len(failures):,} of the tasks failed and left no output: {', '.join(listed)}{rest}"]


def with_hint(error: InvalidDocumentError) -> InvalidDocumentError:
    """Say on the command line what chooses among several documents."""
    problems = [each for each in error.problems if each.kind == "several"]
    if not problems:
        return error
    places = [Problem(each.location, each.kind, each.message) for each in error.problems]
    return invalid_document("the value", places, "Pass --at with one of these paths (in single quotes), or --all.")


def file_stem(name: str) -> str:
    """Return what a file is called after: an artifact's name, or its path without what all paths share.

    >>> file_stem("table"), file_stem("$.results[3].artifacts.table"), file_stem("$.score")
    ('table', 'results.3.table', 'score')
    """
    if not name.startswith("$"):
        return name
    bare = name.removeprefix("$").replace(".artifacts.", ".")
    return ".".join(part for part in bare.replace("[", ".").replace("]", ".").split(".") if part) or "artifact"
