"""The step after the Map, a Lambda: the outputs of all children, and what became of those that failed."""

from __future__ import annotations

from typing import Any

import stepout


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:  # noqa: ARG001 - Lambda's signature
    """Add up what all children wrote; STEPOUT_ALLOW must hold the artifacts' prefix and the result files'."""
    children, total, failed = 0, 0, []
    for child in stepout.gather(event):
        if isinstance(child.error, stepout.TaskFailedError):
            failed.append(child.error.error)
        elif child.error is not None:  # a result file or an output that cannot be read: then no sum is right
            raise child.error
        else:
            children += 1
            total += sum(child.output["squares"].read_json())
    return {"children": children, "total": total, "failed": sorted(failed)}
