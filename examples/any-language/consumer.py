"""The next step, a Lambda: reads the file that the shell script wrote."""

from __future__ import annotations

from typing import Any

import stepout


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:  # noqa: ARG001 - Lambda's signature
    """Return the last line of the file, and the inline result."""
    output = stepout.resolve_output(event)
    last = output["squares"].read_text().splitlines()[-1]
    return {"rows": output.result["rows"], "last": last}
