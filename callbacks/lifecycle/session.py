"""A task's checked settings, as one value: made before the task begins, and passed down to the modules that need it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypedDict

from stepout.schemas import RunIdentity
from stepout.schemas.runtime.listening import new_events
from stepout.schemas.text.times import rfc3339

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from stepout.callbacks.delivery.redaction import Redactor
    from stepout.callbacks.protocols import Artifacts
    from stepout.callbacks.targets.fan_out import FanOut
    from stepout.schemas.contract import Contract
    from stepout.schemas.runtime.events import Events
    from stepout.schemas.spill import Spill


class TaskOptions(TypedDict, total=False):
    """The keyword arguments of ``Task`` that every way of making a task takes."""

    heartbeat: float | None
    max_concurrency: int | None
    contract: Contract | None
    redact: str | Iterable[str]
    spill: Spill
    budget: int | None
    fan_in: int | None
    stop_timeout: float | None
    run: RunIdentity | None
    input: Any


def _now() -> str:
    return rfc3339(datetime.now(UTC), to="milliseconds")


@dataclass(frozen=True, kw_only=True)
class TaskSession:
    """A task's settings, checked.

    Attributes:
        targets: Where the outcome goes.
        artifacts: The artifact manager, or a function that makes it when the block is entered.
        owns_artifacts: Whether the manager ends with the task: no document would name an artifact that is written
            after the report.
        interval: Seconds between two heartbeats, at most.
        stop_timeout: Seconds from SIGTERM to SIGKILL.
        contract: The caller's further requirements on the output, beyond its schema, if any.
        budget: Bytes of UTF-8 for the output document.
        spill: ``"never"`` raises where ``"auto"`` moves parts of the document into artifacts.
        redactor: Knows the task's secrets, which must appear in no message, log, cause or document.
        run: The run identity, if the caller gave one; else the artifact manager knows it.
        started_at: When the task began, as documents say it.
        environment_run: The run identity from the environment, used until an artifact manager gives its own.
        input: The task's input.
        events: Who is told of what the task does.
    """

    targets: FanOut
    redactor: Redactor
    interval: float
    stop_timeout: float
    contract: Contract | None
    budget: int
    spill: Spill
    artifacts: Artifacts | Callable[[], Artifacts] | None = None
    owns_artifacts: bool = False
    run: RunIdentity | None = None
    started_at: str = field(default_factory=_now)
    environment_run: RunIdentity = field(default_factory=RunIdentity)
    input: Any = field(default=None, repr=False)
    events: Events = field(default_factory=new_events, repr=False)
