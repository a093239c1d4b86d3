"""A child's container: makes an artifact of its item and hands it on as a pointer."""

from __future__ import annotations

import stepout


def main() -> None:
    """Run the task that the environment describes."""
    with stepout.open_task() as task:
        rows = task.input["rows"]
        task.artifacts.put_json("squares", [number * number for number in range(rows)])
        task.result["rows"] = rows


if __name__ == "__main__":
    main()
