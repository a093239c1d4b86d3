"""The Lambda at the end: gets exactly the bytes that the second container wrote, or a clear error."""

from __future__ import annotations

from typing import Any

import stepout


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:  # noqa: ARG001 - Lambda's signature
    """Read the table; what may be read at all comes from this function's STEPOUT_ALLOW."""
    output = stepout.resolve_output(event)
    squares = output["squares"].read_table(columns=["square"])["square"].to_pylist()
    return {"rows": output.result["rows"], "largest": squares[-1]}
