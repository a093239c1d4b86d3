"""What lies at the URL of a task in pull mode: its document, or how it failed, or how far it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from stepout.artifacts.reading.documents.outcome import FailureUnseenError, OutcomeReader
from stepout.artifacts.store import PlaceMissingError
from stepout.outcome_watch import is_of_later_attempt
from stepout.page.causes import plain, told_cause
from stepout.page.history.event import read_time
from stepout.page.model import PulledOutcome
from stepout.schemas.errors import AccessDeniedError, ArtifactNotFoundError, StepoutError, TaskFailedError
from stepout.schemas.pull import AskedRun

if TYPE_CHECKING:
    from stepout.artifacts.reading.access import Access
    from stepout.schemas.identity import RunIdentity
    from stepout.schemas.progress import TaskProgress


class PulledTask(NamedTuple):
    """What was found: the document (JSON), or what there is instead of one, and whose that is as far as it says so."""

    document: Any = None
    outcome: PulledOutcome | None = None
    producer: dict[str, Any] | None = None


def pulled_task(url: str, access: Access) -> PulledTask:
    """Read what a task in pull mode has told so far, whosever it is.

    Args:
        url: ``s3://bucket/key`` or ``dynamodb://table/key``, as the task was given it.
        access: How to read.

    Raises:
        StepoutError: It is no such URL, what lies there is no outcome, or it may not, or cannot, be read.
    """
    reader = OutcomeReader(AskedRun())
    try:
        return PulledTask(document=reader.read(url, access))
    except TaskFailedError as error:
        progress, note = _progress(reader, url, access)
        if progress is not None and is_of_later_attempt(progress, error.cause):
            note = "; ".join(filter(None, (f"an earlier attempt failed: {error.error}", note)))
            return _running(progress, note)
        return _failed(error, progress)
    except PlaceMissingError:
        raise
    except (ArtifactNotFoundError, AccessDeniedError) as error:
        progress, note = _progress(reader, url, access)
        # Whether it failed is not known: that is no "nothing", and beside a progress it is worth a note.
        unseen = isinstance(error, AccessDeniedError | FailureUnseenError)
        if progress is not None:
            return _running(progress, str(error) if unseen else "")
        if unseen:
            raise
        note = "; ".join(filter(None, (str(error), note)))
        return PulledTask(outcome=PulledOutcome(status="NOTHING", note=plain(note)))


def _progress(reader: OutcomeReader, url: str, access: Access) -> tuple[TaskProgress | None, str]:
    """Return what the task told last of how far it is, and why that cannot be seen."""
    try:
        return reader.progress(url, access), ""
    except StepoutError as error:
        return None, f"how far it is could not be seen: {error}"


def _running(progress: TaskProgress, note: str) -> PulledTask:
    outcome = PulledOutcome(
        status="RUNNING", progress=plain(str(progress)), told_at=read_time(progress.reported_at), note=plain(note)
    )
    return PulledTask(outcome=outcome, producer=_members(progress.run))


def _failed(error: TaskFailedError, progress: TaskProgress | None) -> PulledTask:
    said = told_cause(error.cause)
    run = said.value.get("run") if isinstance(said.value, dict) else None
    outcome = PulledOutcome(
        status="FAILED",
        error=plain(error.error),
        cause=said.cause,
        details=said.details,
        progress="" if progress is None else plain(str(progress)),
        told_at=None if progress is None else read_time(progress.reported_at),
    )
    return PulledTask(outcome=outcome, producer=run if isinstance(run, dict) else None)


def _members(run: RunIdentity) -> dict[str, Any] | None:
    return run.to_dict() or None
