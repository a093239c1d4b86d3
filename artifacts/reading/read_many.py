"""Many artifacts read at once, by a few threads, with one report of everything that failed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from stepout.artifacts.reading.artifact import Artifact
from stepout.artifacts.s3.errors import CREDENTIALS_REFUSED
from stepout.artifacts.transfer.worker_pool import (
    FailureLimit,
    check_connections,
    fault_of_client,
    work_through,
)
from stepout.schemas.errors import ConfigurationError
from stepout.schemas.many_failed import ManyFailedError

if TYPE_CHECKING:
    from collections.abc import Iterator


def read_many(
    artifacts: Mapping[str, Artifact] | Iterable[Artifact],
    *,
    connections: int | None = None,
    memory: int | None = None,
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
        connections: Requests in flight at once; ``None``: those of the ``settings=`` that the first artifact was
            resolved with, or 16.
        memory: Bytes under way at once; ``None``: those of the same settings, or an eighth of what the process was
            granted, from 16 to 64 MiB. One artifact is read however large it is (up to ``max_size``).
        max_size: The most to take of one artifact, as for ``Artifact.read_bytes``.

    Yields:
        Name and bytes, in the order in which they arrive: ``dict(read_many(…))`` has all of them.

    Raises:
        ManyFailedError: At the end, if any failed; ``failures`` says which, and how.
        ConfigurationError: An argument is invalid. Nothing was read.
    """
    check_connections(connections)
    return _reading(_Named(artifacts), connections, memory, max_size)


def _reading(
    found: _Named, connections: int | None, memory: int | None, max_size: int | None
) -> Iterator[tuple[str, bytes]]:
    items = iter(found)
    first = list(islice(items, 1))
    settings = first[0][1].access.settings if first and isinstance(first[0][1], Artifact) else None
    if settings is not None:
        connections, memory = connections or settings.connections, memory or settings.memory
    threads = check_connections(connections)
    failures: dict[str, Exception] = {}
    limit = FailureLimit(_no_read_will_do)

    def read(item: tuple[str, Artifact]) -> bytes:
        artifact = item[1]
        if settings is not None and isinstance(artifact, Artifact):
            artifact = Artifact(artifact.pointer, artifact.access.one_of_many(), artifact.name)
        return artifact.read_bytes(max_size=max_size)

    count = 0
    rest = chain(first, items)
    for done in work_through(rest, read, threads=threads, weigh=lambda item: item[1].size, memory=memory):
        if limit.spent(done.error):
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


def _no_read_will_do(error: Exception) -> bool:
    """Say whether every other read would fail alike; "denied or missing" is one object's."""
    answer = getattr(error.__cause__, "response", None)
    code = answer.get("Error", {}).get("Code") if isinstance(answer, dict) else None
    return code == "NoSuchBucket" or code in CREDENTIALS_REFUSED or fault_of_client(error)
