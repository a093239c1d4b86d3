"""The protocols that a task needs: targets to report to, and a manager that writes artifacts.

``callbacks`` never imports ``artifacts``; the face passes an ``ArtifactManager`` in as ``Artifacts``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stepout.schemas import Pointer, RunIdentity
    from stepout.schemas.progress import TaskProgress
    from stepout.schemas.runtime.events import Events


@runtime_checkable
class Target(Protocol):
    """A place that a task's outcome is reported to.

    Each method raises ``TaskClosedError`` when nobody waits any more, ``InvalidTokenError`` for an unknown token, and
    ``TaskError`` when the report could not be delivered after the target's own retries. ``success`` may also raise
    ``InvalidDocumentError`` or ``OutputTooLargeError``: the target refused the document, and the task is still open.
    The task then reports a failure.

    A target may have members more. ``limit(seconds)`` makes every report give up so many seconds from now.
    ``redactor`` hides the target's secrets in messages. ``report_progress(progress)`` shows others how far the task is.
    """

    def success(self, document: Mapping[str, Any]) -> None:
        """Report the output document, a JSON object of at most 262,144 bytes of UTF-8."""
        ...

    def failure(self, error: str, cause: str) -> None:
        """Report a failure: ``error`` of at most 256 characters, ``cause`` JSON text of at most 32,768."""
        ...

    def heartbeat(self) -> None:
        """Report that the task is alive; a target without heartbeats does nothing."""
        ...


@runtime_checkable
class BoundedTarget(Protocol):
    """A target whose retries can be cut short."""

    def limit(self, seconds: float) -> None:
        """Make every report, also one under way, give up in ``seconds`` from now; callable from any thread."""
        ...


@runtime_checkable
class TokenBearer(Protocol):
    """A target that holds a secret."""

    @property
    def redactor(self) -> object:
        """A ``Redactor`` that knows the target's secrets."""
        ...


@runtime_checkable
class ShowsProgress(Protocol):
    """A target with a place where others can see how far a task is."""

    def report_progress(self, progress: TaskProgress) -> None:
        """Keep the newest progress, in one request and without tries of its own: the next one comes soon.

        It is called from a thread of its own, by one thread at a time, at most once in some seconds.

        Raises:
            TaskClosedError: Nobody will look any more; it is not called again.
            Exception: It was not kept; it is called again later, after a longer pause.
        """
        ...


class Artifacts(Protocol):
    """The methods of an artifact manager that a task calls.

    ``ArtifactManager`` has them all, and more. A manager of your own needs no more than these.
    """

    @property
    def run(self) -> RunIdentity:
        """The run identity of the writing task."""
        ...

    @property
    def pointers(self) -> Mapping[str, Pointer]:
        """Every artifact committed so far, by name, in order."""
        ...

    def put_document(self, stem: str, document: Mapping[str, Any]) -> Pointer:
        """Write JSON beside the artifacts, not as an artifact; ``stem`` has a hyphen, so no artifact has its name."""
        ...

    def abort(self) -> None:
        """Refuse new writes and abort every open upload, at once. Idempotent; callable from any thread."""
        ...


@runtime_checkable
class KeepsRecord(Protocol):
    """Artifacts that can keep a task's output document beside them: its commit record."""

    @property
    def keeps_record(self) -> bool:
        """Whether this task is to keep one."""
        ...

    def put_record(self, document: Mapping[str, Any]) -> Pointer:
        """Keep the document; raises a ``StoreError`` if it cannot be written."""
        ...


@runtime_checkable
class KeptToProcess(Protocol):
    """Artifacts that can refuse writes in another process than the task's: only the task's process reports them."""

    def keep_to_this_process(self) -> None:
        """Refuse writes in every process that is forked off this one."""
        ...


@runtime_checkable
class TracksUnfinished(Protocol):
    """Artifacts that know which of them are not committed yet."""

    @property
    def unfinished(self) -> Sequence[str]:
        """The names of the artifacts that are still being written."""
        ...


@runtime_checkable
class TellsEvents(Protocol):
    """Artifacts that tell listeners of each put."""

    @property
    def events(self) -> Events:
        """Who is told."""
        ...


@runtime_checkable
class ClosableArtifacts(Protocol):
    """Artifacts that can be closed: no document would name an artifact that is written after the report."""

    def close(self) -> None:
        """Refuse new artifacts; raises a ``StoreError`` if one is still being written."""
        ...
