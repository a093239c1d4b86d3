"""How far a task is, as a target keeps it for whoever watches: a small JSON object that is no outcome. Pure.

In pull mode it lies beside the output document, as ``{url}.progress.json``, or in an attribute of the DynamoDB item. It
has no member ``stepout``: nothing that looks for documents in JSON takes it for one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, SupportsFloat, SupportsIndex

from stepout.schemas.errors import InvalidDocumentError, invalid_document
from stepout.schemas.identity import RunIdentity
from stepout.schemas.problems import Problem
from stepout.schemas.text.foreign_text import shown
from stepout.schemas.text.json_text import dump_json, load_json

if TYPE_CHECKING:
    from collections.abc import Mapping

PROGRESS_LIMIT: Final = 64 << 10
"""The most that is read of a progress report, in bytes."""

LONGEST_MESSAGE: Final = 300
"""Characters of a message."""

PROGRESS_ATTRIBUTE: Final = "progress"
"""The attribute of a DynamoDB item that holds the newest report, as JSON text."""

_SUFFIX: Final = ".progress.json"
_LARGEST: Final = 2**53  # what every reader of JSON can hold exactly


def progress_key(key: str) -> str:
    """Return the key of the progress beside the output at ``key``.

    >>> progress_key("outputs/1.json")
    'outputs/1.json.progress.json'
    """
    return f"{key}{_SUFFIX}"


@dataclass(frozen=True, kw_only=True)
class TaskProgress:
    """How far a task is.

    Attributes:
        done: How much is done, in the task's own unit; 0 or more.
        total: How much there is, in the same unit; ``None``: not known.
        message: What the task says about it.
        reported_at: When it was written, RFC 3339, by the clock of the task's machine.
        run: Whose it is.
    """

    done: float
    total: float | None = None
    message: str = ""
    reported_at: str | None = None
    run: RunIdentity = field(default_factory=RunIdentity)

    def __str__(self) -> str:
        """One line for people.

        >>> str(TaskProgress(done=450, total=1000, message="tile 7")), str(TaskProgress(done=12.5))
        ('450 of 1,000 (45%): tile 7', '12.5')
        """
        said = f"{self.done:,}" if self.total is None else f"{self.done:,} of {self.total:,} ({self.percent})"
        return f"{said}: {self.message}" if self.message else said

    @property
    def share(self) -> float | None:
        """The part that is done, from 0 to 1; ``None``: not known."""
        if self.total is None:
            return None
        return min(self.done / self.total, 1.0) if self.total else 1.0

    @property
    def percent(self) -> str:
        """The share in percent, rounded down, so that 100 % means all; empty if it is not known."""
        return "" if self.share is None else f"{math.floor(self.share * 100)}%"

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object that a target keeps."""
        told = {"done": self.done, "total": self.total, "message": self.message or None}
        members = {
            "progress": {name: value for name, value in told.items() if value is not None},
            "reportedAt": self.reported_at,
            "run": self.run.to_dict() or None,
        }
        return {name: value for name, value in members.items() if value is not None}

    def to_text(self) -> str:
        """Return it as JSON text."""
        return dump_json(self.to_dict()).decode()


def progress_of(done: object, total: object = None, message: object = "") -> TaskProgress | None:
    """Return the progress that a job tells; ``None`` if its numbers cannot be understood.

    Args:
        done: A number from 0 on; numpy's will do.
        total: The same, or ``None``.
        message: Text; what is too long is cut, and what drives a terminal is escaped.

    >>> str(progress_of(3.0, 10, "tile 3")), progress_of(float("nan"))
    ('3 of 10 (30%): tile 3', None)
    """
    told, whole = _number(done), None if total is None else _number(total)
    if told is None or (total is not None and whole is None):
        return None
    text = " ".join(shown(message, LONGEST_MESSAGE * 4, lines=True).split())
    return TaskProgress(done=told, total=whole, message=shown(text, LONGEST_MESSAGE))


def read_progress_text(text: str | bytes) -> TaskProgress:
    """Read a progress report. It is untrusted input: bounded, and nothing but numbers and text.

    Raises:
        InvalidDocumentError: It is no such report.
    """
    value = load_json(text, max_bytes=PROGRESS_LIMIT)
    told: Mapping[str, Any] = _object(value, PROGRESS_ATTRIBUTE) or {}
    progress = progress_of(told.get("done"), told.get("total"), told.get("message", ""))
    if progress is None:
        problem = Problem("$.progress.done", "type", "must be a number from 0 on, and so must the total")
        raise invalid_document("the progress report", [problem])
    try:
        run = RunIdentity.from_dict(_object(value, "run") or {})
    except InvalidDocumentError:
        run = RunIdentity()  # whose it is, is not known; how far it is, is
    at = value.get("reportedAt")
    return TaskProgress(
        done=progress.done,
        total=progress.total,
        message=progress.message,
        reported_at=at if isinstance(at, str) else None,
        run=run,
    )


def progress_in(item: Mapping[str, Any]) -> TaskProgress | None:
    """Return the progress that a DynamoDB item holds beside an outcome, or in place of one; ``None``: it holds none.

    Raises:
        InvalidDocumentError: The attribute is there, and is no progress report.
    """
    value = item.get(PROGRESS_ATTRIBUTE)
    text = value.get("S") if isinstance(value, dict) else None
    return read_progress_text(text) if isinstance(text, str) else None


def _object(value: object, name: str) -> dict[str, Any] | None:
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, dict) else None


def _number(value: object) -> float | None:
    """Return a number from 0 on as JSON has it, whole where it is whole."""
    if isinstance(value, str | bytes | bool) or not isinstance(value, SupportsFloat | SupportsIndex):
        return None
    try:
        number = value.__index__() if isinstance(value, SupportsIndex) else float(value)
    except Exception:  # noqa: BLE001 - a foreign number, such as an array of many, may raise anything
        return None
    if not 0 <= number <= _LARGEST:
        return None
    return int(number) if number == int(number) else number
