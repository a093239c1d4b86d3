"""The first container: makes a table, and hands it on as a pointer."""

from __future__ import annotations

import stepout


def main() -> None:
    """Run the task that the environment describes."""
    with stepout.open_task() as task:
        import pyarrow as pa  # heavy, so inside: an import that fails is reported, too

        rows = task.input["rows"]  # what the execution was started with
        task.artifacts.put_table("numbers", pa.table({"number": range(rows)}))
        task.result["rows"] = rows


if __name__ == "__main__":
    main()
