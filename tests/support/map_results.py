"""What a Distributed Map's ``ResultWriter`` writes, as the service documents it, into a bucket in memory.

https://docs.aws.amazon.com/step-functions/latest/dg/input-output-resultwriter.html: executions of one status in files
of their own, told in full (NONE), by their outputs alone (COMPACT), or with arrays taken apart (FLATTEN); what failed
is told in full whatever the transformation; as a JSON array, or a result a line.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from stepout.schemas import TaskOutput
from stepout.schemas.identity import RunIdentity

if TYPE_CHECKING:
    from support.shelf import Shelf

Transformation = Literal["NONE", "COMPACT", "FLATTEN"]

PARENT = "arn:aws:states:eu-west-1:123456789012:execution:Segment:7f3c"


def child_arn(index: int) -> str:
    """Return the ARN of one child's execution."""
    return f"arn:aws:states:eu-west-1:123456789012:execution:Segment/Map:{index:08d}"


def task_output(shelf: Shelf, index: int) -> dict[str, Any]:
    """Store an artifact, and return the output of the child that wrote it."""
    run = RunIdentity(execution=child_arn(index), parent_execution=PARENT, state="Mask")
    pointer = shelf.put(str(index).encode(), f"child/{index}")
    return TaskOutput(artifacts={"mask": pointer}, result={"rows": index}, producer=run).to_dict()


@dataclass
class MapResults:
    """The results of one Map Run.

    Attributes:
        shelf: The bucket.
        transformation: Of the writer.
        lines: Whether it writes a result a line.
        per_file: How many results are in one file.
    """

    shelf: Shelf
    transformation: Transformation = "NONE"
    lines: bool = False
    per_file: int = 1_000
    rows: dict[str, list[Any]] = field(default_factory=lambda: {"SUCCEEDED": [], "FAILED": [], "PENDING": []})

    def succeeded(self, index: int, output: Any) -> None:
        """Add a child that returned this."""
        if self.transformation == "NONE":
            self.rows["SUCCEEDED"].append(self._told(index, "SUCCEEDED", Output=json.dumps(output)))
        elif self.transformation == "FLATTEN" and isinstance(output, list):
            self.rows["SUCCEEDED"] += output
        else:
            self.rows["SUCCEEDED"].append(output)

    def failed(self, index: int, error: str = "Demo.Error", cause: str = "dark") -> None:
        """Add a child that failed."""
        self.rows["FAILED"].append(self._told(index, "FAILED", Error=error, Cause=cause))

    def pending(self, index: int) -> None:
        """Add a child that was never started."""
        self.rows["PENDING"].append(self._told(index, "PENDING"))

    def _told(self, index: int, status: str, **more: Any) -> dict[str, Any]:
        return {
            "ExecutionArn": child_arn(index),
            "Input": json.dumps({"item": index}),
            "InputDetails": {"Included": True},
            "Name": f"{index:08d}",
            "Status": status,
            **more,
        }

    def write(self, folder: str = "map", **changed: bytes) -> dict[str, Any]:
        """Store the files and the manifest; return what the state returns.

        Args:
            folder: Below ``runs/``.
            changed: The bytes of a file, by its name without extension, in place of what it would have; the manifest
                says the size that it would have had.
        """
        listed: dict[str, list[dict[str, Any]]] = {}
        for status, rows in self.rows.items():
            listed[status] = []
            for number, start in enumerate(range(0, len(rows), self.per_file)):
                name = f"{status}_{number}"
                data = self.file(rows[start : start + self.per_file])
                key = f"{folder}/{name}.{'jsonl' if self.lines else 'json'}"
                self.shelf.put(changed.get(name, data), key)
                listed[status].append({"Key": f"runs/{key}", "Size": len(changed.get(name, data))})
        manifest = {"DestinationBucket": "results", "MapRunArn": "arn:map", "ResultFiles": listed}
        self.shelf.put(json.dumps(manifest).encode(), f"{folder}/manifest.json")
        details = {"Bucket": "results", "Key": f"runs/{folder}/manifest.json"}
        return {"MapRunArn": "arn:map", "ResultWriterDetails": details}

    def file(self, rows: list[Any]) -> bytes:
        """Return the bytes of one result file."""
        if self.lines:
            return "".join(json.dumps(row) + "\n" for row in rows).encode()
        return json.dumps(rows, separators=(",", ":")).encode()
