"""Distributed Map's ``ResultWriter``: a manifest, the result files it lists, and the children's outputs in them.

Format: https://docs.aws.amazon.com/step-functions/latest/dg/input-output-resultwriter.html. ``manifest.json`` holds
``DestinationBucket`` and ``ResultFiles.{SUCCEEDED,FAILED,PENDING}[{Key, Size}]``. A result file is a JSON array or JSON
lines, of executions (``Output`` is JSON text then) or, with the transformations COMPACT and FLATTEN, of plain outputs.
Which of the two a file is, its content says, whatever it is called: lines if its first line is JSON by itself. One line
alone is one result, unless it is an array: then it is the array of results, but in a file that is called ``.jsonl``.
"""

from __future__ import annotations

import codecs
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from stepout.artifacts.reading.access import DOCUMENT_LIMIT, Access
from stepout.artifacts.reading.foreign import ForeignReference, describe, load_foreign
from stepout.artifacts.reading.pinned_object import PinnedObject, check_cap, read_whole
from stepout.schemas.errors import InvalidDocumentError, SizeMismatchError
from stepout.schemas.problems import Problem, member
from stepout.schemas.text.json_text import load_json

if TYPE_CHECKING:
    from collections.abc import Iterator

ChildStatus = Literal["SUCCEEDED", "FAILED", "PENDING"]
STATUSES: Final[tuple[ChildStatus, ...]] = ("SUCCEEDED", "FAILED", "PENDING")


@dataclass(frozen=True, kw_only=True)
class ChildResult:
    """One child of a Distributed Map.

    Attributes:
        status: Which list of the manifest it was in.
        output: Its output, parsed; ``None`` where it has none.
        execution: Its execution's ARN, unless the writer left that out (COMPACT, FLATTEN).
        name: Its execution's name.
        error: The error's name, for a failed one.
        cause: The error's cause.
    """

    status: ChildStatus
    output: Any = field(default=None, repr=False)
    execution: str | None = None
    name: str | None = None
    error: str | None = field(default=None)
    cause: str | None = field(default=None, repr=False)


def children_of(
    access: Access, reference: ForeignReference, statuses: tuple[ChildStatus, ...] = STATUSES
) -> Iterator[ChildResult]:
    """Read the children that a ResultWriter's manifest leads to, file by file, each held to the allow-list.

    Raises:
        ReadBudgetError: The manifest leads to more than the resolve's budget.
        NotAllowedError: The manifest or a result file lies outside the allow-list.
        InvalidDocumentError: The manifest or a result file has another shape.
        SizeMismatchError: A result file has another size than the manifest says.
        StoreError: Missing, denied, changed, or unreachable.
    """
    manifest = load_json(_read(access, reference, None, DOCUMENT_LIMIT))
    bucket = manifest.get("DestinationBucket") if isinstance(manifest, dict) else None
    files = manifest.get("ResultFiles") if isinstance(manifest, dict) else None
    if not isinstance(bucket, str) or not isinstance(files, dict):
        raise _invalid(reference, "$", "is no ResultWriter manifest: it needs DestinationBucket and ResultFiles")
    listed = [
        (status, *_file(reference, bucket, entry))
        for status in statuses
        for entry in _entries(reference, files, status)
    ]
    for _status, file, _size in listed:
        access.allowed.check(file.bucket, file.key)
    for status, file, size in listed:
        rows = _rows(file, _read(access, file, size, access.limit))
        access.spending.take(f"s3://{file.bucket}/{file.key}", entries=len(rows))
        for row in rows:
            yield _child(status, row)


def _entries(reference: ForeignReference, files: dict[str, Any], status: str) -> list[Any]:
    entries = files.get(status, [])
    if not isinstance(entries, list):
        raise _invalid(reference, member("$.ResultFiles", status), "must be an array")
    return entries


def _file(reference: ForeignReference, bucket: str, entry: Any) -> tuple[ForeignReference, int | None]:
    key = entry.get("Key") if isinstance(entry, dict) else None
    size = entry.get("Size") if isinstance(entry, dict) else None
    if not isinstance(key, str) or isinstance(size, bool) or not isinstance(size, int | None):
        raise _invalid(reference, "$.ResultFiles", "holds a file without Key, or with a Size that is no whole number")
    return ForeignReference("result-writer", bucket, key), size


def _read(access: Access, reference: ForeignReference, size: int | None, limit: int) -> bytes:
    pointer = describe(access, reference)
    if size is not None and pointer.size != size:
        msg = f"{pointer.url}: the manifest says {size:,} bytes, the object has {pointer.size:,}; it was not read"
        raise SizeMismatchError(msg)
    check_cap(pointer, limit, instead="pass max_size=")
    access.spending.take(pointer.url, requests=1, size=pointer.size)
    return read_whole(PinnedObject(access, pointer), access.verify is not False)


def _rows(file: ForeignReference, data: bytes) -> list[Any]:
    data = data.removeprefix(codecs.BOM_UTF8)
    lines = [(number, line) for number, line in enumerate(data.splitlines(), 1) if line.strip()]
    if not lines:
        return []
    if len(lines) == 1:
        only = _loaded(file, data)
        return only if isinstance(only, list) and not file.key.lower().endswith((".jsonl", ".ndjson")) else [only]
    if _is_json(lines[0][1]):
        return [_loaded(file, line, f"line {number}: ") for number, line in lines]
    rows = _loaded(file, data)
    if not isinstance(rows, list):
        raise _invalid(file, "$", "must be an array of results, or one result a line")
    return rows


def _is_json(line: bytes) -> bool:
    """Tell whether a line is JSON by itself, valid or not in the eyes of a stricter reader."""
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _loaded(file: ForeignReference, text: bytes | str, place: str = "") -> Any:
    try:
        return load_foreign(text, max_bytes=None)
    except InvalidDocumentError as error:
        raise InvalidDocumentError(f"s3://{file.bucket}/{file.key}: {place}{error}", error.problems) from None


def _child(status: ChildStatus, row: Any) -> ChildResult:
    if not isinstance(row, dict) or "ExecutionArn" not in row or "Status" not in row:
        return ChildResult(status=status, output=row)
    output = row.get("Output")
    return ChildResult(
        status=status if row["Status"] == "SUCCEEDED" or status == "PENDING" else "FAILED",
        output=load_foreign(output, max_bytes=None) if isinstance(output, str) else output,
        **{name: _text(row.get(member_name)) for name, member_name in _MEMBERS.items()},
    )


_MEMBERS: Final = {"execution": "ExecutionArn", "name": "Name", "error": "Error", "cause": "Cause"}


def _text(value: object) -> Any:
    return value if isinstance(value, str) else None


def _invalid(reference: ForeignReference, location: str, message: str) -> InvalidDocumentError:
    problem = Problem(location, "type", message)
    return InvalidDocumentError(f"s3://{reference.bucket}/{reference.key}: {problem}", [problem])
