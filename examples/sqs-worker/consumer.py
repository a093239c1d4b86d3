"""The next step, a Lambda: gets exactly the bytes that were written, or a clear error."""

from __future__ import annotations

from typing import Any

import stepout


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:  # noqa: ARG001 - Lambda's signature
    """Read one column of the table; what may be read at all comes from this function's STEPOUT_ALLOW."""
    output = stepout.resolve_output(event)
    table = output["squares"].read_table(columns=["square"])
    return {"rows": table.num_rows, "largest": table["square"].to_pylist()[-1]}
