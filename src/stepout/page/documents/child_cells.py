"""The children of a Map as cells of a grid: of a history's iterations, a ResultWriter's rows, a Map Run, or a list."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from stepout.artifacts.reading.fan_in.result_writer import result_rows
from stepout.page.causes import plain, told_cause
from stepout.page.history.event import read_time
from stepout.page.history.found_documents import objects_of
from stepout.page.model import ChildCell, ChildGrid
from stepout.schemas.errors import InvalidDocumentError, ReadBudgetError, StepoutError
from stepout.schemas.search.locate import survey

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from stepout.artifacts.reading.access import Access
    from stepout.artifacts.reading.fan_in.result_writer import ChildResult, ResultFile, ResultRow
    from stepout.page.budget import PageBudget
    from stepout.page.history.visits import Visited

MOST_CELLS: Final = 10_000

_MOST_CAUSE: Final = 300
_MOST_DOCUMENTS: Final = 20


class Children(NamedTuple):
    """Children, and what was found on the way.

    Attributes:
        grid: Their cells.
        documents: The outputs of the first ones that have one, with their index.
        notes: What could not be read.
    """

    grid: ChildGrid
    documents: list[tuple[int, dict[str, Any]]]
    notes: list[str]


def children_of_files(access: Access, files: list[ResultFile], budget: PageBudget) -> Children:
    """Read the children in the result files of a ResultWriter, on at most half of what may still be read."""
    cells: list[ChildCell] = []
    documents: list[tuple[int, dict[str, Any]]] = []
    notes: list[str] = []
    cut, least = False, budget.bytes_left - budget.share
    try:
        # One file after the other: those that are begun ahead would spend what this one needs.
        for row in (row for file in files for row in result_rows(access, [file])):
            if row.row is None:
                notes.append(_file_problem(row))
                continue
            if len(cells) >= MOST_CELLS or budget.bytes_left < least:
                cut = True
                break
            cells.append(_of_row(len(cells), row, documents))
    except ReadBudgetError as error:
        cut = True
        notes.append(f"not all children were read: {error}")
    return Children(ChildGrid(total=len(cells), cells=tuple(cells), cut=cut), documents, notes)


def children_of_items(items: Sequence[Any]) -> Children:
    """Make the children of what an inline Map returned."""
    cells: list[ChildCell] = []
    documents: list[tuple[int, dict[str, Any]]] = []
    for index, item in enumerate(items[:MOST_CELLS]):
        cells.append(_of_output(index, item, documents))
    return Children(ChildGrid(total=len(items), cells=tuple(cells), cut=len(items) > len(cells)), documents, [])


def grid_of_iterations(visit: Visited, inside: Iterable[Visited], artifacts: Mapping[int, int]) -> ChildGrid:
    """Return the grid of an inline Map whose history tells of its iterations.

    Args:
        visit: Of the Map.
        inside: The visits in it.
        artifacts: How many artifacts each iteration reported, by index.
    """
    failures: dict[int, Visited] = {}
    for each in inside:
        if each.failed and each.exited_at is None and (index := _iteration_in(each, visit)) is not None:
            failures.setdefault(index, each)
    cells = []
    for index, iteration in sorted(visit.iterations.items())[:MOST_CELLS]:
        failed = failures.get(index)
        last = failed.tries[-1] if failed is not None and failed.tries else None
        cells.append(
            ChildCell(
                index=index,
                status=iteration.status,
                name=failed.name if failed is not None else "",
                error=last.error if last is not None else "",
                cause=last.cause.cause[:_MOST_CAUSE] if last is not None else "",
                seconds=_seconds(iteration.started_at, iteration.ended_at),
                artifacts=artifacts.get(index, 0),
            )
        )
    total = max(len(visit.iterations), visit.length or 0)
    return ChildGrid(total=total, cells=tuple(cells), cut=len(visit.iterations) > len(cells))


def grid_of_executions(children: Sequence[Mapping[str, Any]]) -> ChildGrid:
    """Return the grid of a Map Run's child executions, as ListExecutions has them."""
    cells = [
        ChildCell(
            index=index,
            status=plain(str(child.get("status", ""))),
            name=plain(str(child.get("name", ""))),
            seconds=_seconds(read_time(child.get("startDate")), read_time(child.get("stopDate"))),
        )
        for index, child in enumerate(children[:MOST_CELLS])
    ]
    return ChildGrid(total=len(children), cells=tuple(cells), cut=len(children) >= MOST_CELLS)


def _iteration_in(visit: Visited, container: Visited) -> int | None:
    return next((scope.iteration for scope in visit.scopes() if scope.inside is container), None)


def _seconds(start: datetime | None, end: datetime | None) -> float | None:
    return None if start is None or end is None else max((end - start).total_seconds(), 0.0)


def _of_row(index: int, row: ResultRow, documents: list[tuple[int, dict[str, Any]]]) -> ChildCell:
    child = row.child
    if child is None:
        return _of_problem(index, row.error)
    if child.status == "SUCCEEDED":
        return _of_output(index, child.output, documents, name=child.name or "")
    return _of_failure(index, child)


def _of_failure(index: int, child: ChildResult) -> ChildCell:
    return ChildCell(
        index=index,
        status=child.status,
        name=plain(child.name or ""),
        error=plain(child.error or ""),
        cause=told_cause(child.cause).cause[:_MOST_CAUSE],
    )


def _of_problem(index: int, error: Exception | None) -> ChildCell:
    name = error.error_name if isinstance(error, StepoutError) else ""
    return ChildCell(index=index, status="UNKNOWN", error=name, cause=plain(str(error or ""))[:_MOST_CAUSE])


def _of_output(index: int, output: Any, documents: list[tuple[int, dict[str, Any]]], *, name: str = "") -> ChildCell:
    if not isinstance(output, dict | list):
        return ChildCell(index=index, status="SUCCEEDED", name=plain(name))
    try:
        seen = survey(output)
    except InvalidDocumentError as error:
        return _of_problem(index, error)
    if not seen.found and seen.failures:  # what Catch kept
        error_name, cause = seen.failures[0][1]
        told = told_cause(cause).cause[:_MOST_CAUSE]
        return ChildCell(index=index, status="CAUGHT", name=plain(name), error=plain(error_name), cause=told)
    count = sum(1 for each in seen.found for _ in objects_of(each.document))
    if len(documents) < _MOST_DOCUMENTS:
        documents += [(index, each.document) for each in seen.found if each.kind == "output"][:1]
    return ChildCell(index=index, status="SUCCEEDED", name=plain(name), artifacts=count)


def _file_problem(row: ResultRow) -> str:
    return f"a file of results could not be read to its end: {plain(str(row.error or ''))}"
