"""The second container: reads the table of the first one, and makes another."""

from __future__ import annotations

import stepout


def main() -> None:
    """Run the task that the environment describes; what its input may point to is said by STEPOUT_ALLOW."""
    with stepout.open_task() as task:
        import pyarrow as pa

        numbers = task.input["numbers"].read_table()["number"].to_pylist()  # task.input: the output of the state before
        task.artifacts.put_table("squares", pa.table({"square": [number * number for number in numbers]}))
        task.result["rows"] = len(numbers)


if __name__ == "__main__":
    main()
