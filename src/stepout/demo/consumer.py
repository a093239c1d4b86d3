"""The demo's next step, a Lambda: resolve the pointers, verify and read both files, return figures."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import stepout

_COLUMNS = ("dep_delay", "arr_delay", "gained", "speed")


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:  # noqa: ARG001 - Lambda's signature
    """Return figures that only a reader of the files can know.

    What may be read comes from the function's own ``STEPOUT_ALLOW``, never from the event.
    """
    output = stepout.resolve_output(event)
    for artifact in output.values():
        artifact.verify()
    table = output["flights"].read_table(columns=list(_COLUMNS))
    image = output["contours"].read_image()
    return {
        "rows": table.num_rows,
        "means": {name: _mean(table[name]) for name in _COLUMNS},
        "image": list(image.size),
        "verified": {name: artifact.pointer.checksum["sha256"] for name, artifact in output.items()},
        "library": _library(),
    }


def _mean(column: Any) -> float:
    import pyarrow.compute as pc

    mean: float = pc.mean(column).as_py()
    return round(mean, 6)


def _library() -> str:
    """Return which file of this function's own zip stepout was imported from.

    Raises:
        RuntimeError: It came from elsewhere, so this run would prove nothing about the zip.
    """
    root = Path(os.environ["LAMBDA_TASK_ROOT"]).resolve()
    file = Path(stepout.__file__).resolve()
    if not file.is_relative_to(root):
        raise RuntimeError(f"stepout was imported from {file}, not from the function's zip under {root}")
    return f"$LAMBDA_TASK_ROOT/{file.relative_to(root).as_posix()}"
