"""Distributed Map's ``ResultWriter``: a manifest, the result files it lists, and the children's outputs in them.

Format: https://docs.aws.amazon.com/step-functions/latest/dg/input-output-resultwriter.html. ``manifest.json`` holds
``DestinationBucket`` and ``ResultFiles.{SUCCEEDED,FAILED,PENDING}[{Key, Size}]``. A result file is a JSON array or JSON
lines, of executions (``Output`` is JSON text then) or, with the transformations COMPACT and FLATTEN, of plain outputs;
a failed execution is told in full, whatever the transformation. Which of the two a file is, its content says, whatever
it is called (``json_rows``).

Files are streamed: a row is yielded as soon as it has arrived, and compared with what S3 has stored only when the file
ends. Until then it is provisional. The files whose turn comes next are begun meanwhile.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from stepout.artifacts.reading.access import DOCUMENT_LIMIT, Access
from stepout.artifacts.reading.documents.foreign import (
    ForeignReference,
    describe,
    find_references,
    load_foreign,
    opened_texts,
)
from stepout.artifacts.reading.fan_in.json_rows import ROW_LIMIT, RowPlace, json_rows
from stepout.artifacts.reading.fan_in.read_ahead import begun_ahead
from stepout.artifacts.reading.pinned_object import PinnedObject, Verifier, check_cap, verifier_for
from stepout.artifacts.reading.whole_read import read_whole
from stepout.schemas.errors import (
    ArtifactChangedError,
    ChecksumMismatchError,
    IntegrityError,
    InvalidDocumentError,
    ReadBudgetError,
    SizeMismatchError,
    StoreError,
    invalid_document,
)
from stepout.schemas.problems import Problem, member
from stepout.schemas.text.json_text import load_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stepout.artifacts.reading.fan_in.json_rows import JsonRow
    from stepout.artifacts.reading.fan_in.read_ahead import ReadAhead

ChildStatus = Literal["SUCCEEDED", "FAILED", "PENDING"]
STATUSES: Final[tuple[ChildStatus, ...]] = ("SUCCEEDED", "FAILED", "PENDING")

_FILES_AHEAD: Final = 16
_MEMORY_AHEAD: Final = 16 << 20
_BLOCK: Final = 128 << 10
"""Bytes that are handed on at a time. Larger pieces, between the small objects of the rows, would split up the heap."""

_HELD: Final = 1 << 20
"""Bytes that a file which is read holds at most, about: blocks that wait, and the one that arrives."""


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


@dataclass(frozen=True, kw_only=True)
class ResultFile:
    """A result file that a manifest lists.

    Attributes:
        number: Its place in the manifest, over all lists, from 0.
        status: Which list it is in.
        reference: Where it is.
        size: In bytes, as the manifest says; ``None``: it does not.
    """

    number: int
    status: ChildStatus
    reference: ForeignReference
    size: int | None

    @property
    def url(self) -> str:
        """``s3://bucket/key``."""
        return f"s3://{self.reference.bucket}/{self.reference.key}"


class ResultPlace(NamedTuple):
    """A place in the files of a manifest.

    Attributes:
        file: The number of a file.
        etag: That file's, for a place inside of it.
        rows: The place in it.
    """

    file: int = 0
    etag: str | None = None
    rows: RowPlace = RowPlace()


class ResultRow(NamedTuple):
    """One row, or what is wrong with a file as a whole.

    Attributes:
        file: The file.
        row: Which row of it, from 1; ``None``: the file as a whole.
        child: What the row says; ``None`` where it cannot be read.
        error: Why it cannot be read.
        end: The place behind it.
    """

    file: ResultFile
    row: int | None
    child: ChildResult | None
    error: Exception | None
    end: ResultPlace


def the_manifest(value: Any, otherwise: str = "") -> ForeignReference:
    """Return the one reference to a ResultWriter's manifest in a document.

    Args:
        value: Parsed JSON.
        otherwise: What else it might have been, for the message.

    Raises:
        InvalidDocumentError: There is none, or there are several.
    """
    found = [each for each in find_references(opened_texts(value)) if each.kind == "result-writer"]
    if len(found) == 1:
        return found[0]
    problems = [Problem(each.location, "several", f"is one of {len(found)} ResultWriterDetails") for each in found]
    missing = Problem("$", "missing", f"has no ResultWriterDetails in it{otherwise}")
    raise invalid_document("the value", problems or [missing])


def children_of(
    access: Access, reference: ForeignReference, statuses: tuple[ChildStatus, ...] = STATUSES
) -> Iterator[ChildResult]:
    """Read the children that a ResultWriter's manifest leads to, each file held to the allow-list.

    A file is compared with its checksum when its last child has been yielded.

    Raises:
        ReadBudgetError: The manifest leads to more than the resolve's budget.
        NotAllowedError: The manifest or a result file lies outside the allow-list.
        InvalidDocumentError: The manifest, a result file or a row has another shape.
        IntegrityError: A result file has another size than the manifest says, or other bytes than S3 stored.
        StoreError: Missing, denied, changed, or unreachable.
    """
    for row in result_rows(access, result_files(access, reference, statuses)):
        if row.child is None:
            raise row.error or AssertionError
        yield row.child


def result_files(
    access: Access, reference: ForeignReference, statuses: tuple[ChildStatus, ...] = STATUSES
) -> list[ResultFile]:
    """Read a ResultWriter's manifest, and return the files that it lists.

    Raises:
        ReadBudgetError: The resolve's budget is spent.
        NotAllowedError: The manifest or a result file lies outside the allow-list.
        InvalidDocumentError: It is no such manifest.
        StoreError: It is missing, denied, changed, or unreachable.
    """
    return listed_files(access, load_json(_read(access, reference)), reference, statuses)


def listed_files(
    access: Access, manifest: Any, reference: ForeignReference, statuses: tuple[ChildStatus, ...] = STATUSES
) -> list[ResultFile]:
    """Return the files that a ResultWriter's manifest lists.

    Args:
        access: How to read.
        manifest: It, parsed.
        reference: Where it lies, for messages.
        statuses: Which of its lists.

    Raises:
        NotAllowedError: A result file lies outside the allow-list.
        InvalidDocumentError: It is no such manifest.
    """
    bucket = manifest.get("DestinationBucket") if isinstance(manifest, dict) else None
    files = manifest.get("ResultFiles") if isinstance(manifest, dict) else None
    if not isinstance(bucket, str) or not isinstance(files, dict):
        raise _invalid(reference, "$", "is no ResultWriter manifest: it needs DestinationBucket and ResultFiles")
    entries = [(status, entry) for status in statuses for entry in _entries(reference, files, status)]
    listed = [_file(reference, bucket, number, *each) for number, each in enumerate(entries)]
    for file in listed:
        access.allowed.check(file.reference.bucket, file.reference.key)
    return listed


def result_rows(access: Access, files: list[ResultFile], start: ResultPlace = ResultPlace()) -> Iterator[ResultRow]:  # noqa: B008 - a value
    """Read every row of the files, in order; what is wrong with a file as a whole comes behind its last row.

    Args:
        access: How to read.
        files: From ``result_files``.
        start: Where to begin; a file that is entered behind its first row is held to its ETag, and not compared with
            its checksum.

    Raises:
        ReadBudgetError: There are more rows, requests or bytes than the budget.
    """
    arriving = [
        _ArrivingFile(access, file, start if file.number == start.file else ResultPlace(file.number))
        for file in files
        if file.number >= start.file
    ]
    for source, blocks in begun_ahead(
        arriving,
        lambda each: each.blocks(),
        weigh=lambda each: min(_HELD, _HELD if each.file.size is None else each.file.size),
        memory=_MEMORY_AHEAD,
        most=min(access.at_once(_FILES_AHEAD), _FILES_AHEAD),
    ):
        yield from _rows(access, source, blocks)


class _ArrivingFile:
    """A result file on its way, hashed as it arrives."""

    def __init__(self, access: Access, file: ResultFile, start: ResultPlace) -> None:
        self._access = access
        self.file = file
        self.start = start
        self.etag: str | None = None
        """The file's, once a block is there."""

    def blocks(self) -> Iterator[bytes]:
        """Yield its bytes, from where to begin.

        Raises:
            SizeMismatchError: It has another size than the manifest says; it was not read.
            ArtifactChangedError: It is not the file in which the place to begin was taken; it was not read.
            ChecksumMismatchError: At the end: the bytes are not those that S3 has stored.
            StoreError: As for ``describe``, or larger than ``max_size``.
        """
        access, file, offset = self._access, self.file, self.start.rows.offset
        pointer = describe(access, file.reference)
        if file.size is not None and pointer.size != file.size:
            msg = f"{file.url}: the manifest says {file.size:,} bytes, the object has {pointer.size:,}; it was not read"
            raise SizeMismatchError(msg)
        if self.start.etag is not None and pointer.etag != self.start.etag:
            msg = f"{file.url} has changed since resume= was taken: expected ETag {self.start.etag}, got {pointer.etag}"
            raise ArtifactChangedError(f"{msg}. It was not read: gather anew")
        if access.max_size is not None:
            check_cap(pointer, access.max_size, instead="pass max_size=")
        access.spending.take(file.url, requests=1, size=pointer.size - offset)
        self.etag = pointer.etag
        verifier = Verifier(pointer, None) if offset else verifier_for(pointer, access.verify is not False)
        if offset < pointer.size or not offset:
            hashed, buffer = verifier.algorithm is not None, memoryview(bytearray(_BLOCK))
            with closing(PinnedObject(access, pointer).blocks(offset, lend=lambda: buffer, hashed=hashed)) as arriving:
                for view in arriving:
                    block = bytes(view)  # the view is the next block's memory
                    verifier.update(memoryview(block))
                    yield block
        verifier.finish()


def _rows(access: Access, source: _ArrivingFile, blocks: ReadAhead[bytes]) -> Iterator[ResultRow]:
    file, seen = source.file, source.start.rows.row
    try:
        for row in json_rows(blocks, file.reference.key, source.start.rows):
            seen = row.end.row
            access.spending.take(file.url, entries=1)
            yield _row(file, row, ResultPlace(file.number, source.etag, row.end))
    except ReadBudgetError:
        raise
    except ChecksumMismatchError as error:
        told = f"{error}. Rows 1 to {seen:,} of it came before that could be known" if seen else str(error)
        yield ResultRow(file, None, None, ChecksumMismatchError(told), ResultPlace(file.number + 1))
    except InvalidDocumentError as error:
        yield ResultRow(file, None, None, _placed(file, "", error), ResultPlace(file.number + 1))
    except (StoreError, IntegrityError) as error:
        yield ResultRow(file, None, None, error, ResultPlace(file.number + 1))


def _row(file: ResultFile, row: JsonRow, end: ResultPlace) -> ResultRow:
    number = row.end.row
    place = f"row {number}, line {row.line}: "
    if row.text is None:
        problem = Problem("$", "size", f"is longer than {ROW_LIMIT:,} bytes, the most that is read of a row")
        error = _placed(file, place, InvalidDocumentError(str(problem), [problem]))
        return ResultRow(file, number, None, error, end)
    try:
        return ResultRow(file, number, _child(file.status, load_foreign(row.text, max_bytes=None)), None, end)
    except InvalidDocumentError as error:
        if number == 1 and row.end.lines:
            place += "the file must be an array of results, or one result a line: "
        return ResultRow(file, number, None, _placed(file, place, error), end)


def _placed(file: ResultFile, place: str, error: InvalidDocumentError) -> InvalidDocumentError:
    return InvalidDocumentError(f"{file.url}: {place}{error}", error.problems)


def _entries(reference: ForeignReference, files: dict[str, Any], status: str) -> list[Any]:
    entries = files.get(status, [])
    if not isinstance(entries, list):
        raise _invalid(reference, member("$.ResultFiles", status), "must be an array")
    return entries


def _file(reference: ForeignReference, bucket: str, number: int, status: ChildStatus, entry: Any) -> ResultFile:
    key = entry.get("Key") if isinstance(entry, dict) else None
    size = entry.get("Size") if isinstance(entry, dict) else None
    if not isinstance(key, str) or isinstance(size, bool) or not isinstance(size, int | None):
        raise _invalid(reference, "$.ResultFiles", "holds a file without Key, or with a Size that is no whole number")
    return ResultFile(number=number, status=status, reference=ForeignReference("result-writer", bucket, key), size=size)


def _read(access: Access, reference: ForeignReference) -> bytes:
    pointer = describe(access, reference)
    check_cap(pointer, DOCUMENT_LIMIT, instead="pass max_size=")
    access.spending.take(pointer.url, requests=1, size=pointer.size)
    return read_whole(PinnedObject(access, pointer), access.verify is not False)


def _child(status: ChildStatus, row: Any) -> ChildResult:
    if isinstance(row, dict) and {"DestinationBucket", "ResultFiles"} <= row.keys():
        message = "is a ResultWriter's manifest that another one lists, and no manifest is followed to the next"
        raise invalid_document("the result", [Problem("$", "cycle", message)])
    if not isinstance(row, dict) or "ExecutionArn" not in row or "Status" not in row:
        return ChildResult(status=status, output=row)
    output = row.get("Output")
    told = {name: _text(row.get(member_name)) for name, member_name in _MEMBERS.items()}
    if row["Status"] in _ENDED_OTHERWISE:  # they lie among the failed ones, and need not name an error
        told["error"] = told["error"] or row["Status"]
    return ChildResult(
        status=status if row["Status"] == "SUCCEEDED" or status == "PENDING" else "FAILED",
        output=load_foreign(output, max_bytes=None) if isinstance(output, str) else output,
        **told,
    )


_ENDED_OTHERWISE: Final = ("TIMED_OUT", "ABORTED")
_MEMBERS: Final = {"execution": "ExecutionArn", "name": "Name", "error": "Error", "cause": "Cause"}


def _text(value: object) -> Any:
    return value if isinstance(value, str) else None


def _invalid(reference: ForeignReference, location: str, message: str) -> InvalidDocumentError:
    problem = Problem(location, "type", message)
    return InvalidDocumentError(f"s3://{reference.bucket}/{reference.key}: {problem}", [problem])
