"""The outcomes of an array job: one for each child, read together, all of them or an error that names the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from stepout.artifacts.transfer.worker_pool import work_through
from stepout.schemas.array import INDEX_MARK, child_url, index_ranges
from stepout.schemas.errors import (
    ArrayIncompleteError,
    ArtifactNotFoundError,
    IntegrityError,
    InvalidDocumentError,
    TaskFailedError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from stepout.artifacts.transfer.worker_pool import Done

Found = TypeVar("Found")

_WEIGHT: Final = 64 << 10  # bytes: an output document's usual budget
_SHOWN: Final = 5
_LINE: Final = 400


def read_outcomes(
    url: str, indices: Iterable[int], read: Callable[[str], Found], *, at_once: int
) -> Iterator[Done[int, Found]]:
    """Read the outcomes of children, several at once, and yield what came of each, in the order in which they arrive.

    Args:
        url: The URL that the array was given.
        indices: Which.
        read: Reads one outcome by its URL; called in several threads.
        at_once: In how many.
    """

    def one(index: int) -> Found:
        return read(child_url(url, index))

    return work_through(indices, one, threads=at_once, weigh=lambda _index: _WEIGHT)


def read_children(
    url: str, count: int, read: Callable[[str], Found], *, at_once: int
) -> tuple[dict[int, Found], list[int], dict[int, Exception]]:
    """Read the outcome of every child, several at once.

    Args:
        url: The URL that the array was given.
        count: How many children it has.
        read: Reads one outcome by its URL; called in several threads.
        at_once: In how many.

    Returns:
        What was read, the indices of those that have reported nothing, and what happened to those that failed or
        left no output of this run; each in the order of the indices.

    Raises:
        Exception: What ``read`` raised otherwise: what is denied or unreachable says nothing of a child.
    """
    found: dict[int, Found] = {}
    missing: list[int] = []
    failures: dict[int, Exception] = {}
    for done in read_outcomes(url, range(count), read, at_once=at_once):
        if isinstance(done.error, ArtifactNotFoundError):
            missing.append(done.item)
        elif isinstance(done.error, TaskFailedError | InvalidDocumentError | IntegrityError):
            failures[done.item] = done.error
        elif done.error is not None:
            raise done.error
        elif done.result is not None:
            found[done.item] = done.result
    return dict(sorted(found.items())), sorted(missing), dict(sorted(failures.items()))


def incomplete(
    url: str, count: int, missing: list[int], failures: Mapping[int, Exception], resolved: Mapping[str, object]
) -> ArrayIncompleteError:
    """Return the error that names every child without an output; arguments as ``read_children`` has them."""
    failed = [index for index, error in failures.items() if isinstance(error, TaskFailedError)]
    invalid = [index for index in failures if index not in failed]
    place = url if INDEX_MARK in url else f"{url.removesuffix('/')}/{INDEX_MARK}"
    said = [f"{len(missing) + len(failures):,} of the {count:,} children of the array job at {place} have no output"]
    if missing:
        said.append(f"missing, so that they have not reported yet, or died: {index_ranges(missing)}")
    if failed:
        said.append(f"failed: {index_ranges(failed)}")
    if invalid:
        said.append(f"no valid output of this run: {index_ranges(invalid)}")
    shown = [f"{index}: {_line(error)}" for index, error in list(failures.items())[:_SHOWN]]
    if len(failures) > _SHOWN:
        shown.append(f"and {len(failures) - _SHOWN:,} more, in failures")
    if len(missing) == count:
        shown.append("all are missing: is this the URL that the job was given, and an array job?")
    return ArrayIncompleteError(
        ". ".join(filter(None, ("; ".join(said), "; ".join(shown)))),
        count=count,
        missing=missing,
        failures=failures,
        resolved=resolved,
    )


def _line(error: Exception) -> str:
    text = str(error)
    return text if len(text) <= _LINE else text[:_LINE] + "…"
