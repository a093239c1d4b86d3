"""The step after the map, a Lambda: the outputs of all children, wherever Step Functions has put them."""

from __future__ import annotations

from typing import Any

import stepout


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:  # noqa: ARG001 - Lambda's signature
    """Add up one column over all children.

    With a ResultWriter the event holds where its manifest is, without one the outputs themselves: both are resolved
    alike, and the allow-list (STEPOUT_ALLOW) must hold the manifest's prefix as well as the artifacts'.
    """
    total = 0
    outputs = stepout.resolve_all(event["children"])
    for output in outputs.values():
        total += sum(output["squares"].read_table(columns=["square"])["square"].to_pylist())
    return {"children": len(outputs), "total": total}
