"""Many artifacts written at once, by a few threads, with one report of everything that failed."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from stepout.artifacts.transfer.worker_pool import (
    FailureLimit,
    check_connections,
    fault_of_client,
    work_through,
)
from stepout.artifacts.writing.values import is_large, weight
from stepout.schemas.errors import AccessDeniedError, ArtifactExistsError, ArtifactNotFoundError, ConfigurationError
from stepout.schemas.many_failed import ManyFailedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stepout.artifacts.writing.planned_put import PutOptions
    from stepout.artifacts.writing.writes import Writes
    from stepout.schemas import Pointer


def put_many(
    writes: Writes,
    put_one: Callable[..., Pointer],
    items: Mapping[str, Any] | Iterable[tuple[str, Any]],
    connections: int | None,
    options: PutOptions,
) -> dict[str, Pointer]:
    """Write many values; see ``ArtifactManager.put_many``.

    Args:
        writes: The manager's.
        put_one: Writes a name's value with ``options``; called in several threads.
        items: Names and values, taken as they are needed.
        connections: How many at once.
        options: Of every put.
    """
    writes.check_process("put_many")
    writes.registry.check_open()
    threads = check_connections(connections)
    names: dict[str, None] = {}
    pointers: dict[str, Pointer] = {}
    failures: dict[str, Exception] = {}
    large = threading.Semaphore(1)  # each of these fills connections and memory of its own

    def write(item: tuple[str, Any]) -> Pointer:
        if not is_large(item[1]):
            return put_one(*item, **options)
        with large:
            return put_one(*item, **options)

    limit = FailureLimit(lambda error: writes.registry.ended or _no_write_will_do(error))
    found = _Pairs(items, names, failures)
    for done in work_through(found, write, threads=threads, weigh=lambda item: weight(item[1])):
        name = done.item[0]
        if done.error is None and done.result is not None:
            pointers[name] = done.result
        elif done.error is not None:
            failures[name] = done.error
        if limit.spent(done.error):
            found.stop()
    if failures:
        raise ManyFailedError("put_many", failures, pointers=pointers, done=len(pointers), stopped=found.stopped)
    return {name: pointers[name] for name in names}


class _Pairs:
    """Names and values, checked as they come; stops early when told to."""

    def __init__(self, items: Any, names: dict[str, None], failures: dict[str, Exception]) -> None:
        if isinstance(items, str | bytes) or not isinstance(items, Iterable):
            msg = f"put_many: expected a mapping of names to values, or pairs of both, got {type(items).__name__}"
            raise ConfigurationError(f"{msg}; nothing was sent")
        self._items = items.items() if isinstance(items, Mapping) else items
        self._names, self._failures = names, failures
        self.stopped = False

    def stop(self) -> None:
        self.stopped = True

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        for item in self._items:
            if self.stopped:
                return
            name, value = _pair(item)
            if name in self._names:
                msg = (
                    f"artifact {name!r} is in put_many twice; the second one was not read or sent. Choose another name"
                )
                self._failures[name] = ArtifactExistsError(msg)
                continue
            self._names[name] = None
            yield name, value


def _pair(item: Any) -> tuple[str, Any]:
    if isinstance(item, tuple | list) and len(item) == 2:  # noqa: PLR2004 - a pair
        name, value = item
        if isinstance(name, str):
            return name, value
    msg = f"put_many: expected pairs of a name and a value, got {type(item).__name__}; it and the rest were not sent"
    raise ConfigurationError(msg)


def _no_write_will_do(error: Exception) -> bool:
    """Say whether every other put into the same folder would fail alike: bucket, credentials, permissions, region."""
    return isinstance(error, AccessDeniedError | ArtifactNotFoundError) or fault_of_client(error)
