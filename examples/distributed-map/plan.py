"""The first container: decides what is to be done, an item for each child of the Map."""

from __future__ import annotations

import stepout


def main() -> None:
    """Run the task that the environment describes."""
    with stepout.open_task() as task:
        shards = task.input["shards"]
        stepout.write_item_reader_manifest(
            task.artifacts, "items", shards
        )  # any iterator; nothing is held but one item
        task.result["shards"] = len(shards)


if __name__ == "__main__":
    main()
