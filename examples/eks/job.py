"""The container of a ``.sync`` state: no token; the outcome goes to the URL in STEPOUT_OUTPUT, written last."""

from __future__ import annotations

import stepout


class NoRowsError(stepout.PermanentError):
    """There is nothing to compute; trying again would not help."""

    error_name = "Example.NoRows"


def main() -> None:
    """Run the task that the environment describes."""
    with stepout.open_task() as task:
        import pyarrow as pa  # heavy, so inside: an import that fails is reported, too

        rows = task.input["rows"]
        if not rows:
            raise NoRowsError("the input asks for no rows")
        table = pa.table({"number": range(rows), "square": [number * number for number in range(rows)]})
        task.artifacts.put_table("squares", table)


if __name__ == "__main__":
    main()
