"""The files of a Distributed Map's ``ResultWriter``, as Step Functions writes them. Pure.

Format and transformations: https://docs.aws.amazon.com/step-functions/latest/dg/input-output-resultwriter.html.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

STATUSES: Final = ("SUCCEEDED", "FAILED", "PENDING")
FILE_MOST: Final = 64 << 20
"""Bytes of one result file; a result more begins the next. Where Step Functions divides them is not documented."""

_ROW: Final = {
    "executionArn": "ExecutionArn",
    "name": "Name",
    "input": "Input",
    "output": "Output",
    "error": "Error",
    "cause": "Cause",
    "startDate": "StartDate",
    "stateMachineArn": "StateMachineArn",
    "status": "Status",
    "stopDate": "StopDate",
}
"""DescribeExecution's members, as they are called in a result file."""


@dataclass(frozen=True)
class ResultWriter:
    """A state's ``WriterConfig``.

    Attributes:
        transformation: ``NONE`` has the execution around each output, ``COMPACT`` outputs alone, ``FLATTEN`` the items
            of outputs that are arrays. What failed is written as with ``NONE``, whichever it is.
        output_type: ``JSON``, an array; or ``JSONL``, a line each.
    """

    transformation: str = "NONE"
    output_type: str = "JSON"

    def rows(self, children: Sequence[Mapping[str, Any]]) -> Iterator[Any]:
        """Yield what a result file, or the state's output, holds of executions.

        Args:
            children: What DescribeExecution says of each.
        """
        for child in children:
            if self.transformation == "NONE" or child["status"] != "SUCCEEDED":
                yield _row(child)
                continue
            output = json.loads(child["output"])
            yield from output if self.transformation == "FLATTEN" and isinstance(output, list) else [output]

    def files(self, children: Sequence[Mapping[str, Any]], most: int = FILE_MOST) -> Iterator[tuple[str, str, bytes]]:
        """Yield status, name and content of each result file.

        Args:
            children: What DescribeExecution says of each.
            most: Bytes of one file.
        """
        for status in STATUSES:
            rows = self.rows([child for child in children if child["status"] == status])
            for number, content in enumerate(self._divided(rows, most)):
                yield status, f"{status}_{number}.{self.output_type.lower()}", content

    def _divided(self, rows: Iterator[Any], most: int) -> Iterator[bytes]:
        held: list[bytes] = []
        size = 0
        for row in rows:
            text = json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
            if held and size + len(text) > most:
                yield self._content(held)
                held, size = [], 0
            held.append(text)
            size += len(text) + 1
        if held:
            yield self._content(held)

    def _content(self, texts: list[bytes]) -> bytes:
        return b"\n".join(texts) + b"\n" if self.output_type == "JSONL" else b"[" + b",".join(texts) + b"]"


def manifest(bucket: str, map_run: str, files: Sequence[tuple[str, str, int]]) -> dict[str, Any]:
    """Return ``manifest.json``.

    Args:
        bucket: Where the files are.
        map_run: The Map Run's ARN.
        files: Status, key and size in bytes of each.
    """
    listed = {status: [{"Key": key, "Size": size} for of, key, size in files if of == status] for status in STATUSES}
    return {"DestinationBucket": bucket, "MapRunArn": map_run, "ResultFiles": listed}


def _row(child: Mapping[str, Any]) -> dict[str, Any]:
    row = {name: child[member] for member, name in _ROW.items() if child.get(member) is not None}
    return {**row, **{f"{name}Details": {"Included": True} for name in ("Input", "Output") if name in row}}
