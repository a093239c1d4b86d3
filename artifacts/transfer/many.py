"""Many artifacts at once: written or read by a few threads, with one report of everything that failed."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from stepout.artifacts.s3.errors import CREDENTIALS_REFUSED
from stepout.artifacts.transfer.worker_pool import work_through
from stepout.schemas.errors import (
    AccessDeniedError,
    ArtifactExistsError,
    ArtifactNotFoundError,
    ConfigurationError,
    ManyFailedError,
    StepoutError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stepout.artifacts.reading.artifact import Artifact
    from stepout.schemas import Pointer

CONNECTIONS: Final = 16
"""Requests in flight at once: with 20 ms of latency, 800 objects a second."""

MEMORY: Final = 64 << 20

_GIVE_UP: Final = 32
_LARGE: Final = 8 << 20
_MOST_CONNECTIONS: Final = 256


def check_connections(connections: object) -> int:
    """Return a number of connections if it is one; ``None`` stands for the usual one.

    Raises:
        ConfigurationError: It is not a whole number from 1 to 256.
    """
    if connections is None:
        return CONNECTIONS
    if isinstance(connections, int) and not isinstance(connections, bool) and 1 <= connections <= _MOST_CONNECTIONS:
        return connections
    raise ConfigurationError(f"connections is {connections!r}: expected 1 to {_MOST_CONNECTIONS}")


# Writing ----------------------------------------------------------------------------------------------------------


def put_many(
    put: Callable[[str, Any], Pointer],
    items: Mapping[str, Any] | Iterable[tuple[str, Any]],
    *,
    connections: int | None,
    ended: Callable[[], bool],
) -> dict[str, Pointer]:
    """Write many values; see ``ArtifactManager.put_many``.

    Args:
        put: Writes one; called in several threads.
        items: Names and values, taken as they are needed.
        connections: How many at once.
        ended: Says whether the manager refuses new writes.
    """
    threads = check_connections(connections)
    names: dict[str, None] = {}
    pointers: dict[str, Pointer] = {}
    failures: dict[str, Exception] = {}
    large = threading.Semaphore(1)  # each of these fills connections and memory of its own

    def write(item: tuple[str, Any]) -> Pointer:
        if not _is_large(item[1]):
            return put(*item)
        with large:
            return put(*item)

    patience = _FailureLimit(lambda error: ended() or _no_write_will_do(error))
    found = _Pairs(items, names, failures)
    for done in work_through(found, write, threads=threads, weigh=_weight, memory=MEMORY):
        name = done.item[0]
        if done.error is None and done.result is not None:
            pointers[name] = done.result
        elif done.error is not None:
            failures[name] = done.error
        if patience.spent(done.error):
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


def _weight(item: tuple[str, Any]) -> int:
    value = item[1]
    try:
        if isinstance(value, io.BytesIO):
            value = value.getbuffer()
        if isinstance(value, memoryview):
            return value.nbytes
    except ValueError:  # closed, or released; the put says so
        return 0
    return len(value) if isinstance(value, bytes | bytearray | str) else 0


def _is_large(value: object) -> bool:
    """Say whether a value is sent as a stream of parts; JSON and images are encoded in memory first."""
    if isinstance(value, bytes | bytearray | memoryview | str):
        return len(value) > _LARGE
    if isinstance(value, os.PathLike):
        try:
            state = Path(value).stat()
        except OSError:
            return False  # the put says why
        return state.st_size > _LARGE or Path(value).is_dir()
    if isinstance(value, io.BytesIO):
        return value.getbuffer().nbytes > _LARGE
    return callable(getattr(value, "read", None)) or hasattr(value, "__arrow_c_stream__") or hasattr(value, "__next__")


# Reading ----------------------------------------------------------------------------------------------------------


def read_many(
    artifacts: Mapping[str, Artifact] | Iterable[Artifact],
    *,
    connections: int | None = None,
    memory: int = MEMORY,
    max_size: int | None = None,
) -> Iterator[tuple[str, bytes]]:
    """Read many artifacts into memory, verified, several at once.

    Artifacts of one ``resolve…`` call share a client and its connections; those that were resolved one by one need
    ``client=`` for that, or each of them makes its own, which costs more than the read.

    Everything is tried. What has been read is yielded as soon as it is there; what failed is raised in the end, all of
    it at once. A bucket that is missing or denied, and a store that does not answer 32 times in a row, end it early.

    Args:
        artifacts: An ``Output``, or any other mapping of names to artifacts; or artifacts alone, which then go by their
            names in the output, or their URLs. Taken as they are needed.
        connections: Requests in flight at once, 16 by default.
        memory: Bytes under way at once; one artifact is read however large it is (up to ``max_size``).
        max_size: The most to take of one artifact, as for ``Artifact.read_bytes``.

    Yields:
        Name and bytes, in the order in which they arrive: ``dict(read_many(…))`` has all of them.

    Raises:
        ManyFailedError: At the end, if any failed; ``failures`` says which, and how.
        ConfigurationError: An argument is none. Nothing was read.
    """
    threads = check_connections(connections)
    found = _Named(artifacts)
    return _reading(found, threads, memory, max_size)


def _reading(found: _Named, threads: int, memory: int, max_size: int | None) -> Iterator[tuple[str, bytes]]:
    failures: dict[str, Exception] = {}
    patience = _FailureLimit(_no_read_will_do)

    def read(item: tuple[str, Artifact]) -> bytes:
        return item[1].read_bytes(max_size=max_size)

    count = 0
    for done in work_through(found, read, threads=threads, weigh=lambda item: item[1].size, memory=memory):
        if patience.spent(done.error):
            found.stop()
        if done.error is not None:
            failures[done.item[0]] = done.error
        elif done.result is not None:
            count += 1
            yield done.item[0], done.result
    if failures:
        raise ManyFailedError("read_many", failures, done=count, stopped=found.stopped)


class _Named:
    """Artifacts with their names, as they come; stops early when told to."""

    def __init__(self, artifacts: Any) -> None:
        if isinstance(artifacts, str | bytes) or not isinstance(artifacts, Iterable):
            msg = f"read_many: expected an output, or artifacts by name, got {type(artifacts).__name__}"
            raise ConfigurationError(f"{msg}; nothing was read. Resolve documents first")
        self._items = artifacts.items() if isinstance(artifacts, Mapping) else ((None, each) for each in artifacts)
        self.stopped = False

    def stop(self) -> None:
        self.stopped = True

    def __iter__(self) -> Iterator[tuple[str, Artifact]]:
        for name, artifact in self._items:
            if self.stopped:
                return
            if not hasattr(artifact, "read_bytes"):
                msg = f"read_many: expected artifacts, got {type(artifact).__name__}; it and the rest were not read"
                raise ConfigurationError(f"{msg}. resolve_artifact makes one of a pointer")
            yield name or artifact.name or artifact.url, artifact


# Failing ----------------------------------------------------------------------------------------------------------


class _FailureLimit:
    """Says when trying the rest is pointless: what is wrong is the same for all, or nobody answers."""

    def __init__(self, same_for_all: Callable[[Exception], bool]) -> None:
        self._same_for_all = same_for_all
        self._silent = 0

    def spent(self, error: Exception | None) -> bool:
        if error is None:
            self._silent = 0
            return False
        if isinstance(error, StepoutError) and error.retryable:
            self._silent += 1
            return self._silent >= _GIVE_UP
        return self._same_for_all(error)


def _no_write_will_do(error: Exception) -> bool:
    """Say whether every other put into the same folder would fail alike: bucket, credentials, permissions, region."""
    return isinstance(error, AccessDeniedError | ArtifactNotFoundError) or _of_client(error)


def _no_read_will_do(error: Exception) -> bool:
    """Say whether every other read would fail alike; "denied or missing" is one object's."""
    answer = getattr(error.__cause__, "response", None)
    code = answer.get("Error", {}).get("Code") if isinstance(answer, dict) else None
    return code == "NoSuchBucket" or code in CREDENTIALS_REFUSED or _of_client(error)


def _of_client(error: Exception) -> bool:
    return isinstance(error, ConfigurationError) and type(error.__cause__).__module__.startswith("botocore")
