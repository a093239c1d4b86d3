"""The task output: the JSON document that a task returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stepout.schemas.identity import RunIdentity
from stepout.schemas.pointer import Pointer

__all__ = ["OUTPUT_VERSION", "TaskOutput"]

OUTPUT_VERSION = "output/1"


@dataclass(frozen=True, kw_only=True)
class TaskOutput:
    """Named pointers and a small inline result.

    Attributes:
        artifacts: Name to pointer; ``None`` exactly when ``manifest`` stands in for them.
        result: Inline JSON (always an object), or the pointer to it where it was spilled; ``None`` when absent.
        manifest: The pointer to the whole document where it was spilled.
        producer: Who wrote it.
        extra: Members that a later version wrote; kept and written back.
    """

    artifacts: Mapping[str, Pointer] | None = field(default_factory=dict)
    result: Mapping[str, Any] | Pointer | None = None
    manifest: Pointer | None = None
    producer: RunIdentity | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
