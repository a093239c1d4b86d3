"""Where documents may lie in other JSON, and what there is a failure's: the one rule for every search. Pure.

A state machine merges: ``ResultPath: "$.score"`` puts one task's output inside another's document, and ``Catch`` puts a
failure beside it. So (docs/adr/0009 has the reasons):

- A document is found wherever it lies: also in a member of another document that its schema does not know, at any
  depth.
- ``result`` and ``annotations`` are a task's own data, as it wrote them, and are not looked into. (``resolve_all``
  lists the documents that a result holds as well, and leaves what is no valid one to the result.)
- What a failure says of itself is not looked into: ``Cause`` wherever it stands, ``cause`` beside an ``error``, a cause
  of stepout's own wherever it was parsed to, and everything of an execution that did not succeed, its input included.
  A partial output in there is evidence, not an outcome; a caller who wants it passes it by itself.
- So is not what a service says of a task's failure (Lambda's ``errorMessage``, Batch's ``StatusReason``), nor anything
  of a task of ECS, Batch, Glue or Kubernetes that it describes as failed.
- What a description of a task tells of its input (``Overrides``, ``Environment``, a Glue job's ``Arguments``) is not
  looked into either, whether the task succeeded or not.
- What stands beside a failure is looked into as usual: it is what the state machine kept.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, Literal

from stepout.schemas.output import OUTPUT_MEMBERS
from stepout.schemas.pointer import POINTER_MEMBERS
from stepout.schemas.search.described_task import ENDS, INPUTS, REASONS, described_failure, input_members

if TYPE_CHECKING:
    from collections.abc import Iterable

DocumentKind = Literal["output", "pointer"]

CALLED: Final = re.compile(r"(output|pointer)/([0-9]{1,9}\Z)?")
_UNSUCCESSFUL: Final = frozenset({"FAILED", "TIMED_OUT", "ABORTED", "PENDING_REDRIVE"})
_CAUSE: Final = frozenset({"traceback", "retryable", "exitCode", "stderr", "stdout"})
_EXECUTION: Final = (("ExecutionArn", "Status"), ("executionArn", "status"))
_TELLING: Final = frozenset(  # whatever tells of a failure has one
    {"Error", "Cause", "cause", "run", "Status", "status", "errorType", *ENDS}
)
_LAMBDAS: Final = frozenset({"errorMessage", "stackTrace", "trace", "cause"})
_SPOKEN: Final = _TELLING | INPUTS


class JsonRole(Enum):
    """What an object is to the document around it."""

    FREE = 0
    """Nothing: it may be a document."""
    POINTER = 1
    """A pointer of the document, which is not one apart."""
    ARTIFACTS = 2
    """The pointers of an output, by name."""


def called(value: object) -> DocumentKind | None:
    """Return what a JSON value calls itself; whether it is valid, and of a known version, is not looked at."""
    name = value.get("stepout") if isinstance(value, dict) else None
    match = CALLED.match(name) if isinstance(name, str) else None
    if match is None:
        return None
    return "output" if match[1] == "output" else "pointer"


def told_by(value: dict[Any, Any]) -> tuple[DocumentKind | None, tuple[str, Any] | None]:
    """Return what an object calls itself, and the failure that it tells of; each ``None`` if it is not there."""
    return called(value), failure_in(value)


def failure_in(value: dict[Any, Any]) -> tuple[str, Any] | None:
    """Return the error and the cause of a failure that an object tells of; ``None`` if it tells of none.

    >>> failure_in({"Error": "Demo.Error", "Cause": "dark"}), failure_in({"error": "none"})
    (('Demo.Error', 'dark'), None)
    """
    if _TELLING.isdisjoint(value):
        return None
    for error, cause in (("Error", "Cause"), ("error", "cause")):
        if (name := _text(value.get(error))) is not None and cause in value:
            told = value[cause]
            return name, told if _text(told) is None else _text(told)
    if isinstance(value.get("Error"), str) and value.keys() == {"Error"}:
        return value["Error"], ""
    if "Cause" in value and "Error" not in value:
        return "", value["Cause"]
    return _told_otherwise(value)


def _told_otherwise(value: dict[Any, Any]) -> tuple[str, Any] | None:
    if _is_lambdas(value):
        return value["errorType"], value["errorMessage"]
    if (reason := described_failure(value)) is not None:
        return "", reason
    if is_opaque(value):
        return (value["error"] if isinstance(value.get("error"), str) else ""), "" if _unsuccessful(value) else value
    return None


def is_opaque(value: dict[Any, Any]) -> bool:
    """Tell whether nothing in an object is an outcome: a parsed cause of ours, an execution or a task that failed."""
    if _TELLING.isdisjoint(value):
        return False
    if isinstance(value.get("message"), str) and isinstance(value.get("run"), dict) and _CAUSE & value.keys():
        return True
    return _unsuccessful(value) or described_failure(value) is not None


def looked_into(value: object, part: JsonRole = JsonRole.FREE) -> Iterable[tuple[Any, Any, JsonRole]]:
    """Return the members and items that documents may lie in, each with its name or index and its part.

    Args:
        value: A JSON value; what is neither object nor array has none.
        part: What it is to the document around it.
    """
    if isinstance(value, list):
        return ((index, child, JsonRole.FREE) for index, child in enumerate(value))
    if not isinstance(value, dict):
        return ()
    if part is JsonRole.ARTIFACTS:
        # Most pointers have no member but their own.
        others = ((name, child) for name, child in value.items() if not _is_bare(child))
        return [(name, child, _pointer_or_free(child)) for name, child in others]
    if part is JsonRole.POINTER:
        return _unknown(value, POINTER_MEMBERS)
    return _of_object(value)


def _of_object(value: dict[Any, Any]) -> list[tuple[Any, Any, JsonRole]]:
    kind = called(value)
    if kind is None:
        return [] if is_opaque(value) else _unknown(value, frozenset())
    if kind == "pointer":
        return _unknown(value, POINTER_MEMBERS)
    parts: list[tuple[Any, Any, JsonRole]] = []
    if isinstance(value.get("artifacts"), dict):
        parts.append(("artifacts", value["artifacts"], JsonRole.ARTIFACTS))
    parts += [
        (name, value[name], JsonRole.POINTER) for name in ("result", "manifest") if called(value.get(name)) == "pointer"
    ]
    if isinstance(value.get("producer"), dict):
        parts.append(("producer", value["producer"], JsonRole.FREE))
    return parts + _unknown(value, OUTPUT_MEMBERS)


def _unknown(value: dict[Any, Any], known: frozenset[str]) -> list[tuple[Any, Any, JsonRole]]:
    found = [(name, child, JsonRole.FREE) for name, child in value.items() if name not in known]
    if _SPOKEN.isdisjoint(value):
        return found
    said = {"Cause", *input_members(value)}
    if _text(value.get("error")) is not None:
        said.add("cause")
    if _is_lambdas(value):
        said |= _LAMBDAS
    if described_failure(value) is not None:  # merged into a document: what else stands there is the document's
        said |= REASONS
    return [each for each in found if each[0] not in said]


def _is_lambdas(value: dict[Any, Any]) -> bool:
    return isinstance(value.get("errorType"), str) and "errorMessage" in value


def _is_bare(value: object) -> bool:
    return isinstance(value, dict) and value.keys() <= POINTER_MEMBERS and called(value) == "pointer"


def _pointer_or_free(value: object) -> JsonRole:
    return JsonRole.POINTER if called(value) == "pointer" else JsonRole.FREE


def _unsuccessful(value: dict[Any, Any]) -> bool:
    # Descriptions of executions, their events, and the rows of a ResultWriter's files.
    return any(
        isinstance(status := value.get(status_name), str) and status in _UNSUCCESSFUL
        for arn_name, status_name in _EXECUTION
        if isinstance(value.get(arn_name), str)
    )


def _text(value: object) -> str | None:
    """Return a text, or that of an attribute as DynamoDB's JSON has it."""
    found = value.get("S") if isinstance(value, dict) and len(value) == 1 else value
    return found if isinstance(found, str) else None
