"""The children of a fan-in, one by one: of a ResultWriter's files, an inline Map's result, or an array job.

Each is a ``Child``. What keeps one of them from being read is that child's error, and the others go on; only what would
keep all of them from being read is raised: the budget, the manifest, the allow-list's word on the source itself.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from stepout.artifacts.reading.documents.resolved import Resolved, outcome_in
from stepout.artifacts.reading.fan_in.json_rows import RowPlace
from stepout.artifacts.reading.fan_in.result_writer import ResultPlace, result_files, result_rows
from stepout.artifacts.reading.output import Output
from stepout.artifacts.transfer.worker_pool import CONNECTIONS, work_through
from stepout.schemas.errors import (
    ArtifactNotFoundError,
    ConfigurationError,
    IntegrityError,
    InvalidDocumentError,
    ReadBudgetError,
    StepoutError,
    TaskFailedError,
    invalid_document,
)
from stepout.schemas.identity import RunIdentity
from stepout.schemas.problems import Problem
from stepout.schemas.pull import AskedRun, Failure

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Literal

    from stepout.artifacts.reading.access import Access
    from stepout.artifacts.reading.documents.foreign import ForeignReference
    from stepout.artifacts.reading.fan_in.result_writer import ChildResult, ChildStatus, ResultRow
    from stepout.artifacts.transfer.worker_pool import Done

    Order = Literal["arrival", "index"]

_TOGETHER: Final = 256
"""Outcomes that are read before the first of them is yielded, where their order is asked for."""

_FOLLOWED: Final = 64
"""Children that are held while the spilled ones among them are followed."""

_WEIGHT: Final = 64 << 10  # bytes: an output document's usual budget
_ROWS: Final = re.compile(r"rows ([0-9]{1,18}) ([0-9]{1,18}) ([0-9]{1,18}) ([0-9]{1,18}) ([0-9]{1,18}) ([AL-]) (\S+)")
_ITEM: Final = re.compile(r"item ([0-9]{1,18})")
_RANGES: Final = re.compile(r"array ([0-9]{1,18}-[0-9]{1,18}(?:,[0-9]{1,18}-[0-9]{1,18})*)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Child:
    """One child of a fan-in.

    Attributes:
        index: Which: the item's number in an inline Map's result; the child's own in an array job; the number of the
            row over all result files of a ResultWriter, in the manifest's order; of the record in the order of keys.
            ``-1`` stands for a result file as a whole.
        status: ``SUCCEEDED`` if and only if ``error`` is ``None``. ``PENDING``: it has not reported, or was never
            started.
        output: The one ``Output`` in what it returned, or else the one ``Artifact``; ``Resolved``, by location, where
            there are several; what it returned where there is neither.
        error: ``TaskFailedError`` if it failed; anything else says why its output cannot be read.
        execution: Its execution's ARN, as far as that is known.
        name: Its execution's name.
        file: Where it was read, ``s3://bucket/key``; ``None`` for an inline Map.
        row: Which row of the result file, from 1.
        position: What ``resume=`` takes to go on behind it.
    """

    index: int
    status: ChildStatus
    output: Any = field(default=None, repr=False)
    error: Exception | None = None
    execution: str | None = None
    name: str | None = None
    file: str | None = None
    row: int | None = None
    position: str = field(default="", repr=False)


def failed_child(error: Exception, **told: Any) -> Child:
    """Return a child with an error, whose message says which child it is."""
    index, file, row = told["index"], told.get("file"), told.get("row")
    said = str(error.args[0]) if error.args else ""
    place = "" if index < 0 else f"child {index}"
    if file is not None and file not in said:
        place += f" ({file}{'' if row is None else f', row {row}'})"
    if place:
        error.args = (f"{place}: {said}", *error.args[1:])
    return Child(status=told.pop("status", "FAILED"), error=error, **told)


def made_child(value: Any, access: Access, run: str | None, **told: Any) -> Child:
    """Return a child of what it returned.

    Args:
        value: Parsed JSON.
        access: How to read.
        run: The execution that it must be of; ``None``: any.
        told: The other attributes of the child.

    Raises:
        ReadBudgetError: What it leads to is more than the budget.
    """
    try:
        output = outcome_in(value, access)
        if run is not None and told.get("execution") != run:
            _check_run(output, run)
    except ReadBudgetError:
        raise
    except StepoutError as error:
        return failed_child(error, **told)
    return Child(status="SUCCEEDED", output=output, **told)


def _check_run(output: Any, execution: str) -> None:
    """Raise unless everything in an output was made by a run, or by one that it started."""
    outputs = output.values() if isinstance(output, Resolved) else [output]
    runs = [(each.producer if isinstance(each, Output) else None) or RunIdentity() for each in outputs]
    if not all(execution in {run.execution, run.parent_execution} for run in runs) or not runs:
        problem = Problem("$.producer", "value", "names neither as execution nor as parentExecution what was asked for")
        advice = "It is another run's, or does not say whose it is: STEPOUT_EXECUTION and STEPOUT_PARENT_EXECUTION do."
        raise invalid_document("the child's output", [problem], advice)


class _Returned(NamedTuple):
    """What a child returned, parsed, and the other attributes of the child."""

    value: Any
    told: dict[str, Any]


def _made(found: Iterable[Child | _Returned], access: Access, run: str | None) -> Iterator[Child]:
    """Make children in order; where outputs were spilled, the next few are made side by side: each is a request."""

    def make(each: Child | _Returned) -> Child:
        return each if isinstance(each, Child) else made_child(each.value, access, run, **each.told)

    rest = iter(found)
    for first in rest:
        if isinstance(first, Child) or not _is_spilled(first.value):
            yield make(first)
            continue
        together = enumerate([first, *islice(rest, _FOLLOWED - 1)])
        threads = access.at_once(CONNECTIONS)
        done = work_through(together, lambda item: make(item[1]), threads=threads, weigh=lambda _item: _WEIGHT)
        for each in sorted(done, key=lambda each: each.item[0]):
            if each.result is None:
                raise each.error or AssertionError
            yield each.result


def _is_spilled(value: Any) -> bool:
    """Tell whether following an output will take a request, where it or a member of it is the document."""
    return isinstance(value, dict) and any(
        isinstance(each, dict) and "manifest" in each for each in (value, *value.values())
    )


# A ResultWriter's files ----------------------------------------------------------------------------------------------


def children_of_manifest(
    access: Access, reference: ForeignReference, execution: str | None, resume: str | None
) -> Iterator[Child]:
    """Yield the children of a Distributed Map; see ``gather``."""
    start, index = _resumed_rows(resume)
    files = result_files(access, reference)
    if start.file > len(files):
        raise ConfigurationError(f"resume= is of another manifest: this one lists {len(files):,} files. Gather anew")
    yield from _made(_of_rows(result_rows(access, files, start), index), access, execution)


def _of_rows(rows: Iterator[ResultRow], index: int) -> Iterator[Child | _Returned]:
    for row in rows:
        index += row.row is not None
        told: dict[str, Any] = {"file": row.file.url, "row": row.row, "position": _rows_position(row.end, index)}
        told["index"] = -1 if row.row is None else index - 1
        child = row.child
        if child is None:
            yield failed_child(row.error or AssertionError(), **told)
            continue
        told |= {"execution": child.execution, "name": child.name}
        yield _Returned(child.output, told) if child.status == "SUCCEEDED" else _unsuccessful(child, told)


def _unsuccessful(child: ChildResult, told: dict[str, Any]) -> Child:
    failure = Failure(child.error or child.status, child.cause or "")
    what = "is pending: it was never started, or had not ended" if child.status == "PENDING" else f"failed: {failure}"
    error = TaskFailedError(f"the child execution {what}", error=failure.error, cause=failure.cause)
    return failed_child(error, status=child.status, **told)


def _rows_position(place: ResultPlace, index: int) -> str:
    lines, row, line, offset = place.rows
    way = "-" if lines is None else "L" if lines else "A"
    return f"rows {place.file} {index} {row} {line} {offset} {way} {place.etag or '-'}"


def _resumed_rows(resume: str | None) -> tuple[ResultPlace, int]:
    if resume is None:
        return ResultPlace(), 0
    file, index, row, line, offset, way, etag = _groups(_ROWS, resume, "a ResultWriter's files")
    if way != "-" and etag == "-":
        raise ConfigurationError("resume=: S3 gave the file no ETag that it could be held to. Gather anew")
    rows = RowPlace() if way == "-" else RowPlace(way == "L", int(row), int(line), int(offset))
    return ResultPlace(int(file), None if etag == "-" else etag, rows), int(index)


# An inline Map's result ----------------------------------------------------------------------------------------------


def children_of_items(
    access: Access, items: Sequence[Any], execution: str | None, resume: str | None
) -> Iterator[Child]:
    """Yield the children of an inline Map; see ``gather``."""
    first = 0 if resume is None else int(_groups(_ITEM, resume, "an inline Map's result")[0]) + 1
    returned = (
        _Returned(items[index], {"index": index, "position": f"item {index}"}) for index in range(first, len(items))
    )
    yield from _made(returned, access, execution)


# An array job --------------------------------------------------------------------------------------------------------


def children_of_array(  # noqa: PLR0913, PLR0917 - what ``gather`` was told
    access: Access, url: str, count: int, execution: str | None, order: Order, resume: str | None
) -> Iterator[Child]:
    """Yield the children of an array job, in the order of their indices or as they arrive; see ``gather``."""
    from stepout.artifacts.reading.documents.outcome import OutcomeReader
    from stepout.artifacts.reading.fan_in.array_job import read_outcomes
    from stepout.schemas.array import child_url

    ended = _EndedIndices(resume)
    outcomes = OutcomeReader(AskedRun(execution=execution))

    def read(place: str) -> tuple[Any, Access]:
        own = access.with_own_spending()
        return outcomes.read(place, own), own

    left = (index for index in range(count) if index not in ended)
    stretches = [left] if order == "arrival" else iter(lambda: list(islice(left, _TOGETHER)), [])
    for stretch in stretches:
        found: Iterable[Done[int, tuple[Any, Access]]] = read_outcomes(
            url, stretch, read, at_once=access.at_once(CONNECTIONS)
        )
        if order == "index":
            found = sorted(found, key=lambda done: done.item)
        for done in found:
            position = ended.add(done.item)
            told = {"index": done.item, "file": child_url(url, done.item), "position": position}
            yield _of_outcome(done, execution, **told)


def _of_outcome(done: Done[int, tuple[Any, Access]], execution: str | None, **told: Any) -> Child:
    if isinstance(done.error, ArtifactNotFoundError):
        return failed_child(done.error, status="PENDING", **told)
    if isinstance(done.error, TaskFailedError | InvalidDocumentError | IntegrityError):
        return failed_child(done.error, **told)
    if done.error is not None or done.result is None:
        raise done.error or AssertionError  # what is denied or unreachable says nothing of a child
    child = made_child(*done.result, execution, **told)
    if child.error is None and not isinstance(child.output, Output):
        problem = Problem("$", "type", "must be a task output")
        return failed_child(invalid_document("what lies there", [problem]), **told)
    return child


class _EndedIndices:
    """The indices that have been yielded, as ranges: there are no more of them than requests in flight."""

    def __init__(self, resume: str | None) -> None:
        told = [] if resume is None else _groups(_RANGES, resume, "an array job")[0].split(",")
        self._ranges = [(int(first), int(last)) for first, _, last in (each.partition("-") for each in told)]

    def __contains__(self, index: int) -> bool:
        return any(first <= index <= last for first, last in self._ranges)

    def add(self, index: int) -> str:
        """Take one more, and return the position behind it."""
        at = bisect_left(self._ranges, (index, index))
        first = last = index
        if at < len(self._ranges) and self._ranges[at][0] == index + 1:
            last = self._ranges.pop(at)[1]
        if at and self._ranges[at - 1][1] == index - 1:
            first = self._ranges.pop(at - 1)[0]
            at -= 1
        self._ranges.insert(at, (first, last))
        return "array " + ",".join(f"{first}-{last}" for first, last in self._ranges)


def _groups(pattern: re.Pattern[str], resume: str, what: str) -> tuple[str, ...]:
    found = pattern.fullmatch(resume)
    if found is None:
        raise ConfigurationError(f"resume= is no position of a child of {what}: pass child.position. Nothing was read")
    return found.groups()
