"""What a task needs from others: targets to report to, and somebody who writes artifacts.

``callbacks`` never imports ``artifacts``; the face passes an ``ArtifactManager`` in as ``Artifacts``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stepout.schemas import Pointer, RunIdentity


@runtime_checkable
class Target(Protocol):
    """A place that a task's outcome is reported to.

    Each method raises ``TaskClosedError`` when nobody waits any more, ``InvalidTokenError`` for a token nobody knows,
    and ``TaskError`` when the report could not be delivered after its own retries. ``success`` may also raise
    ``InvalidDocumentError`` or ``OutputTooLargeError`` when the document was refused and the task is still open: a
    failure is reported then.

    What only some targets can do is a protocol of its own: ``BoundedTarget``, ``TokenBearer``.
    """

    def success(self, document: Mapping[str, Any]) -> None:
        """Report the output document, a JSON object of at most 262,144 bytes of UTF-8."""
        ...

    def failure(self, error: str, cause: str) -> None:
        """Report a failure: ``error`` of at most 256 characters, ``cause`` JSON text of at most 32,768."""
        ...

    def heartbeat(self) -> None:
        """Say that the task is alive; a no-op where nobody listens."""
        ...


@runtime_checkable
class BoundedTarget(Protocol):
    """A target whose retries can be cut short."""

    def limit(self, seconds: float) -> None:
        """Make every report, also one under way, give up so many seconds from now; from another thread."""
        ...


@runtime_checkable
class TokenBearer(Protocol):
    """A target that holds a secret."""

    @property
    def redactor(self) -> object:
        """A ``Redactor`` that knows the target's secrets."""
        ...


class Artifacts(Protocol):
    """What a task asks of the artifact manager it was given.

    What only some can do is a protocol of its own: ``KeptToProcess``, ``TracksUnfinished``, ``ClosableArtifacts``.
    """

    @property
    def run(self) -> RunIdentity:
        """Which run of which state writes."""
        ...

    @property
    def pointers(self) -> Mapping[str, Pointer]:
        """Every artifact committed so far, by name, in order."""
        ...

    def put_document(self, stem: str, document: Mapping[str, Any]) -> Pointer:
        """Write JSON beside the artifacts without naming it one; ``stem`` is no artifact name (it has a hyphen)."""
        ...

    def abort(self) -> None:
        """From any thread, at once: refuse new writes, abort every open upload. Idempotent."""
        ...


@runtime_checkable
class KeptToProcess(Protocol):
    """Artifacts that can refuse to be written in a process which is not the task's, and so not the one that reports."""

    def keep_to_this_process(self) -> None:
        """Refuse to write in every process that is forked off this one."""
        ...


@runtime_checkable
class TracksUnfinished(Protocol):
    """Artifacts that know what is not committed yet."""

    @property
    def unfinished(self) -> Sequence[str]:
        """The names of the artifacts that are being written just now."""
        ...


@runtime_checkable
class ClosableArtifacts(Protocol):
    """Artifacts that can end: what is written after the report would be in no document."""

    def close(self) -> None:
        """Refuse new artifacts; raises a ``StoreError`` if one is still being written."""
        ...
