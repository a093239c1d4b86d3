"""The step after the Map, a Lambda: the outputs of all children, and what became of those that failed."""

from __future__ import annotations

from typing import Any

import stepout


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:  # noqa: ARG001 - Lambda's signature
    """Add up what all children wrote; STEPOUT_ALLOW must hold the artifacts' prefix and the result files'."""
    children = stepout.resolve_all(event)
    total = 0
    for output in children.values():
        total += sum(output["squares"].read_json())
    failed = sorted(failure.error for failure in children.failures.values())
    return {"children": len(children), "total": total, "failed": failed}
