"""What of an invalid task output is valid by itself: one bad member should not hide the others. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from stepout.schemas.errors import StepoutError
from stepout.schemas.output import OUTPUT_VERSION, TaskOutput
from stepout.schemas.pointer import Pointer
from stepout.schemas.search.locate import Found, check_version
from stepout.schemas.search.traversal import called

if TYPE_CHECKING:
    from stepout.schemas.pull import AskedRun

_APART: Final = ("result", "producer")


def valid_members(document: dict[str, Any], run: AskedRun) -> tuple[dict[str, Pointer], TaskOutput] | None:
    """Return the pointers of an invalid output that are valid by themselves, and an output of its other members.

    Args:
        document: An object that calls itself a task output.
        run: The run that it must be of. What does not say that it is of that run is another one's.

    Returns:
        The pointers by name, and an output without artifacts whose result and producer are the document's where these
        are valid; ``None``: the document is valid, is of another version or another run, or nothing of it is valid.
    """
    if document.get("stepout") != OUTPUT_VERSION or _is_valid(document):
        return None
    empty: dict[str, Any] = {"stepout": OUTPUT_VERSION, "artifacts": {}}
    apart = {name: document[name] for name in _APART if name in document}
    valid = {name: each for name, each in apart.items() if _is_valid({**empty, name: each})}
    told = TaskOutput.from_dict(empty | valid)
    said = told.producer
    if run.execution is not None and run.execution not in ({said.execution, said.parent_execution} if said else set()):
        return None
    if run.state is not None and run.state != (said.state if said else None):
        return None
    artifacts = document.get("artifacts")
    named = list(artifacts.items()) if isinstance(artifacts, dict) else []
    named += [("(result)", document.get("result")), ("(manifest)", document.get("manifest"))]
    found = {str(name): pointer for name, each in named if (pointer := _pointer(each)) is not None}
    return (found, told) if found or told.result or told.producer else None


def _is_valid(document: dict[str, Any]) -> bool:
    try:
        TaskOutput.from_dict(document)
    except StepoutError:
        return False
    return True


def _pointer(value: Any) -> Pointer | None:
    if called(value) != "pointer":
        return None
    try:
        check_version(Found("$", "pointer", value))
        return Pointer.from_dict(value)
    except StepoutError:
        return None
