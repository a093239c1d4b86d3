"""Which run of which state made an output: the ``producer`` of a document, and the path of an artifact's key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["RunIdentity"]


@dataclass(frozen=True, kw_only=True)
class RunIdentity:
    """One process's place in one execution of a state machine.

    Attributes:
        execution: ``$$.Execution.Id``, an ARN; ``None`` outside Step Functions.
        state: ``$$.State.Name``.
        attempt: ``$$.State.RetryCount``.
        map_index: ``$$.Map.Item.Index``, or a path of them from the outside in (``"3-0"``).
        redrive: ``$$.Execution.RedriveCount``.
        version: The version of stepout that wrote the document.
        nonce: Drawn once per process, since an attempt number does not name one process.
        run_id: A time-ordered name that stands in for ``execution`` where there is none.
        extra: Members that a later version wrote; kept and written back.
    """

    execution: str | None = None
    state: str | None = None
    attempt: int | None = None
    map_index: str | None = None
    redrive: int | None = None
    version: str | None = None
    nonce: str | None = None
    run_id: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
