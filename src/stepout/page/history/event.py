"""One event of an execution's history, as far as a page needs it: read once, and small. Pure.

https://docs.aws.amazon.com/step-functions/latest/apireference/API_HistoryEvent.html. Inputs, outputs and parameters
are looked through here and then let go: a history of 25,000 events may hold gigabytes of them, and tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from stepout.artifacts.reading.documents.foreign import load_foreign
from stepout.page.causes import ToldCause, plain, told_cause
from stepout.page.history.found_documents import NOTHING, NamedThings, named_in, outcome_url
from stepout.page.task_tokens import tokens_in
from stepout.schemas.errors import InvalidDocumentError

if TYPE_CHECKING:
    from collections.abc import Mapping

_DETAILS: Final = "EventDetails"
_MOST_NAME: Final = 256
_MILLISECONDS: Final = 10**11
"""As seconds, the year 5138; as milliseconds, 1973."""

_STARTS: Final = (("ecs", "StartedAt", "ECS"), ("batch", "StartedAt", "Batch"), ("glue", "StartedOn", "Glue"))
_NO_CAUSE: Final = ToldCause()


@dataclass(frozen=True, kw_only=True, slots=True)
class PastEvent:
    """One event.

    Attributes:
        event_id: Its number, from 1.
        previous: The event that it follows from; 0 if that is not known.
        at: When.
        type: As Step Functions has it: ``"TaskStateEntered"``.
        name: The state's, where it says one: of a Map for what tells of an iteration.
        index: Of a Map's iteration.
        length: How many iterations a Map has.
        resource: What is called: ``"ecs:runTask.sync"``, or an ARN.
        error: The error's name.
        cause: What the failure tells.
        named: What its input or its output names.
        url: Where the task was told to write its outcome, in pull mode.
        working: When the work began, if its service says so, and which service.
        map_run: The ARN of a Map Run.
        tokens: The task tokens that its parameters, input or output pass on: never to be shown.
    """

    event_id: int
    previous: int
    at: datetime
    type: str
    name: str = ""
    index: int | None = None
    length: int | None = None
    resource: str = ""
    error: str = ""
    cause: ToldCause = _NO_CAUSE
    named: NamedThings = NOTHING
    url: str = ""
    working: tuple[datetime, str] | None = None
    map_run: str = ""
    tokens: frozenset[str] = frozenset()


def read_event(raw: object) -> PastEvent | None:
    """Read an event.

    Args:
        raw: As boto3 returns it, or as JSON of the command line.

    Returns:
        The event; ``None`` if it has no number, no type or no time: then it cannot be placed.
    """
    if not isinstance(raw, dict):
        return None
    number, kind, at = _whole(raw.get("id")), raw.get("type"), read_time(raw.get("timestamp"))
    if number is None or not isinstance(kind, str) or at is None:
        return None
    details = next((each for name, each in raw.items() if str(name).endswith(_DETAILS) and isinstance(each, dict)), {})
    resource = _resource(details)
    cause = told_cause(details.get("cause"))
    return PastEvent(
        event_id=number,
        previous=_whole(raw.get("previousEventId")) or 0,
        at=at,
        type=kind,
        name=_text(details.get("name", details.get("state"))),
        index=_whole(details.get("index")),
        length=_whole(details.get("length")),
        resource=resource,
        error=_text(details.get("error")),
        cause=cause,
        named=named_in(details.get("output", details.get("input"))),
        url=outcome_url(details.get("parameters", details.get("input"))) if "Scheduled" in kind else "",
        working=_began(resource, details.get("output"), cause.value),
        map_run=_text(details.get("mapRunArn")),
        tokens=tokens_in(details.get("parameters"), details.get("input"), details.get("output")),
    )


def read_time(value: object) -> datetime | None:
    """Return a time with its zone: of boto3, of JSON (RFC 3339), or in seconds or milliseconds since 1970.

    >>> read_time("2026-11-22T12:00:00Z"), read_time("yesterday")
    (datetime.datetime(2026, 11, 22, 12, 0, tzinfo=datetime.timezone.utc), None)
    """
    try:
        if isinstance(value, str):
            value = datetime.fromisoformat(value)
        if isinstance(value, int | float) and not isinstance(value, bool):
            value = datetime.fromtimestamp(value / (1_000 if abs(value) > _MILLISECONDS else 1), UTC)
        if not isinstance(value, datetime):
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _resource(details: Mapping[str, Any]) -> str:
    """Return what is called: ``ecs:runTask.sync``; the ARN of an integration says the same."""
    kind, resource = details.get("resourceType"), details.get("resource")
    if not isinstance(resource, str):
        return ""
    if ":states:::" in resource:
        return _text(resource.rpartition(":states:::")[2])
    named = isinstance(kind, str) and kind and not resource.startswith("arn:")
    return _text(f"{kind}:{resource}" if named else resource)


def _began(resource: str, output: object, cause: object) -> tuple[datetime, str] | None:
    """Return when a service says that the work began: a ``.sync`` task's description is its output, or its cause."""
    for service, member, who in _STARTS:
        if not resource.startswith(f"{service}:"):
            continue
        described = cause
        if isinstance(output, str) and member in output:
            try:
                described = load_foreign(output)
            except InvalidDocumentError:
                described = None
        found = read_time(described.get(member)) if isinstance(described, dict) else None
        return None if found is None else (found, who)
    return None


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _text(value: object) -> str:
    return plain(value, _MOST_NAME) if isinstance(value, str) else ""
