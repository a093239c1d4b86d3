"""What a task needs from others: targets to report to, and somebody who writes artifacts.

``callbacks`` never imports ``artifacts``; the face passes an ``ArtifactManager`` in as ``Artifacts``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stepout.schemas import Pointer, RunIdentity


@runtime_checkable
class Target(Protocol):
    """A place that a task's outcome is reported to.

    Each method raises ``TaskClosedError`` when nobody waits any more, ``InvalidTokenError`` for a token nobody knows,
    and ``TaskError`` when the report could not be delivered after its own retries. ``success`` may also raise
    ``InvalidDocumentError`` or ``OutputTooLargeError`` when the document was refused and the task is still open: a
    failure is reported then.

    Two members are optional: ``limit(seconds)``, called from another thread when a signal arrived, makes every report
    give up so many seconds from then; ``redactor``, a ``Redactor`` that knows the target's secrets.
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


class Artifacts(Protocol):
    """What a task asks of the artifact manager it was given.

    One member is optional: ``unfinished``, the names of the artifacts that are being written just now.
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
