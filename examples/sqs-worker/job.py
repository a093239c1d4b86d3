"""The container: makes a table and hands it on as a pointer."""

from __future__ import annotations

import stepout


def main() -> None:
    """Run the task that the environment describes."""
    with stepout.open_task() as task:
        import pyarrow as pa  # heavy, so inside: an import that fails is reported, too

        rows = task.input["rows"]
        table = pa.table({"number": range(rows), "square": [number * number for number in range(rows)]})
        task.artifacts.put_table("squares", table)
        task.result["rows"] = rows


if __name__ == "__main__":
    main()
