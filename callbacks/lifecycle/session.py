"""What a task is made of, as one value: settled before the task begins, and passed down to whoever needs a part."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypedDict

from stepout.schemas import RunIdentity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from stepout.callbacks.delivery.redaction import Redactor
    from stepout.callbacks.protocols import Artifacts
    from stepout.callbacks.targets.fan_out import FanOut
    from stepout.schemas.contract import Contract
    from stepout.schemas.spill import Spill


class TaskOptions(TypedDict, total=False):
    """The keyword arguments of ``Task`` that every way of making one takes."""

    heartbeat: float | None
    contract: Contract | None
    redact: str | Iterable[str]
    spill: Spill
    budget: int | None
    stop_timeout: float | None
    run: RunIdentity | None
    input: Any


@dataclass(frozen=True, kw_only=True)
class TaskSession:
    """Everything that a task knows when it begins, checked.

    Attributes:
        targets: Where the outcome goes.
        artifacts: The artifact manager, or what makes it when the block is entered.
        owns_artifacts: Whether the manager ends with the task: what is written after the report would be in no
            document.
        interval: Seconds between two heartbeats, at most.
        stop_timeout: Seconds from SIGTERM to SIGKILL.
        contract: What the output must hold beyond its schema, if the caller says.
        budget: Bytes of UTF-8 for the output document.
        spill: ``"never"`` raises where ``"auto"`` moves parts of the document into artifacts.
        redactor: Knows the task's secrets, which must appear in no message, log, cause or document.
        run: The run identity, if the caller gave one; else the artifact manager knows it.
        environment_run: What the environment says of the run, until an artifact manager knows better.
        input: The task's input.
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
    environment_run: RunIdentity = field(default_factory=RunIdentity)
    input: Any = field(default=None, repr=False)
