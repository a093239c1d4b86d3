"""The next step, a Lambda: gets the URL that the state machine built, and resolves it."""

from __future__ import annotations

from typing import Any

import stepout


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:  # noqa: ARG001 - Lambda's signature
    """Read the table; the document at the URL must come from this execution's own state."""
    output = stepout.resolve_output(event["output"], execution=event["execution"], state=event["state"])
    return {"largest": output["squares"].read_table()["square"].to_pylist()[-1]}
